"""Three pictures of a data set, of any layout and skeleton: look at them before training on it.

    python -m signstream.data.visualize_dataset --out pictures data.root=DIR
    python -m signstream.data.visualize_dataset --config FILE --out pictures --split val --names clip_a,clip_b

contact_sheet.png: clips as the files hold them. animation.gif: the same beside what the front end makes of them. statistics.png: lengths, scores,
missing joints, gaps, speeds; the numbers are printed too. Poses are [T, J, 3], in pixels but where a name says units. The heavy modules are
imported where they are used, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from signstream import cli
from signstream.config import Config, Data, load_config
from signstream.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from signstream.data.datasets import PoseData
    from signstream.io.pose_cache import CachedClip, PoseCache
    from signstream.pictures.figure import Lettering, PoseArtist
    from signstream.skeleton import Part, Skeleton

SHEET, ANIMATION, STATISTICS = "contact_sheet.png", "animation.gif", "statistics.png"
WIDTH = 10.0  # inches, 1500 pixels; legible when shown at 1000
COLUMNS = 8  # frames of a clip in the contact sheet
MOST_ROWS = 40  # of the contact sheet: its height is 70 inches then
ANIMATED = 2  # clips in the animation
MOST_FRAMES = 150  # of the animation


@dataclass(frozen=True)
class Shown:
    """A clip as it is drawn, in pixels, all 0 where a joint is missing."""

    about: CachedClip
    raw: np.ndarray  # [T, J, 3] at the file's frame rate
    ready: np.ndarray  # [T', J, 3] after the front end, at data.fps


@dataclass(frozen=True)
class PartNumbers:
    """What the sampled clips say of one part."""

    part: Part
    missing: float  # share of joints and frames
    absent: float  # share of frames without any joint of the part
    gaps: np.ndarray  # [any] frames (at data.fps) that a joint is missing between two sightings
    scores: np.ndarray  # [50] shares of the scores from 0 to 1
    median_score: float  # of the joints that are not missing; NaN if all are
    speeds: np.ndarray  # [any] mean speed of the part's joints a frame, unit lengths a second, from the frame's origin

    @property
    def colour(self) -> str:
        from signstream.pictures.figure import COLOURS

        return COLOURS[self.part.name]


@dataclass(frozen=True)
class Numbers:
    parts: tuple[PartNumbers, ...]
    seconds: np.ndarray  # [clips of the split]
    units: np.ndarray  # [clips sampled] pixels, each clip's median
    data: Data


def one_of_each(items: Sequence[int], count: int, seed: int) -> list[int]:
    """`count` items, one drawn from each `count`th of the list; all of them where there are no more."""
    if count >= len(items):
        return list(items)
    draw, edges = random.Random(seed), [len(items) * i // count for i in range(count + 1)]
    return [items[draw.randrange(low, high)] for low, high in zip(edges, edges[1:])]


def find_names(cache: PoseCache, split: str, names: Sequence[str], option: str = "--names") -> list[int]:
    """The clips of those names, or an error that says where such a clip is, or why it was left out, or what is called nearly so."""
    here = {cache.clips[i].name: i for i in cache.split(split)}
    for name in (name for name in names if name not in here):
        elsewhere = [f"it is in {clip.split}" for clip in cache.clips if clip.name == name]
        left_out = [
            f"it was left out: {line.reason}" for line in cache.skipped if (line.split, line.name) == (split, name)
        ]
        near = [f"did you mean {other!r}?" for other in difflib.get_close_matches(name, here, n=1)]
        hint = (left_out + elsewhere + near + [f"its first is {next(iter(here))!r}"])[0]
        raise UserError(f"{option}: the split {split!r} has no clip {name!r}; {hint}")
    return [here[name] for name in names]


def read_clip(source: PoseData, about: CachedClip) -> tuple[np.ndarray, np.ndarray]:
    """[T, J, 3] in pixels, all 0 where a joint is missing, and [T, J], the scores as the file holds them."""
    import numpy as np
    import torch

    from signstream.data.datasets import load_checked
    from signstream.data.frontend import clean

    try:
        poses = np.array(load_checked(source, about.split, about.name).poses, np.float32)
    except ValueError as error:
        raise UserError(f"the clip {about.name!r} changed while it was looked at: {error}; run this again") from None
    return clean(torch.from_numpy(poses), source.data.min_score).numpy(), poses[..., 2]


def show(source: PoseData, cache: PoseCache, index: int) -> Shown:
    import torch

    from signstream.space import to_pixels

    about, frames = cache.clips[index], torch.from_numpy(cache.frames(index).copy())
    place, xy, weight = frames[:, 0], frames[:, 1:, :2], frames[:, 1:, 2:]
    ready = torch.cat((to_pixels(xy, place), weight), -1) * (weight > 0)
    return Shown(about, read_clip(source, about)[0], ready.numpy())


def gap_lengths(seen: np.ndarray) -> np.ndarray:
    """[T, n] -> frames for which a joint was missing between two sightings, a number a gap."""
    joint, frame = seen.T.nonzero()
    steps, same = frame[1:] - frame[:-1], joint[1:] == joint[:-1]
    return steps[same & (steps > 1)] - 1


def part_speeds(units: np.ndarray, fps: float) -> np.ndarray:
    """[T, n, 3] in unit lengths -> [<= T-1]: the mean speed of the joints seen in a frame and the one before."""
    both = (units[1:, :, 2] > 0) & (units[:-1, :, 2] > 0)
    speed = ((units[1:, :, :2] - units[:-1, :, :2]) ** 2).sum(-1) ** 0.5 * fps
    return (speed * both).sum(1)[both.any(1)] / both.sum(1)[both.any(1)]


def measure(source: PoseData, cache: PoseCache, split: str, sample: Sequence[int]) -> Numbers:
    """The split's numbers from the clips `sample`; lengths are of all its clips."""
    import numpy as np

    data, parts = source.data, cache.skeleton.parts
    collected: list[dict[str, list]] = [
        {key: [] for key in ("seen", "present", "gaps", "all", "good", "speeds")} for _ in parts
    ]
    for index in sample:
        about, frames = cache.clips[index], cache.frames(index)
        poses, scores = read_clip(source, about)
        seen, scores = poses[..., 2] > 0, np.clip(np.nan_to_num(scores), 0, 1)
        for part, into in zip(parts, collected):
            mine = seen[:, part.joints]
            into["seen"].append(mine.mean(1))
            into["present"].append(mine.any(1))
            into["gaps"].append(gap_lengths(mine) * (data.fps / about.fps))
            into["all"].append(np.histogram(scores[:, part.joints], 50, (0, 1))[0])
            into["good"].append(np.histogram(scores[:, part.joints][mine], 1000, (0, 1))[0])
            into["speeds"].append(part_speeds(frames[:, 1:][:, part.joints], data.fps))
    units = np.array([np.median(cache.frames(index)[:, 0, 2]) for index in sample])
    seconds = np.array([cache.clips[i].num_frames / cache.clips[i].fps for i in cache.split(split)])
    return Numbers(tuple(_part_numbers(part, into) for part, into in zip(parts, collected)), seconds, units, data)


def _part_numbers(part: Part, collected: dict[str, list]) -> PartNumbers:
    import numpy as np

    seen, present = np.concatenate(collected["seen"]), np.concatenate(collected["present"])
    histogram, fine = np.sum(collected["all"], 0), np.cumsum(np.sum(collected["good"], 0))
    median = float(np.searchsorted(fine, fine[-1] / 2)) / (len(fine) - 1) if fine[-1] else float("nan")
    return PartNumbers(
        part,
        float(1 - seen.mean()),
        float(1 - present.mean()),
        np.concatenate(collected["gaps"]),
        histogram / histogram.sum(),
        median,
        np.concatenate(collected["speeds"]),
    )


def table(numbers: Numbers) -> str:
    """The numbers as text, a line a part."""
    import numpy as np

    def quantiles(values: np.ndarray) -> str:
        return "".join(f"{v:8.2f}" for v in np.quantile(values, (0.05, 0.5, 0.95))) if len(values) else f"{'-':>8}" * 3

    longest, minutes = numbers.data.max_gap, numbers.seconds.sum() / 60
    columns = (
        "joints",
        "missing",
        "absent",
        "score",
        "gaps",
        "median",
        f"<= {longest}",
        "speed, 5 %",
        "median",
        "95 %",
    )
    lines = [
        f"clip length, s    5 %, median, 95 %{quantiles(numbers.seconds)}   of {len(numbers.seconds)} clips, {minutes:.1f} minutes",
        f"unit length, px   5 %, median, 95 %{quantiles(numbers.units)}   this and what follows: of {len(numbers.units)} clips",
        "",
        f"{'part':<11}" + "".join(f"{name:>{13 if name[:5] == 'speed' else 8}}" for name in columns),
    ]
    for row in numbers.parts:
        gaps = f"{np.median(row.gaps):8.1f}{(row.gaps <= longest).mean():8.1%}" if len(row.gaps) else f"{'-':>8}" * 2
        counts = f"{len(row.part):8}{row.missing:8.1%}{row.absent:8.1%}{row.median_score:8.2f}{len(row.gaps):8}"
        lines.append(f"{row.part.name:<11}{counts}{gaps}     {quantiles(row.speeds)}")
    return "\n".join(
        [
            *lines,
            "",
            "missing: of all joints and frames; absent: frames without any joint of the part; score: median where seen;",
            "gaps: a joint missing between two sightings, in frames at data.fps, those up to data.max_gap are closed;",
            "speed: mean of the joints, in unit lengths a second from the frame's origin, after the front end.",
        ]
    )


def common_aspect(clips: Sequence[Shown]) -> float:
    """Width over height of every panel: what suits the clips' middle one, within reason."""
    from signstream.pictures.figure import frame_limits

    aspects = sorted(frame_limits(clip.raw).aspect for clip in clips)
    return min(max(aspects[len(aspects) // 2], 0.85), 1.25)


def about_line(about: CachedClip) -> str:
    length = f"{about.num_frames} frame{'s' * (about.num_frames > 1)}, " + (
        f"{about.fps:.4g} fps" if about.fps_known else "fps not known"
    )
    return " · ".join([length] + [about.gloss] * bool(about.gloss) + [f"“{about.text}”"] * bool(about.text))


def contact_sheet(clips: Sequence[Shown], skeleton: Skeleton, letters: Lettering, title: str) -> Figure:
    """A row a clip, COLUMNS frames of it; one crop for a row, all panels of one size."""
    from signstream.pictures.figure import (
        GREY,
        Box,
        axes_at,
        draw_pose,
        frame_limits,
        heading,
        last_seen,
        new_figure,
        part_legend,
        seen_bars,
        show_limits,
    )

    edge, gap, head, above, below = 0.08, 0.04, 0.34, 0.24, 0.15
    width = (WIDTH - 2 * edge - (COLUMNS - 1) * gap) / COLUMNS
    height = width / common_aspect(clips)
    label = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.8}
    figure = new_figure(WIDTH, head + len(clips) * (above + height + below) + 0.02)
    heading(figure, letters, (edge, 0.2), strong=title, rest="a bar a part: how much of it is seen", width=80)
    part_legend(figure, skeleton, 0.06)
    for row, clip in enumerate(clips):
        top = head + row * (above + height + below) + above
        heading(figure, letters, (edge, top - 0.06), strong=clip.about.name, rest=about_line(clip.about), width=132)
        limits, before = frame_limits(clip.raw, width / height, size=clip.about.size), last_seen(clip.raw)
        for column, t in enumerate(sorted({round(i * (len(clip.raw) - 1) / (COLUMNS - 1)) for i in range(COLUMNS)})):
            left = edge + column * (width + gap)
            axes = axes_at(figure, Box(left, top, width, height))
            show_limits(axes, limits, clip.about.size)
            draw_pose(axes, clip.raw[t], skeleton, before=before[t])
            when = f"{t / clip.about.fps:.2f} s" if clip.about.fps_known else f"frame {t}"
            axes.text(0.03, 0.965, when, transform=axes.transAxes, fontsize=7, color=GREY, va="top", bbox=label)
            seen_bars(figure, clip.raw[t], skeleton, at=(left, top + height + 0.03), width=width)
    return figure


def animation(clips: Sequence[Shown], skeleton: Skeleton, letters: Lettering, data: Data, path: Path) -> int:
    """Writes the GIF: each clip as its file holds it, beside what the front end makes of it, in real time. Returns how many frames it has."""
    from signstream.pictures.figure import (
        figure_pixels,
        heading,
        last_seen,
        new_figure,
        part_legend,
        real_time,
        save_animation,
    )

    fps = min(max(clip.about.fps for clip in clips), 50.0)  # browsers show no GIF faster
    count = min(max(2, round(fps * max(len(clip.raw) / clip.about.fps for clip in clips))), MOST_FRAMES)
    edge, gap, top, width = 0.1, 0.06, 0.76, 2.4 if len(clips) > 1 else 3.4
    height = width / common_aspect(clips)
    figure = new_figure(2 * edge + len(clips) * 2 * (width + gap) - gap, top + height + 0.06, dpi=100)
    heading(figure, letters, (edge, 0.2), strong=f"{count / fps:.1f} s, in real time", width=40)
    part_legend(figure, skeleton, 0.06, hollow="missing: last seen there")
    moving = []
    for i, clip in enumerate(clips):
        left = edge + i * 2 * (width + gap)
        heading(figure, letters, (left, 0.48), strong=clip.about.name, rest=about_line(clip.about), width=62)
        before, after = compared(figure, clip, skeleton, data, (left, left + width + gap), top, width, height)
        moving += [
            (before, clip.raw, last_seen(clip.raw), clip.about.fps),
            (after, clip.ready, last_seen(clip.ready), data.fps),
        ]
    pictures = []
    for k in range(count):
        for artist, poses, last, rate in moving:
            t = min(round(k / fps * rate), len(poses) - 1)
            artist.set(poses[t], last[t])
        pictures.append(figure_pixels(figure))
    save_animation(pictures, real_time(count, fps), path)
    return count


def compared(
    figure: Figure,
    clip: Shown,
    skeleton: Skeleton,
    data: Data,
    lefts: tuple[float, float],
    top: float,
    width: float,
    height: float,
) -> list[PoseArtist]:
    """Two panels of one crop, for the file's poses and for the front end's."""
    import numpy as np

    from signstream.pictures.figure import Box, PoseArtist, axes_at, frame_limits, show_limits

    limits, artists = frame_limits(np.concatenate((clip.raw, clip.ready)), width / height, size=clip.about.size), []
    label = (
        f"front end: {data.fps:.4g} fps"
        + (", gaps closed" if data.max_gap else "")
        + (", low-pass" if data.smooth else "")
    )
    for left, says in zip(lefts, ("as in the file", label)):
        axes = axes_at(figure, Box(left, top, width, height))
        show_limits(axes, limits, clip.about.size)
        axes.set_title(says, fontsize=8, loc="left", pad=3)
        artists.append(PoseArtist(axes, skeleton, scale=1.4))
    return artists


def statistics(numbers: Numbers, skeleton: Skeleton, letters: Lettering, title: str) -> Figure:
    """Six small plots: lengths, unit, missing; gaps, scores, speeds."""
    from signstream.pictures.figure import heading, new_figure, part_legend, separate_parts

    figure = new_figure(WIDTH, 5.4)
    axes = figure.subplots(2, 3)
    figure.subplots_adjust(left=0.065, right=0.985, top=0.87, bottom=0.09, wspace=0.26, hspace=0.5)
    counted = f"poses of {len(numbers.units)} of {len(numbers.seconds)} clips"
    heading(figure, letters, (0.1, 0.22), strong=title, rest=counted, width=80)
    part_legend(figure, skeleton, 0.08, hollow=None)
    parts = [row for row in numbers.parts if row.part in separate_parts(skeleton)]
    one_histogram(axes[0, 0], numbers.seconds, "Clip length (all clips)", "seconds")
    one_histogram(axes[0, 1], numbers.units, "Unit length", "pixels, a clip's median")
    missing_bars(axes[0, 2], parts)
    gap_curves(axes[1, 0], parts, numbers.data.max_gap)
    score_histograms(axes[1, 1], parts, numbers.data.min_score)
    speed_histograms(axes[1, 2], parts)
    return figure


def describe(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=7.5)
    axes.spines[["top", "right"]].set_visible(False)


def one_histogram(axes: Axes, values: np.ndarray, title: str, x: str) -> None:
    axes.hist(values, min(40, max(5, len(values))), color="#8b98a5")
    axes.yaxis.get_major_locator().set_params(integer=True)
    describe(axes, title, x, "clips")


def missing_bars(axes: Axes, parts: Sequence[PartNumbers]) -> None:
    for i, row in enumerate(parts):
        axes.barh(i, row.missing, 0.62, color=row.colour, alpha=0.45, linewidth=0)
        axes.barh(i, row.absent, 0.62, color=row.colour, linewidth=0)
        axes.text(row.missing, i, f" {row.missing:.1%}", va="center", fontsize=7.5, color="0.45")
    axes.set_yticks(range(len(parts)), [row.part.name.replace("_", "\n") for row in parts])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2 * max(0.05, *(row.missing for row in parts), 0))
    describe(axes, "Missing (dark: the whole part)", "share of joints and frames", "")


def gap_curves(axes: Axes, parts: Sequence[PartNumbers], longest: int) -> None:
    lengths = range(max(longest * 4, 16) + 1)
    for row in parts:
        if len(row.gaps):
            axes.step(lengths, [(row.gaps <= n).mean() for n in lengths], where="post", color=row.colour, linewidth=1.3)
    axes.axvline(longest, color="0.45", linestyle=":", linewidth=1)
    axes.set_xticks(lengths[:: max(len(lengths) // 8, 1)])
    axes.set_ylim(0, 1.03)
    describe(axes, "Gaps no longer than ...", "frames (closed up to data.max_gap, dotted)", "share of gaps")


def score_histograms(axes: Axes, parts: Sequence[PartNumbers], lowest: float) -> None:
    for row in parts:
        axes.stairs(
            row.scores, [i / len(row.scores) for i in range(len(row.scores) + 1)], color=row.colour, linewidth=1.3
        )
    axes.axvline(lowest, color="0.45", linestyle=":", linewidth=1)
    axes.set(yscale="log", ylim=(1e-5, 1.5))
    describe(axes, "Scores", "score (missing up to data.min_score, dotted)", "share of joints and frames")


def speed_histograms(axes: Axes, parts: Sequence[PartNumbers]) -> None:
    import numpy as np

    edges = np.geomspace(0.03, 300, 61)
    for row in parts:
        if len(row.speeds):
            counts = np.histogram(np.clip(row.speeds, edges[0], edges[-1]), edges)[0]
            axes.stairs(counts / len(row.speeds), edges, color=row.colour, linewidth=1.3)
    axes.set_xscale("log")
    axes.set_xticks((0.1, 1, 10, 100), ("0.1", "1", "10", "100"))
    describe(axes, "Speed, from the frame's origin", "unit lengths a second", "share of frames")


def visualize(config: Config, out: Path, split: str, names: Sequence[str], clips: int, sample: int, seed: int) -> None:
    from signstream.data.cache import open_cache
    from signstream.data.datasets import open_data
    from signstream.pictures.figure import Lettering, save_figure

    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: the name of a folder is expected")
    cache, source = open_cache(config.data), open_data(config.data)
    members = cache.split(split)
    chosen = find_names(cache, split, names) if names else one_of_each(members, clips, seed)
    out.mkdir(parents=True, exist_ok=True)
    shown = [show(source, cache, index) for index in chosen]
    numbers = measure(source, cache, split, one_of_each(members, sample, seed))
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it would tell of every font that has no bold
    letters = Lettering()
    title = letters.one_line(f"{Path(config.data.root).resolve().name}, {split}", 40)
    save_figure(contact_sheet(shown, cache.skeleton, letters, title), out / SHEET)
    longest = sorted(shown, key=lambda clip: -clip.about.num_frames / clip.about.fps)[:ANIMATED]
    frames = animation(longest, cache.skeleton, letters, config.data, out / ANIMATION)
    save_figure(statistics(numbers, cache.skeleton, letters, title), out / STATISTICS)
    print(f"{cache.summary()}\n\n{split}\n{table(numbers)}\n")
    if letters.unknown:
        print(
            f"{len(letters.unknown)} characters are drawn as boxes: no installed font has them (Debian's fonts-noto-cjk has Chinese)"
        )
    print(
        f"wrote {out / SHEET} ({len(shown)} clips), {out / ANIMATION} ({frames} frames), {out / STATISTICS} ({len(numbers.units)} clips)"
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m signstream.data.visualize_dataset",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="where the three pictures go; made if need be"
    )
    parser.add_argument("--split", default="train", help="default: %(default)s")
    parser.add_argument(
        "--clips",
        type=int,
        default=6,
        help="rows of the contact sheet, drawn evenly over the split (default: %(default)s)",
    )
    parser.add_argument("--names", default="", metavar="A,B", help="clips to show instead")
    parser.add_argument(
        "--sample", type=int, default=200, help="clips that the statistics are taken from (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws other clips (default: %(default)s)")
    args = cli.parse_with_config(parser, argv)
    config = load_config(args.config, args.overrides)
    names = [name for name in args.names.split(",") if name]
    for option, count, most in (
        ("clips", args.clips, MOST_ROWS),
        ("names", len(names) or 1, MOST_ROWS),
        ("sample", args.sample, 10**9),
    ):
        if not 1 <= count <= most:
            raise UserError(f"--{option}: {count} clips are asked for; from 1 to {most} is expected")
    visualize(config, args.out, args.split, names, args.clips, args.sample, args.seed)


if __name__ == "__main__":
    cli.run(main)
