"""Whether a clip finds the same word by somebody else, among all clips by other people: from keypoints and from tokens.

    python -m benchmarks.retrieval --checkpoint before.pt after.pt [--only mp_] [--body-parts LH RH] [--split test]

Searched are a root's clips of one gloss, or those of them whose names begin with --only; a query is one whose word
somebody else signs as well, or with --split only those of that split. A person is a `signer` of the annotations, a word
its gloss, whatever the language. A tokenizer that learnt from the same people is flattered, so it is said how many it
learnt from. The budget is spent on all parts, whichever are compared.

Printed for each checkpoint: the share of queries that have the word first (R@1), or among the first five (R@5), and the
mean of 1 / rank (MRR). Equals stand in an order drawn by lot, which is worked out, not tried; so is chance.

One distance for all rows: clips are warped in time onto each other, chunk by chunk (Sakoe and Chiba's symmetric form: a
step along both clips counts twice, the sum is divided by both lengths). Two chunks are as far apart as their vectors:
each part's less the mean of all clips, at unit mean square, 0 where nothing is known; bare ids, as many as differ.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.nearest import Labels, Numbers, differing, distances, euclidean, levelled, numbers, queries, ranks
from benchmarks.reconstruction import trained_on
from benchmarks.scoring import Clips
from signstream import cli
from signstream.config import load_config
from signstream.config.rvq import Config
from signstream.errors import UserError
from signstream.inference.tokenizer import Tokenizer
from signstream.io.pose_cache import PoseCache
from signstream.training import checkpoint
from signstream.training.run_folder import best_of

BUDGET = 6
BARE = "bare ids"


class Searched(NamedTuple):
    """N clips, and what is said of them."""

    clips: list[int]  # in the cache
    labels: Labels


def search(cache: PoseCache, prefixes: Sequence[str], split: str | None) -> Searched:
    asking = {*(range(len(cache.clips)) if split is None else cache.split(split))}
    said = [(i, clip) for i, clip in enumerate(cache.clips) if len(clip.gloss.split()) == 1 and clip.signer]
    searched = [(i, clip) for i, clip in said if clip.name.startswith(tuple(prefixes))]
    labels = Labels(
        word=numbered([clip.gloss.casefold() for _, clip in searched]),
        person=numbered([clip.signer for _, clip in searched]),
        asks=torch.tensor([i in asking for i, _ in searched], dtype=torch.bool),
    )
    if not bool(queries(labels).any()):
        raise UserError(f"of {len(searched)} clips of one gloss none is a query whose word somebody else signs as well")
    return Searched([i for i, _ in searched], labels)


def numbered(names: Sequence[str]) -> Tensor:
    number = {name: i for i, name in enumerate(sorted(set(names)))}
    return torch.tensor([number[name] for name in names], dtype=torch.int64)


class Reader:
    """A checkpoint's tokenizer, sending all codes and under the budget."""

    def __init__(self, state: Mapping[str, Any], body_parts: Sequence[str] | None) -> None:
        export = checkpoint.config_of(state, Config).export
        self.full = Tokenizer(state, export=replace(export, codes_per_chunk="full", enable_rle=False))
        self.sent = Tokenizer(state, export=replace(export, codes_per_chunk=BUDGET))
        self.vectors = self.full.code_vectors
        tags = self.full.parts
        if unknown := [tag for tag in body_parts or () if tag not in tags]:
            raise UserError(f"--body-parts {' '.join(unknown)}: the tokenizer has {', '.join(tags)}")
        self.keep = [p for p, tag in enumerate(tags) if body_parts is None or tag in body_parts]

    def read(self, frames: np.ndarray) -> dict[str, list[Tensor]]:
        """P x [n, D] a row of the table, NaN where nothing is known; of ids one tensor [n, D]."""
        whole = self.full.encode_both([frames], ["clip"])[0]
        sent = self.sent.encode_prepared([frames], ["clip"])[0].codes[:, self.keep]
        assert whole.latents is not None
        codes, first = whole.tokens.codes[:, self.keep], whole.tokens.codes[:, self.keep, :1]
        places = {
            "latents": whole.latents[:, self.keep],
            "all codes": self.sums(codes),
            f"{BUDGET} codes": self.sums(sent),
            "first codes": self.sums(first),
        }
        return {
            "keypoints": self.keypoints(frames),
            **{name: [*place.masked_fill(first < 0, torch.nan).unbind(1)] for name, place in places.items()},
            f"{BUDGET} codes, {BARE}": [sent.flatten(1)],
            f"first codes, {BARE}": [first.flatten(1)],
        }

    def sums(self, codes: Tensor) -> Tensor:
        return self.vectors.only(tuple(self.full.parts[p] for p in self.keep)).sums(codes)

    def keypoints(self, frames: np.ndarray) -> list[Tensor]:
        _, targets = self.full.views.of(self.full.chunks_of([frames], [0]))
        kept = [targets[p] for p in self.keep]
        return [target.xy.masked_fill(target.weight[..., None] <= 0, torch.nan).flatten(1) for target in kept]


def column(reader: Reader, cache: PoseCache, found: Searched) -> dict[str, Numbers]:
    """Of each row of the table."""
    read = [reader.read(cache.frames(clip)) for clip in found.clips]
    out = {}
    for name in read[0]:
        clips = [rows[name] for rows in read]
        bare = name.endswith(BARE)
        apart = distances([ids for (ids,) in clips], differing) if bare else distances(levelled(clips), euclidean)
        out[name] = numbers(ranks(apart, found.labels))
    count = len(found.clips)
    return {**out, "chance": numbers(ranks(torch.zeros(count, count), found.labels))}


def about(found: Searched) -> str:
    asked = queries(found.labels)
    words, people = (len(values[asked].unique()) for values in (found.labels.word, found.labels.person))
    return f"{int(asked.sum())} queries ({words} words, {people} people) among {len(found.clips)} clips"


def learnt_from(state: Mapping[str, Any], clips: Clips, found: Searched) -> str:
    """How much of what is searched a tokenizer was trained on, if that can be known."""
    cache, data = clips.cache, checkpoint.config_of(state, Config).data
    train = {i: cache.clips[i].name for i in cache.splits.get("train", ())}
    prefixes = ("", *sorted({f"{name.partition('_')[0]}_" for name in train.values()}))  # --without may have had
    without = next((prefix for prefix in prefixes if train and state.get("clips") == trained_on(cache, prefix)), None)
    if without is None and (data.split_file or Path(data.root).resolve() != clips.root.resolve()):
        return f"trained on train of {data.root}{f' by {data.split_file}' if data.split_file else ''}"
    learnt = [i for i, name in train.items() if not (without and name.startswith(without))]
    known = torch.tensor([i in learnt for i in found.clips])
    people = len(found.labels.person[known].unique())
    return f"trained on {int(known.sum())} of these clips, by {people} people"


def table(columns: Mapping[str, Mapping[str, Numbers]]) -> Iterator[str]:
    yield f"| R@1 / R@5 / MRR, % | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for name in next(iter(columns.values())):
        cells = [" / ".join(f"{100 * share:.1f}" for share in column[name]) for column in columns.values()]
        yield f"| {name} | {' | '.join(cells)} |"


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--checkpoint", nargs="+", required=True, metavar="PATH", help="tokenizers, a column each")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/realsign"), metavar="ROOT")
    parser.add_argument("--only", nargs="+", default=[""], metavar="PREFIX", help="search these clips alone")
    parser.add_argument("--split", help="queries are of this split alone")
    parser.add_argument("--body-parts", nargs="+", metavar="TAG", help="compare these alone, for example LH RH")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    columns = {}
    with tempfile.TemporaryDirectory() as scratch:
        for path in args.checkpoint:
            state = checkpoint.load(best_of(path))
            places = [f"data.root={args.data}", f"data.cache={scratch}", "data.split_file=null"]
            config = load_config(None, places, checkpoint.config_of(state, Config), kind=Config)
            clips = Clips.open(config.data, args.data)
            found = search(clips.cache, args.only, args.split)
            print(f"{path}: {about(found)}; {learnt_from(state, clips, found)}", flush=True)
            columns[path] = column(Reader(state, args.body_parts), clips.cache, found)
    print("\n".join(table(columns)))


if __name__ == "__main__":
    cli.run(main)
