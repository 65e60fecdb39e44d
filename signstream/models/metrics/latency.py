"""How late text appears while somebody signs, in milliseconds of signing. No model: what was said, and when.

    units: words, in Chinese characters, each with two times, from the recording's first frame:
        consumed   how much signing had been read when the unit was committed
        elapsed    when it stood there, computing and waiting for it included; never before `consumed`

    Said(units, signing, reference), one a clip --summary--> {"latency/consumed/al": 1250.0, "latency/elapsed/al": ...}
    units and sentences of a recording --by_sentence--> Said, one a sentence: their laal is StreamLAAL
    consumed, computing of each update --elapsed--> when each was done
    what was shown after each update, the last one first --erasure--> units taken back, a unit that stands in the end
    computing, signing of each clip --real_time_factor--> below 1 where computing keeps up

Of U units with delays d_0, d_1, ... in S ms of signing, whose reference has R units:

    al      average lagging: the mean of d_i - i S / R up to the first unit with d_i >= S, this one included
    laal    length-adaptive: the same with the larger of U and R for R, so that saying too much gains nothing
    dal     differentiable: of all units the mean of g_i - i S / U, where g_i is the later of d_i and g_(i-1) + S / U
    first   d_0

Whoever reads all before the first word has S in the first three; whoever says unit i at i S / R, and R of them, has 0.
What al and laal leave out depends on the delays, so that they may fall where a unit comes later (it then ends the mean
before others); dal and first never do. What has no unit or an empty reference has no latency: it is left out, and
counted. A sentence's times run from its beginning; they are below 0 where its words came before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from math import fsum
from typing import NamedTuple

from signstream.models.metrics.resegment import resegment


class Unit(NamedTuple):
    text: str
    consumed: float
    elapsed: float


class Said(NamedTuple):
    """Of one clip or sentence, as it was committed."""

    units: Sequence[Unit]
    signing: float  # ms that it lasts
    reference: int  # units


class Sentence(NamedTuple):
    """A reference in a long recording, and when it is signed."""

    units: Sequence[str]
    begins: float
    ends: float


class Lags(NamedTuple):
    al: float
    laal: float
    dal: float
    first: float


def lags(delays: Sequence[float], *, signing: float, reference: int) -> Lags | None:
    """delays [U] in order. None: nothing was said, or nothing was to be said."""
    if not delays or not reference:
        return None
    return Lags(
        al=_lagging(delays, signing, signing / reference),
        laal=_lagging(delays, signing, signing / max(len(delays), reference)),
        dal=_differentiable(delays, signing / len(delays)),
        first=delays[0],
    )


def _lagging(delays: Sequence[float], signing: float, pace: float) -> float:
    """`pace`: ms a unit, of somebody who never lags."""
    early = sum(1 for _ in takewhile(lambda delay: delay < signing, delays))
    counted = delays[: early + 1]
    return _mean([delay - i * pace for i, delay in enumerate(counted)])


def _differentiable(delays: Sequence[float], pace: float) -> float:
    behind, late = [], delays[0]
    for i, delay in enumerate(delays):
        late = max(delay, late + pace) if i else delay
        behind.append(late - i * pace)
    return _mean(behind)


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)


def summary(said: Iterable[Said]) -> dict[str, float]:
    """Means over clips or sentences, whatever their order. Where all are left out, the counts alone."""
    everything = list(said)
    rows = {kind: [row for one in everything if (row := _lags_of(one, kind))] for kind in ("consumed", "elapsed")}
    measured = len(rows["consumed"])
    out: dict[str, float] = {"latency/measured": measured, "latency/left_out": len(everything) - measured}
    for kind in rows if measured else ():
        out |= {f"latency/{kind}/{name}": _mean(values) for name, values in zip(Lags._fields, zip(*rows[kind]))}
    return out


def _lags_of(said: Said, kind: str) -> Lags | None:
    delays = [getattr(unit, kind) for unit in said.units]
    return lags(delays, signing=said.signing, reference=said.reference)


def by_sentence(units: Sequence[Unit], sentences: Sequence[Sentence]) -> list[Said]:
    """Of a whole recording: each sentence with the units that belong to it."""
    parts = resegment([unit.text for unit in units], [sentence.units for sentence in sentences])
    return [
        Said(_after(sentence.begins, units[part]), sentence.ends - sentence.begins, len(sentence.units))
        for sentence, part in zip(sentences, parts)
    ]


def _after(begins: float, units: Sequence[Unit]) -> list[Unit]:
    return [Unit(unit.text, unit.consumed - begins, unit.elapsed - begins) for unit in units]


def elapsed(consumed: Sequence[float], computing: Sequence[float]) -> list[float]:
    """An update begins when its signing is there and the update before it is done."""
    done, out = 0.0, []
    for there, took in zip(consumed, computing, strict=True):
        done = max(done, there) + took
        out.append(done)
    return out


def erasure(histories: Iterable[Iterable[Sequence[str]]]) -> float | None:
    """Normalised, over all clips together; of each the text shown after every update, committed and not yet, from the
    last one back. 0 where text only grows; None: in the end no text stands there."""
    back = final = 0
    for shown in histories:
        after: Sequence[str] | None = None
        for before in shown:
            final += len(before) if after is None else 0
            back += 0 if after is None else len(before) - _kept(before, after)
            after = before
    return back / final if final else None


def _kept(before: Sequence[str], after: Sequence[str]) -> int:
    """Units up to the first that changed."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after)))


def real_time_factor(computing: Sequence[float], signing: Sequence[float]) -> float:
    """Of all clips together."""
    return fsum(computing) / fsum(signing)
