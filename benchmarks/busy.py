"""How long a training step takes beside other programs, by how long OpenMP's threads spin before they sleep.

    python -m benchmarks.busy [--steps 10] [--rounds 2] [--programs 2] [--threads 2] [--only door,default] [key=value]

It trains the quickstart with signstream.training.train_rvq, once for each setting alone and once beside `--programs`
busy programs of `--threads` threads each, and reads the run's speed.jsonl. Printed: the median of a step, alone and
beside them, the ratio of both, and the step alone over that of the library's own setting. On two cores the fair share
beside two programs of two threads is a third: a busy ratio is 3 at least where both of our threads work all the time.
`door` is what our programs set themselves (signstream/cli.py), `default` what the library does unasked: these two take
about eight minutes, and each other of SETTINGS four more.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.pairs import Row

SPINNING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
SETTINGS: dict[str, dict[str, str]] = {
    # LLVM's and Intel's own value, which GNU's library does not read; a door that finds it sets nothing.
    "default": {"KMP_BLOCKTIME": "200"},
    "door": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin 1000": {"GOMP_SPINCOUNT": "1000"},
    "spin 10000": {"GOMP_SPINCOUNT": "10000"},
    "spin 100000": {"GOMP_SPINCOUNT": "100000"},
    "block 0 ms": {"KMP_BLOCKTIME": "0"},
    "block 1 ms": {"KMP_BLOCKTIME": "1"},
}
WARM_UP = 8  # steps that are not counted: the first codebooks are made at step 4
BUSY = """
import hashlib, os, threading, time
def work():
    while True:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 200000)  # lets go of Python's lock
for _ in range({threads}):
    threading.Thread(target=work, daemon=True).start()
while os.getppid() == {parent}:  # goes when the benchmark goes, however that ends
    time.sleep(0.5)
"""


@contextmanager
def load(programs: int, threads: int) -> Iterator[None]:
    """So many busy programs beside what runs inside."""
    command = [sys.executable, "-c", BUSY.format(threads=threads, parent=os.getpid())]
    others = [subprocess.Popen(command) for _ in range(programs)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def train(options: list[str], environment: dict[str, str], folder: Path, steps: int) -> list[float]:
    """Milliseconds of `steps` steps, after those of the warm-up, of a run that is then stopped."""
    command = [sys.executable, "-m", "signstream.training.train_rvq", *options, f"save_path={folder}"]
    clean = {name: value for name, value in os.environ.items() if name not in (*SPINNING, "OMP_NUM_THREADS")}
    run = subprocess.Popen(command, env={**clean, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while run.poll() is None:
            spent = milliseconds(folder)
            if len(spent) >= WARM_UP + steps:
                return spent[WARM_UP : WARM_UP + steps]
            time.sleep(0.2)
        sys.exit(f"the run ended before {WARM_UP + steps} steps:\n{run.stderr.read().decode() if run.stderr else ''}")
    finally:
        run.kill()
        run.wait()


def milliseconds(folder: Path) -> list[float]:
    """Of each step so far; a line that is being written is left for the next time."""
    lines = [line for file in folder.glob("*/*/speed.jsonl") for line in file.read_text().splitlines(keepends=True)]
    return [json.loads(line)["ms"] for line in lines if line.endswith("\n")]


def measure(args: argparse.Namespace, scratch: Path) -> dict[str, dict[str, list[float]]]:
    """{setting: {"alone" | "busy": ms of all rounds}}. A round goes through all settings: a slow minute meets each."""
    data = scratch / "data"
    subprocess.run(
        [sys.executable, "-m", "signstream.data.synthetic", "--out", str(data), "--clips", "300", "--seed", "0"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    options = [f"--config={args.config}", f"data.root={data}", f"data.cache={scratch / 'cache'}", "train.epochs=1000"]
    options += ["train.eval_every=1000", "train.warmup_steps=4", "train.log_every=1", *args.overrides]
    spent: dict[str, dict[str, list[float]]] = {name: {"alone": [], "busy": []} for name in args.only}
    for number in range(args.rounds):
        for name in args.only:
            folder = scratch / f"{name} {number}"
            spent[name]["alone"] += train(options, SETTINGS[name], folder / "alone", args.steps)
            say(f"round {number + 1}, {name}, alone", spent[name]["alone"][-args.steps :])
            with load(args.programs, args.threads):
                spent[name]["busy"] += train(options, SETTINGS[name], folder / "busy", args.steps)
            say(f"round {number + 1}, {name}, busy", spent[name]["busy"][-args.steps :])
    return spent


def say(what: str, spent: list[float]) -> None:
    print(f"{what}: {statistics.median(spent):.0f} ms", file=sys.stderr, flush=True)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/quickstart.yaml")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--programs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", type=lambda text: text.split(","), default=["default", "door"], metavar="SETTING,...")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    return parser


def medians(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """{setting: {"alone" | "busy": ms}}."""
    with tempfile.TemporaryDirectory() as scratch:
        return {
            name: {kind: statistics.median(values) for kind, values in both.items()}
            for name, both in measure(args, Path(scratch)).items()
        }


def rows() -> Iterator[Row]:
    args = make_parser().parse_args(["--only", "door", "--rounds", "1"])
    found = medians(args)["door"]
    what = f"a step of {Path(args.config).name} beside {args.programs} programs of {args.threads} busy threads"
    shown = (f"{found['busy']:.0f} ms", f"alone, {args.steps} steps of one run each", f"{found['alone']:.0f} ms")
    yield Row(what, *shown, found["busy"] / found["alone"], at_most=4)


def main() -> None:
    parser = make_parser()
    args = parser.parse_intermixed_args()
    if unknown := [name for name in args.only if name not in SETTINGS]:
        parser.error(f"--only names {unknown[0]!r}: the settings are {', '.join(SETTINGS)}")
    found = medians(args)
    own = found.get("default", next(iter(found.values())))["alone"]
    print(f"{'':14}{'alone, ms':>12}{'busy, ms':>12}{'busy / alone':>14}{'alone / default':>17}")
    for name, both in found.items():
        alone, busy = both["alone"], both["busy"]
        print(f"{name:14}{alone:12.0f}{busy:12.0f}{busy / alone:14.1f}{alone / own:17.2f}")


if __name__ == "__main__":
    main()
