"""What tokens mean: one recogniser and one recipe (configs/recognition_judge.yaml) read what became of the same clips.
A table for docs/recognition.md.

    python -m benchmarks.meaning [--checkpoint checkpoints/quickstart] [--seeds 3] [--processes 2] [--work DIR]
    python -m benchmarks.meaning --only keypoints --only "6 codes" --clips 600 --epochs 10 [key.path=value ...]

On the synthetic signer, of another seed than the quickstart's: other people, other sentences, the same language.
Word error rate on val (sentences that are not in train, by signers who are) and by signers who are not in train; mean
over seeds, and the largest distance from it. "fresh ids": the codes' rows begin as drawn, not as codebooks' vectors.
"of other clips": the words are shuffled among clips, so this is chance. "k-means": one code a part, of a plain k-means
on the axes of whole chunks (benchmarks/pca_kmeans.py). After each training --out is written anew, and what it has is
not trained again; with --work the clips and tokens stay.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from benchmarks.pca_kmeans import PcaKmeans
from benchmarks.scoring import Clips
from signstream import cli
from signstream.config import Data
from signstream.data.synthetic.dataset import make_dataset
from signstream.data.tokens import TokenData
from signstream.errors import UserError
from signstream.inference.judge import (
    Judged,
    as_version,
    export_splits,
    judge,
    recipe,
    token_files,
    tokens_at,
    tokens_name,
)
from signstream.inference.session import open_session
from signstream.io.pose_cache import PoseCache
from signstream.io.vector_files import read_vectors, vectors_beside, write_vectors
from signstream.io.whole import write_whole
from signstream.tokens.format import TokenSequence, read_jsonl, write_line
from signstream.tokens.vectors import CodeVectors
from signstream.training.distributed import start

J = TypeVar("J")
R = TypeVar("R")
SEED = 1  # of the data; the quickstart's is 0
SPLITS = ("val", "test_unseen_signer")
FRESH = "model.tokens.vectors=false"
EXPORTS = {  # folder of the tokens: what is sent
    "full": ("export.codes_per_chunk=full", "export.enable_rle=false"),
    "six": ("export.codes_per_chunk=6",),
    "four": ("export.codes_per_chunk=4",),
}


class Variant(NamedTuple):
    """What is read."""

    tokens: str | None  # the folder
    source: str = "codes"
    options: tuple[str, ...] = ()
    shuffled: bool = False


VARIANTS = {
    "keypoints": Variant(None, "keypoints"),
    "latents": Variant("full", "latents"),
    "all codes": Variant("full"),
    "6 codes": Variant("six"),
    "4 codes": Variant("four"),
    "first codes": Variant("first"),
    "all codes, fresh ids": Variant("full", options=(FRESH,)),
    "6 codes, fresh ids": Variant("six", options=(FRESH,)),
    "4 codes, fresh ids": Variant("four", options=(FRESH,)),
    "first codes, fresh ids": Variant("first", options=(FRESH,)),
    "6 codes of other clips": Variant("six", shuffled=True),
    "k-means": Variant("k-means"),
}


class Job(NamedTuple):
    """One training."""

    name: str
    seed: int
    data: Data
    tokens: Path  # the folder with the folders of tokens
    options: tuple[str, ...]


def train(job: Job) -> Judged:
    variant = VARIANTS[job.name]
    options = [*job.options, f"data.source={variant.source}", *variant.options]
    if variant.tokens is not None:
        options += tokens_at(job.tokens / variant.tokens)
    config = recipe(job.data, [*options, f"train.seed={job.seed}", "train.threads=1"])
    with start(config.train.device, config.train.threads) as ranks:
        tell = partial(say, f"{job.name}, seed {job.seed}")
        return judge(config, ranks, shuffled=variant.shuffled, tell=tell)


def say(who: str, line: str) -> None:
    print(f"{who}: {line}", file=sys.stderr, flush=True)


# -- what is read


class Prepared(NamedTuple):
    data: Data
    tokens: Path  # the folder with the folders of tokens


def prepare(args: Namespace, folder: Path) -> Prepared:
    """Clips and their tokens, as far as they are not there."""
    root = folder / "data"
    if not root.exists():
        say("data", f"{args.clips} clips are made")
        make_dataset(root, args.clips, seed=SEED, workers=args.processes)
    places = [f"data.root={root}", f"data.cache={folder / 'cache'}", "train.threads=1"]
    wanted = {VARIANTS[name].tokens for name in args.only}
    if "first" in wanted:
        wanted.add("full")
    for name, options in EXPORTS.items():
        with open_session(args.checkpoint, None, [*places, *options]) as session:
            data, size = session.config.data, session.config.model.rvq.codebook_size
            tokens = folder / session.tokenizer.digest
            if name in wanted:
                export_splits(session, tokens / name, latents=name == "full")
    clips = Clips.open(data, root)
    if "first" in wanted:
        first_codes(clips.cache, tokens / "full", tokens / "first")
    if "k-means" in wanted:
        plain_codes(clips, size, tokens / "k-means")
    return Prepared(data, tokens)


def first_codes(cache: PoseCache, full: Path, folder: Path) -> None:
    """Of all codes each part's first."""
    for split, version in missing(cache, folder):
        path = full / tokens_name(split, version)
        vectors = read_vectors(vectors_beside(path))
        clips = (replace(clip, codes=only_first(clip.codes)) for clip in read_jsonl(path))
        save(folder / path.name, clips, vectors)


def only_first(codes: Tensor) -> Tensor:
    """[N, P, Q] -> the same with -1 for all others"""
    return codes.index_fill(2, torch.arange(1, codes.shape[2]), -1)


def plain_codes(clips: Clips, size: int, folder: Path) -> None:
    """The nearest of so many centres for each part of a chunk, in view or not."""
    cache = clips.cache
    if not (wanted := missing(cache, folder)):
        return
    fitted = PcaKmeans(clips, levels=1, codes=size)
    for split, version in wanted:
        shown = clips if version is None else clips._replace(data=as_version(clips.data, version))
        made = [fitted.encode(shown.chunks(i, version), cache.clips[i].name) for i in cache.splits[split]]
        first = made[0]
        vectors = CodeVectors(first.parts, first.levels, first.tokenizer, fitted.codebook)
        save(folder / tokens_name(split, version), made, vectors)


def missing(cache: PoseCache, folder: Path) -> list[tuple[str, int | None]]:
    """The files of tokens that are not in the folder yet: split, version."""
    folder.mkdir(parents=True, exist_ok=True)
    files = token_files(split for split, clips in cache.splits.items() if clips)
    return [file for file in files if not (folder / tokens_name(*file)).exists()]


def save(path: Path, clips: Iterable[TokenSequence], vectors: CodeVectors) -> None:
    write_whole(vectors_beside(path), lambda file: write_vectors(file, vectors))
    write_whole(path, lambda file: file.writelines(write_line(clip).encode() for clip in clips))


def codes_a_chunk(path: Path) -> float:
    """That are read, a held one too."""
    data = TokenData.open(path)
    return float((data.packed >= 0).sum() / len(data.packed))


# -- what is kept


class Kept:
    """The file that is written: what was asked for, and what each training gave."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.content: dict[str, Any] = {"settings": settings, "codes_a_chunk": {}, "runs": {}}
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            for key, value in settings.items():
                if before["settings"].get(key) != value:
                    raise UserError(
                        f"{path} is of {key} {before['settings'].get(key)}, not {value}: name another --out"
                    )
            self.content = before

    def runs(self, name: str) -> dict[str, Any]:
        """{seed: {"wer": {split: ..}, "seconds": ..}}"""
        return self.content["runs"].setdefault(name, {})

    def add(self, job: Job, judged: Judged) -> None:
        self.runs(job.name)[str(job.seed)] = judged._asdict()
        self.write()

    def write(self) -> None:
        text = json.dumps(self.content, indent=1) + "\n"
        write_whole(self.path, lambda file: file.write(text.encode()))


def table(kept: Kept, names: Sequence[str]) -> Iterator[str]:
    yield "| what is read | codes a chunk | WER %, val | WER %, unseen signers | seconds | seeds |"
    yield "|---|---|---|---|---|---|"
    for name in names:
        runs = list(kept.runs(name).values())
        codes = kept.content["codes_a_chunk"].get(VARIANTS[name].tokens) if VARIANTS[name].source == "codes" else None
        cells = [cell([run["wer"][split] for run in runs]) for split in SPLITS]
        seconds = sum(run["seconds"] for run in runs) / len(runs)
        codes_cell = "" if codes is None else f"{codes:.1f}"
        yield f"| {name} | {codes_cell} | {' | '.join(cells)} | {seconds:.0f} | {len(runs)} |"


def cell(values: list[float]) -> str:
    mean = sum(values) / len(values)
    return f"{mean:.1f} ± {max(abs(value - mean) for value in values):.1f}"


def each_of(jobs: Iterable[J], work: Callable[[J], R], processes: int) -> Iterator[tuple[J, R]]:
    """Each on one thread; as many at once as there are processes."""
    if processes == 1:
        yield from ((job, work(job)) for job in jobs)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(work, job): job for job in jobs}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


@contextmanager
def work(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--checkpoint", default="checkpoints/quickstart", help="a tokenizer (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--epochs", type=int, help="default: the recipe's")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=VARIANTS, metavar="NAME", help="may be given several times")
    parser.add_argument("--processes", type=int, default=1, help="trainings at once, each on one thread")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where clips and tokens are kept")
    parser.add_argument("--out", type=Path, default=Path("meaning.json"), metavar="FILE")
    args = cli.parse_with_overrides(parser, argv, "an option of the recipe, for example model.mixer=mamba")
    args.only = args.only or list(VARIANTS)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that are started
    with work(args.work) as folder:
        data, tokens = prepare(args, folder / f"signer-{args.clips}")
        settings = {"tokenizer": tokens.name, "clips": args.clips, "epochs": args.epochs, "options": args.overrides}
        kept = Kept(args.out, settings)
        for name in args.only:
            if (where := VARIANTS[name].tokens) is not None:
                kept.content["codes_a_chunk"][where] = codes_a_chunk(tokens / where / "val.jsonl")
        options = (*args.overrides, *([] if args.epochs is None else [f"train.epochs={args.epochs}"]))
        jobs = [
            Job(name, seed, data, tokens=tokens, options=options) for seed in range(args.seeds) for name in args.only
        ]
        waiting = [job for job in jobs if str(job.seed) not in kept.runs(job.name)]
        for job, judged in each_of(waiting, train, args.processes):
            kept.add(job, judged)
        print("\n".join(table(kept, args.only)), flush=True)


if __name__ == "__main__":
    cli.run(main)
