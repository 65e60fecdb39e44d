"""Videos as a viewer sees them, frame by frame: upright, with square pixels, at their own time stamps.

    promised_frames(path) -> about how many frames it has, by its header; 0 where that does not say
    read_head(path) -> Head(frames, seconds, rate)      its packets are counted, nothing is decoded
    pictures(path)  -> iterator of Picture(seconds, pixels [H, W, 3] uint8 RGB), the first at 0.0

PyAV decodes, on one thread, and is imported where it is used. One picture is held at a time. Of what a container tells
beside its pictures the way they lie (turned, mirrored) and their pixels' shape are applied. What cannot be a video, or
no whole one, is a UserError whose text is a short reason; where some frames are broken it comes after those that are
not. Only the file itself is read: a playlist's or a reference's other files are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from signstream.errors import UserError, refusal
from signstream.text_files import open_regular

MOST_PIXELS = 1 << 26  # of a picture; 8K video has half
WIDEST_PIXEL = 4  # how many times as wide as high, or as high as wide
NEAR_RATE = 0.01  # the rate that a container states is the rate, if its time stamps are that near to it
NO_RATE = 25.0  # of what has one frame and states none: nothing moves at any rate
MISSING_END = 2.5  # frames that may lack of the time that a container promises
SECOND = 1_000_000  # a container's own times are in millionths


class Head(NamedTuple):
    """What a video's packets say."""

    frames: int
    seconds: float  # from the first frame's beginning to the last one's end
    rate: float  # frames a second, on average


class Picture(NamedTuple):
    seconds: float  # since the first one
    pixels: np.ndarray  # [H, W, 3] uint8, RGB


class Span(NamedTuple):
    """Of a stream's packets, their times in its own unit."""

    packets: int
    first: int  # when the first frame begins
    last: int  # when the last one begins
    end: int
    reached: float  # seconds at which the last packet of any stream ends


def video_library() -> Any:
    try:
        import av
        import av.error
        import av.sidedata.sidedata
        import av.stream
    except ImportError:
        raise UserError("videos need the package av (pip install av)") from None
    return av


def promised_frames(path: Path) -> int:
    try:
        with _opened(path) as (container, stream):
            seconds = (container.duration or 0) / SECOND - _duration_from(container)
            return stream.frames or round(seconds * float(stream.average_rate or 0))
    except UserError:
        return 0


def read_head(path: Path) -> Head:
    """Reads the file to its end. One that holds less than it promises is refused."""
    with _opened(path) as (container, stream):
        span = _span(container, stream)
        if not span.packets:
            raise UserError("no frame")
        rate = _rate(stream, span)
        seconds = max(float((span.end - span.first) * stream.time_base), span.packets / rate)
        promised = (container.duration or 0) / SECOND
        began = (container.start_time or 0) / SECOND
        promised, reached = promised - _duration_from(container), span.reached - began
        if promised - reached > MISSING_END / rate:
            raise UserError(f"truncated: {max(reached, 0):.1f} s of {promised:.1f} s are there")
        return Head(span.packets, seconds, rate)


def pictures(path: Path) -> Iterator[Picture]:
    """What can be decoded, in the order of the time stamps, all of one size; then, if something cannot, how much."""
    lost = spoilt = 0  # packets that say or show that they are not whole; frames that say so, of whatever packet
    with _opened(path) as (container, stream):
        eye = _Eye(stream)
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
                lost += packet.is_corrupt
            except video_library().error.FFmpegError:
                frames = []
                lost += 1
            for frame in frames:
                spoilt += frame.is_corrupt
                yield eye.see(frame)
    if broken := max(lost, spoilt):
        raise UserError(f"broken: {broken} frame{'s' * (broken > 1)} cannot be decoded")
    if eye.size is None:
        raise UserError("no frame")


class _Eye:
    """Frames of one stream as pictures: all of the first one's size, each later than the one before."""

    def __init__(self, stream: Any) -> None:
        self.shape = float(stream.sample_aspect_ratio or 1)  # of a pixel
        if not 1 / WIDEST_PIXEL <= self.shape <= WIDEST_PIXEL:
            raise UserError(f"pixels {self.shape:.3g} times as wide as high: at most {WIDEST_PIXEL} can be true")
        self.interval = 1 / float(stream.average_rate or NO_RATE)
        self.order_alone = stream.container.format.name == "avi"  # of decoding, not of showing
        self.size: tuple[int, int] | None = None
        self.start, self.now = 0.0, -math.inf

    def see(self, frame: Any) -> Picture:
        if self.size is None:
            self.size = max(1, round(frame.width * self.shape)), frame.height
            self.start = self._time(frame) or 0.0
            if self.size[0] * self.size[1] > MOST_PIXELS:
                raise UserError(f"too large: {self.size[0]} x {self.size[1]} pixels")
        time = self._time(frame)
        if time is not None and time - self.start > self.now:
            self.now = time - self.start
        else:
            self.now = max(self.now + self.interval, 0.0)
        rgb = frame.reformat(format="rgb24")  # first, since both at once would move the picture by up to a pixel
        pixels = rgb.reformat(width=self.size[0], height=self.size[1]).to_ndarray()
        return Picture(self.now, _upright(pixels, _matrix(frame)))

    def _time(self, frame: Any) -> float | None:
        stamp = frame.dts if self.order_alone else frame.pts
        return None if stamp is None else float(stamp * frame.time_base)


def _matrix(frame: Any) -> np.ndarray | None:
    """[3, 3] int32: how the container says that a frame is shown."""
    side = frame.side_data.get(video_library().sidedata.sidedata.Type.DISPLAYMATRIX)
    return None if side is None else np.frombuffer(bytes(side), np.int32).reshape(3, 3)


def _upright(pixels: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Turned by quarters and mirrored, as x' = a x + c y, y' = b x + d y of the matrix ((a, b, .), (c, d, .), ...)."""
    if matrix is None:
        return np.ascontiguousarray(pixels)
    (a, b), (c, d) = matrix[:2, :2].tolist()
    if abs(b) > abs(a):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first moving picture. What the library finds wrong is a short reason."""
    av = video_library()
    try:
        with open_regular(path) as file, av.open(file, options={"protocol_whitelist": "none"}) as container:
            still = av.stream.Disposition.attached_pic
            streams = [stream for stream in container.streams.video if still not in stream.disposition]
            if not streams:
                kinds = {"a cover" if still in each.disposition else each.type for each in container.streams}
                raise UserError(f"no moving picture in it: {' and '.join(sorted(kinds)) or 'nothing'} alone")
            if streams[0].codec_context is None:
                raise UserError("a coding that PyAV cannot read")
            streams[0].codec_context.thread_count = 1
            yield container, streams[0]
    except av.error.FFmpegError as error:
        raise UserError(f"not a whole video: {error.strerror}") from None
    except OSError as error:
        raise UserError(f"cannot be read: {refusal(error)}") from None


def _duration_from(container: Any) -> float:
    """Seconds that its duration counts before the first frame: Matroska's ends when the video does."""
    late = (container.start_time or 0) / SECOND if "matroska" in container.format.name else 0
    return max(late, 0)


def _span(container: Any, stream: Any) -> Span:
    count, last, end, reached = 0, 0, 0, 0.0
    first: int | None = None
    for packet in container.demux():
        if not packet.size:
            continue
        begin, length = packet.pts if packet.pts is not None else packet.dts, packet.duration or 0
        if begin is not None:
            reached = max(reached, float((begin + length) * packet.time_base))
        if packet.stream.index != stream.index or packet.is_discard:
            continue
        count += 1
        if begin is not None:
            first = begin if first is None else min(first, begin)
            last, end = max(last, begin), max(end, begin + length)
    return Span(count, first or 0, last, end, reached)


def _rate(stream: Any, span: Span) -> float:
    """As the time stamps have it on average; as the container states it, where that is the same but rounded."""
    stated = float(stream.average_rate or 0)
    seconds = float((span.last - span.first) * stream.time_base)
    if span.packets < 2 or seconds <= 0:
        return stated or float(NO_RATE)
    found = (span.packets - 1) / seconds
    return stated if abs(found - stated) <= NEAR_RATE * found else found
