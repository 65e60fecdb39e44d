"""Which words of a stream belong to which sentence, where a stream knows of none: BLEU and latency count by sentence.

    hypothesis: H words of a whole recording
    references: its sentences, each R words          --resegment--> slices of the hypothesis, one a reference, in order

The cuts are those with which the edit distances of all pairs of sentences add up to the least, as mwerSegmenter chooses
them; case does not count. Of cuts that cost the same the ones are taken that the alignment of all words finds which,
read from the end, deletes a word rather than insert one, and inserts one rather than pair two. A word inserted between
two sentences stays with the first. A sentence may get no word; unlike mwerSegmenter, the first may, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def resegment(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> list[slice]:
    assert references, "words need a sentence to belong to"
    numbers: dict[str, int] = {}
    ours, *theirs = (
        np.array([numbers.setdefault(word.casefold(), len(numbers)) for word in line], dtype=np.int32)
        for line in (hypothesis, *references)
    )
    before = [np.arange(len(ours) + 1, dtype=np.int32)]  # of each sentence, [H + 1]
    for line in theirs[:-1]:
        before.append(_costs(before[-1], line, ours)[-1])
    cuts = [len(ours)]
    for line, row in zip(theirs[:0:-1], before[:0:-1]):
        end = cuts[-1]
        cuts.append(_begin(_costs(row[: end + 1], line, ours[:end])))
    cuts = [0, *cuts[::-1]]
    return [slice(begin, end) for begin, end in zip(cuts, cuts[1:])]


def _costs(before: np.ndarray, reference: np.ndarray, hypothesis: np.ndarray) -> np.ndarray:
    """before [H + 1]: the least that the sentences before cost with the first h words -> [R + 1, H + 1], with the first
    r words of this one, too."""
    inserted = np.arange(len(hypothesis) + 1, dtype=np.int32)
    costs = np.empty((len(reference) + 1, len(hypothesis) + 1), dtype=np.int32)
    costs[0] = before
    for r, word in enumerate(reference):
        costs[r + 1] = costs[r] + 1
        np.minimum(costs[r + 1, 1:], costs[r, :-1] + (hypothesis != word), out=costs[r + 1, 1:])
        # What follows from an insertion in this row, all of them at once.
        costs[r + 1] = np.minimum.accumulate(costs[r + 1] - inserted) + inserted
    return costs


def _begin(costs: np.ndarray) -> int:
    """How many words belong to the sentences before, where all of these end with this one."""
    r, h = costs.shape[0] - 1, costs.shape[1] - 1
    while r:
        if costs[r, h] == costs[r - 1, h] + 1:
            r -= 1
        elif costs[r, h] == costs[r, h - 1] + 1:
            h -= 1
        else:
            r, h = r - 1, h - 1
    return h
