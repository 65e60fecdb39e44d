"""The stack machine behind io/pickles.py: it reads the opcodes that plain values and numpy's arrays need, no others.

    Machine(file).run() -> tables, lists, tuples, text, numbers, Array, Raw

Protocols 2 to 5. What a file can cost is bounded before it is spent: opcodes, text, numbers of one size, and an array's
shape is held against the bytes that the file has for it. Bytes are skipped, and kept as where they lie.
"""

from __future__ import annotations

import enum
import math
import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from signstream.errors import UserError

MOST_STEPS = 1_500_000  # opcodes; PHOENIX-2014's keypoints have 300,000
MOST_MADE = 500_000  # tables, lists, tuples and arrays
MOST_VALUES = 500_000  # of the table that comes out
LONGEST_TEXT = 1 << 16  # bytes of one
MOST_TEXT = 1 << 24  # bytes of all
LONGEST_NUMBER = 8  # bytes
MOST_AXES, LONGEST_AXIS = 8, 1 << 30
LONGEST_NAME = 200  # bytes of a module's or what it has
BLOCK = 1 << 14  # bytes that are read at once
BYTE, SHORT, LONG, QUAD = (struct.Struct(f"<{form}") for form in "BHIQ")
SIGNED, REAL = struct.Struct("<i"), struct.Struct(">d")
CODE = re.compile(r"[fiub][1248]|U\d{1,4}|O8?")  # of numpy's types
NUMBERS = "fiub"


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes, left in the file. No tuple, which it could be taken for."""

    start: int
    size: int


class Name(enum.Enum):
    """What a pickle may name."""

    RECONSTRUCT = enum.auto()
    FROM_BUFFER = enum.auto()
    SCALAR = enum.auto()
    NDARRAY = enum.auto()
    DTYPE = enum.auto()


NAMES = {
    ("numpy", "ndarray"): Name.NDARRAY,
    ("numpy", "dtype"): Name.DTYPE,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Name.RECONSTRUCT for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): Name.SCALAR for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): Name.FROM_BUFFER for core in ("core", "_core")},
}


@dataclass(slots=True)
class Kind:
    """A type of numpy's while it is read: first its code, then its byte order."""

    code: str
    order: str = "="

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.order + self.code)


@dataclass(slots=True)
class Array:
    """An array: where its numbers lie in the file, or, of one of objects, these."""

    shape: tuple[int, ...] = ()
    kind: np.dtype = np.dtype("<f4")
    fortran: bool = False
    start: int = 0
    items: list[Any] | None = None
    filled: bool = False

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.kind.itemsize


def refused(why: str) -> UserError:
    return UserError(f"not a pickle that can be read ({why})")


def foreign() -> UserError:
    return UserError("something else than plain values and numpy's arrays is in it: refused, it could run code")


class Machine:
    """`run` reads one pickle from where the file stands."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = os.fstat(file.fileno()).st_size
        self.before = file.tell()  # bytes of the file before the block, after which the file stands
        self.block = b""
        self.at = 0  # in the block
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.text_left = MOST_TEXT

    def run(self) -> Any:
        made = 0
        for _ in range(MOST_STEPS):
            code = self.take(1)
            if code == b".":
                return self.pop()
            step = OPCODES.get(code)
            if step is None:
                raise foreign()
            step(self)
            made += code in MAKING
            if made > MOST_MADE:
                raise UserError(f"too large: more than {MOST_MADE} tables, lists and arrays")
        raise UserError(f"too large: more than {MOST_STEPS} steps")

    # -- the file

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.block):
            self.before += self.at
            self.block = self.block[self.at :] + self.file.read(max(BLOCK, count))
            self.at = 0
            if count > len(self.block):
                raise UserError("truncated")
        self.at += count
        return self.block[self.at - count : self.at]

    def tell(self) -> int:
        return self.before + self.at

    def seek(self, place: int) -> None:
        if self.before <= place <= self.before + len(self.block):
            self.at = place - self.before
        else:
            self.file.seek(place)
            self.block, self.at, self.before = b"", 0, place

    def number(self, form: struct.Struct) -> Any:
        return form.unpack(self.take(form.size))[0]

    def line(self) -> str:
        content = b""
        while not content.endswith(b"\n"):
            if len(content) == LONGEST_NAME:
                raise foreign()
            content += self.take(1)
        return content[:-1].decode("ascii", "replace")

    # -- the stack

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise refused("its stack is empty")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0) or type(self.stack[-1]) is not kind:
            raise refused("its stack does not hold what an opcode needs")
        return self.stack[-1]

    def popped(self, count: int) -> list[Any]:
        return [self.pop() for _ in range(count)][::-1]

    def since_mark(self) -> list[Any]:
        if not self.marks:
            raise refused("no mark is set")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    # -- opcodes

    def protocol(self) -> None:
        if not 2 <= self.number(BYTE) <= 5:
            raise refused("protocols 2 to 5 are expected")

    def long(self) -> None:
        size = self.number(BYTE)
        if size > LONGEST_NUMBER:
            raise UserError("a number of more than 64 bits")
        self.stack.append(int.from_bytes(self.take(size), "little", signed=True))

    def spend(self, size: int) -> None:
        """Before so many bytes become text or a number."""
        self.text_left -= size
        if size > LONGEST_TEXT or self.text_left < 0:
            raise UserError(f"too large: text of {size} bytes")

    def text(self, size: int) -> None:
        self.spend(size)
        try:
            self.stack.append(self.take(size).decode("utf-8"))
        except UnicodeDecodeError:
            raise refused("text that is not UTF-8") from None

    def raw(self, size: int) -> None:
        start = self.tell()
        if size > self.size - start:
            raise UserError(f"truncated: {size} bytes are promised")
        self.seek(start + size)
        self.stack.append(Raw(start, size))

    def append(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        table = self.top(dict)
        if len(items) % 2 or not all(type(key) in (str, int) for key in items[::2]):
            raise refused("a table whose keys are not text or whole numbers")
        table.update(zip(items[::2], items[1::2]))

    def remember(self, key: int) -> None:
        self.memo[key] = self.top(type(self.stack[-1]) if self.stack else object)

    def recall(self, key: int) -> None:
        if key not in self.memo:
            raise refused("a value that was not kept")
        self.stack.append(self.memo[key])

    def named(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or (module, name) not in NAMES:
            raise foreign()
        self.stack.append(NAMES[module, name])

    def reduce(self) -> None:
        name, arguments = self.popped(2)
        if not isinstance(name, Name) or name not in MAKERS or not isinstance(arguments, tuple):
            raise foreign()
        self.stack.append(MAKERS[name](self, arguments))

    def build(self) -> None:
        state = self.pop()
        if self.stack and isinstance(self.stack[-1], Kind):
            _order(self.top(Kind), state)
        else:
            _fill(self.top(Array), state)


# -- what numpy's names make


def _kind(machine: Machine, arguments: tuple[Any, ...]) -> Kind:
    if not arguments or not isinstance(arguments[0], str) or not CODE.fullmatch(arguments[0]):
        raise UserError("a type of array that is not read: numbers are expected")
    return Kind(arguments[0])


def _order(kind: Kind, state: Any) -> None:
    if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "=", "|") or any(state[2:5]):
        raise UserError("a type of array that is not read: numbers are expected")
    kind.order = state[1]


def _empty(machine: Machine, arguments: tuple[Any, ...]) -> Array:
    if len(arguments) != 3 or arguments[0] is not Name.NDARRAY:
        raise foreign()
    return Array()


def _fill(array: Array, state: Any) -> None:
    """What ndarray.__setstate__ does."""
    if array.filled or not isinstance(state, tuple) or len(state) != 5:
        raise refused("the state of an array")
    _, shape, kind, fortran, content = state
    if isinstance(content, list):
        if not isinstance(kind, Kind) or not kind.code.startswith("O"):
            raise refused("the state of an array")
        array.shape, array.items, array.filled = _shape(shape), content, True
        return
    _lay(array, content, kind, shape=shape, fortran=fortran)


def _from_buffer(machine: Machine, arguments: tuple[Any, ...]) -> Array:
    if len(arguments) != 4 or arguments[3] not in ("C", "F"):
        raise refused("the state of an array")
    content, kind, shape, order = arguments
    array = Array()
    _lay(array, content, kind, shape=shape, fortran=order == "F")
    return array


def _lay(array: Array, content: Any, kind: Any, *, shape: Any, fortran: Any) -> None:
    if not isinstance(content, Raw) or not isinstance(kind, Kind) or not isinstance(fortran, (bool, int)):
        raise refused("the state of an array")
    if kind.code[0] not in NUMBERS:
        raise UserError("a type of array that is not read: numbers are expected")
    array.shape, array.kind, array.fortran, array.start = _shape(shape), _dtype(kind), bool(fortran), content.start
    if array.bytes != content.size:
        raise UserError(f"truncated: shape {list(array.shape)} is promised, {content.size} bytes are there")
    array.filled = True


def _shape(value: Any) -> tuple[int, ...]:
    sound = isinstance(value, tuple) and len(value) <= MOST_AXES
    if not sound or any(type(side) is not int or not 0 <= side <= LONGEST_AXIS for side in value):
        raise refused("the shape of an array")
    return value


def _dtype(kind: Kind) -> np.dtype:
    try:
        return kind.dtype
    except TypeError:
        raise UserError("a type of array that is not read: numbers are expected") from None


def _scalar(machine: Machine, arguments: tuple[Any, ...]) -> Any:
    """One of numpy's numbers as Python's."""
    if len(arguments) != 2 or not isinstance(arguments[0], Kind) or not isinstance(arguments[1], Raw):
        raise refused("the state of a number")
    kind, content = _dtype(arguments[0]), arguments[1]
    if kind.hasobject or kind.itemsize != content.size:
        raise refused("the state of a number")
    machine.spend(content.size)
    after = machine.tell()
    machine.seek(content.start)
    number = machine.take(content.size)
    machine.seek(after)
    try:
        return np.frombuffer(number, kind)[0].item()
    except ValueError:  # no letter has that number
        raise refused("text that is none") from None


MAKERS: dict[Any, Callable[[Machine, tuple[Any, ...]], Any]] = {
    Name.RECONSTRUCT: _empty,
    Name.FROM_BUFFER: _from_buffer,
    Name.SCALAR: _scalar,
    Name.DTYPE: _kind,
}
MAKING = frozenset((b"]", b"}", b"t", b"\x85", b"\x86", b"\x87", b"R"))
OPCODES: dict[bytes, Callable[[Machine], object]] = {
    b"\x80": Machine.protocol,
    b"\x95": lambda m: m.take(8),  # a frame: so many bytes, which matters to nobody who reads on
    b"(": lambda m: m.marks.append(len(m.stack)),
    b"N": lambda m: m.stack.append(None),
    b"\x88": lambda m: m.stack.append(True),
    b"\x89": lambda m: m.stack.append(False),
    b"J": lambda m: m.stack.append(m.number(SIGNED)),
    b"K": lambda m: m.stack.append(m.number(BYTE)),
    b"M": lambda m: m.stack.append(m.number(SHORT)),
    b"\x8a": Machine.long,
    b"G": lambda m: m.stack.append(m.number(REAL)),
    b"\x8c": lambda m: m.text(m.number(BYTE)),
    b"X": lambda m: m.text(m.number(LONG)),
    b"\x8d": lambda m: m.text(m.number(QUAD)),
    b"C": lambda m: m.raw(m.number(BYTE)),
    b"B": lambda m: m.raw(m.number(LONG)),
    b"\x8e": lambda m: m.raw(m.number(QUAD)),
    b"\x96": lambda m: m.raw(m.number(QUAD)),
    b"]": lambda m: m.stack.append([]),
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.since_mark()),
    b")": lambda m: m.stack.append(()),
    b"\x85": lambda m: m.stack.append(tuple(m.popped(1))),
    b"\x86": lambda m: m.stack.append(tuple(m.popped(2))),
    b"\x87": lambda m: m.stack.append(tuple(m.popped(3))),
    b"t": lambda m: m.stack.append(tuple(m.since_mark())),
    b"}": lambda m: m.stack.append({}),
    b"s": lambda m: m.set_items(m.popped(2)),
    b"u": lambda m: m.set_items(m.since_mark()),
    b"q": lambda m: m.remember(m.number(BYTE)),
    b"r": lambda m: m.remember(m.number(LONG)),
    b"\x94": lambda m: m.remember(len(m.memo)),
    b"h": lambda m: m.recall(m.number(BYTE)),
    b"j": lambda m: m.recall(m.number(LONG)),
    b"c": lambda m: m.named(m.line(), m.line()),
    b"\x93": lambda m: m.named(*m.popped(2)),
    b"R": Machine.reduce,
    b"b": Machine.build,
}
