"""A model out of a checkpoint that may be anybody's: its config is believed as far as its weights bear it out.

weights = weights_of(state)
with bounded(weights, config.data.num_joints):   # a model that would be larger than they are is refused as it grows
    model = build(config)
take_weights(model, weights)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from signstream.errors import UserError
from signstream.training.fits import check_tensors

FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye})
ALLOWANCE = 1 << 20  # numbers beside the weights: the parts' graphs, say
SPARE = 4  # times the weights, that building may make
A_TENSOR = 256  # numbers, that the smallest counts for


def weights_of(state: Mapping[str, Any]) -> dict[str, Tensor]:
    weights = state.get("model")
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError('the checkpoint is of another program: it has no "model" of tensors')
    return dict(weights)


@contextmanager
def bounded(weights: Mapping[str, Tensor], *counts: int) -> Iterator[None]:
    """While it is entered, no tensor is made that is out of proportion to the weights, nor too many. `counts`: how many
    the config has of what takes no tensor."""
    count = sum(value.numel() for value in weights.values())
    if max(counts, default=0) > ALLOWANCE + count:
        raise UserError(_too_large(count))
    with Bounded(count):
        yield


class Bounded(TorchFunctionMode):
    def __init__(self, weights: int) -> None:
        super().__init__()
        self.weights = weights
        self.left = SPARE * weights + ALLOWANCE

    def __torch_function__(self, func: Any, types: Any, *given: Any) -> Any:
        args, options = given[0], (given[1] if len(given) > 1 else None) or {}
        if func in FACTORIES:
            self.left -= max(_numbers(func, args, options), A_TENSOR)
            if self.left < 0:
                raise UserError(_too_large(self.weights))
        return func(*args, **options)


def _numbers(func: Any, args: Sequence[Any], options: Mapping[str, Any]) -> int:
    """How many a factory is asked for."""
    asked = options.get("size", args)
    sizes = asked[0] if asked and isinstance(asked[0], (tuple, list)) else asked
    count = math.prod(size for size in sizes if isinstance(size, int))
    return count * count if func is torch.eye and len(sizes) == 1 else count


def _too_large(weights: int) -> str:
    return f"the checkpoint is not of its config: that asks for a model far larger than its {weights:,} weights"


def take_weights(model: nn.Module, weights: Mapping[str, Tensor], name: str = "model") -> None:
    check_tensors(weights, model.state_dict(), name)
    for key, value in weights.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(
                f"the checkpoint's weights are not finite ({key}): its run diverged, or it is damaged; "
                "take an earlier checkpoint"
            )
    model.load_state_dict(dict(weights))
