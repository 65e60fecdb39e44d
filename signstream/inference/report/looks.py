"""What a clip looks like, for the page: skeletons as positions in a box, or its pictures, made small.

    looks = open_looks(clips, config.data)
    looks.whole(number, frames)      -> the first frames of a clip, as the player shows them
    looks.moment(number, sign)       -> one gloss: its first, middle and last frame, or the picture of its middle

Positions are as in player_data.py; pictures are JPEG in data URIs, which the page's policy lets in.
"""

from __future__ import annotations

import base64
import io
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from signstream.config.sequences import SequenceData
from signstream.data.cache import open_cache
from signstream.data.frame_sequences import FrameSequences
from signstream.data.sentences import WithVisual
from signstream.data.sources import PoseSequences
from signstream.inference.clips import SplitClips
from signstream.inference.recognition.spans import Signed
from signstream.inference.report.player_data import packed
from signstream.io.frame_files import read_frames
from signstream.io.pose_cache import PoseCache
from signstream.pictures.figure import frame_limits
from signstream.space import in_pixels

HEIGHT, QUALITY = 144, 62  # of a picture in the page
MOMENT_HEIGHT = 112


class Looks(ABC):
    most_frames: int  # of all clips together: the page stays under 5 MB

    @abstractmethod
    def parts(self) -> list[dict[str, Any]]:
        """Of the skeleton; none where there are pictures."""

    @abstractmethod
    def whole(self, number: int, frames: int) -> dict[str, Any]: ...

    @abstractmethod
    def moment(self, number: int, sign: Signed) -> dict[str, Any]: ...


class Skeletons(Looks):
    most_frames = 1500

    def __init__(self, cache: PoseCache, numbers: list[int]) -> None:
        self.cache, self.numbers = cache, numbers  # of the cache's clips

    def parts(self) -> list[dict[str, Any]]:
        return [
            {"name": part.name, "tag": part.tag, "start": part.start, "stop": part.stop, "bones": list(part.bones)}
            for part in self.cache.skeleton.parts
        ]

    def whole(self, number: int, frames: int) -> dict[str, Any]:
        poses = self._pixels(number)[:frames]
        limits = frame_limits(poses)
        box = (limits.left, limits.top, limits.right, limits.bottom)
        return {"box": [round(side, 2) for side in box], "original": packed(poses, box)}

    def moment(self, number: int, sign: Signed) -> dict[str, Any]:
        poses = self._pixels(number)
        frames = [min(frame, len(poses) - 1) for frame in (sign.first, middle(sign), sign.last)]
        limits = frame_limits(poses)
        return {"poses": packed(poses[frames], (limits.left, limits.top, limits.right, limits.bottom))}

    def _pixels(self, number: int) -> np.ndarray:
        """[T, J, 3]"""
        rows = torch.from_numpy(self.cache.frames(self.numbers[number]).copy())
        return in_pixels(rows[:, 1:], rows[:, 0]).numpy()


class Pictures(Looks):
    most_frames = 1200

    def __init__(self, sequences: FrameSequences, numbers: list[int]) -> None:
        self.sequences, self.numbers = sequences, numbers

    def parts(self) -> list[dict[str, Any]]:
        return []

    def whole(self, number: int, frames: int) -> dict[str, Any]:
        return {"pictures": [picture(path, HEIGHT) for path in self._paths(number)[:frames]]}

    def moment(self, number: int, sign: Signed) -> dict[str, Any]:
        return {"picture": picture(self._paths(number)[middle(sign)], MOMENT_HEIGHT)}

    def _paths(self, number: int) -> list[Path]:
        return list(self.sequences.files[self.numbers[number]].paths)


def open_looks(clips: SplitClips[Any], data: SequenceData) -> Looks:
    sequences = clips.sequences
    if isinstance(sequences, WithVisual):
        sequences = sequences.inner
    if isinstance(sequences, FrameSequences):
        return Pictures(sequences, clips.numbers)
    if isinstance(sequences, PoseSequences):
        return Skeletons(sequences.cache, clips.numbers)
    cache = open_cache(data, quiet=True)
    number = {(clip.split, clip.name): i for i, clip in enumerate(cache.clips)}
    examples = (sequences.examples[i] for i in clips.numbers)
    return Skeletons(cache, [number[example.split, example.name] for example in examples])


def middle(sign: Signed) -> int:
    return (sign.first + sign.last) // 2


def picture(path: Path, height: int) -> str:
    from PIL import Image

    image = Image.fromarray(read_frames([path])[0])
    size = (max(round(image.width * height / image.height), 1), height)
    out = io.BytesIO()
    image.resize(size, Image.Resampling.BILINEAR).save(out, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
