"""The numbers of a live run: how near its text is to what was meant, how late it came, and what was taken back.

    measured = measure(run, meant.clips, "en_XX")   -> Measured(numbers, variants, clips)

    text/bleu_4, ...                   of the whole clips' committed text, as models/metrics/text.py counts it
    sentences/text/bleu_4, ...         of long recordings, by sentence, as models/metrics/resegment.py cuts them
    latency/consumed/laal, ...         models/metrics/latency.py, ms; elapsed: computing and waiting included
    sentences/latency/consumed/laal    StreamLAAL
    latency/beyond_seen                laal, less that of who says each word once its signs have been seen (soonest.py)
    latency/first_beyond_seen          the first word's lag by the clock, less when its signs have been seen
    erasure/shown, erasure/committed   units taken back, a unit that stands in the end; the second is 0
    before_end                         share of units that were committed before all signing was read
    real_time_factor, computing/p50, computing/p95     computing over signing; ms a chunk

A unit is a word (Chinese: a character) and is said once it stands there whole; the beginning of a word that goes on is
not taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from signstream.inference.report.live.events import LiveClip, LiveRun
from signstream.inference.report.live.meant import MeantClip
from signstream.models.metrics.latency import Said, Sentence, Unit, by_sentence, erasure, real_time_factor, summary
from signstream.models.metrics.text import TextScores

Numbers = dict[str, float | None]
BEYOND = {"beyond_seen": "latency/consumed/laal", "first_beyond_seen": "latency/elapsed/first"}


class SaidSentence(NamedTuple):
    meant: str
    said: Said  # times from where the sentence begins
    begins: float  # ms from the clip's first frame


class MeasuredClip(NamedTuple):
    live: LiveClip
    meant: MeantClip
    said: Said
    sentences: tuple[SaidSentence, ...]  # a single one, where the clip is no recording of many
    chrf: float | None  # None: nobody says what was meant

    @property
    def units(self) -> Sequence[Unit]:
        return self.said.units


class Measured(NamedTuple):
    numbers: Numbers
    variants: dict[str, str]
    clips: list[MeasuredClip]


def measure(run: LiveRun, meant: Mapping[str, MeantClip], language: str) -> Measured:
    scores = TextScores(language)
    clips = [_measured(clip, meant[clip.name], scores) for clip in run.clips.values()]
    numbers: Numbers = {"clips": len(clips), "words": sum(len(clip.units) for clip in clips)}
    known = [clip for clip in clips if clip.meant.text]
    scores.add([clip.meant.text for clip in known], [clip.live.updates[-1].committed.strip() for clip in known])
    numbers |= scores.result()
    numbers |= summary(clip.said for clip in clips)
    numbers |= _by_sentence([clip for clip in clips if clip.meant.recording.sentences], language)
    numbers |= _changes(clips, scores) | _speed(run.clips.values())
    return Measured(numbers, scores.variants(), clips)


def beyond(run: Measured, soonest: Measured) -> Numbers:
    """Of the clips and sentences of which both said something."""
    out: Numbers = {}
    for prefix, pairs in (("", _clips_of(run, soonest)), ("sentences/", _sentences_of(run, soonest))):
        both = [pair for pair in pairs if all(said.units and said.reference for said in pair)]
        ours, theirs = (summary(side) for side in zip(*both)) if both else ({}, {})
        out |= {f"{prefix}latency/{name}": ours[key] - theirs[key] for name, key in BEYOND.items() if key in ours}
    return out


def _clips_of(run: Measured, soonest: Measured) -> list[tuple[Said, Said]]:
    """The same clips, of both."""
    other = {clip.live.name: clip.said for clip in soonest.clips}
    return [(clip.said, other[clip.live.name]) for clip in run.clips]


def _sentences_of(run: Measured, soonest: Measured) -> list[tuple[Said, Said]]:
    """The same sentences of recordings that have several."""
    other = {clip.live.name: clip.sentences for clip in soonest.clips}
    pairs = ((clip.sentences, other[clip.live.name]) for clip in run.clips if clip.meant.recording.sentences)
    return [(ours.said, theirs.said) for both in pairs for ours, theirs in zip(*both, strict=True)]


def _measured(live: LiveClip, meant: MeantClip, scores: TextScores) -> MeasuredClip:
    said = Said(tuple(units_of(live, scores)), live.signing, len(scores.units(meant.text)))
    chrf = scores.chrf_of(meant.text, live.updates[-1].committed.strip()) if meant.text else None
    return MeasuredClip(live, meant, said, tuple(_sentences(meant, said, scores)), chrf)


def units_of(live: LiveClip, scores: TextScores) -> list[Unit]:
    """Each with the first update in which it stands whole."""
    final = scores.units(live.updates[-1].committed)
    out: list[Unit] = []
    before = None
    for update in live.updates:
        if update.committed == before:
            continue
        before = update.committed
        there = scores.units(before)
        # The last one may go on.
        while len(out) < len(there) and there[len(out)] == final[len(out)]:
            out.append(Unit(final[len(out)], update.consumed, max(update.elapsed, update.consumed)))
    return out


def _sentences(meant: MeantClip, said: Said, scores: TextScores) -> Iterable[SaidSentence]:
    signed = meant.recording.sentences
    if not signed:
        return [SaidSentence(meant.text, said, 0.0)]
    found = by_sentence(said.units, [Sentence(scores.units(one.text), one.begins, one.ends) for one in signed])
    return [SaidSentence(one.text, own, one.begins) for one, own in zip(signed, found)]


def text_of(units: Iterable[Unit], scores: TextScores) -> str:
    return ("" if scores.by_character else " ").join(unit.text for unit in units)


def _by_sentence(clips: Sequence[MeasuredClip], language: str) -> Numbers:
    scores = TextScores(language)
    sentences = [one for clip in clips for one in clip.sentences]
    scores.add([one.meant for one in sentences], [text_of(one.said.units, scores) for one in sentences])
    numbers = scores.result() | summary(one.said for one in sentences) if sentences else {}
    return {f"sentences/{key}": value for key, value in numbers.items()}


def _changes(clips: Sequence[MeasuredClip], scores: TextScores) -> Numbers:
    early = sum(unit.consumed < clip.live.signing for clip in clips for unit in clip.units)
    words = sum(len(clip.units) for clip in clips)
    shown = ((update.shown for update in reversed(clip.live.updates)) for clip in clips)
    committed = ((update.committed for update in reversed(clip.live.updates)) for clip in clips)
    return {
        "erasure/shown": erasure(_grown(texts, scores) for texts in shown),
        "erasure/committed": erasure(_grown(texts, scores) for texts in committed),
        "before_end": early / words if words else None,
    }


def _grown(texts: Iterable[str], scores: TextScores) -> Iterator[list[str]]:
    """From the last one back, one at a time, since each is as long as all that was said. A last unit that the next
    update goes on with becomes what that makes of it."""
    after: list[str] = []
    for text in texts:
        units = scores.units(text)
        last = len(units) - 1
        if 0 <= last < len(after) and after[last].startswith(units[last]):
            units[last] = after[last]
        yield units
        after = units


def _speed(clips: Iterable[LiveClip]) -> Numbers:
    clips = list(clips)
    computing = [update.computing for clip in clips for update in clip.updates]
    p50, p95 = np.percentile(computing, (50, 95)).tolist()
    signing = [clip.signing for clip in clips]
    return {"real_time_factor": real_time_factor(computing, signing), "computing/p50": p50, "computing/p95": p95}
