"""A made-up pose estimator: what it would report of a moving body, with its jitter, its scores and the hands it loses.

detect(joints, signer, rng, fps=30.0)        joints [T, 133, 3] in shoulder widths -> [T, 133, 3] x px, y px, score
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from signstream.data.synthetic.curves import wander
from signstream.data.synthetic.signer import Signer
from signstream.skeleton import FACE, LEFT_HAND, LEFT_WRIST, NUM_JOINTS, RIGHT_HAND, RIGHT_WRIST

SIZE = 512  # pixels, the picture's width and height
HANDS = (slice(LEFT_HAND, RIGHT_HAND), slice(RIGHT_HAND, NUM_JOINTS))


def _jitter_of_joints() -> np.ndarray:
    """[133] how unsure the detector is of each joint, in shoulder widths."""
    sigma = np.full(NUM_JOINTS, 0.0036, np.float32)
    sigma[:5], sigma[5:7], sigma[7:11], sigma[11:FACE] = 0.005, 0.010, 0.024, 0.03
    for hand in HANDS:
        sigma[hand] = 0.0135
    return sigma


def _length(xy: np.ndarray) -> np.ndarray:
    """[..., 2] -> [...]; several times faster than np.linalg.norm."""
    return np.hypot(xy[..., 0], xy[..., 1])


def _beyond(share: np.ndarray, border: float) -> np.ndarray:
    """Points [..., 2] as shares of the picture's size -> [...]: how far outside of all but a `border` of the
    picture they are, 0 inside."""
    off = np.abs(share - 0.5)
    return np.maximum(np.maximum(off[..., 0], off[..., 1]) + border - 0.5, 0)


def _speeds(points: np.ndarray, fps: float) -> np.ndarray:
    """[T, J, 2] -> [T]: mean speed of all points, the first frame like the second."""
    step = _length(np.diff(points, axis=0)).mean(1) * fps
    return np.concatenate([step[:1], step])


@dataclass(frozen=True)
class View:
    """What the camera sees of a clip of T frames."""

    signer: Signer
    fps: float
    seconds: np.ndarray  # [T]
    points: np.ndarray  # [T, 133, 2] in shoulder widths from the nose
    depth: np.ndarray  # [T, 133]

    @property
    def unit(self) -> float:
        """Pixels of a shoulder width."""
        return self.signer.shoulder_px * SIZE


def hand_trouble(view: View, rng: np.random.Generator) -> np.ndarray:
    """[T, 2]: the detector loses a hand where it is above 0.

    Motion blur, the other hand in front, the picture's edge, and luck that lasts from one frame to a second."""
    points, depth, seconds = view.points, view.depth, view.seconds
    blur = np.stack([_speeds(points[:, hand], view.fps) for hand in HANDS], 1)
    centre = np.stack([points[:, hand][:, (0, 5, 9, 17)].mean(1) for hand in HANDS], 1)
    behind = np.stack([depth[:, a.start + 9] - depth[:, b.start + 9] for a, b in (HANDS, HANDS[::-1])], 1)
    together = _length(centre[:, :1] - centre[:, 1:]) < 0.32
    edge = _beyond(centre * view.signer.shoulder_px + np.array(view.signer.nose), 0.02)
    slow, fast = wander(rng, seconds, 2, hertz=0.6), wander(rng, seconds, 2, hertz=2.2)
    luck = 0.8 * slow + 0.4 * fast + 0.08 * rng.standard_normal((len(seconds), 2))
    hidden = 0.9 * (together & (behind > 0)) + 0.9 * (centre[..., 1] > 1.5) + 30 * edge
    return luck + 0.20 * np.minimum(blur, 6) + hidden - 1.55 + rng.normal(0, 0.5, 2)


def _lose_hands(poses: np.ndarray, trouble: np.ndarray, unit: float, *, zeros: float, rng: np.random.Generator) -> None:
    """Sets the hands' scores in poses [T, 133, 3] from trouble [T, 2] and spoils the lost ones, in place."""
    leaves_zeros = rng.random() < zeros
    for side, hand in enumerate(HANDS):
        bad = trouble[:, side, None]
        sure = 0.3 + 0.62 * (1 - np.exp(np.minimum(bad, 0) / 1.1))
        spread = 0.05 * rng.standard_normal((len(poses), 21), dtype=np.float32)
        unsure = np.clip(0.16 * np.exp(-np.maximum(bad, 0)) + spread, 0.01, 0.27)
        poses[:, hand, 2] = np.where(bad > 0, unsure, np.clip(sure + spread, 0.31, 1.0))
        lost = trouble[:, side] > 0
        if leaves_zeros:
            poses[lost, hand] = 0
            continue
        wrist = poses[lost, hand.start, None, :2]
        scatter = 0.08 * unit * rng.standard_normal((int(lost.sum()), 21, 2))
        poses[lost, hand, :2] = wrist + 0.4 * (poses[lost, hand, :2] - wrist) + scatter


def project(joints: np.ndarray, signer: Signer) -> np.ndarray:
    """joints [T, 133, 3] -> pixels [T, 133, 2], in perspective."""
    near = signer.camera / (signer.camera + joints[..., 2:])
    centre = np.array([signer.nose[0], signer.nose[1] + 0.59 * signer.shoulder_px]) * SIZE
    return centre + joints[..., :2] * near * (signer.shoulder_px * SIZE)


def _jitter(speed: np.ndarray, trouble: np.ndarray, seconds: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """speed [T, 133], trouble [T, 2] -> errors [T, 133, 2] in shoulder widths: mostly slow drift, more in motion and
    in a hand nearly lost."""
    noise = 0.07 * rng.standard_normal((*speed.shape, 2), dtype=np.float32)
    noise += wander(rng, seconds, 2 * NUM_JOINTS, hertz=1.0).reshape(noise.shape)
    noise *= 1 + 0.25 * np.minimum(speed, 6)[..., None]
    for side, hand in enumerate(HANDS):
        fingers = noise[:, hand.start + 1 : hand.stop].reshape(len(noise), 5, 4, 2)
        # A finger is misread as a whole, and so is a hand.
        fingers[:] = 0.45 * fingers.cumsum(2) + 0.45 * fingers.sum(1, keepdims=True)
        noise[:, hand] *= np.exp(1.1 * np.clip(trouble[:, side, None, None] + 1.2, -0.7, 2))
    return noise * _jitter_of_joints()[:, None]


def _scores(
    view: View, speed: np.ndarray, trouble: np.ndarray, *, outside: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """[T, 133] for body and face: lower in motion, near a lost hand, behind a hand, and close to nothing out of the
    picture."""
    slow = wander(rng, view.seconds, NUM_JOINTS, hertz=1.5)
    lapse = 0.03 * slow + 0.02 * rng.standard_normal(speed.shape, dtype=np.float32)
    scores = 0.92 - np.abs(lapse) - 0.05 * np.minimum(speed, 5)
    scores[:, [LEFT_WRIST, RIGHT_WRIST]] -= 0.15 * np.clip(trouble + 1, 0, 3)
    for hand in HANDS:
        away = _length(view.points[:, FACE:LEFT_HAND] - view.points[:, hand.start + 9, None])
        scores[:, FACE:LEFT_HAND] -= 0.7 * np.exp(-((away / 0.14) ** 2))
    return np.clip(scores * np.exp(-14 * outside), 0, 1)


def _add_jumps(poses: np.ndarray, unit: float, rng: np.random.Generator) -> None:
    """Throws single joints of single frames of poses [T, 133, 3] somewhere else, in place; lost ones stay."""
    count = rng.poisson(0.0007 * len(poses) * NUM_JOINTS)
    frame = rng.integers(len(poses), size=count)
    joint = rng.integers(NUM_JOINTS, size=count)
    seen = poses[frame, joint, 2] > 0
    poses[frame, joint, :2] += 0.12 * unit * rng.standard_normal((count, 2)) * seen[:, None]
    poses[frame, joint, 2] *= 0.75


def detect(
    joints: np.ndarray, signer: Signer, rng: np.random.Generator, *, fps: float, zeros: float = 0.7
) -> np.ndarray:
    """joints [T, 133, 3] in shoulder widths -> what a pose estimator would report, [T, 133, 3] float32: x px, y px,
    score in [0, 1]. In a share `zeros` of the clips a lost hand is (0, 0, 0), in the others it is guessed."""
    poses = np.empty((len(joints), NUM_JOINTS, 3), np.float32)
    poses[..., :2] = project(joints, signer)
    points = (poses[..., :2] - np.array(signer.nose, np.float32) * SIZE) / (signer.shoulder_px * SIZE)
    view = View(signer, fps, np.arange(len(joints)) / fps, points, joints[..., 2])
    speed = np.zeros((len(joints), NUM_JOINTS), np.float32)
    speed[1:] = _length(np.diff(points, axis=0)) * fps
    trouble = hand_trouble(view, rng)
    poses[..., :2] += view.unit * _jitter(speed, trouble, view.seconds, rng=rng)
    poses[..., 2] = _scores(view, speed, trouble, outside=_beyond(poses[..., :2] / SIZE, 0), rng=rng)
    _lose_hands(poses, trouble, view.unit, zeros=zeros, rng=rng)
    _add_jumps(poses, view.unit, rng)
    return poses
