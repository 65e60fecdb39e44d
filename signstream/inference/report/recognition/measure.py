"""One pass over a split with a finished recogniser: what is recognised of each clip.

    measured = measure(clips, ranks)        # Measured, the same on every rank

Each clip is read once; every number of the report is made of these lines.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from signstream.data.sequences import Padded
from signstream.inference.clips import Clip
from signstream.inference.recognition.clips import SplitClips
from signstream.inference.recognition.spans import Recognised
from signstream.models.metrics import wer
from signstream.training.distributed import Ranks


class Line(NamedTuple):
    """Of a clip whose words are known."""

    number: int  # among the clips
    clip: Clip
    words: tuple[str, ...]
    found: Recognised
    greedy: tuple[str, ...]  # the likeliest gloss of each step
    jumbled: tuple[str, ...]  # what is recognised where its steps come in any order

    @property
    def pairs(self) -> list[wer.Pair]:
        return wer.align(self.words, self.found.glosses)

    @property
    def errors(self) -> wer.Counts:
        return wer.counts_of(self.pairs)


class Measured(NamedTuple):
    lines: list[Line]  # in the clips' order
    seconds: float  # that the slowest rank took to recognise


def measure(clips: SplitClips, ranks: Ranks) -> Measured:
    """Of clips that all have words."""
    share = range(len(clips.all))[ranks.rank :: ranks.world]
    recogniser = clips.reader
    likeliest = replace(recogniser.decode, beam=1)
    mine: list[Line] = []
    seconds = 0.0
    for numbers, padded in clips.batches(share):
        some = [clips.all[number] for number in numbers]
        frames = [clip.frames for clip in some]
        began = time.perf_counter()
        emissions = recogniser.emissions(padded)
        found = recogniser.read(emissions, frames, clips.timing)
        seconds += time.perf_counter() - began
        greedy = recogniser.read(emissions, frames, clips.timing, decode=likeliest)
        jumbled = recogniser.read(recogniser.emissions(in_any_order(padded, numbers)), frames, clips.timing)
        mine += [
            Line(number, clip, clip.words or (), best, greedy=other.glosses, jumbled=third.glosses)
            for number, clip, best, other, third in zip(numbers, some, found, greedy, jumbled)
        ]
    lines = sorted((line for part in ranks.collect(mine) for line in part), key=lambda line: line.number)
    return Measured(lines, max(ranks.collect(seconds)))


def in_any_order(padded: Padded, seeds: Sequence[int]) -> Padded:
    """Each clip's own steps, in an order that its seed draws."""
    longest = max(padded.lengths, default=0)
    orders = torch.arange(longest).repeat(len(seeds), 1)
    for order, length, seed in zip(orders, padded.lengths, seeds):
        order[:length] = torch.randperm(length, generator=torch.Generator().manual_seed(seed))
    clip = torch.arange(len(seeds))[:, None]
    return Padded(
        {name: stream[clip, orders.to(stream.device)] for name, stream in padded.streams.items()}, padded.lengths
    )


def errors_of(lines: Iterable[Line]) -> wer.Counts:
    return wer.Counts.total(line.errors for line in lines)


class Place(NamedTuple):
    """Where a gloss was recognised: the line, and the number of the sign in it."""

    line: Line
    sign: int

    @property
    def confidence(self) -> float:
        return self.line.found.signs[self.sign].confidence


class Places(NamedTuple):
    right: dict[str, Place]  # of each gloss that was rightly recognised somewhere, the place that was surest
    taken: dict[tuple[str, str], list[Place]]  # (signed, recognised): the surest first


def places_of(lines: Sequence[Line]) -> Places:
    right: dict[str, Place] = {}
    taken: dict[tuple[str, str], list[Place]] = {}
    for line in lines:
        sign = 0
        for pair in line.pairs:
            if pair.hypothesis is None:
                continue
            place = Place(line, sign)
            sign += 1
            if pair.reference is None:
                continue
            if wer.fold(pair.reference) != wer.fold(pair.hypothesis):
                taken.setdefault((pair.reference, pair.hypothesis), []).append(place)
            elif pair.hypothesis not in right or right[pair.hypothesis].confidence < place.confidence:
                right[pair.hypothesis] = place
    for several in taken.values():
        several.sort(key=lambda place: -place.confidence)
    return Places(right, taken)
