"""Checkpoints that are either whole or not there.

    save({"step": 120, "model": model.state_dict(), ...}, path)
    state = load(path)

A checkpoint is {"format": 2, "step": int, ...}, tensors and plain values. It is written under another name, synced and
renamed, so a stop at any moment leaves the old one or the new one; it is read without running code, and only if every
byte is as it was written.
"""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from signstream.config import Base, to_dict
from signstream.errors import UserError
from signstream.io.whole import write_whole

FORMAT = 2


def save(state: Mapping[str, Any], path: Path) -> None:
    """state: "step" and whatever else the run is, in tensors and plain values."""
    assert type(state.get("step")) is int, "a checkpoint needs its step"
    whole = {"format": FORMAT, **state}
    odd = _odd_value(whole, "state")
    assert odd is None, f"{odd}: weights_only=True would not read it back; save tensors and plain values"
    try:
        write_whole(path, lambda file: torch.save(whole, file))
    except (OSError, RuntimeError) as error:  # a full disk is a RuntimeError where torch finishes its archive
        raise UserError(f"cannot write the checkpoint {path}: {_first_line(error)}") from None


def _odd_value(value: Any, where: str) -> str | None:
    """Which value is neither a tensor nor plain, and what it is."""
    if isinstance(value, Tensor) or value is None or type(value) in (bool, int, float, str):
        return None
    if type(value) in (dict, OrderedDict):
        inner = [(item, f"{where}[{key!r}]") for key, item in value.items()]
    elif type(value) in (list, tuple):
        inner = [(item, f"{where}[{i}]") for i, item in enumerate(value)]
    else:
        return f"{where} is a {type(value).__module__}.{type(value).__name__}"
    return next((odd for item, name in inner if (odd := _odd_value(item, name))), None)


def load(path: str | Path) -> dict[str, Any]:
    """A whole checkpoint, on the CPU. Anything else is a UserError that says what the file is instead."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    fault = _archive_fault(path)
    if fault:
        raise UserError(f"{path} is no whole checkpoint: {fault}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "TypedStorage is deprecated")  # torch 2.1 warns of what it does itself
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the bytes are somebody's, so reading them may fail in any way
        raise UserError(f"{path} is no checkpoint: {type(error).__name__}, {_first_line(error)}") from None
    if not isinstance(state, dict) or "format" not in state:
        raise UserError(f'{path} is no checkpoint of this program: it has no "format"')
    if state["format"] not in (1, FORMAT):
        raise UserError(
            f"{path} has checkpoint format {state['format']!r}, this version reads {FORMAT}: "
            "use the version that wrote it"
        )
    if type(state.get("step")) is not int:
        raise UserError(f'{path} is no checkpoint of this program: it has no "step"')
    return _from_format_1(state) if state["format"] == 1 else state


def _from_format_1(state: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer's constants lay beside the loop's own values then."""
    moved = {"space", "budget", "recent", "spikes"}
    for group in state["optimizer"]["param_groups"] if "optimizer" in state else ():
        group["share"] = 1.0
    return {
        **{key: value for key, value in state.items() if key not in moved},
        "format": FORMAT,
        "waited": 0,
        "task": {"space": state.get("space"), "budget": state.get("budget")},
        "watch": {"recent": state.get("recent"), "spikes": state.get("spikes")},
        "terms": state.get("terms", []),
    }


def _archive_fault(path: Path) -> str | None:
    """torch does not look at the archive's checksums, so a damaged weight would pass for a weight."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        return f"it is cut short, damaged or another kind of file ({_first_line(error)})"
    return f"{damaged} in it is damaged" if damaged else None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def check_same(config: Base, saved: Base, *, free: Sequence[str], why: str) -> None:
    """Model and data are the checkpoint's, but for the data's keys that are `free`; the first difference is an error
    with both values."""
    given, kept = to_dict(config), to_dict(saved)
    for tree in (given, kept):
        tree["data"] = {key: value for key, value in tree["data"].items() if key not in free}
    for section in ("data", "model"):
        for difference in _differences(given[section], kept[section], section):
            raise UserError(f"{difference}: {why}; leave the option out, or begin a new run")


def _differences(given: dict[str, Any], kept: dict[str, Any], path: str) -> Iterator[str]:
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(kept.get(key), dict):
            yield from _differences(value, kept[key], f"{path}.{key}")
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
