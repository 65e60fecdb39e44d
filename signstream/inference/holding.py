"""Holding: a part goes on with what it sent last while that draws the chunk about as well as its new codes would.

    choice = Choice(codes [N, P, Q], views P x [N, L, J, 2], targets P, ..)  # what N chunks would send
    last = None
    for offer in choice.offers():                                           # of one clip, in order
        last = hold(last, offer, limit)                                     # last.codes [P][Q] is what the chunk sends

Both are held against the chunk itself, so a slow movement is noticed once it has added up.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from signstream.tasks.rvq.views import Target


class Offer(NamedTuple):
    """What one chunk's parts would send if none held."""

    codes: list[list[int]]  # P x Q; -1 where nothing is sent
    views: list[Tensor]  # P x [L, J, 2] what they decode to, in signing space
    targets: list[Target]  # P: what they should
    new_error: list[float]  # P: how far off that is
    held_error: list[float] | None  # P: how far off the new codes of the chunk before are; None: not worked out


class Sent(NamedTuple):
    """What the parts sent last."""

    codes: list[list[int]]  # P x Q
    views: list[Tensor]  # P x [L, J, 2]
    held: tuple[bool, ...]  # P: whether a part had sent it before


class Choice(NamedTuple):
    """What N chunks would send, under the budget."""

    codes: Tensor  # [N, P, Q]
    views: list[Tensor]  # P x [N, L, J, 2]
    targets: list[Target]  # P x [N, L, J, ..]
    latents: Tensor  # [N, P, Z] what the codes stand for; 0 where a chunk shows nothing of the part
    alone: Tensor | None = None  # [P, N, Z] the latents without a look back, which later chunks look back on

    def offers(self, look_back: bool = False) -> list[Offer]:
        """One a chunk; `look_back` works out all held errors at once, each with the row before, whatever clip that is
        of."""
        errors = [distance(view, target) for view, target in zip(self.views, self.targets)]
        new = torch.stack(errors, 1).tolist()
        held = self._held_errors() if look_back else [None] * len(new)
        codes = self.codes.tolist()
        return [
            Offer(codes[n], [view[n] for view in self.views], [_at(t, n) for t in self.targets], new[n], held[n])
            for n in range(len(new))
        ]

    def _held_errors(self) -> list[list[float] | None]:
        if len(self.codes) < 2:
            return [None] * len(self.codes)
        following = [Target(target.xy[1:], target.weight[1:]) for target in self.targets]
        errors = [distance(view[:-1], target) for view, target in zip(self.views, following)]
        return [None, *torch.stack(errors, 1).tolist()]


def _at(target: Target, n: int) -> Target:
    return Target(target.xy[n], target.weight[n])


def hold(last: Sent | None, offer: Offer, limit: float, *, told: int | None = None) -> Sent:
    """What the chunk sends: a part holds while its old codes are off by less than `limit` more than its new ones. The
    part that is `told`, not drawn, says what it says."""
    if last is None or limit <= 0:
        return Sent(offer.codes, offer.views, (False,) * len(offer.codes))
    held = tuple(p != told and _holds(last, offer, p, limit=limit) for p in range(len(offer.codes)))
    codes = [old if keep else new for keep, old, new in zip(held, last.codes, offer.codes)]
    views = [old if keep else new for keep, old, new in zip(held, last.views, offer.views)]
    return Sent(codes, views, held)


def _holds(last: Sent, offer: Offer, p: int, *, limit: float) -> bool:
    if last.codes[p][0] < 0 or offer.codes[p][0] < 0:
        return False
    if (
        offer.held_error is not None and not last.held[p]
    ):  # then what it sent last are the new codes of the chunk before
        held_error = offer.held_error[p]
    else:
        target = offer.targets[p]
        held_error = float(distance(last.views[p][None], Target(target.xy[None], target.weight[None])))
    return held_error - offer.new_error[p] < limit


def distance(views: Tensor, target: Target) -> Tensor:
    """[n, L, J, 2] and what they should be -> [n]: how far the visible joints are off, on average. In float64: the
    same in any company."""
    visible = target.weight > 0
    far = torch.where(visible, (views - target.xy).double().norm(dim=-1), 0.0).sum((1, 2))
    return far / visible.sum((1, 2)).clamp(min=1)
