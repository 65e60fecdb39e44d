"""Who signs: how large, how fast, how sloppy a person is, and that person's face.

    signer = draw_signer(rng, name)

Lengths are in shoulder widths, the face's in eye widths from the tip of its nose (iBUG's order): x to the picture's
right, y down, z away from the camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESTS = {
    "hang": ((-0.57, 1.66, -0.06), (88, 172, 2)),
    "clasp": ((-0.10, 1.12, -0.40), (150, 74, 12)),
    "lap": ((-0.26, 1.42, -0.46), (30, 46, 58)),
}


@dataclass(frozen=True)
class Signer:
    """One person: how large, how fast, how sloppy, which hand leads, where in the picture."""

    name: int
    left_handed: bool
    shoulder_px: float  # shoulder width over the picture's width
    nose: tuple[float, float]  # in the picture, as shares of its width and height
    camera: float  # distance in shoulder widths
    arm: float
    hand: float
    head: float
    tempo: float
    amplitude: float
    slop: float
    lag: float  # how far a movement runs into the next
    mouthing: float
    head_motion: float
    rest: str
    bend: np.ndarray  # [15] how this person's fingers deviate from a handshape
    turn: np.ndarray  # [3] and from an orientation
    face: np.ndarray  # [68, 3] in eye widths from the nose tip


def neutral_face() -> np.ndarray:
    """[68, 3] a face in eye widths from the tip of its nose: iBUG order, x right, y down, z back."""
    face = np.zeros((68, 3))
    arc = np.linspace(0, np.pi, 17)
    face[:17, :2] = np.stack(
        [-2.5 * np.sign(np.cos(arc)) * np.abs(np.cos(arc)) ** 0.62, -0.8 + 3.55 * np.sin(arc) ** 1.05], 1
    )
    brow = np.linspace(-1, 1, 5)
    face[17:22, :2] = np.stack([-1.28 + 0.77 * brow, -1.92 + 0.3 * np.abs(brow + 0.15) ** 2], 1)
    face[22:27, :2] = face[21:16:-1, :2] * (-1, 1)
    face[27:31, 1] = np.linspace(-1.25, 0, 4)
    wing = np.linspace(-1, 1, 5)
    face[31:36, :2] = np.stack([0.46 * wing, 0.52 - 0.13 * wing**2], 1)
    face[36:42, :2] = [(-1.65, -1.04), (-1.36, -1.19), (-0.98, -1.19), (-0.65, -1.02), (-0.98, -0.92), (-1.36, -0.92)]
    face[42:48, :2] = face[[39, 38, 37, 36, 41, 40], :2] * (-1, 1)
    outer, inner = (np.pi - np.linspace(0, 2 * np.pi, points, endpoint=False) for points in (12, 8))
    face[48:60, :2] = np.stack([0.9 * np.cos(outer), 1.43 - 0.4 * np.sin(outer)], 1)
    face[60:68, :2] = np.stack([0.74 * np.cos(inner), 1.4 - 0.1 * np.sin(inner)], 1)
    face[:, 2] = 0.75 + 0.34 * face[:, 0] ** 2
    face[27:36, 2] = [0.75, 0.5, 0.25, 0, 0.55, 0.4, 0.3, 0.4, 0.55]
    return face


def expressions(face: np.ndarray) -> np.ndarray:
    """face [68, 3] -> [7, 68, 3]: what one unit of open, wide, pressed, forward, brows up, furrow, lids does to it."""
    move = np.zeros((7, 68, 3))
    jaw = np.sin(np.linspace(0, np.pi, 17)) ** 3
    move[0, :17, 1] = 0.55 * jaw
    move[0, 55:60, 1] = move[0, 65:68, 1] = 0.6
    move[0, [48, 54, 60, 64], 1] = 0.22
    move[0, 48:68, 0], move[1, 48:68, 0] = -0.10 * face[48:68, 0], 0.20 * face[48:68, 0]
    move[1, 48:60, 1] = -0.12 * (face[48:60, 1] - 1.43)
    move[2, 48:68, 1] = -0.4 * (face[48:68, 1] - 1.42)
    move[3, 48:60, 1] = 0.25 * (face[48:60, 1] - 1.43)
    move[3, 48:68, 2] = -0.4
    move[4, 17:27, 1], move[4, [37, 38, 43, 44], 1] = -0.42, -0.05
    move[5, 17:27, 1] = 0.2
    move[5, [20, 21], 0], move[5, [22, 23], 0] = 0.12, -0.12
    move[6, [37, 38, 43, 44], 1], move[6, [40, 41, 46, 47], 1] = 0.26, -0.03
    return move


def draw_signer(rng: np.random.Generator, name: int) -> Signer:
    """A person; the order of the draws is part of every data set."""
    shape = neutral_face() * (1 + rng.normal(0, (0.03, 0.05, 0.05)))
    soft = rng.normal(0, 0.05, (3, 3))
    shape[:, :2] += (shape * shape[:, :1]) @ soft[:, :2] * 0.1 + rng.normal(0, 0.02, (68, 2))
    return Signer(
        name=name,
        left_handed=bool(rng.random() < 0.12),
        shoulder_px=float(rng.uniform(0.29, 0.40)),
        nose=(float(rng.normal(0.5, 0.02)), float(rng.uniform(0.22, 0.31))),
        camera=float(rng.uniform(6, 11)),
        arm=float(rng.normal(1, 0.04)),
        hand=float(rng.normal(1, 0.06)),
        head=float(rng.normal(1, 0.04)),
        tempo=float(np.exp(rng.normal(0, 0.12))),
        amplitude=float(np.exp(rng.normal(-0.16, 0.13))),
        slop=float(rng.uniform(0.7, 1.4)),
        lag=float(rng.uniform(0.15, 0.45)),
        mouthing=float(rng.uniform(0.5, 1.2)),
        head_motion=float(rng.uniform(0.6, 1.5)),
        rest=str(rng.choice(list(RESTS), p=(0.4, 0.35, 0.25))),
        bend=np.radians(rng.normal(0, 4, 15)),
        turn=np.radians(rng.normal(0, 6, 3)),
        face=shape,
    )
