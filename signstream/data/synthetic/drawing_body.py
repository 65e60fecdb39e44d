"""The clothes and arms of the drawn person.

body_groups(view, joints [T, 133, 3], look) -> groups: torso, collar, upper arms, forearms with their hands
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from signstream.data.synthetic.drawing_hand import hand_groups
from signstream.data.synthetic.drawing_look import SLEEVES, Look
from signstream.data.synthetic.drawing_shapes import (
    COLLAR,
    FAR_ARM,
    NEAR_ARM,
    TORSO,
    UPPER_ARMS,
    Group,
    Shape,
    View,
    grown,
    rounded,
    stroke,
    tinted,
    tube,
    unit,
)
from signstream.skeleton import (
    LEFT_ELBOW,
    LEFT_HAND,
    LEFT_SHOULDER,
    LEFT_WRIST,
    NUM_JOINTS,
    RIGHT_ELBOW,
    RIGHT_HAND,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
)

# One side of the torso, in shoulder widths from between the shoulders: (across, down, goes along with the shoulder)
SIDE = np.array(
    [
        (0.15, -0.17, 0.3),
        (0.33, -0.13, 0.7),
        (0.50, -0.10, 1),
        (0.60, -0.02, 1),
        (0.63, 0.16, 0.8),
        (0.50, 0.42, 0.4),
        (0.45, 1.0, 0),
        (0.50, 1.5, 0),
        (0.54, 2.3, 0),
    ]
)
NECKLINES = {  # (across, down) of one side, from the neck to the middle
    "round": [(0.19, -0.12), (0.17, 0.02), (0.09, 0.10), (0, 0.12)],
    "vee": [(0.18, -0.12), (0.13, 0.05), (0, 0.30)],
    "shirt": [(0.17, -0.13), (0.10, 0.03), (0, 0.16)],
}
FLAP = np.array([(0.17, -0.15, 0.3), (0.24, -0.1, 0.3), (0.17, 0.14, 0.3), (0.02, 0.15, 0.3)])  # of a shirt's collar
ARM_THICK, SLEEVE = (0.112, 0.100, 0.068), 0.020  # shoulder, elbow, wrist; how much thicker a sleeve is


class Trunk(NamedTuple):
    """Where the shoulders are and where the torso points to, [T, 3] each."""

    left: np.ndarray
    right: np.ndarray
    across: np.ndarray
    down: np.ndarray

    def at(self, points: np.ndarray) -> np.ndarray:
        """Points (across, down, how far along with a shoulder) [P, 3] -> [T, P, 3]."""
        across, down, share = (points[:, i : i + 1] for i in range(3))
        rest = ((self.left + self.right) / 2)[:, None] + across * self.across[:, None]
        shoulder = np.where(across > 0, self.left[:, None], self.right[:, None])
        moved = shoulder + (across - 0.5 * np.sign(across)) * self.across[:, None]
        share = share * (across != 0)
        return share * moved + (1 - share) * rest + down * self.down[:, None]


def _trunk(joints: np.ndarray) -> Trunk:
    left, right = joints[:, LEFT_SHOULDER], joints[:, RIGHT_SHOULDER]
    hips = joints[:, 11:13].mean(1)
    return Trunk(left, right, unit(left - right), unit(hips - (left + right) / 2))


def _both(side: np.ndarray) -> np.ndarray:
    """One side's points [P, 3] from top to bottom -> all around."""
    return np.concatenate([side, side[::-1] * (-1, 1, 1)])


def _torso(view: View, trunk: Trunk, look: Look) -> list[Shape]:
    outline = rounded(view.place(trunk.at(_both(SIDE))))
    unit_px = view.length(trunk.left)[:, None, None]
    rim = outline + unit_px * 0.012 * np.sign(outline - outline.mean(1, keepdims=True))
    away = -np.sign(view.light[0])
    lit = grown(outline, (0.80, 1.0)) - np.array([0.07 * away, -0.03]) * unit_px
    chest = rounded(view.place(trunk.at(_both(np.array([(0.2, 0.02, 0), (0.34, 0.16, 0), (0.3, 0.5, 0)])))))
    chest = chest - np.array([0.06 * away, 0]) * unit_px
    shapes = [
        Shape(rim, tinted(look.clothes, 0.4)),
        Shape(outline, tinted(look.clothes, 0.74)),
        Shape(lit, tinted(look.clothes, 0.9)),
        Shape(chest, tinted(look.clothes, 0.94)),
    ]
    for side in (-1, 1):
        fold = trunk.at(np.array([(side * 0.47, 0.42, 0.4), (side * 0.38, 0.62, 0), (side * 0.33, 0.9, 0)]))
        width = np.array([0.012, 0.009, 0.002]) * unit_px[..., 0]
        shapes.append(Shape(stroke(view.place(fold), width), tinted(look.clothes, 0.55)))
    return shapes


def _collar(view: View, trunk: Trunk, look: Look) -> list[Shape]:
    """The neckline: skin down to it, or a collar."""

    def spot(points: list[tuple[float, float]]) -> np.ndarray:
        half = np.array([(x, y, 0.3) for x, y in points])
        return view.place(trunk.at(_both(half)))

    if look.neck == "high":
        roll = rounded(spot([(0.19, -0.3), (0.2, -0.16), (0.23, -0.06), (0.1, 0.02)]), 1)
        return [Shape(grown(roll, 1.06), tinted(look.clothes, 0.42)), Shape(roll, tinted(look.clothes, 0.86))]
    line = NECKLINES[look.neck]
    skin, under = spot(line), spot([(x * 1.16, y + 0.035) for x, y in line])
    shapes = [Shape(under, tinted(look.trim, 0.9)), Shape(skin, tinted(look.skin, 0.8))]
    if look.neck == "shirt":
        for side in (-1, 1):
            flap = view.place(trunk.at(FLAP * (side, 1, 1)))
            shapes += [Shape(grown(flap, 1.12), tinted(look.trim, 0.42)), Shape(flap, tinted(look.trim, 1))]
    return shapes


def _limb(
    view: View, ends: tuple[np.ndarray, np.ndarray], thick: tuple[float, float], *, colour: np.ndarray, bulge: float = 1
) -> list[Shape]:
    limb = tube(view, np.stack(ends, 1), np.array(thick), colour=colour, bulge=bulge)
    return [limb.rim(), *limb.body()]


def _upper_arm(view: View, look: Look, *, shoulder: np.ndarray, elbow: np.ndarray) -> list[Shape]:
    top, low, _ = ARM_THICK
    reach = SLEEVES[look.sleeves]
    shapes = []
    end, thin = elbow, low
    if reach < 0:
        shapes = _limb(view, (0.5 * (shoulder + elbow), elbow), (top, low), colour=look.skin)
        end, thin = elbow + reach * (elbow - shoulder), low - reach * (top - low)
    root = shoulder + 0.06 * (elbow - shoulder)
    return shapes + _limb(view, (root, end), (top + SLEEVE, thin + SLEEVE), colour=look.clothes, bulge=0)


def _forearm(view: View, look: Look, *, elbow: np.ndarray, wrist: np.ndarray) -> list[Shape]:
    _, low, thin = ARM_THICK
    shapes = _limb(view, (elbow, wrist), (low, thin), colour=look.skin)
    reach = SLEEVES[look.sleeves]
    if reach < 0:
        return shapes
    cuff = elbow + reach * (wrist - elbow)
    at_cuff = low + reach * (thin - low) + SLEEVE
    return shapes + _limb(view, (elbow, cuff), (low + SLEEVE, at_cuff), colour=look.clothes)


def body_groups(view: View, joints: np.ndarray, look: Look) -> list[Group]:
    """joints [T, 133, 3]; the arm that is nearer to the camera lies over the other one, hand and all."""
    trunk, still = _trunk(joints), np.zeros(len(joints))
    groups = [
        Group(still + TORSO, _torso(view, trunk, look)),
        Group(still + COLLAR, _collar(view, trunk, look)),
    ]
    left, right = joints[:, LEFT_HAND:RIGHT_HAND], joints[:, RIGHT_HAND:NUM_JOINTS]
    left_is_near = left[..., 2].mean(1) < right[..., 2].mean(1)
    arms = ((LEFT_SHOULDER, LEFT_ELBOW, LEFT_WRIST, left), (RIGHT_SHOULDER, RIGHT_ELBOW, RIGHT_WRIST, right))
    for (shoulder, elbow, wrist, hand), near in zip(arms, (left_is_near, ~left_is_near)):
        rank = np.where(near, NEAR_ARM, FAR_ARM)
        upper = _upper_arm(view, look, shoulder=joints[:, shoulder], elbow=joints[:, elbow])
        groups.append(Group(still + UPPER_ARMS, upper))
        groups.append(Group(rank, _forearm(view, look, elbow=joints[:, elbow], wrist=joints[:, wrist])))
        groups += hand_groups(view, hand, look.skin, left=hand is left, rank=rank)
    return groups
