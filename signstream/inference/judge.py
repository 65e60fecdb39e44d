"""What tokens mean, as a number: one small recogniser, by one recipe, reads the keypoints of a tokenizer's clips, and
what became of them. By how many more words it is wrong is what was lost, or written so that it cannot be learnt.

    tokens = export_splits(session, folder)          folder/<split>.jsonl of every split; options that say so
    config = recipe(session.config.data, ["data.source=codes", *tokens])
    judge(config, session.ranks) -> Judged           trained to its last step, in no folder; WER by split
    short_form(session, folder) -> {what is read: Judged}      of the splits in judged_splits(session.config.data)

The control is the same with the words of other clips (`shuffled`): nothing can be learnt there but which glosses there
are, and what is wrong then is what chance gets wrong.
"""

from __future__ import annotations

import json
import random
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import fields, replace
from pathlib import Path
from typing import Literal, NamedTuple

from signstream.config import Data, Poses, load_config
from signstream.config.recognition import RecognitionConfig
from signstream.config.sequences import SPLIT
from signstream.data.cache import open_cache
from signstream.data.sequences import Sequences
from signstream.data.sources import open_sequences
from signstream.errors import UserError
from signstream.inference.export import export
from signstream.inference.session import Session
from signstream.tasks.recognition.setup import Setup
from signstream.tasks.recognition.task import RecognitionTask
from signstream.training.distributed import Ranks
from signstream.training.loop import Loop, auto_batch
from signstream.training.seed import seed_everything

RECIPE = Path("configs/recognition_judge.yaml")
OWN = ("body_parts", "augment")  # of the data's keys, which the recipe says
SAME = ("train.scale_with_world=false",)  # one recipe, over however many processes
VERSIONS = 24  # of training's tokens
CUT = 8  # of these: clips as they are, cut elsewhere; the others are of clips that vary in every way
STRETCHED = 0.05  # by about so much: other bodies than those that are there
# Of cleaning a layout's glosses.
RULES: dict[str, Literal["phoenix2014", "phoenix2014t"]] = {"phoenix2014": "phoenix2014", "phoenix14t": "phoenix2014t"}

Tell = Callable[[str], None]


class Judged(NamedTuple):
    wer: dict[str, float]  # per cent of a split's words
    seconds: float  # of training


def recipe(data: Poses, options: Iterable[str] = ()) -> RecognitionConfig:
    """The recipe, with `key.path=value` on top, on the clips of another config, prepared as they are there."""
    config = load_config(RECIPE, [*SAME, *options], kind=RecognitionConfig)
    shared = {field.name: getattr(data, field.name) for field in fields(Poses) if field.name not in OWN}
    return replace(config, data=replace(config.data, **shared, clean=RULES.get(data.layout, "none")))


def judge(config: RecognitionConfig, ranks: Ranks, *, shuffled: bool = False, tell: Tell | None = None) -> Judged:
    """Every rank makes the same calls; `tell` gets a line an epoch."""
    began, train = time.perf_counter(), config.train
    seed_everything(train.seed, ranks.rank)
    sequences = open_sequences(config.data, quiet=True)
    if shuffled:
        shuffle_words(sequences, train.seed)
    task = RecognitionTask(Setup(config, sequences, ranks))
    loop = Loop(task, config, ranks, clips=auto_batch(task, config, ranks))
    task.begin()
    while loop.loader.epoch < train.epochs:
        for raw in loop.loader:
            loop.step(raw)
        if tell is not None:
            tell(f"epoch {loop.loader.epoch} of {train.epochs}: loss {loop.take_window()['loss']:.3f}")
    seconds = time.perf_counter() - began
    findings = {"val": loop.validate(health=False) if loop.val_loader is not None else None}
    findings |= {split: loop.test(split) for split in task.test_splits()}
    return Judged({split: found.numbers["wer"] for split, found in findings.items() if found is not None}, seconds)


def shuffle_words(sequences: Sequences, seed: int) -> None:
    """The words of each split's clips, among them."""
    for split, clips in sequences.splits.items():
        words = [sequences.examples[clip].words for clip in clips]
        random.Random(f"{split} {seed}").shuffle(words)
        for clip, others in zip(clips, words):
            sequences.examples[clip] = sequences.examples[clip]._replace(words=others)


def export_splits(session: Session, folder: Path, *, latents: bool = False) -> list[str]:
    """The tokens of every split that has a clip, as a door would write them, and those of training's clips, as they may
    be otherwise, VERSIONS times; options that say where they are. Those that are there are left. What an export says
    goes to standard error."""
    form = {"format": "jsonl", "layout": "chunk", "rle": None, "latents": latents, "num_samples": None}
    others = ("body_parts", "to_llm", "text_vocab_size", "tokenizer", "live", "signs")
    splits = [split for split, clips in open_cache(session.config.data, quiet=True).splits.items() if clips]
    for split, version in token_files(splits):
        out = folder / tokens_name(split, version)
        if not session.ranks.from_main(out.exists):
            session.ranks.from_main(lambda: folder.mkdir(parents=True, exist_ok=True))
            args = Namespace(split=split, out=out, augment=version, **form, **dict.fromkeys(others))
            data = session.config.data if version is None else as_version(session.config.data, version)
            with redirect_stdout(sys.stderr):
                export(args, session._replace(config=replace(session.config, data=data)))
    return tokens_at(folder)


def as_version(data: Data, version: int) -> Data:
    """Augmented, a clip's first versions are cut elsewhere and as they are otherwise; the later ones are changed as the
    tokenizer's training changes them, and stretched. A reader that has seen one cutting of few bodies takes that for
    meaning."""
    augment = data.augment
    if version < CUT:
        return replace(data, augment=replace(augment, mirror=False, time_warp=False, affine=0.0))
    return replace(data, augment=replace(augment, affine=max(augment.affine, STRETCHED)))


def token_files(splits: Iterable[str]) -> list[tuple[str, int | None]]:
    """A file a split, and of training's the versions."""
    return [*((split, None) for split in splits), *(("train", version) for version in range(VERSIONS))]


def tokens_name(split: str, version: int | None = None) -> str:
    return f"{split}.jsonl" if version is None else f"{split}.{version}.jsonl"


def tokens_at(folder: Path) -> list[str]:
    """Options of a recogniser that say where tokens are. They are of clips that were warped in time, and better than
    chunks that are left out or doubled."""
    more = [str(folder / tokens_name("train", version)) for version in range(VERSIONS)]
    where = [f"data.tokens={json.dumps(str(folder / tokens_name(SPLIT)))}", f"data.more_tokens={json.dumps(more)}"]
    return [*where, "data.augment.time_warp=false"]


def judged_splits(data: Poses) -> list[str]:
    """Those by whose words tokens can be judged; where there are none, or none to learn from, a refusal."""
    cache = open_cache(data, quiet=True)
    glossed = [split for split, clips in cache.splits.items() if any(cache.clips[i].gloss for i in clips)]
    judged = [split for split in glossed if split == "val" or split.startswith("test")]
    for where, found in (("train", "train" in glossed), ("val or test", judged)):
        if not found:
            raise UserError(f"{data.root}: no clip of {where} has glosses, by which tokens could be judged")
    return judged


def short_form(
    session: Session, folder: Path, options: Sequence[str] = (), *, tell: Tell | None = None
) -> dict[str, Judged]:
    """Keypoints, the tokens as this session writes them, and these with the words of other clips. `folder` gets the
    tokens."""
    data = session.config.data
    splits = judged_splits(data)
    codes = ["data.source=codes", *export_splits(session, folder)]
    rows = {"keypoints": ["data.source=keypoints"], "tokens": codes, "tokens of other clips": codes}
    judged = {}
    for name, source in rows.items():
        config = recipe(data, [*source, *options])
        named = None if tell is None else lambda line, name=name: tell(f"{name}: {line}")
        found = judge(config, session.ranks, shuffled=name == "tokens of other clips", tell=named)
        judged[name] = found._replace(wer={split: wer for split, wer in found.wer.items() if split in splits})
    return judged
