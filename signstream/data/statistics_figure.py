"""A data set's numbers as one picture of six plots: lengths, unit, missing; gaps, scores, speeds.

figure = draw_statistics(numbers, skeleton, letters, title=...)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from signstream.data.statistics import Numbers, PartNumbers
from signstream.pictures.figure import COLOURS, Lettering, caption, heading, new_figure, part_legend, separate_parts
from signstream.skeleton import Skeleton

WIDTH, HEIGHT = 10.0, 5.4  # inches


def draw_statistics(numbers: Numbers, skeleton: Skeleton, letters: Lettering, *, title: str) -> Figure:
    figure = new_figure(WIDTH, HEIGHT)
    axes = figure.subplots(2, 3)
    figure.subplots_adjust(left=0.065, right=0.985, top=0.87, bottom=0.09, wspace=0.26, hspace=0.5)
    counted = f"poses of {len(numbers.units)} of {len(numbers.seconds)} clips"
    heading(figure, letters, (0.1, 0.22), strong=title, rest=counted, width=80)
    part_legend(figure, skeleton, 0.08, hollow=None)
    parts = [row for row in numbers.parts if row.part in separate_parts(skeleton)]
    one_histogram(axes[0, 0], numbers.seconds, "Clip length (all clips)", x="seconds")
    one_histogram(axes[0, 1], numbers.units, "Unit length", x="pixels, a clip's median")
    missing_bars(axes[0, 2], parts)
    gap_curves(axes[1, 0], parts, numbers.data.max_gap)
    score_histograms(axes[1, 1], parts, numbers.data.min_score)
    speed_histograms(axes[1, 2], parts)
    return figure


def one_histogram(axes: Axes, values: np.ndarray, title: str, *, x: str) -> None:
    axes.hist(values, min(40, max(5, len(values))), color="#8b98a5")
    axes.yaxis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    caption(axes, title, x=x, y="clips")


def missing_bars(axes: Axes, parts: Sequence[PartNumbers]) -> None:
    for i, row in enumerate(parts):
        colour = COLOURS[row.part.name]
        axes.barh(i, row.missing, 0.62, color=colour, alpha=0.45, linewidth=0)
        axes.barh(i, row.absent, 0.62, color=colour, linewidth=0)
        axes.text(row.missing, i, f" {row.missing:.1%}", va="center", fontsize=7.5, color="0.45")
    axes.set_yticks(range(len(parts)), [row.part.name.replace("_", "\n") for row in parts])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2 * max(0.05, *(row.missing for row in parts), 0))
    caption(axes, "Missing (dark: the whole part)", x="share of joints and frames")


def gap_curves(axes: Axes, parts: Sequence[PartNumbers], max_gap: int) -> None:
    lengths = range(max(max_gap * 4, 16) + 1)
    for row in parts:
        if len(row.gaps):
            shares = [(row.gaps <= length).mean() for length in lengths]
            axes.step(lengths, shares, where="post", color=COLOURS[row.part.name], linewidth=1.3)
    axes.axvline(max_gap, color="0.45", linestyle=":", linewidth=1)
    axes.set_xticks(lengths[:: max(len(lengths) // 8, 1)])
    axes.set_ylim(0, 1.03)
    caption(axes, "Gaps no longer than ...", x="frames (closed up to data.max_gap, dotted)", y="share of gaps")


def score_histograms(axes: Axes, parts: Sequence[PartNumbers], min_score: float) -> None:
    for row in parts:
        edges = [i / len(row.scores) for i in range(len(row.scores) + 1)]
        axes.stairs(row.scores, edges, color=COLOURS[row.part.name], linewidth=1.3)
    axes.axvline(min_score, color="0.45", linestyle=":", linewidth=1)
    axes.set(yscale="log", ylim=(1e-5, 1.5))
    caption(axes, "Scores", x="score (missing up to data.min_score, dotted)", y="share of joints and frames")


def speed_histograms(axes: Axes, parts: Sequence[PartNumbers]) -> None:
    edges = np.geomspace(0.03, 300, 61)
    for row in parts:
        if len(row.speeds):
            counts = np.histogram(np.clip(row.speeds, edges[0], edges[-1]), edges)[0]
            axes.stairs(counts / len(row.speeds), edges, color=COLOURS[row.part.name], linewidth=1.3)
    axes.set_xscale("log")
    axes.set_xticks((0.1, 1, 10, 100), ("0.1", "1", "10", "100"))
    caption(axes, "Speed, from the frame's origin", x="unit lengths a second", y="share of frames")
