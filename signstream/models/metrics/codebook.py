"""How well the codebooks are used, counted over a whole split: a batch holds fewer chunks than a codebook has codes, so
its own perplexity says nothing.

    N chunks   P parts   Q levels   K codes in a codebook

    codes [N, P, Q] (-1: not sent) --add--> counts [P, Q, K] --result--> {"codes/left_hand/0/perplexity": 812.5, ...}

    count        codes counted
    used, dead   share of the codebook's codes that occurred, and that did not
    perplexity   exp of the entropy: K where all codes occur alike, 1 where only one does
    entropy      over log K: 1 and 0 there

`codes/worst/...` repeats the numbers of the level with the least entropy. A level that counted nothing has no key.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from signstream.errors import UserError


class CodebookUse:
    """`parts` names them, `levels` [P] says how many levels each has, `size` is K."""

    def __init__(
        self, parts: Sequence[str], levels: Sequence[int], size: int, *, device: torch.device | str = "cpu"
    ) -> None:
        self.parts = tuple(parts)
        self.levels = tuple(levels)
        self.size = size
        self.counts = torch.zeros(len(parts), max(levels), size, dtype=torch.int64, device=device)

    def add(self, codes: Tensor, valid: Tensor | None = None) -> None:
        """codes [N, P, Q]; valid [N, P] bool: which chunks show anything of the part (all by default)."""
        sent = codes >= 0 if valid is None else (codes >= 0) & valid[..., None]
        parts, depth, _ = self.counts.shape
        chosen = codes[sent]
        if bool((chosen >= self.size).any()):
            codebook = f"a codebook of {self.size} has codes from 0 to {self.size - 1}"
            raise UserError(f"a code is {int(chosen.max())}: {codebook}")
        first = torch.arange(parts * depth, device=codes.device).view(parts, depth) * self.size  # [P, Q]
        index = first.expand_as(codes)[sent] + chosen
        counted = torch.bincount(index, minlength=self.counts.numel())
        self.counts += counted.view(self.counts.shape).to(self.counts.device)

    def state(self) -> Tensor:
        return self.counts.flatten().double()

    def load_state(self, state: Tensor) -> None:
        self.counts.copy_(state.round().view(self.counts.shape))

    def each_level(self) -> list[tuple[int, int]]:
        """Every part and each of its levels, as indices of `counts`."""
        return [(p, level) for p, depth in enumerate(self.levels) for level in range(depth)]

    def result(self) -> dict[str, float]:
        levels = self._levels()
        named = {f"{part}/{level}": numbers for (part, level), numbers in levels.items()}
        if levels:
            named["worst"] = min(levels.values(), key=lambda numbers: numbers["entropy"])
        return {f"codes/{level}/{name}": value for level, numbers in named.items() for name, value in numbers.items()}

    def collapsed(self, used: float, entropy: float) -> list[tuple[str, int]]:
        """Levels that use less than the share `used` of their codes or have less than `entropy`, both measured against
        the most that so few chunks could show: 50 chunks cannot use more than 50 of 1024 codes."""
        out = []
        for level, numbers in self._levels().items():
            most = min(self.size, numbers["count"])
            few = numbers["used"] * self.size < used * most
            if few or numbers["entropy"] * math.log(self.size) < entropy * math.log(most):
                out.append(level)
        return out

    def _levels(self) -> dict[tuple[str, int], dict[str, float]]:
        counts = self.counts.cpu()
        counted = [(p, level) for p, level in self.each_level() if counts[p, level].any()]
        return {(self.parts[p], level): _use(counts[p, level]) for p, level in counted}


def _use(counts: Tensor) -> dict[str, float]:
    """The numbers of one codebook [K]."""
    share = counts.double() / counts.sum()
    entropy = max(0.0, -float(torch.xlogy(share, share).sum()))
    used = float((counts > 0).double().mean())
    return {
        "count": float(counts.sum()),
        "used": used,
        "dead": 1 - used,
        "perplexity": math.exp(entropy),
        "entropy": entropy / math.log(len(counts)),
    }
