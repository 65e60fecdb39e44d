"""Sides that take turns in one run, and a row of RESULTS.md.

times = in_turn({"ours": work, "products": other}, pairs=10)    seconds of each side, after a round that does not count
over(times, "ours", "products")                                 the median of the ratios, pair by pair
yield Row.of("quantiser", times, ours="ours", against="products", at_most=1.10)     what a module's rows() gives
tell(rows())                                                    a line each, for a module's own main
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

Work = Callable[[], object]
Times = Mapping[str, Sequence[float]]

PAIRS = 10  # of a row of RESULTS.md


def seconds(work: Work, clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    work()
    return clock() - start


def in_turn(
    sides: Mapping[str, Work], pairs: int, *, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    for work in sides.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(pairs):
        for name, work in sides.items():
            times[name].append(seconds(work, clock))
    return times


def over(times: Times, slow: str, fast: str) -> float:
    return statistics.median(a / b for a, b in zip(times[slow], times[fast]))


@dataclass(frozen=True)
class Row:
    """What was measured, beside a peer or a limit, and the ratio of both that was aimed at."""

    what: str
    ours: str  # a median with its unit
    against: str
    other: str
    ratio: float
    at_most: float | None = None
    at_least: float | None = None

    @classmethod
    def of(
        cls,
        what: str,
        times: Times,
        *,
        ours: str,
        against: str,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> Row:
        """Ours over the other where there is a most, else the other over ours: how many times as fast."""
        pair = (ours, against) if at_least is None else (against, ours)
        spent = [shown_seconds(statistics.median(times[name])) for name in (ours, against)]
        return cls(what, spent[0], against, spent[1], over(times, *pair), at_most, at_least)

    @property
    def goal(self) -> str:
        return f"at most {self.at_most:g}" if self.at_most is not None else f"at least {self.at_least:g}"

    @property
    def reached(self) -> bool:
        at_most, at_least = self.at_most, self.at_least
        return (at_most is None or self.ratio <= at_most) and (at_least is None or self.ratio >= at_least)


def tell(rows: Iterable[Row]) -> None:
    for row in rows:
        verdict = "" if row.reached else ", missed"
        print(f"{row.what}: {row.ours}; {row.against}: {row.other}; {row.ratio:.3g} ({row.goal}{verdict})", flush=True)


def shown_seconds(value: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.3g} us"
