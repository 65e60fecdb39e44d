"""Tiny trained translators, each in a run's folder, of eight clips that they know by heart; and what they say."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

import signstream
from clips import moving_clip
from data_sets import note, write_csl
from helpers import PLAIN_DATA, TINY_TRAINING, begin_loop, places, run_steps
from recognition_runs import FRAMES, LINES
from signstream.errors import UserError
from signstream.inference import translate
from signstream.inference.translation.translator import Translator
from signstream.training import checkpoint
from signstream.training.run_folder import RunFolder

SENTENCES = {
    "clip0": "The sun shines in the north.",
    "clip1": "tomorrow it rains",
    "clip2": "Wind comes up in the morning!",
    "clip3": "it was cold yesterday, and dry",
    "clip4": "snow falls on the mountains",
    "clip5": "The sun shines in the north.",
    "clip6": "fog by the river",
    "clip7": "a storm moves east tonight",
}
BY_HEART = (
    *("task=translation", "experiment_name=default", "data.layout=csl_daily", "data.visual=null", "data.clean=none"),
    *("data.fps=30", "model.source_language=en_XX", "model.target_language=en_XX", "model.freeze=[]"),
    *("model.encoder.width=32", "model.encoder.depth=1", "model.encoder.heads=2", "model.encoder.visual_layers=0"),
    *("model.encoder.dropout=0", "model.encoder.drop_path=0", "model.tiny.dropout=0"),
    *("model.tiny.width=32", "model.tiny.layers=1", "model.tiny.heads=2", "model.tiny.vocabulary=120"),
    *("train.lr=1e-2", "train.text_lr=1e-2", "train.wd=0", "train.epochs=200", "train.warmup_steps=10"),
    *("loss.smoothing=0", "decode.beams=3", "decode.max_tokens=24"),
)


class Run(NamedTuple):
    checkpoint: Path
    numbers: dict[str, float]  # of its last validation
    translator: Translator


def make_root(folder: Path) -> Path:
    """val holds the clips of train."""
    clips = {name: moving_clip(FRAMES, i) for i, name in enumerate(SENTENCES)}
    notes = {
        name: note(poses, text=SENTENCES[name], gloss=" ".join(LINES[name]), signer="Anna")
        for name, poses in clips.items()
    }
    return write_csl(folder / "data", clips, {"train": list(clips), "val": list(clips)}, notes)


def make_run(folder: Path, *more: str, steps: int = 100) -> Run:
    """Of keypoints, unless `more` says otherwise."""
    root = folder / "data"
    root = root if root.exists() else make_root(folder)
    loop = begin_loop([*places(root), *TINY_TRAINING, *PLAIN_DATA[:3], *BY_HEART, *more])
    run_steps(loop, steps)
    numbers = loop.validate(health=False).numbers
    run = RunFolder.create(folder / "runs", "default")
    checkpoint.save({**loop.state_dict(), "generators": []}, run.best)
    return Run(run.best, numbers, signstream.translator(run.best, device="cpu"))


def said_by(checkpoints: Path | list[Path], *options) -> list[dict]:
    """The lines that it wrote."""
    paths = checkpoints if isinstance(checkpoints, list) else [checkpoints]
    out = paths[0].parent / "out.jsonl"
    translate.main(["--checkpoint", *map(str, paths), "--out", str(out), *map(str, options)])
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    out.unlink()
    return lines


def refused(checkpoints: Path | list[Path], *options) -> str:
    with pytest.raises(UserError) as caught:
        said_by(checkpoints, *options)
    line = str(caught.value)
    assert line.isprintable() and len(line) < 400
    first = checkpoints[0] if isinstance(checkpoints, list) else checkpoints
    assert not (first.parent / "out.jsonl").exists()
    return line


def type_in(monkeypatch, poses: np.ndarray) -> None:
    text = "".join(f"{json.dumps(frame)}\n" for frame in poses.tolist())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
