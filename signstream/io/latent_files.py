"""Latents as a file beside the tokens: <tokens>.latents.npy, float16 [rows, P, Z], a row a chunk, in the lines' order.

    write = LatentWriter(file, shape); write(rows), ...; write.finish(note)     never more than a clip in memory
    latents = LatentFile.open(path)                                             latents.note, latents.rows(start, stop)

Any program can read it as npy. After the numbers, where such programs do not look, stands a line of JSON that says
whose latents they are and ends with a checksum of all before: a file that was cut, changed or made for other tokens is
not taken. Reading maps the file; opening it goes through it once, piece by piece.
"""

from __future__ import annotations

import io
import json
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from signstream.errors import UserError, shown
from signstream.io.pose_files import Header, open_clip, read_header

FORMAT = 1
KIND = np.dtype("<f2")
LARGEST = float(np.finfo(KIND).max)
LONGEST_NOTE = 1 << 12  # bytes
PIECE = 1 << 20  # bytes that are looked through at once
TAIL = re.compile(rb'\n(\{.*, "check": ")([0-9a-f]{8})"\}\n', re.DOTALL)
KINDS = {"format": int, "tokenizer": str, "parts": list, "clips": str}


class Note(NamedTuple):
    """Whose latents they are."""

    tokenizer: str  # digest
    parts: tuple[str, ...]
    clips: str  # checksum of the lines' names and numbers of chunks (clips_check)


def latents_beside(tokens: Path) -> Path:
    """Where the latents of a file of tokens are, if they were asked for."""
    return tokens.with_name(f"{tokens.stem}.latents.npy")


def clips_check(names: Sequence[str], chunks: Sequence[int]) -> str:
    """8 hexadecimal digits over the clips that a file has rows of."""
    check = 0
    for pair in zip(names, chunks, strict=True):
        check = zlib.crc32(json.dumps(pair).encode(), check)
    return f"{check:08x}"


def as_latents(values: np.ndarray) -> np.ndarray:
    """As they are written: float16, what is beyond its range at its end."""
    return np.clip(values, -LARGEST, LARGEST).astype(KIND)


class LatentWriter:
    """Writes the rows of a file, front to back."""

    def __init__(self, file: IO[bytes], shape: tuple[int, ...]) -> None:
        self.file = file
        self.check = 0
        self.left = int(np.prod(shape)) * KIND.itemsize
        head = io.BytesIO()
        npy.write_array_header_1_0(head, {"descr": KIND.str, "fortran_order": False, "shape": shape})
        self._put(head.getvalue())

    def __call__(self, rows: bytes) -> None:
        self.left -= len(rows)
        self._put(rows)

    def finish(self, note: Note) -> None:
        assert self.left == 0, f"{self.left} bytes of the rows are missing"
        body = b"\n" + json.dumps({"format": FORMAT, **note._asdict()})[:-1].encode() + b', "check": "'
        self._put(body)
        self.file.write(b'%08x"}\n' % self.check)

    def _put(self, content: bytes) -> None:
        self.check = zlib.crc32(content, self.check)
        self.file.write(content)


class LatentFile:
    """An open file of latents; each process that reads maps it for itself."""

    def __init__(self, path: Path, file: IO[bytes], *, header: Header, note: Note) -> None:
        self.path = path
        self.shape = header.shape
        self.start = header.start
        self.note = note
        self._map: np.ndarray | None = np.memmap(file, KIND, "r", offset=self.start, shape=self.shape)

    @classmethod
    def open(cls, path: Path) -> LatentFile:
        """Whatever is wrong with the file is one line."""
        try:
            return cls._open(path)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    @classmethod
    def _open(cls, path: Path) -> LatentFile:
        with open_clip(path) as file:
            header = read_header(file)
            if header.kind != KIND or header.fortran or len(header.shape) != 3 or min(header.shape) < 1:
                raise UserError(f"{str(header.kind)[:80]} {list(header.shape)}: float16 [rows, P, Z] is expected")
            size, end = os.fstat(file.fileno()).st_size, header.start + header.bytes
            if not end < size <= end + LONGEST_NOTE:
                raise UserError(f"{size} bytes: its shape {list(header.shape)} needs {end} and a line; it may be cut")
            file.seek(end)
            tail = TAIL.fullmatch(file.read(LONGEST_NOTE))
            if tail is None:
                raise UserError("no line after its numbers says whose latents they are")
            check = zlib.crc32(b"\n" + tail[1], _check_numbers(file, header.start, header.bytes))
            if f"{check:08x}".encode() != tail[2]:
                raise UserError("it was changed after it was written")
            return cls(path, file, header=header, note=_note_of(tail[1] + tail[2] + b'"}'))

    def rows(self, start: int, stop: int) -> np.ndarray:
        """[stop - start, P, Z] float16, a view into the file."""
        if self._map is None:
            self._map = np.memmap(self.path, KIND, "r", offset=self.start, shape=self.shape)
        return self._map[start:stop]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}


def _check_numbers(file: IO[bytes], start: int, size: int) -> int:
    """The checksum of a file up to the end of its numbers, all of which must be finite."""
    file.seek(0)
    check, left = zlib.crc32(file.read(start)), size
    while left:
        piece = file.read(min(PIECE, left))
        if not piece:
            raise UserError("it was cut while it was read")
        if not np.isfinite(np.frombuffer(piece[: len(piece) // 2 * 2], KIND)).all():
            raise UserError("a latent is no finite number")
        check = zlib.crc32(piece, check)
        left -= len(piece)
    return check


def _note_of(text: bytes) -> Note:
    try:
        data = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        raise UserError("the line after its numbers is not JSON") from None
    if not isinstance(data, dict) or not all(type(data.get(key)) is kind for key, kind in KINDS.items()):
        raise UserError(f"the line after its numbers is {shown(data)}: {', '.join(KINDS)} are expected")
    if data["format"] != FORMAT:
        raise UserError(f"its format is {shown(data['format'])}: this program reads {FORMAT}")
    return Note(data["tokenizer"], tuple(data["parts"]), data["clips"])
