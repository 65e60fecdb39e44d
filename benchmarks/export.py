"""How fast a split becomes tokens, against the model's own forward passes on the same chunks in the same run.

    python -m benchmarks.export [--config FILE] [--clips 300] [--pairs 5] [--processes 2] [key.path=value ...]

Each process has one thread and a share of the clips, as export_tokens under torchrun. "all codes": every level of
every part, no holding. "budget": the config's codes_per_chunk, with holding. "forward": the passes that these need,
alone: one encoding, and for the budget a decoding from every number of levels. Medians over turns; times real time at
the config's frame rate.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.latency import untrained
from signstream import cli
from signstream.data.cache import open_cache
from signstream.inference.batches import groups
from signstream.inference.export import Form
from signstream.inference.tokenizer import Encoded, Tokenizer
from signstream.io.pose_cache import PoseCache
from signstream.training import checkpoint


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


def work(share: Share, barrier: Any, times: Any) -> None:
    torch.set_num_threads(1)
    tokenizer = Tokenizer(checkpoint.load(share.state))
    cache = open_cache(tokenizer.config.data, quiet=True)
    clips = cache.split("train")[share.number :: share.processes]
    batches = [tokenizer.chunks_of([cache.frames(i) for i in group], group) for group in groups(cache, clips)]
    inputs = [tokenizer.views.of(batch)[0] for batch in batches]
    settings = {"all codes": ("full", 0.0), "budget": (tokenizer.codes_per_chunk, tokenizer.hold)}
    for turn in range(share.pairs + 1):  # the first warms up
        for name, (rate, hold) in settings.items():
            tokenizer.codes_per_chunk, tokenizer.hold = rate, hold
            jobs: dict[str, Callable[[], None]] = {
                name: partial(export, tokenizer, cache, clips, out=share.out),
                f"{name}, forward": partial(forward, tokenizer, inputs, name == "budget"),
            }
            for what, job in jobs.items():
                barrier.wait()
                began = time.perf_counter()
                job()
                barrier.wait()
                if share.number == 0 and turn:
                    times.put((what, time.perf_counter() - began))


def measured(state: Path, args: argparse.Namespace) -> dict[str, list[float]]:
    """{what was done: seconds of each turn}."""
    context = multiprocessing.get_context("spawn")
    barrier, times = context.Barrier(args.processes), context.Queue()
    shares = [
        Share(state, state.with_name(f"{number}.rows"), number, args.processes, args.pairs)
        for number in range(args.processes)
    ]
    jobs = [context.Process(target=work, args=(share, barrier, times)) for share in shares]
    for job in jobs:
        job.start()
    seconds: dict[str, list[float]] = {}
    for _ in range(4 * args.pairs):
        what, spent = times.get()
        seconds.setdefault(what, []).append(spent)
    for job in jobs:
        job.join()
    return seconds


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--config", default="configs/default.yaml")
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    args = cli.parse_with_overrides(parser, argv, "for example model.arch=mlp")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer, cache, state = untrained(args.config, args.overrides, Path(scratch), clips=args.clips)
        file = Path(scratch, "state.pt")
        checkpoint.save(state, file)
        frames = sum(cache.clips[i].length for i in cache.split("train"))
        seconds = measured(file, args)
    print(f"{frames} frames, {args.processes} processes of one thread")
    for what, spent in seconds.items():
        rate = frames / statistics.median(spent)
        print(f"{what:22} {rate:9.0f} frames/s {rate / tokenizer.config.data.fps:7.0f} times real time")
    for name in ("all codes", "budget"):
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds[f"{name}, forward"]))
        print(f"{name} takes {ratio:.2f} times its forward passes alone")


if __name__ == "__main__":
    cli.run(main)
