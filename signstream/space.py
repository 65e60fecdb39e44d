"""Where joints are, in which lengths: pixels, unit lengths from the origin, a part's own view, signing space; each step
with its inverse.

    joints [.., J, 2] in unit lengths  --local_view-->  a part's view [.., J_p, 2]
    a part's view  <--SigningSpace-->  network input in [-bbox_range, bbox_range]
    chunks of a part's view  --join_chunks-->  the same, without a jump from one to the next
    parts' views  --assemble-->  skeleton [.., J, 3] in unit lengths  --in_pixels-->  pixels
    which parts were sent  --scores-->  which joints they tell of, [.., J]

Tensors and skeletons alone: nothing in this module knows of files or models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from signstream.config import Data
from signstream.errors import UserError
from signstream.skeleton import Anchor, Part, Skeleton

SEAM = 3  # frames on either side of a border between chunks
COARSE_FIRST = {"full_body": 0, "body": 1}  # what is drawn over by finer parts
USUAL = 0.5  # share of a part's training frames that show a joint: below it the joint is not known from the part


def recorded() -> bool:
    """Whether a graph for any number of chunks is being made: traced, exported or compiled."""
    compiling = torch.compiler.is_compiling if hasattr(torch.compiler, "is_compiling") else torch._dynamo.is_compiling
    return torch.jit.is_tracing() or compiling()


def may_look_at(values: Tensor) -> bool:
    """Whether values may decide what is computed: a GPU would have to be waited for, a graph would keep the
    decision."""
    return not (values.is_cuda or recorded())


def find_centre(
    xy: Tensor, weight: Tensor, anchors: Sequence[Anchor], *, unit: Tensor | float = 1.0
) -> tuple[Tensor, Tensor]:
    """The first anchor whose joints are all seen, those whose weight is not 0. xy [.., J, 2], weight [.., J] -> centre
    [.., 2], and whether there is one [.., 1]."""
    centre = torch.zeros_like(xy[..., 0, :])
    known = torch.zeros_like(weight[..., :1], dtype=torch.bool)
    for anchor in anchors:
        first, *others = anchor.joints
        complete, middle = weight[..., first, None] > 0, xy[..., first, :]
        for joint in others:
            complete = complete & (weight[..., joint, None] > 0)
            middle = middle + xy[..., joint, :]
        shift = xy.new_tensor(anchor.offset) * unit
        centre = torch.where(complete & ~known, middle / len(anchor.joints) + shift, centre)
        known = known | complete
        if may_look_at(known) and bool(known.all()):
            break
    return centre, known


def only(points: Tensor, seen: Tensor, otherwise: float = 0.0) -> Tensor:
    """Points [.., D] where they are seen [..], `otherwise` where not. A CPU takes half as long with a mask that lies as
    they do as with one that is stretched to them."""
    return torch.where(torch.stack((seen,) * points.shape[-1], -1), points, otherwise)


def box_middle(xy: Tensor, seen: Tensor) -> Tensor:
    """The middle of the box round the joints that are seen: the centre of last resort. [..., J, 2] -> [..., 2]; 0 where
    none is."""
    low, high = only(xy, seen, torch.inf).amin(-2), only(xy, seen, -torch.inf).amax(-2)
    return torch.where(seen.any(-1, keepdim=True), (low + high) / 2, 0.0)


def mirror(frames: Tensor, skeleton: Skeleton) -> Tensor:
    """The signer seen in a mirror: left and right joints exchanged, x negated. [.., J, 3] -> [.., J, 3]; twice is the
    identity."""
    if skeleton.flip is None:
        what = "data.augment.mirror needs to know left from right"
        raise UserError(f"{what}: give data.mirror_pairs for this skeleton, or switch it off")
    columns = torch.tensor(skeleton.flip, device=frames.device)[:, None] * 3 + torch.arange(3, device=frames.device)
    # whole rows of numbers: three times as fast as by joint
    out = frames.flatten(-2).index_select(-1, columns.flatten()).view(frames.shape)
    out[..., 0].neg_()
    return out


def local_view(xy: Tensor, weight: Tensor, part: Part, *, centred: bool = True) -> Tensor:
    """A part seen from its own centre: xy [.., J, 2] from the origin, weight [.., J] -> [.., J_p, 2], 0 where
    missing."""
    joints, seen = xy[..., part.joints, :], weight[..., part.joints] > 0
    if not centred:
        return joints
    return only(joints - part_centre(xy, weight, part)[..., None, :], seen)


def part_centre(xy: Tensor, weight: Tensor, part: Part) -> Tensor:
    """Where the part's centre is, [.., 2]: its first anchor that is seen, else the middle of its box."""
    centre, known = find_centre(xy, weight, part.anchors)
    if not may_look_at(known):
        return torch.where(known, centre, box_middle(xy[..., part.joints, :], weight[..., part.joints] > 0))
    lost = ~known[..., 0]
    if bool(lost.any()):
        centre[lost] = box_middle(xy[lost][:, part.joints], weight[lost][:, part.joints] > 0)
    return centre


@dataclass(frozen=True)
class SigningSpace:
    """The constants, fitted once on the training split, that bring each part's view into [-bbox_range, bbox_range]."""

    parts: tuple[str, ...]
    shift: Tensor  # [P, 2] unit lengths
    scale: Tensor  # [P]
    attach: Tensor  # [P, 2] from the joint that a part hangs on to its own joint there, unit lengths
    # [P, J] of the training frames that show anything of a part, the share that shows a joint; None: never counted
    shown: Tensor | None = None

    def normalise(self, view: Tensor, part: int, seen: Tensor | None = None) -> Tensor:
        """[.., J_p, 2] unit lengths -> network input; what is not `seen` stays 0."""
        out = (view - self.shift[part].to(view)) * self.scale[part].to(view)
        return out if seen is None else only(out, seen)

    def restore(self, view: Tensor, part: int) -> Tensor:
        return view / self.scale[part].to(view) + self.shift[part].to(view)

    def state_dict(self) -> dict[str, Any]:
        state = {"parts": list(self.parts), "shift": self.shift, "scale": self.scale, "attach": self.attach}
        return state if self.shown is None else {**state, "shown": self.shown}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> SigningSpace:
        return cls(tuple(state["parts"]), state["shift"], state["scale"], state["attach"], state.get("shown"))


class Box(NamedTuple):
    low: Tensor  # [2]
    high: Tensor


def fit_signing_space(frames: Tensor, skeleton: Skeleton, data: Data) -> SigningSpace:
    """From prepared training frames [M, J, 3]: a box that holds 99.8 % of each part's joints. Where the skeleton can be
    mirrored the box counts mirrored frames too, so that the left hand's constants are the right hand's, mirrored."""
    sides = [frames] if skeleton.flip is None else [frames, mirror(frames, skeleton)]
    shift: list[Tensor] = []
    scale: list[Tensor] = []
    attach: list[Tensor] = []
    shown: list[Tensor] = []
    for part in skeleton.parts:
        low, high = _box(torch.cat([_shown(side, part, data) for side in sides]))
        shift.append((low + high).float() / 2)
        scale.append(data.normalize.bbox_range / ((high - low).amax().float() / 2).clamp(min=1e-3))
        joint, host = part.hangs_on[0] if part.hangs_on else (part.centre, part.centre)
        ends = torch.cat([side[:, [joint, host]] for side in sides])  # [M, 2, 3]
        apart = (ends[:, 0, :2] - ends[:, 1, :2])[(ends[..., 2] > 0).all(1)]
        attach.append(apart.mean(0) if len(apart) else torch.zeros(2))
        shown.append(_share_shown(sides, part))
    parts = tuple(part.name for part in skeleton.parts)
    return SigningSpace(parts, torch.stack(shift), torch.stack(scale), torch.stack(attach), torch.stack(shown))


def _shown(frames: Tensor, part: Part, data: Data) -> Tensor:
    """[K, 2] wherever a joint of the part is seen from its centre."""
    xy, weight = frames[..., :2], frames[..., 2]
    return local_view(xy, weight, part, centred=data.normalize.center_parts)[weight[:, part.joints] > 0]


def _box(values: Tensor) -> Box:
    """That holds all but a thousandth at either end of each axis of [K, 2]; one axis at a time, for memory."""
    if not len(values):
        return Box(torch.full((2,), -1.0), torch.full((2,), 1.0))
    columns = (values[:, axis].double().numpy() for axis in range(2))
    ends = [np.quantile(column, (0.001, 0.999), overwrite_input=True) for column in columns]
    return Box(*torch.from_numpy(np.stack(ends, 1)))


def _share_shown(sides: Sequence[Tensor], part: Part) -> Tensor:
    """[M, J, 3] each -> [J]: of the frames that show anything of the part, the share that shows each of its joints."""
    seen = [side[:, part.joints, 2] > 0 for side in sides]
    share = torch.zeros(sides[0].shape[1])
    frames = torch.stack([each.any(1).sum() for each in seen]).sum()
    share[part.joints] = torch.stack([each.sum(0) for each in seen]).sum(0) / frames.clamp(min=1)
    return share


def assemble(
    views: Mapping[str, Tensor],
    skeleton: Skeleton,
    space: SigningSpace | None = None,
    *,
    centres: Mapping[str, Tensor] | None = None,
    sent: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """One skeleton from its parts: views {part: [.., J_p, 2]} in unit lengths -> [.., J, 3] from the origin, third
    channel 1 where a part draws the joint. The body (or, without one, the full body) stands at the origin; hands hang
    on its wrists, the face on its nose. `centres` {part: [.., 2]}, where given, says where a part's centre is instead;
    `sent` {part: [..] bool} in which frames it draws anything. Nothing is written into a tensor and no number is looked
    at, so that exported files hold this function."""
    nothing = torch.zeros_like(next(iter(views.values()))[..., :1, :1])  # [.., 1, 1]
    out = nothing.expand(*nothing.shape[:-2], skeleton.num_joints, 3)
    for part in _coarse_first(skeleton):
        if part.name not in views:
            continue
        view, centre = views[part.name], (centres or {}).get(part.name)
        if centre is None:
            centre = _hanging_centre(view, out, part, skeleton=skeleton, space=space)
        drawn = torch.cat((view + centre[..., None, :], torch.ones_like(view[..., :1])), -1)  # [.., J_p, 3]
        if sent is not None:
            drawn = torch.where(sent[part.name][..., None, None].to(view.device), drawn, out[..., part.joints, :])
        pieces = [out[..., : part.start, :], drawn, out[..., part.stop :, :]]
        widths = [part.start, len(part), skeleton.num_joints - part.stop]
        out = torch.cat([piece for piece, width in zip(pieces, widths) if width], -2)
    return out


def scores(sent: Mapping[str, Tensor], skeleton: Skeleton, space: SigningSpace) -> Tensor:
    """Which joints are known: sent {part: [..] bool}, of the parts that could be -> [.., J], 1 or 0. The finest part
    that has a joint decides: a hand that was not sent was not in view, although the full body draws one. And no part
    knows of joints that training seldom showed with it, such as legs."""
    some = next(iter(sent.values()))
    out = torch.zeros(*some.shape, skeleton.num_joints, device=some.device)
    for part in _coarse_first(skeleton):
        if part.name not in sent:
            continue
        known = torch.ones(len(part), dtype=torch.bool)
        if space.shown is not None:
            known = space.shown[space.parts.index(part.name), part.joints] >= USUAL
        out[..., part.joints] = (sent[part.name][..., None] & known.to(some.device)).to(out.dtype)
    return out


def _coarse_first(skeleton: Skeleton) -> list[Part]:
    return sorted(skeleton.parts, key=lambda part: COARSE_FIRST.get(part.name, 2))


def _hanging_centre(
    view: Tensor, drawn: Tensor, part: Part, *, skeleton: Skeleton, space: SigningSpace | None
) -> Tensor:
    """Where a part [.., J_p, 2] goes in the skeleton as drawn so far [.., J, 3] -> [.., 2]: on its host, where every
    frame has that; else where the full body put it, or at the origin."""
    if part.anchors == skeleton.origin:
        centre = torch.zeros_like(view[..., 0, :])
    else:
        centre = drawn[..., part.centre, :2]
    if not part.hangs_on:
        return centre
    joint, host = part.hangs_on[0]
    attach = space.attach[space.parts.index(part.name)].to(view) if space else 0.0
    hung = drawn[..., host, :2] + attach - view[..., joint - part.start, :]
    return torch.where((drawn[..., host, 2] > 0).all(), hung, centre)


def follows_on(sent: Tensor, clip: Tensor | None = None) -> Tensor:
    """sent [N, P] bool, clip [N] (one clip, if not given) -> [N, P]: whether a chunk shows a part, and the chunk before
    it, of the same clip, does too. Neighbours are rolled into place, since a slice of N - 1 rows would be none of one
    chunk, which no exporter takes."""
    follows = sent & sent.roll(1, 0) & (torch.arange(sent.shape[0], device=sent.device) > 0)[:, None]
    return follows if clip is None else follows & (clip == clip.roll(1))[:, None]


def join_chunks(view: Tensor, follows: Tensor) -> Tensor:
    """Chunks that were decoded each by itself, drawn together: view [N, L, J, 2], follows [N] bool which of them go on
    from the one before (not the first). Where a part jumps from a chunk to the next by more than it moves on either
    side, both sides' last SEAM frames share the difference, the nearest most."""
    frames = view.shape[1]
    seam = min(SEAM, frames // 2)
    if seam < 2:
        return view
    before = view[:, -2:].roll(1, 0)  # [N, 2, J, 2] the last two frames of the chunk before
    speed = (before[:, 1] - before[:, 0] + view[:, 1] - view[:, 0]) / 2  # [N, J, 2]
    off = (before[:, 1] + speed - view[:, 0]) * follows[:, None, None].to(view.dtype) / 2
    share = 1 - torch.arange(frames, device=view.device) / seam  # [L] 1 beside the seam
    share = share.clamp(min=0)[:, None, None]
    next_off = off.roll(-1, 0)  # the first chunk's is 0, so the last one has none
    return view + off[:, None] * share - next_off[:, None] * share.flip(0)


def to_pixels(xy: Tensor, place: Tensor) -> Tensor:
    """[T, J, 2] unit lengths from the origin, place [T, 3] (origin x, y, unit) -> pixels."""
    return xy * place[:, None, 2:] + place[:, None, :2]


def in_pixels(poses: Tensor, place: Tensor) -> Tensor:
    """poses [T, J, 3] in unit lengths from the origin, the third number kept; place [T, 3] -> the same in pixels."""
    return torch.cat((to_pixels(poses[..., :2], place), poses[..., 2:]), -1)
