"""A clip beside its reconstruction, as an animation: GIF, or MP4 where ffmpeg is installed.

    scene = Scene(original, reconstruction, skeleton, fps, name, tokens)      # poses [T, J, 3] in pixels
    animate(scene, Path("clip.gif"))                                          # in real time
    for picture in pictures(scene): ...                                       # [H, W, 3] uint8, a frame each

A joint that the original does not show is not compared. Below, where there are tokens: the chunk's, with the parts that
hold marked, and the clip's ribbons.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.text import Text

from signstream.errors import UserError
from signstream.io.whole import whole_file
from signstream.pictures.figure import (
    GREY,
    Box,
    Lettering,
    PoseArtist,
    axes_at,
    canvas_of,
    drawn_pixels,
    frame_limits,
    heading,
    new_figure,
    real_time,
    save_animation,
    show_limits,
)
from signstream.pictures.ribbons import draw_ribbons
from signstream.skeleton import Skeleton
from signstream.tokens.codes import held_chunks
from signstream.tokens.format import TokenSequence
from signstream.tokens.templates import part_letters

SUFFIXES = (".gif", ".mp4")
QUIET = "#8a9097"  # of a line that says nothing new
FASTEST = 50.0  # frames a second: browsers show no GIF faster
EDGE, GAP, HEAD, LINE = 0.1, 0.08, 0.56, 0.2  # inches
LETTERS, LETTER = 37, 0.064  # of a part's tokens in its line, and the inches that one takes


class Scene(NamedTuple):
    """A clip and what came back of it, both [T, J, 3] in pixels, the score 0 where a joint is missing."""

    original: np.ndarray
    reconstruction: np.ndarray
    skeleton: Skeleton
    fps: float
    name: str = ""
    tokens: TokenSequence | None = None

    def first(self, frames: int) -> Scene:
        """Its first frames."""
        return self._replace(original=self.original[:frames], reconstruction=self.reconstruction[:frames])


class TokenPanel:
    """Under the pictures: what each part says in the current chunk, and the clip's ribbons with a mark that moves."""

    def __init__(self, figure: Figure, tokens: TokenSequence, *, top: float, width: float, seconds: float) -> None:
        self.tokens = tokens
        self.held = held_chunks(tokens.codes)
        self.letters = part_letters(tokens.parts)
        self.texts = self._lines(figure, top)
        beside = LETTERS * LETTER
        axes = axes_at(figure, Box(EDGE + beside, top, width - beside, LINE * len(tokens.parts)))
        draw_ribbons(axes, tokens)
        axes.set(xlim=(0, seconds), yticks=())
        axes.tick_params(labelsize=7, length=2, pad=2)
        axes.spines[:].set_visible(False)
        self.mark = axes.axvline(0, color="black", linewidth=1)

    def _lines(self, figure: Figure, top: float) -> list[Text]:
        """The chunk's number, and a line a part."""
        w, h = figure.get_size_inches()
        heights = [1 - (top + (p - 0.5) * LINE) / h for p in range(len(self.tokens.parts) + 1)]
        style: dict[str, Any] = {"family": "monospace", "fontsize": 7.5, "va": "center", "parse_math": False}
        return [figure.text(EDGE / w, y, "", **style) for y in heights]

    @property
    def moving(self) -> list[Artist]:
        return [*self.texts, self.mark]

    def set(self, t: int) -> None:
        """Frame t of the clip."""
        chunk = t // self.tokens.chunk_len
        self.mark.set_xdata([t / self.tokens.fps] * 2)
        self.texts[0].set_text(f"<T{chunk}>")
        for p, (tag, text) in enumerate(zip(self.tokens.parts, self.texts[1:])):
            codes = [code for code in self.tokens.codes[chunk, p].tolist() if code >= 0]
            held = " held" if self.held[chunk, p] else ""
            marks = "".join(f"<{tag}:{self.letters[tag]}{code}>" for code in codes) or f"<{tag}> not sent"
            room = LETTERS - 2 - len(held)
            fitted = marks if len(marks) <= room else f"{marks[: room - 1]}…"
            text.set_text(fitted + held)
            text.set_color("black" if codes and not held else QUIET)


class Backdrop:
    """A figure of which some artists move, in the order in which they lie over each other and over all that stands:
    what does not move is drawn once."""

    def __init__(self, figure: Figure, moving: Sequence[Artist]) -> None:
        self.figure, self.moving = figure, moving
        for artist in moving:
            artist.set_animated(True)
        figure.canvas.draw()
        self.picture = canvas_of(figure).copy_from_bbox(figure.bbox)

    def pixels(self) -> np.ndarray:
        """[H, W, 3] uint8: what the figure looks like now."""
        canvas_of(self.figure).restore_region(self.picture)
        for artist in self.moving:
            self.figure.draw_artist(artist)
        return drawn_pixels(self.figure)


class Stage:
    """The figure in which a scene plays: original and reconstruction side by side in one crop, the tokens below."""

    def __init__(self, scene: Scene, width: float, dpi: int) -> None:
        limits = frame_limits(scene.original, min(max(frame_limits(scene.original).aspect, 0.85), 1.25))
        height = width / limits.aspect
        inside = 2 * width + GAP
        panel = 0.0 if scene.tokens is None else (len(scene.tokens.parts) + 2) * LINE + 0.05
        self.fps = scene.fps
        self.figure = new_figure(inside + 2 * EDGE, HEAD + height + EDGE + panel, dpi)
        w, h = self.figure.get_size_inches()
        heading(self.figure, Lettering(), (EDGE, 0.22), strong=scene.name, width=round(15 * w))
        self.clock = self.figure.text(1 - EDGE / w, 1 - 0.22 / h, "", ha="right", fontsize=7.5, color=GREY)
        self.artists = []
        for i, title in enumerate(("original", "reconstruction")):
            axes = axes_at(self.figure, Box(EDGE + i * (width + GAP), HEAD, width, height))
            show_limits(axes, limits)
            axes.set_title(title, fontsize=8, loc="left", pad=3)
            self.artists.append(PoseArtist(axes, scene.skeleton, scale=width / 2.4))
        self.panel: TokenPanel | None = None
        if scene.tokens is not None:
            below = HEAD + height + EDGE + LINE
            seconds = max(len(scene.original), 1) / scene.fps
            self.panel = TokenPanel(self.figure, scene.tokens, top=below, width=inside, seconds=seconds)
        moving: list[Artist] = [self.clock]
        for artist in self.artists:
            moving += [artist.lines, artist.dots]
        if self.panel is not None:
            moving += self.panel.moving
        self.backdrop = Backdrop(self.figure, moving)

    def draw(self, t: int, frames: Iterable[np.ndarray]) -> np.ndarray:
        """[H, W, 3] uint8: frame t, its two poses [J, 3]."""
        for artist, frame in zip(self.artists, frames):
            artist.set(frame)
        self.clock.set_text(f"{t / self.fps:.2f} s")
        if self.panel is not None:
            self.panel.set(t)
        return self.backdrop.pixels()


def pictures(scene: Scene, *, width: float = 3.1, dpi: int = 100) -> Iterator[np.ndarray]:
    """[H, W, 3] uint8 for each frame; a panel is `width` inches wide."""
    compared = scene.reconstruction.copy()
    compared[..., 2] *= scene.original[..., 2] > 0
    stage = Stage(scene, width, dpi)
    for t, frames in enumerate(zip(scene.original, compared)):
        yield stage.draw(t, frames)


def animate(scene: Scene, path: Path, *, width: float = 3.1, dpi: int = 100) -> None:
    """A scene into a GIF or an MP4 in real time; the rest as `pictures` has it."""
    check_path(path)
    if not len(scene.original):
        raise UserError(f"{scene.name or path}: the clip has no frame to show")
    save(pictures(scene, width=width, dpi=dpi), path, scene.fps)


def save(frames: Iterable[np.ndarray], path: Path, fps: float) -> None:
    """A GIF shows FASTEST frames a second at most: of a faster clip it leaves some out and keeps real time."""
    if path.suffix.lower() == ".mp4":
        save_video(frames, path, fps)
        return
    frames = list(frames)
    if fps > FASTEST:
        count = int((len(frames) - 1) * FASTEST / fps) + 1
        frames = [frames[round(k * fps / FASTEST)] for k in range(count)]
    save_animation(frames, real_time(len(frames), min(fps, FASTEST)), path)


def save_video(frames: Iterable[np.ndarray], path: Path, fps: float) -> None:
    """H.264 through ffmpeg, whole or not at all; H and W are cut to even numbers, which the codec asks for."""
    frames = iter(frames)
    first = next(frames)
    height, width = (side - side % 2 for side in first.shape[:2])
    with whole_file(path) as part:
        command = ["ffmpeg", "-y", "-loglevel", "error"]
        command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "-"]
        command += ["-an", "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4", f"file:{part}"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as ffmpeg:
            assert ffmpeg.stdin is not None and ffmpeg.stderr is not None
            try:
                for frame in (first, *frames):
                    ffmpeg.stdin.write(frame[:height, :width].tobytes())
                ffmpeg.stdin.close()
            except BrokenPipeError:
                pass  # it ended early, and says why below
            complaint = ffmpeg.stderr.read().decode(errors="replace").strip().splitlines()
        if ffmpeg.returncode:
            reason = complaint[-1] if complaint else f"exit status {ffmpeg.returncode}"
            raise UserError(f"ffmpeg failed on {path}: {reason}; name a .gif instead")


def check_path(path: Path) -> None:
    """Raises where no animation can be written to the --out that a user named."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {path}: the name of a .gif or an .mp4 is expected")
    if path.is_dir():
        raise UserError(f"--out {path} is a folder: the name of a .gif or an .mp4 is expected")
    if path.suffix.lower() == ".mp4" and shutil.which("ffmpeg") is None:
        raise UserError(f"--out {path}: an MP4 needs ffmpeg, which is not on the PATH: install it, or name a .gif")
