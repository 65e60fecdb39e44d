"""What a data set's clips say in numbers: lengths, units, and of each part what is missing, gaps, scores and speeds.

numbers = measure(source, cache, split, sample=clips)        table(numbers) -> text
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from signstream.config import Poses
from signstream.data.datasets import PoseData, load_checked
from signstream.data.frontend import clean
from signstream.errors import UserError
from signstream.io.pose_cache import CachedClip, PoseCache
from signstream.skeleton import Part

LEGEND = """\
missing: of all joints and frames; absent: frames without any joint of the part; score: median where seen;
gaps: a joint missing between two sightings, in frames at data.fps, those up to data.max_gap are closed;
speed: mean of the joints, in unit lengths a second from the frame's origin, after the front end."""


@dataclass(frozen=True)
class PartNumbers:
    """What the sampled clips say of one part."""

    part: Part
    missing: float  # share of joints and frames
    absent: float  # share of frames without any joint of the part
    gaps: np.ndarray  # [any] frames (at data.fps) that a joint is missing between two sightings
    scores: np.ndarray  # [50] shares of the scores from 0 to 1
    median_score: float  # of the joints that are not missing; NaN if all are
    speeds: np.ndarray  # [any] mean speed of the part's joints a frame, unit lengths a second, from the frame's origin


@dataclass(frozen=True)
class Numbers:
    parts: tuple[PartNumbers, ...]
    seconds: np.ndarray  # [clips of the split]
    units: np.ndarray  # [clips sampled] pixels, each clip's median
    data: Poses


@dataclass
class _Collected:
    """A part's numbers clip by clip; a list has one array a clip."""

    seen: list[np.ndarray] = field(default_factory=list)  # [T] share of the joints
    present: list[np.ndarray] = field(default_factory=list)  # [T] whether there is any joint
    gaps: list[np.ndarray] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)  # [50] how many
    seen_scores: list[np.ndarray] = field(default_factory=list)  # [1000] how many, of the joints that are seen
    speeds: list[np.ndarray] = field(default_factory=list)


def measure(source: PoseData, cache: PoseCache, split: str, *, sample: Sequence[int]) -> Numbers:
    """The split's numbers from the clips `sample`; lengths are of all its clips."""
    data, parts = source.data, cache.skeleton.parts
    collected = [_Collected() for _ in parts]
    for index in sample:
        about, frames = cache.clips[index], cache.frames(index)
        poses, raw_scores = read_clip(source, about)
        scores = np.clip(np.nan_to_num(raw_scores), 0, 1)
        for part, into in zip(parts, collected):
            seen = poses[:, part.joints, 2] > 0
            into.seen.append(seen.mean(1))
            into.present.append(np.any(seen, 1))
            into.gaps.append(gap_lengths(seen) * (data.fps / about.fps))
            into.scores.append(np.histogram(scores[:, part.joints], 50, (0, 1))[0])
            into.seen_scores.append(np.histogram(scores[:, part.joints][seen], 1000, (0, 1))[0])
            into.speeds.append(part_speeds(frames[:, 1:][:, part.joints], data.fps))
    units = np.array([np.median(cache.frames(index)[:, 0, 2]) for index in sample])
    seconds = np.array([cache.clips[i].num_frames / cache.clips[i].fps for i in cache.split(split)])
    return Numbers(tuple(_part_numbers(part, into) for part, into in zip(parts, collected)), seconds, units, data)


def _part_numbers(part: Part, collected: _Collected) -> PartNumbers:
    histogram = np.sum(collected.scores, 0)
    fine = np.cumsum(np.sum(collected.seen_scores, 0))
    median = float(np.searchsorted(fine, fine[-1] / 2)) / (len(fine) - 1) if fine[-1] else float("nan")
    return PartNumbers(
        part,
        missing=float(1 - np.concatenate(collected.seen).mean()),
        absent=float(1 - np.concatenate(collected.present).mean()),
        gaps=np.concatenate(collected.gaps),
        scores=histogram / histogram.sum(),
        median_score=median,
        speeds=np.concatenate(collected.speeds),
    )


def read_clip(source: PoseData, about: CachedClip) -> tuple[np.ndarray, np.ndarray]:
    """[T, J, 3] in pixels, all 0 where a joint is missing, and [T, J], the scores as the file holds them."""
    try:
        poses = np.array(load_checked(source, about.split, about.name).poses, np.float32)
    except ValueError as error:
        raise UserError(f"the clip {about.name!r} changed while it was looked at: {error}; run this again") from None
    return clean(torch.from_numpy(poses), source.data.min_score).numpy(), poses[..., 2]


def gap_lengths(seen: np.ndarray) -> np.ndarray:
    """[T, n] -> frames for which a joint was missing between two sightings, a number a gap."""
    joint, frame = seen.T.nonzero()
    steps = frame[1:] - frame[:-1]
    same_joint = joint[1:] == joint[:-1]
    return steps[same_joint & (steps > 1)] - 1


def part_speeds(units: np.ndarray, fps: float) -> np.ndarray:
    """[T, n, 3] in unit lengths -> [<= T-1]: the mean speed of the joints seen in a frame and the one before."""
    both = (units[1:, :, 2] > 0) & (units[:-1, :, 2] > 0)
    speed = ((units[1:, :, :2] - units[:-1, :, :2]) ** 2).sum(-1) ** 0.5 * fps
    return (speed * both).sum(1)[both.any(1)] / both.sum(1)[both.any(1)]


def table(numbers: Numbers) -> str:
    """The numbers as text, a line a part."""
    max_gap = numbers.data.max_gap
    minutes = numbers.seconds.sum() / 60
    all_clips = f"of {len(numbers.seconds)} clips, {minutes:.1f} minutes"
    sampled = f"this and what follows: of {len(numbers.units)} clips"
    columns = ("joints", "missing", "absent", "score", "gaps", "median", f"<= {max_gap}")
    head = "".join(f"{name:>8}" for name in columns) + f"{'speed, 5 %':>13}{'median':>8}{'95 %':>8}"
    return "\n".join(
        [
            f"clip length, s    5 %, median, 95 %{_quantiles(numbers.seconds)}   {all_clips}",
            f"unit length, px   5 %, median, 95 %{_quantiles(numbers.units)}   {sampled}",
            "",
            f"{'part':<11}{head}",
            *(_line(row, max_gap) for row in numbers.parts),
            "",
            LEGEND,
        ]
    )


def _line(row: PartNumbers, max_gap: int) -> str:
    counts = f"{len(row.part):8}{row.missing:8.1%}{row.absent:8.1%}{row.median_score:8.2f}{len(row.gaps):8}"
    gaps = f"{'-':>8}" * 2
    if len(row.gaps):
        gaps = f"{np.median(row.gaps):8.1f}{(row.gaps <= max_gap).mean():8.1%}"
    return f"{row.part.name:<11}{counts}{gaps}     {_quantiles(row.speeds)}"


def _quantiles(values: np.ndarray) -> str:
    if not len(values):
        return f"{'-':>8}" * 3
    return "".join(f"{value:8.2f}" for value in np.quantile(values, (0.05, 0.5, 0.95)))
