"""Frames a second of `python -m signstream.data.video --workers 2`, beside the estimator alone in two processes.

    python -m benchmarks.video_pace [--film FILE] [--copies 12] [--pairs 3]

So many copies of a film with a person (default: ../shared/data/video/test_video.mp4). The command is a process of its
own, from its start to its end. The estimator's two have it open and the pictures decoded, and see the same clips: each
is begun anew, as MediaPipe does it, so that no clip depends on another. It needs the packages av and mediapipe.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from benchmarks.pairs import Row, in_turn, over, tell
from signstream import cli
from signstream.data.estimator import Estimator, estimator_library, open_estimator
from signstream.errors import UserError
from signstream.io.video_files import pictures

ROOT = Path(__file__).parents[1]
FILM = ROOT.parent / "shared" / "data" / "video" / "test_video.mp4"
WORKERS = 2
COPIES, PAIRS = 12, 3  # a turn takes most of a minute
COMMAND, ALONE = "the command", "the estimator alone"


class Held:
    """What a process of the estimator's has before its turn."""

    see: Estimator
    pictures: list[np.ndarray]


def hold(film: Path) -> None:
    Held.see = open_estimator()
    Held.pictures = [picture.pixels for picture in pictures(film)]


def look(clips: int) -> int:
    for _ in range(clips):
        Held.see.reset()
        for picture in Held.pictures:
            Held.see(picture)
    return len(Held.pictures)


def command(films: Path, outs: Iterator[Path]) -> None:
    out = next(outs)
    arguments = ["-m", "signstream.data.video", films, "--out", out, "--workers", WORKERS]
    subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    clips = len(json.loads(Path(out, "annotations.json").read_text(encoding="utf-8")))
    assert clips == len(list(films.iterdir())), f"{clips} clips came of the films"


def rows(film: Path = FILM, copies: int = COPIES, pairs: int = PAIRS) -> Iterator[Row]:
    if lacking := what_lacks(film):
        print(f"video: left out, {lacking}", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as scratch:
        films = Path(scratch, "films")
        films.mkdir()
        for number in range(copies):
            shutil.copy(film, films / f"copy{number}{film.suffix}")  # links would be one film
        outs = (Path(scratch, f"out{number}") for number in count())
        with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn"), hold, (film,)) as pool:
            shares = [copies // WORKERS] * WORKERS
            frames = next(iter(pool.map(look, [0] * WORKERS))) * sum(shares)
            sides = {COMMAND: partial(command, films, outs), ALONE: lambda: list(pool.map(look, shares))}
            times = in_turn(sides, pairs)
    rates = [f"{frames / statistics.median(times[side]):.1f} frames/s" for side in (COMMAND, ALONE)]
    what = f"video, {WORKERS} workers, {copies} clips of {frames // sum(shares)} frames, {pairs} turns"
    yield Row(what, rates[0], f"{ALONE}, {WORKERS} processes", rates[1], over(times, ALONE, COMMAND), at_least=0.9)


def what_lacks(film: Path) -> str:
    if not film.is_file():
        return f"there is no {film.name}, a film with a person"
    try:
        estimator_library()
        next(iter(pictures(film)))
    except UserError as error:
        return str(error)
    return ""


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--film", type=Path, default=FILM, metavar="FILE")
    parser.add_argument("--copies", type=int, default=COPIES, help="an even number")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    args = parser.parse_args(argv)
    tell(rows(args.film, args.copies, args.pairs))


if __name__ == "__main__":
    cli.run(main)
