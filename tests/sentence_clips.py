"""Tiny data sets for translation: clips with their sentences, from every source, and features beside them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from clips import moving_clip
from data_sets import note, write_csl
from helpers import case_options
from recognition_data import clips_of_three_words, tokens
from signstream.config import from_dict
from signstream.config.translation import SentenceData
from signstream.data.sentences import open_sentences
from signstream.data.sequences import Sequences

TEXT_SOURCES = ("keypoints", "codes", "latents", "glosses")
FEATURES = "features"  # the folder
PLACES = {"SONNE": "die Sonne", "REGEN": "Regen", "WIND": "viel Wind", "MORGEN": "morgen früh", "NORD": "der Norden"}
LEARNT = (
    *("train.epochs=180", "train.warmup_steps=5", "train.wd=0", "train.lr=1e-2", "train.text_lr=1e-2"),
    *("loss.smoothing=0", "loss.ctc=0", "model.freeze=[]", "decode.max_tokens=40", "decode.beams=3"),
    *("model.tiny.width=32", "train.sample_clips=2"),
)


def root_of(
    folder: Path, texts: Mapping[str, str], *, frames: Iterable[int] = (), splits: Mapping | None = None, **notes: dict
) -> Path:
    """Clips of 12 frames and more, with these sentences; `notes`: what else an annotation says, by clip."""
    lengths = list(frames) or [12 + i for i in range(len(texts))]
    clips = {name: moving_clip(lengths[i], i) for i, name in enumerate(texts)}
    said = {name: note(poses, text=texts[name], **notes.get(name, {})) for name, poses in clips.items()}
    return write_csl(folder / "data", clips, dict(splits) if splits else None, said)


def data_of(root: Path, **more: object) -> SentenceData:
    tree = {"root": str(root), "cache": str(root.parent / "cache"), "layout": "csl_daily", "fps": 30, "clean": "none"}
    return from_dict({"task": "translation", "data": {**tree, "points": 133, "visual": None, **more}}).data


def sequences_of(root: Path, **more: object) -> Sequences:
    return open_sentences(data_of(root, **more), quiet=True)


def left_out(sequences: Sequences) -> dict[str, str]:
    return {line.name: line.reason for line in sequences.skipped}


def write_features(root: Path, names: Iterable[str], *, shape: tuple = (18, 5), split: str = "train") -> Path:
    """An npy file a clip; of the i-th all is 100 i and the row's number, so that a row tells whose it is."""
    folder = root / FEATURES / split
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        rows = np.zeros(shape, np.float32) + 100 * number + np.arange(shape[0])[:, None]
        np.save(folder / f"{name}.npy", rows)
    return folder


def eight(source: str, folder: Path, *more: str) -> list[str]:
    """Options of a run of eight clips, to train and to validate on, each with its own sentence."""
    read = [f"data.source={source}"]
    if source in ("codes", "latents"):
        read += [option for option in tokens(source, folder) if option.startswith("data.tokens")]
    else:
        clips_of_three_words(folder)
    path = folder / "data" / "annotations.json"
    notes = json.loads(path.read_text(encoding="utf-8"))
    for about in notes.values():
        first, second, third = (PLACES[word] for word in about["gloss"].split())
        about["text"] = f"Zuerst {first}, dann {second}, am Ende {third}."
    path.write_text(json.dumps(notes), encoding="utf-8")
    made = case_options(folder / "data", "translation", *read, *LEARNT, *more, plain=True)
    return [option for option in made if source == "keypoints" or not option.startswith("data.points")]
