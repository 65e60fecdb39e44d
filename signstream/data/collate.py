"""ClipBatch (whole clips, as the reader hands them over) -> ChunkBatch (chunks, on the device): what a model sees.

Chunks of several clips lie packed one after another: there is no padding, so nothing can depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from signstream import space
from signstream.config import Data
from signstream.data import transforms
from signstream.io.batch import ClipBatch, Movable
from signstream.skeleton import Part, Skeleton


class View(NamedTuple):
    """A part seen from its own centre, in unit lengths."""

    xy: Tensor  # [N, L, J_p, 2]; 0 where missing
    weight: Tensor  # [N, L, J_p]
    seen: Tensor  # [N, L, J_p]


@dataclass(frozen=True)
class ChunkBatch(Movable):
    """N chunks of L frames, packed over clips."""

    xy: Tensor  # [N, L, J, 2] unit lengths from the frame's origin (the nose); 0 where missing
    weight: Tensor  # [N, L, J] score in (0, 1]; 0 where a joint is missing or past the clip's end
    seen: Tensor  # [N, L, J] the weight that the encoder may see: less, where augmentation hides joints
    place: Tensor  # [N, L, 3] origin x, origin y, unit, in pixels
    frames: Tensor  # [N] frames that lie within the clip: L but for a clip's tail
    clip: Tensor  # [N] the clip's index in the cache
    t: Tensor  # [N] the chunk's number in its clip
    skeleton: Skeleton
    centred: bool = True
    of_clips: tuple[int, ...] = ()  # B chunks of each clip of the batch, on the host

    def __len__(self) -> int:
        return len(self.clip)

    def local(self, part: str | Part) -> View:
        part = self.skeleton.part(part) if isinstance(part, str) else part
        view = space.local_view(self.xy, self.weight, part, centred=self.centred)
        return View(view, self.weight[..., part.joints], self.seen[..., part.joints])

    def split(self, values: Tensor) -> dict[int, Tensor]:
        """Values a frame [N, L, ...], put together clip by clip: {clip: [T, ...]}. Chunks must not overlap."""
        inside = torch.arange(values.shape[1], device=values.device) < self.frames[:, None]
        return {
            int(clip): values[self.clip == clip][inside[self.clip == clip]] for clip in self.clip.unique_consecutive()
        }


def make_chunks(batch: ClipBatch, skeleton: Skeleton, data: Data, *, train: bool = False) -> ChunkBatch:
    """On the batch's device; with `train` under the augmentation that the config switches on."""
    rng = np.random.default_rng(batch.seed) if train else None
    plan = transforms.plan_chunks(batch.lengths, data, rng)
    cut = transforms.cut(batch.frames, plan)  # [N, L, 1 + J, 3]
    place, joints = cut[:, :, 0], cut[:, :, 1:]
    if rng is not None and len(plan.clip):
        augment, clips = data.augment, len(batch.lengths)
        joints = transforms.move(joints, plan.clip, clips, augment=augment, skeleton=skeleton, rng=rng)
    seen = weight = joints[..., 2]
    if train and data.augment.dropout_prob:
        generator = torch.Generator().manual_seed(batch.seed)
        seen = transforms.hide_joints(weight, data.augment.dropout_prob, generator)
    index = np.array(batch.index, np.int64)[plan.clip] if len(plan.clip) else plan.clip
    return ChunkBatch(
        xy=joints[..., :2],
        weight=weight,
        seen=seen,
        place=place,
        frames=torch.from_numpy(plan.inside.sum(1)).to(joints.device),
        clip=torch.from_numpy(index).to(joints.device),
        t=torch.from_numpy(plan.t).to(joints.device),
        skeleton=skeleton,
        centred=data.normalize.center_parts,
        of_clips=tuple(np.bincount(plan.clip, minlength=len(batch.lengths)).tolist()),
    )
