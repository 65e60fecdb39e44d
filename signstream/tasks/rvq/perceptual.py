"""A loss on what the eye sees beside where joints are: bones, velocities and accelerations of a part. No network is
trained for it.

    views P x [N, L, J, 2], targets P x Target   ->   totals [P], counts [P]

For each part the Huber loss of three kinds of differences, all within a chunk, over delta as the reconstruction loss
is:

    bones          between the two ends of a bone, in one frame
    velocities     of a joint between neighbouring frames
    accelerations  of a joint's velocity between neighbouring frames

Differences are linear, so the difference of the errors is the error of the difference. One counts where all of its
joints and frames are visible; what missing ones hold changes nothing, and the counts need the targets alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from signstream.config import Config
from signstream.data.collate import ChunkBatch
from signstream.models.rvq.rvq_model import Output
from signstream.skeleton import Skeleton
from signstream.tasks.rvq.views import Target


class Perceptual:
    """A Term (losses.py) for `loss.perceptual_weight`."""

    def __init__(self, config: Config, skeleton: Skeleton) -> None:
        self.delta = config.loss.huber_delta
        bones = [torch.tensor(part.bones, dtype=torch.int64).reshape(-1, 2) for part in skeleton.parts]
        self.bones = [ends - part.start for ends, part in zip(bones, skeleton.parts)]  # P x [E, 2]

    def counts(self, batch: ChunkBatch, targets: Sequence[Target]) -> Tensor:
        return torch.stack([self._count(target, bones) for target, bones in zip(targets, self.bones)])

    def totals(self, output: Output, batch: ChunkBatch, targets: Sequence[Target]) -> Tensor:
        parts = zip(output.views, targets, self.bones)
        return torch.stack([self._total(view, target, bones) for view, target, bones in parts])

    def _count(self, target: Target, bones: Tensor) -> Tensor:
        bone, velocity, acceleration = visible(target.weight > 0, bones)
        return bone.sum() + velocity.sum() + acceleration.sum()

    def _total(self, view: Tensor, target: Target, bones: Tensor) -> Tensor:
        seen = target.weight > 0
        error = torch.where(seen[..., None], view.float() - target.xy, 0.0)
        bone, velocity, acceleration = map(self._huber, differences(error, bones), visible(seen, bones))
        return bone + velocity + acceleration

    def _huber(self, error: Tensor, seen: Tensor) -> Tensor:
        """error [..., 2], seen [...] -> one number"""
        each = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=self.delta).sum(-1) / self.delta
        return torch.where(seen, each, 0.0).sum()


class Differences(NamedTuple):
    """Of joints [N, L, J, ...]."""

    bones: Tensor  # [N, L, E, ...]
    velocities: Tensor  # [N, L - 1, J, ...]
    accelerations: Tensor  # [N, L - 2, J, ...]


def differences(xy: Tensor, bones: Tensor) -> Differences:
    """xy [N, L, J, 2], bones [E, 2]"""
    ends = bones.to(xy.device)
    velocity = xy[:, 1:] - xy[:, :-1]
    return Differences(xy[:, :, ends[:, 1]] - xy[:, :, ends[:, 0]], velocity, velocity[:, 1:] - velocity[:, :-1])


def visible(seen: Tensor, bones: Tensor) -> Differences:
    """Which joints are seen, [N, L, J] -> which of their differences are."""
    ends = bones.to(seen.device)
    pairs = seen[:, 1:] & seen[:, :-1]
    return Differences(seen[:, :, ends[:, 0]] & seen[:, :, ends[:, 1]], pairs, pairs[:, 1:] & pairs[:, :-1])
