"""What a frame costs as work grows, and whether memory stays flat: 1, 4 and 16 times the clips, 10 times the frames.

    python -m benchmarks.growth [--only time|memory]

time: the tokens of an untrained tokenizer of configs/quickstart.yaml, and a scan with its gradient (the only part of a
recogniser that looks beyond its neighbours), in one process on one thread, by that process's own time. memory: what is
the process's own at its peak, of export_tokens over 4 and 16 times the clips, each in a process of its own.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.endurance import door, many_clips, memory_of
from benchmarks.latency import untrained
from benchmarks.pairs import PAIRS, Row, Times, Work, in_turn, tell
from benchmarks.scan import CHUNK, given, sides
from signstream import cli
from signstream.inference.batches import BATCH_FRAMES
from signstream.inference.tokenizer import Tokenizer
from signstream.training import checkpoint

CONFIG = "configs/quickstart.yaml"
CLIPS, FRAMES = 10, 60  # of 1 time the work
LONGER = 10
STEPS = 200  # of a scan of 1 time the length
UNIT, DIFFERENT = 60, 60  # clips of an export of 1 time the work, and of those how many are different
NEAR = 1.10


def tokens(tokenizer: Tokenizer, clips: Sequence[np.ndarray]) -> None:
    """As an export makes them, so many frames at a time."""
    at_once = BATCH_FRAMES // len(clips[0])
    for first in range(0, len(clips), at_once):
        group = clips[first : first + at_once]
        tokenizer.encode_prepared(group, ["clip"] * len(group))


def grown(what: str, times: Times, *, less: str, more: str, factor: int) -> Row:
    """More work beside so many times the seconds of less."""
    against = f"{factor} times {less}" if factor > 1 else less
    linear = {more: times[more], against: [factor * spent for spent in times[less]]}
    return Row.of(what, linear, ours=more, against=against, at_most=NEAR)


def by_clips_and_frames() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer, cache, _ = untrained(CONFIG, [], Path(scratch), clips=40)
        poses = np.concatenate([cache.frames(i) for i in cache.split("train")])
    short = np.resize(poses, (16 * CLIPS, FRAMES, *poses.shape[1:]))
    long = np.resize(poses, (4 * CLIPS // LONGER, LONGER * FRAMES, *poses.shape[1:]))
    jobs: dict[str, Work] = {
        f"{times} x {CLIPS} clips": partial(tokens, tokenizer, list(short[: times * CLIPS])) for times in (1, 4, 16)
    }
    jobs["long clips"] = partial(tokens, tokenizer, list(long))
    times = in_turn(jobs, PAIRS, clock=time.process_time)
    first, middle, last, longer = jobs
    what = f"tokens of clips of {FRAMES} frames"
    yield grown(f"{what}: {middle}", times, less=first, more=middle, factor=4)
    yield grown(f"{what}: {last}", times, less=middle, more=last, factor=4)
    yield grown(f"tokens of clips {LONGER} times as long, as many frames", times, less=middle, more=longer, factor=1)


def by_length() -> Iterator[Row]:
    both = {steps: sides(given(1, steps), CHUNK)["scan, train"] for steps in (STEPS, LONGER * STEPS)}
    jobs = {f"{steps} steps": work for steps, work in both.items()}
    times = in_turn(jobs, PAIRS, clock=time.process_time)
    less, more = jobs
    yield grown(f"a scan and its gradient: {more}", times, less=less, more=more, factor=LONGER)


def in_memory() -> Iterator[Row]:
    peaks = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made = untrained(CONFIG, [], folder / "model", clips=40)
        checkpoint.save(made.state, folder / "state.pt")
        for times in (4, 16):
            root = many_clips(folder, times * UNIT, FRAMES, different=DIFFERENT)
            data = [f"data.root={root}", f"data.cache={folder / 'cache'}"]
            out = folder / f"{times}.jsonl"
            command = door("export_tokens", "--checkpoint", folder / "state.pt", "--split", "test", "--out", out)
            peaks.append(max(memory_of([*command, *data])))
    shown = [f"{peak:.0f} MB" for peak in peaks]
    what = f"memory of export_tokens at its peak, {16 * UNIT} clips"
    yield Row(what, shown[1], f"{4 * UNIT} clips", shown[0], peaks[1] / peaks[0], at_most=NEAR)


PARTS = {"time": (by_clips_and_frames, by_length), "memory": (in_memory,)}


def rows(parts: Sequence[str] = tuple(PARTS)) -> Iterator[Row]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for part in parts:
        for measured in PARTS[part]:
            yield from measured()


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--only", choices=PARTS)
    args = parser.parse_args(argv)
    tell(rows([args.only] if args.only else tuple(PARTS)))


if __name__ == "__main__":
    cli.run(main)
