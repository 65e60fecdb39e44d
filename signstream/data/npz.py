"""The npz layout, Pose Tokenizer's: one archive a clip, in a folder a split.

<root>/processed/{train,val,test}/<name>.npz: `poses` [T, J, 2 or 3] and, if need be, `fps` and `mask` [T], the frames
that count
<root>/annotations.json, as in CSL-Daily's layout, if it is there
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from signstream.config import Poses
from signstream.data.datasets import Clip, PoseData, annotate
from signstream.errors import UserError
from signstream.io.pose_files import Shape, npz_frames, read_npz
from signstream.io.tables import read_table

USUAL = ("train", "val", "test")


class NpzPoses(PoseData):
    def __init__(self, data: Poses) -> None:
        super().__init__(data)
        self.folder = self.root / "processed" if (self.root / "processed").is_dir() else self.root
        if not any((self.folder / split).is_dir() for split in USUAL):
            raise UserError(
                f"data.root {self.root} has none of processed/train, processed/val, processed/test: "
                "that is where the npz layout keeps <name>.npz"
            )
        table = self.root / "annotations.json"
        expected = "an object {name: {text, gloss, signer}}"
        self.annotations = read_table(table, expected, within=self.root) if table.exists() else {}

    def splits(self) -> dict[str, list[str]]:
        folders = sorted(folder for folder in self.folder.iterdir() if folder.is_dir())
        folders.sort(key=lambda folder: USUAL.index(folder.name) if folder.name in USUAL else len(USUAL))
        return {
            folder.name: sorted(file.name[:-4] for file in folder.iterdir() if file.name.endswith(".npz"))
            for folder in folders
        }

    def path(self, split: str, name: str) -> Path:
        return self.folder / split / f"{name}.npz"

    def note(self, split: str, name: str) -> Any:
        return self.annotations.get(name)

    def files(self, split: str, name: str) -> list[Path]:
        return [self.path(split, name)]

    def sources(self) -> list[Path]:
        return [self.root / "annotations.json"]

    def frames(self, split: str, name: str) -> int | None:
        return npz_frames(self.path(split, name))

    def load(self, split: str, name: str) -> Clip:
        path = self.path(split, name)
        arrays = read_npz(path, ("poses", "mask", "fps"), self._check_shapes, within=self.root)
        poses = arrays["poses"]
        if poses.shape[2] == 2:
            poses = np.concatenate((poses, (poses != 0).any(-1, keepdims=True).astype(np.float32)), -1)
        if "mask" in arrays:
            poses = np.where(arrays["mask"].astype(bool)[:, None, None], poses, np.float32(0))
        fps = float(arrays["fps"].ravel()[0]) if "fps" in arrays and arrays["fps"].size else None
        return annotate(Clip(name, poses, fps=fps), self.annotations.get(name))

    def _check_shapes(self, shapes: dict[str, Shape]) -> None:
        joints = self.data.num_joints
        if "poses" not in shapes:
            raise UserError("no array `poses`")
        poses = shapes["poses"]
        if len(poses) != 3 or poses[1] != joints or poses[2] not in (2, 3):
            raise UserError(f"shape {list(poses)}: [T, {joints}, 3] or [T, {joints}, 2] is expected")
        if shapes.get("mask", poses[:1]) != poses[:1]:
            raise UserError(f"mask {list(shapes['mask'])}: [{poses[0]}] is expected")
        if math.prod(shapes.get("fps", ())) > max(poses[0], 1):
            raise UserError(f"fps {list(shapes['fps'])}: one number is expected")
