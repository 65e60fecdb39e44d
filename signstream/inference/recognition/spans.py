"""What was recognised of a clip, and in which of its frames.

    line = Cleaning("phoenix2014")       glosses as they count, one after another: of a file and of a stream alike
    line.push(signed), line.finish()     -> the glosses that nothing can change any more

Frames count from 0, the first and the last of a gloss are both its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from signstream.glosses import RULES, clean


class Signed(NamedTuple):
    """A gloss and where it was signed."""

    gloss: str
    first: int  # frame
    last: int
    confidence: float  # its mean probability over the steps that it was read from


class Recognised(NamedTuple):
    """Of one clip."""

    signs: tuple[Signed, ...]
    frames: int
    fps: float
    score: float  # log-probability

    @property
    def glosses(self) -> tuple[str, ...]:
        return tuple(sign.gloss for sign in self.signs)


class Cleaning:
    """The rules of signstream/glosses.py, gloss by gloss: what they join has the frames of both, what they drop is
    gone."""

    def __init__(self, rules: str) -> None:
        self.rules = rules
        self.joins = RULES[rules].joined
        self.held: Signed | None = None  # the last gloss, while the next one may be joined to it

    def push(self, sign: Signed) -> list[Signed]:
        alone = clean([sign.gloss], self.rules)
        if not alone:
            return []
        sign = sign._replace(gloss=alone[0])
        if not self.joins:
            return [sign]
        before, self.held = self.held, sign
        if before is None:
            return []
        both = clean([before.gloss, sign.gloss], self.rules)
        if len(both) == 2:
            self.held = sign._replace(gloss=both[1])
            return [before]
        self.held = _joined(before, sign, both[0])
        return []

    def finish(self) -> list[Signed]:
        held, self.held = self.held, None
        return [] if held is None else [held]

    def all(self, signs: Iterable[Signed]) -> tuple[Signed, ...]:
        """Of a whole clip."""
        return (*(done for sign in signs for done in self.push(sign)), *self.finish())


def _joined(one: Signed, other: Signed, gloss: str) -> Signed:
    lengths = [sign.last + 1 - sign.first for sign in (one, other)]
    confidence = (one.confidence * lengths[0] + other.confidence * lengths[1]) / sum(lengths)
    return Signed(gloss, one.first, other.last, confidence)
