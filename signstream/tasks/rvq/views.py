"""Between chunks and the model: ChunkBatch -> the model's views in signing space, and the model's views -> unit lengths.

views = Views(skeleton, space, config)
views.of(batch)        P tensors [N, L, J, 3]: x and y in signing space, the score that the encoder may see
views.targets(batch)   P Targets: what the decoder is asked for
views.restore(recon)   {part: [N, L, J, 2]} in unit lengths from the part's centre
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from signstream.config import Config
from signstream.data.collate import ChunkBatch
from signstream.errors import UserError
from signstream.models.rvq.encoder import PartShape
from signstream.models.rvq.rvq_model import RVQModel
from signstream.models.stgcn import graph_of
from signstream.skeleton import Part, Skeleton
from signstream.space import SigningSpace


class Target(NamedTuple):
    xy: Tensor  # [N, L, J, 2] signing space, 0 where missing
    weight: Tensor  # [N, L, J]


class Views:
    def __init__(self, skeleton: Skeleton, space: SigningSpace) -> None:
        self.skeleton, self.space = skeleton, space

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


def part_shapes(skeleton: Skeleton, share_hands: bool) -> list[PartShape]:
    """What the model has to know of the parts; a part that is another one's mirror image, joint by joint, may share its projection."""
    shapes: list[PartShape] = []
    projections: dict[str, int] = {}
    for part in skeleton.parts:
        partner = _mirror_image(part, skeleton) if share_hands else None
        left = partner is not None and part.start < partner.start
        number = projections.setdefault(partner.name if left else part.name, len(projections))
        shapes.append(PartShape(len(part), number, flip=left))
    return shapes


def part_graph(part: Part) -> Tensor:
    """A part's bones, and what links them, as models/stgcn.py has a graph."""
    edges = [(a - part.start, b - part.start) for a, b in (*part.bones, *part.links)]
    return graph_of(len(part), edges, part.centre - part.start if part.start <= part.centre < part.stop else 0)


def _mirror_image(part: Part, skeleton: Skeleton) -> Part | None:
    if skeleton.flip is None:
        return None
    images = tuple(skeleton.flip[part.start : part.stop])
    return next((o for o in skeleton.parts if o is not part and images == tuple(range(o.start, o.stop))), None)


def levels_of(skeleton: Skeleton, levels: int | dict[str, int]) -> list[int]:
    if isinstance(levels, int):
        return [levels] * len(skeleton.parts)
    missing = [part.name for part in skeleton.parts if part.name not in levels]
    if missing or min(levels.values()) < 1:
        raise UserError(
            f"model.rvq.levels is {levels}: a number of levels from 1 is expected for each part"
            + (f"; {', '.join(missing)} has none" if missing else "")
        )
    return [levels[part.name] for part in skeleton.parts]


def build_model(config: Config, skeleton: Skeleton) -> RVQModel:
    shapes = part_shapes(skeleton, config.model.share_hands)
    graphs = [part_graph(part) for part in skeleton.parts]
    return RVQModel(
        shapes,
        levels_of(skeleton, config.model.rvq.levels),
        config.data.chunk_len,
        config.model,
        config.train.seed,
        config.data.window,
        graphs,
    )
