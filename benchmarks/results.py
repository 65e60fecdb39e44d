"""Every measured row beside its peer or limit: benchmarks/RESULTS.md. `bash benchmarks/run.sh` finds a Python for it.

    python -m benchmarks.results [--only quantizer,scan] [--out benchmarks/RESULTS.md]

Each module of MODULES has `rows()`, which gives benchmarks.pairs.Row, and runs in a process of its own, on one thread
unless it says otherwise. Nothing else should run on the machine. A module whose optional packages are missing says so
and gives no row; one that fails is said in the page, and the exit status is 1.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from benchmarks.pairs import PAIRS, Row
from signstream import cli

MODULES = (
    *("programs", "quantizer", "train_step", "latency", "export"),
    *("scan", "recognition_step", "translation_step", "generation"),
    *("data_path", "growth", "video_pace", "busy", "ranks"),
)
VERSIONS = ("torch", "numpy", "transformers", "tokenizers", "mediapipe", "av", "vector-quantize-pytorch")
HEADS = ("what", "ours", "beside", "takes", "ratio", "goal", "")


class Found(NamedTuple):
    """What a module said."""

    module: str
    rows: list[Row]
    fault: str  # "" if none


def measured(module: str) -> Found:
    command = [sys.executable, "-m", "benchmarks.results", "--rows", module]
    run = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True)
    rows = [Row(**json.loads(line)) for line in run.stdout.splitlines() if line.startswith("{")]
    return Found(module, rows, f"`{module}` ended with {run.returncode}" if run.returncode else "")


def machine() -> str:
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = next((int(line.split()[1]) >> 20 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {names[0] if names else platform.machine()}, {memory} GiB"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def versions() -> str:
    installed = {each.metadata["Name"].lower(): each.version for each in metadata.distributions()}
    named = [f"{name} {installed[name]}" for name in VERSIONS if name in installed]
    return ", ".join([f"Python {platform.python_version()}", *named])


def page(found: Sequence[Found], began: float) -> Iterator[str]:
    minutes = (time.time() - began) / 60
    yield "# What is measured\n"
    names = [module.module for module in found]
    command = "bash benchmarks/run.sh" + ("" if names == [*MODULES] else f" --only {','.join(names)}")
    yield f"{machine()}; {versions()}. {time.strftime('%Y-%m-%d')}, `{command}`, {minutes:.0f} minutes.\n"
    yield f"Medians over {PAIRS} turns of both sides where a row does not say otherwise, in one run; a ratio is the"
    yield "median of the pairs': ours over the other where there is a most, else the other over ours.\n"
    yield f"| {' | '.join(HEADS)} |"
    yield "|" + "---|" * len(HEADS)
    for module in found:
        for row in module.rows:
            verdict = "" if row.reached else "missed"
            cells = (row.what, row.ours, row.against, row.other, f"{row.ratio:.3g}", row.goal, verdict)
            yield f"| {' | '.join(cells)} |"
    for module in found:
        if module.fault:
            yield f"\nNot whole: {module.fault}."


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--only", type=lambda text: text.split(","), default=MODULES, metavar="MODULE,...")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/RESULTS.md"), metavar="FILE")
    parser.add_argument("--rows", metavar="MODULE", help="this one's rows alone, as JSON lines")
    args = parser.parse_args(argv)
    if args.rows:
        for row in importlib.import_module(f"benchmarks.{args.rows}").rows():
            print(json.dumps(asdict(row)), flush=True)
        return 0
    began, found = time.time(), []
    for module in args.only:
        found.append(measured(module))
        args.out.write_text("\n".join(page(found, began)) + "\n", encoding="utf-8")
        print(f"{module}: {len(found[-1].rows)} rows, {time.time() - began:.0f} s", flush=True)
    return int(any(module.fault for module in found))


if __name__ == "__main__":
    cli.run(main)
