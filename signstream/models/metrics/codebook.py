"""How well the codebooks are used, counted over a whole split: a batch holds fewer chunks than a codebook has codes, so its own perplexity
says nothing.

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
        self, parts: Sequence[str], levels: Sequence[int], size: int, device: torch.device | str = "cpu"
    ) -> None:
        self.parts, self.levels, self.size = tuple(parts), tuple(levels), size
        self.counts = torch.zeros(len(parts), max(levels), size, dtype=torch.int64, device=device)

    def add(self, codes: Tensor, valid: Tensor | None = None) -> None:
        """codes [N, P, Q]; valid [N, P] bool: which chunks show anything of the part (all by default)."""
        sent = codes >= 0 if valid is None else (codes >= 0) & valid[..., None]
        codebook = torch.arange(self.counts.shape[:2].numel(), device=codes.device).view(
            self.counts.shape[:2]
        )  # [P, Q]
        chosen = codes[sent]
        if bool((chosen >= self.size).any()):
            raise UserError(
                f"a code is {int(chosen.max())}: a codebook of {self.size} has codes from 0 to {self.size - 1}"
            )
        index = (codebook * self.size).expand_as(codes)[sent] + chosen
        counted = torch.bincount(index, minlength=self.counts.numel())
        self.counts += counted.view(self.counts.shape).to(self.counts.device)

    def state(self) -> Tensor:
        return self.counts.flatten().double()

    def load_state(self, state: Tensor) -> None:
        self.counts.copy_(state.round().view(self.counts.shape))

    def merge(self, other: CodebookUse) -> None:
        self.counts += other.counts.to(self.counts.device)

    def places(self) -> list[tuple[int, int]]:
        """Every part and each of its levels, as indices of `counts`."""
        return [(p, level) for p, depth in enumerate(self.levels) for level in range(depth)]

    def result(self) -> dict[str, float]:
        levels = self._levels()
        named = {f"{part}/{level}": numbers for (part, level), numbers in levels.items()}
        if (worst := _worst(levels)) is not None:
            named["worst"] = levels[worst]
        return {f"codes/{level}/{name}": value for level, numbers in named.items() for name, value in numbers.items()}

    def worst(self) -> tuple[str, int] | None:
        """The part and level with the least entropy; none if nothing was counted."""
        return _worst(self._levels())

    def collapsed(self, used: float, entropy: float) -> list[tuple[str, int]]:
        """Levels that use less than the share `used` of their codes or have less than `entropy`, both measured against the most that
        so few chunks could show: 50 chunks cannot use more than 50 of 1024 codes."""
        out = []
        for level, numbers in self._levels().items():
            most = min(self.size, numbers["count"])
            if numbers["used"] * self.size < used * most or numbers["entropy"] * math.log(
                self.size
            ) < entropy * math.log(most):
                out.append(level)
        return out

    def _levels(self) -> dict[tuple[str, int], dict[str, float]]:
        counts = self.counts.cpu()
        return {(self.parts[p], level): _use(counts[p, level]) for p, level in self.places() if counts[p, level].any()}


def _worst(levels: dict[tuple[str, int], dict[str, float]]) -> tuple[str, int] | None:
    return min(levels, key=lambda level: levels[level]["entropy"], default=None)


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
