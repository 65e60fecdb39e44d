"""Word error rate, counted as NIST's sclite counts it.

    reference, hypothesis: lines of words --align--> pairs --counts_of--> Counts, which add up over lines and ranks

    count(reference, hypothesis)        -> Counts of a line
    corpus(references, hypotheses)      -> Counts of all lines together, which their rate is taken of
    length_class(words of a reference)  -> its class, "5-8"
    confusions(alignments)              -> the pairs that are taken for one another most often

The alignment is the cheapest: a substitution costs 4, a deletion or an insertion 3. Of those that cost the same, which
may differ in their number of errors, it is the one that, read from the end, pairs words rather than insert one, and
inserts one rather than delete one. Case is folded for the letters A to Z alone. All this is as sclite does it. What is
no gloss is taken off before (signstream/glosses.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from string import ascii_lowercase, ascii_uppercase
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

SUBSTITUTION, DELETION, INSERTION = 4, 3, 3
FOLD = str.maketrans(ascii_uppercase, ascii_lowercase)
LENGTHS = (4, 8, 12, 16, 24)  # words: where classes of length end

Key = TypeVar("Key", bound=Hashable)


class Counts(NamedTuple):
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    words: int = 0  # of the references

    def __add__(self, other: Counts) -> Counts:  # type: ignore[override]
        return Counts(*(a + b for a, b in zip(self, other)))

    @classmethod
    def of(cls, values: Iterable[float]) -> Counts:
        """From its numbers in their order, as sums over ranks are."""
        return cls(*(round(value) for value in values))

    @classmethod
    def total(cls, counts: Iterable[Counts]) -> Counts:
        return sum(counts, cls())

    def state(self) -> Tensor:
        """[4] float64, for a sum over ranks."""
        return torch.tensor(self, dtype=torch.float64)

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors a word of the references; it may exceed 1."""
        return self.errors / self.words if self.words else math.inf if self.errors else 0.0


class Pair(NamedTuple):
    """None: nothing stands there, so that the other is deleted or inserted."""

    reference: str | None
    hypothesis: str | None


class Confusion(NamedTuple):
    reference: str
    hypothesis: str
    times: int


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Pair]:
    """The lines side by side, every word once."""
    wrong = _wrong(reference, hypothesis)
    costs = _costs(wrong)
    pairs, r, h = [], len(reference), len(hypothesis)
    while r or h:
        here = costs[r, h]
        if r and h and here == costs[r - 1, h - 1] + SUBSTITUTION * wrong[r - 1, h - 1]:
            r, h = r - 1, h - 1
            pairs.append(Pair(reference[r], hypothesis[h]))
        elif h and here == costs[r, h - 1] + INSERTION:
            h -= 1
            pairs.append(Pair(None, hypothesis[h]))
        else:
            r -= 1
            pairs.append(Pair(reference[r], None))
    return pairs[::-1]


def _wrong(reference: Sequence[str], hypothesis: Sequence[str]) -> np.ndarray:
    """reference [R], hypothesis [H] -> [R, H] bool: which words differ."""
    numbers: dict[str, int] = {}
    lines = ([numbers.setdefault(fold(word), len(numbers)) for word in line] for line in (reference, hypothesis))
    theirs, ours = (np.array(line, dtype=np.int32) for line in lines)
    return theirs[:, None] != ours


def _costs(wrong: np.ndarray) -> np.ndarray:
    """[R + 1, H + 1]: what the cheapest alignment of the first r and the first h words costs."""
    words, heard = wrong.shape
    inserted = INSERTION * np.arange(heard + 1, dtype=np.int32)
    costs = np.empty((words + 1, heard + 1), dtype=np.int32)
    costs[0] = inserted
    for r in range(words):
        costs[r + 1] = costs[r] + DELETION
        np.minimum(costs[r + 1, 1:], costs[r, :-1] + SUBSTITUTION * wrong[r], out=costs[r + 1, 1:])
        # What follows from an insertion in this row, all of them at once.
        costs[r + 1] = np.minimum.accumulate(costs[r + 1] - inserted) + inserted
    return costs


def fold(word: str) -> str:
    """What is compared of a word."""
    return word.translate(FOLD)


def counts_of(pairs: Iterable[Pair]) -> Counts:
    """Of an alignment, or of several in one."""
    kinds = Counter(_kind(pair) for pair in pairs)
    words = sum(kinds.values()) - kinds["insertion"]
    return Counts(kinds["substitution"], kinds["deletion"], kinds["insertion"], words)


def _kind(pair: Pair) -> str:
    if pair.reference is None or pair.hypothesis is None:
        return "insertion" if pair.reference is None else "deletion"
    return "right" if fold(pair.reference) == fold(pair.hypothesis) else "substitution"


def count(reference: Sequence[str], hypothesis: Sequence[str]) -> Counts:
    return counts_of(align(reference, hypothesis))


def parts_of(errors: Counts) -> str:
    """For a line: how many of which kind."""
    kinds = ("substituted", errors.substitutions), ("deleted", errors.deletions), ("inserted", errors.insertions)
    return ", ".join(f"{count} {kind}" for kind, count in kinds) + f" of {errors.words} words"


def corpus(references: Iterable[Sequence[str]], hypotheses: Iterable[Sequence[str]]) -> Counts:
    """Line by line, as many of the one as of the other."""
    return Counts.total(count(*lines) for lines in zip(references, hypotheses, strict=True))


def length_class(words: int) -> str:
    """Of a reference of so many words, for example 5-8."""
    first = 0
    for last in LENGTHS:
        if words <= last:
            return f"{first}-{last}"
        first = last + 1
    return f"{first}+"


def confusions(alignments: Iterable[Iterable[Pair]], most: int = 20) -> list[Confusion]:
    """What was recognised instead of what, the most frequent first, of equals in the order of the alphabet."""
    wrong: Counter[tuple[str, str]] = Counter()
    for pairs in alignments:
        wrong.update((pair.reference or "", pair.hypothesis or "") for pair in pairs if _kind(pair) == "substitution")
    ordered = sorted(wrong, key=lambda words: (-wrong[words], words))
    return [Confusion(*words, wrong[words]) for words in ordered[:most]]
