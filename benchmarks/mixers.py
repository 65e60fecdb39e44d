"""What mixes over time: Mamba, a transformer and a BiLSTM of the same width, trained by the judge's recipe on
keypoints, clips as they are and four in a row. A table for docs/recognition.md.

    python -m benchmarks.mixers [--clips 3000] [--epochs 6] [--seeds 3] [--processes 2] [--work DIR] [key.path=value]

The synthetic signer of seed 1, as in benchmarks/meaning.py. Four clips, of one signer mostly, make a long one, so a
step of a quarter as many clips sees as many frames, and there are as many steps. Word error rate on val and by unseen
signers, mean over seeds and the largest distance from it; milliseconds of a step on one thread, and the process's peak
memory. Each training is a process of its own. With --work the clips stay; what --out has is not done again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.meaning import SEED, SPLITS, cell, work
from signstream import cli
from signstream.config import load_config
from signstream.config.rvq import Config
from signstream.data.sources import open_sequences
from signstream.data.synthetic.dataset import make_dataset
from signstream.inference.judge import judge, recipe
from signstream.io.whole import write_whole
from signstream.models.recognition_blocks import MIXERS
from signstream.tasks.recognition.build import front_of, model_of
from signstream.training.distributed import start

IN_A_ROW = 4
LENGTHS = {"ordinary": 1, "long": IN_A_ROW}
ROWS = [(length, mixer) for length in LENGTHS for mixer in MIXERS]


class Job(NamedTuple):
    length: str
    mixer: str
    seed: int
    root: Path
    options: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.length} {self.mixer} {self.seed}"


def train(job: Job) -> tuple[str, dict[str, Any]]:
    """In a process of its own."""
    data = load_config(None, [f"data.root={job.root}", f"data.cache={job.root.parent / 'cache'}"], kind=Config).data
    options = ["data.source=keypoints", f"model.mixer={job.mixer}", f"train.seed={job.seed}", "train.threads=1"]
    config = recipe(data, [*options, *job.options])
    clips_a_step = config.train.clips_per_step // LENGTHS[job.length]
    config = replace(config, train=replace(config.train, clips_per_step=clips_a_step))
    clips = len(open_sequences(config.data, quiet=True).splits["train"])
    with start(config.train.device, 1) as ranks:
        judged = judge(config, ranks, tell=lambda line: print(f"{job.name}: {line}", file=sys.stderr, flush=True))
    steps = config.train.epochs * -(-clips // clips_a_step)
    model = model_of(config, front_of(config, ()), 115)
    return job.name, {
        "wer": judged.wer,
        "ms": 1000 * judged.seconds / steps,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "parameters": sum(weight.numel() for weight in model.parameters()),
    }


def make_long(root: Path, out: Path) -> None:
    """The clips of a data set in CSL-Daily's layout, IN_A_ROW of a split one after another."""
    notes, splits = (json.loads((root / name).read_text()) for name in ("annotations.json", "split_files.json"))
    (out / "frames_512x512").mkdir(parents=True)
    made: dict[str, dict[str, Any]] = {}
    names: dict[str, list[str]] = {split: [] for split in splits}
    for split, group in groups(splits, notes):
        name = f"L{len(made):06d}"
        poses = np.concatenate([np.load(root / "frames_512x512" / f"{clip}.npy") for clip in group])
        np.save(out / "frames_512x512" / f"{name}.npy", poses)
        gloss = " ".join(notes[clip]["gloss"] for clip in group)
        shared = {key: notes[group[0]][key] for key in ("signer", "fps")}
        made[name] = {"text": gloss.lower(), "gloss": gloss, "num_frames": len(poses), **shared}
        names[split].append(name)
    (out / "annotations.json").write_text(json.dumps(made))
    (out / "split_files.json").write_text(json.dumps(names))


def groups(splits: dict[str, list[str]], notes: dict[str, dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """A split and IN_A_ROW of its clips, signer after signer."""
    for split, clips in splits.items():
        in_order = sorted(clips, key=lambda clip: notes[clip]["signer"])
        for first in range(0, len(clips) - IN_A_ROW + 1, IN_A_ROW):
            yield split, in_order[first : first + IN_A_ROW]


def prepare(args: Namespace, folder: Path) -> dict[str, Path]:
    """The data set of each length."""
    roots = {length: folder / f"mixers-{args.clips}" / length for length in LENGTHS}
    if not roots["ordinary"].exists():
        make_dataset(roots["ordinary"], args.clips, seed=SEED, workers=args.processes)
    if not roots["long"].exists():
        make_long(roots["ordinary"], roots["long"])
    return roots


def table(done: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield "| clips | mixer | parameters | WER %, val | WER %, unseen signers | ms a step | peak MB | seeds |"
    yield "|---|---|---|---|---|---|---|---|"
    for length, mixer in ROWS:
        runs = [run for name, run in done.items() if name.startswith(f"{length} {mixer} ")]
        if runs:
            rates = [cell([run["wer"][split] for run in runs]) for split in SPLITS]
            ms = sorted(run["ms"] for run in runs)[len(runs) // 2]
            size = f"{runs[0]['parameters'] / 1e6:.2f} M"
            memory = max(run["memory_mb"] for run in runs)
            yield f"| {length} | {mixer} | {size} | {' | '.join(rates)} | {ms:.0f} | {memory} | {len(runs)} |"


def run_all(jobs: Sequence[Job], done: dict[str, dict[str, Any]], out: Path, *, processes: int) -> None:
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=1) as pool:
        for name, run in pool.imap_unordered(train, jobs):
            done[name] = run
            text = json.dumps(done, indent=1) + "\n"
            write_whole(out, lambda file, text=text: file.write(text.encode()))


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1, help="trainings at once, each on one thread")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where the clips are kept")
    parser.add_argument("--out", type=Path, default=Path("mixers.json"), metavar="FILE")
    args = cli.parse_with_overrides(parser, argv, "an option of the recipe, for example model.width=192")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that are started
    done = json.loads(args.out.read_text()) if args.out.exists() else {}
    with work(args.work) as folder:
        roots, options = prepare(args, folder), (*args.overrides, f"train.epochs={args.epochs}")
        jobs = [Job(*row, seed, roots[row[0]], options) for seed in range(args.seeds) for row in ROWS]
        run_all([job for job in jobs if job.name not in done], done, args.out, processes=args.processes)
    print("\n".join(table(done)), flush=True)


if __name__ == "__main__":
    cli.run(main)
