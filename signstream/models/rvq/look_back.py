"""What a chunk means, in the light of the chunks before it: the latent of the part that holds all others.

    latents [P, N, Z] of all parts, before [N] how many chunks of the same clip lie directly before each one -> [N, Z]

A third of a second cannot tell a hold from the middle of a movement. It looks `past` chunks back and no further, so a
stream keeps the latents of so many, and gives the bits of the file.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signstream.models.rvq.same_bits import RowLinear


class LookBack(nn.Module):
    small = ("down",)

    def __init__(self, parts: int, latent: int, *, past: int, width: int) -> None:
        super().__init__()
        self.past = past
        self.into = RowLinear(parts * latent, width)
        self.mix = RowLinear((1 + past) * width, 2 * width)  # a chunk, the one before it, the one before that, ...
        self.norm = nn.LayerNorm(2 * width)
        self.up = RowLinear(2 * width, 4 * width)
        self.down = RowLinear(4 * width, 2 * width)
        self.out = RowLinear(2 * width, latent)

    def forward(self, latents: Tensor, before: Tensor) -> Tensor:
        rows = self.into(latents.transpose(0, 1).flatten(1))  # [N, D]
        back = torch.arange(1 + self.past, device=rows.device)
        index = torch.arange(rows.shape[0], device=rows.device)[:, None] - back  # [N, 1 + past]
        there = (back <= before[:, None])[..., None]
        seen = torch.where(there, rows[index.clamp(min=0)], 0.0)  # [N, 1 + past, D]
        x = F.gelu(self.mix(seen.flatten(1)))
        return self.out(x + self.down(F.gelu(self.up(self.norm(x)))))
