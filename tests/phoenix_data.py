"""Tiny data sets in PHOENIX-2014's layout: a few grey frames, pickled labels and keypoints."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clips import moving_clip
from data_sets import data_config
from signstream.config import Data
from signstream.data.phoenix2014 import FEATURES, KEYPOINTS
from signstream.data.phoenix_joints import keypoints_key, phoenix_joints
from signstream.errors import UserError
from test_fuzz import allocates, mutate

SIDE = 24  # pixels of a frame
CLIPS = {
    "train": {"05May_2010_Wednesday_heute_default-3": 7, "06May_2010_Thursday_tagesschau_default-11": 5},
    "dev": {"07May_2010_Friday_heute_default-0": 6},
    "test": {"08May_2010_Saturday_heute_default-1": 6},
}
LABELS = {"train": "loc-NORD  REGEN-PLUSPLUS __ON__", "dev": " REGEN  MORGEN ", "test": "SONNE"}


def keypoints_of(frames: int, seed: int = 0) -> np.ndarray:
    """[T, 121, 3] float32 in pixels of a 256 x 256 frame."""
    return phoenix_joints(moving_clip(frames, seed, unit=8.0, nose=(128.0, 70.0)))


def entry(split: str, name: str, frames: int, **more: Any) -> dict[str, Any]:
    folder, signer, label = f"{split}/{name}/1/*.png", "Signer04", LABELS[split]
    original = f"{name}|{name}/1/*.png|{signer}|{label}"
    note = {"fileid": name, "folder": folder, "signer": signer, "label": label, "num_frames": frames}
    return {**note, "original_info": original, **more}


def write_frames(folder: Path, frames: int, side: int = SIDE, seed: int = 0) -> np.ndarray:
    """[T, H, W, 3] uint8, as they were written."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = np.random.default_rng(seed).integers(0, 256, (frames, side, side, 3), np.uint8)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"fn{number:06d}-0.png")
    return pictures


def save_table(path: Path, table: Any) -> None:
    np.save(path, np.array(table, dtype=object), allow_pickle=True)


def save_info(root: Path, split: str, entries: list[Any]) -> None:
    save_table(root / f"{split}_info.npy", {"prefix": "/nobody/has/this", **dict(enumerate(entries))})


def save_keypoints(root: Path, keypoints: dict[str, Any]) -> None:
    (root / KEYPOINTS).write_bytes(pickle.dumps(keypoints, protocol=4))


def write_phoenix(root: Path, clips: dict[str, dict[str, int]] | None = None) -> Path:
    clips = CLIPS if clips is None else clips
    root.mkdir(parents=True, exist_ok=True)
    keypoints = {}
    for split, names in clips.items():
        for seed, (name, frames) in enumerate(names.items()):
            write_frames(root / FEATURES / split / name / "1", frames, seed=seed)
            keypoints[keypoints_key(split, name)] = {"keypoints": keypoints_of(frames, seed)}
        save_info(root, split, [entry(split, name, frames) for name, frames in names.items()])
    save_keypoints(root, keypoints)
    words = sorted({word for label in LABELS.values() for word in label.split()})
    save_table(root / "gloss_dict.npy", {word: [index, 1] for index, word in enumerate(words, 1)})
    return root


def phoenix_config(root: Path, **options: Any) -> Data:
    return data_config(root, layout="phoenix2014", fps=25, **options)


def fuzz(path: Path, seeds: list[bytes], call: Callable[[], object], *, head: int, count: int) -> list[str]:
    """What each mutated file makes of the call: "" or the one line that it is refused with."""
    rng = np.random.default_rng(6)
    lines = []
    for i in range(count):
        path.write_bytes(mutate(rng, seeds[i % len(seeds)], head))
        try:
            allocates(40 << 20, call) if i % 10 == 0 else call()  # tracing is dear
            lines.append("")
        except UserError as error:
            lines.append(str(error) or "no reason")
    assert all("\n" not in line and len(line) < 600 for line in lines)
    return lines
