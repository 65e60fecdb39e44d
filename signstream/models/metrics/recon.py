"""How far reconstructed poses are from the originals: per part, weighted over parts, per joint, and by frame within the chunk.

    N chunks   L frames a chunk   T frames of a clip   P parts   J joints, J_p of one part

    views [N, L, J_p, 2] of each part, original and reconstructed, unit lengths --add--> sums --result--> {"left_hand/mae": 0.12, ...}
    a clip in pixels [T, J, 2]                                              --add_clip--> the same sums

A joint counts where its weight is above 0, each joint and frame alike. What the numbers mean:

    huber            of each coordinate, in signing-space units (view times the part's `scale`), delta 1
    mse, mae, rmse   of each coordinate, in unit lengths
    local, pixels    mean distance of joints after taking each side's own centre joint away, so the part's shape alone, in shoulder widths
                     of the clip and in pixels; only in frames that show the centre joint, as bench/score_reconstruction.py counts them
    pck_0.1          share of those joints nearer than 0.1 shoulder widths

`weighted/...` is the mean over the parts that have the number, by their weights (rmse: the root of that mean's mse). A number with nothing
to count has no key. Sums are float64 and only ever added: batches, their order and ranks change nothing but rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from signstream.skeleton import LEFT_SHOULDER, NUM_JOINTS, RIGHT_SHOULDER, Pair, Part, Skeleton
from signstream.space import local_view, part_centre

PCK = (0.05, 0.1, 0.2)  # shoulder widths
MIN_SHOULDERS = 1.0  # pixels; narrower is no measure


class Sums:
    """Named sums [...] that lie side by side in one flat float64 tensor, so that ranks add theirs up in one all-reduce of `state()`."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], device: torch.device | str = "cpu") -> None:
        self._shapes = dict(shapes)
        self._flat = torch.zeros(sum(map(math.prod, shapes.values())), dtype=torch.float64, device=device)
        self._sums = self._named(self._flat)  # views: adding to them in place adds to the flat tensor

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        pieces = flat.split([math.prod(shape) for shape in self._shapes.values()])
        return {name: piece.view(shape) for (name, shape), piece in zip(self._shapes.items(), pieces)}

    def _totals(self) -> dict[str, Tensor]:
        """All sums on the CPU, fetched at once."""
        return self._named(self._flat.cpu())

    def state(self) -> Tensor:
        return self._flat.clone()

    def load_state(self, state: Tensor) -> None:
        self._flat.copy_(state)

    def merge(self, other: Sums) -> None:
        self._flat += other._flat.to(self._flat.device)


class HasFrames(Protocol):
    def frames(self, index: int) -> np.ndarray: ...


def shoulder_widths(cache: HasFrames, indices: Iterable[int], pair: Pair | None = None) -> dict[int, float]:
    """{clip: width in pixels}, the median over the frames [T, 1 + J, 3] that show both shoulders. A clip without any is not in it.
    `pair` names the shoulders (from 0) of a skeleton that is not COCO-WholeBody's, which has no width otherwise."""
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


class Reconstruction(Sums):
    """`part_weights` {part: weight}, `scale` [P] in the order of the skeleton's parts, `widths` {clip: shoulder width in pixels}
    (clips that it lacks have no part in `local` and PCK)."""

    def __init__(
        self,
        skeleton: Skeleton,
        part_weights: Mapping[str, float],
        scale: Sequence[float] | Tensor,
        widths: Mapping[int, float],
        chunk_len: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.parts, self.part_weights, self.widths, self.chunk_len = (
            skeleton.parts,
            dict(part_weights),
            widths,
            chunk_len,
        )
        self.scale = dict(zip((part.name for part in skeleton.parts), map(float, scale)))
        super().__init__(
            {f"{part.name}/{name}": shape for part in skeleton.parts for name, shape in self._shapes_of(part).items()},
            device,
        )

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
        place: Tensor,
        clip: Tensor,
    ) -> None:
        """target, reconstructed {part: [N, L, J_p, 2]}, weight {part: [N, L, J_p]}, place [N, L, 3], clip [N].
        L is chunk_len, or a whole clip's T: frame t then counts as frame t % chunk_len of its chunk."""
        width = place.new_tensor(
            [self.widths.get(index, math.nan) for index in clip.tolist()], dtype=torch.float64
        )  # [N]
        for part in self.parts:
            self._add_part(
                part, target[part.name], reconstructed[part.name], weight[part.name] > 0, place[..., 2], width
            )

    @torch.no_grad()
    def add_clip(self, original: Tensor, reconstructed: Tensor, place: Tensor, clip: int) -> None:
        """A whole clip in pixels: original [T, J, 3] (third channel 0 where missing), reconstructed [T, J, 2], place [T, 3]."""
        unit = place[:, None, 2:]
        weight, complete = original[..., 2], torch.ones_like(original[..., 2])
        xy, got = original[..., :2] / unit, reconstructed[..., :2] / unit
        views = {part.name: local_view(xy, weight, part)[None] for part in self.parts}
        ours = {
            part.name: (got[:, part.joints] - part_centre(got, complete, part)[:, None])[None] for part in self.parts
        }
        self.add(
            views,
            ours,
            {part.name: weight[None, :, part.joints] for part in self.parts},
            place[None],
            torch.tensor([clip]),
        )

    def _add_part(self, part: Part, target: Tensor, got: Tensor, seen: Tensor, pixels: Tensor, width: Tensor) -> None:
        gap = torch.where(seen[..., None], got.double() - target.double(), 0.0)  # [N, L, J_p, 2]
        scaled = gap * self.scale[part.name]
        self._sum(part, "numbers", 2 * seen.sum())
        self._sum(part, "huber", F.huber_loss(scaled, torch.zeros_like(scaled), reduction="sum"))
        self._sum(part, "square", gap.square().sum())
        self._sum(part, "absolute", gap.abs().sum())
        if part.start <= part.centre < part.stop:  # else the view is relative to a joint that it doesn't hold
            centre = part.centre - part.start
            gap, seen = gap - gap[:, :, centre, None], seen & seen[:, :, centre, None]
        distance = torch.where(seen, gap.norm(dim=-1) * pixels[..., None], 0.0)  # [N, L, J_p]
        self._sum(part, "placed", seen.sum())
        self._sum(part, "pixels", distance.sum())
        self._add_shoulders(part, distance, seen & (width > 0)[:, None, None], width)

    def _add_shoulders(self, part: Part, distance: Tensor, seen: Tensor, width: Tensor) -> None:
        error = torch.where(seen, distance / width[:, None, None], 0.0)  # [N, L, J_p]
        self._sum(part, "hits", torch.stack([(seen & (error < limit)).sum() for limit in PCK]))
        self._sum(part, "joint_seen", seen.sum((0, 1)))
        self._sum(part, "joint", error.sum((0, 1)))
        self._sum(part, "frame_seen", self._fold(seen.double()))
        self._sum(part, "frame", self._fold(error))

    def _fold(self, values: Tensor) -> Tensor:
        """[N, L, J_p] -> its sums by the frame's number in its chunk, [chunk_len]."""
        frames = torch.arange(values.shape[1], device=values.device) % self.chunk_len
        return values.new_zeros(self.chunk_len).index_add_(0, frames, values.sum((0, 2)))

    def _sum(self, part: Part, name: str, value: Tensor) -> None:
        self._sums[f"{part.name}/{name}"] += value.to(self._flat.device)

    def result(self) -> dict[str, float]:
        totals = self._totals()
        each = {
            part.name: _measures({name: totals[f"{part.name}/{name}"] for name in self._shapes_of(part)})
            for part in self.parts
        }
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
        totals, ends = self._totals(), sorted({0, self.chunk_len - 1})
        frames = {part.name: totals[f"{part.name}/frame"] for part in self.parts}
        return {part: float(errors[ends].sum() / errors.sum()) for part, errors in frames.items() if errors.sum() > 0}

    def _curves(self, kind: str) -> dict[str, Tensor]:
        totals = self._totals()
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
