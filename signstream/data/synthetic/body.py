"""A body from its curves: arms by inverse kinematics of two bones, hands by forward kinematics, a head that turns.

    joints = assemble_body(Curves(hands, face, head, torso), signer)        -> [T, 133, 3]

All in shoulder widths, x to the picture's right, y down, z away from the camera, origin between the shoulders. Both
hands are computed as right hands [T, 2, ...] (0: the hand that leads) and the second is mirrored.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from signstream.data.synthetic.signer import Signer, expressions
from signstream.skeleton import COCO_FLIP, FACE, FEET, LEFT_HAND, NUM_JOINTS, RIGHT_HAND

EYE = 0.093  # eye width in shoulder widths
PALM = 0.285
UPPER_ARM, FOREARM = 0.93, 0.82
NECK, HIPS = np.array([0.0, -0.16, 0.06]), np.array([0.0, 1.45, 0.0])
ELBOW_HANGS = np.array([-0.34, 0.86, 0.38])
# What a hand's curve [23] holds: where its contact point is, whether it moves with the head, how many palms the contact
# point is from the wrist, orientation, and the fingers' angles.
WHERE, HEADED, REACH, TURN, FINGERS = slice(0, 3), slice(3, 4), slice(4, 5), slice(5, 8), slice(8, 23)
# Towards the thumb, towards the tips and out of the palm, in palms; thumb to little finger.
KNUCKLES = np.array(
    [[0.30, 0.24, 0.10], [0.31, 0.96, 0.02], [0.08, 1.0, 0.0], [-0.16, 0.95, 0.01], [-0.37, 0.85, 0.03]]
)
PHALANGES = np.array(
    [[0.42, 0.36, 0.29], [0.46, 0.28, 0.23], [0.51, 0.32, 0.24], [0.47, 0.30, 0.24], [0.36, 0.22, 0.20]]
)
SIDES = np.array([[1.0, 1, 1], [-1, 1, 1]])  # the second hand is a right hand, mirrored


class Curves(NamedTuple):
    """All that moves in a clip of T frames."""

    hands: np.ndarray  # [T, 2, 23]
    face: np.ndarray  # [T, 7] expressions
    head: np.ndarray  # [T, 3] yaw, pitch, roll in radians
    torso: np.ndarray  # [T, 3] the same


class Arms(NamedTuple):
    elbows: np.ndarray  # [T, 2, 3]
    wrists: np.ndarray  # [T, 2, 3]
    hands: np.ndarray  # [T, 2, 21, 3]


def rotation(angles: np.ndarray) -> np.ndarray:
    """[T, 3] yaw (about y), pitch (about x), roll (about z) -> [T, 3, 3], for row vectors: point @ rotation."""
    (cy, cx, cz), (sy, sx, sz) = np.cos(angles).T, np.sin(angles).T
    zero, one = np.zeros_like(cy), np.ones_like(cy)
    yaw = np.stack([cy, zero, -sy, zero, one, zero, sy, zero, cy], -1).reshape(-1, 3, 3)
    pitch = np.stack([one, zero, zero, zero, cx, sx, zero, -sx, cx], -1).reshape(-1, 3, 3)
    roll = np.stack([cz, sz, zero, -sz, cz, zero, zero, zero, one], -1).reshape(-1, 3, 3)
    return roll @ pitch @ yaw


def hand_axes(turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[..., 3] roll, swing, pitch -> directions of the fingers and out of the palm, each [..., 3], of a right hand."""
    r, s, q = np.moveaxis(turn, -1, 0)
    zero = np.zeros(turn.shape[:-1])

    def turned(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        x, y = x * np.cos(s) - y * np.sin(s), x * np.sin(s) + y * np.cos(s)
        return np.stack([x, y * np.cos(q) - z * np.sin(q), y * np.sin(q) + z * np.cos(q)], -1)

    return turned(zero, zero - 1, zero), turned(np.sin(r), zero, -np.cos(r))


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-6)


def solve_arm(shoulder: np.ndarray, wrist: np.ndarray, arm: float) -> tuple[np.ndarray, np.ndarray]:
    """Two-bone inverse kinematics for a right arm: shoulder, wanted wrist [..., 3] -> elbow,
    wrist that can be reached."""
    upper, lower = UPPER_ARM * arm, FOREARM * arm
    way = wrist - shoulder
    far = np.linalg.norm(way, axis=-1, keepdims=True)
    way = way / np.maximum(far, 1e-6)
    far = np.clip(far, 1.05 * abs(upper - lower) + 0.2, 0.985 * (upper + lower))
    along = (upper**2 - lower**2 + far**2) / (2 * far)
    side = _unit(ELBOW_HANGS - (way @ ELBOW_HANGS)[..., None] * way)
    return shoulder + along * way + np.sqrt(np.maximum(upper**2 - along**2, 0)) * side, shoulder + far * way


def hand_points(
    wrist: np.ndarray, tips: np.ndarray, palm: np.ndarray, *, fingers: np.ndarray, size: float
) -> np.ndarray:
    """Forward kinematics of right hands: wrist, finger and palm axes [..., 3], joint angles
    [..., 15] -> [..., 21, 3]."""
    knuckle, middle, spread, thumb = fingers[..., :4], fingers[..., 4:8], fingers[..., 8:12], fingers[..., 12:]
    bend = np.empty((*fingers.shape[:-1], 5, 3))
    bend[..., 1:, :] = np.stack([knuckle, knuckle + middle, knuckle + 1.65 * middle], -1)
    bend[..., 0, :] = thumb[..., 1:2]
    aside = np.empty_like(bend)
    aside[..., 1:, :] = spread[..., None]
    aside[..., 0, :] = thumb[..., :1] - thumb[..., 2:] * (0.1, 0.8, 1.6)
    along = np.stack([np.cos(bend) * np.sin(aside), np.cos(bend) * np.cos(aside), np.sin(bend)], -1)
    local = along * PHALANGES[..., None]
    chain = np.concatenate([np.broadcast_to(KNUCKLES[:, None], (*local.shape[:-2], 1, 3)), local], -2).cumsum(-2)
    axes = np.stack([np.cross(tips, palm), tips, palm], -2) * (PALM * size)
    points = wrist[..., None, :] + chain.reshape(*chain.shape[:-3], 20, 3) @ axes
    return np.concatenate([wrist[..., None, :], points], -2)


def head_points(face: np.ndarray, head: np.ndarray, signer: Signer) -> np.ndarray:
    """Expressions [T, 7] and head turn [T, 3] -> [T, 73, 3]: nose, eyes, ears (left before right), the face's 68."""
    shape = signer.face + (face @ expressions(signer.face).reshape(7, -1)).reshape(-1, 68, 3)
    body = np.broadcast_to(
        [(0, 0.02, -0.05), (1.12, -1.1, 0.9), (-1.12, -1.1, 0.9), (2.2, -0.5, 3.0), (-2.2, -0.5, 3.0)],
        (len(face), 5, 3),
    )
    points = np.concatenate([body, shape], 1) * (EYE * signer.head) + np.array([0, -0.59, -0.34]) * signer.head - NECK
    return points @ rotation(head) + NECK


def arms_and_hands(hands: np.ndarray, nose: np.ndarray, shrug: np.ndarray, *, signer: Signer) -> Arms:
    """Hand curves [T, 2, 23], the nose [T, 3], how far each shoulder is drawn up [T, 2]; both
    sides where they belong."""
    tips, palm = hand_axes(hands[..., TURN])
    follow = (nose[:, None] - np.array([0, -0.59, -0.34]) * signer.head) * SIDES
    wanted = hands[..., WHERE] + hands[..., HEADED] * follow - hands[..., REACH] * (PALM * signer.hand) * tips
    shoulder = np.broadcast_to(np.array([-0.5, 0, 0]), wanted.shape) + shrug[..., None] * (0, -1, 0)
    elbow, wrist = solve_arm(shoulder, wanted, signer.arm)
    tips = _unit(tips + 0.5 * _unit(wrist - elbow))  # a wrist bends only so far
    palm = _unit(palm - (palm * tips).sum(-1, keepdims=True) * tips)
    points = hand_points(wrist, tips, palm, fingers=hands[..., FINGERS], size=signer.hand)
    return Arms(elbow * SIDES, wrist * SIDES, points * SIDES[:, None])


def assemble_body(curves: Curves, signer: Signer) -> np.ndarray:
    """All curves -> joints [T, 133, 3], mirrored for a left-handed signer."""
    joints = np.zeros((len(curves.hands), NUM_JOINTS, 3))
    top = head_points(curves.face, curves.head, signer)
    joints[:, :5], joints[:, FACE:LEFT_HAND] = top[:, :5], top[:, 5:]
    shrug = 0.04 * np.clip(0.6 - curves.hands[..., 1], 0, 1.2)
    arms = arms_and_hands(curves.hands, top[:, 0], shrug, signer=signer)
    joints[:, [6, 5]] = np.array([[-0.5, 0, 0], [0.5, 0, 0]]) - shrug[..., None] * (0, 1, 0)
    joints[:, [8, 7]], joints[:, [10, 9]] = arms.elbows, arms.wrists
    joints[:, RIGHT_HAND:], joints[:, LEFT_HAND:RIGHT_HAND] = arms.hands[:, 0], arms.hands[:, 1]
    joints[:, :] = (joints - HIPS) @ rotation(curves.torso) + HIPS
    legs = np.array(
        [(0.32, 1.45, 0), (0.34, 2.6, -0.1), (0.34, 3.7, 0), (0.44, 3.85, -0.2), (0.5, 3.85, -0.16), (0.34, 3.82, 0.1)]
    )
    joints[:, [11, 13, 15, FEET, FEET + 1, FEET + 2]] = legs
    joints[:, [12, 14, 16, FEET + 3, FEET + 4, FEET + 5]] = legs * (-1, 1, 1)
    return joints[:, list(COCO_FLIP)] * (-1, 1, 1) if signer.left_handed else joints
