"""Reads arrays from files that may be anything: truncated, text, a pickle, a header that promises terabytes, an archive
that unpacks to them. Never runs code.

    read_npy(path, accept) -> float32 array              npy_shape(path), npy_frames(path) -> T: from the header alone
    read_npz(path, keys, accept) -> {key: array}         npz_frames(path)

`accept` sees the shapes before a number is read, and raises the reason where they are not what is wanted. Numbers are
read and narrowed piece by piece, so that the memory needed is the array's in float32, at most LARGEST. An array of one
number is float64. Whatever is wrong is a UserError whose text is a short reason, without a byte of what is in the file.
"""

from __future__ import annotations

import errno
import io
import math
import os
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from signstream.errors import UserError
from signstream.text_files import open_regular

LARGEST = 1 << 28  # bytes of an array in float32; an hour and a half of 133 joints at 30 frames a second
DEFLATE_RATIO = 1040  # nothing is packed tighter
LONGEST_HEADER = 1 << 16  # bytes; numpy refuses shorter ones already
MOST_AXES, LONGEST_AXIS = 8, 1 << 30
MOST_TRAILING = 1 << 16  # bytes after the numbers of an array in an archive
PIECE = 1 << 18  # numbers that are read at once
LARGEST_DIRECTORY = 1 << 20  # bytes; what lists the members of an archive. Each entry takes ten times that in memory
END_OF_DIRECTORY, END_OF_LARGE_DIRECTORY = b"PK\x05\x06", b"PK\x06\x07"
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)

Shape = tuple[int, ...]


class Header(NamedTuple):
    shape: Shape
    fortran: bool
    kind: np.dtype
    start: int  # where the numbers begin

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.numbers * self.kind.itemsize


def read_npy(path: Path, accept: Callable[[Shape], object], within: Path | None = None) -> np.ndarray:
    with open_clip(path, within) as file:
        header = read_header(file)
        _check(header, os.fstat(file.fileno()).st_size)
        accept(header.shape)
        return _read_numbers(file, header)


def npy_shape(path: Path) -> Shape:
    with open_clip(path) as file:
        header = read_header(file)
        _check_promise(header, os.fstat(file.fileno()).st_size)
        return header.shape


def npy_frames(path: Path) -> int | None:
    try:
        with open_clip(path) as file:
            return _frames(read_header(file), os.fstat(file.fileno()).st_size)
    except (ValueError, OSError):
        return None


def read_npz(
    path: Path, keys: tuple[str, ...], accept: Callable[[dict[str, Shape]], object], *, within: Path | None = None
) -> dict[str, np.ndarray]:
    """Those of `keys` that the archive holds."""
    with open_clip(path, within) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            _check_directory(file, size)
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
                members = {key: archive.getinfo(f"{key}.npy") for key in keys if f"{key}.npy" in names}
                accept({key: _header_of(archive, member, size).shape for key, member in members.items()})
                return {key: _read_member(archive, member) for key, member in members.items()}
        except UserError:
            raise
        except Exception as error:  # zipfile and what it calls raise a dozen kinds for a broken archive
            raise UserError(f"not a whole npz file ({type(error).__name__})") from None


def npz_frames(path: Path) -> int | None:
    try:
        with open_clip(path) as file:
            size = os.fstat(file.fileno()).st_size
            _check_directory(file, size)
            with zipfile.ZipFile(file) as archive:
                member = archive.getinfo("poses.npy")
                return _frames(_header_of(archive, member, size), member.file_size)
    except Exception:  # only a guess at a size: reading the clip will say what is wrong with it
        return None


def open_clip(path: Path, within: Path | None = None) -> BinaryIO:
    """A clip's file, or the reason why it is none; `within`: the folder that links may not lead out of."""
    try:
        file = open_regular(path, within)
    except IsADirectoryError:
        raise UserError("not a file: a directory") from None
    except OSError as error:
        if error.errno in NOT_THERE:
            raise UserError("missing file") from None
        own = error.errno in (errno.EXDEV, errno.EINVAL)
        raise UserError(f"{error.strerror}" if own else f"cannot open: {error.strerror}") from None
    if os.fstat(file.fileno()).st_size == 0:
        file.close()
        raise UserError("empty file")
    return file


def _check_directory(file: BinaryIO, size: int) -> None:
    """Finds the end of the archive's directory as zipfile does, and refuses a long one before zipfile reads it."""
    file.seek(max(size - (1 << 16) - 22, 0))
    tail = file.read()
    plain = tail[-22:-18] == END_OF_DIRECTORY and tail[-2:] == b"\0\0"
    at = len(tail) - 22 if plain else tail.rfind(END_OF_DIRECTORY)
    if at < 0 or len(tail) < at + 22:
        raise UserError("not a whole npz file (BadZipFile)")
    (listed,) = struct.unpack_from("<I", tail, at + 12)
    # The other kind of directory, for archives of more than 4 GB, overrides what this one says.
    if listed > LARGEST_DIRECTORY or END_OF_LARGE_DIRECTORY in tail[max(at - 20, 0) : at]:
        raise UserError("too large: its list of arrays")


def _header_of(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> Header:
    """The header of an array in an archive of `size` bytes, once it is known that it can be read."""
    key = member.filename.removesuffix(".npy")
    if fault := _member_fault(member, size):
        raise UserError(f"`{key}`: {fault}")
    with archive.open(member) as file:
        header = read_header(file)
    _check(header, member.file_size)
    if member.file_size - header.start - header.bytes > MOST_TRAILING:
        raise UserError(f"`{key}`: {member.file_size} bytes, its shape needs {header.start + header.bytes}")
    return header


def _member_fault(member: zipfile.ZipInfo, size: int) -> str | None:
    """Why a member of an archive of `size` bytes is not to be read."""
    # Numpy writes these two; others take as much memory as they say.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"compression {member.compress_type}: np.savez or np.savez_compressed is expected"
    if member.compress_size > size or member.file_size > DEFLATE_RATIO * member.compress_size:
        return f"truncated: {member.file_size} bytes are promised"
    return None


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        array = _read_numbers(file, read_header(file))
        file.read()  # at its last byte, zipfile holds the member against its checksum
        return array


def read_header(file: IO[bytes]) -> Header:
    """Shape, Fortran order and type, read by numpy's own header parser, which takes literals only; `file` then stands
    at the numbers."""
    head = file.read(len(npy.MAGIC_PREFIX) + 2)
    if not head.startswith(npy.MAGIC_PREFIX):
        raise UserError("not an npy file")
    version = tuple(head[len(npy.MAGIC_PREFIX) :])
    if version not in ((1, 0), (2, 0)):
        raise UserError(f"not an npy file (version {'.'.join(map(str, version))})")
    length = file.read(2 if version == (1, 0) else 4)
    literal = file.read(min(int.from_bytes(length, "little"), LONGEST_HEADER))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a broken literal; it is refused or harmless
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, kind = read(io.BytesIO(length + literal))
    except Exception:  # the parser raises whatever a broken literal makes it raise, and quotes it
        raise UserError("not an npy file (its header cannot be read)") from None
    if len(shape) > MOST_AXES or any(type(n) is not int or not 0 <= n <= LONGEST_AXIS for n in shape):
        raise UserError(f"shape {str(list(shape))[:80]}: no clip has that")
    return Header(shape, fortran, kind, len(head) + len(length) + len(literal))


def _frames(header: Header, size: int) -> int | None:
    """T, if the header is that of poses and the file can hold what it promises."""
    shape = header.shape
    return shape[0] if len(shape) == 3 and shape[2] in (2, 3) and 0 < header.bytes <= size else None


def _check(header: Header, size: int) -> None:
    """Raises the reason why the array behind a header, in a file of `size` bytes, is not to be read."""
    _check_promise(header, size)
    if header.numbers * 4 > LARGEST:
        raise UserError(f"too large: {header.numbers * 4} bytes in float32, {LARGEST} are possible")


def _check_promise(header: Header, size: int) -> None:
    if header.kind.hasobject:
        raise UserError("pickle inside: refused, it could run code")
    if header.kind.kind not in "fiub" or header.kind.names or header.kind.itemsize > 8:
        raise UserError(f"type {str(header.kind)[:80]}: numbers are expected")
    if header.bytes > size:
        raise UserError(f"truncated: shape {str(list(header.shape))[:80]} is promised, the file has {size} bytes")


def _read_numbers(file: IO[bytes], header: Header) -> np.ndarray:
    """The array, in C order; `file` stands at its numbers."""
    # One number is a frame rate: 23.976 in float32 gives other frames.
    array = np.empty(header.shape, np.float64 if header.numbers == 1 else np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # a float64 beyond float32's range becomes inf, which is missing
        for piece in _pieces(array.T if header.fortran else array):
            content = file.read(piece.size * header.kind.itemsize)
            if len(content) < piece.size * header.kind.itemsize:
                raise UserError(f"truncated: {header.bytes} bytes are promised, fewer are there")
            piece[...] = np.frombuffer(content, header.kind).reshape(piece.shape)
    return array


def _pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """The array in views of at most PIECE numbers, in the order in which C lays them."""
    if array.size <= PIECE:
        yield array
    elif array[0].size > PIECE:
        for row in array:
            yield from _pieces(row)
    else:
        rows = PIECE // array[0].size
        yield from (array[start : start + rows] for start in range(0, len(array), rows))
