"""Where joints are, in which lengths: pixels, unit lengths from the origin, a part's own view, signing space; each step with its inverse.

    joints [.., J, 2] in unit lengths  --local_view-->  a part's view [.., J_p, 2]  <--SigningSpace-->  network input in [-bbox_range, bbox_range]
    parts' views  --assemble-->  skeleton [T, J, 3] in unit lengths  --to_pixels-->  pixels

Tensors and skeletons alone: nothing here knows of files, chunks or models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from signstream.config import Data
from signstream.errors import UserError
from signstream.skeleton import Anchor, Part, Skeleton

SEAM = 3  # frames on either side of a border between chunks


def find_centre(
    xy: Tensor, seen: Tensor, anchors: Sequence[Anchor], unit: Tensor | float = 1.0
) -> tuple[Tensor, Tensor]:
    """The first anchor whose joints are all seen. xy [..., J, 2], seen [..., J] -> centre [..., 2], found [..., 1]."""
    centre, found = torch.zeros_like(xy[..., 0, :]), torch.zeros_like(seen[..., :1])
    for anchor in anchors:
        here, middle = torch.ones_like(found), torch.zeros_like(centre)
        for joint in anchor.joints:
            here = here & seen[..., joint, None]
            middle = middle + xy[..., joint, :]
        shift = xy.new_tensor(anchor.offset) * unit
        centre = torch.where(here & ~found, middle / len(anchor.joints) + shift, centre)
        found = found | here
    return centre, found


def box_middle(xy: Tensor, seen: Tensor) -> Tensor:
    """The middle of the box round the joints that are seen: the centre of last resort. [..., J, 2] -> [..., 2]; 0 where none is."""
    low = torch.where(seen[..., None], xy, torch.inf).amin(-2)
    high = torch.where(seen[..., None], xy, -torch.inf).amax(-2)
    return torch.where(seen.any(-1, keepdim=True), (low + high) / 2, 0.0)


def mirror(frames: Tensor, skeleton: Skeleton) -> Tensor:
    """The signer seen in a mirror: left and right joints exchanged, x negated. [.., J, 3] -> [.., J, 3]; twice is the identity."""
    if skeleton.flip is None:
        raise UserError(
            "data.augment.mirror needs to know left from right: give data.mirror_pairs for this skeleton, or switch it off"
        )
    columns = torch.tensor(skeleton.flip, device=frames.device)[:, None] * 3 + torch.arange(3, device=frames.device)
    out = (
        frames.flatten(-2).index_select(-1, columns.flatten()).view(frames.shape)
    )  # whole rows of numbers: three times as fast as by joint
    out[..., 0].neg_()
    return out


def local_view(xy: Tensor, weight: Tensor, part: Part, centred: bool = True) -> Tensor:
    """A part seen from its own centre: xy [.., J, 2] from the origin, weight [.., J] -> [.., J_p, 2], 0 where missing."""
    own, seen = xy[..., part.joints, :], weight[..., part.joints] > 0
    if not centred:
        return own
    return torch.where(seen[..., None], own - part_centre(xy, weight, part)[..., None, :], 0.0)


def part_centre(xy: Tensor, weight: Tensor, part: Part) -> Tensor:
    """Where the part's centre is, [.., 2]: its first anchor that is seen, else the middle of its box."""
    seen = weight > 0
    centre, found = find_centre(xy, seen, part.anchors)
    return torch.where(found, centre, box_middle(xy[..., part.joints, :], seen[..., part.joints]))


@dataclass(frozen=True)
class SigningSpace:
    """The constants, fitted once on the training split, that bring each part's view into [-bbox_range, bbox_range]."""

    parts: tuple[str, ...]
    shift: Tensor  # [P, 2] unit lengths
    scale: Tensor  # [P]
    attach: Tensor  # [P, 2] from the joint that a part hangs on to its own joint there, unit lengths

    def normalise(self, view: Tensor, part: int, seen: Tensor | None = None) -> Tensor:
        """[.., J_p, 2] unit lengths -> network input; what is not `seen` stays 0."""
        out = (view - self.shift[part].to(view)) * self.scale[part].to(view)
        return out if seen is None else torch.where(seen[..., None], out, 0.0)

    def restore(self, view: Tensor, part: int) -> Tensor:
        return view / self.scale[part].to(view) + self.shift[part].to(view)

    def state_dict(self) -> dict:
        return {"parts": list(self.parts), "shift": self.shift, "scale": self.scale, "attach": self.attach}

    @classmethod
    def from_state(cls, state: Mapping) -> SigningSpace:
        return cls(tuple(state["parts"]), state["shift"], state["scale"], state["attach"])


def fit_signing_space(frames: Tensor, skeleton: Skeleton, data: Data) -> SigningSpace:
    """From prepared training frames [M, J, 3]: a box that holds 99.8 % of each part's joints. Where the skeleton can be mirrored the
    box counts mirrored frames too, so that the left hand's constants are the right hand's, mirrored."""
    if skeleton.flip is not None:
        frames = torch.cat((frames, mirror(frames, skeleton)))
    xy, weight = frames[..., :2], frames[..., 2]
    shift, scale, attach = [], [], []
    for part in skeleton.parts:
        seen = weight[:, part.joints] > 0
        values = local_view(xy, weight, part, data.normalize.center_parts)[seen]  # [K, 2]
        if len(values):
            low, high = (torch.from_numpy(np.quantile(values.double().numpy(), q, axis=0)) for q in (0.001, 0.999))
        else:
            low, high = torch.full((2,), -1.0), torch.full((2,), 1.0)
        shift.append((low + high).float() / 2)
        scale.append(data.normalize.bbox_range / ((high - low).amax().float() / 2).clamp(min=1e-3))
        own, host = part.hangs_on[0] if part.hangs_on else (part.centre, part.centre)
        both = (weight[:, own] > 0) & (weight[:, host] > 0)
        attach.append((xy[both, own] - xy[both, host]).mean(0) if bool(both.any()) else torch.zeros(2))
    return SigningSpace(
        tuple(p.name for p in skeleton.parts), torch.stack(shift), torch.stack(scale), torch.stack(attach)
    )


def assemble(
    views: Mapping[str, Tensor],
    skeleton: Skeleton,
    space: SigningSpace | None = None,
    centres: Mapping[str, Tensor] | None = None,
    sent: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """One skeleton from its parts: views {part: [T, J_p, 2]} in unit lengths -> [T, J, 3] from the origin, third channel 1 where a part
    tells the joint. The body (or, without one, the full body) stands at the origin; hands hang on its wrists, the face on its nose.
    `centres` {part: [T, 2]}, where given, says where a part's centre is instead; `sent` {part: [T] bool} in which frames it tells anything."""
    first = next(iter(views.values()))
    out = torch.zeros(len(first), skeleton.num_joints, 3, dtype=first.dtype, device=first.device)
    coarse_first = sorted(
        (p for p in skeleton.parts if p.name in views), key=lambda p: {"full_body": 0, "body": 1}.get(p.name, 2)
    )
    for part in coarse_first:
        view, centre = views[part.name], (centres or {}).get(part.name)
        if centre is None:
            centre = _hanging_centre(view, out, part, skeleton, space)
        told = torch.cat((view + centre[:, None], torch.ones_like(view[..., :1])), -1)
        out[:, part.joints] = (
            told
            if sent is None
            else torch.where(sent[part.name][:, None, None].to(out.device), told, out[:, part.joints])
        )
    return out


def _hanging_centre(view: Tensor, placed: Tensor, part: Part, skeleton: Skeleton, space: SigningSpace | None) -> Tensor:
    if part.hangs_on and bool((placed[:, part.hangs_on[0][1], 2] > 0).all()):
        own, host = part.hangs_on[0]
        attach = space.attach[space.parts.index(part.name)].to(view) if space else 0.0
        return placed[:, host, :2] + attach - view[:, own - part.start]
    if part.anchors == skeleton.origin:
        return torch.zeros_like(view[:, 0])
    return placed[:, part.centre, :2].clone()  # where the full body put it, else at the origin


def join_chunks(view: Tensor, joined: Tensor) -> Tensor:
    """Chunks that were decoded each by itself, drawn together: view [N, L, J, 2], joined [N - 1] bool which of them follow one another. Where a part
    jumps from a chunk to the next by more than it moves on either side, both sides' last SEAM frames share the difference, the nearest most."""
    seam = min(SEAM, view.shape[1] // 2)
    if len(view) < 2 or seam < 2:
        return view
    before, after = view[:-1], view[1:]
    speed = (before[:, -1] - before[:, -2] + after[:, 1] - after[:, 0]) / 2  # [N - 1, J, 2]
    off = (before[:, -1] + speed - after[:, 0]) * joined[:, None, None] / 2
    share = (1 - torch.arange(seam, device=view.device) / seam)[:, None, None]  # 1 beside the seam
    out = view.clone()
    out[1:, :seam] += off[:, None] * share
    out[:-1, -seam:] -= off[:, None] * share.flip(0)
    return out


def to_pixels(xy: Tensor, place: Tensor) -> Tensor:
    """[T, J, 2] unit lengths from the origin, place [T, 3] (origin x, y, unit) -> pixels."""
    return xy * place[:, None, 2:] + place[:, None, :2]


def in_pixels(poses: Tensor, place: Tensor) -> Tensor:
    """poses [T, J, 3] in unit lengths from the origin, the third number kept; place [T, 3] -> the same in pixels."""
    return torch.cat((to_pixels(poses[..., :2], place), poses[..., 2:]), -1)
