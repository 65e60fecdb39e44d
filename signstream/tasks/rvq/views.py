"""Between chunks and the model: ChunkBatch -> the model's views in signing space, and the model's views -> unit
lengths.

views = Views(skeleton, space)
inputs, targets = views.of(batch)   P tensors [N, L, J, 3]: x, y in signing space, the score that the encoder may see;
                                    P Targets: what the decoder is asked for
views.restore(recon)                {part: [N, L, J, 2]} in unit lengths from the part's centre
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from signstream.data.collate import ChunkBatch
from signstream.skeleton import Skeleton
from signstream.space import SigningSpace


class Target(NamedTuple):
    xy: Tensor  # [N, L, J, 2] signing space, 0 where missing
    weight: Tensor  # [N, L, J]


class Views:
    def __init__(self, skeleton: Skeleton, space: SigningSpace) -> None:
        self.skeleton = skeleton
        self.space = space

    def of(self, batch: ChunkBatch) -> tuple[list[Tensor], list[Target]]:
        """What the encoder sees, P x [N, L, J, 3], and what the decoder is asked for."""
        inputs, targets = [], []
        for i, part in enumerate(self.skeleton.parts):
            view = batch.local(part)
            xy = self.space.normalise(view.xy, i, view.weight > 0)
            inputs.append(torch.cat((xy, view.seen[..., None]), -1))
            targets.append(Target(xy, view.weight))
        return inputs, targets

    def restore(self, recon: Sequence[Tensor]) -> dict[str, Tensor]:
        return {
            part.name: self.space.restore(view, i) for i, (part, view) in enumerate(zip(self.skeleton.parts, recon))
        }
