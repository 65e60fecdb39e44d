"""The live page as a moving picture, for README: the synthetic signer's first sentences, as they come.

    python -m benchmarks.live_gif --checkpoint RUN --lm RUN --out docs/live.gif [--seconds 14]

Chromium shows the page; its pictures, taken as fast as they come, become a GIF of a few colours.
"""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path

from PIL import Image

from benchmarks.live_pages import shown
from signstream import cli
from signstream.inference.live_page.page import Names
from signstream.inference.live_page.session import open_readers
from signstream.inference.live_page.sources import Demo

SIZE = (1080, 850)
WIDTH = 760
USUAL, RARE = 96, 60  # colours: of large areas, and of thin lines
EVERY = 0.1  # seconds between two pictures


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--checkpoint", required=True, help="a tokenizer")
    parser.add_argument("--lm", required=True, help="a language model that was trained live on its tokens")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--seconds", type=float, default=14.0)
    args = parser.parse_args(argv)
    readers = open_readers(args.checkpoint, None, args.lm, device="cpu")
    names = Names("a synthetic signer", args.checkpoint, "", args.lm)
    taken: list[tuple[float, bytes]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        shown(Demo(readers.fps), readers, names=names, folder=Path(folder), size=SIZE) as browser,
    ):
        began = time.perf_counter()
        while (now := time.perf_counter() - began) < args.seconds:
            taken.append((now, browser.picture()))
            time.sleep(max(0.0, EVERY - (time.perf_counter() - began - now)))
    print(f"{write(taken, args.seconds, args.out)} pictures, {args.out.stat().st_size / 1e6:.2f} MB: {args.out}")


def write(taken: list[tuple[float, bytes]], seconds: float, out: Path) -> int:
    """Each picture stands until the next was taken; all have the colours of the middle one."""
    height = WIDTH * SIZE[1] // SIZE[0]
    images = [Image.open(io.BytesIO(png)).convert("RGB").resize((WIDTH, height), Image.LANCZOS) for _, png in taken]
    middle = images[len(images) // 2]
    kinds = ((USUAL, Image.Quantize.MEDIANCUT), (RARE, Image.Quantize.MAXCOVERAGE))
    palette = Image.new("P", (1, 1))
    colours = [middle.quantize(count, kind).getpalette()[: 3 * count] for count, kind in kinds]
    palette.putpalette([value for each in colours for value in each])
    few = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    times = [at for at, _ in taken] + [seconds]
    shown_for = [max(20, round(1000 * (after - before))) for before, after in zip(times, times[1:])]
    few[0].save(out, save_all=True, append_images=few[1:], duration=shown_for, loop=0, optimize=True)
    return len(few)


if __name__ == "__main__":
    cli.run(main)
