"""A training step on two ranks over gloo beside the same work in one process, and the bytes that a rank sends for it.

    python -m benchmarks.ranks [--config configs/quickstart.yaml] [--steps 2] [key.path=value ...]

Each rank has one thread and as many clips as the one process; all sides take turns in the same two processes. "side by
side": both of them, each for itself, so what two busy cores take without a word between them. The fewest bytes are
those of a ring, 2 (W - 1) / W times the gradients' own; what is sent beyond them is mostly the codebooks' sums.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.pairs import PAIRS, Row, Work, in_turn, tell
from signstream import cli, registry
from signstream.config import load_config
from signstream.data.synthetic.dataset import make_dataset
from signstream.training.distributed import Ranks, start
from signstream.training.loop import Loop
from signstream.training.seed import seed_everything

WORLD = 2
CLIPS = 200
WARM_UP = 8  # steps before the first turn: the codebooks are made at the fourth
STEPS = 2  # of a turn
QUICKSTART = "configs/quickstart.yaml"
TOGETHER, SIDE_BY_SIDE, ALONE = "two ranks", "two processes side by side", "one process"
IO = Path("/proc/self/io")  # of Linux


class Measured(NamedTuple):
    """By a rank."""

    times: dict[str, list[float]]
    sent: int  # bytes a step; 0 where the system does not count them
    fewest: float


def begin(config: Any, ranks: Ranks) -> Loop:
    seed_everything(config.train.seed, ranks.rank)
    task = registry.find("task", config.task).open(config, ranks)
    loop = Loop(task, config, ranks, clips=config.train.clips_per_step)
    task.begin()
    return loop


def steps_of(loop: Loop, raw: Any, count: int) -> None:
    for _ in range(count):
        loop.step(raw)


def written() -> int:
    return int(IO.read_text().split("wchar:")[1].split()[0]) if IO.exists() else 0


def on_rank(rank: int, port: int, *, options: Sequence[str], file: str, count: int) -> Measured:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(WORLD))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    config = load_config(file, options)
    with start("cpu", threads=1) as ranks:
        together, alone = begin(config, ranks), begin(config, Ranks())
        raw = next(iter(together.loader))
        for loop in (together, alone):
            steps_of(loop, raw, WARM_UP)

        def after_the_other(loop: Loop, also: bool = True) -> None:
            """A turn begins when both are there; `also`: whether the other rank works too."""
            ranks.barrier()
            if also or ranks.is_main:
                steps_of(loop, raw, count)

        sides: dict[str, Work] = {
            TOGETHER: partial(after_the_other, together),
            SIDE_BY_SIDE: partial(after_the_other, alone),
            ALONE: partial(after_the_other, alone, also=False),
        }
        times = in_turn(sides, PAIRS)
        ranks.barrier()
        before = written()
        steps_of(together, raw, count)
        sent = (written() - before) // count
    gradients = sum(p.numel() * p.element_size() for p in together.task.model.parameters() if p.requires_grad)
    return Measured(times, sent, 2 * (WORLD - 1) / WORLD * gradients)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def measure(file: str, overrides: Sequence[str], count: int) -> Measured:
    """What rank 0 says."""
    with tempfile.TemporaryDirectory() as scratch:
        root = make_dataset(Path(scratch, "data"), clips=CLIPS)
        options = (f"data.root={root}", f"data.cache={scratch}/cache", "train.warmup_steps=4", *overrides)
        with ProcessPoolExecutor(WORLD, multiprocessing.get_context("spawn")) as pool:
            work = partial(on_rank, port=free_port(), options=options, file=file, count=count)
            return next(iter(pool.map(work, range(WORLD))))


def megabytes(count: float) -> str:
    return f"{count / 1e6:.2f} MB"


def rows(file: str = QUICKSTART, overrides: Sequence[str] = (), count: int = STEPS) -> Iterator[Row]:
    found = measure(file, overrides, count)
    times = {name: [spent / count for spent in values] for name, values in found.times.items()}
    what = f"a step of {Path(file).name} on two gloo ranks of one thread, the same work a rank"
    yield Row.of(what, times, ours=TOGETHER, against=ALONE, at_most=1.2)
    yield Row.of(what, times, ours=TOGETHER, against=SIDE_BY_SIDE, at_most=1.1)
    if found.sent:
        shown = (megabytes(found.sent), "the fewest: a ring's, of the gradients alone", megabytes(found.fewest))
        yield Row("what a rank sends a step", *shown, found.sent / found.fewest, at_most=1.25)


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--config", default=QUICKSTART)
    parser.add_argument("--steps", type=int, default=STEPS, help="of a turn")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    args = parser.parse_intermixed_args(argv)
    tell(rows(args.config, args.overrides, args.steps))


if __name__ == "__main__":
    cli.run(main)
