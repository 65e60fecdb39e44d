"""Finite scalar quantisation behind ResidualQuantizer's interface: codes without codebooks.

    P parts   N chunks   Q levels   K codes a level   Z width of a latent   d digits of a code

    residual [P, N, Z] --into--> d numbers in (0, 1) --cut into steps--> digits: one of K codes, their steps' product
    digits --out--> [P, N, Z]

Each level quantises what the levels before left over. `into` and `out` are trained by the gradient, straight through
the cut, so nothing can die and `update` has nothing to do. `initialise` sets them to each level's first principal axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from signstream.errors import UserError
from signstream.models.rvq.codebook import levels_sent
from signstream.models.rvq.quantizer import Quantized
from signstream.tokens.codes import prefixes_of

SPREAD = 1.7  # a normal number times this, through a sigmoid, falls about evenly into (0, 1)


def digits_of(codes: int) -> tuple[int, ...]:
    """Steps a digit, fours and one eight or two, whose product is the number of codes."""
    bits = codes.bit_length() - 1
    if codes != 1 << bits:
        raise UserError(f"model.rvq.codebook_size is {codes}: kind fsq needs a power of two, for example {1 << bits}")
    if bits == 1:
        return (2,)
    return (4,) * (bits // 2) if bits % 2 == 0 else (8,) + (4,) * ((bits - 3) // 2)


class FiniteScalarQuantizer(nn.Module):
    no_decay = ("into", "out")

    levels: Tensor  # [P] how many levels each part has
    steps: Tensor  # [d] of each digit
    radix: Tensor  # [d] what a digit counts in the code
    initialised: Tensor  # [] bool

    def __init__(self, levels: Sequence[int], codebook_size: int, dim: int) -> None:
        super().__init__()
        digits = digits_of(codebook_size)
        parts, deepest = len(levels), max(levels)
        radix = [math.prod(digits[:i]) for i in range(len(digits))]
        self.register_buffer("levels", torch.tensor(list(levels)))
        self.register_buffer("steps", torch.tensor(digits, dtype=torch.float32), persistent=False)
        self.register_buffer("radix", torch.tensor(radix), persistent=False)
        self.register_buffer("initialised", torch.zeros((), dtype=torch.bool))
        self.into = nn.Parameter(torch.zeros(parts, deepest, dim, len(digits)))
        self.out = nn.Parameter(torch.zeros(parts, deepest, len(digits), dim))

    @property
    def depth(self) -> int:
        return self.into.shape[1]

    def forward(
        self,
        latents: Tensor,
        valid: Tensor | None = None,
        sent: Tensor | None = None,
        *,
        watched: Tensor | None = None,
        draw: int | None = None,
    ) -> Quantized:
        """As ResidualQuantizer's; there are no statistics and there is no usage loss."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            limit = levels_sent(self.levels, sent)
            total = torch.zeros_like(latents)
            reached = torch.zeros_like(latents)
            commit = latents.new_zeros(latents.shape[:2])
            codes = []
            for level in range(self.depth):
                share = self.share(latents - reached, level)  # [P, N, d]
                digit = self._cut(share)
                chosen = self._vector((self._middle(digit) - share).detach() + share, level)
                reached = reached + chosen
                commit = commit + (latents - reached).square().mean(-1) * (level < self.levels)[:, None]
                total = total + chosen * (level < limit)[..., None]
                codes.append(torch.where(level < limit, self._code(digit), -1))
            return Quantized(total, torch.stack(codes, -1).transpose(0, 1), commit, torch.zeros_like(commit), None)

    def next_draw(self) -> int:
        """As ResidualQuantizer's; nothing is drawn."""
        return 0

    def encode(self, latents: Tensor) -> Tensor:
        """[P, N, Z] -> codes [N, P, Q]"""
        with torch.no_grad():
            return self(latents).codes

    def prefixes(self, latents: Tensor) -> Tensor:
        """[P, N, Z] -> [N, P, Q, Q]: the first 1 .. Q codes, since no other ways are looked for."""
        return prefixes_of(self.encode(latents))

    def decode_codes(self, codes: Tensor) -> Tensor:
        """codes [N, P, Q'], any prefix of the levels, -1 where a level was not sent -> [P, N, Z]"""
        total = self.out.new_zeros(codes.shape[1], codes.shape[0], self.out.shape[-1])
        for level in range(codes.shape[-1]):
            code = codes[..., level].T  # [P, N]
            vector = self._vector(self._middle(self.digits(code.clamp(min=0))), level)
            total = total + vector * (code >= 0)[..., None]
        return total

    def digits(self, code: Tensor) -> Tensor:
        """[..] -> [.., d]"""
        return code[..., None] // self.radix % self.steps.long()

    def share(self, residual: Tensor, level: int) -> Tensor:
        """[P, N, Z] -> [P, N, d], in (0, 1)."""
        return torch.sigmoid(SPREAD * torch.bmm(residual, self.into[:, level]))

    def _cut(self, share: Tensor) -> Tensor:
        return torch.minimum((share * self.steps).floor(), self.steps - 1)

    def _middle(self, digit: Tensor) -> Tensor:
        """A step's middle in (0, 1)."""
        return (digit + 0.5) / self.steps

    def _vector(self, share: Tensor, level: int) -> Tensor:
        """[P, n, d] -> [P, n, Z]; term by term, since a product as thin as this takes another way for every n, and
        other bits."""
        terms = zip((2 * share - 1).unbind(-1), self.out[:, level].unbind(1))
        total = share.new_zeros(())
        for digit, axis in terms:
            total = total + digit[..., None] * axis[:, None]
        return total

    def _code(self, digit: Tensor) -> Tensor:
        return (digit.long() * self.radix).sum(-1)

    def update(
        self,
        statistics: object,
        all_reduce: Callable[[Tensor], object] | None = None,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> int:
        return 0

    @torch.no_grad()
    def initialise(
        self, latents: Tensor, valid: Tensor, batches: float = 1, *, iterations: int = 0, only: int | None = None
    ) -> None:
        """As ResidualQuantizer's; there are no means, so batches and iterations are of no account."""
        residual = latents.float()
        for level in range(self.depth):
            for part in range(len(residual)) if only is None else (only,):
                rows = residual[part][valid[part]]
                if len(rows) > 1:
                    self._fit(rows, part, level)
            residual = residual - self._vector(self._middle(self._cut(self.share(residual, level))), level)
        self.initialised.fill_(True)

    def _fit(self, rows: Tensor, part: int, level: int) -> None:
        """rows [n, Z] of one part, at one level."""
        most = self.into.shape[-1]
        axes = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)[2][:most].T  # [Z, up to d]
        axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
        size = (rows @ axes).square().mean(0).sqrt().clamp(min=1e-6)
        self.into[part, level, :, : axes.shape[1]] = axes / size
        share = self._middle(self._cut(torch.sigmoid(SPREAD * rows @ self.into[part, level])))
        # On the CPU, which alone has a solver for digits that say the same.
        solved = torch.linalg.lstsq((2 * share - 1).cpu(), rows.cpu(), driver="gelsd").solution  # [d, Z]
        self.out[part, level] = solved.to(rows.device)
