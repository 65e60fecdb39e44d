"""Poses as their file has them, before any low-pass or closing of gaps, and reconstructions at the file's frame
rate.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from signstream.config import Data
from signstream.data.datasets import PoseData, load_checked
from signstream.data.frontend import SAME_RATE, as_raw, clean, sample_at
from signstream.io.pose_cache import CachedClip


class FiledClip(NamedTuple):
    poses: Tensor  # [T, J, 3], what is missing 0
    fps: float | None  # the file's; None: it does not say


def filed_clip(source: PoseData, clip: CachedClip) -> FiledClip:
    loaded = load_checked(source, clip.split, clip.name)
    return FiledClip(clean(as_raw(loaded.poses), source.data.min_score), loaded.fps)


def at_filed_rate(poses: Tensor, clip: CachedClip, data: Data) -> Tensor:
    """[T', J, 3] at the config's frame rate -> [T, J, 3] at the file's, as far as they go."""
    step = clip.fps / data.fps
    position = torch.arange(clip.num_frames, dtype=torch.float64) / (1.0 if abs(step - 1) < SAME_RATE else step)
    position = position[position < len(poses) + (data.max_frames is None)].clamp(max=len(poses) - 1)
    return sample_at(poses, position.long(), position - position.floor())
