"""What a drawn person is made of: filled outlines on a large canvas, rounded and shaded as a clip of T frames at once.

    view = View(signer, light, scale)    view.place(points [T, ..., 3]) -> [T, ..., 2] px of the canvas
    tube(view, ends [T, ..., 2, 3], ...) -> an outline, a fill and a lit side for every limb

Points are in shoulder widths, as in body.py. Shapes of one Group are drawn one after another; groups lie over each
other by their rank, which may change from frame to frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from signstream.data.synthetic.detector import SIZE, project
from signstream.data.synthetic.signer import Signer

PICTURE = 256  # pixels, a frame's width and height
LINE = 0.85  # pixels of the picture: how far a dark outline stands out
# What lies over what, from the back to the front; a forearm with its hand takes up to 10 ranks.
BEHIND, TORSO, UPPER_ARMS, NECK, COLLAR, HEAD, FAR_ARM, NEAR_ARM = 0, 1, 2, 3, 4, 5, 10, 20
CAP = np.linspace(-np.pi / 2, np.pi / 2, 6)  # the points of a limb's round end


class Shape(NamedTuple):
    """outline [T, P, 2] px of the canvas, colour [3] or [T, 3], shown [T] (None: always)."""

    outline: np.ndarray
    colour: np.ndarray
    shown: np.ndarray | None = None


class Group(NamedTuple):
    """Shapes that lie over all groups of a lower rank; rank [T]."""

    rank: np.ndarray
    shapes: list[Shape]


class Tube(NamedTuple):
    """Limbs as outlines [T, ..., P, 2] with their colours [T, ..., 3]; the dark outline has the colour `dark` [3]."""

    outline: np.ndarray
    fill: np.ndarray
    lit: np.ndarray
    dark: np.ndarray
    shade: np.ndarray
    light: np.ndarray

    def rim(self, *at: int) -> Shape:
        return Shape(_one(self.outline, at), self.dark)

    def body(self, *at: int) -> list[Shape]:
        return [Shape(_one(self.fill, at), _one(self.shade, at)), Shape(_one(self.lit, at), _one(self.light, at))]


def _one(values: np.ndarray, at: tuple[int, ...]) -> np.ndarray:
    """[T, ...] -> one limb of every frame."""
    for index in at:
        values = values[:, index]
    return values


@dataclass(frozen=True)
class View:
    """The canvas, `scale` times as wide as the picture; `light` [3] points to where the light comes from."""

    signer: Signer
    light: np.ndarray
    scale: float

    @property
    def line(self) -> float:
        return LINE * self.scale

    def place(self, points: np.ndarray) -> np.ndarray:
        """[T, ..., 3] -> [T, ..., 2] px of the canvas."""
        return project(points, self.signer) * (PICTURE * self.scale / SIZE)

    def length(self, points: np.ndarray) -> np.ndarray:
        """[T, ..., 3] -> [T, ...] px of a shoulder width there."""
        near = self.signer.camera / (self.signer.camera + points[..., 2])
        return near * (self.signer.shoulder_px * PICTURE * self.scale)


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-6)


def tinted(colour: np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """colour [3] at brightness [...] -> [..., 3]; what is dark turns a little to red, what is light to yellow."""
    share = np.asarray(share)[..., None]
    return np.clip(colour * share ** np.array([0.92, 1.0, 1.06]), 0, 255)


def capsule(a: np.ndarray, b: np.ndarray, *, start: np.ndarray, end: np.ndarray, bulge: np.ndarray) -> np.ndarray:
    """Circles around a and b [..., 2] of radius start and end [...], and what lies between -> [..., 12, 2];
    where `bulge` [...] is 0 the beginning is cut straight."""
    ahead = unit(b - a)
    aside = np.stack([-ahead[..., 1], ahead[..., 0]], -1)
    cos, sin = np.cos(CAP)[:, None], np.sin(CAP)[:, None]
    tip = b[..., None, :] + end[..., None, None] * (cos * ahead[..., None, :] + sin * aside[..., None, :])
    cos = cos * bulge[..., None, None]
    base = a[..., None, :] - start[..., None, None] * (cos * ahead[..., None, :] + sin * aside[..., None, :])
    return np.concatenate([tip, base], -2)


def tube(view: View, ends: np.ndarray, radii: np.ndarray, *, colour: np.ndarray, bulge: np.ndarray | float = 1) -> Tube:
    """Limbs between ends [T, ..., 2, 3], as thick as radii [..., 2] in shoulder widths, round in the light."""
    at = view.place(ends)
    a, b = at[..., 0, :], at[..., 1, :]
    thick = view.length(ends) * radii
    start, end = thick[..., 0], thick[..., 1]
    facing = np.sqrt(np.maximum(1 - (unit(ends[..., 1, :] - ends[..., 0, :]) @ view.light) ** 2, 0))
    ahead = unit(b - a)
    aside = np.stack([-ahead[..., 1], ahead[..., 0]], -1)
    aside *= np.where(aside @ view.light[:2] > 0, 0.3, -0.3)[..., None]
    full, cut = np.ones_like(start), np.broadcast_to(bulge, start.shape)
    return Tube(
        outline=capsule(a, b, start=start + view.line, end=end + view.line, bulge=cut),
        fill=capsule(a, b, start=start, end=end, bulge=full),
        lit=capsule(
            a + aside * start[..., None], b + aside * end[..., None], start=0.6 * start, end=0.6 * end, bulge=full
        ),
        dark=tinted(colour, 0.42),
        shade=tinted(colour, 0.56 + 0.22 * facing),
        light=tinted(colour, 0.72 + 0.30 * facing),
    )


def rounded(points: np.ndarray, times: int = 2) -> np.ndarray:
    """A closed outline [..., P, 2] with its corners cut -> [..., P * 2 ** times, 2]."""
    for _ in range(times):
        after = np.roll(points, -1, -2)
        points = np.stack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], -2)
        points = points.reshape(*points.shape[:-3], -1, 2)
    return points


def grown(outline: np.ndarray, by: tuple[float, float] | float) -> np.ndarray:
    """An outline [..., P, 2] larger or smaller around its middle."""
    middle = outline.mean(-2, keepdims=True)
    return middle + (outline - middle) * by


def ellipse(centre: np.ndarray, across: np.ndarray, along: np.ndarray, *, points: int = 14) -> np.ndarray:
    """centre and half axes [..., D] -> [..., points, D]."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)[:, None]
    return centre[..., None, :] + np.cos(angle) * across[..., None, :] + np.sin(angle) * along[..., None, :]


def stroke(points: np.ndarray, width: np.ndarray) -> np.ndarray:
    """A line through points [T, P, 2], `width` [T, P] px to each side -> [T, 2 * P, 2]."""
    ahead = unit(np.gradient(points, axis=1))
    aside = np.stack([-ahead[..., 1], ahead[..., 0]], -1) * width[..., None]
    return np.concatenate([points + aside, (points - aside)[:, ::-1]], 1)
