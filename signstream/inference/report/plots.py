"""The evaluation report's plots, each a function of the report that gives a matplotlib Figure.

    PLOTS["usage_heatmap"].draw(report)
    for name, figure in drawn(report, tokens): ...      # all that can be drawn

A section that was not measured is left out and named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from signstream.inference.report.joint_map import joint_map
from signstream.pictures.figure import COLOURS, caption, headed_axes, ink
from signstream.pictures.ribbons import token_timeline
from signstream.tokens.format import TokenSequence

UNIT = "shoulder widths"
Report = dict[str, Any]  # as report.json holds it


def has_numbers(section: Any) -> bool:
    """Whether anything was measured."""
    if isinstance(section, (dict, list)):
        return any(map(has_numbers, section.values() if isinstance(section, dict) else section))
    return isinstance(section, (int, float)) and math.isfinite(section)


def look(part: str) -> dict[str, Any]:
    """How a part's line is drawn; body and full body share a colour."""
    return {
        "color": COLOURS.get(part, "black"),
        "linestyle": "--" if part == "full_body" else "-",
        "label": part.replace("_", " "),
    }


def values(row: list[float | None]) -> list[float]:
    """What was not measured as a gap in a line."""
    return [math.nan if value is None else value for value in row]


def usage_heatmap(report: Report) -> Figure:
    """Part x level: the share of codes in use, and below it the perplexity."""
    codes = report["codes"]
    parts = list(codes)
    used = np.full((len(parts), max(map(len, codes.values()))), np.nan)
    figure, (axes,) = headed_axes(2.6 + 0.9 * used.shape[1], 1.2 + 0.42 * len(parts))
    for p, part in enumerate(parts):
        used[p, : len(codes[part])] = values([level["used"] for level in codes[part]])
    picture = axes.imshow(used, cmap="YlGnBu", vmin=0, vmax=1, aspect="auto")
    for p, part in enumerate(parts):
        for q, level in enumerate(codes[part]):
            share, perplexity = values([level["used"], level["perplexity"]])
            text = f"{share:.0%}\n{perplexity:.0f}".replace("nan%", "–").replace("nan", "–")
            colour = ink(picture.cmap(share)) if share >= 0 else "black"
            axes.text(q, p, text, ha="center", va="center", fontsize=7.5, color=colour)
    scale = figure.colorbar(picture).ax
    scale.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    scale.tick_params(labelsize=7.5)
    axes.set_xticks(range(used.shape[1]), [f"level {q + 1}" for q in range(used.shape[1])])
    axes.set_yticks(range(len(parts)), [part.replace("_", " ") for part in parts])
    caption(axes, f"Codes used of {report['codebook_size']}, perplexity below")
    axes.spines[:].set_visible(False)
    return figure


def usage_histograms(report: Report) -> Figure:
    """How often each code was chosen, the most frequent first, a panel a part."""
    parts = list(report["codes"])
    size = report["codebook_size"]
    figure, panels = headed_axes(max(2.0 * len(parts), 5.0), 2.8, len(parts), one_scale=True)
    for axes, part in zip(panels, parts):
        for q, level in enumerate(report["codes"][part]):
            chosen = sorted((count for count in level["counts"] if count), reverse=True)
            axes.step(
                range(1, len(chosen) + 1),
                [count / sum(chosen) for count in chosen],
                where="mid",
                linewidth=1.3,
                color=look(part)["color"],
                linestyle=("-", "--", ":")[q % 3],
                label=f"level {q + 1}",
            )
        axes.axhline(1 / size, color="0.45", linestyle="-.", linewidth=0.7)
        axes.set(yscale="log", xlim=(0, size))
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
        axes.yaxis.set_minor_formatter(NullFormatter())
        caption(
            axes,
            part.replace("_", " "),
            x="codes, the most frequent first",
            y="share of chunks (thin: even use)" if axes is panels[0] else "",
        )
        axes.legend(frameon=False, fontsize=7, handlelength=2, loc="upper right")
    return figure


def error_by_frame(report: Report) -> Figure:
    figure, (axes,) = headed_axes(6.4, 3.4)
    for part, errors in report["by_frame"].items():
        axes.plot(range(1, len(errors) + 1), values(errors), marker="o", markersize=3, linewidth=1.4, **look(part))
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    caption(axes, "Error by frame in the chunk", x="frame of the chunk", y=UNIT)
    axes.legend(frameon=False, fontsize=7.5, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def error_per_joint(report: Report) -> Figure:
    """The 133 joints, each in its error's colour; hollow where it has none."""
    figure, (axes,) = headed_axes(6.4, 6.0)
    drawn_at = joint_map()
    xy = np.array(drawn_at["xy"])
    errors = np.array(values(report["per_joint"]))
    known = np.isfinite(errors)
    bones = list(xy[np.array(drawn_at["bones"])])
    axes.add_collection(LineCollection(bones, colors="#c4c8cc", linewidths=0.8, zorder=1))
    sizes = np.full(len(xy), 24.0)
    sizes[23:91] = 12.0
    axes.scatter(*xy[~known].T, s=sizes[~known], facecolors="white", edgecolors="0.5", linewidths=0.7, zorder=2)
    dots = axes.scatter(
        *xy[known].T,
        s=sizes[known],
        c=errors[known],
        cmap="viridis_r",
        vmin=0,
        edgecolors="0.25",
        linewidths=0.3,
        zorder=3,
    )
    bar = figure.colorbar(dots, shrink=0.6, label=UNIT)
    bar.ax.tick_params(labelsize=7)
    bar.set_label(UNIT, fontsize=8)
    axes.invert_yaxis()
    axes.set(aspect="equal", xticks=(), yticks=())
    caption(axes, "Error per joint, from its part's centre (hollow: no error of its own)")
    axes.spines[:].set_visible(False)
    return figure


def rate_against_error(report: Report) -> Figure:
    figure, (axes,) = headed_axes(6.0, 3.6)
    line: dict[str, Any] = {"marker": "o", "markersize": 3.5, "linewidth": 1.4}
    for way, colour, label in (
        ("uniform", "#8794a1", "as many levels everywhere"),
        ("budget", "#0072B2", "codes where they are worth most"),
    ):
        points = [(row["codes_per_chunk"], row[way]) for row in report["curve"] if row.get(way) is not None]
        if points:
            axes.plot(*zip(*points), color=colour, label=label, **line)
    rate = report.get("rate") or {}
    held = (rate.get("hold_error") or {}).get("with")
    codes = rate.get("codes_per_chunk")
    if held is not None and codes is not None:
        axes.plot(codes, held, "*", color="#D55E00", markersize=10, label="as exported, held parts and all")
    axes.set_ylim(bottom=0)
    caption(axes, "Rate against error", x="codes a chunk", y=f"error, {UNIT}")
    axes.legend(frameon=False, fontsize=7.5)
    return figure


def loss_curves(report: Report) -> Figure:
    """Loss and its reconstruction term in both splits; the validation error in shoulder widths. Both rise where codes
    take the latents' place."""
    figure, (losses, error) = headed_axes(9.0, 3.2, 2)
    panels = ((losses, "loss", "-"), (losses, "rec", ":"), (error, "recon/weighted/local", "-"))
    for split, colour in (("train", "#8794a1"), ("val", "#0072B2")):
        curve = report["training"].get(split) or {}
        for axes, name, style in panels:
            if has_numbers(curve.get(name)):
                line: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 2.5}
                axes.plot(curve["step"], values(curve[name]), style, label=f"{split}: {name}", **line)
    begun = codes_begin(report["training"].get("train") or {})
    for axes, title, y in (
        (losses, "Loss, and its term of reconstruction (rec)", ""),
        (error, "Reconstruction error in validation", UNIT),
    ):
        if begun is not None:
            axes.axvline(begun, color="0.45", linestyle="-.", linewidth=0.7, label="codes from here on")
        axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        caption(axes, title, x="step", y=y)
    losses.legend(frameon=False, fontsize=7.5)
    return figure


def codes_begin(curve: dict[str, list[float]]) -> float | None:
    """The first step with a commitment loss: the codebooks began there."""
    return next((step for step, commit in zip(curve.get("step", ()), curve.get("commit", ())) if commit), None)


class Plot(NamedTuple):
    draw: Callable[[Report], Figure]
    section: str  # of the report, without which there is nothing to draw


PLOTS = {
    "usage_heatmap": Plot(usage_heatmap, "codes"),
    "usage_histograms": Plot(usage_histograms, "codes"),
    "error_by_frame": Plot(error_by_frame, "by_frame"),
    "error_per_joint": Plot(error_per_joint, "per_joint"),
    "rate_against_error": Plot(rate_against_error, "curve"),
    "loss_curves": Plot(loss_curves, "training"),
}


def missing(plot: Plot, report: Report) -> str | None:
    """Why a plot cannot be drawn."""
    section: Any = report.get(plot.section)
    if not has_numbers(section):
        notes = [note for note in report.get("notes") or () if note.startswith(plot.section)]
        return notes[0] if notes else f"{plot.section}: not measured"
    if plot.section == "per_joint" and len(section) != 133:
        return f"per_joint: {len(section)} joints, and the figure has COCO-WholeBody's 133"
    return None


def drawn(report: Report, tokens: TokenSequence | None) -> Iterator[tuple[str, Figure]]:
    """Each plot that can be drawn, by name; what cannot is printed."""
    for name, plot in PLOTS.items():
        reason = missing(plot, report)
        if reason is None:
            yield name, plot.draw(report)
        else:
            print(f"skipped {name}: {reason}")
    if tokens is not None:
        yield "token_timeline", token_timeline(tokens)
