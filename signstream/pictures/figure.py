"""Poses as pictures: one frame of any Skeleton onto a matplotlib Axes, coloured by part, with what is missing shown as missing.

    figure = new_figure(width, height)                        # inches; matplotlib's objects, no pyplot, nothing global
    limits = frame_limits(poses, aspect)                      # one crop for a whole clip
    show_limits(axes, limits, size)                           # y down, equal aspect, the picture's frame
    draw_pose(axes, poses[t], skeleton, last_seen(poses)[t])  # or artist = PoseArtist(axes, skeleton); artist.set(...) for animations
    save_figure(figure, path)

Poses are [T, J, 3] (x, y, score) in pixels, the score 0 where a joint is missing, as `data.frontend.clean` leaves them.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from signstream.skeleton import Part, Skeleton

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind readers tell apart
COLOURS = {
    "body": "#8794a1",
    "full_body": "#8794a1",
    "face": "#009E73",
    "left_hand": "#0072B2",
    "right_hand": "#D55E00",
}
BONE_WIDTH = {"body": 1.7, "full_body": 1.7, "face": 0.7, "left_hand": 1.1, "right_hand": 1.1}  # points
DOT_SIZE = {"body": 5.0, "full_body": 5.0, "face": 0.25, "left_hand": 1.0, "right_hand": 1.0}  # square points
LAYERS = tuple(COLOURS)  # hands lie over the face, the face over the body
GREY = "#6a7178"  # of text that comes second
OUTSIDE, INSIDE = "#e6e8ea", "#ffffff"  # beyond the picture's frame, and within it
FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Noto Sans CJK JP",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti SC",
    "Droid Sans Fallback",
    "AR PL UMing CN",
    "Arial Unicode MS",
    "Noto Emoji",
)


class Limits(NamedTuple):
    """What an Axes shows, in pixels; y points down, so top < bottom."""

    left: float
    right: float
    top: float
    bottom: float

    @property
    def aspect(self) -> float:
        return (self.right - self.left) / (self.bottom - self.top)


def separate_parts(skeleton: Skeleton) -> tuple[Part, ...]:
    """The parts that hold no other part whole: a skeleton's parts but for full_body, unless it is all there is."""

    def holds_another(part: Part) -> bool:
        return any(
            o is not part and part.start <= o.start and o.stop <= part.stop and len(o) < len(part)
            for o in skeleton.parts
        )

    return tuple(part for part in skeleton.parts if not holds_another(part))


def part_of_joint(skeleton: Skeleton) -> tuple[str | None, ...]:
    """[J] the smallest part that holds each joint; None: no part does."""
    by_size = sorted(skeleton.parts, key=len)
    return tuple(
        next((part.name for part in by_size if part.start <= joint < part.stop), None)
        for joint in range(skeleton.num_joints)
    )


def part_of_bone(skeleton: Skeleton) -> dict[tuple[int, int], str]:
    """The smallest part that has each bone."""
    return {bone: part.name for part in sorted(skeleton.parts, key=len, reverse=True) for bone in part.bones}


def last_seen(poses: np.ndarray) -> np.ndarray:
    """[T, J, 3] -> [T, J, 2]: where each joint was seen last, as of each frame; NaN where it has not been seen yet."""
    seen = poses[..., 2] > 0
    frame = np.maximum.accumulate(np.where(seen, np.arange(len(poses))[:, None], -1), 0)
    held = np.take_along_axis(poses[..., :2], np.maximum(frame, 0)[..., None], 0)
    return np.where(frame[..., None] >= 0, held, np.nan)


def frame_limits(
    poses: np.ndarray, aspect: float | None = None, margin: float = 0.06, size: tuple[float, float] | None = None
) -> Limits:
    """The crop that shows a clip [T, J, 3] but for each joint's strayest 1 % either side, widened to `aspect` (width over height).

    Where no joint is seen, the whole picture.
    """
    seen = poses[..., 2] > 0
    usual = seen.sum(0) > 0.02 * len(poses)  # a joint seen for a frame or two may be anywhere
    low, high = np.array([(0.0, 0.0), size or (1.0, 1.0)])
    if usual.any():
        xy = np.where(seen[:, usual, None], poses[:, usual, :2], np.nan)
        stray = 0.01 if len(xy) >= 20 else 0.0
        low, high = (
            np.nanquantile(xy, stray, axis=0, method="higher").min(0),
            np.nanquantile(xy, 1 - stray, axis=0, method="lower").max(0),
        )
    span = np.maximum((high - low) * (1 + 2 * margin), 1e-3 + 1e-6 * np.abs(high))
    if aspect is not None:
        span = np.maximum(span, (span[1] * aspect, span[0] / aspect))
    (left, top), (right, bottom) = (low + high - span) / 2, (low + high + span) / 2
    return Limits(float(left), float(right), float(top), float(bottom))


def show_limits(axes: Axes, limits: Limits, size: tuple[float, float] | None = None) -> None:
    """Pixels as they lie in a picture: y down, one scale both ways, no ticks; what is beyond a known picture's frame is grey."""
    axes.set_xlim(limits.left, limits.right)
    axes.set_ylim(limits.bottom, limits.top)
    axes.set_aspect("equal", adjustable="box")
    axes.set(xticks=(), yticks=(), facecolor=INSIDE if size is None else OUTSIDE)
    for spine in axes.spines.values():
        spine.set(color="#c4c8cc", linewidth=0.6)
    if size is not None:
        axes.add_patch(Rectangle((0, 0), *size, facecolor=INSIDE, edgecolor="#9aa0a6", linewidth=0.8, zorder=0))


class PoseArtist:
    """A skeleton in an Axes, redrawn by `set`: lines and points where joints are seen, hollow marks where a missing one was seen last."""

    def __init__(self, axes: Axes, skeleton: Skeleton, scale: float = 1.0) -> None:
        owner = part_of_joint(skeleton)
        order = {name: i for i, name in enumerate(LAYERS)}
        bones = sorted(part_of_bone(skeleton).items(), key=lambda item: order[item[1]])
        self.bones = np.array([bone for bone, _ in bones], np.int64).reshape(-1, 2)
        in_bone = set(self.bones.ravel().tolist())
        sizes = [
            DOT_SIZE[name or "body"] if joint in in_bone else 5.0 for joint, name in enumerate(owner)
        ]  # points must do where no bone leads
        joint_colours = [COLOURS[name or "body"] for name in owner]
        nothing = np.zeros(skeleton.num_joints)
        self.lines = LineCollection(
            [],
            colors=[COLOURS[name] for _, name in bones],
            linewidths=[BONE_WIDTH[name] * scale for _, name in bones],
            capstyle="round",
            zorder=2,
        )
        axes.add_collection(self.lines, autolim=False)
        self.dots = axes.scatter(
            nothing, nothing, s=np.array(sizes) * scale**2, c=joint_colours, linewidths=0, zorder=3
        )
        self.hollow = axes.scatter(
            nothing,
            nothing,
            s=4.5 * scale**2,
            facecolors="none",
            edgecolors=joint_colours,
            linewidths=0.5 * scale,
            zorder=1,
        )
        self.set(np.zeros((skeleton.num_joints, 3)), np.full((skeleton.num_joints, 2), np.nan))

    def set(self, frame: np.ndarray, before: np.ndarray | None = None) -> None:
        """frame [J, 3], the score 0 where missing; before [J, 2], where each joint was seen last, NaN or None where it never was."""
        seen = frame[:, 2:] > 0
        xy = np.where(seen, frame[:, :2], np.nan)
        self.lines.set_segments(xy[self.bones])
        self.dots.set_offsets(xy)
        if before is not None:
            self.hollow.set_offsets(np.where(seen, np.nan, before))


def draw_pose(
    axes: Axes, frame: np.ndarray, skeleton: Skeleton, before: np.ndarray | None = None, scale: float = 1.0
) -> PoseArtist:
    """One frame [J, 3] onto an Axes; `before` [J, 2] as in PoseArtist.set, `scale` thickens lines and points."""
    artist = PoseArtist(axes, skeleton, scale)
    artist.set(frame, before)
    return artist


class Lettering:
    """Fonts for text in any script. A character that no installed font has becomes a box, and is counted in `unknown`."""

    def __init__(self) -> None:
        installed = {font.name for font in fontManager.ttflist}
        self.families = ["DejaVu Sans", *(name for name in FONTS if name in installed)]
        self.glyphs = frozenset().union(
            *(get_font(findfont(FontProperties(family=name))).get_charmap() for name in self.families)
        )
        self.unknown: set[str] = set()

    def one_line(self, text: str, width: int) -> str:
        """Text that can be drawn: in one line of at most `width` columns, a wide character taking two."""
        text, columns = " ".join(unicodedata.normalize("NFC", text).split()), 0
        for i, character in enumerate(text):
            columns += 2 if unicodedata.east_asian_width(character) in "WF" else 1
            if columns > width:
                text = text[: max(i - 1, 0)].rstrip() + "…"
                break
        shown = [
            c for c in text if unicodedata.category(c) not in ("Cc", "Cf") and not "\ufe00" <= c <= "\ufe0f"
        ]  # controls, joiners, variants
        self.unknown.update(c for c in shown if ord(c) not in self.glyphs)
        return "".join(c if ord(c) in self.glyphs else "□" for c in shown)


def new_figure(width: float, height: float, dpi: int = 150) -> Figure:
    """A white figure of that many inches with its own canvas."""
    figure = Figure((width, height), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """An Axes placed in inches from the figure's left and top."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))


def heading(figure: Figure, letters: Lettering, left: float, top: float, strong: str, rest: str, width: int) -> None:
    """A line in two weights, inches from the left and top, cut to `width` columns."""
    strong = letters.one_line(strong, width // 2)
    style = {"fontfamily": letters.families, "fontsize": 8.5, "parse_math": False, "va": "baseline"}
    w, h = figure.get_size_inches()
    first = figure.text(left / w, 1 - top / h, strong, fontweight="bold", **style)
    end = first.get_window_extent(figure.canvas.get_renderer()).x1 / figure.dpi + 0.1
    figure.text(end / w, 1 - top / h, letters.one_line(rest, width - len(strong)), color=GREY, **style)


def part_legend(
    figure: Figure, skeleton: Skeleton, top: float, hollow: str | None = "where a missing joint was last seen"
) -> None:
    """The parts' colours in a line at the figure's right, `top` inches from its top; `hollow`: what the hollow mark means."""
    marks = [
        Line2D([], [], color=COLOURS[p.name], linewidth=3.5, label=p.name.replace("_", " "))
        for p in separate_parts(skeleton)
    ]
    if hollow:
        marks.append(
            Line2D(
                [],
                [],
                color=GREY,
                marker="o",
                markersize=3.5,
                fillstyle="none",
                linewidth=0,
                markeredgewidth=0.7,
                label=hollow,
            )
        )
    figure.legend(
        handles=marks,
        ncol=len(marks),
        frameon=False,
        fontsize=8,
        handlelength=1.2,
        columnspacing=1.4,
        handletextpad=0.5,
        loc="upper right",
        bbox_to_anchor=(1, 1 - top / figure.get_size_inches()[1]),
        borderaxespad=0.1,
    )


def seen_bars(figure: Figure, frame: np.ndarray, skeleton: Skeleton, left: float, top: float, width: float) -> None:
    """A bar a part under a panel, filled by the share of its joints that is seen. frame [J, 3]."""
    parts, inches = separate_parts(skeleton), figure.dpi_scale_trans
    each, bottom = width / len(parts), figure.get_size_inches()[1] - top - 0.055
    for i, part in enumerate(parts):
        share = float((frame[part.joints, 2] > 0).mean())
        x, span = left + i * each + 0.01, each - 0.02
        figure.add_artist(Rectangle((x, bottom), span, 0.055, facecolor="#eceef0", edgecolor="none", transform=inches))
        figure.add_artist(
            Rectangle(
                (x, bottom), span * share, 0.055, facecolor=COLOURS[part.name], edgecolor="none", transform=inches
            )
        )


def figure_pixels(figure: Figure) -> np.ndarray:
    """[H, W, 3] uint8: what the figure looks like now."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def save_figure(figure: Figure, path: Path) -> None:
    """A PNG, written under another name and renamed, so that no half of one is ever seen."""
    from PIL import Image

    save_images([Image.fromarray(figure_pixels(figure))], path, "PNG", optimize=True)


def real_time(count: int, fps: float) -> list[int]:
    """The durations of `count` frames in milliseconds. A GIF counts in hundredths of a second: rounding the frames' ends keeps real time."""
    ends = [round((k + 1) * 100 / fps) * 10 for k in range(count)]
    return [end - start for start, end in zip([0, *ends], ends)]


def save_animation(pictures: Iterable[np.ndarray], durations: Sequence[int], path: Path) -> None:
    """Pictures [H, W, 3] uint8 as a GIF that repeats; durations in milliseconds, which a GIF rounds down to tens."""
    from PIL import Image

    pictures = list(pictures)
    palette = Image.new("P", (1, 1))  # one for all frames, so that nothing flickers
    palette.putpalette(_common_colours(np.concatenate(pictures[:: max(1, len(pictures) // 8)])).ravel().tolist())
    images = [Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    save_images(images, path, "GIF", duration=list(durations), loop=0, optimize=False)


def _common_colours(picture: np.ndarray, apart: int = 8) -> np.ndarray:
    """[H, W, 3] -> [<= 256, 3]: its most common colours, exact, each well apart from those before it (Pillow would confuse them)."""
    colours, counts = np.unique(picture.reshape(-1, 3) @ (65536, 256, 1), return_counts=True)
    left = colours[np.argsort(-counts), None] // (65536, 256, 1) % 256
    chosen = []
    while len(left) and len(chosen) < 256:
        chosen.append(left[0])
        left = left[np.abs(left - left[0]).max(1) > apart]
    return np.array(chosen)


def save_images(images: list, path: Path, kind: str, **options: object) -> None:
    """PIL images into one file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    more = {"save_all": True, "append_images": images[1:]} if len(images) > 1 else {}
    try:
        images[0].save(temporary, kind, **more, **options)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
