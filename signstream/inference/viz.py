"""The evaluation report's plots as PNG files, for a paper or a slide.

    python -m signstream.inference.viz --report checkpoints/quickstart --out pictures/plots
    python -m signstream.inference.viz --report DIR --out pictures/plots --tokens exports/tokens.jsonl [--clip NAME]

Each plot is a function of the report (what `evaluate` wrote), or of a clip's tokens, and gives a matplotlib Figure. A section that was not
measured is left out and named. The heavy modules are imported where they are used, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from signstream.errors import UserError
from signstream.pictures.figure import caption

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from signstream.tokens.format import TokenSequence

HEAD = 0.36  # inches above every plot, for its heading
NUMBERED = 0.28  # inches that a chunk must be wide for its codes to be written into the ribbon
NARROWEST, WIDEST = 5.0, 24.0  # inches of a timeline
UNIT = "shoulder widths"


def has_numbers(section: Any) -> bool:
    """Whether anything was measured."""
    if isinstance(section, (dict, list)):
        return any(map(has_numbers, section.values() if isinstance(section, dict) else section))
    return isinstance(section, (int, float)) and math.isfinite(section)


def blank(width: float, height: float, columns: int = 1, one_scale: bool = False) -> tuple[Figure, np.ndarray]:
    """A figure with room for a heading, and a row of axes; `one_scale`: of one y axis."""
    from signstream.pictures.figure import new_figure

    figure = new_figure(width, height)
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - HEAD / height))
    return figure, figure.subplots(1, columns, sharey=one_scale, squeeze=False)[0]


def look(part: str) -> dict[str, Any]:
    """How a part's line is drawn; body and full body share a colour."""
    from signstream.pictures.figure import COLOURS

    return {
        "color": COLOURS.get(part, "black"),
        "linestyle": "--" if part == "full_body" else "-",
        "label": part.replace("_", " "),
    }


def ink(colour: tuple[float, ...]) -> str:
    """Black or white, whichever reads better on a colour."""
    red, green, blue = colour[:3]
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "black"


def values(row: list[float | None]) -> list[float]:
    """What was not measured as a gap in a line."""
    return [math.nan if value is None else value for value in row]


def usage_heatmap(report: dict) -> Figure:
    """Part x level: the share of codes in use, and below it the perplexity."""
    import numpy as np

    parts, codes = list(report["codes"]), report["codes"]
    used = np.full((len(parts), max(map(len, codes.values()))), np.nan)
    figure, (axes,) = blank(2.6 + 0.9 * used.shape[1], 1.2 + 0.42 * len(parts))
    for p, part in enumerate(parts):
        used[p, : len(codes[part])] = values([level["used"] for level in codes[part]])
    picture = axes.imshow(used, cmap="YlGnBu", vmin=0, vmax=1, aspect="auto")
    for p, part in enumerate(parts):
        for q, level in enumerate(codes[part]):
            share, codes_worth = (
                number if number is not None else math.nan for number in (level["used"], level["perplexity"])
            )
            text = f"{share:.0%}\n{codes_worth:.0f}".replace("nan%", "–").replace("nan", "–")
            axes.text(
                q,
                p,
                text,
                ha="center",
                va="center",
                fontsize=7.5,
                color=ink(picture.cmap(share)) if share >= 0 else "black",
            )
    scale = figure.colorbar(picture).ax
    scale.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    scale.tick_params(labelsize=7.5)
    axes.set_xticks(range(used.shape[1]), [f"level {q + 1}" for q in range(used.shape[1])])
    axes.set_yticks(range(len(parts)), [part.replace("_", " ") for part in parts])
    caption(axes, f"Codes used of {report['codebook_size']}, perplexity below")
    axes.spines[:].set_visible(False)
    return figure


def usage_histograms(report: dict) -> Figure:
    """How often each code was chosen, the most frequent first, a panel a part."""
    from matplotlib.ticker import NullFormatter

    parts, size = list(report["codes"]), report["codebook_size"]
    figure, panels = blank(max(2.0 * len(parts), 5.0), 2.8, len(parts), one_scale=True)
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


def error_by_frame(report: dict) -> Figure:
    figure, (axes,) = blank(6.4, 3.4)
    for part, errors in report["by_frame"].items():
        axes.plot(range(1, len(errors) + 1), values(errors), marker="o", markersize=3, linewidth=1.4, **look(part))
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    caption(axes, "Error by frame in the chunk", x="frame of the chunk", y=UNIT)
    axes.legend(frameon=False, fontsize=7.5, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def error_per_joint(report: dict) -> Figure:
    """The 133 joints, each in its error's colour; hollow where it has none."""
    import numpy as np
    from matplotlib.collections import LineCollection

    from signstream.inference.report.page import error_figure

    figure, (axes,) = blank(6.4, 6.0)
    place, errors = error_figure(), np.array(values(report["per_joint"]))
    xy, known = np.array(place["xy"]), np.isfinite(errors)
    axes.add_collection(LineCollection(xy[np.array(place["bones"])], colors="#c4c8cc", linewidths=0.8, zorder=1))
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


def rate_against_error(report: dict) -> Figure:
    figure, (axes,) = blank(6.0, 3.6)
    for way, colour, label in (
        ("uniform", "#8794a1", "as many levels everywhere"),
        ("budget", "#0072B2", "codes where they are worth most"),
    ):
        points = [(row["codes_per_chunk"], row[way]) for row in report["curve"] if row.get(way) is not None]
        if points:
            axes.plot(*zip(*points), color=colour, marker="o", markersize=3.5, linewidth=1.4, label=label)
    rate = report.get("rate") or {}
    held = (rate.get("hold_error") or {}).get("with")
    if held is not None and rate.get("codes_per_chunk") is not None:
        axes.plot(
            rate["codes_per_chunk"], held, "*", color="#D55E00", markersize=10, label="as exported, held parts and all"
        )
    axes.set_ylim(bottom=0)
    caption(axes, "Rate against error", x="codes a chunk", y=f"error, {UNIT}")
    axes.legend(frameon=False, fontsize=7.5)
    return figure


def loss_curves(report: dict) -> Figure:
    """Loss and its reconstruction term in both splits; the validation error in shoulder widths. Both rise where codes take the latents' place."""
    figure, (losses, error) = blank(9.0, 3.2, 2)
    for split, colour in (("train", "#8794a1"), ("val", "#0072B2")):
        curve = report["training"].get(split) or {}
        for axes, name, style in ((losses, "loss", "-"), (losses, "rec", ":"), (error, "recon/weighted/local", "-")):
            if has_numbers(curve.get(name)):
                axes.plot(
                    curve["step"],
                    values(curve[name]),
                    style,
                    color=colour,
                    marker="o",
                    markersize=2.5,
                    label=f"{split}: {name}",
                )
    curve = report["training"].get("train") or {}
    begun = next((step for step, commit in zip(curve.get("step", ()), curve.get("commit", ())) if commit), None)
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


class Plot(NamedTuple):
    draw: Callable[[dict], Figure]
    section: str  # of the report, without which there is nothing to draw


PLOTS = {
    "usage_heatmap": Plot(usage_heatmap, "codes"),
    "usage_histograms": Plot(usage_histograms, "codes"),
    "error_by_frame": Plot(error_by_frame, "by_frame"),
    "error_per_joint": Plot(error_per_joint, "per_joint"),
    "rate_against_error": Plot(rate_against_error, "curve"),
    "loss_curves": Plot(loss_curves, "training"),
}


def missing(plot: Plot, report: dict) -> str | None:
    """Why a plot cannot be drawn."""
    section = report.get(plot.section)
    if not has_numbers(section):
        said = [note for note in report.get("notes") or () if note.startswith(plot.section)]
        return said[0] if said else f"{plot.section}: not measured"
    if plot.section == "per_joint" and len(section) != 133:
        return f"per_joint: {len(section)} joints, and the figure has COCO-WholeBody's 133"
    return None


def held_chunks(tokens: TokenSequence) -> np.ndarray:
    """[N, P] whether a part says again what it said in the chunk before."""
    import numpy as np

    codes = tokens.codes.numpy()
    held = np.zeros(codes.shape[:2], bool)
    held[1:] = (codes[1:] == codes[:-1]).all(-1) & (codes[1:, :, 0] >= 0)
    return held


def draw_ribbons(axes: Axes, tokens: TokenSequence, numbers: bool = False) -> None:
    """A row a part over the clip's seconds, a lane a level, each code in its own shade; thin where a part holds, empty where nothing was sent."""
    import numpy as np
    from matplotlib.collections import PatchCollection
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    from signstream.pictures.figure import COLOURS
    from signstream.tokens.format import NAMES

    codes, held, step = tokens.codes.numpy(), held_chunks(tokens), tokens.chunk_len / tokens.fps
    cells, shades = [], []
    for n, p, q in np.argwhere(codes >= 0).tolist():
        lane = 0.84 / tokens.levels[p]
        colour = np.array(to_rgb(COLOURS.get(NAMES.get(tokens.parts[p]), COLOURS["body"])))
        shade = 1 - (0.3 + 0.7 * (codes[n, p, q] * 0.618034 % 1)) * (1 - colour)
        top, height = p + 0.08 + q * lane, 0.9 * lane
        thin = 0.36 * height if held[n, p] else 0.0
        cells.append(Rectangle((n * step, top + thin), step * (1 if held[n, p] else 0.94), height - 2 * thin))
        shades.append(shade)
        if numbers and not held[n, p]:
            axes.text(
                (n + 0.47) * step,
                top + height / 2,
                codes[n, p, q],
                ha="center",
                va="center_baseline",
                fontsize=6,
                color=ink(shade),
            )
    axes.add_collection(PatchCollection(cells, facecolors=shades, linewidths=0), autolim=False)
    axes.set(xlim=(0, max(len(codes), 1) * step), ylim=(len(tokens.parts), 0))
    axes.set_yticks([p + 0.5 for p in range(len(tokens.parts))], tokens.parts)
    axes.tick_params(axis="y", length=0)


def token_timeline(tokens: TokenSequence) -> Figure:
    chunks = max(len(tokens.codes), 1)
    width = min(max(1.0 + chunks * NUMBERED * 1.15, NARROWEST), WIDEST)
    figure, (axes,) = blank(width, HEAD + 0.75 + sum(0.12 + 0.15 * levels for levels in tokens.levels))
    draw_ribbons(axes, tokens, numbers=(width - 1.0) / chunks >= NUMBERED)
    caption(axes, "Tokens, a lane a level (thin: held, empty: not sent)", x="seconds")
    axes.spines[:].set_visible(False)
    return figure


def find_tokens(path: Path, clip: str | None) -> TokenSequence:
    from signstream.tokens.format import read_jsonl

    names = []
    for tokens in read_jsonl(path):
        if clip is None or tokens.name == clip:
            return tokens
        names.append(tokens.name)
    near = [f"did you mean {name!r}?" for name in difflib.get_close_matches(clip, names, n=1)]
    raise UserError(f"{path} has no clip {clip!r}; {(near or [f'its first is {names[0]!r}'])[0]}")


def drawn(report: dict, tokens: TokenSequence | None) -> Iterator[tuple[str, Figure]]:
    """Each plot that can be drawn, by name; what cannot is printed."""
    for name, plot in PLOTS.items():
        reason = missing(plot, report)
        if reason is None:
            yield name, plot.draw(report)
        else:
            print(f"skipped {name}: {reason}")
    if tokens is not None:
        yield "token_timeline", token_timeline(tokens)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m signstream.inference.viz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--report",
        required=True,
        metavar="PATH",
        help="a report.json, or a run's folder or an experiment's that has one",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the plots go; made if need be")
    parser.add_argument(
        "--tokens", type=Path, metavar="FILE", help="what export_tokens wrote, for the timeline of a clip"
    )
    parser.add_argument("--clip", metavar="NAME", help="the clip (default: the file's first)")
    args = parser.parse_args(argv)
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out} is a file: the name of a folder is expected")
    if args.clip is not None and args.tokens is None:
        raise UserError("--clip needs --tokens FILE, where the clip's tokens are")
    from signstream.inference.evaluate import find_report
    from signstream.pictures.figure import Lettering, heading, save_figure

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it would tell of every font that has no bold
    report, letters = find_report(args.report), Lettering()
    tokens = None if args.tokens is None else find_tokens(args.tokens, args.clip)
    args.out.mkdir(parents=True, exist_ok=True)
    about = report.get("run") or {}
    for name, figure in drawn(report, tokens):
        ours = (str(about.get("name", "")), f"{about.get('split', '')}, {about.get('clips', 0)} clips")
        title, rest = (tokens.name, tokens.tokenizer) if name == "token_timeline" else ours
        heading(figure, letters, 0.1, 0.24, title, rest, round(12 * figure.get_size_inches()[0]))
        save_figure(figure, args.out / f"{name}.png")
        print(args.out / f"{name}.png")


if __name__ == "__main__":
    from signstream.cli import run

    run(main)
