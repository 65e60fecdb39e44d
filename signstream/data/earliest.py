"""After which chunk each word of a clip's sentence may be said at the earliest: what a language model that speaks while
signing goes on is to learn.

    words = words_in(text)                        which joined are the text again
    needs = Needs.of(lines)                       [(words, glosses), ..] of the training split, and of no other
    signs = seen(glosses, stops, size=10, chunks=N)        where glosses are known: segments, or a CTC path
    earliest(words, N, signs=signs, needs=needs)  -> for each word a chunk, 0 .. N - 1, never before the word before it

Of a sign we know the chunk with which it has been seen whole. A word waits for the sign that it stands for; one that
stands for none, as "the", for the words before it, and at the sentence's beginning for the first sign. A word that
training has not may stand for any sign that no other word does, and waits for all of them. Where nothing is known of
the signs, or no word finds its own, each word has its share of the clip.

What a word stands for is learnt by expectation maximisation, as IBM's first model of translation has it: each gloss of
a line is there because of one of its words, or of none. It is asked this way round, since a frequent word cannot hide
that it goes with no gloss, and a rare form of one, "threw", is what alone explains its gloss where it stands.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import NamedTuple

import numpy as np

WORD = re.compile(r"\s*(?:[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+)")
ROUNDS = 5  # of expectation maximisation
LEAST = 0.3  # of what a word explains: less is chance
NOBODY = ""  # explains the glosses that no word does


class Sign(NamedTuple):
    gloss: str
    chunk: int  # with which it has been seen whole


def words_in(text: str) -> list[str]:
    """With the blanks before them; in a script without blanks a character is a word."""
    words = WORD.findall(text)
    return [*words[:-1], words[-1] + text[len("".join(words)) :]] if words else []


def seen(glosses: Sequence[str], stops: Sequence[int], *, size: float, chunks: int) -> tuple[Sign, ...]:
    """stops: one past each gloss's last frame, or step of a recogniser, of which a chunk has `size`; 0 of a gloss that
    no step is known of, which may end as late as the clip."""
    last = chunks - 1
    return tuple(
        Sign(gloss, min(ceil(stop / size) - 1, last) if stop > 0 else last) for gloss, stop in zip(glosses, stops)
    )


@dataclass(frozen=True)
class Needs:
    """For each word of training, which glosses it stands for, and how often: shares of at least LEAST."""

    shares: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, lines: Iterable[tuple[Sequence[str], Sequence[str]]]) -> Needs:
        """lines: (words, glosses) of each clip."""
        lines = [([NOBODY, *map(_key, words)], glosses) for words, glosses in lines if glosses]
        words = sorted({word for line, _ in lines for word in line})
        glosses = sorted({gloss for _, line in lines for gloss in line})
        word_number, gloss_number = ({name: i for i, name in enumerate(names)} for names in (words, glosses))
        sizes, pairs = [], []
        for line, signed in lines:
            numbers = np.array([word_number[word] for word in line]) * len(glosses)
            for gloss in signed:
                sizes.append(len(line))
                pairs.append(numbers + gloss_number[gloss])
        found: dict[str, dict[str, float]] = {word: {} for word in words}
        if pairs:
            kinds, which = np.unique(np.concatenate(pairs), return_inverse=True)
            share = _explained(which, np.repeat(np.arange(len(sizes)), sizes), kinds // len(glosses))
            for kind, value in zip(kinds[share >= LEAST].tolist(), share[share >= LEAST].tolist()):
                found[words[kind // len(glosses)]][glosses[kind % len(glosses)]] = value
        return cls({**found, NOBODY: {}})

    def knows(self, word: str) -> bool:
        return _key(word) in self.shares

    def gloss(self, word: str, among: Iterable[str]) -> str | None:
        """Which of a clip's glosses the word stands for."""
        shares = self.shares.get(_key(word), {})
        return max((gloss for gloss in among if gloss in shares), key=lambda gloss: shares[gloss], default=None)


def _key(word: str) -> str:
    """A word whatever its case and punctuation; what is punctuation alone stands for nothing."""
    return re.sub(r"\W+", "", word).casefold()


def _explained(which: np.ndarray, gloss: np.ndarray, word: np.ndarray) -> np.ndarray:
    """Of each kind of pair (word, gloss) the share of what the word explains. which [n]: the kind of each pair that
    stands in a line, gloss [n]: the gloss, by its place in all lines, that it would explain; word [kinds]."""
    share = np.ones(len(word))
    for _ in range(ROUNDS):
        weight = share[which]
        count = np.bincount(which, weight / np.bincount(gloss, weight)[gloss])
        share = count / np.bincount(word, count)[word]
    return share


def earliest(words: Sequence[str], chunks: int, *, signs: Sequence[Sign] = (), needs: Needs | None = None) -> list[int]:
    assert chunks > 0, "a clip has a chunk"
    means = _means(words, signs, needs) if needs is not None else []
    if needs is None or means.count(None) == len(means):
        return [-(-(i + 1) * chunks // len(words)) - 1 for i in range(len(words))]
    first = min(sign.chunk for sign in signs)
    late = max((sign.chunk for place, sign in enumerate(signs) if place not in means), default=first)
    waits = (
        signs[place].chunk if place is not None else first if needs.knows(word) else late
        for word, place in zip(words, means)
    )
    return list(accumulate(waits, max))


def _means(words: Sequence[str], signs: Sequence[Sign], needs: Needs) -> list[int | None]:
    """Which of the signs each word stands for. Of a gloss that was signed twice, the same word's first time means the
    first."""
    places: dict[str, list[int]] = {}
    for place, sign in enumerate(signs):
        places.setdefault(sign.gloss, []).append(place)
    said: Counter[str] = Counter()
    means: list[int | None] = []
    for word in words:
        gloss = needs.gloss(word, places)
        means.append(None if gloss is None else places[gloss][min(said[_key(word)], len(places[gloss]) - 1)])
        said[_key(word)] += 1
    return means
