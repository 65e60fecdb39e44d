"""Chunks to latents, all parts in one pass.

    P parts   N chunks   L frames   J joints of a part   T tokens of a chunk   W chunks of a window
    D width of the network   Z width of a latent

    views: P tensors [N, L, J, 3]   x, y minus the mean pose, 0 where missing; score less 1, so -1 where missing
    -> latents [P, N, Z]

N is a multiple of W: W chunks that follow one another are seen together, and each gets its own latent.
Another architecture is another module with this interface (models/stgcn.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from signstream.models.rvq.same_bits import RowLinear
from signstream.models.rvq.sizes import Sizes, joints_of
from signstream.models.rvq.trunk import Trunk, TypeEmbedding, tokens_of


class Encoder(nn.Module):
    small = ("pool",)
    embeddings = ("frame",)

    def __init__(self, sizes: Sizes, arch: str, pool: str) -> None:
        super().__init__()
        frames, width = sizes.frames, sizes.width
        joints = joints_of(sizes.shapes)
        self.shapes = tuple(sizes.shapes)
        self.window = sizes.window
        self.tokens = tokens_of(arch, frames)
        self.pool_kind = pool
        per_token = frames // self.tokens
        self.inputs = nn.ModuleList(nn.Linear(per_token * count * 3, width) for count in joints)
        # past the trunk; begins as a PCA
        self.linear = nn.ModuleList(RowLinear(frames * count * 2, sizes.latent) for count in joints)
        self.part = TypeEmbedding(len(self.shapes), sizes.type_width, width)
        self.frame = nn.Parameter(torch.zeros(sizes.window * self.tokens, width))
        self.trunk = Trunk(arch, sizes.layers, width)
        self.query = nn.Parameter(torch.zeros(width)) if pool == "attention" else None
        self.no_decay = ("frame",) if self.query is None else ("frame", "query")
        self.pool = RowLinear((self.tokens if pool == "flatten" else 1) * width, sizes.latent)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        parts, chunks = len(views), views[0].shape[0]
        rows, width = self.frame.shape
        tokens = [self.inputs[s.projection](self.as_tokens(v)) for s, v in zip(self.shapes, views)]  # P x [N, T, D]
        x = torch.stack(tokens).view(parts, chunks // self.window, rows, width)  # [P, N / W, W * T, D]
        x = x + self.part() + self.frame
        x = self.trunk(x.flatten(0, 1))  # [P * N / W, W * T, D]
        x = self._pooled(x.reshape(parts * chunks, self.tokens, width))  # [P * N, T * D or D]
        latents = self.pool(x).unflatten(0, (parts, chunks))  # [P, N, Z]
        past = [self.linear[s.projection](v[..., :2].flatten(1)) for s, v in zip(self.shapes, views)]  # P x [N, Z]
        return latents + torch.stack(past)

    def as_tokens(self, view: Tensor) -> Tensor:
        """[N, L, J, 3] -> [N, T, L / T * J * 3]; sizes are said in full, since a batch may have no chunk."""
        chunks, frames, joints, channels = view.shape
        return view.reshape(chunks, self.tokens, frames // self.tokens * joints * channels)

    def _pooled(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T * D] or [B, D]"""
        if self.query is not None:
            share = (x @ self.query / x.shape[-1] ** 0.5).softmax(1)  # [B, T]
            return (x * share[..., None]).sum(1)
        return x.flatten(1) if self.pool_kind == "flatten" else x.mean(1)
