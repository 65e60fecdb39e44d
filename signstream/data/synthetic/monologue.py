"""Several sentences on end by one person, with what lies between them.

    recite(sentences, signs, signer, rng=rng, fps=30.0) -> Monologue: joints [T, 133, 3], and what is when

All movements are planned on one line of time and summed as those of a single sentence are (performance.py), so no seam
can jump. Between two sentences the hands are held (a pause) or go down (a rest). Now and then a sentence is begun,
broken off in a sign, and said from its beginning (a false start).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from signstream.data.synthetic.curves import Keys
from signstream.data.synthetic.grammar import Sentence
from signstream.data.synthetic.lexicon import Sign
from signstream.data.synthetic.performance import (
    Manner,
    Plan,
    Segment,
    Span,
    Utterance,
    add_rest,
    add_sign,
    drawn_gap,
    drawn_tempo,
    frame_segments,
    manner_of,
    move,
)
from signstream.data.synthetic.signer import Signer

PAUSE, REST, FALSE_START = "pause", "rest", "false start"
RESTS, FALSE_STARTS = 0.4, 0.15  # share of the seams with a rest, and of the sentences that are begun twice


@dataclass(frozen=True)
class Monologue:
    """joints [T, 133, 3] of a clean body; spans in frames, half-open: of the signs, of the sentences (from the first
    sign's stroke to the last one's hold), and of what lies between: "pause", "rest" or "false start"."""

    joints: np.ndarray
    segments: tuple[Segment, ...]
    sentences: tuple[tuple[int, int], ...]
    between: tuple[Segment, ...]


class Script:
    """A monologue as it is planned: movements, what is said with them and what lies between, in seconds; `now` is how
    far it has got."""

    def __init__(self, signer: Signer, rng: np.random.Generator) -> None:
        self.rng = rng
        self.manner: Manner = manner_of(signer, rng)
        self.hands = (Keys.at(self.manner.rest), Keys.at(self.manner.rest))
        self.sentences: list[Utterance] = []
        self.broken: list[Utterance] = []
        self.between: list[tuple[Span, str]] = []
        self.now = float(rng.uniform(0.1, 0.6))

    def _add_signs(self, signs: list[Sign], tempo: float) -> list[Span]:
        times = []
        for sign in signs:
            times.append(add_sign(self.hands, sign, self.now, manner=self.manner, tempo=tempo, rng=self.rng))
            self.now = times[-1][1] + drawn_gap(self.rng)
        return times

    def _add_between(self, start: float, what: str) -> None:
        self.between.append(((start, self.now), what))

    def add_sentence(self, signs: list[Sign], mood: str) -> None:
        times = self._add_signs(signs, drawn_tempo(self.manner.signer, self.rng))
        self.sentences.append(Utterance(signs, times, mood, over=times[-1][1] + 0.35))

    def add_false_start(self, signs: list[Sign]) -> None:
        """The sentence's first signs (none to two) and the beginning of the next; then the hands stop, and may sink."""
        start, rng = self.now, self.rng
        begun = signs[: 1 + int(rng.integers(min(3, len(signs))))]
        share = float(rng.uniform(0.3, 0.8))
        times = self._add_signs(begun, drawn_tempo(self.manner.signer, rng))
        for keys in self.hands:
            keys.cut(share)
        times[-1] = (times[-1][0], times[-1][0] + share * (times[-1][1] - times[-1][0]))
        self.broken.append(Utterance(begun, times, "statement", share=share))
        self.now = times[-1][1] + float(rng.uniform(0.1, 0.3))
        if rng.random() < 0.5:
            for keys in self.hands:
                keys.add(self.now, 0.3, 0.5 * (keys.value[-1] + self.manner.rest))
            self.now += 0.3
        self.now += float(rng.uniform(0.1, 0.5))
        self._add_between(start, FALSE_START)

    def add_pause(self) -> None:
        start = self.now
        self.now += float(self.rng.uniform(0.3, 1.2))
        self._add_between(start, PAUSE)

    def add_rest(self) -> None:
        start = self.now
        self.now += add_rest(self.hands, start, manner=self.manner, rng=self.rng) + float(self.rng.uniform(0.3, 2.0))
        self._add_between(start, REST)

    def plan(self) -> Plan:
        """All that was added, and the hands go down."""
        end = self.now + add_rest(self.hands, self.now, manner=self.manner, rng=self.rng)
        said = sorted([*self.sentences, *self.broken], key=lambda utterance: utterance.times[0])
        return Plan(self.hands, said, end + float(self.rng.uniform(0.1, 0.5)))


def write_script(
    sentences: tuple[Sentence, ...], signs: dict[str, Sign], signer: Signer, *, rng: np.random.Generator
) -> Script:
    script = Script(signer, rng)
    for number, sentence in enumerate(sentences):
        order = [signs[gloss] for gloss in sentence.glosses]
        if number and rng.random() < RESTS:
            script.add_rest()
        elif number:
            script.add_pause()
        if rng.random() < FALSE_STARTS:
            script.add_false_start(order)
        script.add_sentence(order, sentence.mood)
    return script


def recite(
    sentences: tuple[Sentence, ...], signs: dict[str, Sign], signer: Signer, *, rng: np.random.Generator, fps: float
) -> Monologue:
    """The sentences as this person signs them, in 3D and without a detector's faults."""
    script = write_script(sentences, signs, signer, rng=rng)
    joints = move(script.plan(), signer, rng=rng, fps=fps)
    signed = [(span, sign.gloss) for said in script.sentences for span, sign in zip(said.times, said.signs)]
    order = sorted(signed + script.between)
    framed = frame_segments(tuple(what for _, what in order), [span for span, _ in order], fps)
    segments = tuple(segment for segment in framed if segment[2] in signs)
    ends, spans = 0, []
    for sentence in sentences:
        first, ends = ends, ends + len(sentence.glosses)
        spans.append((segments[first][0], segments[ends - 1][1]))
    between = tuple(segment for segment in framed if segment[2] not in signs)
    return Monologue(joints, segments, tuple(spans), between)
