"""Three pictures of a data set: clips as their files hold them, the same moving beside what the front end makes of
them, and numbers.

    visualize(config_file, overrides, out=DIR, look=Look(...))        writes SHEET, ANIMATION and STATISTICS

Poses are [T, J, 3] in pixels.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from signstream.config import Data, load_config
from signstream.data.cache import open_cache
from signstream.data.datasets import PoseData, open_data
from signstream.data.statistics import measure, read_clip, table
from signstream.data.statistics_figure import draw_statistics
from signstream.errors import UserError
from signstream.io.pose_cache import CachedClip, PoseCache
from signstream.pictures.animation import FASTEST, Backdrop
from signstream.pictures.figure import (
    GREY,
    Box,
    Lettering,
    PoseArtist,
    axes_at,
    draw_pose,
    frame_limits,
    heading,
    last_seen,
    new_figure,
    part_legend,
    real_time,
    save_animation,
    save_figure,
    seen_bars,
    show_limits,
)
from signstream.skeleton import Skeleton
from signstream.space import in_pixels

SHEET, ANIMATION, STATISTICS = "contact_sheet.png", "animation.gif", "statistics.png"
WIDTH = 10.0  # inches, 1500 pixels; legible when shown at 1000
COLUMNS = 8  # frames of a clip in the contact sheet
EDGE, GAP, HEAD, ABOVE, BELOW = 0.08, 0.04, 0.34, 0.24, 0.15  # inches round the contact sheet's panels
MOST_ROWS = 40  # of the contact sheet: its height is 70 inches then
ANIMATED = 2  # clips in the animation
MOST_FRAMES = 150  # of the animation


class Look(NamedTuple):
    """What is asked to be seen of a data set."""

    split: str = "train"
    names: Sequence[str] = ()  # clips to show; none: they are drawn
    clips: int = 6  # rows of the contact sheet
    sample: int = 200  # clips that the statistics are taken from
    seed: int = 0

    def check(self) -> None:
        shown = len(self.names) or 1
        for option, count, most in (
            ("clips", self.clips, MOST_ROWS),
            ("names", shown, MOST_ROWS),
            ("sample", self.sample, 10**9),
        ):
            if not 1 <= count <= most:
                raise UserError(f"--{option}: {count} clips are asked for; from 1 to {most} is expected")


@dataclass(frozen=True)
class Shown:
    """A clip as it is drawn, all 0 where a joint is missing."""

    about: CachedClip
    raw: np.ndarray  # [T, J, 3] at the file's frame rate
    ready: np.ndarray  # [T', J, 3] after the front end, at data.fps


class Moving(NamedTuple):
    """A panel of the animation."""

    artist: PoseArtist
    poses: np.ndarray  # [T, J, 3]
    before: np.ndarray  # [T, J, 2] where each joint was seen last
    fps: float


def visualize(config_file: str | None, overrides: Sequence[str], *, out: Path, look: Look) -> None:
    """The three pictures of the data set that a config names; the numbers are printed."""
    data = load_config(config_file, list(overrides)).data
    look.check()
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: the name of a folder is expected")
    cache = open_cache(data)
    source = open_data(data)
    members = cache.split(look.split)
    chosen = cache.find(look.split, look.names) if look.names else one_of_each(members, look.clips, look.seed)
    out.mkdir(parents=True, exist_ok=True)
    shown = [show(source, cache, index) for index in chosen]
    numbers = measure(source, cache, look.split, sample=one_of_each(members, look.sample, look.seed))
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it would tell of every font that has no bold
    letters = Lettering()
    title = letters.one_line(f"{Path(data.root).resolve().name}, {look.split}", 40)
    save_figure(contact_sheet(shown, cache.skeleton, letters, title=title), out / SHEET)
    longest = sorted(shown, key=lambda clip: -clip.about.num_frames / clip.about.fps)[:ANIMATED]
    pictures = animation(longest, cache.skeleton, letters, data=data)
    save_animation(pictures.frames, real_time(len(pictures.frames), pictures.fps), out / ANIMATION)
    save_figure(draw_statistics(numbers, cache.skeleton, letters, title=title), out / STATISTICS)
    print(f"{cache.summary()}\n\n{look.split}\n{table(numbers)}\n")
    if letters.unknown:
        cure = "no installed font has them (Debian's fonts-noto-cjk has Chinese)"
        print(f"{len(letters.unknown)} characters are drawn as boxes: {cure}")
    animated = f"{out / ANIMATION} ({len(pictures.frames)} frames)"
    print(f"wrote {out / SHEET} ({len(shown)} clips), {animated}, {out / STATISTICS} ({len(numbers.units)} clips)")


def one_of_each(items: Sequence[int], count: int, seed: int) -> list[int]:
    """`count` items, one drawn from each `count`th of the list; all of them where there are no more."""
    if count >= len(items):
        return list(items)
    draw = random.Random(seed)
    edges = [len(items) * i // count for i in range(count + 1)]
    return [items[draw.randrange(low, high)] for low, high in zip(edges, edges[1:])]


def show(source: PoseData, cache: PoseCache, index: int) -> Shown:
    """A clip as its file holds it and as the cache does."""
    about = cache.clips[index]
    frames = torch.from_numpy(cache.frames(index).copy())
    place, joints = frames[:, 0], frames[:, 1:]
    ready = in_pixels(joints, place) * (joints[..., 2:] > 0)
    return Shown(about, read_clip(source, about)[0], ready.numpy())


def common_aspect(clips: Sequence[Shown]) -> float:
    """Width over height of every panel: what suits the clips' middle one, within reason."""
    aspects = sorted(frame_limits(clip.raw).aspect for clip in clips)
    return min(max(aspects[len(aspects) // 2], 0.85), 1.25)


def about_line(about: CachedClip) -> str:
    rate = f"{about.fps:.4g} fps" if about.fps_known else "fps not known"
    length = f"{about.num_frames} frame{'s' * (about.num_frames > 1)}, {rate}"
    return " · ".join([length] + [about.gloss] * bool(about.gloss) + [f"“{about.text}”"] * bool(about.text))


def contact_sheet(clips: Sequence[Shown], skeleton: Skeleton, letters: Lettering, *, title: str) -> Figure:
    """A row a clip, COLUMNS frames of it; one crop for a row, all panels of one size."""
    width = (WIDTH - 2 * EDGE - (COLUMNS - 1) * GAP) / COLUMNS
    height = width / common_aspect(clips)
    figure = new_figure(WIDTH, HEAD + len(clips) * (ABOVE + height + BELOW) + 0.02)
    heading(figure, letters, (EDGE, 0.2), strong=title, rest="a bar a part: how much of it is seen", width=80)
    part_legend(figure, skeleton, 0.06)
    for row, clip in enumerate(clips):
        top = HEAD + row * (ABOVE + height + BELOW) + ABOVE
        heading(figure, letters, (EDGE, top - 0.06), strong=clip.about.name, rest=about_line(clip.about), width=132)
        draw_row(figure, clip, skeleton, first=Box(EDGE, top, width, height))
    return figure


def draw_row(figure: Figure, clip: Shown, skeleton: Skeleton, *, first: Box) -> None:
    """Frames of a clip from its first to its last; `first`: where the leftmost panel stands."""
    about, poses = clip.about, clip.raw
    limits = frame_limits(poses, first.width / first.height, size=about.size)
    before = last_seen(poses)
    label = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.8}
    frames = sorted({round(i * (len(poses) - 1) / (COLUMNS - 1)) for i in range(COLUMNS)})
    for column, t in enumerate(frames):
        left = first.left + column * (first.width + GAP)
        axes = axes_at(figure, first._replace(left=left))
        show_limits(axes, limits, about.size)
        draw_pose(axes, poses[t], skeleton, before=before[t])
        when = f"{t / about.fps:.2f} s" if about.fps_known else f"frame {t}"
        axes.text(0.03, 0.965, when, transform=axes.transAxes, fontsize=7, color=GREY, va="top", bbox=label)
        seen_bars(figure, poses[t], skeleton, at=(left, first.top + first.height + 0.03), width=first.width)


class Pictures(NamedTuple):
    frames: list[np.ndarray]  # [H, W, 3] uint8 each
    fps: float


def animation(clips: Sequence[Shown], skeleton: Skeleton, letters: Lettering, *, data: Data) -> Pictures:
    """Each clip as its file holds it, beside what the front end makes of it, in real time."""
    fps = min(max(clip.about.fps for clip in clips), FASTEST)
    count = min(max(2, round(fps * max(len(clip.raw) / clip.about.fps for clip in clips))), MOST_FRAMES)
    edge, gap, top, width = 0.1, 0.06, 0.76, 2.4 if len(clips) > 1 else 3.4
    height = width / common_aspect(clips)
    figure = new_figure(2 * edge + len(clips) * 2 * (width + gap) - gap, top + height + 0.06, dpi=100)
    heading(figure, letters, (edge, 0.2), strong=f"{count / fps:.1f} s, in real time", width=40)
    part_legend(figure, skeleton, 0.06, hollow="missing: last seen there")
    panels: list[Moving] = []
    for i, clip in enumerate(clips):
        left = edge + i * 2 * (width + gap)
        heading(figure, letters, (left, 0.48), strong=clip.about.name, rest=about_line(clip.about), width=62)
        boxes = Box(left, top, width, height), Box(left + width + gap, top, width, height)
        panels += compared(figure, clip, skeleton, data=data, boxes=boxes)
    moving = [part for panel in panels for part in (panel.artist.hollow, panel.artist.lines, panel.artist.dots)]
    backdrop, pictures = Backdrop(figure, moving), []
    for k in range(count):
        for artist, poses, before, rate in panels:
            t = min(round(k / fps * rate), len(poses) - 1)
            artist.set(poses[t], before[t])
        pictures.append(backdrop.pixels())
    return Pictures(pictures, fps)


def compared(figure: Figure, clip: Shown, skeleton: Skeleton, *, data: Data, boxes: tuple[Box, Box]) -> list[Moving]:
    """Two panels of one crop, for the file's poses and for the front end's."""
    both = np.concatenate((clip.raw, clip.ready))
    limits = frame_limits(both, boxes[0].width / boxes[0].height, size=clip.about.size)
    steps = ", gaps closed" * bool(data.max_gap) + ", low-pass" * bool(data.smooth)
    sides = (
        ("as in the file", clip.raw, clip.about.fps),
        (f"front end: {data.fps:.4g} fps{steps}", clip.ready, data.fps),
    )
    panels = []
    for box, (label, poses, fps) in zip(boxes, sides):
        axes = axes_at(figure, box)
        show_limits(axes, limits, clip.about.size)
        axes.set_title(label, fontsize=8, loc="left", pad=3)
        panels.append(Moving(PoseArtist(axes, skeleton, scale=1.4), poses, last_seen(poses), fps))
    return panels
