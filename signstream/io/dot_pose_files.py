""".pose files, the pose-format library's, read as files that may be anything: what they promise is held against their
size before a point is read, and only the points that are wanted are kept.

    head = read_head(file)          # components by name, T, frame rate, the picture's size
    read_points(file, head, columns, rows=133) -> [T, rows, 3] float32: x, y, confidence

Versions 0.1 and 0.2 of the format, one person. Whatever is wrong is a UserError whose text is a short reason.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from signstream.errors import UserError
from signstream.io.pose_files import LARGEST

LONGEST_HEAD = 1 << 20  # bytes; MediaPipe Holistic's has 15,000
MOST_LISTED = 20_000  # components, points, limbs and colours; MediaPipe Holistic's head lists 3,500
PIECE = 1 << 20  # bytes that are read at once


class Component(NamedTuple):
    name: str
    form: str  # a letter a number, such as XYZC
    points: tuple[str, ...]


class Head(NamedTuple):
    size: tuple[int, int]  # of the picture, 0 where it is not known
    components: tuple[Component, ...]
    fps: float
    frames: int
    start: int  # where the points begin

    @property
    def points(self) -> int:
        return sum(len(component.points) for component in self.components)

    @property
    def dimensions(self) -> int:
        return max(len(component.form) for component in self.components) - 1


class _Words:
    """The head's numbers and names, one after another."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0
        self.listed = 0

    def numbers(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self.content, self.at)
        self.at += struct.calcsize(f"<{form}")
        return values

    def text(self) -> str:
        (length,) = self.numbers("H")
        (word,) = self.numbers(f"{length}s")
        return word.decode("utf-8")

    def component(self) -> Component:
        name, form = self.text(), self.text()
        points, limbs, colours = self.numbers("HHH")
        self.listed += 1 + points + limbs + colours
        if self.listed > MOST_LISTED:
            raise _not_whole("it lists more points and limbs than any skeleton has")
        names = tuple(self.text() for _ in range(points))
        self.at += 4 * limbs + 6 * colours
        return Component(name, form, names)


def read_head(file: BinaryIO) -> Head:
    """From the file's first byte on."""
    words = _Words(file.read(LONGEST_HEAD))
    try:
        version, width, height, _, count = words.numbers("fHHHH")
        if round(version, 3) not in (0.1, 0.2):
            raise _not_whole("version 0.1 or 0.2 is expected")
        components = tuple(words.component() for _ in range(count))
        fps, stated, people = words.numbers("HHH" if round(version, 3) == 0.1 else "fIH")
    except (struct.error, UnicodeDecodeError):
        raise _not_whole("its head cannot be read") from None
    head = Head((width, height), components, float(fps), stated, words.at)
    if people != 1:
        raise UserError(f"{people} people: one signer is expected")
    left = os.fstat(file.fileno()).st_size - words.at
    a_frame = head.points * (head.dimensions + 1) * 4 if components else 0
    if a_frame <= 0:
        raise _not_whole("it has no point")
    if round(version, 3) == 0.1:  # which counts frames in 16 bits: the size knows better
        head = head._replace(frames=left // a_frame)
    if head.frames * a_frame > left:
        raise _not_whole(f"{head.frames * a_frame} bytes are promised, {left} are there")
    return head


def read_points(file: BinaryIO, head: Head, columns: Mapping[int, int], *, rows: int) -> np.ndarray:
    """Of each frame so many rows, the points at `columns` {row: column} in theirs and 0 in the others."""
    if head.frames * rows * 12 > LARGEST:
        raise UserError(f"too large: {head.frames} frames")
    file.seek(head.start)
    filled, chosen = list(columns), list(columns.values())
    points = np.zeros((head.frames, rows, 3), np.float32)
    for start, piece in _pieces(file, head.frames, points=head.points, numbers=head.dimensions):
        points[start : start + len(piece), filled, :2] = piece[:, chosen, :2]
    for start, piece in _pieces(file, head.frames, points=head.points, numbers=1):
        points[start : start + len(piece), filled, 2] = piece[:, chosen, 0]
    return points


def _pieces(file: BinaryIO, frames: int, *, points: int, numbers: int) -> Iterator[tuple[int, np.ndarray]]:
    """(first frame, [n, points, numbers]), a piece after the other."""
    size = points * numbers * 4
    step = max(PIECE // size, 1)
    for start in range(0, frames, step):
        count = min(step, frames - start)
        content = file.read(count * size)
        if len(content) < count * size:
            raise _not_whole("it ends while it is read")
        yield start, np.frombuffer(content, "<f4").reshape(count, points, numbers)


def _not_whole(why: str) -> UserError:
    return UserError(f"not a whole .pose file ({why})")
