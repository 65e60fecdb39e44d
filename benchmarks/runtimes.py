"""How fast chunks become codes, and codes poses: ONNX Runtime against PyTorch, as it is and compiled, in one run.

    python -m benchmarks.runtimes [--config configs/default.yaml] [--chunks 1] [--rounds 60] [key.path=value ...]
    python -m benchmarks.runtimes --skip-compiled

A model of the config's size with codebooks made from its own latents; its weights are not trained, which costs the
same. Everyone gets the same prepared frames, or codes, on one thread and on two, and they take turns. "PyTorch": the
tokenizer's own functions. "compiled": torch.compile of the network that is exported; it needs a C++ compiler. Printed:
the median milliseconds of a call with so many chunks, and how many times as fast as PyTorch in the same turn it is
(median over turns). Compiling takes most of the time: `--skip-compiled` leaves it out.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.latency import untrained
from signstream import cli
from signstream.inference.model_file.compare import check, encode
from signstream.inference.model_file.file import first_line, read
from signstream.inference.model_file.network import make_network
from signstream.inference.model_file.samples import random_codes, random_poses
from signstream.inference.model_file.write import export
from signstream.inference.tokenizer import Tokenizer

WARM_UP = 5
Job = Callable[[], object]


def by_torch(tokenizer: Tokenizer, kind: str, inputs: Tensor) -> Job:
    return partial(encode, tokenizer, inputs) if kind == "encoder" else partial(tokenizer.decode_codes, inputs)


def compiled(tokenizer: Tokenizer, kind: str, inputs: Tensor) -> Job | str:
    """A call, or the reason why there is none."""
    network = torch.compile(make_network(tokenizer, kind), dynamic=False)
    try:
        network(inputs)
    except Exception as error:  # without a C++ compiler, or where torch.compile does not know this Python
        return f"not measured: {type(error).__name__}, {first_line(error)}"
    return partial(network, inputs)


def turns(jobs: Mapping[str, Job], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each job in each round, in which every job has its turn; who goes first changes."""
    spent: dict[str, list[float]] = {name: [] for name in jobs}
    order = list(jobs)
    for turn in range(rounds + WARM_UP):
        order = order[1:] + order[:1]
        for name in order:
            began = time.perf_counter()
            jobs[name]()
            if turn >= WARM_UP:
                spent[name].append((time.perf_counter() - began) * 1e3)
    return spent


def gain(torch_ms: Sequence[float], ms: Sequence[float]) -> float:
    return statistics.median(slow / fast for slow, fast in zip(torch_ms, ms))


@torch.no_grad()
def compare(tokenizer: Tokenizer, kind: str, windows: int, *, rounds: int, compile_too: bool) -> None:
    """Prints a line for everyone, on one thread and on two."""
    inputs = (random_poses if kind == "encoder" else random_codes)(tokenizer, windows)
    file = export(tokenizer, kind, "onnx")
    verdict = check(read(file), tokenizer, [])
    assert verdict.holds, verdict.lines  # what is wrong is not timed
    for threads in (1, 2):
        torch.set_num_threads(threads)
        sides: dict[str, Job | str] = {"PyTorch": by_torch(tokenizer, kind, inputs)}
        sides["ONNX Runtime"] = partial(read(file, threads=threads).run, inputs)
        if compile_too:
            sides["compiled"] = compiled(tokenizer, kind, inputs)
        spent = turns({name: job for name, job in sides.items() if not isinstance(job, str)}, rounds)
        for name, job in sides.items():
            if isinstance(job, str):
                line = job
            else:
                times = gain(spent["PyTorch"], spent[name])
                line = f"{statistics.median(spent[name]):8.2f} ms   {times:5.2f} times as fast"
            print(f"{kind}, {threads} thread{'s' * (threads > 1)}: {name:12} {line}", flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--config", default="configs/default.yaml")
    parser.add_argument(
        "--chunks", type=int, default=1, help="in a call (default: %(default)s, as a live stream has them)"
    )
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--skip-compiled", action="store_true", help="without torch.compile")
    args = cli.parse_with_overrides(parser, argv, "for example model.arch=mlp")
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = untrained(args.config, args.overrides, Path(scratch), clips=16).tokenizer
    windows = -(-args.chunks // tokenizer.config.data.window)
    chunks = windows * tokenizer.config.data.window
    print(f"{args.config}: calls with {chunks} chunks, medians of {args.rounds} turns; torch {torch.__version__}")
    for kind in ("encoder", "decoder"):
        compare(tokenizer, kind, windows, rounds=args.rounds, compile_too=not args.skip_compiled)


if __name__ == "__main__":
    cli.run(main)
