"""What translation is worth: its first phase, its glosses, and what tokens cost it. One recipe a phase
(configs/contrast_quickstart.yaml, configs/translation_quickstart.yaml) reads what became of the same clips. A table for
docs/translation.md.

    python -m benchmarks.translation [--checkpoint checkpoints/quickstart] [--seeds 3] [--processes 2] [--work DIR]
    python -m benchmarks.translation --only keypoints --only glosses --clips 600 [key.path=value ...]

On the synthetic signer of benchmarks.meaning, with its tokens: BLEU-4 on val (sentences that are not in train, by
signers who are) and by signers who are not in train; mean over seeds, and the largest distance from it; beside it the
best of the controls of val: translations held against other clips' sentences, clips with nothing in them, the
likeliest training sentence. "after phase 1": the encoder begins as the contrast left it; R@1 is what that finds on val.
Options are of phase 2. After each training --out is written anew, and what it has is not trained again.
"""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.meaning import Prepared, cell, each_of, prepare, work
from signstream import cli
from signstream.config import Data, Poses, load_config
from signstream.data.sequences import Padded
from signstream.errors import UserError
from signstream.inference.judge import OWN, tokens_at
from signstream.inference.translation.controls import bleu, deranged, prior_of, silenced
from signstream.io.whole import write_whole
from signstream.models.sign_encoder import SignEncoder
from signstream.tasks.contrast.task import ContrastTask
from signstream.tasks.translation.batch import TranslationBatch
from signstream.tasks.translation.setup import Setup
from signstream.tasks.translation.task import TranslationTask
from signstream.tasks.translation.validation import translated
from signstream.training.distributed import Ranks
from signstream.training.loop import Loop, auto_batch
from signstream.training.seed import seed_everything
from signstream.training.task import Task

SPLITS = ("val", "test_unseen_signer")
FIFTH = "model.encoder.frames_a_step=6"  # of a second is a step
FIRST = "train.epochs=4"  # of phase 1
ALONE = "loss.ctc=0"  # sentences are all that phase 2 learns from
R1, WAYS = "retrieval/{way}/recall_1", ("sign_to_text", "text_to_sign")


class Variant(NamedTuple):
    """What is read, and what comes before: options of a phase 1."""

    source: str = "keypoints"
    tokens: str | None = None  # the folder
    options: tuple[str, ...] = ()
    first: tuple[str, ...] | None = None


VARIANTS = {
    "keypoints": Variant(),
    "no glosses": Variant(options=(ALONE,)),
    "no glosses, after phase 1": Variant(options=(ALONE,), first=()),
    "no glosses, after phase 1 by words": Variant(options=(ALONE,), first=("model.match=tokens",)),
    "no glosses, after phase 1 with one positive": Variant(options=(ALONE,), first=("loss.positives=clip",)),
    "glosses themselves": Variant("glosses", options=(ALONE,)),
    "6 codes": Variant("codes", "six"),
    "first codes": Variant("codes", "first"),
}


class Job(NamedTuple):
    """One row and seed."""

    name: str
    seed: int
    prepared: Prepared
    options: tuple[str, ...]


def train(job: Job) -> dict[str, Any]:
    variant = VARIANTS[job.name]
    source = [f"data.source={variant.source}"]
    if variant.tokens is not None:
        source += tokens_at(job.prepared.tokens / variant.tokens)
    began = time.perf_counter()
    encoder, found = first_phase(job, variant.first) if variant.first is not None else (None, {})
    between = time.perf_counter()
    options = [*source, *variant.options, *job.options, f"train.seed={job.seed}"]
    config = recipe("configs/translation_quickstart.yaml", job.prepared.data, options)
    seed_everything(job.seed)
    task = TranslationTask.open(config, Ranks())
    loop = Loop(task, config, Ranks(), clips=auto_batch(task, config, Ranks()))
    task.begin()
    if encoder is not None:
        task.model.encoder.load_state_dict(encoder.state_dict())
    run(loop, task, f"{job.name}, seed {job.seed}")
    scores = {split: measured(task.setup, split) for split in SPLITS}
    ended = time.perf_counter()
    return {"bleu": scores, "retrieval": found, "first_seconds": between - began, "seconds": ended - between}


def first_phase(job: Job, options: Sequence[str]) -> tuple[SignEncoder, dict[str, float]]:
    """Its encoder at the last step, and what it finds on val."""
    config = recipe("configs/contrast_quickstart.yaml", job.prepared.data, [FIRST, *options, f"train.seed={job.seed}"])
    seed_everything(job.seed)
    task = ContrastTask.open(config, Ranks())
    loop = Loop(task, config, Ranks(), clips=auto_batch(task, config, Ranks()))
    task.begin()
    run(loop, task, f"{job.name}, seed {job.seed}, phase 1")
    return task.model.encoder, loop.validate(health=False).numbers


def recipe(file: str, data: Data, options: Sequence[str]) -> Any:
    """A quickstart on the clips of another config, prepared as they are there."""
    config = load_config(file, ["data.clean=none", "train.threads=1", FIFTH, *options])
    shared = {field.name: getattr(data, field.name) for field in fields(Poses) if field.name not in OWN}
    return replace(config, data=replace(config.data, points=data.num_joints, **shared))


def run(loop: Loop, task: Task, who: str) -> None:
    """To its last step, without a validation."""
    epochs = loop.config.train.epochs
    while loop.loader.epoch < epochs:
        for raw in loop.loader:
            loop.step(raw)
        print(f"{who}: epoch {loop.loader.epoch} of {epochs}: loss {loop.take_window()['loss']:.3f}", file=sys.stderr)


@torch.no_grad()
def measured(setup: Setup, split: str) -> dict[str, float | None]:
    """BLEU-4 of a split, and of its controls."""
    language, sequences = setup.config.model.target_language, setup.sequences
    loader = TranslationTask(setup).loader(split, 32, train=False)
    assert loader is not None
    setup.model.eval()
    meant: list[str] = []
    said: list[str] = []
    silent: list[str] = []
    for raw in loader:
        batch = setup.batch(raw, train=False)
        meant += batch.clips.texts
        said += translated(setup, batch)
        silent += translated(setup, without_signing(setup, batch))
    others = [said[partner] for partner in deranged(meant, seed=0)]
    lines = {"translations": said, "shuffled": others, "silent": silent}
    lines["prior"] = [prior_of(language, sequences)] * len(meant)
    return {name: bleu(language, meant, each) for name, each in lines.items()}


def without_signing(setup: Setup, batch: TranslationBatch) -> TranslationBatch:
    empty = silenced(Padded(batch.clips.streams, batch.clips.steps), setup.reads.shape[0])
    return replace(batch, clips=replace(batch.clips, streams=empty.streams))


# -- what is kept, and shown


def table(runs: dict[str, dict[str, Any]], names: Sequence[str]) -> Iterator[str]:
    heads = ("what is read", "R@1, signs to text / back", "BLEU-4, val", "unseen signers", "best control", "seconds")
    yield f"| {' | '.join(heads)} | seeds |"
    yield "|---|---|---|---|---|---|---|"
    for name in names:
        found = list(runs.get(name, {}).values())
        if not found:
            continue
        ways = [R1.format(way=way) for way in ("sign_to_text", "text_to_sign")]
        recalls = " / ".join(
            cell([100 * each["retrieval"][way] for each in found]) for way in ways if found[0]["retrieval"]
        )
        scores = [cell([each["bleu"][split]["translations"] for each in found]) for split in SPLITS]
        controls = cell([best_control(each["bleu"]["val"]) for each in found])
        seconds = sum(each["seconds"] + each["first_seconds"] for each in found) / len(found)
        yield f"| {name} | {recalls} | {' | '.join(scores)} | {controls} | {seconds:.0f} | {len(found)} |"


def best_control(scores: dict[str, float | None]) -> float:
    return max(score or 0.0 for name, score in scores.items() if name != "translations")


def opened(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What was measured before with the same settings."""
    if not path.exists():
        return {"settings": settings, "runs": {}}
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if kept["settings"] != settings:
        raise UserError(f"{path} is of {kept['settings']}: name another --out")
    return kept


def fill(kept: dict[str, Any], jobs: Iterable[Any], train: Callable[[Any], Any], *, out: Path, processes: int) -> None:
    """With what jobs, each of a name and a seed, give that were not measured before; `out` is written after each."""
    waiting = [job for job in jobs if str(job.seed) not in kept["runs"].get(job.name, {})]
    for job, result in each_of(waiting, train, processes):
        kept["runs"].setdefault(job.name, {})[str(job.seed)] = result
        text = json.dumps(kept, indent=1) + "\n"
        write_whole(out, lambda file, text=text: file.write(text.encode()))


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--checkpoint", default="checkpoints/quickstart", help="a tokenizer (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=VARIANTS, metavar="NAME", help="may be given several times")
    parser.add_argument("--processes", type=int, default=1, help="trainings at once, each on one thread")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where clips and tokens are kept")
    parser.add_argument("--out", type=Path, default=Path("translation.json"), metavar="FILE")
    args = cli.parse_with_overrides(parser, argv, "an option of phase 2, for example train.epochs=8")
    names = args.only or list(VARIANTS)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that are started
    with work(args.work) as folder:
        tokens = {"six": "6 codes", "first": "first codes", None: "keypoints"}
        read = [tokens[VARIANTS[name].tokens] for name in names]
        wanted = Namespace(only=read, clips=args.clips, processes=args.processes, checkpoint=args.checkpoint)
        prepared = prepare(wanted, folder / f"signer-{args.clips}")
        kept = opened(args.out, {"clips": args.clips, "options": args.overrides})
        jobs = [Job(name, seed, prepared, tuple(args.overrides)) for seed in range(args.seeds) for name in names]
        fill(kept, jobs, train, out=args.out, processes=args.processes)
        print("\n".join(table(kept["runs"], names)), flush=True)


if __name__ == "__main__":
    cli.run(main)
