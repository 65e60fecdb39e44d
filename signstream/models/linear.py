"""Linear layers that train by the faster of torch's two libraries for products in float32.

    at_full_width(network)      from here on its layers do; weights and names stay, and so does every bit of evaluation

torch.nn.Linear asks MKL, which on an AMD processor takes half of AVX-512's width. oneDNN, which torch brings too, takes
all of it: with the way there and back a layer and its gradient take about half as long. Small products stay where they
are, and on every other processor all of them do.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signstream.space import recorded

LEAST = 1 << 24  # multiplications of a product that is worth the way
CPUS = Path("/proc/cpuinfo")


class WideLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        """[.., F] -> [.., F']"""
        if not self.training or x.numel() * self.out_features < LEAST or x.is_cuda or x.dtype != torch.float32:
            return super().forward(x)
        if recorded():
            return super().forward(x)
        rows = F.linear(x.reshape(-1, x.shape[-1]).to_mkldnn(), self.weight, self.bias).to_dense()
        return rows.view(*x.shape[:-1], self.out_features)


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
