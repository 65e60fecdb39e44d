"""Chunks to try a file on: drawn at random, or of real clips.

    random_codes, random_poses(tokenizer, windows, seed) -> codes [N, P, Q], poses [N, L, J, 3]
    real_poses(tokenizer, data) -> clips of poses [N, L, J, 3]

Poses are prepared frames, as a file's encoder takes them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from signstream.config import Data
from signstream.data.datasets import load_checked, open_data
from signstream.data.frontend import as_raw, prepare
from signstream.errors import UserError
from signstream.inference.tokenizer import Tokenizer

CLIPS = 20


def random_codes(tokenizer: Tokenizer, windows: int, seed: int = 0) -> Tensor:
    """[N, P, Q]: any codes, a part in ten not sent at all, any first levels of the others."""
    draw, levels = torch.Generator().manual_seed(seed), torch.tensor(tokenizer.levels)
    count = windows * tokenizer.config.data.window
    parts, depth = len(levels), max(tokenizer.levels)
    codes = torch.randint(tokenizer.config.model.rvq.codebook_size, (count, parts, depth), generator=draw)
    first = 1 + (torch.rand(count, parts, generator=draw) * levels).long()
    sent = torch.where(torch.rand(count, parts, generator=draw) < 0.1, 0, first.minimum(levels))
    return torch.where(torch.arange(depth) < sent[..., None], codes, -1)


def random_poses(tokenizer: Tokenizer, windows: int, seed: int = 0) -> Tensor:
    """[N, L, J, 3]: what any codes decode to, shaken, with a joint in ten missing, and a part in ten."""
    draw, codes = torch.Generator().manual_seed(seed), random_codes(tokenizer, windows, seed)
    poses = tokenizer.decode_codes(codes).unflatten(0, (len(codes), -1))
    xy = poses[..., :2] + 0.05 * torch.randn(poses[..., :2].shape, generator=draw)
    sure = 0.3 + 0.7 * torch.rand(poses.shape[:3], generator=draw)
    score = poses[..., 2] * sure * (torch.rand(poses.shape[:3], generator=draw) > 0.1)
    for part in tokenizer.skeleton.parts:
        shown = torch.rand(len(codes), 1, 1, generator=draw) > 0.1
        score[:, :, part.joints] *= shown | (len(part) == tokenizer.skeleton.num_joints)
    return torch.cat((xy, score[..., None]), -1) * (score > 0)[..., None]


def real_poses(tokenizer: Tokenizer, data: Data) -> list[Tensor]:
    """Clips of the validation split (else of the first), whole windows of prepared frames: [N, L, J, 3] each."""
    source = open_data(data)
    splits, reason = source.splits(), "it has none"
    clips: list[Tensor] = []
    split = "val" if splits.get("val") else next(iter(splits), "val")
    for name in splits.get(split, ()):
        try:
            clip = load_checked(source, split, name)
        except ValueError as error:  # a user's own layout may raise that
            reason = str(error)
            continue
        ready = prepare(as_raw(clip.poses), tokenizer.skeleton, data, fps=clip.fps)
        batch = tokenizer.chunks_of([ready.rows().numpy()], [0])
        clips.append(torch.cat((batch.xy, batch.weight[..., None]), -1))
        if len(clips) == CLIPS:
            break
    if not clips:
        raise UserError(f"{data.root} has no usable clip in {split}: {reason}")
    return clips
