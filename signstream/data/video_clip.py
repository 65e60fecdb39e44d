"""One video to a clip's poses, picture by picture.

    made = make_clip(path, see, how, tick) -> Made(poses [T, 133, 3], fps, size), or the reason why there are none
    parse_box("640,0,640,720") -> Box

`see` is an estimator (estimator.py), `tick` is called after every picture. No picture is kept, only their joints.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from signstream.config.common import FASTEST, SLOWEST
from signstream.data.estimator import Estimator
from signstream.data.even_pace import EvenPace
from signstream.errors import UserError, shown
from signstream.io.pose_files import LARGEST
from signstream.io.video_files import pictures, read_head
from signstream.skeleton import NUM_JOINTS

MOST_FRAMES = LARGEST // (4 * 3 * (NUM_JOINTS + 1))  # what can be read again


class Box(NamedTuple):
    """Pixels of a picture as it is shown."""

    x: int
    y: int
    width: int
    height: int


class How(NamedTuple):
    fps: float | None = None  # None: the video's own, on average
    crop: Box | None = None


class Made(NamedTuple):
    """What became of a video; its size is the crop's."""

    poses: np.ndarray | None = None  # [T, 133, 3]
    fps: float = 0.0
    size: tuple[int, int] = (0, 0)  # width and height
    reason: str = ""
    died: bool = False  # with the process that made it


def parse_box(text: str) -> Box:
    numbers = text.split(",")
    if len(numbers) != 4 or not all(number.strip().isdecimal() for number in numbers):
        raise UserError(f"--crop {shown(text)}: four whole numbers x,y,w,h are expected, as in 640,0,640,720")
    box = Box(*map(int, numbers))
    if not (box.width and box.height):
        raise UserError(f"--crop {shown(text)} is empty: w and h are its width and height")
    return box


def make_clip(path: Path, see: Estimator, how: How, *, tick: Callable[[], object]) -> Made:
    try:
        return _made(path, see, how, tick=tick)
    except ValueError as error:
        return Made(reason=" ".join(str(error).split()))


def _made(path: Path, see: Estimator, how: How, *, tick: Callable[[], object]) -> Made:
    head = read_head(path)
    fps = how.fps or head.rate
    if not SLOWEST <= fps <= FASTEST:
        raise UserError(f"{fps:g} frames a second: {SLOWEST:g} to {FASTEST:g} are possible, which --fps can make of it")
    _check_length(round(head.seconds * fps))
    see.reset()
    pace, frames, size = EvenPace(fps), list[np.ndarray](), (0, 0)
    for picture in pictures(path):
        pixels = _cropped(picture.pixels, how.crop)
        size = pixels.shape[1], pixels.shape[0]
        frames += pace.add(picture.seconds, see(pixels))
        _check_length(len(frames))
        tick()
    frames += pace.end()
    return Made(np.stack(frames), float(fps), size)


def _check_length(frames: int) -> None:
    if frames > MOST_FRAMES:
        raise UserError(f"too long: {frames} frames; {MOST_FRAMES} can be read again, so cut it or lower --fps")


def _cropped(pixels: np.ndarray, box: Box | None) -> np.ndarray:
    if box is None:
        return pixels
    height, width = pixels.shape[:2]
    if box.x + box.width > width or box.y + box.height > height:
        raise UserError(f"--crop {','.join(map(str, box))} leads out of its picture, which is {width} x {height}")
    return np.ascontiguousarray(pixels[box.y : box.y + box.height, box.x : box.x + box.width])
