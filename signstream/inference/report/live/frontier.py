"""How late and how good several runs are: a point a run, lines through those of one kind of policy.

figure = frontier([Point("own:0.5", 1.2, 21.0), ...], floors={"shuffled": 3.1})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from signstream.pictures.figure import GREY, Lettering, caption, new_figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8a6d00", "#56B4E9", "#000000")  # Okabe and Ito's
MARKERS = "os^Dv*P"
GAP = 0.055  # between two names, of the axes' height


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights from 0 to 1, highest first, as near to where they were as leaves a gap between each two."""
    out: list[float] = []
    for height in heights:
        out.append(min(height, out[-1] - gap) if out else height)
    for i in reversed(range(len(out))):
        out[i] = max(out[i], out[i + 1] + gap if i + 1 < len(out) else 0)
    return out


class Point(NamedTuple):
    policy: str  # kind:how much, and more
    lag: float  # seconds
    bleu: float
    seeds: tuple[float, float] | None = None  # BLEU of the worst and the best, where `bleu` is a mean

    @property
    def kind(self) -> str:
        """Those of one kind differ in how much alone."""
        kind, _, numbers = self.policy.partition(":")
        return ":".join([kind, *numbers.split(":")[1:]])


def frontier(points: Sequence[Point], *, floors: Mapping[str, float], lag: str) -> Figure:
    """`floors`: BLEU of who has not seen the signing; `lag`: what it is called."""
    figure = new_figure(6.4, 4.0)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    letters = Lettering()
    style: dict[str, Any] = {"fontsize": 7.5, "fontfamily": letters.families, "parse_math": False}
    for kind, (colour, marker) in looks(points).items():
        some = sorted((point for point in points if point.kind == kind), key=lambda point: point.lag)
        axes.plot([p.lag for p in some], [p.bleu for p in some], color=colour, marker=marker, linewidth=1.4, ms=5)
        for point in some:
            if point.seeds is not None:
                axes.plot([point.lag] * 2, point.seeds, color=colour, linewidth=0.9, alpha=0.5)
    top = 1.12 * max([*(point.bleu for point in points), *floors.values()], default=0) or 1
    name_points(axes, points, top=top, letters=letters, style=style)
    for name, bleu in floors.items():
        axes.axhline(bleu, color=GREY, linestyle=":", linewidth=0.9)
        told = letters.one_line(name, 24)
        place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "ha": "right"}
        axes.annotate(told, (1, bleu), (-2, 2), textcoords="offset points", color=GREY, **place, **style)
    axes.margins(x=0.06)
    axes.set_ylim(0, top)
    caption(axes, "Said earlier is further left, said better is higher up", x=f"{lag}, seconds", y="BLEU-4")
    return figure


def looks(points: Sequence[Point]) -> dict[str, tuple[str, str]]:
    """The colour and marker of each kind."""
    kinds = dict.fromkeys(point.kind for point in points)
    return {kind: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, kind in enumerate(kinds)}


def name_points(
    axes: Axes, points: Sequence[Point], *, top: float, letters: Lettering, style: Mapping[str, Any]
) -> None:
    """In a column beside the plot, the best at its head, each with a thin line to its point."""
    ranked = sorted(points, key=lambda point: (-point.bleu, point.lag))
    for point, height in zip(ranked, spread([point.bleu / top for point in ranked], GAP)):
        colour = looks(points)[point.kind][0]
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.5, "shrinkB": 4}
        place: dict[str, Any] = {"xytext": (1.02, height), "textcoords": "axes fraction", "va": "center"}
        told = letters.one_line(point.policy, 24)
        axes.annotate(told, (point.lag, point.bleu), color=colour, arrowprops=line, **place, **style)
