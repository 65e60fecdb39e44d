"""What the page's player shows: clips and their reconstructions as positions in a box, their codes, and what
first-level codes of the parts that are drawn say alone.

    player = make_player(tokenizer, cache, clips, count=10)     # {"clips": [...], "dictionary": {...}, ...}, for JSON

Positions are little-endian int16 in base64: 0 to 32000 over the box's longer side, -32768 where a joint is missing.
Reconstructions come from the codes as they are written (budget, then holding), in the original's place, and show a
joint where the original does.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from signstream.inference.tokenizer import Tokenizer
from signstream.io.pose_cache import PoseCache
from signstream.models.metrics.steadiness import seeded_order
from signstream.pictures.figure import frame_limits
from signstream.skeleton import Skeleton
from signstream.space import in_pixels
from signstream.tokens.codes import held_chunks

SPAN, MISSING = 32000, -32768
MOST_FRAMES = 1500  # of all clips together: the page stays under 5 MB
PCA_CLIPS = 200  # that the latents' axes are fitted on


class Axes(NamedTuple):
    """Of one part's latents: their mean [Z] and first two principal axes [Z, 2]."""

    mean: Tensor
    axes: Tensor

    def project(self, latents: Tensor) -> list[list[float]]:
        """[N, Z] -> N points."""
        return ((latents - self.mean) @ self.axes).numpy().round(3).tolist()


def make_player(tokenizer: Tokenizer, cache: PoseCache, clips: Sequence[int], *, count: int) -> dict[str, Any] | None:
    """`count` of the clips, evenly over the split; None: there is no clip."""
    count = min(count, len(clips))
    shown = sorted({clips[i * len(clips) // count] for i in range(count)})
    if not shown:
        return None
    axes = latent_axes(tokenizer, cache, [clips[i] for i in seeded_order(len(clips))[:PCA_CLIPS]])
    lengths = shares([cache.clips[i].length for i in shown], MOST_FRAMES)
    made = [_clip(tokenizer, cache, i, frames=frames, axes=axes) for i, frames in zip(shown, lengths)]
    first = {tag: sorted({codes[0] for clip in made for codes in clip["codes"][tag]} - {-1}) for tag in tokenizer.parts}
    return {
        "fps": tokenizer.config.data.fps,
        "chunk_len": tokenizer.config.data.chunk_len,
        "joints": tokenizer.skeleton.num_joints,
        "parts": parts_of(tokenizer.skeleton),
        "clips": made,
        "dictionary": {
            tag: {str(code): view for code, view in zip(codes, _alone(tokenizer, p, codes))}
            for p, (tag, codes) in enumerate(first.items())
            if p != tokenizer.model.told
        },
    }


def parts_of(skeleton: Skeleton) -> list[dict[str, Any]]:
    """Where each part's joints are, and what joins them."""
    return [
        {
            "name": part.name,
            "tag": part.tag,
            "start": part.start,
            "stop": part.stop,
            "bones": [list(bone) for bone in part.bones],
        }
        for part in skeleton.parts
    ]


def shares(lengths: Sequence[int], most: int) -> list[int]:
    """How many frames of each clip are shown, so that all together are at most `most`: the longest are cut first."""
    out = list(lengths)
    left = most
    for rank, i in enumerate(sorted(range(len(lengths)), key=lengths.__getitem__)):
        out[i] = min(lengths[i], left // (len(lengths) - rank))
        left -= out[i]
    return out


def latent_axes(tokenizer: Tokenizer, cache: PoseCache, clips: Sequence[int]) -> list[Axes]:
    """P, from the chunks that show the part."""
    readings = [tokenizer.read([cache.frames(i)], [i]) for i in clips]
    latents = torch.cat([reading.latents for reading in readings]).double().cpu()
    seen = torch.cat([reading.codes[..., 0] >= 0 for reading in readings]).cpu()
    out = []
    for p in range(latents.shape[1]):
        rows = latents[seen[:, p], p]
        mean = rows.mean(0) if len(rows) else latents.new_zeros(latents.shape[-1])
        axes = torch.linalg.eigh((rows - mean).T @ (rows - mean))[1][:, -2:].flip(1)
        sign = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
        out.append(Axes(mean, axes * sign))
    return out


def _clip(tokenizer: Tokenizer, cache: PoseCache, index: int, *, frames: int, axes: Sequence[Axes]) -> dict[str, Any]:
    clip = cache.clips[index]
    prepared = cache.frames(index).copy()
    (tokens,) = tokenizer.encode_prepared([prepared], ["clip"])
    chunks = -(-frames // tokens.chunk_len)
    place, joints = torch.from_numpy(prepared[:frames, 0]), torch.from_numpy(prepared[:frames, 1:])
    original = in_pixels(joints, place).numpy()
    decoded = in_pixels(tokenizer.decode(tokens)[:frames], place)
    decoded[..., 2] *= joints[..., 2] > 0
    limits = frame_limits(original)
    box = (limits.left, limits.top, limits.right, limits.bottom)
    codes = tokens.codes[:chunks]
    held = held_chunks(codes)
    latents = tokenizer.read([prepared], [0]).latents[:chunks].double().cpu()
    numbered = dict(enumerate(tokenizer.parts))
    return {
        "name": clip.name,
        "text": clip.text,
        "gloss": clip.gloss,
        "signer": clip.signer,
        "frames": frames,
        "box": [round(x, 2) for x in box],
        "original": packed(original, box),
        "again": packed(decoded.numpy(), box),
        "codes": {tag: codes[:, p, : tokenizer.levels[p]].tolist() for p, tag in numbered.items()},
        "held": {tag: held[:, p].tolist() for p, tag in numbered.items()},
        "latents": {tag: axes[p].project(latents[:, p]) for p, tag in numbered.items()},
    }


def _alone(tokenizer: Tokenizer, p: int, codes: Sequence[int]) -> list[str]:
    """What first-level codes of part p decode to without any other code, repeated over a whole window, each in its
    own box: int16 [L, J_p, 2]."""
    window = tokenizer.model.window
    whole = torch.full((len(codes), len(tokenizer.parts), max(tokenizer.levels)), -1)
    whole[:, p, 0] = torch.tensor(codes, dtype=torch.int64)
    decoded = tokenizer.model.detokenise(whole.repeat_interleave(window, 0).to(tokenizer.device))
    part = tokenizer.views.restore(decoded)[tokenizer.skeleton.parts[p].name]
    views = part[window // 2 :: window].cpu().numpy()
    return [packed(view, (*view.min((0, 1)).tolist(), *view.max((0, 1)).tolist())) for view in views]


def packed(poses: np.ndarray, box: Sequence[float]) -> str:
    """[.., 2 or 3], the third number 0 where a joint is missing -> base64 of int16 [.., 2] in the box."""
    left, top, right, bottom = box
    scaled = (poses[..., :2] - (left, top)) * (SPAN / max(right - left, bottom - top, 1e-9))
    whole = np.clip(np.rint(scaled), MISSING + 1, -MISSING - 1)
    if poses.shape[-1] == 3:
        whole = np.where(poses[..., 2:] > 0, whole, MISSING)
    return base64.b64encode(whole.astype("<i2").tobytes()).decode()
