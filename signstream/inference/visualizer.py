"""A clip beside what its tokens say, as an animation: GIF, or MP4 where ffmpeg is installed.

    python -m signstream.inference.visualizer --checkpoint checkpoints/quickstart --out sample.gif                     # the split's first clip
    python -m signstream.inference.visualizer --checkpoint PATH --split test --sample NAME --out sample.mp4 export.codes_per_chunk=8

Left the clip as the front end prepares it, right what Tokenizer.decode gives from the tokens as they are written (budgeted, then held), in the
original's place; a joint that the original does not show is not compared. Below, the chunk's tokens, with the parts that hold marked, and the
clip's ribbons. Poses are [T, J, 3] in pixels, the score 0 where a joint is missing.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from signstream import cli
from signstream.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    from signstream.inference.tokenizer import Tokenizer
    from signstream.io.pose_cache import PoseCache
    from signstream.skeleton import Skeleton
    from signstream.tokens.format import TokenSequence

SUFFIXES = (".gif", ".mp4")
QUIET = "#8a9097"  # of a line that says nothing new
MOST_FRAMES = 300  # of an animation, unless --frames says otherwise
FASTEST = 50.0  # frames a second: browsers show no GIF faster
EDGE, GAP, HEAD, LINE = 0.1, 0.08, 0.56, 0.2  # inches
LETTERS, LETTER = 37, 0.064  # of a part's tokens in its line, and the inches that one takes


class TokenPanel:
    """Under the pictures: what each part says in the current chunk, and the clip's ribbons with a mark that moves."""

    def __init__(self, figure: Figure, tokens: TokenSequence, top: float, width: float, seconds: float) -> None:
        from signstream.inference.viz import draw_ribbons, held_chunks
        from signstream.pictures.figure import axes_at
        from signstream.tokens.format import part_letters

        self.tokens, self.held, self.letters = tokens, held_chunks(tokens), part_letters(tokens.parts)
        w, h = figure.get_size_inches()
        style = {"family": "monospace", "fontsize": 7.5, "va": "center", "parse_math": False}
        self.texts: list[Text] = [
            figure.text(EDGE / w, 1 - (top + (p - 0.5) * LINE) / h, "", **style) for p in range(len(tokens.parts) + 1)
        ]
        said = LETTERS * LETTER
        axes = axes_at(figure, EDGE + said, top, width - said, LINE * len(tokens.parts))
        draw_ribbons(axes, tokens)
        axes.set(xlim=(0, seconds), yticks=())
        axes.tick_params(labelsize=7, length=2, pad=2)
        axes.spines[:].set_visible(False)
        self.mark = axes.axvline(0, color="black", linewidth=1)

    @property
    def moving(self) -> list[Artist]:
        return [*self.texts, self.mark]

    def set(self, t: int) -> None:
        """Frame t of the clip."""
        tokens, chunk = self.tokens, t // self.tokens.chunk_len
        self.mark.set_xdata([t / tokens.fps] * 2)
        self.texts[0].set_text(f"<T{chunk}>")
        for p, (tag, text) in enumerate(zip(tokens.parts, self.texts[1:])):
            codes = [code for code in tokens.codes[chunk, p].tolist() if code >= 0]
            held = " held" if self.held[chunk, p] else ""
            said, most = (
                "".join(f"<{tag}:{self.letters[tag]}{code}>" for code in codes) or f"<{tag}> not sent",
                LETTERS - 2 - len(held),
            )
            text.set(
                text=(said if len(said) <= most else f"{said[: most - 1]}…") + held,
                color="black" if codes and not held else QUIET,
            )


def pictures(
    original: np.ndarray,
    again: np.ndarray,
    skeleton: Skeleton,
    fps: float,
    name: str = "",
    tokens: TokenSequence | None = None,
    width: float = 3.1,
    dpi: int = 100,
) -> Iterator[np.ndarray]:
    """[H, W, 3] uint8 for each frame: original and again [T, J, 3] side by side in one crop, a panel `width` inches wide, and the tokens below."""
    import numpy as np

    from signstream.pictures.figure import (
        GREY,
        Lettering,
        PoseArtist,
        axes_at,
        frame_limits,
        heading,
        new_figure,
        show_limits,
    )

    again = again.copy()
    again[..., 2] *= original[..., 2] > 0
    limits = frame_limits(original, min(max(frame_limits(original).aspect, 0.85), 1.25))
    height, inside = width / limits.aspect, 2 * width + GAP
    panel = 0.0 if tokens is None else (len(tokens.parts) + 2) * LINE + 0.05
    figure = new_figure(inside + 2 * EDGE, HEAD + height + EDGE + panel, dpi)
    w, h = figure.get_size_inches()
    heading(figure, Lettering(), EDGE, 0.22, name, "", round(15 * w))
    clock = figure.text(1 - EDGE / w, 1 - 0.22 / h, "", ha="right", fontsize=7.5, color=GREY)
    shown, moving = [], [clock]
    for i, (title, poses) in enumerate((("original", original), ("reconstruction", again))):
        axes = axes_at(figure, EDGE + i * (width + GAP), HEAD, width, height)
        show_limits(axes, limits)
        axes.set_title(title, fontsize=8, loc="left", pad=3)
        artist = PoseArtist(axes, skeleton, scale=width / 2.4)
        shown.append((artist, poses))
        moving += [artist.lines, artist.dots]
    below = (
        None
        if tokens is None
        else TokenPanel(figure, tokens, HEAD + height + EDGE + LINE, inside, max(len(original), 1) / fps)
    )
    moving += [] if below is None else below.moving
    for part in moving:
        part.set_animated(True)
    figure.canvas.draw()
    still = figure.canvas.copy_from_bbox(figure.bbox)  # what does not move is drawn once
    for t in range(len(original)):
        for artist, poses in shown:
            artist.set(poses[t])
        clock.set_text(f"{t / fps:.2f} s")
        if below is not None:
            below.set(t)
        figure.canvas.restore_region(still)
        for part in moving:
            figure.draw_artist(part)
        yield np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def animate(
    original: np.ndarray,
    again: np.ndarray,
    skeleton: Skeleton,
    path: Path,
    fps: float,
    name: str = "",
    tokens: TokenSequence | None = None,
    width: float = 3.1,
    dpi: int = 100,
) -> None:
    """original and again [T, J, 3], at `fps`, into a GIF or an MP4 in real time; the rest as `pictures` has it."""
    check_path(path)
    if not len(original):
        raise UserError(f"{name or path}: the clip has no frame to show")
    save(pictures(original, again, skeleton, fps, name, tokens, width, dpi), path, fps)


def save(frames: Iterable[np.ndarray], path: Path, fps: float) -> None:
    """A GIF shows FASTEST frames a second at most: of a faster clip it leaves some out and keeps real time."""
    from signstream.pictures.figure import real_time, save_animation

    if path.suffix.lower() == ".mp4":
        save_video(frames, path, fps)
        return
    frames = list(frames)
    shown = (
        [frames[round(k * fps / FASTEST)] for k in range(int((len(frames) - 1) * FASTEST / fps) + 1)]
        if fps > FASTEST
        else frames
    )
    save_animation(shown, real_time(len(shown), min(fps, FASTEST)), path)


def save_video(frames: Iterable[np.ndarray], path: Path, fps: float) -> None:
    """H.264 through ffmpeg, whole or not at all; H and W are cut to even numbers, which the codec asks for."""
    frames = iter(frames)
    first = next(frames)
    height, width = (side - side % 2 for side in first.shape[:2])
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    command = [
        "ffmpeg",
        "-y",
        "-loglevel",
        "error",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-s",
        f"{width}x{height}",
        "-r",
        f"{fps:g}",
        "-i",
        "-",
        "-an",
        "-pix_fmt",
        "yuv420p",
        "-movflags",
        "+faststart",
        "-f",
        "mp4",
        f"file:{temporary}",
    ]
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as ffmpeg:
            try:
                for frame in (first, *frames):
                    ffmpeg.stdin.write(frame[:height, :width].tobytes())
                ffmpeg.stdin.close()
            except BrokenPipeError:
                pass  # it ended early, and says why below
            said = ffmpeg.stderr.read().decode(errors="replace").strip().splitlines()
        if ffmpeg.returncode:
            raise UserError(
                f"ffmpeg failed on {path}: {said[-1] if said else f'exit status {ffmpeg.returncode}'}; name a .gif instead"
            )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_path(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {path}: the name of a .gif or an .mp4 is expected")
    if path.is_dir():
        raise UserError(f"--out {path} is a folder: the name of a .gif or an .mp4 is expected")
    if path.suffix.lower() == ".mp4" and shutil.which("ffmpeg") is None:
        raise UserError(f"--out {path}: an MP4 needs ffmpeg, which is not on the PATH: install it, or name a .gif")


class Compared(NamedTuple):
    """A clip in pixels, and its tokens."""

    original: np.ndarray  # [T, J, 3]
    again: np.ndarray  # [T, J, 3]
    tokens: TokenSequence


def compare(tokenizer: Tokenizer, cache: PoseCache, index: int) -> Compared:
    """A clip of the cache beside what its tokens, as they are written, decode to in its place."""
    import torch

    from signstream.space import to_pixels

    prepared = cache.frames(index).copy()
    (tokens,) = tokenizer.encode_prepared([prepared], [cache.clips[index].name])
    place, joints = torch.from_numpy(prepared[:, 0]), torch.from_numpy(prepared[:, 1:])
    original = torch.cat((to_pixels(joints[..., :2], place), joints[..., 2:]), -1)
    return Compared(original.numpy(), tokenizer.decode(tokens, place).numpy(), tokens)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m signstream.inference.visualizer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="PATH",
        help="a checkpoint, a run's folder or an experiment's: its newest run",
    )
    parser.add_argument("--split", default="val", help="default: %(default)s")
    parser.add_argument("--sample", metavar="NAME", help="the clip (default: the split's first)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a .gif or an .mp4; its folder is made if need be"
    )
    parser.add_argument(
        "--frames",
        type=int,
        default=MOST_FRAMES,
        metavar="N",
        help="show the first N frames at most (default: %(default)s)",
    )
    args = cli.parse_with_overrides(parser, argv, "for example export.codes_per_chunk=8")
    if args.frames < 1:
        raise UserError(f"--frames is {args.frames}: at least 1 is expected")
    check_path(args.out)
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it would tell of every font that has no bold
    from signstream.inference.session import open_session

    with open_session(args.checkpoint, overrides=args.overrides) as (tokenizer, config, _):
        from signstream.data.cache import open_cache

        cache = open_cache(config.data, quiet=True)
        index = (
            cache.split(args.split)[0]
            if args.sample is None
            else cache.find(args.split, [args.sample], "--sample")[0]
        )
        clip = compare(tokenizer, cache, index)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        shown = min(args.frames, len(clip.original))
        animate(
            clip.original[:shown],
            clip.again[:shown],
            tokenizer.skeleton,
            args.out,
            config.data.fps,
            clip.tokens.name,
            clip.tokens,
        )
        cut = f" of {len(clip.original)} (--frames)" if shown < len(clip.original) else ""
        print(f"{args.out}: {clip.tokens.name}, {shown} frames{cut}")


if __name__ == "__main__":
    cli.run(main)
