"""Poses as pictures: a frame of any Skeleton onto matplotlib's Axes, coloured by part, what is missing shown as such.

    figure = new_figure(width, height)                # inches; matplotlib's objects, no pyplot, nothing global
    limits = frame_limits(poses, aspect)              # one crop for a whole clip
    show_limits(axes, limits, size)                   # y down, equal aspect, the picture's frame
    draw_pose(axes, poses[t], skeleton, before=last_seen(poses)[t])
    artist = PoseArtist(axes, skeleton)               # for animations: artist.set(frame) redraws
    save_figure(figure, path)

Poses are [T, J, 3] (x, y, score) in pixels, the score 0 where a joint is missing, as `data.frontend.clean` leaves them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from signstream.io.whole import whole_file
from signstream.skeleton import Part, Skeleton

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
HEAD = 0.36  # inches above a plot, for its heading
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


class Box(NamedTuple):
    """Where something stands in a figure, in inches from its left and its top."""

    left: float
    top: float
    width: float
    height: float


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
    poses: np.ndarray,
    aspect: float | None = None,
    *,
    margin: float = 0.06,
    size: tuple[float, float] | None = None,
) -> Limits:
    """The crop that shows a clip [T, J, 3] but for each joint's strayest 1 % either side, widened to `aspect` (width
    over height). Where no joint is seen, the whole picture."""
    seen = poses[..., 2] > 0
    usual = seen.sum(0) > 0.02 * len(poses)  # a joint seen for a frame or two may be anywhere
    low, high = np.array([(0.0, 0.0), size or (1.0, 1.0)])
    if usual.any():
        xy = np.where(seen[:, usual, None], poses[:, usual, :2], np.nan)
        stray = 0.01 if len(xy) >= 20 else 0.0
        low = np.nanquantile(xy, stray, axis=0, method="higher").min(0)
        high = np.nanquantile(xy, 1 - stray, axis=0, method="lower").max(0)
    span = np.maximum((high - low) * (1 + 2 * margin), 1e-3 + 1e-6 * np.abs(high))
    if aspect is not None:
        span = np.maximum(span, (span[1] * aspect, span[0] / aspect))
    (left, top), (right, bottom) = (low + high - span) / 2, (low + high + span) / 2
    return Limits(float(left), float(right), float(top), float(bottom))


def show_limits(axes: Axes, limits: Limits, size: tuple[float, float] | None = None) -> None:
    """Pixels as they lie in a picture: y down, one scale both ways, no ticks; beyond a known picture's frame all is
    grey."""
    axes.set_xlim(limits.left, limits.right)
    axes.set_ylim(limits.bottom, limits.top)
    axes.set_aspect("equal", adjustable="box")
    axes.set(xticks=(), yticks=(), facecolor=INSIDE if size is None else OUTSIDE)
    for spine in axes.spines.values():
        spine.set(color="#c4c8cc", linewidth=0.6)
    if size is not None:
        axes.add_patch(Rectangle((0, 0), *size, facecolor=INSIDE, edgecolor="#9aa0a6", linewidth=0.8, zorder=0))


class PoseArtist:
    """A skeleton in an Axes, redrawn by `set`: lines and points where joints are seen, hollow marks where a missing
    one was seen last."""

    def __init__(self, axes: Axes, skeleton: Skeleton, scale: float = 1.0) -> None:
        owner = [name or "body" for name in part_of_joint(skeleton)]
        order = {name: i for i, name in enumerate(LAYERS)}
        bones = sorted(part_of_bone(skeleton).items(), key=lambda item: order[item[1]])
        self.bones = np.array([bone for bone, _ in bones], np.int64).reshape(-1, 2)
        in_bone = set(self.bones.ravel().tolist())
        # points must do where no bone leads
        sizes = [DOT_SIZE[name] if joint in in_bone else 5.0 for joint, name in enumerate(owner)]
        colours = [COLOURS[name] for name in owner]
        nothing = np.zeros(skeleton.num_joints)
        self.lines = LineCollection(
            [],
            colors=[COLOURS[name] for _, name in bones],
            linewidths=[BONE_WIDTH[name] * scale for _, name in bones],
            capstyle="round",
            zorder=2,
        )
        axes.add_collection(self.lines, autolim=False)
        areas = np.array(sizes) * scale**2
        self.dots = axes.scatter(nothing, nothing, s=areas, c=colours, linewidths=0, zorder=3)
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": colours, "linewidths": 0.5 * scale}
        self.hollow = axes.scatter(nothing, nothing, s=4.5 * scale**2, zorder=1, **ring)
        self.set(np.zeros((skeleton.num_joints, 3)), np.full((skeleton.num_joints, 2), np.nan))

    def set(self, frame: np.ndarray, before: np.ndarray | None = None) -> None:
        """frame [J, 3], the score 0 where missing; before [J, 2]: where each joint was seen last, NaN where it never
        was."""
        seen = frame[:, 2:] > 0
        xy = np.where(seen, frame[:, :2], np.nan)
        self.lines.set_segments(list(xy[self.bones]))
        self.dots.set_offsets(xy)
        if before is not None:
            self.hollow.set_offsets(np.where(seen, np.nan, before))


def draw_pose(
    axes: Axes,
    frame: np.ndarray,
    skeleton: Skeleton,
    *,
    before: np.ndarray | None = None,
    scale: float = 1.0,
) -> PoseArtist:
    """One frame [J, 3] onto an Axes; `before` [J, 2] as in PoseArtist.set, `scale` thickens lines and points."""
    artist = PoseArtist(axes, skeleton, scale)
    artist.set(frame, before)
    return artist


class Lettering:
    """Fonts for text in any script. A character that no installed font has becomes a box, and is counted in
    `unknown`."""

    def __init__(self) -> None:
        installed = {font.name for font in fontManager.ttflist}
        self.families = ["DejaVu Sans", *(name for name in FONTS if name in installed)]
        files = [findfont(FontProperties(family=name)) for name in self.families]
        self.glyphs = frozenset().union(*(get_font(file).get_charmap() for file in files))
        self.unknown: set[str] = set()

    def one_line(self, text: str, width: int) -> str:
        """Text that can be drawn: in one line of at most `width` columns, a wide character taking two."""
        text = " ".join(unicodedata.normalize("NFC", text).split())
        columns = 0
        for i, character in enumerate(text):
            columns += 2 if unicodedata.east_asian_width(character) in "WF" else 1
            if columns > width:
                text = text[: max(i - 1, 0)].rstrip() + "…"
                break
        # neither controls nor joiners nor variants
        shown = [c for c in text if unicodedata.category(c) not in ("Cc", "Cf") and not "\ufe00" <= c <= "\ufe0f"]
        self.unknown.update(c for c in shown if ord(c) not in self.glyphs)
        return "".join(c if ord(c) in self.glyphs else "□" for c in shown)


def new_figure(width: float, height: float, dpi: int = 150) -> Figure:
    """A white figure of that many inches with its own canvas."""
    figure = Figure((width, height), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def headed_axes(width: float, height: float, columns: int = 1, *, one_scale: bool = False) -> tuple[Figure, np.ndarray]:
    """A figure with room for a heading, and a row of axes; `one_scale`: of one y axis."""
    figure = new_figure(width, height)
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - HEAD / height))
    return figure, figure.subplots(1, columns, sharey=one_scale, squeeze=False)[0]


def ink(colour: Sequence[float] | np.ndarray) -> str:
    """Black or white, whichever reads better on a colour."""
    red, green, blue = colour[:3]
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "black"


def canvas_of(figure: Figure) -> FigureCanvasAgg:
    """The canvas that `new_figure` gave it."""
    assert isinstance(figure.canvas, FigureCanvasAgg)
    return figure.canvas


def axes_at(figure: Figure, box: Box) -> Axes:
    """An Axes placed in a figure."""
    w, h = figure.get_size_inches()
    return figure.add_axes((box.left / w, 1 - (box.top + box.height) / h, box.width / w, box.height / h))


def caption(axes: Axes, title: str, *, x: str = "", y: str = "") -> None:
    """An Axes' title and the names of its axes, small, and no frame at its top and right."""
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=7.5)
    axes.spines[["top", "right"]].set_visible(False)


def heading(
    figure: Figure, letters: Lettering, at: tuple[float, float], *, strong: str, rest: str = "", width: int
) -> None:
    """A line in two weights, `at` inches from the left and top, cut to `width` columns."""
    left, top = at
    strong = letters.one_line(strong, width // 2)
    style: dict[str, Any] = {"fontfamily": letters.families, "fontsize": 8.5, "parse_math": False, "va": "baseline"}
    w, h = figure.get_size_inches()
    first = figure.text(left / w, 1 - top / h, strong, fontweight="bold", **style)
    end = first.get_window_extent(canvas_of(figure).get_renderer()).x1 / figure.dpi + 0.1
    figure.text(end / w, 1 - top / h, letters.one_line(rest, width - len(strong)), color=GREY, **style)


def part_legend(
    figure: Figure, skeleton: Skeleton, top: float, *, hollow: str | None = "where a missing joint was last seen"
) -> None:
    """The parts' colours at the figure's right, `top` inches from its top; `hollow`: what the hollow mark means."""
    parts = [part.name for part in separate_parts(skeleton)]
    marks = [Line2D([], [], color=COLOURS[name], linewidth=3.5, label=name.replace("_", " ")) for name in parts]
    if hollow:
        ring: dict[str, Any] = {"marker": "o", "markersize": 3.5, "fillstyle": "none", "markeredgewidth": 0.7}
        marks.append(Line2D([], [], color=GREY, linewidth=0, label=hollow, **ring))
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


def seen_bars(figure: Figure, frame: np.ndarray, skeleton: Skeleton, *, at: tuple[float, float], width: float) -> None:
    """A bar a part under a panel, `at` inches from the left and top, filled by the share of its joints that is seen.
    frame [J, 3]."""
    left, top = at
    parts = separate_parts(skeleton)
    each = width / len(parts)
    span = each - 0.02
    bottom = figure.get_size_inches()[1] - top - 0.055
    style: dict[str, Any] = {"edgecolor": "none", "transform": figure.dpi_scale_trans}
    for i, part in enumerate(parts):
        share = float((frame[part.joints, 2] > 0).mean())
        corner = (left + i * each + 0.01, bottom)
        figure.add_artist(Rectangle(corner, span, 0.055, facecolor="#eceef0", **style))
        figure.add_artist(Rectangle(corner, span * share, 0.055, facecolor=COLOURS[part.name], **style))


def figure_pixels(figure: Figure) -> np.ndarray:
    """[H, W, 3] uint8: what the figure looks like now."""
    figure.canvas.draw()
    return drawn_pixels(figure)


def drawn_pixels(figure: Figure) -> np.ndarray:
    """[H, W, 3] uint8: what was drawn last."""
    return np.asarray(canvas_of(figure).buffer_rgba())[..., :3].copy()


def save_figure(figure: Figure, path: Path) -> None:
    """A PNG, written under another name and renamed, so that no half of one is ever seen."""
    from PIL import Image

    save_images([Image.fromarray(figure_pixels(figure))], path, "PNG", optimize=True)


def real_time(count: int, fps: float) -> list[int]:
    """The durations of `count` frames in milliseconds. A GIF counts in hundredths of a second: rounding the frames'
    ends keeps real time."""
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
    """[H, W, 3] -> [<= 256, 3]: its most common colours, exact, each well apart from those before it (Pillow would
    confuse them)."""
    colours, counts = np.unique(picture.reshape(-1, 3) @ (65536, 256, 1), return_counts=True)
    left = colours[np.argsort(-counts), None] // (65536, 256, 1) % 256
    chosen: list[np.ndarray] = []
    while len(left) and len(chosen) < 256:
        chosen.append(left[0])
        left = left[np.abs(left - left[0]).max(1) > apart]
    return np.array(chosen)


def save_images(images: list[Any], path: Path, kind: str, **options: Any) -> None:
    """PIL images into one file, whole or not at all."""
    more = {"save_all": True, "append_images": images[1:]} if len(images) > 1 else {}
    with whole_file(path) as part:
        images[0].save(part, kind, **more, **options)
