"""How fast a split becomes tokens, against the model's own forward passes on the same chunks in the same run.

    python -m benchmarks.export [--config FILE] [--clips 300] [--pairs 5] [--processes 2] [key.path=value ...]

Each process has one thread and a share of the clips, as export_tokens under torchrun. "all codes": every level of
every part, no holding. "budget": the config's codes_per_chunk, with holding. "forward": the passes that these need,
alone: one encoding, and for the budget a decoding from every number of levels. Medians over turns; times real time at
the config's frame rate.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.latency import CONFIG, untrained
from benchmarks.pairs import PAIRS, Row, Work, in_turn, over
from signstream import cli
from signstream.data.cache import open_cache
from signstream.inference.batches import groups
from signstream.inference.export import Form
from signstream.inference.tokenizer import Encoded, Tokenizer
from signstream.io.pose_cache import PoseCache
from signstream.training import checkpoint

# times real time, of what is exported
GOALS = (("all codes", "all codes", 300), ("budget", "budget and holding", 150))


class Share(NamedTuple):
    """What one process does."""

    state: Path
    out: Path
    number: int  # of the process
    processes: int
    pairs: int


def export(tokenizer: Tokenizer, cache: PoseCache, clips: Sequence[int], *, out: Path) -> None:
    form = Form(tokenizer.parts, "chunk", tokenizer.hold > 0)
    with out.open("wb") as file:
        for group in groups(cache, clips):
            names = [cache.clips[i].name for i in group]
            for i, tokens in zip(group, tokenizer.encode_prepared([cache.frames(i) for i in group], names)):
                file.write(form.row(i, Encoded(tokens, None), cache.clips[i]))


@torch.no_grad()
def forward(tokenizer: Tokenizer, inputs: Sequence[list[Tensor]], budget: bool) -> None:
    for views in inputs:
        latents, _ = tokenizer.model.read(views)
        if budget:
            tokenizer.model.decode_prefixes(tokenizer.model.prefixes(latents))


def sides(share: Share, tokenizer: Tokenizer, barrier: Any) -> dict[str, Work]:
    """Each ends when the last process is done with it."""
    cache = open_cache(tokenizer.config.data, quiet=True)
    clips = cache.split("train")[share.number :: share.processes]
    batches = [tokenizer.chunks_of([cache.frames(i) for i in group], group) for group in groups(cache, clips)]
    inputs = [tokenizer.views.of(batch)[0] for batch in batches]
    settings = {"all codes": ("full", 0.0), "budget": (tokenizer.codes_per_chunk, tokenizer.hold)}

    def exported(name: str) -> None:
        tokenizer.codes_per_chunk, tokenizer.hold = settings[name]
        export(tokenizer, cache, clips, out=share.out)
        barrier.wait()

    def passed(name: str) -> None:
        forward(tokenizer, inputs, name == "budget")
        barrier.wait()

    works = {"": exported, ", forward": passed}
    return {f"{name}{what}": partial(work, name) for name in settings for what, work in works.items()}


def work(share: Share, barrier: Any, times: Any) -> None:
    torch.set_num_threads(1)
    spent = in_turn(sides(share, Tokenizer(checkpoint.load(share.state)), barrier), share.pairs)
    if share.number == 0:
        times.put(spent)


class Measured(NamedTuple):
    frames: int  # of all clips
    fps: float
    seconds: dict[str, list[float]]  # of each turn, by what was done

    @property
    def real_time(self) -> dict[str, list[float]]:
        turns = len(self.seconds["budget"])
        return {**self.seconds, "real time": [self.frames / self.fps] * turns}


def measured(config: str, overrides: list[str], *, clips: int, pairs: int, processes: int) -> Measured:
    torch.set_num_threads(1)
    context = multiprocessing.get_context("spawn")
    barrier, times = context.Barrier(processes), context.Queue()
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer, cache, state = untrained(config, overrides, Path(scratch), clips=clips)
        file = Path(scratch, "state.pt")
        checkpoint.save(state, file)
        shares = [Share(file, file.with_name(f"{n}.rows"), n, processes, pairs) for n in range(processes)]
        jobs = [context.Process(target=work, args=(share, barrier, times)) for share in shares]
        for job in jobs:
            job.start()
        seconds = times.get()
        for job in jobs:
            job.join()
    frames = sum(cache.clips[i].length for i in cache.split("train"))
    return Measured(frames, tokenizer.config.data.fps, seconds)


def rows() -> Iterator[Row]:
    times = measured(CONFIG, [], clips=80, pairs=PAIRS, processes=2).real_time
    for name, what, goal in GOALS:
        yield Row.of(f"export, {what}, 2 processes", times, ours=name, against="real time", at_least=goal)


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--config", default=CONFIG)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    args = cli.parse_with_overrides(parser, argv, "for example model.arch=mlp")
    sizes = {"clips": args.clips, "pairs": args.pairs, "processes": args.processes}
    frames, fps, seconds = measured(args.config, args.overrides, **sizes)
    print(f"{frames} frames, {args.processes} processes of one thread")
    for what, spent in seconds.items():
        rate = frames / statistics.median(spent)
        print(f"{what:22} {rate:9.0f} frames/s {rate / fps:7.0f} times real time")
    for name in ("all codes", "budget"):
        print(f"{name} takes {over(seconds, name, f'{name}, forward'):.2f} times its forward passes alone")


if __name__ == "__main__":
    cli.run(main)
