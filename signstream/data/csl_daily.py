"""CSL-Daily's layout: an npy file a clip, annotations and splits as JSON, a README that is held against the config.

<root>/frames_512x512/<name>.npy [T, 134 or 133, 3] (of 134 rows the first holds the picture's size)
<root>/annotations.json {name: {text, gloss, num_frames, signer, fps, segments}}
<root>/split_files.json {split: [names]}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from signstream.config import Poses
from signstream.data.datasets import Clip, PoseData, name_fault, segments_of
from signstream.errors import UserError
from signstream.io.pose_files import Shape, npy_frames, read_npy
from signstream.io.readme_parser import README_NAME, check_readme, parse_readme, read_readme
from signstream.io.tables import TWICE, read_table

SPLITS = 'an object {"train": [names], "val": [names], "test": [names]}'


class CSLDaily(PoseData):
    def __init__(self, data: Poses) -> None:
        super().__init__(data)
        self.split_path = Path(data.split_file) if data.split_file else self.root / "split_files.json"
        if not self.root.is_dir():
            raise UserError(
                f"data.root {self.root} is no folder: it should hold frames_512x512/, annotations.json and "
                "split_files.json; `python -m signstream.data.synthetic --out DIR` makes such a data set"
            )
        readme = self.root / README_NAME
        if readme.is_file():
            check_readme(parse_readme(read_readme(readme, self.root)), data, readme)
        expected = "an object {name: {text, gloss, num_frames, signer}}"
        self.annotations = read_table(self.root / "annotations.json", expected, within=self.root)
        # A file that the user names may lie anywhere.
        self.names = read_table(self.split_path, SPLITS, within=None if data.split_file else self.root)
        for split, names in self.names.items():
            if names == TWICE:
                raise UserError(
                    f"{self.split_path}: the split {split!r} stands there twice, with other names: keep one"
                )
            if name_fault(split):
                raise UserError(f"{self.split_path}: the split {split!r} has an {name_fault(split)}")
            if not isinstance(names, list):
                raise UserError(
                    f"{self.split_path}: {split!r} is a {type(names).__name__}: a list of clips' names is expected"
                )

    def splits(self) -> dict[str, list[str]]:
        return self.names

    def path(self, name: str) -> Path:
        return self.root / "frames_512x512" / f"{name}.npy"

    def note(self, split: str, name: str) -> Any:
        return self.annotations.get(name)

    def files(self, split: str, name: str) -> list[Path]:
        return [self.path(name)]

    def sources(self) -> list[Path]:
        return [self.split_path, self.root / "annotations.json", self.root / README_NAME]

    def frames(self, split: str, name: str) -> int | None:
        return npy_frames(self.path(name))

    def load(self, split: str, name: str) -> Clip:
        note = self._note(name)
        poses = read_npy(self.path(name), self._check_shape, within=self.root)
        joints = self.data.num_joints
        stated = note.get("num_frames")
        if self.data.check_num_frames and isinstance(stated, (int, float)) and stated != len(poses):
            raise UserError(f"num_frames: the annotation says {stated}, the file has {len(poses)}")
        size = None
        if poses.shape[1] == joints + 1:
            size = _picture_size(poses[:, 0])
            poses = poses[:, 1:]
        return Clip(
            name,
            poses,
            fps=note.get("fps"),
            size=size,
            text=str(note.get("text") or ""),
            gloss=str(note.get("gloss") or ""),
            signer="" if note.get("signer") is None else str(note["signer"]),
            segments=segments_of(note.get("segments"), len(poses)),
        )

    def _check_shape(self, shape: Shape) -> None:
        joints = self.data.num_joints
        if len(shape) != 3 or shape[1] not in (joints, joints + 1) or shape[2] != 3:
            raise UserError(f"shape {list(shape)}: [T, {joints + 1}, 3] or [T, {joints}, 3] is expected")

    def _note(self, name: str) -> dict[str, Any]:
        note = self.annotations.get(name)
        if note is None:
            raise UserError("no annotation")
        if not isinstance(note, dict):
            raise UserError(note if note == TWICE else f"annotation: {type(note).__name__} instead of an object")
        return note


def _picture_size(row: np.ndarray) -> tuple[float, float] | None:
    """Row 0 of the frames, [T, 3]: the first that holds a width and a height."""
    good = np.isfinite(row[:, :2]).all(1) & (row[:, :2] > 0).all(1)
    return (float(row[good][0, 0]), float(row[good][0, 1])) if good.any() else None
