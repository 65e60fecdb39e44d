"""Named sums of any shapes, side by side in one flat float64 tensor: what a metric that batches and ranks add up to
keeps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


class Sums:
    """`state()` is all of them [M], so ranks add theirs up in one all-reduce; `load_state` takes what came out."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], device: torch.device | str = "cpu") -> None:
        self.shapes = dict(shapes)
        self.flat = torch.zeros(sum(map(math.prod, shapes.values())), dtype=torch.float64, device=device)
        self.sums = self._named(self.flat)  # views: adding to them in place adds to the flat tensor

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        pieces = flat.split([math.prod(shape) for shape in self.shapes.values()])
        return {name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces)}

    def count(self, name: str, value: Tensor) -> None:
        self.sums[name] += value.to(self.flat.device)

    def totals(self) -> dict[str, Tensor]:
        """All sums on the CPU, fetched at once."""
        return self._named(self.flat.cpu())

    def state(self) -> Tensor:
        return self.flat.clone()

    def load_state(self, state: Tensor) -> None:
        self.flat.copy_(state)
