"""A running average of a model's weights, which often does better than the weights that it follows.

    average = Average(model, 0.999)
    average.update(model)                   # after each step
    with average.inside(model): ...         # the model has the averaged weights, and afterwards its own again
    average.state_dict(), load_state_dict(state)

Of the model's state only what has a floating point is averaged; a counter or a table of indices is what the model's is.
No rank needs another one's: equal weights have equal averages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from signstream.training.fits import check_tensors


class Average:
    """`decay`: what is left of the average after a step; of the first n steps less is, (1 + n) / (10 + n), so that a
    short run's average does not hang on the weights that it began with."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.values = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        left = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.values[name].lerp_(value, 1 - left)
            else:
                self.values[name].copy_(value)

    @contextmanager
    def inside(self, model: nn.Module) -> Iterator[None]:
        own = {name: value.clone() for name, value in model.state_dict().items()}
        put(model, self.values)
        try:
            yield
        finally:
            put(model, own)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "values": dict(self.values)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Out of a checkpoint, which may be anybody's."""
        check_tensors(state.get("values"), self.values, "average")
        for name, value in self.values.items():
            value.copy_(state["values"][name])
        self.steps = int(state["steps"])


@torch.no_grad()
def put(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Values into the model's own tensors, which stay those that the optimiser moves."""
    for name, value in model.state_dict().items():
        value.copy_(values[name])
