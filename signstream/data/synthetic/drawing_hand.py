"""A hand of the drawn person: five fingers that lie over or under the palm, creases inside, nails outside.

hand_groups(view, hand [T, 21, 3], skin, left=False, rank=rank [T]) -> groups
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from signstream.data.synthetic.body import PALM
from signstream.data.synthetic.drawing_shapes import Group, Shape, Tube, View, ellipse, stroke, tinted, tube, unit

# How thick each finger is at its four joints, in palms; thumb to little finger.
FINGERS = np.array(
    [
        [0.165, 0.125, 0.107, 0.085],
        [0.107, 0.097, 0.088, 0.072],
        [0.110, 0.100, 0.090, 0.074],
        [0.104, 0.094, 0.085, 0.070],
        [0.092, 0.082, 0.073, 0.062],
    ]
)
ROOTS = np.array([0.15, 0.16, 0.05, -0.07, -0.17])  # where the palm's bones begin, in palms from the wrist to the thumb
BONES = np.array([[0.16, 0.185], [0.15, 0.115], [0.15, 0.115], [0.15, 0.112], [0.145, 0.105]])
PALE = np.array([236.0, 190.0, 168.0])  # what the inside of every hand is a little like
FACING = 0.16  # a finger this many palms behind the palm is drawn under it


class Axes(NamedTuple):
    """Unit directions [T, 3]: to the tips, to the thumb, out of the palm; `size` is a palm in shoulder widths."""

    tips: np.ndarray
    thumb: np.ndarray
    palm: np.ndarray
    side: int  # 1 for a right hand, -1 for a left one
    size: float


def _axes(view: View, hand: np.ndarray, left: bool) -> Axes:
    tips = unit(hand[:, 9] - hand[:, 0])
    thumb = hand[:, 5] - hand[:, 17]
    thumb = unit(thumb - (thumb * tips).sum(-1, keepdims=True) * tips)
    side = -1 if left else 1
    return Axes(tips, thumb, side * np.cross(thumb, tips), side, PALM * view.signer.hand)


def _fingers(view: View, hand: np.ndarray, axes: Axes, *, skin: np.ndarray, rank: np.ndarray) -> list[Group]:
    chain = hand[:, 1:].reshape(-1, 5, 4, 3)
    ends = np.stack([chain[:, :, :-1], chain[:, :, 1:]], 3)  # [T, 5, 3, 2, 3]
    order = np.argsort(-ends[..., 2].mean(-1), axis=-1)[..., None, None]
    bulge = np.take_along_axis(np.broadcast_to([0.0, 1, 1], order.shape[:-2]), order[..., 0, 0], -1)
    radii = np.stack([FINGERS[:, :-1], FINGERS[:, 1:]], -1) * axes.size
    radii = np.take_along_axis(np.broadcast_to(radii, (len(hand), 5, 3, 2)), order[..., 0], 2)
    limbs = tube(view, np.take_along_axis(ends, order, 2), radii, colour=skin, bulge=bulge)
    behind = chain[:, :, 1:, 2].mean(-1) - hand[:, (0, 5, 9, 13, 17), 2].mean(1, keepdims=True)
    over = np.tanh(2.5 * (FACING - behind / axes.size))  # [T, 5]
    nails = _nails(view, ends[:, :, 2], axes, skin=skin)
    groups = []
    for finger in range(5):
        shapes = [limbs.rim(finger, bone) for bone in range(3)]
        shapes += [shape for bone in range(3) for shape in limbs.body(finger, bone)]
        groups.append(Group(rank + 5 + 4 * over[:, finger], [*shapes, nails[finger]]))
    return groups


def _nails(view: View, last: np.ndarray, axes: Axes, *, skin: np.ndarray) -> list[Shape]:
    """last [T, 5, 2, 3]: where the fingers' last bones begin and end."""
    bone = last[:, :, 1] - last[:, :, 0]
    ahead = unit(bone)
    outward = axes.side * np.cross(ahead, axes.thumb[:, None])
    outward[:, 0] = unit(axes.thumb - axes.palm)
    outward = unit(outward - (outward * ahead).sum(-1, keepdims=True) * ahead)
    thick = FINGERS[:, 3:] * axes.size
    centre = last[:, :, 0] + 0.72 * bone + 0.8 * thick * outward
    nail = view.place(ellipse(centre, 0.33 * bone, 0.62 * thick * np.cross(ahead, outward), points=8))
    colour = np.clip(tinted(skin, 1.08) + np.array([10, -4, 2]), 0, 255)
    return [Shape(nail[:, finger], colour, outward[:, finger, 2] < -0.3) for finger in range(5)]


def _palm(view: View, hand: np.ndarray, axes: Axes, *, skin: np.ndarray) -> list[Shape]:
    to_camera = np.where(axes.palm[:, 2:] < 0, axes.palm, -axes.palm)
    lit = np.maximum(to_camera @ view.light, 0)
    roots = hand[:, :1] + ROOTS[:, None] * axes.size * axes.thumb[:, None]
    heads = hand[:, (1, 5, 9, 13, 17)]
    bones = tube(view, np.stack([roots, heads], 2), BONES * axes.size, colour=skin, bulge=0.0)
    middle = view.place(np.concatenate([roots[:, :1], hand[:, (1, 5, 9, 13, 17)], roots[:, 4:]], 1))
    inside = axes.palm[:, 2] < 0
    pale = 0.75 * skin + 0.25 * PALE
    colour = np.where(inside[:, None], tinted(pale, 0.66 + 0.32 * lit), tinted(skin, 0.66 + 0.32 * lit))
    shapes = [bones.rim(bone) for bone in range(5)]
    shapes += [Shape(bones.fill[:, bone], colour) for bone in range(5)]
    shapes.append(Shape(middle, colour))
    return shapes + _creases(view, hand, axes, skin=pale, inside=inside) + _back(bones, skin, lit=lit, inside=inside)


def _creases(view: View, hand: np.ndarray, axes: Axes, *, skin: np.ndarray, inside: np.ndarray) -> list[Shape]:
    """The ball of the thumb and the two lines across, where the palm is seen."""
    wrist, index, little = hand[:, 0], hand[:, 5], hand[:, 17]
    ball = 0.45 * wrist + 0.4 * hand[:, 1] + 0.15 * index + 0.1 * axes.size * axes.palm
    across, along = 0.13 * axes.size * axes.thumb, 0.27 * axes.size * axes.tips
    shapes = [Shape(view.place(ellipse(ball, across, along)), tinted(skin, 1.0), inside)]
    middle = hand[:, 9]
    lines = (
        (0.9 * little + 0.1 * wrist, 0.8 * middle + 0.2 * wrist, 0.96 * index + 0.04 * wrist),
        (0.8 * index + 0.2 * wrist, 0.62 * middle + 0.38 * wrist, 0.5 * little + 0.5 * wrist),
    )
    for line in lines:
        points = np.stack(line, 1)
        width = 0.018 * axes.size * view.length(points)
        shapes.append(Shape(stroke(view.place(points), width), tinted(skin, 0.6), inside))
    return shapes


def _back(bones: Tube, skin: np.ndarray, *, lit: np.ndarray, inside: np.ndarray) -> list[Shape]:
    """The knuckles' bones, where the back is seen."""
    colour = tinted(skin, 0.74 + 0.34 * lit)
    return [Shape(bones.lit[:, bone], colour, ~inside) for bone in range(1, 5)]


def hand_groups(view: View, hand: np.ndarray, skin: np.ndarray, *, left: bool, rank: np.ndarray) -> list[Group]:
    """hand [T, 21, 3]; palm and fingers get ranks from rank + 1 to rank + 9."""
    axes = _axes(view, hand, left)
    palm = Group(rank + 5, _palm(view, hand, axes, skin=skin))
    return [palm, *_fingers(view, hand, axes, skin=skin, rank=rank)]
