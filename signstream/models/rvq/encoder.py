"""Chunks to latents, all parts in one pass.

    P parts   N chunks   L frames   J joints of a part   T tokens of a chunk   D width   Z width of a latent   W chunks of a window

    views: P tensors [N, L, J, 3] (x, y minus the mean pose, 0 where missing; score less 1, so -1 where missing)  ->  latents [P, N, Z]

N is a multiple of W: W chunks that follow one another are seen together, and each gets its own latent.
Another architecture is another module with this interface (models/stgcn.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from signstream.models.rvq.trunk import Trunk, product, tokens_of


class PartShape(NamedTuple):
    """What the model knows of a part."""

    joints: int
    projection: int  # parts with the same number share their first and last layer
    flip: bool = False  # x is negated on the way in and out: a left hand seen as a right one


class TypeEmbedding(nn.Module):
    """A vector for each part, added to its tokens; narrow, then widened, so that parts resemble each other where they can."""

    no_decay = ("narrow",)

    def __init__(self, parts: int, narrow: int, width: int) -> None:
        super().__init__()
        self.narrow, self.widen = nn.Parameter(torch.zeros(parts, narrow)), nn.Linear(narrow, width, bias=False)

    def forward(self) -> Tensor:
        return self.widen(self.narrow)[:, None, None]  # [P, 1, 1, D]


class Encoder(nn.Module):
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
        self.shapes, self.window, self.pool_kind, self.tokens = tuple(shapes), window, pool, tokens_of(arch, frames)
        joints = {shape.projection: shape.joints for shape in shapes}
        per_token = frames // self.tokens
        self.inputs = nn.ModuleList(nn.Linear(per_token * joints[i] * 3, width) for i in sorted(joints))
        self.linear = nn.ModuleList(
            nn.Linear(frames * joints[i] * 2, latent) for i in sorted(joints)
        )  # past the trunk; begins as a PCA
        self.part, self.frame = (
            TypeEmbedding(len(shapes), type_width, width),
            nn.Parameter(torch.zeros(window * self.tokens, width)),
        )
        self.trunk = Trunk(arch, layers, width)
        self.query = nn.Parameter(torch.zeros(width)) if pool == "attention" else None
        self.no_decay = ("frame", "query") if pool == "attention" else ("frame",)
        self.pool = nn.Linear((self.tokens if pool == "flatten" else 1) * width, latent)

    def forward(self, views: Sequence[Tensor], least: int = 0) -> Tensor:
        """`least`: rows at least in the products that have a row a chunk."""
        parts, chunks = len(views), views[0].shape[0]
        tokens = [self.inputs[s.projection](self._tokens(v)) for s, v in zip(self.shapes, views)]  # P x [N, T, D]
        x = (
            torch.stack(tokens).view(parts, chunks // self.window, *self.frame.shape) + self.part() + self.frame
        )  # [P, N / W, W * T, D]
        x = self.trunk(x.flatten(0, 1)).reshape(parts * chunks, self.tokens, self.frame.shape[1])  # [P * N, T, D]
        latents = product(self.pool, self._pooled(x), least).unflatten(0, (parts, chunks))
        past = [
            product(self.linear[s.projection], v[..., :2].flatten(1), least) for s, v in zip(self.shapes, views)
        ]  # P x [N, Z]
        return latents + torch.stack(past)

    def _tokens(self, view: Tensor) -> Tensor:
        """[N, L, J, 3] -> [N, T, L / T * J * 3]; sizes are said in full, since a batch may have no chunk."""
        chunks, frames, joints, channels = view.shape
        return view.reshape(chunks, self.tokens, frames // self.tokens * joints * channels)

    def _pooled(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T * D] or [B, D]"""
        if self.pool_kind == "flatten":
            return x.flatten(1)
        if self.pool_kind == "mean":
            return x.mean(1)
        share = (x @ self.query / x.shape[-1] ** 0.5).softmax(1)  # [B, T]
        return (x * share[..., None]).sum(1)
