"""Between chunks and the model: ChunkBatch -> the model's views in signing space, and the model's views -> unit
lengths.

views = Views(skeleton, space)
inputs, targets = views.of(batch)   P tensors [N, L, J, 3]: x, y in signing space, the score that the encoder may see;
                                    P Targets: what the decoder is asked for
views.restore(recon)                {part: [N, L, J, 2]} in unit lengths from the part's centre
views.put_together(restored, p)     the same, part p drawn from all others
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from signstream.data.collate import ChunkBatch
from signstream.skeleton import Skeleton
from signstream.space import SigningSpace, assemble


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

    def drawn(self, views: dict[str, Tensor], told: int | None) -> dict[str, Tensor]:
        """The views of the parts that draw, without the one that is told."""
        return {part.name: views[part.name] for p, part in enumerate(self.skeleton.parts) if p != told}

    def put_together(self, views: dict[str, Tensor], told: int | None, *, sent: Tensor) -> dict[str, Tensor]:
        """The views, and that of the part which is told as the others draw it. sent [N, P]: which parts draw anything;
        a joint that none of them draws lies at the origin."""
        if told is None:
            return views
        part, others = self.skeleton.parts[told], self.drawn(views, told)
        frames = views[part.name].shape[:2]
        in_frames = {each.name: sent[:, p, None].expand(frames) for p, each in enumerate(self.skeleton.parts)}
        whole = assemble(others, self.skeleton, self.space, sent=in_frames)  # [N, L, J, 3]
        return {**views, part.name: whole[..., part.joints, :2]}
