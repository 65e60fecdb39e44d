"""A loss on what the eye sees beside where joints are: bones, velocities and accelerations of a part. No network is
trained for it.

    views P x [N, L, J, 2], targets P x Target   ->   totals [P], counts [P]

For each part the Huber loss of three kinds of differences, all within a chunk, over delta as the reconstruction loss
is:

    bones          between the two ends of a bone, in one frame
    velocities     of a joint between neighbouring frames
    accelerations  of a joint's velocity between neighbouring frames

Differences are linear, so the difference of the errors is the error of the difference. One counts where all of its
joints and frames are visible; what missing ones hold changes nothing, and the counts need the targets alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from signstream.config import Config
from signstream.skeleton import Skeleton

if TYPE_CHECKING:
    from signstream.data.collate import ChunkBatch
    from signstream.models.rvq.rvq_model import Output
    from signstream.tasks.rvq.views import Target


class Perceptual:
    """A Term (training/losses.py) for `loss.perceptual_weight`."""

    def __init__(self, config: Config, skeleton: Skeleton) -> None:
        self.delta = config.loss.huber_delta
        self.bones = [
            torch.tensor(part.bones, dtype=torch.int64).reshape(-1, 2) - part.start for part in skeleton.parts
        ]  # P x [E, 2]

    def counts(self, batch: ChunkBatch, targets: Sequence[Target]) -> Tensor:
        return torch.stack(
            [
                sum(seen.sum() for seen in visible(target.weight > 0, bones))
                for target, bones in zip(targets, self.bones)
            ]
        )

    def totals(self, output: Output, batch: ChunkBatch, targets: Sequence[Target]) -> Tensor:
        return torch.stack(
            [self._total(view, target, bones) for view, target, bones in zip(output.views, targets, self.bones)]
        )

    def _total(self, view: Tensor, target: Target, bones: Tensor) -> Tensor:
        there = target.weight > 0
        error = torch.where(there[..., None], view.float() - target.xy, 0.0)
        return sum(self._huber(wrong, seen) for wrong, seen in zip(differences(error, bones), visible(there, bones)))

    def _huber(self, error: Tensor, seen: Tensor) -> Tensor:
        """error [..., 2], seen [...] -> one number"""
        each = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=self.delta).sum(-1) / self.delta
        return torch.where(seen, each, 0.0).sum()


def differences(xy: Tensor, bones: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[N, L, J, 2] -> bones [N, L, E, 2], velocities [N, L - 1, J, 2], accelerations [N, L - 2, J, 2]"""
    ends = bones.to(xy.device)
    velocity = xy[:, 1:] - xy[:, :-1]
    return xy[:, :, ends[:, 1]] - xy[:, :, ends[:, 0]], velocity, velocity[:, 1:] - velocity[:, :-1]


def visible(there: Tensor, bones: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[N, L, J] of joints -> the same of their differences"""
    ends = bones.to(there.device)
    pairs = there[:, 1:] & there[:, :-1]
    return there[:, :, ends[:, 0]] & there[:, :, ends[:, 1]], pairs, pairs[:, 1:] & pairs[:, :-1]
