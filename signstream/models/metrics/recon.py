"""How far reconstructed poses are from the originals: per part, weighted over parts, per joint, and by frame within the
chunk.

    N chunks   L frames a chunk   T frames of a clip   P parts   J joints, J_p of one part

    views [N, L, J_p, 2] of each part, original and reconstructed, unit lengths   --add-->       sums
    a clip in pixels [T, J, 2]                                                    --add_clip-->  the same sums
    sums --result--> {"left_hand/mae": 0.12, ...}

A joint counts where its weight is above 0, each joint and frame alike. What the numbers mean:

    huber            of each coordinate, in signing-space units (view times the part's `scale`), delta 1
    mse, mae, rmse   of each coordinate, in unit lengths
    local, pixels    mean distance of joints after taking each side's own centre joint away, so the part's shape alone,
                     in shoulder widths of the clip and in pixels; only in frames that show the centre joint, as
                     benchmarks/score.py counts them
    pck_0.1          share of those joints nearer than 0.1 shoulder widths

`weighted/...` is the mean over the parts that have the number, by their weights (rmse: the root of that mean's mse). A
number with nothing to count has no key. Sums are float64 and only ever added: batches, their order and ranks change
nothing but rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from signstream.models.metrics.sums import Sums
from signstream.skeleton import LEFT_SHOULDER, NUM_JOINTS, RIGHT_SHOULDER, Pair, Part, Skeleton
from signstream.space import local_view, only, part_centre

PCK = (0.05, 0.1, 0.2)  # shoulder widths
MIN_SHOULDERS = 1.0  # pixels; narrower is no measure


class HasFrames(Protocol):
    def frames(self, index: int) -> np.ndarray: ...


def shoulder_widths(cache: HasFrames, indices: Iterable[int], pair: Pair | None = None) -> dict[int, float]:
    """{clip: width in pixels}, the median over the frames [T, 1 + J, 3] that show both shoulders. A clip without any is
    not in it. `pair` names the shoulders (from 0) of a skeleton that is not COCO-WholeBody's, which has no width
    otherwise."""
    widths = {index: _shoulder_width(cache.frames(index), pair) for index in indices}
    return {index: width for index, width in widths.items() if width > MIN_SHOULDERS}


def _shoulder_width(frames: np.ndarray, pair: Pair | None) -> float:
    if pair is None:
        if frames.shape[1] != 1 + NUM_JOINTS:
            return 0.0
        pair = LEFT_SHOULDER, RIGHT_SHOULDER
    ends = np.asarray(frames[:, [1 + pair[0], 1 + pair[1]]], np.float64)  # [T, 2, 3]
    both = (ends[..., 2] > 0).all(1)
    step = ends[both, 0, :2] - ends[both, 1, :2]
    return float(np.median(np.linalg.norm(step, axis=-1) * frames[both, 0, 2])) if both.any() else 0.0


class Measures(NamedTuple):
    """What lengths of a batch are told in."""

    pixels: Tensor  # [N, L, 1] of a unit length
    shoulders: Tensor  # [N, 1, 1] pixels; NaN of a clip that has no width


class Reconstruction(Sums):
    """`part_weights` {part: weight}, `scale` [P] in the order of the skeleton's parts, `widths` {clip: shoulder width
    in pixels} (clips that it lacks have no part in `local` and PCK)."""

    def __init__(
        self,
        skeleton: Skeleton,
        part_weights: Mapping[str, float],
        scale: Sequence[float] | Tensor,
        *,
        widths: Mapping[int, float],
        chunk_len: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.parts = skeleton.parts
        self.part_weights = dict(part_weights)
        self.widths = widths
        self.chunk_len = chunk_len
        self.scale = dict(zip((part.name for part in skeleton.parts), map(float, scale)))
        shapes = {f"{part.name}/{name}": shape for part in self.parts for name, shape in self._shapes_of(part).items()}
        super().__init__(shapes, device)

    def _shapes_of(self, part: Part) -> dict[str, tuple[int, ...]]:
        return {
            "numbers": (),
            "huber": (),
            "square": (),
            "absolute": (),
            "placed": (),
            "pixels": (),
            "hits": (len(PCK),),
            "joint_seen": (len(part),),
            "joint": (len(part),),
            "frame_seen": (self.chunk_len,),
            "frame": (self.chunk_len,),
        }

    @torch.no_grad()
    def add(
        self,
        target: Mapping[str, Tensor],
        reconstructed: Mapping[str, Tensor],
        weight: Mapping[str, Tensor],
        *,
        place: Tensor,
        clip: Tensor,
    ) -> None:
        """target, reconstructed {part: [N, L, J_p, 2]}, weight {part: [N, L, J_p]}, place [N, L, 3], clip [N].
        L is chunk_len, or a whole clip's T: frame t then counts as frame t % chunk_len of its chunk."""
        widths = [self.widths.get(index, math.nan) for index in clip.tolist()]
        measures = Measures(place[..., 2, None], place.new_tensor(widths, dtype=torch.float64)[:, None, None])
        for part in self.parts:
            gap = reconstructed[part.name].double() - target[part.name].double()  # [N, L, J_p, 2]
            self._add_part(part, gap, weight[part.name] > 0, measures=measures)

    @torch.no_grad()
    def add_clip(self, original: Tensor, reconstructed: Tensor, place: Tensor, *, clip: int) -> None:
        """A whole clip in pixels: original [T, J, 3] (third channel 0 where missing), reconstructed [T, J, 2], place
        [T, 3]."""
        unit = place[:, None, 2:]
        weight, complete = original[..., 2], torch.ones_like(original[..., 2])
        xy, drawn = original[..., :2] / unit, reconstructed[..., :2] / unit
        centres = {part.name: part_centre(drawn, complete, part)[:, None] for part in self.parts}
        self.add(
            {part.name: local_view(xy, weight, part)[None] for part in self.parts},
            {part.name: (drawn[:, part.joints] - centres[part.name])[None] for part in self.parts},
            {part.name: weight[None, :, part.joints] for part in self.parts},
            place=place[None],
            clip=torch.tensor([clip]),
        )

    def _add_part(self, part: Part, gap: Tensor, seen: Tensor, *, measures: Measures) -> None:
        """gap [N, L, J_p, 2] from the original to the reconstruction; seen [N, L, J_p]."""
        gap = only(gap, seen)
        scaled = gap * self.scale[part.name]
        self._count(part, "numbers", 2 * seen.sum())
        self._count(part, "huber", F.huber_loss(scaled, torch.zeros_like(scaled), reduction="sum"))
        self._count(part, "square", gap.square().sum())
        self._count(part, "absolute", gap.abs().sum())
        if part.start <= part.centre < part.stop:  # else the view is relative to a joint that it doesn't hold
            centre = part.centre - part.start
            gap = gap - gap[:, :, centre, None]
            seen = seen & seen[:, :, centre, None]
        distance = torch.where(seen, gap.norm(dim=-1) * measures.pixels, 0.0)  # [N, L, J_p]
        self._count(part, "placed", seen.sum())
        self._count(part, "pixels", distance.sum())
        self._add_shoulders(part, distance, seen, width=measures.shoulders)

    def _add_shoulders(self, part: Part, distance: Tensor, seen: Tensor, *, width: Tensor) -> None:
        seen = seen & (width > 0)
        error = torch.where(seen, distance / width, 0.0)  # [N, L, J_p]
        self._count(part, "hits", torch.stack([(seen & (error < limit)).sum() for limit in PCK]))
        self._count(part, "joint_seen", seen.sum((0, 1)))
        self._count(part, "joint", error.sum((0, 1)))
        self._count(part, "frame_seen", self._fold(seen.double()))
        self._count(part, "frame", self._fold(error))

    def _fold(self, values: Tensor) -> Tensor:
        """[N, L, J_p] -> its sums by the frame's number in its chunk, [chunk_len]."""
        frames = torch.arange(values.shape[1], device=values.device) % self.chunk_len
        return values.new_zeros(self.chunk_len).index_add_(0, frames, values.sum((0, 2)))

    def _count(self, part: Part, name: str, value: Tensor) -> None:
        self.count(f"{part.name}/{name}", value)

    def result(self) -> dict[str, float]:
        totals = self.totals()
        each = {}
        for part in self.parts:
            each[part.name] = _measures({name: totals[f"{part.name}/{name}"] for name in self._shapes_of(part)})
        out = {f"{part}/{name}": value for part, values in each.items() for name, value in values.items()}
        return out | {f"weighted/{name}": value for name, value in self._weighted(each).items()}

    def _weighted(self, each: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        out = {}
        for name in dict.fromkeys(name for values in each.values() for name in values):
            having = {part: self.part_weights.get(part, 0.0) for part, values in each.items() if name in values}
            if (total := sum(having.values())) > 0:
                out[name] = sum(share * each[part][name] for part, share in having.items() if share > 0) / total
        return out | ({"rmse": math.sqrt(out["mse"])} if "mse" in out else {})

    def by_joint(self) -> dict[str, Tensor]:
        """{part: [J_p]}, each joint's `local`; NaN for a joint that was never seen, and no part that never was."""
        return self._curves("joint")

    def by_frame(self) -> dict[str, Tensor]:
        """{part: [chunk_len]}, `local` by the frame's number in its chunk, likewise."""
        return self._curves("frame")

    def boundary_share(self) -> dict[str, float]:
        """{part: the share of its errors that lies in the chunks' first and last frames}; no part that has none."""
        totals = self.totals()
        ends = sorted({0, self.chunk_len - 1})
        frames = {part.name: totals[f"{part.name}/frame"] for part in self.parts}
        return {part: float(errors[ends].sum() / errors.sum()) for part, errors in frames.items() if errors.sum() > 0}

    def _curves(self, kind: str) -> dict[str, Tensor]:
        totals = self.totals()
        return {
            part.name: totals[f"{part.name}/{kind}"] / totals[f"{part.name}/{kind}_seen"]
            for part in self.parts
            if totals[f"{part.name}/{kind}_seen"].any()
        }


def _measures(sums: Mapping[str, Tensor]) -> dict[str, float]:
    """A part's numbers from its sums; those with nothing to count are left out."""
    out: dict[str, float] = {}
    if numbers := float(sums["numbers"]):
        mse = float(sums["square"]) / numbers
        out |= {
            "huber": float(sums["huber"]) / numbers,
            "mse": mse,
            "mae": float(sums["absolute"]) / numbers,
            "rmse": math.sqrt(mse),
        }
    if placed := float(sums["placed"]):
        out["pixels"] = float(sums["pixels"]) / placed
    if measured := float(sums["joint_seen"].sum()):
        out["local"] = float(sums["joint"].sum()) / measured
        out |= {f"pck_{limit:g}": float(hits) / measured for limit, hits in zip(PCK, sums["hits"])}
    return out
