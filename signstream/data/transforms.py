"""From prepared frames to chunks, batched, on any device.

    packed frames [M, J, 3]  --plan_chunks, cut-->  chunks [N, L, J, 3]  --move, hide_joints-->  ChunkBatch

Whatever is drawn at random is drawn on the CPU, from a generator that the batch's seed sets, so every device sees the
same chunks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from signstream import space
from signstream.config import Data, PoseAugment
from signstream.data.frontend import sample_at
from signstream.skeleton import Skeleton


@dataclass(frozen=True)
class Plan:
    """Which frames the chunks of a batch show: positions in the packed frames, and which of them lie within their
    clip. Windows are whole: a clip's last one may have chunks of which nothing lies within."""

    position: np.ndarray  # [N, L] float64, rows of the packed frames
    inside: np.ndarray  # [N, L] bool
    clip: np.ndarray  # [N] which clip of the batch
    t: np.ndarray  # [N] the chunk's number in its clip


def num_chunks(frames: int, chunk_len: int) -> int:
    return -(-frames // chunk_len)


def plan_chunks(lengths: Sequence[int], data: Data, rng: np.random.Generator | None = None) -> Plan:
    """Windows of chunks of clips of `lengths` frames that lie packed one after another. Without `rng` every
    frame is in exactly one chunk; with it (training) clips are warped in time, start at a random phase and
    may overlap, as the config says."""
    size = data.chunk_len * data.window
    stride = data.chunk_stride or size if rng is not None else size
    positions, insides = [np.zeros((0, size))], [np.zeros((0, size), bool)]
    clip: list[int] = []
    t: list[int] = []
    start = 0
    for index, length in enumerate(lengths):
        track = np.arange(length, dtype=np.float64)
        if rng is not None and length:
            track = warped_track(length, data.augment, rng)
        frames = len(track)
        phase = 0
        if rng is not None and data.augment.random_phase:
            phase = int(rng.integers(0, max(min(size, frames - size + 1), 1)))
        count = max(-(-(frames - phase - size) // stride), 0) + 1 if frames else 0
        row = phase + np.arange(count)[:, None] * stride + np.arange(size)
        insides.append(row < frames)
        positions.append(start + track[np.minimum(row, max(frames - 1, 0))] if count else positions[0])
        clip += [index] * count * data.window
        t += range(count * data.window)
        start += length
    position, inside = (np.concatenate(rows).reshape(-1, data.chunk_len) for rows in (positions, insides))
    return Plan(position, inside, np.array(clip, np.int64), np.array(t, np.int64))


def warped_track(length: int, augment: PoseAugment, rng: np.random.Generator) -> np.ndarray:
    """Positions in the clip, one a warped frame, at a speed that is drawn and changes along the clip within 1
    / (1 + range) .. 1 + range."""
    if not augment.time_warp or augment.time_warp_range == 0:
        return np.arange(length, dtype=np.float64)
    most = math.log1p(augment.time_warp_range)
    turns = rng.uniform(0.5, 2.0)
    phase = rng.uniform(0, 2 * math.pi)
    mean = rng.uniform(-most, most)
    wave = (most - abs(mean)) * rng.uniform(-1, 1)
    frame = np.arange(math.ceil(length * (1 + augment.time_warp_range)) + 1)
    steps = np.exp(mean + wave * np.sin(phase + 2 * math.pi * turns * frame / length))
    track = np.concatenate(([0.0], np.cumsum(steps)))
    return track[track <= length - 1]


def cut(frames: Tensor, plan: Plan) -> Tensor:
    """The planned chunks: packed [M, J, 3] -> [N, L, J, 3]; frames past a clip's end are 0."""
    low = np.floor(plan.position)
    share = torch.from_numpy(plan.position - low).to(frames.device, frames.dtype)
    index = torch.from_numpy(low.astype(np.int64)).to(frames.device)
    if not len(index):
        return frames.new_zeros(*index.shape, *frames.shape[1:])
    if (plan.position != low).any():
        out = sample_at(frames, index.flatten(), share.flatten()).view(*index.shape, *frames.shape[1:])
    else:
        out = frames[index]
    return out if plan.inside.all() else out * torch.from_numpy(plan.inside).to(out)[..., None, None]


def move(
    joints: Tensor,
    clip: np.ndarray,
    clips: int,
    *,
    augment: PoseAugment,
    skeleton: Skeleton,
    rng: np.random.Generator,
) -> Tensor:
    """Chunks [N, L, J, 3] of `clips` clips, mirrored and deformed clip by clip; clip [N]."""
    if augment.mirror:
        chosen = torch.from_numpy((rng.random(clips) < 0.5)[clip].nonzero()[0]).to(joints.device)
        joints = joints.index_copy(0, chosen, space.mirror(joints[chosen], skeleton))
    if augment.affine:
        maps = np.eye(2) + rng.normal(0, augment.affine, (clips, 2, 2))
        joints = deform(joints, torch.from_numpy(maps[clip].astype(np.float32)).to(joints.device))
    return joints


def varied(frames: Tensor, data: Data, skeleton: Skeleton, *, seed: Sequence[int]) -> Tensor:
    """A whole clip [T, 1 + J, 3] as training may see it, but for hidden joints: warped in time, begun at a random
    phase, mirrored, deformed -> [T', 1 + J, 3]. Row 0, its place, stays."""
    rng = np.random.default_rng(seed)
    track = warped_track(len(frames), data.augment, rng)
    phase = int(rng.integers(data.chunk_len)) if data.augment.random_phase else 0
    track = track[min(phase, len(track) - 1) :]
    one = np.zeros(1, np.int64)
    whole = cut(frames, Plan(track[None], np.ones((1, len(track)), bool), one, one))
    joints = move(whole[:, :, 1:], one, 1, augment=data.augment, skeleton=skeleton, rng=rng)
    return torch.cat((whole[:, :, :1], joints), 2)[0]


def deform(frames: Tensor, maps: Tensor) -> Tensor:
    """x and y of each chunk through its linear map: frames [N, L, J, 3], maps [N, 2, 2] -> [N, L, J, 3]; a
    map's inverse undoes it."""
    x, y, a = frames[..., 0], frames[..., 1], maps[:, None, None]
    return torch.stack((x * a[..., 0, 0] + y * a[..., 1, 0], x * a[..., 0, 1] + y * a[..., 1, 1], frames[..., 2]), -1)


def hide_joints(weight: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Occlusion: about `share` of a chunk's joints lose a random stretch of its frames. weight [N, L,
    J] -> the same with zeros."""
    n, size, joints = weight.shape
    chunk, joint = (torch.rand(n, joints, generator=generator) < share).nonzero(as_tuple=True)
    begin, end = torch.randint(size, (2, len(chunk), 1), generator=generator).sort(0).values
    frame = torch.arange(size)
    stretch, item = ((frame >= begin) & (frame <= end)).nonzero(as_tuple=True)[::-1]
    out = weight.clone()
    out[tuple(i.to(weight.device) for i in (chunk[item], stretch, joint[item]))] = 0.0
    return out
