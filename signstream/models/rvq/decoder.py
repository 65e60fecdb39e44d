"""Latents to chunks: the encoder's mirror image.

    latents [P, N, Z]  ->  P tensors [N, L, J, 2], x and y minus the mean pose

Letters as in encoder.py. N is a multiple of W, as for the encoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from signstream.models.rvq.same_bits import RowLinear
from signstream.models.rvq.sizes import Sizes, joints_of
from signstream.models.rvq.trunk import Trunk, TypeEmbedding, tokens_of


class Decoder(nn.Module):
    small = ("outputs",)
    embeddings = ("frame",)
    no_decay = ("frame",)

    def __init__(self, sizes: Sizes, arch: str, pool: str) -> None:
        super().__init__()
        frames, width = sizes.frames, sizes.width
        joints = joints_of(sizes.shapes)
        self.shapes = tuple(sizes.shapes)
        self.frames = frames
        self.window = sizes.window
        self.tokens = tokens_of(arch, frames)
        self.spread = self.tokens if pool == "flatten" else 1  # tokens that a latent is unfolded to; one is repeated
        per_token = frames // self.tokens
        self.unpool = RowLinear(sizes.latent, self.spread * width)
        self.part = TypeEmbedding(len(self.shapes), sizes.type_width, width)
        self.frame = nn.Parameter(torch.zeros(sizes.window * self.tokens, width))
        self.trunk = Trunk(arch, sizes.layers, width)
        self.outputs = nn.ModuleList(nn.Linear(width, per_token * count * 2) for count in joints)
        # past the trunk; begins as a PCA's inverse
        self.linear = nn.ModuleList(RowLinear(sizes.latent, frames * count * 2) for count in joints)

    def forward(self, latents: Tensor) -> list[Tensor]:
        parts, chunks, _ = latents.shape
        rows, width = self.frame.shape
        x = self.unpool(latents).unflatten(-1, (self.spread, width))  # [P, N, T or 1, D]
        x = x.expand(-1, -1, self.tokens, -1)  # [P, N, T, D]
        x = x.reshape(parts, chunks // self.window, rows, width)  # [P, N / W, W * T, D]
        x = x + self.part() + self.frame
        x = self.trunk(x.flatten(0, 1))  # [P * N / W, W * T, D]
        x = x.reshape(parts, chunks, self.tokens, width)  # [P, N, T, D]
        views = []
        for shape, tokens, latent in zip(self.shapes, x, latents):
            view = self.outputs[shape.projection](tokens).flatten(1)  # [N, L * J * 2]
            view = view + self.linear[shape.projection](latent)
            views.append(view.view(chunks, self.frames, shape.joints, 2))
        return views
