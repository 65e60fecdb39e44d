"""How many codes a part gets in a chunk: as many as pay for themselves.

    N chunks   P parts   Q levels

    costs [N, P, Q]          the loss when a part is decoded from its first 1 .. Q codes (Losses.level_costs)
    worth -> [N, P, Q]       what each code takes off the loss: at a price, sending those worth more is the best choice
    Budget.price(rate)       at which `rate` codes a chunk are sent on average, measured on the validation split
    levels_sent -> [N, P]    codes that are worth the price: one at least, none where nothing of the part is visible

A chunk is decided on by itself, so a stream decides as a file does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

POINTS = 256  # of the curve that a checkpoint keeps


def worth(costs: Tensor) -> Tensor:
    """[N, P, Q] -> [N, P, Q]: what each code takes off; one that pays only together with the next ones shares with
    them. The first is priceless."""

    def mean_gain(before: int, after: int) -> Tensor:
        return (costs[..., before] - costs[..., after]) / (after - before)

    def least_gain(code: int, after: int) -> Tensor:
        return torch.stack([mean_gain(before, after) for before in range(code)]).amin(0)

    depth = costs.shape[-1]
    gains = [torch.full_like(costs[..., 0], torch.inf)]
    for code in range(1, depth):
        gains.append(torch.stack([least_gain(code, after) for after in range(code, depth)]).amax(0))
    return torch.stack(gains, -1)


def levels_sent(worth: Tensor, levels: Tensor, visible: Tensor, *, price: float) -> Tensor:
    """[N, P]; levels [P], visible [N, P] whether a chunk shows anything of a part."""
    sent = (worth > price).sum(-1)
    return torch.where(visible, torch.minimum(sent, levels), 0)


@dataclass(frozen=True)
class Budget:
    """The price of a code at each rate in codes a chunk, falling."""

    rates: Tensor  # [R] rising
    prices: Tensor  # [R]

    @classmethod
    def fit(cls, worth: Tensor, levels: Tensor, visible: Tensor) -> Budget:
        """From the validation split's chunks, in any order."""
        chunks, depth = max(len(worth), 1), worth.shape[-1]
        offered = visible[..., None] & (torch.arange(depth, device=worth.device) < levels[:, None])
        firsts = offered[..., 0].sum().item()  # these are sent at any price
        values = worth[..., 1:][offered[..., 1:]].clamp(min=0).sort(descending=True).values.double()
        taken = torch.linspace(0, len(values), POINTS).round().long()
        # to send the first n, anything above the price of the next is sent
        prices = torch.cat((values.new_full((1,), torch.inf), values))[taken]
        if len(values):
            prices[0] = values[0]
        return cls((firsts + taken) / chunks, prices.cpu())

    def price(self, rate: float | str) -> float:
        """What a code costs at a rate; at "full" every code is sent, whatever it is worth."""
        if isinstance(rate, str):
            return -torch.inf
        if not len(self.rates) or rate >= float(self.rates[-1]):
            return 0.0
        above = int(torch.searchsorted(self.rates, torch.tensor(float(rate), dtype=self.rates.dtype), right=True))
        return float(self.prices[max(above - 1, 0)])

    def state_dict(self) -> dict[str, Any]:
        return {"rates": self.rates, "prices": self.prices}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Budget:
        return cls(state["rates"], state["prices"])
