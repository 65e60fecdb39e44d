"""How late and how good several runs are: a point a run, lines through those of one kind of policy.

figure = frontier([Point("own:0.5", 1.2, 21.0), ...], floors={"shuffled": 3.1})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from signstream.pictures.figure import GREY, Lettering, caption, new_figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8a6d00", "#56B4E9")  # Okabe and Ito's
MARKERS = "os^Dv*"


class Point(NamedTuple):
    policy: str  # kind:how much
    lag: float  # seconds
    bleu: float

    @property
    def kind(self) -> str:
        return self.policy.split(":")[0]


def frontier(points: Sequence[Point], *, floors: Mapping[str, float], lag: str) -> Figure:
    """`floors`: BLEU of who has not seen the signing; `lag`: what it is called."""
    figure = new_figure(6.4, 4.0)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    letters = Lettering()
    style: dict[str, Any] = {
        "textcoords": "offset points",
        "fontsize": 7.5,
        "fontfamily": letters.families,
        "parse_math": False,
    }
    for i, kind in enumerate(dict.fromkeys(point.kind for point in points)):
        some = sorted((point for point in points if point.kind == kind), key=lambda point: point.lag)
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        axes.plot([p.lag for p in some], [p.bleu for p in some], color=colour, marker=marker, linewidth=1.4, ms=5)
        for point in some:
            told = letters.one_line(point.policy, 24)
            axes.annotate(told, (point.lag, point.bleu), xytext=(6, -10), color=colour, **style)
    for name, bleu in floors.items():
        axes.axhline(bleu, color=GREY, linestyle=":", linewidth=0.9)
        at = ("axes fraction", "data")
        axes.annotate(
            letters.one_line(name, 24), (1, bleu), xycoords=at, xytext=(-2, 2), ha="right", color=GREY, **style
        )
    axes.margins(0.14, 0.12)
    axes.set_ylim(bottom=0)
    caption(axes, "Said earlier is further left, said better is higher up", x=f"{lag}, seconds", y="BLEU-4")
    return figure
