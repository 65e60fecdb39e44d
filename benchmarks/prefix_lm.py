"""What signs should be to a language model: rows that begin as the codebooks' vectors, a learnt map of these, or fresh
rows; a position an id, or a position a chunk. One recipe (configs/prefix_lm_quickstart.yaml). A table for
docs/prefix_lm.md.

    python -m benchmarks.prefix_lm [--checkpoint checkpoints/quickstart] [--seeds 3] [--processes 2] [--work DIR]
    python -m benchmarks.prefix_lm --only "learnt map, summed" --only "fresh rows" --clips 600 [key.path=value ...]
    python -m benchmarks.prefix_lm --tokens exports data.root=data/synthetic        tokens that are there

On the synthetic signer of benchmarks.meaning, with 6 codes a chunk, or with --tokens on data.root: BLEU-4 on val
(sentences that are not in train, by signers who are), the same of another clip's signs and of none, and BLEU-4 by
signers who are not in train; mean over seeds, and the largest distance from it. "prefix": positions of a val clip's.
"seconds": of training. After each training --out is written anew, and what it has is not trained again.
"""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.meaning import cell, prepare, work
from benchmarks.translation import fill, opened, run
from signstream import cli
from signstream.config import Data, Poses, load_config
from signstream.inference.judge import OWN, tokens_at, tokens_name
from signstream.tasks.prefix_lm.setup import Setup
from signstream.tasks.prefix_lm.task import PrefixTask
from signstream.training.distributed import Ranks
from signstream.training.loop import Loop, auto_batch
from signstream.training.seed import seed_everything

RECIPE = "configs/prefix_lm_quickstart.yaml"
UNSEEN = "test_unseen_signer"
BLEU = {"right": "text/bleu_4", "shuffled": "shuffled/bleu_4", "none": "none/bleu_4"}  # by what the prefix holds
SIGNS = {"begun rows": "vectors", "learnt map": "mapped", "fresh rows": "fresh"}
POSITIONS = {"flat": "ids", "summed": "chunks"}
VARIANTS = {
    f"{rows}, {form}": (f"model.signs={signs}", f"model.positions={positions}")
    for rows, signs in SIGNS.items()
    for form, positions in POSITIONS.items()
}


class Job(NamedTuple):
    """One row and seed."""

    name: str
    seed: int
    tokens: Path  # the folder of a file a split
    data: Data | None  # the poses that they are of; None: as the recipe says
    options: tuple[str, ...]


def train(job: Job) -> dict[str, Any]:
    at = f"data.tokens={json.dumps(str(job.tokens / tokens_name('{split}')))}"
    more = tokens_at(job.tokens) if (job.tokens / tokens_name("train", 0)).exists() else [at]
    options = [*more, "train.threads=1", *VARIANTS[job.name], *job.options, f"train.seed={job.seed}"]
    config = load_config(RECIPE, options)
    if job.data is not None:
        shared = {field.name: getattr(job.data, field.name) for field in fields(Poses) if field.name not in OWN}
        config = replace(config, data=replace(config.data, **shared))
    seed_everything(job.seed)
    task = PrefixTask.open(config, Ranks())
    length = prefix(task.setup)
    loop = Loop(task, config, Ranks(), clips=auto_batch(task, config, Ranks()))
    task.begin()
    began = time.perf_counter()
    run(loop, task, f"{job.name}, seed {job.seed}")
    seconds = time.perf_counter() - began
    val, unseen = loop.validate(health=True).numbers, loop.test(UNSEEN)
    scores = {kind: val.get(key) for kind, key in BLEU.items()}
    scores[UNSEEN] = None if unseen is None else unseen.numbers.get(BLEU["right"])
    return {"bleu": scores, "prefix": length, "seconds": seconds}


def prefix(setup: Setup) -> float:
    """How many positions the signs of a val clip take, on average."""
    clips, prompts = setup.sequences.clips_of("val"), setup.form.prompts
    counts = [len(prompts.cells(prompts.of(setup.sequences.rows(clip)))) for clip in clips]
    return sum(counts) / len(counts)


def table(runs: dict[str, dict[str, Any]], names: Sequence[str]) -> Iterator[str]:
    heads = ("signs", "prefix", "BLEU-4, val", "another clip's signs", "no signs", "unseen signers", "seconds", "seeds")
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for name in names:
        found = list(runs.get(name, {}).values())
        if not found:
            continue
        cells = [
            cell(scores) if scores else ""
            for kind in (*BLEU, UNSEEN)
            for scores in [[each["bleu"][kind] for each in found if each["bleu"][kind] is not None]]
        ]
        length, seconds = (sum(each[key] for each in found) / len(found) for key in ("prefix", "seconds"))
        yield f"| {name} | {length:.0f} | {' | '.join(cells)} | {seconds:.0f} | {len(found)} |"


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--checkpoint", default="checkpoints/quickstart", help="a tokenizer (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--tokens", type=Path, metavar="FOLDER", help="of {split}.jsonl, in place of both")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=VARIANTS, metavar="NAME", help="may be given several times")
    parser.add_argument("--processes", type=int, default=1, help="trainings at once, each on one thread")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where clips and tokens are kept")
    parser.add_argument("--out", type=Path, default=Path("prefix_lm.json"), metavar="FILE")
    args = cli.parse_with_overrides(parser, argv, "an option of the recipe, for example train.epochs=4")
    names = args.only or list(VARIANTS)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that are started
    with work(args.work) as folder:
        tokens, data = args.tokens, None
        if tokens is None:
            wanted = Namespace(only=["6 codes"], clips=args.clips, processes=args.processes, checkpoint=args.checkpoint)
            prepared = prepare(wanted, folder / f"signer-{args.clips}")
            tokens, data = prepared.tokens / "six", prepared.data
        of = {"clips": args.clips} if args.tokens is None else {"tokens": str(args.tokens)}
        kept = opened(args.out, {**of, "options": args.overrides})
        jobs = [Job(name, seed, tokens, data, tuple(args.overrides)) for seed in range(args.seeds) for name in names]
        fill(kept, jobs, train, out=args.out, processes=args.processes)
        print("\n".join(table(kept["runs"], names)), flush=True)


if __name__ == "__main__":
    cli.run(main)
