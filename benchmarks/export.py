"""How fast a split becomes tokens, against the model's own forward passes on the same chunks in the same run.

    python -m benchmarks.export [--config configs/default.yaml] [--clips 300] [--pairs 5] [--processes 2] [key.path=value ...]

Each process has one thread and a share of the clips, as export_tokens under torchrun. "all codes": every level of every part, no holding. "budget":
the config's codes_per_chunk, with holding. "forward": the passes that these need, alone: one encoding, and for the budget a decoding from every
number of levels. Medians over turns; times real time at the config's frame rate.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks.latency import untrained
from signstream.config import to_dict
from signstream.data.cache import open_cache
from signstream.data.collate import make_chunks
from signstream.inference.export_tokens import Form, groups
from signstream.inference.tokenizer import Tokenizer
from signstream.io.batch import pack
from signstream.io.pose_cache import PoseCache
from signstream.training import checkpoint


def export(tokenizer: Tokenizer, cache: PoseCache, clips: list[int], out: Path) -> None:
    form = Form(tokenizer.parts, "chunk", tokenizer.hold > 0)
    with out.open("wb") as file:
        for group in groups(cache, clips):
            for i, tokens in zip(
                group, tokenizer.encode_prepared([cache.frames(i) for i in group], [cache.clips[i].name for i in group])
            ):
                file.write(form.row(i, tokens, ""))


@torch.no_grad()
def forward(tokenizer: Tokenizer, inputs: list, budget: bool) -> None:
    for views in inputs:
        codes = tokenizer.model.tokenise(views)
        if budget:
            tokenizer.model.decode_prefixes(codes)


def work(state: Path, pairs: int, number: int, processes: int, out: Path, barrier, times) -> None:
    torch.set_num_threads(1)
    tokenizer = Tokenizer(checkpoint.load(state))
    cache = open_cache(tokenizer.config.data, quiet=True)
    clips = cache.split("train")[number::processes]
    budget = tokenizer.codes_per_chunk, tokenizer.hold
    inputs = [
        tokenizer.views.of(
            make_chunks(pack([cache.frames(i) for i in group], group), cache.skeleton, tokenizer.config.data)
        )[0]
        for group in groups(cache, clips)
    ]
    for turn in range(pairs + 1):  # the first warms up
        for name, (rate, hold) in (("all codes", ("full", 0.0)), ("budget", budget)):
            tokenizer.codes_per_chunk, tokenizer.hold = rate, hold
            passes = partial(forward, tokenizer, inputs, name == "budget")
            for what, job in ((name, partial(export, tokenizer, cache, clips, out)), (f"{name}, forward", passes)):
                barrier.wait()
                began = time.perf_counter()
                job()
                barrier.wait()
                if number == 0 and turn:
                    times.put((what, time.perf_counter() - began))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/default.yaml")
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    args = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        tokenizer, cache = untrained(args.config, args.overrides, scratch, args.clips)
        checkpoint.save(
            {
                "step": 0,
                "config": to_dict(tokenizer.config),
                "model": tokenizer.model.state_dict(),
                "space": tokenizer.views.space.state_dict(),
                "budget": tokenizer.budget.state_dict(),
            },
            scratch / "state.pt",
        )
        frames, fps = sum(cache.clips[i].length for i in cache.split("train")), tokenizer.config.data.fps
        context = multiprocessing.get_context("spawn")
        barrier, times = context.Barrier(args.processes), context.Queue()
        jobs = [
            context.Process(
                target=work,
                args=(scratch / "state.pt", args.pairs, n, args.processes, scratch / f"{n}.rows", barrier, times),
            )
            for n in range(args.processes)
        ]
        for job in jobs:
            job.start()
        found: dict[str, list[float]] = {}
        for _ in range(4 * args.pairs):
            what, seconds = times.get()
            found.setdefault(what, []).append(seconds)
        for job in jobs:
            job.join()
    print(f"{frames} frames, {args.processes} processes of one thread")
    for what, spent in found.items():
        rate = frames / statistics.median(spent)
        print(f"{what:22} {rate:9.0f} frames/s {rate / fps:7.0f} times real time")
    for name in ("all codes", "budget"):
        ratio = statistics.median(a / b for a, b in zip(found[name], found[f"{name}, forward"]))
        print(f"{name} takes {ratio:.2f} times its forward passes alone")


if __name__ == "__main__":
    main()
