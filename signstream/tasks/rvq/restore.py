"""A tokenizer out of a checkpoint: its model and its constants, or a line that says why there is none.

    restore(config, state) -> Restored: skeleton, model (weights loaded, on the CPU), space, budget

A checkpoint may be anybody's. Its config is believed as far as its weights bear it out: a model that would be larger
than they are is refused before it is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from signstream.config import Config
from signstream.data.datasets import skeleton_of
from signstream.errors import UserError
from signstream.models.rvq.budget import Budget
from signstream.models.rvq.rvq_model import RVQModel
from signstream.skeleton import Skeleton
from signstream.space import SigningSpace
from signstream.tasks.rvq.build import build_model
from signstream.training.bounds import bounded, take_weights, weights_of

LESSON = "lesson."  # what of a checkpoint's weights is for training alone


class Restored(NamedTuple):
    skeleton: Skeleton
    model: RVQModel
    space: SigningSpace
    budget: Budget | None


def restore(config: Config, state: Mapping[str, Any]) -> Restored:
    weights = {name: value for name, value in weights_of(state).items() if not name.startswith(LESSON)}
    with bounded(weights, config.data.num_joints):
        skeleton = skeleton_of(config.data)
        model = build_model(config, skeleton)
    take_weights(model, weights)
    space, budget = constants_of(state.get("task"), skeleton)
    return Restored(skeleton, model, space, budget)


def constants_of(state: Any, skeleton: Skeleton) -> tuple[SigningSpace, Budget | None]:
    """What the task keeps beside its weights."""
    if not isinstance(state, dict) or "space" not in state or "budget" not in state:
        raise UserError("the checkpoint is of another program: it has no signing space and budget")
    space, budget, parts = state["space"], state["budget"], [part.name for part in skeleton.parts]
    shapes = {"shift": (len(parts), 2), "scale": (len(parts),), "attach": (len(parts), 2)}
    if not isinstance(space, dict) or space.get("parts") != parts:
        raise UserError("the checkpoint's signing space is not of the config's parts")
    if space.get("shown") is not None:
        shapes["shown"] = (len(parts), skeleton.num_joints)
    for name, shape in shapes.items():
        if not _is_numbers(space.get(name), shape) or not bool(torch.isfinite(space[name]).all()):
            raise UserError(f"the checkpoint's signing space is odd: {name} is no {list(shape)} of numbers")
    if not bool((space["scale"] > 0).all()):
        raise UserError("the checkpoint's signing space is odd: scale is not above 0")
    if budget is not None:
        _hold_budget(budget)
    return SigningSpace.from_state(space), Budget.from_state(budget) if budget else None


def _is_numbers(value: Any, shape: Sequence[int]) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and tuple(value.shape) == tuple(shape)


def _hold_budget(budget: Any) -> None:
    """Rates rise, prices belong to them; a price may be infinite."""
    rates: Any
    prices: Any
    rates, prices = (budget.get(name) if isinstance(budget, dict) else None for name in ("rates", "prices"))
    lists = all(isinstance(each, Tensor) and each.is_floating_point() and each.dim() == 1 for each in (rates, prices))
    if not lists or len(rates) != len(prices):
        raise UserError("the checkpoint's budget is odd: rates [R] and as many prices are expected")
    if bool((rates.diff() < 0).any() or rates.isnan().any() or prices.isnan().any()):
        raise UserError("the checkpoint's budget is odd: its rates do not rise, or are no numbers")
