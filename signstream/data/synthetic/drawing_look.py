"""What a signer looks like on a picture: skin, hair, clothes, the wall behind and the light.

look = draw_look(rng)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SKINS = ((240, 202, 176), (226, 182, 150), (208, 158, 122), (180, 128, 94), (146, 101, 74), (120, 83, 64))
HAIRS = ((36, 28, 26), (68, 45, 31), (112, 74, 42), (178, 140, 86), (146, 144, 142), (104, 50, 30))
CLOTHES = (
    (40, 44, 62),
    (28, 28, 32),
    (70, 74, 82),
    (32, 70, 66),
    (92, 36, 48),
    (44, 62, 112),
    (62, 44, 84),
    (196, 198, 200),
)
WALLS = (
    (166, 172, 180),
    (112, 128, 146),
    (190, 186, 172),
    (88, 102, 112),
    (142, 158, 142),
    (206, 208, 212),
    (66, 76, 98),
    (168, 152, 162),
)
HAIR_STYLES = ("short", "long", "bob", "bun", "shaved")
FRINGES = ("back", "side", "straight")
NECKS = ("round", "vee", "shirt", "high")
SLEEVES = {"long": 0.94, "three-quarter": 0.45, "short": -0.4}  # how far down the forearm, or up the arm


@dataclass(frozen=True)
class Look:
    """Colours [3] in 0..255; light [3] points to where the light comes from, tint [3] is its colour."""

    skin: np.ndarray
    hair: np.ndarray
    hair_style: str
    fringe: str
    beard: bool
    glasses: bool
    clothes: np.ndarray
    trim: np.ndarray
    neck: str
    sleeves: str
    wall: np.ndarray
    panel: tuple[float, float]  # where another shade of the wall begins, in pictures, and how much lighter it is
    light: np.ndarray
    tint: np.ndarray
    contrast: float  # how much darker the side away from the light is


def _near(rng: np.random.Generator, colours: tuple[tuple[int, int, int], ...], spread: float) -> np.ndarray:
    """One of the colours, a little different."""
    colour = np.array(colours[int(rng.integers(len(colours)))], float)
    return np.clip(colour * np.exp(rng.normal(0, spread, 3)), 8, 245)


def _one(rng: np.random.Generator, names: tuple[str, ...], chances: tuple[float, ...] | None = None) -> str:
    return str(rng.choice(names, p=chances))


def draw_look(rng: np.random.Generator) -> Look:
    """The look of a person; the order of the draws is part of every data set."""
    hair_style = _one(rng, HAIR_STYLES, (0.34, 0.22, 0.18, 0.16, 0.10))
    clothes = _near(rng, CLOTHES, 0.08)
    side = float(rng.choice((-1, 1)))
    light = np.array([side * rng.uniform(0.25, 0.7), rng.uniform(-0.75, -0.4), -0.75])
    warmth = rng.normal(0, 0.035)
    return Look(
        skin=_near(rng, SKINS, 0.025),
        hair=_near(rng, HAIRS, 0.06),
        hair_style=hair_style,
        fringe=_one(rng, FRINGES),
        beard=bool(hair_style in ("short", "shaved") and rng.random() < 0.35),
        glasses=bool(rng.random() < 0.25),
        clothes=clothes,
        trim=np.clip(clothes * 0.55 + 0.45 * _near(rng, CLOTHES, 0.1), 8, 245),
        neck=_one(rng, NECKS),
        sleeves=_one(rng, tuple(SLEEVES), (0.55, 0.2, 0.25)),
        wall=_near(rng, WALLS, 0.05),
        panel=(float(rng.uniform(-0.4, 1.4)), float(rng.normal(0, 0.06))),
        light=light / np.linalg.norm(light),
        tint=np.clip(np.array([1 + warmth, 1.0, 1 - warmth]) * rng.uniform(0.93, 1.03), 0, 1),
        contrast=float(rng.uniform(0.04, 0.24)),
    )
