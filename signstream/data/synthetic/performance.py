"""A sentence's signs in, the 133 joints of a moving body in three dimensions out.

    perform(sentence, signs, signer, rng=rng, fps=30.0) -> Performance: joints [T, 133, 3], segments

Curves are sums of minimum-jerk movements that may overlap (coarticulation) with slow tremor on top (curves.py); body.py
makes a body of them. All in shoulder widths, as it says there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from signstream.data.synthetic.body import FINGERS, TURN, WHERE, Curves, assemble_body
from signstream.data.synthetic.curves import Keys, minimum_jerk, wander
from signstream.data.synthetic.grammar import Sentence
from signstream.data.synthetic.lexicon import MOTIONS, ORIENTATIONS, PLACES, Sign, handshape_angles, mouthing
from signstream.data.synthetic.signer import RESTS, Signer

OVER_BASE = np.array([-0.04, 0.38, -0.76])  # just above a base hand, which is held in the middle
BROW_UP, FURROW, LIDS = 4, 5, 6  # channels of the face after the four of a viseme
# How far and how late each of a hand's 15 angles goes along when fingers wiggle.
WIGGLE_BENDS = np.array([1.0] * 4 + [0.5] * 4 + [0] * 4 + [0, 0, 0.3])
WIGGLE_PHASE = np.concatenate([np.arange(4), np.arange(4), np.zeros(4), np.ones(3)]) * 1.3


Segment = tuple[int, int, str]  # first frame, one past the last, gloss
Span = tuple[float, float]  # when something begins and ends, in seconds


@dataclass(frozen=True)
class Performance:
    """joints [T, 133, 3] of a clean body, segments [(start, end, gloss)] in frames, half-open."""

    joints: np.ndarray
    segments: tuple[Segment, ...]


def _hand_key(place: str, orientation: str, shape: str) -> np.ndarray:
    """[23] where the contact point goes, how far it is from the wrist, orientation, fingers."""
    spot = PLACES[place]
    turn = np.radians(ORIENTATIONS[orientation])
    return np.concatenate([spot.at, [float(spot.head), spot.reach], turn, handshape_angles(shape)])


def _rest_key(signer: Signer, rng: np.random.Generator) -> np.ndarray:
    at, turn = RESTS[signer.rest]
    return np.concatenate([np.add(at, rng.normal(0, 0.03, 3)), [0, 0.5], np.radians(turn), handshape_angles("relaxed")])


def sign_targets(sign: Sign, signer: Signer) -> np.ndarray:
    """[2 ends, 2 hands, 23] where a sign begins and ends; the second hand as if it were a right hand too.
    NaN: that hand is free."""
    motion = MOTIONS[sign.motion]
    lead = _hand_key(sign.place, sign.orientation, sign.shape)
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
        orientation = "across-down" if sign.base_shape == "flat" else "across-in"
        keys[:, 1] = _hand_key("middle", orientation, sign.base_shape)
        keys[:, 0, WHERE] -= 0.65 * (lead[WHERE] - OVER_BASE)
    return keys


def _free_hand(last: np.ndarray, rest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[23] what the second hand does in a one-handed sign: stays, sinks, or goes to rest."""
    mood = rng.random()
    return last if mood < 0.3 else rest if mood > 0.7 else 0.5 * (last + rest)


@dataclass(frozen=True)
class Utterance:
    """What is signed without a break: each sign's (start, end) in seconds, and what face and head say of all."""

    signs: list[Sign]
    times: list[Span]
    mood: str  # a sentence's
    over: float = math.inf  # when face and head have let go of the mood, in seconds
    share: float = 1.0  # of the last sign's stroke that is made


@dataclass(frozen=True)
class Plan:
    """The hands' movements, what is said with them, and the clip's end in seconds."""

    hands: tuple[Keys, Keys]
    said: list[Utterance]
    end: float


@dataclass(frozen=True)
class Manner:
    """A person, where the hands rest [23], and how far they miss what they aim at [23]."""

    signer: Signer
    rest: np.ndarray
    scale: np.ndarray


def manner_of(signer: Signer, rng: np.random.Generator) -> Manner:
    rest = _rest_key(signer, rng)
    scale = np.concatenate([np.full(3, 0.03), [0.05, 0.08], np.full(3, 0.11), np.full(15, 0.10)])
    return Manner(signer, rest, scale * signer.slop)


def drawn_tempo(signer: Signer, rng: np.random.Generator) -> float:
    """How fast this person signs this time."""
    return signer.tempo * float(np.exp(rng.normal(0, 0.08)))


def add_sign(
    hands: tuple[Keys, Keys], sign: Sign, now: float, *, manner: Manner, tempo: float, rng: np.random.Generator
) -> Span:
    """Approach, stroke and hold of a sign, the approach from `now`; when stroke and hold are."""
    targets = _drawn_targets(sign, hands, manner=manner, rng=rng)
    far = float(np.linalg.norm(targets[0, 0, WHERE] - hands[0].value[-1][WHERE]))
    approach = max((0.13 + 0.18 * far) / tempo, -now)
    stroke = sign.seconds / tempo * float(np.exp(rng.normal(0, 0.15)))
    for hand in range(2):
        early = manner.signer.lag * approach * rng.uniform(0.3, 1.0) + hand * rng.uniform(-0.02, 0.04)
        hands[hand].add(now - early, approach + early, targets[0, hand])
        hands[hand].add(now + approach, 0.55 * stroke, targets[1, hand])
    return now + approach, now + approach + stroke


def drawn_gap(rng: np.random.Generator) -> float:
    """Seconds from a sign to the way to the next."""
    return float(rng.exponential(0.075)) + (rng.random() < 0.06) * float(rng.uniform(0.1, 0.4))


def add_rest(hands: tuple[Keys, Keys], now: float, *, manner: Manner, rng: np.random.Generator) -> float:
    """The hands go down; how long that takes."""
    down = float(rng.uniform(0.35, 0.6))
    for keys in hands:
        keys.add(now + rng.uniform(0, 0.08), down, manner.rest + rng.normal(0, 1, 23) * manner.scale)
    return down


def plan_sentence(signs: list[Sign], mood: str, signer: Signer, *, rng: np.random.Generator) -> Plan:
    """When each hand goes where: rest, then approach, stroke and hold of every sign, then rest."""
    manner = manner_of(signer, rng)
    hands = (Keys.at(manner.rest), Keys.at(manner.rest))
    now = float(rng.uniform(0.0, 0.4) if len(signs) > 1 else rng.uniform(-0.25, 0.1))
    tempo = drawn_tempo(signer, rng)
    times: list[Span] = []
    for sign in signs:
        times.append(add_sign(hands, sign, now, manner=manner, tempo=tempo, rng=rng))
        now = times[-1][1] + drawn_gap(rng)
    down = add_rest(hands, now, manner=manner, rng=rng)
    cut = len(signs) == 1 or rng.random() < 0.25
    end = now + (0.04 if cut else down + float(rng.uniform(0, 0.45)))
    return Plan(hands, [Utterance(signs, times, mood)], end)


def _drawn_targets(sign: Sign, hands: tuple[Keys, Keys], *, manner: Manner, rng: np.random.Generator) -> np.ndarray:
    """[2 ends, 2 hands, 23] a sign as this person makes it this time, after what the hands did before."""
    signer, scale = manner.signer, manner.scale
    habit = np.concatenate([np.zeros(5), signer.turn, signer.bend])
    targets = sign_targets(sign, signer) + habit
    for hand in range(2):
        if np.isnan(targets[0, hand, 0]):
            targets[:, hand] = _free_hand(hands[hand].value[-1], manner.rest, rng)
        targets[:, hand] += rng.normal(0, 1, 23) * scale
        targets[1, hand] += rng.normal(0, 0.4, 23) * scale
    return targets


def add_strokes(
    hands: np.ndarray, said: Utterance, seconds: np.ndarray, *, signer: Signer, rng: np.random.Generator
) -> None:
    """Adds each sign's loops, twists and wiggles to hands [T, 2, 23], in place."""
    for number, (sign, (start, end)) in enumerate(zip(said.signs, said.times), 1):
        motion = MOTIONS[sign.motion]
        whole = said.share if number == len(said.signs) else 1.0
        a, b = np.searchsorted(seconds, (start, end))
        since = seconds[a:b, None] - start
        share = since / (end - start) * whole
        swell = minimum_jerk(share / 0.15) * minimum_jerk((whole - share) / 0.15)
        for hand in range(1 + (sign.hands in ("both", "alternating"))):
            side = -1 if hand and sign.hands == "alternating" else 1
            turns = 2 * np.pi * motion.turns * share
            size = side * signer.amplitude * rng.uniform(0.85, 1.15) * swell
            loop = np.sin(turns) * motion.sine + (1 - np.cos(turns)) * np.asarray(motion.cosine)
            hands[a:b, hand, WHERE] += size * loop
            hands[a:b, hand, TURN] += size * np.sin(2 * np.pi * motion.twists * share) * np.radians(motion.twist)
            if motion.wiggle:
                bends = size * np.radians(motion.wiggle) * WIGGLE_BENDS
                hands[a:b, hand, FINGERS] += bends * np.sin(2 * np.pi * 4.5 * since + WIGGLE_PHASE)


def add_mouthing(mouth: Keys, said: Utterance, *, signer: Signer, rng: np.random.Generator) -> None:
    """The glosses' letters, as many of the last one as are signed."""
    for number, (sign, (start, end)) in enumerate(zip(said.signs, said.times), 1):
        visemes = mouthing(sign.gloss)
        if number == len(said.signs):
            visemes = visemes[: math.ceil(said.share * len(visemes))]
        step = (end - start + 0.1) / len(visemes)
        for i, viseme in enumerate(visemes):
            mouth.add(start - 0.07 + i * step, max(1.2 * step, 0.09), viseme * signer.mouthing * rng.uniform(0.75, 1.2))
        mouth.add(end + 0.02, 0.14, np.zeros(4))


def _let_go(said: Utterance, seconds: np.ndarray) -> np.ndarray:
    """[T] how much of a mood is left: 1, and 0 from when it is over."""
    return minimum_jerk((said.over - seconds) / 0.3)


def face_curve(
    utterances: list[Utterance], seconds: np.ndarray, *, signer: Signer, rng: np.random.Generator
) -> np.ndarray:
    """[T, 7] the face's channels: mouthing from the gloss's letters, brows from the sentence's mood, blinks."""
    mouth = Keys.at(np.zeros(4))
    for said in utterances:
        add_mouthing(mouth, said, signer=signer, rng=rng)
    face = np.concatenate([mouth.curve(seconds), np.zeros((len(seconds), 3))], 1)
    face[:, BROW_UP] = 0.22 * wander(rng, seconds, 1, hertz=0.8)[:, 0]
    for said in utterances:
        times = said.times
        halfway = times[len(times) // 2][0]
        if said.mood in ("asks", "wonders"):
            asking = minimum_jerk((seconds - halfway) / 0.3) * minimum_jerk((times[-1][1] + 0.3 - seconds) / 0.3)
            face[:, BROW_UP if said.mood == "asks" else FURROW] += asking
        if said.mood == "denies":
            face[:, FURROW] += 0.6 * minimum_jerk((seconds - times[-1][0]) / 0.2) * _let_go(said, seconds)
    for at in rng.uniform(0, seconds[-1] + 0.1, rng.poisson(0.5 * seconds[-1] + 0.3)):
        face[:, LIDS] = np.maximum(face[:, LIDS], np.exp(-(((seconds - at) / 0.06) ** 2)))
    return face + 0.05 * wander(rng, seconds, 7, hertz=2.0)


def posture_curves(
    utterances: list[Utterance], seconds: np.ndarray, *, signer: Signer, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Head [T, 3] and torso [T, 3]: yaw, pitch, roll in radians; head-shake where the sentence denies, a nod with most
    signs."""
    size = np.radians(signer.head_motion)
    head = size * (
        4.5 * wander(rng, seconds, 3, hertz=0.7) * (1.2, 0.8, 0.7) + 1.0 * wander(rng, seconds, 3, hertz=2.5)
    )
    torso = np.radians(1.4) * wander(rng, seconds, 3, hertz=0.5) * (1.6, 0.6, 0.7)
    for said in utterances:
        times = said.times
        for start, end in times:
            head[:, 1] += size * rng.normal(0, 4) * np.exp(-(((seconds - (start + end) / 2) / (end - start)) ** 2))
        if said.mood == "denies":
            ramp = minimum_jerk((seconds - times[-1][0] + 0.1) / 0.15) * _let_go(said, seconds)
            head[:, 0] += np.radians(11) * ramp * np.sin(2 * np.pi * 2.2 * (seconds - times[-1][0]))
        if said.mood == "asks":
            asking = minimum_jerk((seconds - times[len(times) // 2][0]) / 0.4) * _let_go(said, seconds)
            head[:, 1] += np.radians(9) * asking
    return head, torso


def frame_segments(glosses: tuple[str, ...], times: list[Span], fps: float) -> tuple[Segment, ...]:
    """Times in seconds -> half-open frame ranges, in order, none empty, none overlapping."""
    segments: list[Segment] = []
    free = 0
    for gloss, (start, end) in zip(glosses, times):
        first = max(round(start * fps), free)
        free = max(round(end * fps), first + 1)
        segments.append((first, free, gloss))
    return tuple(segments)


def move(plan: Plan, signer: Signer, *, rng: np.random.Generator, fps: float) -> np.ndarray:
    """joints [T, 133, 3] of the person who does what is planned."""
    signed = sum(len(said.signs) for said in plan.said)
    seconds = np.arange(max(math.ceil(plan.end * fps), signed + 1)) / fps
    hands = np.stack([keys.curve(seconds) for keys in plan.hands], 1)
    for said in plan.said:
        add_strokes(hands, said, seconds, signer=signer, rng=rng)
    tremor = np.concatenate([np.full(3, 0.012), [0, 0.02], np.full(3, 0.035), np.full(15, 0.04)]) * signer.slop
    hands += (wander(rng, seconds, 46, hertz=1.6) + 0.5 * wander(rng, seconds, 46, hertz=4.0)).reshape(
        -1, 2, 23
    ) * tremor
    face = face_curve(plan.said, seconds, signer=signer, rng=rng)
    head, torso = posture_curves(plan.said, seconds, signer=signer, rng=rng)
    return assemble_body(Curves(hands, face, head, torso), signer)


def perform(
    sentence: Sentence, signs: dict[str, Sign], signer: Signer, *, rng: np.random.Generator, fps: float
) -> Performance:
    """The sentence as this person signs it, in 3D and without a detector's faults."""
    plan = plan_sentence([signs[gloss] for gloss in sentence.glosses], sentence.mood, signer, rng=rng)
    joints = move(plan, signer, rng=rng, fps=fps)
    return Performance(joints, frame_segments(sentence.glosses, plan.said[0].times, fps))
