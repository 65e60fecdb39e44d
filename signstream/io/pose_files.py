"""Reads arrays from files that may be anything: truncated, text, a pickle, a header that promises terabytes. Never
runs code.

    read_npy(path) -> float32 array        npy_frames(path) -> T, from the header alone
    read_npz(path, keys) -> {key: array}   npz_frames(path)

An array of one number is float64. Whatever is wrong is a ValueError whose text is a short reason.
"""

from __future__ import annotations

import io
import math
import os
import stat
import warnings
import zipfile
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from signstream.errors import UserError

LARGEST = 1 << 30  # bytes; an hour at 30 frames a second is 0.35 GB in float64
DEFLATE_RATIO = 1040  # nothing is packed tighter
LONGEST_HEADER = 1 << 16  # bytes; numpy refuses shorter ones already


class Header(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    kind: np.dtype


def read_npy(path: Path) -> np.ndarray:
    with open_regular(path) as file:
        return _read_array(file, os.fstat(file.fileno()).st_size)


def npy_frames(path: Path) -> int | None:
    try:
        with open_regular(path) as file:
            return _frames(file, os.fstat(file.fileno()).st_size)
    except (ValueError, OSError):
        return None


def read_npz(path: Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Those of `keys` that the archive holds."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
                members = {key: archive.getinfo(f"{key}.npy") for key in keys if f"{key}.npy" in names}
                refused = {key: fault for key, member in members.items() if (fault := _member_fault(member, size))}
                contents = {key: archive.read(member) for key, member in members.items() if key not in refused}
        except Exception as error:  # zipfile and what it calls raise a dozen kinds for a broken archive
            raise UserError(f"not a whole npz file ({type(error).__name__})") from None
    for key, fault in refused.items():
        raise UserError(f"`{key}`: {fault}")
    return {key: _read_array(io.BytesIO(content), len(content)) for key, content in contents.items()}


def npz_frames(path: Path) -> int | None:
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive, archive.open("poses.npy") as member:
            info = archive.getinfo("poses.npy")
            return None if _member_fault(info, os.fstat(file.fileno()).st_size) else _frames(member, info.file_size)
    except Exception:  # only a guess at a size: reading the clip will say what is wrong with it
        return None


def _member_fault(member: zipfile.ZipInfo, size: int) -> str | None:
    """Why a member of an archive of `size` bytes is not to be read."""
    # Numpy writes these two; others take as much memory as they say.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"compression {member.compress_type}: np.savez or np.savez_compressed is expected"
    if member.compress_size > size or member.file_size > DEFLATE_RATIO * member.compress_size:
        return f"truncated: {member.file_size} bytes are promised"
    return f"too large: {member.file_size} bytes" if member.file_size > LARGEST else None


def open_regular(path: Path) -> BinaryIO:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        raise UserError("missing file") from None
    if not stat.S_ISREG(status.st_mode):  # a pipe or device would hang or never end
        raise UserError("not a file" + (": a directory" if stat.S_ISDIR(status.st_mode) else ""))
    if status.st_size == 0:
        raise UserError("empty file")
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"cannot open: {error.strerror}") from None


def _read_header(file: IO[bytes]) -> Header:
    """Shape, Fortran order and type, read by numpy's own header parser, which takes literals only; `file` then stands
    at the numbers."""
    head = io.BytesIO(file.read(LONGEST_HEADER))  # so that a header's length, when broken, asks for no gigabytes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a broken literal; it is refused or harmless
            version = npy.read_magic(head)
            if version not in ((1, 0), (2, 0)):
                raise UserError(f"version {version}")
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, kind = read(head)
    except Exception as error:  # the parser raises whatever a broken literal makes it raise
        raise UserError(f"not an npy file ({' '.join(str(error).split())[:80]})") from None
    if any(type(n) is not int or not 0 <= n <= LARGEST for n in shape):
        raise UserError(f"shape {str(list(shape))[:80]}: no clip has that")
    file.seek(head.tell())
    return Header(shape, fortran, kind)


def _frames(file: IO[bytes], size: int) -> int | None:
    """T, if the header is that of poses and the file can hold what it promises."""
    shape, _, kind = _read_header(file)
    return shape[0] if len(shape) == 3 and shape[2] in (2, 3) and 0 < math.prod(shape) * kind.itemsize <= size else None


def _read_array(file: IO[bytes], size: int) -> np.ndarray:
    shape, fortran, kind = _read_header(file)
    if kind.hasobject:
        raise UserError("pickle inside: refused, it could run code")
    if kind.kind not in "fiub" or kind.names or kind.itemsize > 8:
        raise UserError(f"type {kind}: numbers are expected")
    expected = math.prod(shape) * kind.itemsize
    if expected > size:
        raise UserError(f"truncated: shape {str(list(shape))[:80]} is promised, the file has {size} bytes")
    if expected > LARGEST:
        raise UserError(f"too large: {expected} bytes")
    content = file.read(expected)
    if len(content) < expected:
        raise UserError(f"truncated: {expected} bytes are promised, {len(content)} are there")
    # One number is a frame rate: 23.976 in float32 gives other frames.
    narrow = np.float64 if math.prod(shape) == 1 else np.float32
    with np.errstate(over="ignore", invalid="ignore"):  # a float64 beyond float32's range becomes inf, which is missing
        return np.ascontiguousarray(np.frombuffer(content, kind).reshape(shape, order="F" if fortran else "C"), narrow)
