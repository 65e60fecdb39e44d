"""Linear layers that train by the faster of torch's two libraries for products in float32.

    at_full_width(network)      from here on its layers do; weights and names stay, and so does every bit of evaluation

torch.nn.Linear asks MKL, which on an AMD processor takes half of AVX-512's width. oneDNN, which torch brings too, takes
all of it, and the larger the product, the less the way there and back matters. Small products stay where they are, and
on every other processor all of them do.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from signstream.space import recorded

LEAST = 1 << 26  # multiplications of a product that is worth the way
CPUS = Path("/proc/cpuinfo")


class WideLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        """[.., F] -> [.., F']"""
        large = x.numel() * self.out_features >= max(LEAST, 1)
        if not (self.training and large and x.dtype == torch.float32 and half_width()) or x.is_cuda or recorded():
            return super().forward(x)
        if autocasts():
            return super().forward(x)
        rows = _Wide.apply(x.reshape(-1, x.shape[-1]), self.weight, self.bias)
        return rows.view(*x.shape[:-1], self.out_features)


def autocasts() -> bool:
    """Whether a CPU's products are made in another type just now."""
    try:
        return torch.is_autocast_enabled("cpu")
    except TypeError:  # before torch 2.4
        return torch.is_autocast_cpu_enabled()


class _Wide(Function):
    """Keeps what came in, which others keep as well, and not oneDNN's copy of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        return (
            _product(grad, weight.T) if to_x else None,
            _product(grad.T, x.T) if to_weight else None,
            grad.sum(0) if to_bias else None,
        )


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """[N, F] and [F', F] -> [N, F']"""
    return F.linear(rows.contiguous().to_mkldnn(), weight.contiguous(), bias).to_dense()


@cache
def half_width() -> bool:
    """Whether MKL takes half of what the processor has."""
    if not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    return CPUS.exists() and "AuthenticAMD" in CPUS.read_text(encoding="utf-8")


def at_full_width(network: nn.Module) -> None:
    """Those of its layers that are torch's own."""
    if half_width():
        for layer in network.modules():
            if type(layer) is nn.Linear:
                layer.__class__ = WideLinear
