"""Tiny trained recognisers, each in a run's folder, of clips that they know by heart: which words are wrong is known.

val holds the eight clips of train, and three of them once more whose labels are not what is signed: of the first
another word, one word more, one word fewer; all three words of each clip are different.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import signstream
from clips import moving_clip
from data_sets import note, write_csl
from helpers import begin_loop, case_options, run_steps
from signstream.inference.export_beside import latents_text, write_latents_beside, write_vectors_beside
from signstream.inference.recognition.recogniser import Recogniser
from signstream.tokens.format import TokenSequence, write_line
from signstream.tokens.vectors import CodeVectors
from signstream.training import checkpoint
from signstream.training.run_folder import RunFolder

WORDS = ("SONNE", "REGEN", "WIND", "MORGEN", "NORD")
FRAMES, CHUNK = 40, 10
BY_HEART = ("train.epochs=100", "train.warmup_steps=5", "train.wd=0", "train.lr=1e-2", "model.width=48")
PARTS, LEVELS, SIZE, DIM = ("F", "RH"), (1, 2), 32, 8
LINES = {f"clip{i}": tuple(np.random.default_rng(i).permutation(WORDS)[:3].tolist()) for i in range(8)}
# references of val: one word is another, one is too many, one is missing
WRONG = {
    "other": (next(word for word in WORDS if word not in LINES["clip0"]), *LINES["clip0"][1:]),
    "more": (*LINES["clip1"], next(word for word in WORDS if word not in LINES["clip1"])),
    "fewer": LINES["clip2"][:2],
}
ERRORS, VAL_WORDS = (1, 1, 1), 8 * 3 + 3 + 4 + 2  # substitutions, deletions, insertions
SIGNERS = ("Anna", "Bert")


class Run(NamedTuple):
    options: list[str]
    checkpoint: Path
    numbers: dict[str, float]  # of its last validation
    recogniser: Recogniser


def make_root(folder: Path) -> Path:
    clips = {name: moving_clip(FRAMES, i) for i, name in enumerate(LINES)}
    clips |= {name: clips[f"clip{i}"] for i, name in enumerate(WRONG)}
    lines = LINES | WRONG
    notes = {
        name: note(poses, gloss=" ".join(lines[name]), signer=SIGNERS[i % 2], text=f"{name} is signed")
        for i, (name, poses) in enumerate(clips.items())
    }
    return write_csl(folder / "data", clips, {"train": list(LINES), "val": list(clips)}, notes)


def make_run(folder: Path, *more: str, steps: int = 20) -> Run:
    """Of keypoints, unless `more` says otherwise."""
    root = folder / "data"
    options = case_options(root if root.exists() else make_root(folder), "recognition", *BY_HEART, *more, plain=True)
    loop = begin_loop(options)
    run_steps(loop, steps)
    numbers = loop.validate(health=False).numbers
    run = RunFolder.create(folder / "runs", "default")
    checkpoint.save({**loop.state_dict(), "generators": []}, run.best)
    return Run(options, run.best, numbers, signstream.recogniser(run.best, device="cpu"))


def write_tokens(folder: Path, parts: Sequence[str] = PARTS, tokenizer: str = "one") -> str:
    """Tokens of the clips of make_root, and vectors and latents beside them; the option that names them."""
    generator = torch.Generator().manual_seed(0)
    levels = tuple(LEVELS[PARTS.index(part)] for part in parts)
    has_level = (torch.arange(max(levels)) < torch.tensor(levels)[:, None])[..., None, None]
    table = torch.randn(len(parts), max(levels), SIZE, DIM, generator=generator) * has_level
    vectors = CodeVectors(tuple(parts), levels, tokenizer, table)
    drawn = {
        name: torch.randint(SIZE, (FRAMES // CHUNK, len(parts), max(levels)), generator=generator) for name in LINES
    }
    drawn |= {name: drawn[f"clip{i}"] for i, name in enumerate(WRONG)}
    head = {"fps": 30.0, "chunk_len": CHUNK, "num_frames": FRAMES, "codebook_size": SIZE, "tokenizer": tokenizer}
    for split, names in {"train": list(LINES), "val": list(drawn)}.items():
        clips = [
            TokenSequence(
                name=name,
                codes=drawn[name].masked_fill(~has_level[..., 0, 0], -1),
                parts=tuple(parts),
                levels=levels,
                **head,
            )
            for name in names
        ]
        path = folder / f"{split}.jsonl"
        path.write_text("".join(map(write_line, clips)), encoding="utf-8")
        write_vectors_beside(path, vectors, None)
        latents = [latents_text(table[:, 0, 0].expand(4, -1, -1) + clip.codes[..., :1]).encode() for clip in clips]
        write_latents_beside(path, latents, vectors, chunks=dict.fromkeys(names, FRAMES // CHUNK))
    return f"data.tokens={folder}/{{split}}.jsonl"


def references(root: Path) -> dict[str, list[str]]:
    notes = json.loads((root / "annotations.json").read_text(encoding="utf-8"))
    return {name: about["gloss"].split() for name, about in notes.items()}
