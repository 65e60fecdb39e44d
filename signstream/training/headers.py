"""What a checkpoint's file holds, known before a tensor of it is read: the tree that was saved, tensors as headers.

    with path.open("rb") as file:
        tree = read_headers(file, checked=False)      # Foreign, with what the file is instead, in a line

Nothing in a file is taken at its word, and memory and time are bounded by its size: members lie in it as they are, each
once, and fill no more than the file; a tensor is as large as its bytes; the pickle names nothing that runs, and makes a
bounded number of values.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

import torch

from signstream.errors import first_line
from signstream.io.sealed import DIGITS, MARK, read_seal

MOST_VALUES = 200_000  # of a tree, a tensor being one
OPCODES_A_VALUE = 20  # at most: a tensor's
DEEPEST = 40  # of values in one another
MOST_DIRECTORY = 16 << 20  # bytes of the archive's list of members
STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
# The records that end an archive: that of large archives, a pointer to it, that of all. Sizes are the list of members'.
ENDS = struct.Struct("<4s36xQ8x4s16x4s8xI6x")
DTYPES = frozenset(STORAGES.values())
# What torch.save writes for plain values and tensors.
PLAIN = "PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE"
NESTED = "EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS"
SHARED = "BINPUT LONG_BINPUT BINGET LONG_BINGET"
TENSORS = "GLOBAL REDUCE BUILD BINPERSID"
OPCODES = frozenset(f"{PLAIN} {NESTED} {SHARED} {TENSORS}".split())


class Foreign(Exception):
    """The file is something else. `whole`: whether it is what somebody wrote, and not that damaged."""

    def __init__(self, what: str, *, whole: bool) -> None:
        super().__init__(what)
        self.whole = whole


class Storage(NamedTuple):
    key: str
    dtype: torch.dtype
    numbers: int


class Header(NamedTuple):
    """A tensor, without its numbers."""

    dtype: torch.dtype
    shape: tuple[int, ...]


def read_headers(file: IO[bytes], *, checked: bool) -> Any:
    """`checked`: whether it is known that every byte is as it was written; else members are held against their own
    checksums."""
    try:
        _hold_directory(file)
        with zipfile.ZipFile(file) as archive:
            members = _members(archive, file)
            damaged = None if checked else archive.testzip()
            pickled = archive.read(members["data.pkl"]) if "data.pkl" in members else None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        what = f"it is cut short, damaged or another kind of file ({first_line(error)})"
        raise Foreign(what, whole=False) from None
    if damaged:
        raise Foreign(f"{damaged} in it is damaged", whole=False)
    if pickled is None:
        raise Foreign("an archive of something else, without data.pkl", whole=True)
    try:
        _hold_opcodes(pickled)
        tree = _Reader(pickled, members).load()
        check_values(tree)
    except Exception as error:  # the bytes are somebody's, so reading them may fail in any way
        raise Foreign(f"{type(error).__name__}, {first_line(error)}", whole=True) from None
    return tree


def _hold_directory(file: IO[bytes]) -> None:
    """The list of members is of a size that may be read. The archive's last records say so, where zipfile and torch
    look."""
    comment = len(MARK) + DIGITS if read_seal(file) else 0
    file.seek(max(file.seek(0, io.SEEK_END) - comment - ENDS.size, 0))
    end = file.read(ENDS.size).rjust(ENDS.size, b"\0")
    large, large_size, pointer, small, small_size = ENDS.unpack(end)
    if small != b"PK\5\6":
        raise ValueError("it does not end as an archive")
    if (large_size if (large, pointer) == (b"PK\6\6", b"PK\6\7") else small_size) > MOST_DIRECTORY:
        raise ValueError("its list of members is too long")


def _members(archive: zipfile.ZipFile, file: IO[bytes]) -> dict[str, zipfile.ZipInfo]:
    """By their names within the archive's one folder. torch reads the same directory, and believes it."""
    listed = archive.infolist()
    members = {info.filename.partition("/")[2]: info for info in listed}
    size = file.seek(0, io.SEEK_END)
    if "data.pkl" not in members:
        return {}
    for info in listed:
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError(f"{info.filename[:80]} in it is compressed, which torch never does")
        if info.external_attr or info.internal_attr or info.volume or info.flag_bits & ~0x0808 or info.is_dir():
            raise ValueError(f"{info.filename[:80]} in it is marked as no file")
    if len(members) != len(listed) or min(info.header_offset for info in listed) != 0:
        raise ValueError("its members are not each in one place")
    if sum(info.file_size for info in listed) > size:
        raise ValueError("its members would fill more than the file")
    return members


def _hold_opcodes(pickled: bytes) -> None:
    """The pickle's steps are those of plain values and tensors, and not too many."""
    limit = MOST_VALUES * OPCODES_A_VALUE
    for number, (code, argument, _) in enumerate(pickletools.genops(pickled)):
        if code.name not in OPCODES:
            raise pickle.UnpicklingError(f"its pickle has {code.name}, which no plain value needs")
        if number > limit or (code.name == "LONG_BINPUT" and int(argument or 0) > limit):
            raise pickle.UnpicklingError(f"its pickle holds more than {MOST_VALUES} values")


class Ordered(OrderedDict[str, Any]):
    """A module's state; beside its values nothing but torch's versions of the modules."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict) or set(state) - {"_metadata"}:
            raise pickle.UnpicklingError("a table has attributes")


class _Reader(pickle.Unpickler):
    def __init__(self, pickled: bytes, members: Mapping[str, zipfile.ZipInfo]) -> None:
        super().__init__(io.BytesIO(pickled))
        self._members = members

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        known = {
            "collections.OrderedDict": Ordered,
            "torch._utils._rebuild_tensor_v2": _header,
            "torch._utils._rebuild_parameter": _parameter_header,
        }
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(
                f"its pickle asks for {module[:80]}.{name[:80]}, and nothing from a file is run"
            )
        return known[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> Storage:
        kind, dtype, key, _, count = pid
        member = self._members.get(f"data/{key}")
        if kind != "storage" or dtype not in DTYPES or type(count) is not int or member is None:
            raise pickle.UnpicklingError("a tensor's bytes are not in it")
        if count < 0 or count * dtype.itemsize != member.file_size:
            raise pickle.UnpicklingError(f"data/{key} has {member.file_size} bytes for {count} numbers of {dtype}")
        return Storage(key, dtype, count)


def _header(storage: Storage, offset: int, *layout: Any) -> Header:
    """Only what lies in its storage, and is no larger than that; layout: shape, stride, and what does not matter."""
    shape, stride = layout[:2]
    sizes = (offset, *shape, *stride)
    if type(storage) is not Storage or any(type(size) is not int or size < 0 for size in sizes):
        raise pickle.UnpicklingError("a tensor is none")
    if len(shape) != len(stride) or len(shape) > DEEPEST:
        raise pickle.UnpicklingError("a tensor is none")
    asked = math.prod(shape)
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride)) if asked else -1
    if last >= storage.numbers or asked > storage.numbers:
        raise pickle.UnpicklingError(f"a tensor of {list(shape)} is larger than its bytes")
    return Header(storage.dtype, tuple(shape))


def _parameter_header(data: Header, *_: Any) -> Header:
    if type(data) is not Header:
        raise pickle.UnpicklingError("a parameter is none")
    return data


def check_values(tree: Any) -> None:
    """That a tree is of plain values and tensors (or their headers), neither too many nor too deep in one another; what
    is in it twice counts twice."""
    count, level = 0, [tree]
    for _ in range(DEEPEST):
        count += len(level)
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += dict.values(value)
            elif type(value) in (list, tuple):
                inner += value
            elif value is not None and type(value) not in (bool, int, float, str, Header):
                raise pickle.UnpicklingError(f"its pickle holds a {type(value).__name__}")
            if count + len(inner) > MOST_VALUES:
                raise pickle.UnpicklingError(f"its pickle holds more than {MOST_VALUES} values")
        level = inner
        if not level:
            return
    raise pickle.UnpicklingError(f"its values lie more than {DEEPEST} deep in one another")
