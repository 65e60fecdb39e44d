"""What was recognised, as the report's sections: plain values, null where nothing could be measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from signstream.data.text import UNKNOWN, Glosses
from signstream.inference.report.recognition.measure import Line, errors_of, places_of
from signstream.models.metrics import wer

SECTIONS = ("errors", "controls", "per_signer", "by_length", "confusions")
MOST_CONFUSIONS, MOST_NAMES = 20, 5
SEEDS = (0, 1, 2)
DRAWN = 1000  # splits, for the interval
NOBODY = "unknown"


def sections_of(lines: Sequence[Line], glosses: Glosses, notes: list[str]) -> dict[str, Any]:
    if len(lines) < 2:
        notes.append("controls: the split has one clip, so there is no other one's line")
    if all(line.clip.signer == "" for line in lines):
        notes.append("per_signer: the data set names no signer")
    sections = {
        "errors": _errors(lines, glosses),
        "controls": {
            "jumbled": _percent(wer.corpus((line.words for line in lines), (line.jumbled for line in lines))),
            "shuffled": _shuffled(lines),
            "nothing": _percent(_nothing(lines)),
        },
        "per_signer": _by(lines, lambda line: line.clip.signer or NOBODY),
        "by_length": _by_length(lines),
        "confusions": _confusions(lines),
    }
    assert tuple(sections) == SECTIONS
    return sections


def _percent(errors: wer.Counts) -> float:
    return 100 * errors.rate


def row_of(lines: Sequence[Line]) -> dict[str, Any]:
    """Of some of the clips: per cent of their words, and how many these are."""
    errors = errors_of(lines)
    words = max(errors.words, 1)
    return {
        "wer": _percent(errors),
        "substitutions": 100 * errors.substitutions / words,
        "deletions": 100 * errors.deletions / words,
        "insertions": 100 * errors.insertions / words,
        "clips": len(lines),
        "counts": errors._asdict(),
    }


def _errors(lines: Sequence[Line], glosses: Glosses) -> dict[str, Any]:
    greedy = wer.corpus((line.words for line in lines), (line.greedy for line in lines))
    low, high = _interval(lines)
    return {
        **row_of(lines),
        "low": low,
        "high": high,
        "greedy": _percent(greedy),
        "whole": sum(line.errors.errors == 0 for line in lines) / len(lines),
        "unknown": sum(number == UNKNOWN for line in lines for number in glosses.ids(line.words)),
    }


def _interval(lines: Sequence[Line]) -> tuple[float, float]:
    """Of the rate, over splits of as many clips that are drawn from these."""
    counts = np.array([(line.errors.errors, line.errors.words) for line in lines], np.float64)
    chosen = np.random.default_rng(0).integers(len(lines), size=(DRAWN, len(lines)))
    errors, words = counts[chosen].sum(1).T
    low, high = np.quantile(100 * errors / np.maximum(words, 1), (0.025, 0.975)).tolist()
    return low, high


def _shuffled(lines: Sequence[Line]) -> list[float] | None:
    """No clip gets its own line: those of a drawn order move on by one."""
    if len(lines) < 2:
        return None
    rates = []
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(len(lines)).tolist()
        other = dict(zip(order, [*order[1:], order[0]]))
        given = (lines[other[i]].found.glosses for i in range(len(lines)))
        rates.append(_percent(wer.corpus((line.words for line in lines), given)))
    return rates


def _nothing(lines: Sequence[Line]) -> wer.Counts:
    return wer.corpus((line.words for line in lines), ((),) * len(lines))


def _by(lines: Sequence[Line], key: Callable[[Line], str]) -> dict[str, Any]:
    return {name: row_of([line for line in lines if key(line) == name]) for name in dict.fromkeys(map(key, lines))}


def _by_length(lines: Sequence[Line]) -> dict[str, Any]:
    shortest_first = sorted(lines, key=lambda line: len(line.words))
    return _by(shortest_first, lambda line: wer.length_class(len(line.words)))


def _confusions(lines: Sequence[Line]) -> list[dict[str, Any]]:
    taken, signed = places_of(lines).taken, Counter(word for line in lines for word in line.words)
    return [
        {
            **pair._asdict(),
            "signed": signed[pair.reference],
            "clips": [place.line.clip.name for place in taken[pair.reference, pair.hypothesis][:MOST_NAMES]],
        }
        for pair in wer.confusions((line.pairs for line in lines), MOST_CONFUSIONS)
    ]
