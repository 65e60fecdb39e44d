"""A tokenizer out of a checkpoint: its model and its constants, or a line that says why there is none.

    restore(config, state) -> Restored: skeleton, model (weights loaded, on the CPU), space, budget

A checkpoint may be anybody's. Its config is believed as far as its weights bear it out: a model that would be larger
than they are is refused before it is built.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from signstream.config import Config
from signstream.data.datasets import skeleton_of
from signstream.errors import UserError
from signstream.models.rvq.budget import Budget
from signstream.models.rvq.rvq_model import RVQModel
from signstream.skeleton import Skeleton
from signstream.space import SigningSpace
from signstream.tasks.rvq.build import build_model
from signstream.training.fits import check_tensors

FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye})
ALLOWANCE = 1 << 20  # numbers beside the weights: the parts' graphs, say
SPARE = 4  # times the weights, that building may make
A_TENSOR = 256  # numbers, that the smallest counts for


class Restored(NamedTuple):
    skeleton: Skeleton
    model: RVQModel
    space: SigningSpace
    budget: Budget | None


def restore(config: Config, state: Mapping[str, Any]) -> Restored:
    weights = state.get("model")
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError('the checkpoint is of another program: it has no "model" of tensors')
    count = sum(value.numel() for value in weights.values())
    if config.data.num_joints > ALLOWANCE + count:
        raise UserError(_too_large(count))
    skeleton = skeleton_of(config.data)
    with Bounded(count):
        model = build_model(config, skeleton)
    check_tensors(weights, model.state_dict(), "model")
    _hold_finite(weights)
    model.load_state_dict(dict(weights))
    space, budget = constants_of(state.get("task"), skeleton)
    return Restored(skeleton, model, space, budget)


class Bounded(TorchFunctionMode):
    """While it is entered, no tensor is made that is out of proportion to so many weights, nor too many."""

    def __init__(self, weights: int) -> None:
        super().__init__()
        self.weights = weights
        self.left = SPARE * weights + ALLOWANCE

    def __torch_function__(self, func: Any, types: Any, *given: Any) -> Any:
        args, options = given[0], (given[1] if len(given) > 1 else None) or {}
        if func in FACTORIES:
            self.left -= max(_numbers(args, options), A_TENSOR)
            if self.left < 0:
                raise UserError(_too_large(self.weights))
        return func(*args, **options)


def _numbers(args: Sequence[Any], options: Mapping[str, Any]) -> int:
    """How many a factory is asked for."""
    asked = options.get("size", args)
    sizes = asked[0] if asked and isinstance(asked[0], (tuple, list)) else asked
    return math.prod(size for size in sizes if isinstance(size, int))


def _too_large(weights: int) -> str:
    return f"the checkpoint is not of its config: that asks for a model far larger than its {weights:,} weights"


def _hold_finite(weights: Mapping[str, Tensor]) -> None:
    for name, value in weights.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(
                f"the checkpoint's weights are not finite ({name}): its run diverged, or it is damaged; "
                "take an earlier checkpoint"
            )


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
