"""What signs are made of, as a picture shows it: where hands are, their shape, how palms are turned, how they move;
what mouth and brows do.

    T frames of a clip   n joints of a hand

    original [T, 133, 3] (third channel 0 where missing), reconstructed [T, 133, 2], in any one unit  --add-->  sums
    sums --result--> {"left_hand/location": 0.05, "mouth_opening/correlation": 0.9, ...}

Of left_hand, right_hand, and `hands`, which is both:

    location, location_shoulders   distance of the hand's own wrist from the original's, in shoulder widths; each side
                                   is placed from its own nose, or from the middle of its own shoulders
    in_place                       the same from the nose, of all joints of the hand
    handshape                      distance of the fingers' joints once each side's hand is put on its wrist and turned
                                   until its palm points up; in lengths of the original's palm, a clip's median
    palm_along, palm_across        degrees between both sides' directions: from the wrist to the middle finger's root,
                                   from the index finger's root to the little finger's
    palm_side                      share of the frames in which both sides' palms are turned alike: to us, or away
    movement, movement_size        correlation of the wrist's steps from frame to frame, as seen from the nose; root of
                                   their mean square over the original's

Of mouth_opening (between the inner lips), mouth_width (between the corners) and brows (their height over the eyes, the
mean of both):

    error                          mean absolute difference, in widths of the original's eyes, a clip's median
    correlation, size              of how they change, each clip about its own mean; standard deviation over the
                                   original's

A joint counts where the original shows it, each frame alike. A palm that is seen from its end has no direction. Without
a shoulder width a clip has no places and no steps. What never changes has no correlation; a number with nothing to
count has no key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from signstream.models.metrics.sums import Sums
from signstream.skeleton import (
    FACE,
    LEFT_EYE_CORNERS,
    LEFT_HAND,
    LEFT_SHOULDER,
    NOSE,
    NUM_JOINTS,
    RIGHT_EYE_CORNERS,
    RIGHT_HAND,
    RIGHT_SHOULDER,
)
from signstream.space import only

SHORTEST = 0.25  # of a palm's length: less is a palm seen from its end
STILL = 1e-8  # of the original's sum of squares: less is rounding


class Hand(NamedTuple):
    name: str
    wrist: int  # the hand's own; four joints a finger follow, the thumb's first

    @property
    def joints(self) -> slice:
        return slice(self.wrist, self.wrist + 21)

    @property
    def fingers(self) -> slice:
        return slice(self.wrist + 1, self.wrist + 21)

    def root(self, finger: int) -> int:
        """Of a finger, the thumb 0."""
        return self.wrist + 1 + 4 * finger


class Gap(NamedTuple):
    """Between the middles of two groups of joints."""

    one: Sequence[int]
    other: Sequence[int]


HANDS = (Hand("left_hand", LEFT_HAND), Hand("right_hand", RIGHT_HAND))
BOTH = "hands"
INDEX, MIDDLE, LITTLE = 1, 2, 4  # fingers
# Of the face's 68 points 17-21 are the right brow, 22-26 the left one, 48-59 the outer and 60-67 the inner lips.
FACE_GAPS = {
    "mouth_opening": (Gap(range(FACE + 61, FACE + 64), range(FACE + 65, FACE + 68)),),
    "mouth_width": (Gap([FACE + 48], [FACE + 54]),),
    "brows": (
        Gap(range(FACE + 17, FACE + 22), RIGHT_EYE_CORNERS),
        Gap(range(FACE + 22, FACE + 27), LEFT_EYE_CORNERS),
    ),
}
EYES = tuple(Gap([one], [other]) for one, other in (RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS))
MEANS = ("location", "location_shoulders", "in_place", "handshape", "palm_along", "palm_across", "palm_side")
HAND_NUMBERS = (*MEANS, "movement", "movement_size")
FACE_NUMBERS = ("error", "correlation", "size")
NUMBERS = dict.fromkeys((*(hand.name for hand in HANDS), BOTH), HAND_NUMBERS) | dict.fromkeys(FACE_GAPS, FACE_NUMBERS)


class Sides(NamedTuple):
    """Original and reconstruction. Places are complex numbers x + iy: their product with a conjugate turns them."""

    truth: Tensor
    made: Tensor
    seen: Tensor  # bool, of the same shape

    def joints(self, which: int | slice) -> Sides:
        """[T, 133] -> [T] or [T, n]."""
        return Sides(self.truth[:, which], self.made[:, which], self.seen[:, which])

    def placed(self, origin: Sequence[int]) -> Sides:
        """[T, 133], each side from the middle of some of its joints."""
        placed = self.each(lambda side: side - _middle(side, origin)[:, None])
        return placed.where(self.seen[:, list(origin)].all(1, keepdim=True))

    def gap(self, gaps: Sequence[Gap]) -> Sides:
        """[T, 133] -> [T] the mean length of some gaps."""
        joints = [joint for gap in gaps for joint in (*gap.one, *gap.other)]
        return self.each(lambda side: _mean_length(side, gaps))._replace(seen=self.seen[:, joints].all(1))

    def direction(self, start: int, end: int) -> Sides:
        """[T, 133] -> [T], from joint to joint."""
        seen = self.seen[:, start] & self.seen[:, end]
        return self.each(lambda side: side[:, end] - side[:, start])._replace(seen=seen)

    def turned_by(self, other: Sides) -> Sides:
        """Each side turned back by its own direction of the other, which comes to lie on the axis."""
        truth, made = self.truth * torch.sgn(other.truth).conj(), self.made * torch.sgn(other.made).conj()
        return Sides(truth, made, self.seen & other.seen)

    def about_mean(self) -> Sides:
        return self.each(lambda side: side - side[self.seen].mean())

    def each(self, change: Callable[[Tensor], Tensor]) -> Sides:
        return Sides(change(self.truth), change(self.made), self.seen)

    def where(self, seen: Tensor) -> Sides:
        return self._replace(seen=self.seen & seen)

    def apart(self) -> Tensor:
        return (self.made - self.truth).abs()


class Signs(Sums):
    """Of COCO-WholeBody's 133 joints."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        shapes: dict[str, tuple[int, ...]] = {}
        for hand in HANDS:
            shapes |= {f"{hand.name}/{name}": (2,) for name in MEANS} | {f"{hand.name}/changes": (3,)}
        for name in FACE_GAPS:
            shapes |= {f"{name}/error": (2,), f"{name}/changes": (3,)}
        super().__init__(shapes, device)

    @torch.no_grad()
    def add(self, original: Tensor, reconstructed: Tensor, *, width: float | None) -> None:
        """A whole clip: original [T, 133, 3], reconstructed [T, 133, 2], and the shoulders' width in their unit."""
        assert original.shape[1:] == (NUM_JOINTS, 3) and reconstructed.shape[1:] == (NUM_JOINTS, 2)
        seen = original[..., 2] > 0
        truth, made = (torch.view_as_complex(only(side.double(), seen)) for side in (original[..., :2], reconstructed))
        sides = Sides(truth, made, seen)
        for hand in HANDS:
            if width:
                self._add_places(hand, sides, width)
            self._add_palm(hand, sides)
        self._add_face(sides)

    def _add_places(self, hand: Hand, sides: Sides, width: float) -> None:
        from_nose = sides.placed([NOSE])
        wrist, whole = from_nose.joints(hand.wrist), from_nose.joints(hand.joints)
        self._add_mean(f"{hand.name}/location", wrist.apart() / width, wrist.seen)
        self._add_mean(f"{hand.name}/in_place", whole.apart() / width, whole.seen)
        steps = wrist.each(lambda side: side.diff() / width)
        self._add_changes(hand.name, steps._replace(seen=wrist.seen[1:] & wrist.seen[:-1]))
        wrist = sides.placed([LEFT_SHOULDER, RIGHT_SHOULDER]).joints(hand.wrist)
        self._add_mean(f"{hand.name}/location_shoulders", wrist.apart() / width, wrist.seen)

    def _add_palm(self, hand: Hand, sides: Sides) -> None:
        along = sides.direction(hand.wrist, hand.root(MIDDLE))
        across = sides.direction(hand.root(INDEX), hand.root(LITTLE))
        palm = _median(along.truth.abs(), along.seen)
        if not palm:
            return
        along = along.where(along.truth.abs() >= SHORTEST * palm)
        breadth = across.turned_by(along)
        breadth = breadth.where(breadth.truth.imag.abs() >= SHORTEST * palm)
        across = across.where(across.truth.abs() >= SHORTEST * palm)
        upright = Sides(along.truth[:, None], along.made[:, None], along.seen[:, None])
        fingers = sides.placed([hand.wrist]).joints(hand.fingers).turned_by(upright)
        self._add_mean(f"{hand.name}/handshape", fingers.apart() / palm, fingers.seen)
        for name, palms in {"palm_along": along, "palm_across": across}.items():
            self._add_mean(f"{hand.name}/{name}", _degrees(palms.made * palms.truth.conj()), palms.seen)
        alike = breadth.truth.imag * breadth.made.imag > 0
        self._add_mean(f"{hand.name}/palm_side", alike.double(), breadth.seen)

    def _add_face(self, sides: Sides) -> None:
        eyes = sides.gap(EYES)
        eye = _median(eyes.truth, eyes.seen)
        if not eye:
            return
        for name, gaps in FACE_GAPS.items():
            lengths = sides.gap(gaps).each(lambda length: length / eye)
            self._add_mean(f"{name}/error", lengths.apart(), lengths.seen)
            self._add_changes(name, lengths.about_mean())

    def _add_mean(self, name: str, values: Tensor, seen: Tensor) -> None:
        self.count(name, torch.stack([torch.where(seen, values, 0.0).sum(), seen.sum()]))

    def _add_changes(self, name: str, changes: Sides) -> None:
        """The sums of squares of both sides, and of their products."""
        truth, made = (torch.where(changes.seen, side, 0) for side in changes[:2])
        products = truth * truth.conj(), made * made.conj(), truth * made.conj()
        self.count(f"{name}/changes", torch.stack([product.real.sum() for product in products]))

    def result(self) -> dict[str, float]:
        totals = self.totals()
        found: dict[str, float | None] = {}
        for group, numbers in NUMBERS.items():
            members = [hand.name for hand in HANDS] if group == BOTH else [group]
            means = [name for name in numbers if f"{members[0]}/{name}" in totals]
            for name in means:
                total, count = _over(totals, members, name).tolist()
                found[f"{group}/{name}"] = total / count if count else None
            change = Change.of(_over(totals, members, "changes"))
            found |= {f"{group}/{name}": value for name, value in zip(numbers[len(means) :], change)}
        return {name: value for name, value in found.items() if value is not None}


class Change(NamedTuple):
    """How two curves change together; None: one of them does not."""

    correlation: float | None
    size: float | None  # of the second over the first

    @classmethod
    def of(cls, sums: Tensor) -> Change:
        """The sum of squares of the first, of the second, and of their products."""
        first, second, both = sums.tolist()
        if first <= 0:
            return cls(None, None)
        still = second <= STILL * first
        return cls(None if still else both / math.sqrt(first * second), 0.0 if still else math.sqrt(second / first))


def _over(totals: Mapping[str, Tensor], members: Sequence[str], name: str) -> Tensor:
    return torch.stack([totals[f"{member}/{name}"] for member in members]).sum(0)


def _middle(side: Tensor, joints: Sequence[int]) -> Tensor:
    """[T, 133] -> [T]"""
    return side[:, list(joints)].mean(1)


def _mean_length(side: Tensor, gaps: Sequence[Gap]) -> Tensor:
    """[T, 133] -> [T]"""
    return torch.stack([(_middle(side, gap.one) - _middle(side, gap.other)).abs() for gap in gaps]).mean(0)


def _median(values: Tensor, seen: Tensor) -> float:
    """0 of nothing."""
    return float(values[seen].quantile(0.5)) if bool(seen.any()) else 0.0


def _degrees(turn: Tensor) -> Tensor:
    """Of a turn as a complex number, either way; what has no direction is as far off as chance."""
    return torch.where(turn == 0, 90.0, turn.angle().abs().rad2deg())
