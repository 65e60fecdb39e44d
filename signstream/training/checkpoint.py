"""Checkpoints that are either whole or not there.

    save({"step": 120, "model": model.state_dict(), ...}, path)
    state = load(path)

A checkpoint is {"format": 2, "step": int, ...}, tensors and plain values. It is written under another name, synced and
renamed, so a stop at any moment leaves the old one or the new one; it is read without running code, and only if every
byte is as it was written: it ends with its digest (io/sealed.py). What is in it is known from its headers before
anything is allocated (headers.py).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar, cast, overload

import torch
from torch import Tensor

from signstream.config import Base, from_dict, to_dict
from signstream.errors import UserError, first_line
from signstream.io.sealed import Sealer, digest_of, read_seal
from signstream.io.whole import write_whole
from signstream.training.headers import DTYPES, MOST_VALUES, Foreign, read_headers

FORMAT = 2
C = TypeVar("C", bound=Base)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def save(state: Mapping[str, Any], path: Path) -> None:
    """state: "step" and whatever else the run is, in tensors and plain values."""
    assert type(state.get("step")) is int, "a checkpoint needs its step"
    whole = {"format": FORMAT, **state}
    values = list(_values(whole, "state"))
    odd = next((f"{where} is a {odd}" for where, value in values if (odd := _odd(value))), None)
    assert odd is None, f"{odd}: weights_only=True would not read it back; save tensors and plain values"
    assert len(values) <= MOST_VALUES, f"{len(values)} values are too many to read back: keep them in tensors"
    sealers: list[Sealer] = []

    def write(file: IO[bytes]) -> None:
        sealers.append(Sealer(file))
        torch.save(whole, cast(IO[bytes], sealers[0]))
        sealers[0].finish()

    try:
        write_whole(path, write)
    except (OSError, RuntimeError) as error:  # torch's archive ends in a RuntimeError of its own when a write fails
        fault = next((sealer.fault for sealer in sealers if sealer.fault), error)
        needed = sum(value.numel() * value.element_size() for _, value in values if isinstance(value, Tensor))
        raise UserError(f"cannot write the checkpoint {path}: {_system_says(fault, path, needed)}") from None


def _system_says(fault: Exception, path: Path, needed: int) -> str:
    """In the system's own words; if there was no room, with how much is needed."""
    if not isinstance(fault, OSError) or fault.errno is None:
        return first_line(fault)
    text = os.strerror(fault.errno)
    if fault.errno not in NO_ROOM:
        return text
    free = shutil.disk_usage(path.parent).free
    return f"{text}: it needs {needed:,} bytes and a little more, and the disk has {free:,} free"


def _values(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Every value of a tree, with its path."""
    yield where, value
    if type(value) in (dict, OrderedDict):
        for key, inner in value.items():
            yield from _values(inner, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for i, inner in enumerate(value):
            yield from _values(inner, f"{where}[{i}]")


def _odd(value: Any) -> str | None:
    """What a value is, if it is neither plain nor a tensor with bytes of its own."""
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.dtype not in DTYPES:
            return f"tensor of {value.dtype}, {value.layout}"
        repeats = value.numel() * value.element_size() > value.untyped_storage().nbytes()
        return "tensor that repeats its numbers: clone it" if repeats else None
    if value is None or type(value) in (bool, int, float, str, dict, OrderedDict, list, tuple):
        return None
    return f"{type(value).__module__}.{type(value).__name__}"


def load(path: str | Path) -> dict[str, Any]:
    """A whole checkpoint, on the CPU. Anything else is a UserError that says what the file is instead."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    with path.open("rb") as file:  # one file to the end, though another run may put a new one under its name
        _check(file, path)
        file.seek(0)
        try:
            with warnings.catch_warnings():
                # torch 2.1 warns of what it does itself
                warnings.filterwarnings("ignore", "TypedStorage is deprecated")
                state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # the bytes are somebody's, so reading them may fail in any way
            raise UserError(f"{path} is no checkpoint: torch cannot read it ({type(error).__name__})") from None
    return _from_format_1(state) if state["format"] == 1 else state


def _check(file: IO[bytes], path: Path) -> None:
    """That the file is whole and a checkpoint of ours, from its digest and its headers."""
    seal = read_seal(file)
    if seal is not None and seal != digest_of(file):
        raise UserError(f"{path} is no whole checkpoint: its bytes are not those that were written")
    try:
        tree = read_headers(file, checked=seal is not None)
    except Foreign as fault:
        raise UserError(f"{path} is no {'' if fault.whole else 'whole '}checkpoint: {fault}") from None
    if not isinstance(tree, dict) or "format" not in tree:
        raise UserError(f'{path} is no checkpoint of this program: it has no "format"')
    if type(tree["format"]) is not int or tree["format"] not in (1, FORMAT):
        raise UserError(
            f"{path} has checkpoint format {repr(tree['format'])[:80]}, this version reads {FORMAT}: "
            "use the version that wrote it"
        )
    if type(tree.get("step")) is not int:
        raise UserError(f'{path} is no checkpoint of this program: it has no "step"')
    if tree["format"] == FORMAT and seal is None:
        raise UserError(f"{path} is no whole checkpoint: it does not end with the digest of its bytes")


def _from_format_1(state: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer's constants lay beside the loop's own values then."""
    moved = {"space", "budget", "recent", "spikes"}
    optimizer = state.get("optimizer")
    groups = optimizer.get("param_groups") if isinstance(optimizer, dict) else None
    for group in groups if isinstance(groups, list) else ():
        if isinstance(group, dict):
            group["share"] = 1.0
    return {
        **{key: value for key, value in state.items() if key not in moved},
        "format": FORMAT,
        "waited": 0,
        "task": {"space": state.get("space"), "budget": state.get("budget")},
        "watch": {"recent": state.get("recent"), "spikes": state.get("spikes")},
        "terms": state.get("terms", []),
    }


@overload
def config_of(state: Mapping[str, Any]) -> Any: ...
@overload
def config_of(state: Mapping[str, Any], kind: type[C]) -> C: ...
def config_of(state: Mapping[str, Any], kind: type[Base] = Base) -> Any:
    """The config of the run that a checkpoint is of."""
    if not isinstance(state.get("config"), dict):
        raise UserError('the checkpoint is of another program: it has no "config"')
    return from_dict(state["config"], kind=kind)


def check_same(
    config: Base, saved: Base, *, free: Sequence[str], why: str, sections: Sequence[str] = ("data", "model")
) -> None:
    """Model and data are the checkpoint's, but for the data's keys that are `free`; the first difference is an error
    with both values."""
    given, kept = to_dict(config), to_dict(saved)
    for tree in (given, kept):
        tree["data"] = {key: value for key, value in tree.get("data", {}).items() if key not in free}
    for section in sections:
        for difference in differences(given.get(section, {}), kept.get(section, {}), section):
            raise UserError(f"{difference}: {why}; leave the option out, or begin a new run")


def differences(given: dict[str, Any], kept: dict[str, Any], path: str) -> Iterator[str]:
    """A line for each value that is not the checkpoint's."""
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(kept.get(key), dict):
            yield from differences(value, kept[key], f"{path}.{key}")
        elif value != kept.get(key):
            yield f"{path}.{key} is {value} and the checkpoint's is {kept.get(key)}"


def digest(state_dict: Mapping[str, Tensor]) -> str:
    """16 hexadecimal digits that name these weights: names, types, shapes and bytes, in whatever order they come."""
    sha = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach().cpu().contiguous()
        sha.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]
