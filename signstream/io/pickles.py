"""Plain values and numpy arrays out of pickles and object .npy files that may be anything. Nothing in them is run.

    read_pickle(path) -> Pickled          read_object_npy(path) -> Pickled        of the array's one object
    pickled.value                         tables, lists, text, numbers, and for each array an Array: where it lies
    pickled.array(entry) -> ndarray       its numbers, read now

The opcodes of pickle are read here one by one, those that numbers, text, tables and numpy's arrays need and no others;
`pickle` itself is not asked. What a pickle names is looked up in a table of eight names, and nothing is imported or
called. Numbers stay in the file until they are wanted, so a pickle of gigabytes takes the memory of its table. Whatever
is wrong is a UserError whose text is a short reason, without a byte of what is in the file.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from signstream.errors import UserError
from signstream.io.pickle_machine import MOST_VALUES, Array, Machine, Raw, refused
from signstream.io.pose_files import LARGEST, open_clip, read_header

DEEPEST = 16  # tables in tables


@dataclass(frozen=True)
class Pickled:
    """What a pickle holds, its arrays still in the file."""

    path: Path
    value: Any
    within: Path | None
    state: tuple[int, int]  # the file's size and time of modification when its table was read

    def array(self, entry: Array) -> np.ndarray:
        """The numbers, in their own type and shape."""
        if entry.bytes > LARGEST:
            raise UserError(f"too large: {entry.bytes} bytes, {LARGEST} are possible")
        with open_clip(self.path, self.within) as file:
            if _state(file) != self.state:
                raise UserError("it has changed since its table was read")
            file.seek(entry.start)
            content = file.read(entry.bytes)
        if len(content) < entry.bytes:
            raise UserError("truncated")
        return np.frombuffer(content, entry.kind).reshape(entry.shape, order="F" if entry.fortran else "C")


def read_pickle(path: Path, within: Path | None = None) -> Pickled:
    """`within`: the folder that links may not lead out of."""
    with open_clip(path, within) as file:
        return Pickled(path, _settled(Machine(file).run()), within, _state(file))


def read_object_npy(path: Path, within: Path | None = None) -> Pickled:
    """The one object of an .npy file, as np.save(path, table) writes it."""
    with open_clip(path, within) as file:
        header = read_header(file)
        if not header.kind.hasobject or header.shape != ():
            raise UserError(f"an array of shape {list(header.shape)[:8]}: a table is expected, as np.save writes it")
        value = Machine(file).run()
        if not isinstance(value, Array) or value.items is None or value.shape != ():
            raise refused("its header promises an array of one object")
        return Pickled(path, _settled(value.items[0]), within, _state(file))


def _state(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _settled(value: Any) -> Any:
    """The machine's values as plain ones. What stands in several places is counted as often as it does, so that what
    takes no room in the file takes none here."""
    left = [MOST_VALUES]

    def settle(each: Any, depth: int) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise UserError(f"too large: more than {MOST_VALUES} values")
        if depth > DEEPEST:
            raise UserError(f"nested deeper than {DEEPEST} levels")
        if isinstance(each, dict):
            return {key: settle(inner, depth + 1) for key, inner in each.items()}
        if isinstance(each, (list, tuple)):
            return [settle(inner, depth + 1) for inner in each]
        if isinstance(each, Array):
            return _array(each, settle, depth)
        if each is None or isinstance(each, (bool, int, float, str)):
            return each
        raise refused("bytes stand where a value should" if isinstance(each, Raw) else "a value is not finished")

    return settle(value, 0)


def _array(entry: Array, settle: Any, depth: int) -> Any:
    """An array of numbers as it is, of which its bytes are there; one of objects as its object, or a list of them."""
    if not entry.filled:
        raise refused("an array without its numbers")
    if entry.items is None:
        return entry
    if len(entry.items) != math.prod(entry.shape) or len(entry.shape) > 1:
        raise refused("an array of other objects than its shape has")
    items = [settle(each, depth + 1) for each in entry.items]
    return items if entry.shape else items[0]
