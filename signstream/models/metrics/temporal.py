"""How smoothly reconstructed poses move: the jump where one chunk ends and the next begins, and the errors of speed and
jerk, per part.

    N chunks   L frames a chunk   J_p joints of a part   M frames laid out one after another

    views [N, L, J_p, 2] of each part, original and reconstructed, unit lengths --add--> sums
    sums --result--> {"left_hand/speed_error": 0.02, ...}

    jump/original/..         distance that a joint moves from the last frame of chunk t to the first of t + 1:
                             mean, q50, q90, q99
    jump/reconstruction/..   the same in the reconstruction; where it is larger, chunk borders show
    speed_error              distance between the two sides' displacements from frame to frame, across borders too
    jerk_error               distance between their third differences
    jerk/original, jerk/reconstruction   length of the third differences themselves

A joint counts where it is visible in all the frames that a difference needs. Chunks join only within a batch, so a clip
must lie whole in one. Quantiles come from a histogram with fixed bins on a log scale, which adds up exactly over
batches and ranks. Bins are 1.16 % wide and give their geometric middle, so a quantile is within 0.6 % of the sample's;
up to 0.0001 unit lengths it is given as 0, beyond 100 as 100.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from signstream.models.metrics.sums import Sums
from signstream.skeleton import Skeleton

LOWEST, HIGHEST, BINS_A_DECADE = 1e-4, 1e2, 200
BINS = round(math.log10(HIGHEST / LOWEST)) * BINS_A_DECADE
EDGES = torch.logspace(math.log10(LOWEST), math.log10(HIGHEST), BINS + 1, dtype=torch.float64)
QUANTILES = {"q50": 0.5, "q90": 0.9, "q99": 0.99}
SIDES = ("original", "reconstruction")


class Timeline(NamedTuple):
    """A batch's M frames in the order of time, clip after clip."""

    rows: Tensor  # [M] where they lie in chunks [N * L, ...]
    follows: Tensor  # [M - 1] whether a frame is the one right after the frame before it
    crosses: Tensor  # [M - 1] whether it also begins a chunk


def timeline(clip: Tensor, t: Tensor, frames: Tensor, *, length: int) -> Timeline:
    """clip, t, frames [N] of chunks of `length` frames."""
    order = t.argsort(stable=True)
    order = order[clip[order].argsort(stable=True)]
    step = torch.arange(length, device=clip.device)
    inside = step < frames[order, None]  # [N, L]
    number = (t[order, None] * length + step)[inside]  # [M] the frame's number in its clip
    clip_of = clip[order, None].expand(-1, length)[inside]  # [M]
    follows = (clip_of[1:] == clip_of[:-1]) & (number[1:] == number[:-1] + 1)
    rows = (order[:, None] * length + step)[inside]
    return Timeline(rows, follows, crosses=follows & (number[1:] % length == 0))


class Movement(NamedTuple):
    """A part's joints from frame to frame."""

    original: Tensor  # [M - 1, J_p, 2] how far they go
    reconstruction: Tensor  # [M - 1, J_p, 2]
    seen: Tensor  # [M - 1, J_p] in both frames, which follow one another


class Smoothness(Sums):
    def __init__(self, skeleton: Skeleton, device: torch.device | str = "cpu") -> None:
        self.parts = tuple(part.name for part in skeleton.parts)
        self.edges = EDGES.to(device)
        shapes: dict[str, tuple[int, ...]] = {"speed": (), "speed_seen": (), "jerk": (), "jerk_seen": ()}
        for side in SIDES:
            shapes |= {f"{side}/jump": (), f"{side}/jerk": (), f"{side}/histogram": (len(EDGES) + 1,)}
        super().__init__({f"{part}/{name}": shape for part in self.parts for name, shape in shapes.items()}, device)

    @torch.no_grad()
    def add(
        self,
        target: Mapping[str, Tensor],
        reconstructed: Mapping[str, Tensor],
        weight: Mapping[str, Tensor],
        *,
        clip: Tensor,
        t: Tensor,
        frames: Tensor,
    ) -> None:
        """target, reconstructed {part: [N, L, J_p, 2]}, weight {part: [N, L, J_p]}; clip, t, frames [N]: chunks that do
        not overlap."""
        line = timeline(clip, t, frames, length=next(iter(target.values())).shape[1])
        for part in self.parts:
            seen = weight[part].flatten(0, 1)[line.rows] > 0  # [M, J_p]
            original, reconstruction = (
                torch.where(seen[..., None], views[part].flatten(0, 1)[line.rows].double(), 0.0).diff(dim=0)
                for views in (target, reconstructed)
            )
            both = seen[1:] & seen[:-1] & line.follows[:, None]
            self._add_part(part, Movement(original, reconstruction, both), line.crosses)

    def _add_part(self, part: str, movement: Movement, crosses: Tensor) -> None:
        """crosses [M - 1]: from one chunk to the next."""
        seen = movement.seen
        four = seen[2:] & seen[1:-1] & seen[:-2]  # frames in a row
        error = movement.reconstruction - movement.original
        self.count(f"{part}/speed", torch.where(seen, error.norm(dim=-1), 0.0).sum())
        self.count(f"{part}/speed_seen", seen.sum())
        self.count(f"{part}/jerk", torch.where(four, error.diff(n=2, dim=0).norm(dim=-1), 0.0).sum())
        self.count(f"{part}/jerk_seen", four.sum())
        border = seen & crosses[:, None]
        for side, moved in zip(SIDES, (movement.original, movement.reconstruction)):
            jump = moved.norm(dim=-1)[border]
            self.count(f"{part}/{side}/jump", jump.sum())
            self.count(f"{part}/{side}/jerk", torch.where(four, moved.diff(n=2, dim=0).norm(dim=-1), 0.0).sum())
            bins = torch.bucketize(jump, self.edges.to(jump.device))
            self.count(f"{part}/{side}/histogram", torch.bincount(bins, minlength=len(EDGES) + 1))

    def result(self) -> dict[str, float]:
        totals, out = self.totals(), {}
        for part in self.parts:
            for kind in ("speed", "jerk"):
                if seen := float(totals[f"{part}/{kind}_seen"]):
                    out[f"{part}/{kind}_error"] = float(totals[f"{part}/{kind}"]) / seen
            for side in SIDES:
                if seen := float(totals[f"{part}/jerk_seen"]):
                    out[f"{part}/jerk/{side}"] = float(totals[f"{part}/{side}/jerk"]) / seen
                histogram = totals[f"{part}/{side}/histogram"]
                if count := float(histogram.sum()):
                    out[f"{part}/jump/{side}/mean"] = float(totals[f"{part}/{side}/jump"]) / count
                    for name, share in QUANTILES.items():
                        out[f"{part}/jump/{side}/{name}"] = quantile(histogram, share)
        return out


def quantile(histogram: Tensor, share: float) -> float:
    """The value that at least `share` of what the histogram [E + 1] counted do not exceed."""
    reached = histogram.cumsum(0)
    index = int(torch.searchsorted(reached, share * reached[-1]))
    if index == 0:
        return 0.0
    return HIGHEST if index == len(EDGES) else float((EDGES[index - 1] * EDGES[index]).sqrt())
