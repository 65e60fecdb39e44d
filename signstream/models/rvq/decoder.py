"""Latents to chunks: the encoder's mirror image.

    latents [P, N, Z]  ->  P tensors [N, L, J, 2], x and y minus the mean pose

N is a multiple of W, as for the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from signstream.models.rvq.encoder import PartShape, TypeEmbedding
from signstream.models.rvq.trunk import Trunk, product, tokens_of


class Decoder(nn.Module):
    no_decay = ("frame",)

    def __init__(
        self,
        shapes: Sequence[PartShape],
        frames: int,
        window: int,
        arch: str,
        layers: int,
        width: int,
        latent: int,
        type_width: int,
        pool: str,
    ) -> None:
        super().__init__()
        self.shapes, self.frames, self.window, self.tokens, self.spread = (
            tuple(shapes),
            frames,
            window,
            tokens_of(arch, frames),
            pool == "flatten",
        )
        joints = {shape.projection: shape.joints for shape in shapes}
        per_token = frames // self.tokens
        self.unpool = nn.Linear(latent, (self.tokens if self.spread else 1) * width)
        self.part, self.frame = (
            TypeEmbedding(len(shapes), type_width, width),
            nn.Parameter(torch.zeros(window * self.tokens, width)),
        )
        self.trunk = Trunk(arch, layers, width)
        self.outputs = nn.ModuleList(nn.Linear(width, per_token * joints[i] * 2) for i in sorted(joints))
        self.linear = nn.ModuleList(
            nn.Linear(latent, frames * joints[i] * 2) for i in sorted(joints)
        )  # past the trunk; begins as a PCA's inverse

    def forward(self, latents: Tensor, least: int = 0) -> list[Tensor]:
        """`least` as for the encoder."""
        parts, chunks, _ = latents.shape
        x = product(self.unpool, latents, least).unflatten(
            -1, (self.tokens if self.spread else 1, self.frame.shape[1])
        )  # [P, N, T or 1, D]
        x = (
            x.expand(-1, -1, self.tokens, -1).reshape(parts, chunks // self.window, *self.frame.shape)
            + self.part()
            + self.frame
        )
        x = self.trunk(x.flatten(0, 1)).reshape(parts, chunks, self.tokens, self.frame.shape[1])  # [P, N, T, D]
        views = []
        for part, shape in enumerate(self.shapes):
            view = self.outputs[shape.projection](x[part]).flatten(1) + product(
                self.linear[shape.projection], latents[part], least
            )
            views.append(view.view(chunks, self.frames, shape.joints, 2))
        return views
