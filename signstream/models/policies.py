"""When something is said while signing goes on: a policy is asked behind each chunk how many words.

    policy = policy_of("own:0.5:2")         of one stream: it remembers what was thought
    policy(moment) -> how many of moment.thought.words are said now

    own:0.5:1         all that is thought, once the model's own wish to speak is above 0.5
    own:0.5:2         likewise, once it is likelier than 0.5 that something came due behind one of the last 2 chunks;
                      the default
    wait:3:2          word i, from 0 on, once 3 + 2 i chunks were heard (wait-k)
    agree:2           the words with which the thoughts of the last 2 chunks begin alike (local agreement)
    mix:0.5:0.2:2     all that is thought above a wish of 0.5; above 0.2 that on which the last 2 chunks agree
    offline           nothing before the end

A number that is left out is the first that stands here: own:0.5 is own:0.5:1. Who does not ask for the thought does
not pay for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from math import prod
from typing import NamedTuple, Protocol

from signstream.errors import UserError, shown

POLICY = "own:0.5:2"
MOST = 1_000_000  # chunks, or words
Words = list[list[int]]  # the ids of each


class Thought(NamedTuple):
    """What the model would say, had it to speak now."""

    ids: list[int]
    words: Words  # the whole ones: all ids, or those before a word that was cut off


@dataclass
class Moment:
    """Behind a chunk."""

    heard: int  # chunks so far
    said: int  # words so far
    wish: float  # of the model: to speak, against to be silent, 0 to 1
    think: Callable[[], Thought]

    @cached_property
    def thought(self) -> Thought:
        return self.think()


class Policy(Protocol):
    def __call__(self, moment: Moment) -> int:
        """How many words are said now, at most those that are thought."""


class Own:
    """A wish is how likely something comes due behind this chunk, had nothing come due behind the last ones. Where
    those wished, too, and were not followed, something may have: `chunks` of them count together. Not for models of
    held-back sequences (live.delayed): their wish is how likely something is due by now."""

    def __init__(self, above: float = 0.5, chunks: int = 1) -> None:
        self.above = above
        self.silence: deque[float] = deque(maxlen=chunks)  # how likely nothing came due behind each, since it spoke

    def __call__(self, moment: Moment) -> int:
        self.silence.append(1 - moment.wish)
        if not prod(self.silence) < 1 - self.above or not moment.thought.words:
            return 0
        self.silence.clear()
        return len(moment.thought.words)


class Wait:
    """Words are counted from the stream's beginning and through all its sentences: nothing here knows where one ends.
    So pauses count as chunks that were heard, and after them words come sooner."""

    def __init__(self, first: int = 3, pace: int = 2) -> None:
        self.first, self.pace = first, pace

    def __call__(self, moment: Moment) -> int:
        due = (moment.heard - self.first) // self.pace + 1 - moment.said
        return max(min(due, len(moment.thought.words)), 0)


class Agree:
    def __init__(self, thoughts: int = 2) -> None:
        self.thoughts = thoughts
        self.last: list[Words] = []  # each without what was said since

    def __call__(self, moment: Moment) -> int:
        count = self.agreed(moment)
        self.forget(count)
        return count

    def agreed(self, moment: Moment) -> int:
        self.last = [*self.last, moment.thought.words][-self.thoughts :]
        if len(self.last) < self.thoughts:
            return 0
        return sum(1 for _ in takewhile(lambda words: all(word == words[0] for word in words), zip(*self.last)))

    def forget(self, count: int) -> None:
        """So many words of the last thought are said; who thought of others has thought of nothing."""
        said = self.last[-1][:count]
        self.last = [words[count:] if words[:count] == said else [] for words in self.last]


class Mix:
    def __init__(self, above: float = 0.5, agreed: float = 0.2, thoughts: int = 2) -> None:
        self.own, self.above_agreed, self.agree = Own(above), agreed, Agree(thoughts)

    def __call__(self, moment: Moment) -> int:
        agreed = self.agree.agreed(moment)
        count = max(self.own(moment), agreed if moment.wish > self.above_agreed else 0)
        self.agree.forget(count)
        return count


def offline(moment: Moment) -> int:
    return 0


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= MOST:
        raise ValueError
    return value


KINDS: dict[str, tuple[Callable[..., Policy], tuple[Callable[[str], float], ...]]] = {
    "own": (Own, (_share, _count)),
    "wait": (Wait, (_count, _count)),
    "agree": (Agree, (_count,)),
    "mix": (Mix, (_share, _share, _count)),
    "offline": (lambda: offline, ()),
}


def policy_of(text: str) -> Policy:
    name, *given = text.split(":")
    try:
        make, numbers = KINDS[name]
        if len(given) > len(numbers):
            raise ValueError
        return make(*(number(each) for number, each in zip(numbers, given)))
    except (KeyError, ValueError):
        known = "own:0.5:2, wait:3:2, agree:2, mix:0.5:0.2:2 and offline"
        raise UserError(f"no policy {shown(text)}: {known} are such, a share from 0 to 1, a count from 1 on") from None
