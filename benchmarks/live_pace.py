"""How long it takes from a hand to its tokens and its text, in the live page as a browser shows it.

    python -m benchmarks.live_pace --checkpoint RUN --lm RUN [--seconds 60] [--film clip.mp4]

The synthetic signer first; then, with --film, a recorded clip through the browser's fake camera, again and again, and
MediaPipe. Printed of each: keypoints a second; then milliseconds of each stage, of which half and 95 of 100 chunks take
no longer, and their sums: from a chunk's last frame to its tokens, to its text, and until all of it stands on the page.
The synthetic signer's pace counts his pauses. Chromium runs on the same cores, without a GPU.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.browser import FAKE_CAMERA
from benchmarks.live_pages import shown
from signstream import cli
from signstream.data.estimator import open_estimator
from signstream.inference.live_page.page import Names
from signstream.inference.live_page.session import Readers, open_readers
from signstream.inference.live_page.sources import Camera, Demo, Source
from signstream.io.video_files import pictures, read_head, video_library

STAGES = ("waited", "picture", "estimator", "tokens", "text", "glosses", "reconstruction", "way")
TO_TOKENS, TO_TEXT = STAGES[:4], STAGES[:5]
MOST = 900  # frames of a film
WIDE = 640


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--checkpoint", required=True, help="a tokenizer")
    parser.add_argument("--lm", help="a language model that was trained live on its tokens")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each (default: %(default)s)")
    parser.add_argument("--film", type=Path, metavar="FILE", help="a video of somebody who signs")
    args = parser.parse_args(argv)
    readers = open_readers(args.checkpoint, None, args.lm, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        measure("the synthetic signer", Demo(readers.fps), readers, folder=Path(folder), seconds=args.seconds)
        if args.film is not None:
            film = as_y4m(args.film, Path(folder) / "film.y4m")
            flags = (*FAKE_CAMERA, f"--use-file-for-fake-video-capture={film}")
            camera = Camera(open_estimator())
            measure(args.film.name, camera, readers, folder=Path(folder), seconds=args.seconds, flags=flags)


def measure(
    name: str, source: Source, readers: Readers, *, folder: Path, seconds: float, flags: tuple[str, ...] = ()
) -> None:
    names = Names(name, "tokenizer", "", "language model" if readers.text else "")
    with shown(source, readers, names=names, folder=folder, size=(1080, 800), flags=flags) as browser:
        measured = "document.querySelector('.times').measured"
        browser.run(f"{measured}.looks = 0; {measured}.chunks.length = 0")
        began = time.perf_counter()
        time.sleep(seconds)
        found = browser.run(measured)
        tell(name, found, time.perf_counter() - began)


def tell(name: str, found: dict[str, Any], seconds: float) -> None:
    chunks = found["chunks"]
    print(
        f"{name}: keypoints of {found['looks'] / seconds:.1f} frames a second, {len(chunks)} chunks in {seconds:.0f} s"
    )
    table = {stage: np.array([chunk.get(stage) or 0.0 for chunk in chunks]) for stage in STAGES}
    sums = {"to tokens": TO_TOKENS, "to text": TO_TEXT, "on the page": STAGES}
    rows = {**table, **{total: np.sum([table[stage] for stage in stages], 0) for total, stages in sums.items()}}
    for row, values in rows.items():
        if values.max(initial=0) >= 0.1:
            half, most = np.quantile(values, (0.5, 0.95))
            print(f"  {row:15} p50 {half:6.1f} ms   p95 {most:6.1f} ms", flush=True)


def as_y4m(path: Path, out: Path) -> Path:
    """What Chromium's fake camera plays."""
    rate = round(read_head(path).rate * 1000)
    with out.open("wb") as file:
        for number, picture in enumerate(pictures(path)):
            height, width = picture.pixels.shape[:2]
            share = min(1.0, WIDE / max(height, width))
            size = (int(width * share) // 2 * 2, int(height * share) // 2 * 2)
            frame = video_library().VideoFrame.from_ndarray(picture.pixels, format="rgb24")
            if not number:
                file.write(f"YUV4MPEG2 W{size[0]} H{size[1]} F{rate}:1000 Ip A1:1 C420jpeg\n".encode())
            file.write(b"FRAME\n" + frame.reformat(*size, "yuv420p").to_ndarray().tobytes())
            if number == MOST:
                break
    return out


if __name__ == "__main__":
    cli.run(main)
