"""A clip's frames, a PNG file each, read from files that may be anything: truncated, a bomb, no picture at all.

    list_frames(folder) -> paths, in order         read_frames(paths) -> [T, H, W, 3] uint8        frame_size(path)

A picture's size is known from its first bytes and held against the bounds before anything is unpacked, and only the
chunks that pictures are made of reach the library that unpacks them. Whatever is wrong is a UserError whose text is a
short reason, without a byte of what is in the file.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

from signstream.errors import UserError, refusal
from signstream.io.pose_files import open_clip

LARGEST_FILE = 1 << 24  # bytes of one picture
LONGEST_SIDE = 2048  # pixels
LARGEST_CLIP = 1 << 29  # bytes of a clip's pictures: a minute and a half of 256 x 256 at 25 frames a second
MOST_FRAMES = 100_000
SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEAD = struct.Struct(">8s4x4sIIBB")  # up to the colours
NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
ENDING = ".png"


class Size(NamedTuple):
    width: int
    height: int


class FramePaths(Sequence[Path]):
    """Paths of a folder's files, which take the room of their names alone: a data set has a million."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, tuple(names)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> FramePaths: ...
    def __getitem__(self, index: int | slice) -> Path | FramePaths:
        if isinstance(index, slice):
            return FramePaths(self.folder, self.names[index])
        return self.folder / self.names[index]


def list_frames(folder: Path, within: Path | None = None) -> FramePaths:
    """The folder's pictures by name, or the reason why there are none. `within`: the folder that links may not lead
    out of."""
    try:
        with os.scandir(folder) as entries:
            listed = [(entry.name, entry.is_symlink()) for entry, _ in zip(entries, range(MOST_FRAMES + 1))]
    except (OSError, ValueError) as error:
        why = refusal(error) if isinstance(error, OSError) else "no folder can have that name"
        raise UserError(f"no frames: {why}") from None
    if len(listed) > MOST_FRAMES:
        raise UserError(f"too many frames: more than {MOST_FRAMES} files in a folder")
    links = [folder, *(folder / name for name, is_link in listed if is_link)]
    if within is not None and not all(Path(os.path.realpath(link)).is_relative_to(within) for link in links):
        raise UserError(f"a link that leads out of {within}")
    names = sorted(name for name, _ in listed if name.endswith(ENDING) and not name.startswith("."))
    if not names:
        raise UserError(f"no frames: no *{ENDING} in its folder")
    return FramePaths(folder, names)


def frame_size(path: Path, within: Path | None = None) -> Size:
    """From the first bytes alone; `within`: the folder that links may not lead out of."""
    with open_clip(path, within) as file:
        return _size(file.read(HEAD.size), path)


def read_frames(paths: Sequence[Path], within: Path | None = None) -> np.ndarray:
    """All of one size. A path that follows itself is read once."""
    if not paths:
        return np.empty((0, 1, 1, 3), np.uint8)
    first = _read(paths[0], within)
    if first.nbytes * len(paths) > LARGEST_CLIP:
        size = f"{len(paths)} frames of {first.shape[1]} x {first.shape[0]}"
        raise UserError(f"too large: {size} are {first.nbytes * len(paths)} bytes, {LARGEST_CLIP} are possible")
    frames = np.empty((len(paths), *first.shape), np.uint8)
    frames[0] = first
    for i, path in enumerate(paths[1:], start=1):
        if path == paths[i - 1]:
            frames[i] = frames[i - 1]
            continue
        frame = _read(path, within)
        if frame.shape != first.shape:
            sizes = " and ".join(f"{shape[1]} x {shape[0]}" for shape in (first.shape, frame.shape))
            raise UserError(f"frames of two sizes: {paths[0].name} and {path.name} are {sizes}")
        frames[i] = frame
    return frames


def _read(path: Path, within: Path | None) -> np.ndarray:
    """[H, W, 3] uint8."""
    with open_clip(path, within) as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise UserError(f"too large: {path.name} has more than {LARGEST_FILE >> 20} MB")
    size = _size(content[: HEAD.size], path)
    frame = _unpacked(_picture_only(content), path)
    if frame.shape != (size.height, size.width, 3):
        raise _not_whole(path)
    return frame


def _size(head: bytes, path: Path) -> Size:
    if len(head) < HEAD.size or not head.startswith(SIGNATURE):
        raise UserError(f"not a PNG file: {path.name}")
    _, kind, width, height, depth, _ = HEAD.unpack(head)
    if kind != b"IHDR":
        raise _not_whole(path)
    if not (0 < width <= LONGEST_SIDE and 0 < height <= LONGEST_SIDE):
        raise UserError(f"too large: {path.name} is {width} x {height}, {LONGEST_SIDE} are possible")
    if depth > 8:
        raise UserError(f"{depth} bits a colour: {path.name}; 8 are expected")
    return Size(width, height)


def _picture_only(content: bytes) -> bytes:
    """The file without texts, profiles and further pictures, which may unpack to more than the picture does."""
    kept = [SIGNATURE]
    at = len(SIGNATURE)
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind in NEEDED:
            kept.append(content[at : at + length + 12])
        at += length + 12
    return b"".join(kept)


def _unpacked(content: bytes, path: Path) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError:
        raise UserError("pictures need the package pillow (pip install pillow)") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a broken file; it is refused or harmless
            with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
                return np.asarray(picture.convert("RGB"))
    except Exception:  # the library raises a dozen kinds for a broken file, and quotes it
        raise _not_whole(path) from None


def _not_whole(path: Path) -> UserError:
    return UserError(f"not a whole PNG file: {path.name}")
