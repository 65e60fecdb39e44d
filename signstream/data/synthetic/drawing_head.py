"""The head of the drawn person: a face whose mouth, brows and lids are where the joints are; ears, hair, glasses.

    head_groups(view, joints [T, 133, 3], look) -> groups: hair behind the shoulders, neck and head

What has no joint is given as the face in signer.py is, in eye widths from the nose tip, and turns along with the head.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from signstream.data.synthetic.body import EYE
from signstream.data.synthetic.drawing_look import Look
from signstream.data.synthetic.drawing_shapes import (
    BEHIND,
    HEAD,
    NECK,
    Group,
    Shape,
    View,
    ellipse,
    grown,
    rounded,
    stroke,
    tinted,
)
from signstream.data.synthetic.signer import neutral_face
from signstream.skeleton import FACE, LEFT_HAND

RIGID = (0, 1, 2, 14, 15, 16, 27, 28, 29, 30, 31, 33, 35, 36, 39, 42, 45)  # of the 68, what no expression moves
SKULL = [(2.62, -0.7), (2.78, -1.9), (2.62, -3.1), (2.0, -4.1), (1.15, -4.8)]  # from an ear to the crown
TEMPLE = [(2.36, -1.0), (2.3, -1.9)]
HAIRLINES = {  # from one temple to the other
    "back": [(1.95, -2.65), (1.15, -3.1), (0, -3.2), (-1.15, -3.1), (-1.95, -2.65)],
    "side": [(1.9, -2.35), (1.55, -2.95), (0.7, -3.3), (-0.9, -2.75), (-1.9, -2.2)],
    "straight": [(1.95, -2.3), (1.2, -2.42), (0, -2.5), (-1.2, -2.42), (-1.95, -2.3)],
}


class Head(NamedTuple):
    """Where a head is in every frame, and its 68 points on the canvas."""

    view: View
    look: Look
    turn: np.ndarray  # [T, 3, 3], for row vectors
    centre: np.ndarray  # [T, 3] where the rigid points' mean lies
    unit: float  # an eye width in shoulder widths
    face: np.ndarray  # [T, 68, 2] px
    eye: np.ndarray  # [T] px of an eye width

    def at(self, points: list[tuple[float, float]] | np.ndarray, depth: float | np.ndarray = 0.75) -> np.ndarray:
        """Points (x, y) of the head -> [T, P, 2] px."""
        xy = np.array(points, float)
        full = np.concatenate([xy, np.broadcast_to(depth, (len(xy),))[:, None]], 1)
        return self.view.place((full - _middle()) @ self.turn * self.unit + self.centre[:, None])

    def shift(self, x: float, y: float) -> np.ndarray:
        """(x, y) eye widths of the picture -> [T, 2] px."""
        return np.array([x, y]) * self.eye[:, None]

    def skin(self, share: float) -> np.ndarray:
        return tinted(self.look.skin, share)

    @property
    def dark_side(self) -> int:
        """Away from the light: 1 to the picture's right, -1 to its left."""
        return -1 if self.view.light[0] > 0 else 1


def _middle() -> np.ndarray:
    return neutral_face()[list(RIGID)].mean(0)


def head_of(view: View, joints: np.ndarray, look: Look) -> Head:
    """The turn of joints [T, 133, 3] that fits an ordinary face to the rigid points best."""
    face = joints[:, FACE:LEFT_HAND]
    model, seen = neutral_face()[list(RIGID)] - _middle(), face[:, RIGID]
    centre = seen.mean(1)
    u, _, v = np.linalg.svd(model.T @ (seen - centre[:, None]))
    straight = np.ones((len(u), 3))
    straight[:, 2] = np.linalg.det(u @ v)
    size = EYE * view.signer.head
    return Head(view, look, (u * straight[:, None]) @ v, centre, size, view.place(face), view.length(centre) * size)


def _mirrored(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(-x, y) for x, y in reversed(points)]


def _front(points: list[tuple[float, float]]) -> np.ndarray:
    """How deep points on the front of a head lie."""
    return 0.75 + 0.34 * np.array(points)[:, 0] ** 2


def _hair_behind(head: Head) -> list[Shape]:
    colour = tinted(head.look.hair, 0.72)
    dark = tinted(head.look.hair, 0.4)
    low = {"long": 6.2, "bob": 2.9}.get(head.look.hair_style)
    shapes = []
    if low is not None:
        side = [(3.05, -2.4), (3.3, 0), (3.35, 0.6 * low), (2.7, low)]
        outline = rounded(head.at([*side, (0, low + 0.3), *_mirrored(side), (0, -4.6)], 3.4))
        shapes.append(Shape(outline, colour))
    if head.look.hair_style == "bun":
        bun = ellipse(np.array([0, -5.0]), np.array([1.25, 0]), np.array([0, 1.05]))
        shapes += [Shape(head.at(bun * 1.1 + (0, 0.5), 3.2), dark)]
        shapes += [Shape(head.at(bun, 3.2), colour)]
    return shapes


def _neck(head: Head, joints: np.ndarray) -> list[Shape]:
    """From the jaw to between the shoulders, in the jaw's shadow."""
    base = joints[:, 5:7].mean(1)[:, None]
    low = base + np.array([[0.2, 0.02, 0], [0.16, -0.12, 0], [-0.16, -0.12, 0], [-0.2, 0.02, 0]])
    jaw = head.at([(-1.75, 1.2), (1.75, 1.2)], 2.6)
    neck = np.concatenate([jaw, head.view.place(low)], 1)
    lit = grown(neck, (0.5, 1.0)) - head.shift(0.35 * head.dark_side, 0)[:, None]
    return [Shape(neck, head.skin(0.66)), Shape(lit, head.skin(0.76))]


def _skull(head: Head) -> list[Shape]:
    """Ears, and the face without its features."""
    shapes = []
    for side in (-1, 1):
        for grow, share in ((1.18, 0.45), (1.0, 0.82), (0.5, 0.66)):
            ear = ellipse(np.array([side * 2.5, -0.35]), np.array([0.42 * grow, 0.0]), np.array([0.0, 0.85 * grow]))
            shapes.append(Shape(head.at(ear, 2.7), head.skin(share)))
    brow = [(2.42, -1.9), (2.1, -3.0), (1.1, -3.75)]
    forehead = head.at([*brow, *_mirrored(brow)], 2.2)
    outline = rounded(np.concatenate([head.face[:, :17], forehead], 1), 1)
    middle = outline.mean(1, keepdims=True)
    rim = outline + (outline - middle) * (head.view.line / 2.4 / head.eye)[:, None, None]
    if head.dark_side > 0:
        far = np.concatenate([head.face[:, 8:17], forehead[:, :3]], 1)
    else:
        far = np.concatenate([forehead[:, 3:], head.face[:, :9]], 1)
    inner = middle + (far - middle) * (0.74, 0.93)
    shade = rounded(np.concatenate([far, inner[:, ::-1]], 1), 1)
    return [*shapes, Shape(rim, head.skin(0.45)), Shape(outline, head.skin(1.0)), Shape(shade, head.skin(0.87))]


def _nose(head: Head) -> list[Shape]:
    face, side = head.face, head.dark_side
    wing = 35 if side > 0 else 31
    out = head.shift(0.3 * side, 0)
    bridge = np.stack([face[:, 27], face[:, 29], face[:, 30], face[:, wing] + 0.3 * out, face[:, 28] + out], 1)
    holes = [
        ellipse(
            face[:, at] - head.shift(0, 0.05),
            head.shift(0.2, 0),
            head.shift(0, 0.11),
            points=8,
        )
        for at in (32, 34)
    ]
    line = stroke(face[:, 31:36], np.array([0.03, 0.06, 0.05, 0.06, 0.03]) * head.eye[:, None])
    shapes = [Shape(rounded(bridge, 1), head.skin(0.86)), Shape(line, head.skin(0.66))]
    return shapes + [Shape(hole, head.skin(0.42)) for hole in holes]


def _eyes(head: Head) -> list[Shape]:
    shapes = []
    for start in (36, 42):
        lids = head.face[:, start : start + 6]
        middle = lids[:, (0, 3)].mean(1, keepdims=True)
        socket = middle + (lids - middle) * (1.25, 1.9) - head.shift(0, 0.12)[:, None]
        top, low = lids[:, 1:3].mean(1), lids[:, 4:6].mean(1)
        iris = ellipse((top + low) / 2, head.shift(0.24, 0), head.shift(0, 0.24), points=12)
        iris[..., 1] = np.clip(iris[..., 1], top[:, None, 1], np.maximum(low, top)[:, None, 1])
        pupil = (top + low)[:, None] / 2 + 0.5 * (iris - (top + low)[:, None] / 2)
        lash = stroke(lids[:, :4], np.array([0.05, 0.1, 0.1, 0.06]) * head.eye[:, None])
        shapes += [Shape(rounded(socket, 1), head.skin(0.9)), Shape(lids, np.array([236, 234, 230]))]
        shapes += [Shape(iris, np.array([84, 66, 50])), Shape(pupil, np.array([20, 18, 18]))]
        shapes.append(Shape(lash, np.array([38, 28, 26])))
    return shapes


def _brows(head: Head) -> list[Shape]:
    colour = tinted(head.look.hair, 0.75)
    width = np.array([0.07, 0.15, 0.17, 0.16, 0.12]) * head.eye[:, None]
    return [
        Shape(stroke(head.face[:, 17:22], width), colour),
        Shape(stroke(head.face[:, 22:27], width[:, ::-1]), colour),
    ]


def _mouth(head: Head) -> list[Shape]:
    face = head.face
    lips = np.clip(head.skin(0.78) * (1.02, 0.74, 0.76), 0, 255)
    upper = np.concatenate([face[:, 48:55], face[:, 64:59:-1]], 1)
    hole = face[:, 60:68]
    teeth = np.concatenate([face[:, 60:65], 0.55 * face[:, 64:59:-1] + 0.45 * face[:, (64, 65, 66, 67, 60)]], 1)
    tall = face[:, 66, 1] - face[:, 62, 1]
    below = face[:, 57] + head.shift(0, 0.42)
    chin = ellipse(below, head.shift(0.55, 0), head.shift(0, 0.14), points=8)
    return [
        Shape(chin, head.skin(0.88)),
        Shape(rounded(face[:, 48:60], 1), lips),
        Shape(upper, tinted(lips, 0.84)),
        Shape(hole, np.array([58, 22, 24])),
        Shape(teeth, np.array([226, 220, 210]), tall > 0.3 * head.eye),
    ]


def _beard(head: Head) -> list[Shape]:
    colour = tinted(head.look.hair, 0.85)
    jaw = head.face[:, 1:16]
    cheeks = head.at([(1.95, 0.5), (1.3, 0.95), (0.6, 0.92), (0, 0.98), (-0.6, 0.92), (-1.3, 0.95), (-1.95, 0.5)])
    outline = np.concatenate([jaw, cheeks], 1)
    around = ellipse(head.face[:, 48:68].mean(1), head.shift(1.15, 0), head.shift(0, 0.5))
    return [Shape(outline, colour), Shape(around, head.skin(0.95))]


def _hair(head: Head) -> list[Shape]:
    look = head.look
    shaved = look.hair_style == "shaved"
    line, grow = (HAIRLINES["back"], 0.97) if shaved else (HAIRLINES[look.fringe], 1.0)
    outer = [(grow * x, grow * y) for x, y in (*SKULL, (0, -5.1), *_mirrored(SKULL))]
    inner = [*_mirrored(TEMPLE)[::-1], *line[::-1], *TEMPLE[::-1]]  # back to where the outer line began
    points = [*outer, *inner]
    depth = np.concatenate([np.full(len(outer), 2.6), _front(inner)])
    cap = rounded(head.at(points, depth), 1)
    tone = 0.5 * look.hair + 0.35 * look.skin if shaved else look.hair
    crown = ellipse(np.array([-0.9 * head.dark_side, -3.9]), np.array([1.0, 0.2]), np.array([0.0, 0.42]))
    shapes = [
        Shape(grown(cap, 1.03), tinted(tone, 0.45)),
        Shape(cap, tinted(tone, 0.92)),
        Shape(head.at(crown, 1.6), tinted(tone, 1.18)),
    ]
    if look.hair_style in ("long", "bob"):
        low = 4.4 if look.hair_style == "long" else 2.3
        side = [(2.5, -3.2), (1.95, -2.2), (2.1, -0.6), (2.35, 1.0), (2.5, low), (3.2, low), (3.3, 0.5), (2.95, -2.4)]
        for lock, share in ((side, 0.9), (_mirrored(side), 0.9)):
            shapes.append(Shape(rounded(head.at(lock, 2.4), 1), tinted(tone, share)))
    return shapes


def _glasses(head: Head) -> list[Shape]:
    dark = np.array([40, 38, 42])
    shapes = []
    for start in (36, 42):
        middle = head.face[:, start : start + 6].mean(1)
        ring = ellipse(middle, head.shift(0.92, 0), head.shift(0, 0.68), points=17)
        ring = np.concatenate([ring, ring[:, :1]], 1)
        shapes.append(Shape(stroke(ring, np.broadcast_to(0.075 * head.eye[:, None], ring.shape[:2])), dark))
    bridge = np.stack([head.face[:, 39], head.face[:, 27], head.face[:, 42]], 1)
    shapes.append(Shape(stroke(bridge, np.broadcast_to(0.07 * head.eye[:, None], bridge.shape[:2])), dark))
    return shapes


def head_groups(view: View, joints: np.ndarray, look: Look) -> list[Group]:
    """joints [T, 133, 3] -> what lies behind the shoulders, and what lies before them."""
    head = head_of(view, joints, look)
    front = [*_skull(head), *(_beard(head) if look.beard else []), *_nose(head), *_mouth(head), *_eyes(head)]
    front += [*_brows(head), *_hair(head), *(_glasses(head) if look.glasses else [])]
    behind = np.zeros(len(joints))
    return [
        Group(behind + BEHIND, _hair_behind(head)),
        Group(behind + NECK, _neck(head, joints)),
        Group(behind + HEAD, front),
    ]
