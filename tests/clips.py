"""Poses for tests: a signer-like figure that moves smoothly, with whatever is to be missing."""

import numpy as np

from signstream.skeleton import COCO_WHOLEBODY, FACE, LEFT_HAND, RIGHT_HAND


def figure() -> np.ndarray:
    """[133, 2] in unit lengths from the nose, roughly where a signer's joints are; the signer's left is at larger x."""
    rng, xy = np.random.default_rng(7), np.zeros((133, 2))
    body = {
        1: (0.9, -1.1),
        3: (2.2, -0.6),
        5: (5.5, 6.3),
        7: (6.5, 12),
        9: (3.0, 13),
        11: (3.5, 19),
        13: (3.5, 27),
        15: (3.5, 35),
    }
    for left, (x, y) in body.items():
        xy[left], xy[left + 1] = (x, y), (-x, y)
    for foot in range(3):
        xy[17 + foot], xy[20 + foot] = (3 + foot, 36), (-3 - foot, 36)
    for joint in range(FACE, LEFT_HAND):
        xy[joint] = rng.uniform(-2, 2), rng.uniform(-1.5, 3)
        partner = COCO_WHOLEBODY.flip[joint]
        if partner < joint:
            xy[joint] = -xy[partner, 0], xy[partner, 1]
    xy[FACE + 7], xy[FACE + 8], xy[FACE + 9], xy[FACE + 30] = (-0.5, 2.9), (0, 3.0), (0.5, 2.9), (0, 0)
    for corner, x in zip((FACE + 36, FACE + 39, FACE + 42, FACE + 45), (-1.5, -0.5, 0.5, 1.5)):
        xy[corner] = x, -1.15
    xy[LEFT_HAND:RIGHT_HAND] = xy[9] + np.concatenate((np.zeros((1, 2)), rng.uniform(-1.5, 1.5, (20, 2))))
    xy[RIGHT_HAND:] = xy[10] + (xy[LEFT_HAND:RIGHT_HAND] - xy[9]) * (-1, 1)
    return xy


def moving_clip(
    frames: int, seed: int = 0, unit: float = 15.0, nose: tuple[float, float] = (256.0, 150.0), move: float = 0.6
) -> np.ndarray:
    """[T, 133, 3] float32 pixels, all joints seen."""
    rng, t = np.random.default_rng(seed), np.arange(frames)[:, None, None]
    phase, speed = rng.uniform(0, 6.28, (2, 133, 2)), rng.uniform(0.05, 0.4, (1, 133, 2))
    sway = np.sin(phase[0] + t * speed) * move
    sway[:, [FACE + 36, FACE + 39, FACE + 42, FACE + 45]] = 0  # the eyes' width holds
    xy = (figure() + sway) * unit + nose + np.sin(t * 0.1) * 5
    return np.concatenate((xy, rng.uniform(0.5, 1, (frames, 133, 1))), -1).astype(np.float32)


def with_gaps(poses: np.ndarray, seed: int = 0, share: float = 0.2) -> np.ndarray:
    """The same with stretches of joints, hands, the nose and the eyes missing at random."""
    rng, out = np.random.default_rng(seed), poses.copy()
    groups = [[j] for j in range(133)] + [
        list(range(LEFT_HAND, RIGHT_HAND)),
        list(range(RIGHT_HAND, 133)),
        list(range(FACE, LEFT_HAND)),
        [0, 53],
    ]
    for group in groups:
        for _ in range(rng.poisson(share * len(poses) / 5)):
            start = rng.integers(0, len(poses))
            out[start : start + rng.integers(1, 12), group, 2] = rng.uniform(0, 0.3)
    return out


def fill_missing(poses: np.ndarray, value: float, min_score: float = 0.3) -> np.ndarray:
    """The same with missing joints' coordinates replaced."""
    out = poses.copy()
    out[out[..., 2] <= min_score, :2] = value
    return out
