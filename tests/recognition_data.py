"""Tiny data sets for a recogniser, of every source, as the command line's options."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from clips import moving_clip
from data_sets import note, write_csl
from helpers import TINY_TRAINING, case_options, places
from phoenix_data import save_info, write_frames
from signstream.data.phoenix2014 import FEATURES
from signstream.inference.export_beside import latents_text, write_latents_beside, write_vectors_beside
from signstream.tokens.format import TokenSequence, write_line
from signstream.tokens.vectors import CodeVectors

BY_HEART = ("train.epochs=60", "train.warmup_steps=5", "train.wd=0", "train.lr=1e-2", "model.width=48")
PARTS, LEVELS, SIZE, DIM = ("F", "RH"), (1, 2), 32, 8
WORDS = ("SONNE", "REGEN", "WIND", "MORGEN", "NORD")
VECTORS = torch.randn(2, 2, SIZE, DIM, generator=torch.Generator().manual_seed(0))
HAS_LEVEL = (torch.arange(2) < torch.tensor(LEVELS)[:, None])[..., None, None]


def options(root: Path, *more: str) -> list[str]:
    return case_options(root, "recognition", "train.sample_clips=5", *more, plain=True)


def keypoints(folder: Path) -> list[str]:
    return options(clips_of_three_words(folder), *BY_HEART)


def tokens(source: str, folder: Path) -> list[str]:
    """Files of tokens and of what lies beside them: chunks that are drawn, so that no two clips have the same."""
    root, rng = clips_of_three_words(folder), torch.Generator().manual_seed(1)
    vectors = CodeVectors(PARTS, LEVELS, "one", VECTORS * HAS_LEVEL)
    for split in ("train", "val"):
        rng.manual_seed(1)
        clips = []
        for name in sorted(json.loads((root / "annotations.json").read_text(encoding="utf-8"))):
            codes = torch.randint(SIZE, (4, 2, 2), generator=rng)
            codes[:, 0, 1] = -1
            head = {"fps": 30.0, "chunk_len": 10, "num_frames": 40, "parts": PARTS, "levels": LEVELS}
            clips.append(TokenSequence(name=name, codes=codes, codebook_size=SIZE, tokenizer="one", **head))
        path = folder / f"{split}.jsonl"
        path.write_text("".join(map(write_line, clips)), encoding="utf-8")
        write_vectors_beside(path, vectors, None)
        fields = [latents_text(torch.randn(4, 2, DIM, generator=rng)).encode() for _ in clips]
        write_latents_beside(path, fields, vectors, chunks={clip.name: 4 for clip in clips})
    return options(root, *BY_HEART, f"data.source={source}", f"data.tokens={folder}/{{split}}.jsonl")


def clips_of_three_words(folder: Path) -> Path:
    """Eight clips of 40 frames, three words each, to train and to validate on."""
    clips = {f"clip{i}": moving_clip(40, i) for i in range(8)}
    words = [np.random.default_rng(i).permutation(WORDS)[:3] for i in range(8)]
    notes = {name: note(poses, gloss=" ".join(line)) for (name, poses), line in zip(clips.items(), words)}
    return write_csl(folder / "data", clips, {"train": list(clips), "val": list(clips)}, notes)


def frames(folder: Path) -> list[str]:
    """Eight clips of ten small pictures of noise."""
    root = folder / "data"
    for split in ("train", "dev"):
        entries = []
        for i in range(8):
            name = f"clip{i}"
            write_frames(root / FEATURES / split / name / "1", 10, side=32, seed=i)
            label = " ".join(np.random.default_rng(i).permutation(WORDS)[:3])
            about = {"folder": f"{split}/{name}/1/*.png", "signer": "S", "label": label, "num_frames": 10}
            entries.append({"fileid": name, **about})
        save_info(root, split, entries)
    plain = ("crop=false", "mirror=false", "ops=0", "erase=0", "time_scale=0")
    return [
        *(*places(root), *TINY_TRAINING, "task=recognition", "data.frames.size=32", "data.frames.resize=32"),
        *(f"data.frames.augment.{option}" for option in plain),
        *("model.depth=1", "model.head=16", "model.state=8", "model.frames.attention=[]", "model.frames.stem_blocks=1"),
        *(
            "model.frames.state=4",
            "model.frames.axes=3",
            "model.dropout=0",
            "model.drop_path=0",
            "train.average=0.9",
            *BY_HEART,
            "train.epochs=50",
        ),
    ]


SOURCES: dict[str, Callable[[Path], list[str]]] = {
    "keypoints": keypoints,
    "codes": partial(tokens, "codes"),
    "codes as drawn": lambda folder: [*tokens("codes", folder), "model.tokens.vectors=false"],
    "latents": partial(tokens, "latents"),
    "frames": frames,
}


def labelled(folder: Path, train: dict[str, str], val: dict[str, str], frames: int = 40) -> list[str]:
    """Options of clips with these glosses."""
    clips = {name: moving_clip(frames, seed) for seed, name in enumerate([*train, *val])}
    notes = {name: note(clips[name], gloss=gloss) for name, gloss in {**train, **val}.items()}
    root = write_csl(folder / "data", clips, {"train": list(train), "val": list(val)}, notes)
    return options(root, "model.keypoints.strides=[4, 2]")
