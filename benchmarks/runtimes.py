"""How fast chunks become codes, and codes poses: ONNX Runtime against PyTorch, as it is and compiled, in one run.

    python -m benchmarks.runtimes [--config configs/default.yaml] [--chunks 1] [--rounds 60] [--skip-compiled] [key.path=value ...]

A model of the config's size with codebooks made from its own latents; its weights are not trained, which costs the same. Everyone gets the same
prepared frames, or codes, on one thread and on two, and they take turns. "PyTorch": the tokenizer's own functions. "compiled": torch.compile of the
network that is exported; it needs a C++ compiler. Printed: the median milliseconds of a call with so many chunks, and how many times as fast as
PyTorch in the same turn it is (median over turns). Compiling takes most of the time: `--skip-compiled` leaves it out.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.latency import untrained
from signstream.inference.check_export import check, encode, random_codes, random_poses, read
from signstream.inference.export_model import export, make_network
from signstream.inference.tokenizer import Tokenizer

WARM_UP = 5
Job = Callable[[], object]


def contenders(tokenizer: Tokenizer, kind: str, file: bytes, inputs: Tensor, compiled: bool) -> dict[str, Job | str]:
    """{name: a call, or the reason why there is none}, on this process's threads."""
    eager = partial(encode if kind == "encoder" else Tokenizer.decode_codes, tokenizer, inputs)
    found: dict[str, Job | str] = {
        "PyTorch": eager,
        "ONNX Runtime": partial(read(file, threads=torch.get_num_threads()).run, inputs),
    }
    if compiled:
        network = torch.compile(make_network(tokenizer, kind), dynamic=False)
        try:
            network(inputs)
            found["compiled"] = partial(network, inputs)
        except Exception as error:  # without a C++ compiler, or where torch.compile does not know this Python
            found["compiled"] = f"not measured: {type(error).__name__}, {(str(error) or '?').strip().splitlines()[0]}"
    return found


def turns(jobs: dict[str, Job], rounds: int) -> dict[str, list[float]]:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/default.yaml")
    parser.add_argument(
        "--chunks", type=int, default=1, help="in a call (default: %(default)s, as a live stream has them)"
    )
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--skip-compiled", action="store_true", help="without torch.compile")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    args = parser.parse_intermixed_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = untrained(args.config, args.overrides, Path(scratch), clips=16).tokenizer
    windows = -(-args.chunks // tokenizer.config.data.window)
    print(
        f"{args.config}: calls with {windows * tokenizer.config.data.window} chunks, medians of {args.rounds} turns; torch {torch.__version__}"
    )
    for kind, draw in (("encoder", random_poses), ("decoder", random_codes)):
        inputs, file = draw(tokenizer, windows), export(tokenizer, kind, "onnx")
        verdict = check(read(file), tokenizer, [])
        assert verdict.holds, verdict.lines  # what is wrong is not timed
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with torch.no_grad():
                found = contenders(tokenizer, kind, file, inputs, not args.skip_compiled)
                spent = turns({name: job for name, job in found.items() if callable(job)}, args.rounds)
            for name, job in found.items():
                told = (
                    job
                    if isinstance(job, str)
                    else f"{statistics.median(spent[name]):8.2f} ms   {gain(spent, name):5.2f} times as fast"
                )
                print(f"{kind}, {threads} thread{'s' * (threads > 1)}: {name:12} {told}", flush=True)


def gain(spent: dict[str, list[float]], name: str) -> float:
    return statistics.median(ours / theirs for ours, theirs in zip(spent["PyTorch"], spent[name]))


if __name__ == "__main__":
    main()
