"""What a chunk means, in the light of the chunks before it: the latent of the part that holds all others.

    latents [P, N, Z] of all parts, before [N] how many chunks of the same clip lie directly before each one -> [N, Z]

A third of a second cannot tell a hold from the middle of a movement. A small memory runs over the `past` chunks before
a chunk and over it, from nothing each time, so a stream keeps the latents of so many and gives the bits of the file.
It is small on purpose: a larger one learns whole sentences by heart, and reads new ones worse (docs/LOG.md).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signstream.models.rvq.same_bits import RowLinear

PART_WIDTH = 64  # of what is taken of a part's latent
WIDTH = 192
MEMORY = 96
HIDDEN_PARTS = 0.1  # of the parts of a clip that are not looked at in training
DROPPED = 0.3  # of what is between the layers, likewise


class Hidden(NamedTuple):
    """What training does not look at; the numbers that are left are the larger for it."""

    parts: Tensor  # [N, P, 1], the same for all chunks of a clip
    rows: Tensor  # [2, N, WIDTH]

    @classmethod
    def drawn(cls, seed: int, parts: int, before: Tensor) -> Hidden:
        """On the host, so that every device draws the same."""
        count, generator = len(before), torch.Generator().manual_seed(seed)
        shown = torch.rand(count, parts, 1, generator=generator) > HIDDEN_PARTS
        kept = (torch.rand(2, count, WIDTH, generator=generator) > DROPPED) / (1 - DROPPED)
        first = torch.arange(count, device=before.device) - before  # the row of each clip's first chunk
        return cls(shown.to(before.device, non_blocking=True)[first], kept.to(before.device, non_blocking=True))


class LookBack(nn.Module):
    small = ("heard", "down")

    def __init__(self, parts: int, latent: int, *, past: int) -> None:
        super().__init__()
        self.past = past
        self.parts = nn.ModuleList(RowLinear(latent, PART_WIDTH) for _ in range(parts))
        self.part_norm = nn.LayerNorm(PART_WIDTH)
        self.into = RowLinear(parts * PART_WIDTH, WIDTH)
        self.into_norm, self.memory_norm, self.norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.now = RowLinear(WIDTH, 4 * MEMORY)
        self.then = RowLinear(MEMORY, 4 * MEMORY, bias=False)
        self.heard = RowLinear(MEMORY, WIDTH)
        self.up = RowLinear(WIDTH, 2 * WIDTH)
        self.down = RowLinear(2 * WIDTH, WIDTH)
        self.out = RowLinear(WIDTH, latent)
        self.last_norm = nn.LayerNorm(latent, elementwise_affine=False)

    def forward(self, latents: Tensor, before: Tensor, *, draw: int | None = None) -> Tensor:
        """`draw`: the seed of what training does not look at; None: all is looked at."""
        hidden = None if draw is None else Hidden.drawn(draw, len(latents), before)
        seen = torch.stack([self.part_norm(part(x)) for part, x in zip(self.parts, latents)], 1)  # [N, P, E]
        if hidden is not None:
            seen = seen * hidden.parts
        x = F.gelu(self.into_norm(self.into(seen.flatten(1))))
        x = x if hidden is None else x * hidden.rows[0]
        heard = self.heard(self.remember(self.memory_norm(x), before))
        x = x + (heard if hidden is None else heard * hidden.rows[1])
        return self.last_norm(self.out(x + self.down(F.gelu(self.up(self.norm(x))))))

    def remember(self, x: Tensor, before: Tensor) -> Tensor:
        """[N, D] -> [N, M], an LSTM's after each chunk."""
        now = self.now(x)
        row = torch.arange(x.shape[0], device=x.device)
        held = told = x.new_zeros(x.shape[0], MEMORY)
        for back in range(self.past, -1, -1):
            there = (before >= back)[:, None]
            gates = now[(row - back).clamp(min=0)] + self.then(told)
            forget, take, show, new = gates.chunk(4, -1)
            held = torch.where(there, (forget + 1).sigmoid() * held + take.sigmoid() * new.tanh(), 0.0)
            told = torch.where(there, show.sigmoid() * held.tanh(), 0.0)
        return told
