"""A kinematic signer: a sentence's signs in, the 133 joints of a moving body in three dimensions out.

`draw_signer(rng, name)` makes a person; `perform(sentence, signs, signer, rng, fps)` lets that person sign. Curves are sums of minimum-jerk
movements that may overlap (coarticulation) with slow tremor on top; arms follow by two-bone inverse kinematics, hands by forward kinematics of
their fingers, the face by a linear shape model that the head turns. All in shoulder widths, x to the picture's right, y down, z away from the
camera, origin between the shoulders. Both hands are computed as right hands [T, 2, ...] (0: the hand that leads) and the second is mirrored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from signstream.data.synthetic.lexicon import (
    MOTIONS,
    ORIENTATIONS,
    PLACES,
    Motion,
    Sentence,
    Sign,
    handshape_angles,
    mouthing,
)
from signstream.skeleton import COCO_WHOLEBODY, FACE, FEET, LEFT_HAND, NUM_JOINTS, RIGHT_HAND

EYE = 0.093  # eye width in shoulder widths
PALM = 0.285
UPPER_ARM, FOREARM = 0.93, 0.82
NECK, HIPS = np.array([0.0, -0.16, 0.06]), np.array([0.0, 1.45, 0.0])
OVER_BASE = np.array([-0.04, 0.38, -0.76])  # just above a base hand, which is held in the middle
ELBOW_HANGS = np.array([-0.34, 0.86, 0.38])
WHERE, HEADED, REACH, TURN, FINGERS = slice(0, 3), slice(3, 4), slice(4, 5), slice(5, 8), slice(8, 23)
RESTS = {
    "hang": ((-0.57, 1.66, -0.06), (88, 172, 2)),
    "clasp": ((-0.10, 1.12, -0.40), (150, 74, 12)),
    "lap": ((-0.26, 1.42, -0.46), (30, 46, 58)),
}
# Towards the thumb, towards the tips and out of the palm, in palms; thumb to little finger.
KNUCKLES = np.array(
    [[0.30, 0.24, 0.10], [0.31, 0.96, 0.02], [0.08, 1.0, 0.0], [-0.16, 0.95, 0.01], [-0.37, 0.85, 0.03]]
)
PHALANGES = np.array(
    [[0.42, 0.36, 0.29], [0.46, 0.28, 0.23], [0.51, 0.32, 0.24], [0.47, 0.30, 0.24], [0.36, 0.22, 0.20]]
)
BROW_UP, FURROW, LIDS = 4, 5, 6  # channels of the face after the four of a viseme


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


@dataclass(frozen=True)
class Performance:
    """joints [T, 133, 3] of a clean body, segments [(start, end, gloss)] in frames, half-open."""

    joints: np.ndarray
    segments: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True)
class Keys:
    """A curve as movements: movement m goes to value[m] [D], starts at start[m] and takes length[m] seconds; value[0] is where it begins."""

    start: list
    length: list
    value: list

    def add(self, start: float, length: float, value: np.ndarray) -> None:
        self.start.append(start)
        self.length.append(max(length, 1e-3))
        self.value.append(value)

    def curve(self, seconds: np.ndarray) -> np.ndarray:
        """[T] -> [T, D]: the sum of all movements' minimum-jerk courses, so that overlapping ones blend."""
        value = np.asarray(self.value)
        done = (seconds[:, None] - np.asarray(self.start[1:])) / np.asarray(self.length[1:])
        return value[0] + minimum_jerk(done) @ np.diff(value, axis=0)


def minimum_jerk(share: np.ndarray) -> np.ndarray:
    s = np.clip(share, 0.0, 1.0)
    return s * s * s * (10 + s * (6 * s - 15))


def wander(rng: np.random.Generator, seconds: np.ndarray, size: int, hertz: float) -> np.ndarray:
    """[T] -> [T, size] smooth noise of variance about one, with nothing much above `hertz`."""
    at = seconds * 2 * hertz
    knots = rng.standard_normal((int(at[-1]) + 3, size), dtype=np.float32)
    low = at.astype(int)
    share = minimum_jerk(at - low)[:, None]
    return knots[low] * (1 - share) + knots[low + 1] * share


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


def _hand_key(place: str, orientation: str, shape: str) -> np.ndarray:
    """[23] where the contact point goes, how far it is from the wrist, orientation, fingers."""
    spot = PLACES[place]
    return np.concatenate(
        [spot.at, [float(spot.head), spot.reach], np.radians(ORIENTATIONS[orientation]), handshape_angles(shape)]
    )


def _rest_key(signer: Signer, rng: np.random.Generator) -> np.ndarray:
    at, turn = RESTS[signer.rest]
    return np.concatenate([np.add(at, rng.normal(0, 0.03, 3)), [0, 0.5], np.radians(turn), handshape_angles("relaxed")])


def sign_targets(sign: Sign, signer: Signer) -> np.ndarray:
    """[2 ends, 2 hands, 23] where a sign begins and ends; the second hand as if it were a right hand too. NaN: that hand is free."""
    motion, lead = MOTIONS[sign.motion], _hand_key(sign.place, sign.orientation, sign.shape)
    if sign.hands in ("both", "alternating"):
        lead[0] = min(lead[0], -0.24)
    keys = np.full((2, 2, 23), np.nan)
    keys[:, 0] = lead
    keys[1, 0, FINGERS] = handshape_angles(sign.end_shape)
    half = np.asarray(motion.path) * signer.amplitude / 2
    keys[0, 0, WHERE] -= half
    keys[1, 0, WHERE] += half
    if sign.hands == "both":
        keys[:, 1] = keys[:, 0]
    elif sign.hands == "alternating":
        keys[:, 1] = keys[::-1, 0]
    elif sign.hands == "base":
        keys[:, 1] = _hand_key("middle", "across-down" if sign.base_shape == "flat" else "across-in", sign.base_shape)
        keys[:, 0, WHERE] -= 0.65 * (lead[WHERE] - OVER_BASE)
    return keys


def _free_hand(last: np.ndarray, rest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[23] what the second hand does in a one-handed sign: stays, sinks, or goes to rest."""
    mood = rng.random()
    return last if mood < 0.3 else rest if mood > 0.7 else 0.5 * (last + rest)


@dataclass(frozen=True)
class Plan:
    """The hands' movements, each sign's (start, end) and the clip's end, in seconds."""

    hands: tuple[Keys, Keys]
    times: list
    end: float


def plan_hands(signs: list[Sign], signer: Signer, rng: np.random.Generator) -> Plan:
    """When each hand goes where: rest, then approach, stroke and hold of every sign, then rest."""
    rest = _rest_key(signer, rng)
    hands = (Keys([0.0], [1.0], [rest]), Keys([0.0], [1.0], [rest]))
    scale = np.concatenate([np.full(3, 0.03), [0.05, 0.08], np.full(3, 0.11), np.full(15, 0.10)]) * signer.slop
    times, now = [], float(rng.uniform(0.0, 0.4) if len(signs) > 1 else rng.uniform(-0.25, 0.1))
    tempo = signer.tempo * float(np.exp(rng.normal(0, 0.08)))
    own = np.concatenate([np.zeros(5), signer.turn, signer.bend])
    for sign in signs:
        targets = sign_targets(sign, signer) + own
        for hand in range(2):
            if np.isnan(targets[0, hand, 0]):
                targets[:, hand] = _free_hand(hands[hand].value[-1], rest, rng)
            targets[:, hand] += rng.normal(0, 1, 23) * scale
            targets[1, hand] += rng.normal(0, 0.4, 23) * scale
        far = float(np.linalg.norm(targets[0, 0, WHERE] - hands[0].value[-1][WHERE]))
        approach = max((0.13 + 0.18 * far) / tempo, -now)
        stroke = sign.seconds / tempo * float(np.exp(rng.normal(0, 0.15)))
        for hand in range(2):
            early = signer.lag * approach * rng.uniform(0.3, 1.0) + hand * rng.uniform(-0.02, 0.04)
            hands[hand].add(now - early, approach + early, targets[0, hand])
            hands[hand].add(now + approach, 0.55 * stroke, targets[1, hand])
        times.append((now + approach, now + approach + stroke))
        now = times[-1][1] + float(rng.exponential(0.075)) + (rng.random() < 0.06) * float(rng.uniform(0.1, 0.4))
    down = float(rng.uniform(0.35, 0.6))
    for keys in hands:
        keys.add(now + rng.uniform(0, 0.08), down, rest + rng.normal(0, 1, 23) * scale)
    cut = len(signs) == 1 or rng.random() < 0.25
    return Plan(hands, times, now + (0.04 if cut else down + float(rng.uniform(0, 0.45))))


def add_strokes(
    hands: np.ndarray, signs: list[Sign], times: list, seconds: np.ndarray, signer: Signer, rng: np.random.Generator
) -> None:
    """Adds each sign's loops, twists and wiggles to hands [T, 2, 23], in place."""
    for sign, (start, end) in zip(signs, times):
        motion: Motion = MOTIONS[sign.motion]
        a, b = np.searchsorted(seconds, (start, end))
        share = (seconds[a:b, None] - start) / (end - start)
        swell = minimum_jerk(share / 0.15) * minimum_jerk((1 - share) / 0.15)
        for hand in range(1 + (sign.hands in ("both", "alternating"))):
            side = -1 if hand and sign.hands == "alternating" else 1
            turns = 2 * np.pi * motion.turns * share
            size = side * signer.amplitude * rng.uniform(0.85, 1.15) * swell
            hands[a:b, hand, WHERE] += size * (
                np.sin(turns) * motion.sine + (1 - np.cos(turns)) * np.asarray(motion.cosine)
            )
            hands[a:b, hand, TURN] += size * np.sin(2 * np.pi * motion.twists * share) * np.radians(motion.twist)
            if motion.wiggle:
                phase = np.concatenate([np.arange(4), np.arange(4), np.zeros(4), np.ones(3)]) * 1.3
                bends = np.array([1.0] * 4 + [0.5] * 4 + [0] * 4 + [0, 0, 0.3])
                hands[a:b, hand, FINGERS] += (
                    size
                    * np.radians(motion.wiggle)
                    * bends
                    * np.sin(2 * np.pi * 4.5 * (seconds[a:b, None] - start) + phase)
                )


def face_curve(
    sentence: Sentence, times: list, seconds: np.ndarray, signer: Signer, rng: np.random.Generator
) -> np.ndarray:
    """[T, 7] the face's channels: mouthing from the gloss's letters, brows from the sentence's mood, blinks."""
    mouth = Keys([0.0], [1.0], [np.zeros(4)])
    for gloss, (start, end) in zip(sentence.glosses, times):
        visemes = mouthing(gloss)
        step = (end - start + 0.1) / len(visemes)
        for i, viseme in enumerate(visemes):
            mouth.add(start - 0.07 + i * step, max(1.2 * step, 0.09), viseme * signer.mouthing * rng.uniform(0.75, 1.2))
        mouth.add(end + 0.02, 0.14, np.zeros(4))
    face = np.concatenate([mouth.curve(seconds), np.zeros((len(seconds), 3))], 1)
    face[:, BROW_UP] = 0.22 * wander(rng, seconds, 1, 0.8)[:, 0]
    halfway = times[len(times) // 2][0]
    if sentence.mood in ("asks", "wonders"):
        asking = minimum_jerk((seconds - halfway) / 0.3) * minimum_jerk((times[-1][1] + 0.3 - seconds) / 0.3)
        face[:, BROW_UP if sentence.mood == "asks" else FURROW] += asking
    if sentence.mood == "denies":
        face[:, FURROW] += 0.6 * minimum_jerk((seconds - times[-1][0]) / 0.2)
    for at in rng.uniform(0, seconds[-1] + 0.1, rng.poisson(0.5 * seconds[-1] + 0.3)):
        face[:, LIDS] = np.maximum(face[:, LIDS], np.exp(-(((seconds - at) / 0.06) ** 2)))
    return face + 0.05 * wander(rng, seconds, 7, 2.0)


def posture_curves(
    sentence: Sentence, times: list, seconds: np.ndarray, signer: Signer, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Head [T, 3] and torso [T, 3]: yaw, pitch, roll in radians; head-shake where the sentence denies, a nod with most signs."""
    size = np.radians(signer.head_motion)
    head = size * (4.5 * wander(rng, seconds, 3, 0.7) * (1.2, 0.8, 0.7) + 1.0 * wander(rng, seconds, 3, 2.5))
    torso = np.radians(1.4) * wander(rng, seconds, 3, 0.5) * (1.6, 0.6, 0.7)
    for start, end in times:
        head[:, 1] += size * rng.normal(0, 4) * np.exp(-(((seconds - (start + end) / 2) / (end - start)) ** 2))
    if sentence.mood == "denies":
        ramp = minimum_jerk((seconds - times[-1][0] + 0.1) / 0.15)
        head[:, 0] += np.radians(11) * ramp * np.sin(2 * np.pi * 2.2 * (seconds - times[-1][0]))
    if sentence.mood == "asks":
        head[:, 1] += np.radians(9) * minimum_jerk((seconds - times[len(times) // 2][0]) / 0.4)
    return head, torso


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
    (r, s, q), zero = np.moveaxis(turn, -1, 0), np.zeros(turn.shape[:-1])

    def turned(x, y, z):
        x, y = x * np.cos(s) - y * np.sin(s), x * np.sin(s) + y * np.cos(s)
        return np.stack([x, y * np.cos(q) - z * np.sin(q), y * np.sin(q) + z * np.cos(q)], -1)

    return turned(zero, zero - 1, zero), turned(np.sin(r), zero, -np.cos(r))


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-6)


def solve_arm(shoulder: np.ndarray, wrist: np.ndarray, arm: float) -> tuple[np.ndarray, np.ndarray]:
    """Two-bone inverse kinematics for a right arm: shoulder, wanted wrist [..., 3] -> elbow, wrist that can be reached."""
    upper, lower = UPPER_ARM * arm, FOREARM * arm
    way = wrist - shoulder
    far = np.linalg.norm(way, axis=-1, keepdims=True)
    way = way / np.maximum(far, 1e-6)
    far = np.clip(far, 1.05 * abs(upper - lower) + 0.2, 0.985 * (upper + lower))
    along = (upper**2 - lower**2 + far**2) / (2 * far)
    side = _unit(ELBOW_HANGS - (way @ ELBOW_HANGS)[..., None] * way)
    return shoulder + along * way + np.sqrt(np.maximum(upper**2 - along**2, 0)) * side, shoulder + far * way


def hand_points(wrist: np.ndarray, tips: np.ndarray, palm: np.ndarray, fingers: np.ndarray, size: float) -> np.ndarray:
    """Forward kinematics of right hands: wrist, finger and palm axes [..., 3], joint angles [..., 15] -> [..., 21, 3]."""
    knuckle, middle, spread, thumb = fingers[..., :4], fingers[..., 4:8], fingers[..., 8:12], fingers[..., 12:]
    bend = np.empty((*fingers.shape[:-1], 5, 3))
    bend[..., 1:, :] = np.stack([knuckle, knuckle + middle, knuckle + 1.65 * middle], -1)
    bend[..., 0, :] = thumb[..., 1:2]
    aside = np.empty_like(bend)
    aside[..., 1:, :] = spread[..., None]
    aside[..., 0, :] = thumb[..., :1] - thumb[..., 2:] * (0.1, 0.8, 1.6)
    local = (
        np.stack([np.cos(bend) * np.sin(aside), np.cos(bend) * np.cos(aside), np.sin(bend)], -1) * PHALANGES[..., None]
    )
    chain = np.concatenate([np.broadcast_to(KNUCKLES[:, None], (*local.shape[:-2], 1, 3)), local], -2).cumsum(-2)
    axes = np.stack([np.cross(tips, palm), tips, palm], -2) * (PALM * size)
    points = wrist[..., None, :] + chain.reshape(*chain.shape[:-3], 20, 3) @ axes
    return np.concatenate([wrist[..., None, :], points], -2)


def head_points(face: np.ndarray, head: np.ndarray, signer: Signer) -> np.ndarray:
    """Expressions [T, 7] and head turn [T, 3] -> [T, 73, 3]: nose, eyes, ears (left before right), then the 68 of the face."""
    shape = signer.face + (face @ expressions(signer.face).reshape(7, -1)).reshape(-1, 68, 3)
    body = np.broadcast_to(
        [(0, 0.02, -0.05), (1.12, -1.1, 0.9), (-1.12, -1.1, 0.9), (2.2, -0.5, 3.0), (-2.2, -0.5, 3.0)],
        (len(face), 5, 3),
    )
    points = np.concatenate([body, shape], 1) * (EYE * signer.head) + np.array([0, -0.59, -0.34]) * signer.head - NECK
    return points @ rotation(head) + NECK


def arms_and_hands(
    hands: np.ndarray, nose: np.ndarray, shrug: np.ndarray, signer: Signer
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hand curves [T, 2, 23] -> elbows [T, 2, 3], wrists [T, 2, 3] and hands [T, 2, 21, 3], the second side mirrored into place."""
    mirror = np.array([[1.0, 1, 1], [-1, 1, 1]])
    tips, palm = hand_axes(hands[..., TURN])
    follow = (nose[:, None] - np.array([0, -0.59, -0.34]) * signer.head) * mirror
    wanted = hands[..., WHERE] + hands[..., HEADED] * follow - hands[..., REACH] * (PALM * signer.hand) * tips
    shoulder = np.broadcast_to(np.array([-0.5, 0, 0]), wanted.shape) + shrug[..., None] * (0, -1, 0)
    elbow, wrist = solve_arm(shoulder, wanted, signer.arm)
    tips = _unit(tips + 0.5 * _unit(wrist - elbow))  # a wrist bends only so far
    palm = _unit(palm - (palm * tips).sum(-1, keepdims=True) * tips)
    points = hand_points(wrist, tips, palm, hands[..., FINGERS], signer.hand)
    return elbow * mirror, wrist * mirror, points * mirror[:, None]


def frame_segments(glosses: tuple[str, ...], times: list, fps: float) -> tuple[tuple[int, int, str], ...]:
    """Times in seconds -> half-open frame ranges, in order, none empty, none overlapping."""
    segments, free = [], 0
    for gloss, (start, end) in zip(glosses, times):
        first = max(round(start * fps), free)
        free = max(round(end * fps), first + 1)
        segments.append((first, free, gloss))
    return tuple(segments)


def perform(
    sentence: Sentence, signs: dict[str, Sign], signer: Signer, rng: np.random.Generator, fps: float
) -> Performance:
    """The sentence as this person signs it, in 3D and without a detector's faults."""
    order = [signs[gloss] for gloss in sentence.glosses]
    plan = plan_hands(order, signer, rng)
    seconds = np.arange(max(math.ceil(plan.end * fps), len(order) + 1)) / fps
    hands = np.stack([keys.curve(seconds) for keys in plan.hands], 1)
    add_strokes(hands, order, plan.times, seconds, signer, rng)
    tremor = np.concatenate([np.full(3, 0.012), [0, 0.02], np.full(3, 0.035), np.full(15, 0.04)]) * signer.slop
    hands += (wander(rng, seconds, 46, 1.6) + 0.5 * wander(rng, seconds, 46, 4.0)).reshape(-1, 2, 23) * tremor
    face = face_curve(sentence, plan.times, seconds, signer, rng)
    head, torso = posture_curves(sentence, plan.times, seconds, signer, rng)
    return Performance(_assemble(hands, face, head, torso, signer), frame_segments(sentence.glosses, plan.times, fps))


def _assemble(hands: np.ndarray, face: np.ndarray, head: np.ndarray, torso: np.ndarray, signer: Signer) -> np.ndarray:
    """All curves -> joints [T, 133, 3], mirrored for a left-handed signer."""
    joints = np.zeros((len(hands), NUM_JOINTS, 3))
    top = head_points(face, head, signer)
    joints[:, :5], joints[:, FACE:LEFT_HAND] = top[:, :5], top[:, 5:]
    shrug = 0.04 * np.clip(0.6 - hands[..., 1], 0, 1.2)
    elbow, wrist, points = arms_and_hands(hands, top[:, 0], shrug, signer)
    joints[:, [6, 5]] = np.array([[-0.5, 0, 0], [0.5, 0, 0]]) - shrug[..., None] * (0, 1, 0)
    joints[:, [8, 7]], joints[:, [10, 9]] = elbow, wrist
    joints[:, RIGHT_HAND:], joints[:, LEFT_HAND:RIGHT_HAND] = points[:, 0], points[:, 1]
    joints[:, :] = (joints - HIPS) @ rotation(torso) + HIPS
    legs = np.array(
        [(0.32, 1.45, 0), (0.34, 2.6, -0.1), (0.34, 3.7, 0), (0.44, 3.85, -0.2), (0.5, 3.85, -0.16), (0.34, 3.82, 0.1)]
    )
    joints[:, [11, 13, 15, FEET, FEET + 1, FEET + 2]] = legs
    joints[:, [12, 14, 16, FEET + 3, FEET + 4, FEET + 5]] = legs * (-1, 1, 1)
    return joints[:, list(COCO_WHOLEBODY.flip)] * (-1, 1, 1) if signer.left_handed else joints
