"""A convolution over time of each channel by itself, with the borders of packed clips.

    B clips   S steps   C channels   K taps: the present step and the K - 1 before it (backward: after it)

Written as K products of whole tensors, and its gradient likewise: torch's own convolution wants channels first, and
knows no borders.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class CausalConv(nn.Module):
    """And SiLU of it."""

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(taps, channels))  # the present step last
        self.bias = nn.Parameter(torch.empty(channels))

    def init_weights(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            bound = len(self.weight) ** -0.5
            self.weight.uniform_(-bound, bound, generator=generator)
            self.bias.zero_()

    def forward(self, x: Tensor, *, first: Tensor | None = None, backward: bool = False) -> Tensor:
        """[B, S, C], first [B or 1, S] where a packed clip begins -> [B, S, C]"""
        clips = None if first is None else first.long().cumsum(1)
        return F.silu(_Conv.apply(x, self.weight, self.bias, _Shifts(clips, backward)))

    def step(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C], past [B, K - 1, C] -> [B, C], the next past"""
        seen = torch.cat((past, x[:, None]), 1)  # [B, K, C]
        return F.silu((seen * self.weight).sum(1) + self.bias), seen[:, 1:]


class _Shift(NamedTuple):
    tap: int
    here: slice  # of the steps that read
    there: slice  # of the steps that are read
    same: Tensor | None  # [B or 1, .., 1] whether both are of one clip


class _Shifts(NamedTuple):
    clips: Tensor | None  # [B or 1, S] the number of each step's clip
    backward: bool

    def of(self, taps: int, steps: int) -> Iterator[_Shift]:
        """Each tap but that of the present step."""
        for back in range(1, min(taps, steps)):
            later, earlier = slice(back, None), slice(None, -back)
            here, there = (earlier, later) if self.backward else (later, earlier)
            same = None if self.clips is None else (self.clips[:, later] == self.clips[:, earlier])[..., None]
            yield _Shift(taps - 1 - back, here, there, same)


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, shifts: _Shifts) -> Tensor:
        ctx.shifts = shifts
        ctx.save_for_backward(x, weight)
        y = torch.addcmul(bias, x, weight[-1])
        for tap, here, there, same in shifts.of(len(weight), x.shape[1]):
            seen = x[:, there] if same is None else x[:, there] * same
            y[:, here].addcmul_(seen, weight[tap])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dx, dweight = dy * weight[-1], torch.zeros_like(weight)
        dweight[-1] = (dy * x).sum((0, 1))
        for tap, here, there, same in ctx.shifts.of(len(weight), x.shape[1]):
            back = dy[:, here] if same is None else dy[:, here] * same
            dx[:, there].addcmul_(back, weight[tap])
            dweight[tap] = (back * x[:, there]).sum((0, 1))
        return dx, dweight, dy.sum((0, 1)), None
