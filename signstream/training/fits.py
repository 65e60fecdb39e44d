"""Whether a saved state could be this run's: the same keys, kinds and shapes, before any of it is taken over.

    check_fits(state, loop.state_dict(), shapes)      # of a new loop; shapes: of what its optimiser moves, in its order

What is of another kind is a UserError that names it. What a task keeps, the task itself checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from signstream.errors import UserError

SCALARS = ("step", "epoch", "best", "waited")
TABLES = ("loader", "scaler", "watch", "terms")
NEEDED = (*SCALARS, *TABLES, "task", "window", "model", "optimizer")
FIXED = ("amsgrad", "maximize", "capturable", "differentiable")  # of AdamW, that we never set
WAYS = ("foreach", "fused")  # in which it may work, the device's
MOST = 1 << 63  # of a number that torch is to count with
MOMENTS = ("exp_avg", "exp_avg_sq")
GROUP = ("params", "lr", "weight_decay", "share", "betas", "eps")  # what a group of parameters cannot do without


def check_fits(state: Mapping[str, Any], fresh: Mapping[str, Any], shapes: Sequence[Sequence[int]]) -> None:
    for fault in _faults(state, fresh, shapes):
        raise UserError(f"the checkpoint is not of such a run: {fault}")


def check_tensors(saved: Any, fresh: Mapping[str, Tensor], name: str) -> None:
    """Tensors by name, as a module's state has them."""
    for fault in _of_tensors(saved, fresh, name):
        raise UserError(f"the checkpoint is not of its config: {fault}")


def _faults(state: Mapping[str, Any], fresh: Mapping[str, Any], shapes: Sequence[Sequence[int]]) -> Iterator[str]:
    for key in NEEDED:
        if key not in state:
            yield f'it has no "{key}"'
    for key in (*SCALARS, *TABLES):
        yield from _of_kind(state[key], fresh[key], key)
    if not isinstance(state["task"], dict):
        yield "task is no table"
    if not 0 <= state["step"] < MOST or state["waited"] < 0:
        yield "its step is below 0, or no step at all"
    for name, number in state["loader"].items():
        if type(number) is int and not 0 <= number < MOST:
            yield f"loader.{name} is {number}"
    if state["terms"] == fresh["terms"]:
        yield from _of_kind(state["window"], fresh["window"], "window")
    if not all(type(loss) is float for loss in state["watch"].get("recent", ())):
        yield "watch.recent is not of numbers"
    yield from _of_tensors(state["model"], fresh["model"], "model")
    yield from _of_optimizer(state["optimizer"], fresh["optimizer"], shapes)


def _of_tensors(saved: Any, fresh: Mapping[str, Tensor], name: str) -> Iterator[str]:
    if not isinstance(saved, dict):
        yield f'it has no "{name}"'
        return
    for key in (*(key for key in fresh if key not in saved), *(key for key in saved if key not in fresh)):
        yield f"{name}.{str(key)[:80]} is in one and not in the other"
    for key, tensor in fresh.items():
        yield from _of_kind(saved[key], tensor, f"{name}.{key}")


def _of_kind(saved: Any, fresh: Any, where: str) -> Iterator[str]:
    """A table may have other keys, of an older version, say, and a list that is empty yet may hold anything."""
    if isinstance(fresh, Tensor):
        expected = f"{fresh.dtype} {list(fresh.shape)}"
        if not isinstance(saved, Tensor):
            yield f"{where} is no tensor"
        elif (saved.dtype, saved.shape) != (fresh.dtype, fresh.shape):
            yield f"{where} is {saved.dtype} {list(saved.shape)}, {expected} is expected"
    elif isinstance(fresh, dict):
        if not isinstance(saved, dict):
            yield f"{where} is no table"
            return
        for key in (key for key in fresh if key in saved):
            yield from _of_kind(saved[key], fresh[key], f"{where}.{key}")
    elif isinstance(fresh, (list, tuple)):
        if not isinstance(saved, (list, tuple)):
            yield f"{where} is no list"
        elif fresh and saved and len(fresh) == len(saved):
            for number, (one, other) in enumerate(zip(saved, fresh)):
                yield from _of_kind(one, other, f"{where}[{number}]")
        elif fresh and isinstance(fresh[0], Tensor):
            yield f"{where} has {len(saved)} tensors, {len(fresh)} are expected"
    elif fresh is not None and saved is not None and type(saved) is not type(fresh):
        yield f"{where} is of type {type(saved).__name__}, {type(fresh).__name__} is expected"
    elif saved is None and isinstance(fresh, (int, float)) and not isinstance(fresh, bool):
        yield f"{where} is nothing, {type(fresh).__name__} is expected"


def _of_optimizer(saved: Any, fresh: Mapping[str, Any], shapes: Sequence[Sequence[int]]) -> Iterator[str]:
    if not isinstance(saved, dict) or not isinstance(saved.get("state"), dict):
        yield "its optimizer is another kind's"
        return
    groups = saved.get("param_groups")
    if not isinstance(groups, list) or len(groups) != len(fresh["param_groups"]):
        yield "its optimizer has other groups"
        return
    for number, (group, expected) in enumerate(zip(groups, fresh["param_groups"])):
        where = f"optimizer.param_groups[{number}]"
        yield from _of_kind(group, {key: expected[key] for key in GROUP}, where)
        yield from (f"{where} has no {key}" for key in GROUP if key not in group)
        yield from (f"{where}.{key} is set" for key in FIXED if key in group and group[key] is not expected[key])
        yield from (f"{where}.{key} is odd" for key in WAYS if group.get(key) not in (None, True, False))
        if group["params"] != expected["params"] or len(group["betas"]) != 2:
            yield f"{where} is of other parameters"
    for index, moments in saved["state"].items():
        if type(index) is not int or not 0 <= index < len(shapes) or not isinstance(moments, dict):
            yield f"its optimizer knows a parameter {str(index)[:80]}"
            return
        for name in MOMENTS:
            moment = moments.get(name)
            if not isinstance(moment, Tensor) or tuple(moment.shape) != tuple(shapes[index]):
                yield f"optimizer.state[{index}].{name} is not of its parameter's shape"
        count: Any = moments.get("step")
        number = (isinstance(count, Tensor) and count.shape == ()) or type(count) in (int, float)
        if not number or not count >= 0:
            yield f"optimizer.state[{index}].step is no number of steps"
