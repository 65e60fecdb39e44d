"""Where the 133 joints are drawn when their colour is what matters: face and hands far too large."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from signstream.data.synthetic.body import KNUCKLES, PHALANGES
from signstream.data.synthetic.signer import neutral_face
from signstream.skeleton import COCO_WHOLEBODY, FACE, LEFT_HAND, NUM_JOINTS, RIGHT_HAND

# Of the left side's joints from 1 on; the right side's are their mirror images.
LEFT_SIDE = {
    1: (0.55, -0.62),
    3: (1.62, -0.3),
    5: (2.3, 2.5),
    7: (3.0, 4.2),
    9: (4.0, 2.9),
    11: (1.2, 6.0),
    13: (1.2, 7.8),
    15: (1.2, 9.5),
    17: (1.75, 9.9),
    18: (2.0, 9.7),
    19: (1.05, 9.85),
}


class JointMap(TypedDict):
    xy: list[list[float]]  # [133][2]
    bones: list[list[int]]  # [[a, b], ...]


def joint_map() -> JointMap:
    xy = np.zeros((NUM_JOINTS, 2))
    assert COCO_WHOLEBODY.flip is not None
    for joint, (x, y) in LEFT_SIDE.items():
        xy[joint] = (x, y)
        xy[COCO_WHOLEBODY.flip[joint]] = (-x, y)
    xy[FACE:LEFT_HAND] = neutral_face()[:, :2] * 0.55
    xy[0] = xy[FACE + 30] + (0, 0.1)
    for eye, ring in ((1, slice(FACE + 42, FACE + 48)), (2, slice(FACE + 36, FACE + 42))):
        xy[eye] = xy[ring].mean(0)
    xy[RIGHT_HAND:] = _hand() * (1.6, -1.6) + np.array((-4.2, 2.6))
    xy[LEFT_HAND:RIGHT_HAND] = xy[RIGHT_HAND:] * (-1, 1)
    return {"xy": xy.round(3).tolist(), "bones": [list(bone) for bone in COCO_WHOLEBODY.bones]}


def _hand() -> np.ndarray:
    """[21, 2]: a wrist at the origin, and five straight fingers."""
    base = KNUCKLES[:, :2]
    away = base - (0, -0.35)
    away /= np.hypot(*away.T)[:, None]
    along = base[:, None] + away[:, None] * np.concatenate((np.zeros((5, 1)), PHALANGES.cumsum(1)), 1)[..., None]
    return np.concatenate((np.zeros((1, 2)), along.reshape(20, 2)))
