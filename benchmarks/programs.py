"""Whole programs beside their limits: --help of every door, `import signstream`, `bash train.sh` of a new copy, the
tests.

    python -m benchmarks.programs [--only tests|help|train]

help: ten runs of each, the slowest door counts. train and tests: once, with the active Python and all cores; a peak is
that of the largest process.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.pairs import PAIRS, Row, in_turn, shown_seconds, tell
from signstream import cli

ROOT = Path(__file__).parents[1]
HELP, IMPORT, QUICKSTART, SUITE = 0.2, 0.1, 90.0, 360.0  # seconds
MEMORY = 1.2  # GiB
BARE = "import sys, signstream; assert 'torch' not in sys.modules"
TREE = ("configs", "scripts", "signstream", "requirements.txt", "train.sh")  # what train.sh needs


class Spent(NamedTuple):
    seconds: float
    gib: float  # at the peak of its largest process


def doors() -> list[str]:
    files = sorted((ROOT / "signstream").rglob("*.py"))
    found = [file for file in files if re.search(r"^    cli\.run\(main\)$", file.read_text(encoding="utf-8"), re.M)]
    return [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__") for file in found]


def python(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)


def beside(what: str, spent: float, limit: float) -> Row:
    return Row(what, shown_seconds(spent), "the limit", shown_seconds(limit), spent / limit, at_most=1)


def starts() -> Iterator[Row]:
    names = doors()
    sides = {name: partial(python, "-m", name, "--help") for name in names}
    times = in_turn({**sides, "import": partial(python, "-c", BARE)}, PAIRS)
    spent = {name: statistics.median(values) for name, values in times.items()}
    slowest = max(names, key=lambda name: spent[name])
    yield beside(f"--help, the slowest of {len(names)} doors: {slowest}", spent[slowest], HELP)
    yield beside("`import signstream`, which leaves torch alone", spent["import"], IMPORT)


def bash(folder: Path, script: str) -> Spent:
    """With this Python the active one and as many threads as it takes unasked."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    unasked = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", *cli.SPINNING)}
    began = time.perf_counter()
    child = subprocess.Popen(["bash", script], cwd=folder, env={**unasked, "PATH": path}, stdout=sys.stderr)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{script} ended with {child.returncode}")
    unit = 1 << (30 if sys.platform == "darwin" else 20)  # of a GiB, in what the system counts
    return Spent(time.perf_counter() - began, used.ru_maxrss / unit)


def quickstart() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        for name in TREE:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, Path(scratch, name), ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / name, scratch)
        spent = bash(Path(scratch), "train.sh")
    yield beside("`bash train.sh` of a new copy, once", spent.seconds, QUICKSTART)
    shown = (f"{spent.gib:.2f} GiB", "the limit", f"{MEMORY:g} GiB")
    yield Row("its largest process", *shown, spent.gib / MEMORY, at_most=1)


def suite() -> Iterator[Row]:
    yield beside("`bash tests/run.sh`, once", bash(ROOT, "tests/run.sh").seconds, SUITE)


PARTS = {"tests": suite, "help": starts, "train": quickstart}


def rows() -> Iterator[Row]:
    for part in PARTS.values():
        yield from part()


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--only", choices=PARTS)
    args = parser.parse_args(argv)
    tell(PARTS[args.only]() if args.only else rows())


if __name__ == "__main__":
    cli.run(main)
