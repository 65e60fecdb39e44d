"""Who signs: a person before the browser's camera, one in a video, or the synthetic signer.

    source.begin()                                       # anew
    looks = source.look(picture, seconds)                # what has become due; a camera is given the browser's picture
    source.close()

A picture that is late is left out, never queued. Of the three the camera alone is given pictures.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from signstream.config import Poses
from signstream.data.estimator import Estimator
from signstream.data.synthetic.dataset import make_clip
from signstream.data.synthetic.detector import SIZE
from signstream.data.synthetic.grammar import Grammar
from signstream.data.synthetic.orders import cast_of, generator
from signstream.errors import UserError
from signstream.inference.live_page.session import GAP, taking
from signstream.io.video_files import Picture, pictures
from signstream.pictures.figure import frame_limits

PAUSE = 1.5  # seconds between two clips of the synthetic signer
LEAP = 0.5  # seconds that the clock of a video goes on between two looks, at most
NARROWEST, WIDEST = 16, 1920  # pixels of a picture's sides
SHOWN = 640  # of one that is sent to the browser
SIGNERS = 10  # those of data/synthetic, whom the quickstart knows

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels: what is shown


class Look(NamedTuple):
    """One look at the signer."""

    seconds: float
    frame: np.ndarray  # [133, 3]
    size: tuple[float, float]  # width and height of the picture
    box: Box
    spent: dict[str, float]  # ms a stage
    measured: bool = False  # whether an estimator found it in a picture
    picture: bytes = b""  # a JPEG that the browser has not
    signed: str = ""  # what is signed, where that is known
    last: bool = False  # of its clip


class Source(Protocol):
    @property
    def kind(self) -> str: ...  # demo, video or camera
    @property
    def over(self) -> bool: ...  # nothing will come

    def begin(self) -> None: ...
    def look(self, picture: bytes, seconds: float) -> list[Look]: ...
    def close(self) -> None: ...


class Clock:
    """Seconds since it was made; it stands still while nobody looks."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now, self.last, self.seconds = now, now(), 0.0

    def tick(self) -> float:
        last, self.last = self.last, self.now()
        self.seconds += min(self.last - last, LEAP)
        return self.seconds


class Demo:
    """The synthetic signer: sentences that no data set has, by the people of `data/synthetic`."""

    kind, over = "demo", False

    def __init__(self, fps: float, seed: int = 1, now: Callable[[], float] = time.monotonic) -> None:
        self.fps, self.seed, self.now = fps, seed, now
        self.cast = cast_of(0, fps, SIGNERS, glosses=None)
        self.grammar = Grammar(self.cast.signs, near=True)
        self.count = self.shown = 0  # clips so far, and frames of this one
        self.clock = Clock(now)
        self._next()

    def begin(self) -> None:
        self.clock = Clock(self.now)
        self._next()

    def look(self, picture: bytes = b"", seconds: float = 0.0) -> list[Look]:
        played = self.clock.tick() - self.starts
        if played > len(self.poses) / self.fps + PAUSE:
            self._next()
            played = 0.0
        first, self.shown = self.shown, min(int(played * self.fps) + 1, len(self.poses))
        return [self._at(index, played) for index in range(first, self.shown)]

    def close(self) -> None:
        """Nothing is open."""

    def _next(self) -> None:
        rng = generator(self.seed, 9, self.count)
        sentence = self.grammar.sentence(rng)
        signer = self.cast.signers[self.count % SIGNERS]
        self.poses = make_clip(sentence, self.cast.signs, signer, rng=rng, fps=self.fps).poses[:, 1:]
        sure = np.where(self.poses[..., 2:] > Poses.min_score, self.poses, 0)
        limits = frame_limits(sure, aspect=1.35, margin=0.1)
        self.box = (limits.left, limits.top, limits.right, limits.bottom)
        self.signed = f"{sentence.key} – {sentence.text}"
        self.starts = self.clock.seconds
        self.shown = 0
        self.count += 1

    def _at(self, index: int, played: float) -> Look:
        seconds, last = index / self.fps, index == len(self.poses) - 1
        spent = {"late": 1000 * (played - seconds)}
        return Look(seconds, self.poses[index], (SIZE, SIZE), self.box, spent, signed=self.signed, last=last)


class Video:
    """A file at its own pace."""

    kind = "video"

    def __init__(self, path: Path, estimator: Estimator, now: Callable[[], float] = time.monotonic) -> None:
        self.path, self.estimator, self.now = path, estimator, now
        self.begin()

    def begin(self) -> None:
        self.estimator.reset()
        self.pictures: Iterator[Picture] = iter(pictures(self.path))
        self.ahead = self._next()
        self.clock = Clock(self.now)

    @property
    def over(self) -> bool:
        return self.ahead is None

    def _next(self) -> Picture | None:
        try:
            return next(self.pictures, None)
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from None

    def look(self, picture: bytes = b"", seconds: float = 0.0) -> list[Look]:
        due, now = None, self.clock.tick()
        spent: dict[str, float] = {}
        with taking(spent, "picture"):
            while self.ahead is not None and self.ahead.seconds <= now:
                due, self.ahead = self.ahead, self._next()
        if due is None:
            return []
        spent["late"] = 1000 * (now - due.seconds)
        with taking(spent, "estimator"):
            frame = self.estimator(due.pixels)
        look = seen(due.seconds, frame, pixels=due.pixels, spent=spent)
        return [look._replace(picture=as_jpeg(due.pixels), last=self.over)]

    def close(self) -> None:
        self.estimator.close()


class Camera:
    """Pictures that the browser sends."""

    kind, over = "camera", False

    def __init__(self, estimator: Estimator) -> None:
        self.estimator = estimator
        self.begin()

    def begin(self) -> None:
        self.before = -np.inf  # seconds, of the picture before

    def look(self, picture: bytes, seconds: float) -> list[Look]:
        spent: dict[str, float] = {}
        with taking(spent, "picture"):
            pixels = read_jpeg(picture)
        if seconds <= self.before:
            raise UserError(f"a picture of {seconds:.3f} s after one of {self.before:.3f} s: time runs forward")
        if seconds - self.before > GAP:
            self.estimator.reset()
        self.before = seconds
        with taking(spent, "estimator"):
            frame = self.estimator(pixels)
        return [seen(seconds, frame, pixels=pixels, spent=spent)]

    def close(self) -> None:
        self.estimator.close()


def seen(seconds: float, frame: np.ndarray, *, pixels: np.ndarray, spent: dict[str, float]) -> Look:
    """A frame that was found in the picture [H, W, 3], all of which is shown."""
    height, width = pixels.shape[:2]
    return Look(seconds, frame, (width, height), (0.0, 0.0, width, height), spent, measured=True)


def read_jpeg(content: bytes) -> np.ndarray:
    """[H, W, 3] uint8 RGB. Its size is looked at before it is decoded."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            width, height = image.size
            fits = min(image.size) >= NARROWEST and max(image.size) <= WIDEST
            pixels = np.asarray(image.convert("RGB")) if fits else None
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError, TypeError) as error:
        # whatever Pillow says of bytes that are no picture
        raise UserError(f"no picture: {str(error).split(' <')[0]}") from None  # not which object it was
    if pixels is None:
        raise UserError(f"a picture of {width} x {height} pixels: {NARROWEST} to {WIDEST} are read")
    return pixels


def as_jpeg(pixels: np.ndarray) -> bytes:
    """To be shown: no side is longer than SHOWN."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((SHOWN, SHOWN))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return out.getvalue()
