"""The index of a pose cache: which clips lie where in its memory map, and the checksums that they are held against.

    write_index(folder, index, root)
    read_index(folder, stamp, row_bytes) -> (Index, ""), or (None, why there is none)

index.json ends with a checksum of all that stands before it, and every value is checked as it is read: an index that is
not whole, not of this version, or not of these files is none, and its cache is built anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from signstream.errors import one_line
from signstream.io.whole import write_whole
from signstream.text_files import read_text

FORMAT = 2  # raise it when the index or the memory map changes
NAME = "index.json"
LONGEST_REASON = 300  # characters
LARGEST_INDEX = 1 << 31  # bytes; a million clips take 0.5 GB
TAIL = re.compile(r', "check": "([0-9a-f]{8})"\}')
MAP_NAME = re.compile(r"frames-[0-9a-f]{8}\.f32")


@dataclass(frozen=True)
class CachedClip:
    name: str
    split: str
    start: int  # first row in the memory map
    length: int  # frames after the front end
    num_frames: int  # frames of the file
    fps: float  # the file's; the config's where it does not say
    fps_known: bool
    size: tuple[float, float] | None
    text: str
    gloss: str
    signer: str
    segments: tuple[tuple[int, int, str], ...]
    poses_crc: int = 0  # of the poses and the frame rate as they were read: the same on every machine
    frames_crc: int = 0  # of the clip's rows in the memory map


@dataclass(frozen=True)
class Skipped:
    split: str
    name: str
    reason: str


def reason_of(error: Exception) -> str:
    """In one short line."""
    return one_line(" ".join(str(error).split()), LONGEST_REASON)


@dataclass(frozen=True)
class Index:
    file: str  # the memory map's name
    stamp: str  # of the files that it was made of
    splits: tuple[str, ...]
    clips: tuple[CachedClip, ...]
    skipped: tuple[Skipped, ...]

    @property
    def rows(self) -> int:
        return sum(clip.length for clip in self.clips)


def write_index(folder: Path, index: Index, root: Path) -> None:
    """`root`: for people who look into the file."""
    body = json.dumps({"format": FORMAT, "root": str(root), **asdict(index)})[:-1].encode()
    write_whole(folder / NAME, lambda out: out.write(body + f', "check": "{zlib.crc32(body):08x}"}}'.encode()))


def read_index(folder: Path, stamp: str, row_bytes: int) -> tuple[Index | None, str]:
    """The index, if it describes the files of this stamp and its memory map has the size that it should; or why not,
    "" where none was made yet."""
    try:
        text = read_text(folder / NAME, most=LARGEST_INDEX)
    except FileNotFoundError:
        return None, ""
    except (OSError, UnicodeDecodeError):
        return None, "its index cannot be read"
    if not text.startswith(f'{{"format": {FORMAT}, '):
        return None, "its index is of another version, or damaged"
    try:
        index = _parse(text)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None, "its index is damaged"
    if index.stamp != stamp:
        return None, "a file that it was made of has changed"
    try:
        whole = (folder / index.file).stat().st_size == index.rows * row_bytes
    except OSError:
        whole = False
    return (index, "") if whole else (None, "its frames are not all there")


def discard(folder: Path, index: Index) -> None:
    """Lets the next who opens the cache build it anew, unless somebody has already."""
    try:
        if index.file in read_text(folder / NAME, most=LARGEST_INDEX):
            (folder / NAME).unlink()
    except (OSError, UnicodeDecodeError):
        pass


def _parse(text: str) -> Index:
    """Raises whatever a value that is not as it was written makes it raise."""
    tail = TAIL.fullmatch(text[-22:])
    _demand(tail is not None and int(tail[1], 16) == zlib.crc32(text[:-22].encode()))
    tree = json.loads(text)
    file, stamp, splits = tree["file"], tree["stamp"], tuple(tree["splits"])
    _demand(_are(str, file, stamp, *splits) and MAP_NAME.fullmatch(file) is not None)
    _demand(len(set(splits)) == len(splits))
    clips = tuple(_clip(line) for line in tree["clips"])
    skipped = tuple(Skipped(**line) for line in tree["skipped"])
    row = 0
    for clip in clips:
        _demand(clip.start == row and clip.split in splits)
        row += clip.length
    _demand(all(_are(str, line.split, line.name, line.reason) for line in skipped))
    return Index(file, stamp, splits, clips, skipped)


def _clip(line: dict[str, Any]) -> CachedClip:
    _demand(line.keys() == {field.name for field in fields(CachedClip)})
    size, segments = line["size"], tuple(map(tuple, line["segments"]))
    clip = CachedClip(**{**line, "size": None if size is None else tuple(size), "segments": segments})
    sums = (clip.poses_crc, clip.frames_crc)
    _demand(_are(int, clip.start, clip.length, clip.num_frames, *sums) and min(clip.length, clip.num_frames) >= 1)
    _demand(all(0 <= number < 1 << 32 for number in sums))
    _demand(_are(str, clip.name, clip.split, clip.text, clip.gloss, clip.signer) and _are(bool, clip.fps_known))
    _demand(type(clip.fps) in (int, float) and 0 < clip.fps < math.inf)
    _demand(clip.size is None or (len(clip.size) == 2 and _are(float, *clip.size)))
    _demand(all(len(segment) == 3 and _are(int, *segment[:2]) and _are(str, segment[2]) for segment in segments))
    return clip


def _are(kind: type, *values: Any) -> bool:
    return all(type(value) is kind for value in values)


def _demand(true: bool) -> None:
    if not true:
        raise ValueError


def digest_of(clips: Sequence[CachedClip]) -> str:
    """Of what was read of these clips, in their order: equal where it was the same poses at the same frame rates,
    whatever the machine, the folder and the preprocessing."""
    sums = b"".join(clip.poses_crc.to_bytes(4, "little") for clip in clips)
    return hashlib.sha256(sums).hexdigest()
