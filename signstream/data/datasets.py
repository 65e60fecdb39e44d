"""Pose files on disk -> Clip. Nothing here knows of caches, chunks or models.

A data set is a subclass of PoseData: which clips each split names, and how one is loaded. What cannot be a clip raises a ValueError
whose text is the reason ("missing file", "shape [12, 3]", ...); the cache counts and lists it. Config `data.layout` picks the class:
`csl_daily`, `npz`, or one of your own, under the name that it was registered by (docs/data.md has an example of twenty lines).
No file is read in a way that could run code, and no clip is ever made up.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from signstream import registry, skeleton
from signstream.config import Data
from signstream.data.frontend import FARTHEST
from signstream.errors import UserError
from signstream.io.pose_files import npy_frames, npz_frames, read_npy, read_npz
from signstream.io.readme_parser import README_NAME, check_readme, parse_readme
from signstream.skeleton import Skeleton

TWICE = "duplicate name: two annotations that differ"


@dataclass(frozen=True)
class Clip:
    """One video's poses. Missing joints may hold anything; a score that is too low or no number says they are missing."""

    name: str
    poses: np.ndarray  # [T, J, 3] float32: x px, y px, score
    fps: float | None = None  # None: not known
    size: tuple[float, float] | None = None  # width and height of the picture
    text: str = ""
    gloss: str = ""
    signer: str = ""
    segments: tuple[
        tuple[int, int, str], ...
    ] = ()  # (first frame, one past the last, gloss) where the annotation has them


class PoseData:
    """What a user extends: `splits` and `load`; `files` lets the cache see that a clip changed, `frames` lets it say its size first."""

    def __init__(self, data: Data) -> None:
        self.data, self.root = (
            data,
            Path(os.path.realpath(data.root)),
        )  # however it is spelled, the same files have the same paths

    def splits(self) -> dict[str, list[str]]:
        """The clips' names, split by split. A name need only be unique in its split."""
        raise NotImplementedError(f"{type(self).__name__} must say which clips each split has")

    def load(self, split: str, name: str) -> Clip:
        """The clip, or a ValueError whose text is the reason why there is none."""
        raise NotImplementedError(f"{type(self).__name__} must load a clip")

    def files(self, split: str, name: str) -> list[Path]:
        return []

    def frames(self, split: str, name: str) -> int | None:
        """How many frames the clip has, if that is cheap to know."""
        return None

    def sources(self) -> list[Path]:
        """Files that say something of all clips: the cache is rebuilt when one of them changes."""
        return []


class CSLDaily(PoseData):
    """<root>/frames_512x512/<name>.npy [T, 134 or 133, 3] (of 134 rows the first holds the picture's size), annotations.json, split_files.json."""

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.split_path = Path(data.split_file) if data.split_file else self.root / "split_files.json"
        if not self.root.is_dir():
            raise UserError(
                f"data.root {self.root} is no folder: it should hold frames_512x512/, annotations.json and split_files.json; "
                "`python -m signstream.data.synthetic --out DIR` makes such a data set"
            )
        readme = self.root / README_NAME
        if readme.is_file():
            check_readme(parse_readme(readme.read_text(encoding="utf-8", errors="replace")), data, readme)
        self.annotations = read_table(
            self.root / "annotations.json", "an object {name: {text, gloss, num_frames, signer}}"
        )
        self.names = read_table(self.split_path, 'an object {"train": [names], "val": [names], "test": [names]}')
        for split, names in self.names.items():
            if names == TWICE:
                raise UserError(
                    f"{self.split_path}: the split {split!r} stands there twice, with other names: keep one"
                )
            if _name_fault(split):
                raise UserError(f"{self.split_path}: the split {split!r} has an {_name_fault(split)}")
            if not isinstance(names, list):
                raise UserError(
                    f"{self.split_path}: {split!r} is a {type(names).__name__}: a list of clips' names is expected"
                )

    def splits(self) -> dict[str, list[str]]:
        return self.names

    def path(self, name: str) -> Path:
        return self.root / "frames_512x512" / f"{name}.npy"

    def files(self, split: str, name: str) -> list[Path]:
        return [self.path(name)]

    def sources(self) -> list[Path]:
        return [self.split_path, self.root / "annotations.json", self.root / README_NAME]

    def frames(self, split: str, name: str) -> int | None:
        return npy_frames(self.path(name))

    def load(self, split: str, name: str) -> Clip:
        note = self.annotations.get(name)
        if not isinstance(note, dict):
            wrong = f"annotation: {type(note).__name__} instead of an object"
            raise UserError("no annotation" if note is None else note if note == TWICE else wrong)
        poses, joints = read_npy(self.path(name)), self.data.num_joints
        if poses.ndim != 3 or poses.shape[1] not in (joints, joints + 1) or poses.shape[2] != 3:
            raise UserError(f"shape {list(poses.shape)}: [T, {joints + 1}, 3] or [T, {joints}, 3] is expected")
        stated = note.get("num_frames")
        if self.data.check_num_frames and isinstance(stated, (int, float)) and stated != len(poses):
            raise UserError(f"num_frames: the annotation says {stated}, the file has {len(poses)}")
        size = None
        if poses.shape[1] == joints + 1:
            size, poses = _picture_size(poses[:, 0]), poses[:, 1:]
        return Clip(
            name,
            poses,
            fps=note.get("fps"),
            size=size,
            text=str(note.get("text") or ""),
            gloss=str(note.get("gloss") or ""),
            signer="" if note.get("signer") is None else str(note["signer"]),
            segments=_segments(note.get("segments"), len(poses)),
        )


class NpzPoses(PoseData):
    """<root>/processed/{train,val,test}/<name>.npz: `poses` [T, N, 2 or 3], optional `mask` [T] of the frames that count, optional `fps`;
    <root>/annotations.json, as in CSL-Daily's layout, if it is there."""

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.folder = self.root / "processed" if (self.root / "processed").is_dir() else self.root
        if not any((self.folder / split).is_dir() for split in ("train", "val", "test")):
            raise UserError(
                f"data.root {self.root} has none of processed/train, processed/val, processed/test: "
                "that is where the npz layout keeps <name>.npz"
            )
        table = self.root / "annotations.json"
        self.annotations = read_table(table, "an object {name: {text, gloss, signer}}") if table.is_file() else {}

    def splits(self) -> dict[str, list[str]]:
        folders, usual = [folder for folder in self.folder.iterdir() if folder.is_dir()], ["train", "val", "test"]
        found = {
            folder.name: sorted(f.name[:-4] for f in folder.iterdir() if f.name.endswith(".npz")) for folder in folders
        }
        return {
            split: found[split]
            for split in sorted(found, key=lambda s: (usual.index(s) if s in usual else len(usual), s))
        }

    def path(self, split: str, name: str) -> Path:
        return self.folder / split / f"{name}.npz"

    def files(self, split: str, name: str) -> list[Path]:
        return [self.path(split, name)]

    def sources(self) -> list[Path]:
        return [self.root / "annotations.json"]

    def frames(self, split: str, name: str) -> int | None:
        return npz_frames(self.path(split, name))

    def load(self, split: str, name: str) -> Clip:
        arrays, joints = read_npz(self.path(split, name), ("poses", "mask", "fps")), self.data.num_joints
        if "poses" not in arrays:
            raise UserError("no array `poses`")
        poses = arrays["poses"]
        if poses.ndim != 3 or poses.shape[1] != joints or poses.shape[2] not in (2, 3):
            raise UserError(f"shape {list(poses.shape)}: [T, {joints}, 3] or [T, {joints}, 2] is expected")
        if poses.shape[2] == 2:
            poses = np.concatenate((poses, (poses != 0).any(-1, keepdims=True).astype(np.float32)), -1)
        if "mask" in arrays:
            mask = arrays["mask"]
            if mask.shape != poses.shape[:1]:
                raise UserError(f"mask {list(mask.shape)}: [{len(poses)}] is expected")
            poses = np.where(mask.astype(bool)[:, None, None], poses, np.float32(0))
        fps = float(arrays["fps"].ravel()[0]) if "fps" in arrays and arrays["fps"].size else None
        return annotate(Clip(name, poses, fps=fps), self.annotations.get(name))


def annotate(clip: Clip, note: Any) -> Clip:
    """The clip with what an annotation says of it; a frame rate or a size that is no number changes nothing."""
    if not isinstance(note, dict):
        return clip
    words = {key: str(note[key]) for key in ("text", "gloss", "signer") if note.get(key) is not None}
    size = note.get("size")
    good = (
        isinstance(size, list)
        and len(size) == 2
        and all(isinstance(side, (int, float)) and 0 < side < FARTHEST for side in size)
    )
    return replace(
        clip,
        **words,
        fps=_frame_rate(note.get("fps")) or clip.fps,
        size=(float(size[0]), float(size[1])) if good else clip.size,
        segments=_segments(note.get("segments"), len(clip.poses)),
    )


def load_checked(source: PoseData, split: str, name: str) -> Clip:
    """`source.load`, with the checks that hold for every data set; a ValueError says why there is no clip."""
    clip, joints = source.load(split, name), source.data.num_joints
    if clip.poses.dtype.kind not in "fiub":
        raise UserError(f"type {clip.poses.dtype}: numbers are expected")
    if clip.poses.ndim != 3 or clip.poses.shape[1:] != (joints, 3):
        raise UserError(f"shape {list(clip.poses.shape)}: [T, {joints}, 3] is expected")
    if len(clip.poses) == 0:
        raise UserError("no frame")
    finite = np.isfinite(clip.poses)
    if not finite[..., :2].any():
        raise UserError("not finite")
    if not ((clip.poses[..., 2] > source.data.min_score) & (np.abs(clip.poses[..., :2]) < FARTHEST).all(-1)).any():
        raise UserError("no visible joint")
    return replace(clip, fps=_frame_rate(clip.fps))


registry.LAYOUTS.update(csl_daily=CSLDaily, npz=NpzPoses)


def open_data(data: Data) -> PoseData:
    """The data set that the config names, its own files read and checked."""
    kind = registry.find("layout", data.layout)
    if not (isinstance(kind, type) and issubclass(kind, PoseData)):
        raise UserError(f"data.layout is {data.layout!r}: a subclass of signstream.data.datasets.PoseData is expected")
    return kind(data)


def skeleton_of(data: Data) -> Skeleton:
    body = skeleton.build(data.num_joints, data.body_parts, data.centers, data.unit_joints, data.mirror_pairs)
    if data.augment.mirror and body.flip is None:
        raise UserError(
            "data.augment.mirror needs to know left from right: give data.mirror_pairs for this skeleton, or set it to false"
        )
    return body


def usable_names(names: list[Any]) -> tuple[list[str], list[tuple[str, str]]]:
    """The names a split may use, and (name, reason) for the others: a name becomes a path, so it may not lead elsewhere."""
    good, refused, seen = [], [], Counter()
    for name in names:
        reason = _name_fault(name)
        if reason is None and seen[name]:
            reason = "duplicate name"
        if reason is None:
            good.append(name)
            seen[name] += 1
        else:
            refused.append((str(name).encode("utf-8", "backslashreplace").decode(), reason))
    return good, refused


def _name_fault(name: Any) -> str | None:
    if not isinstance(name, str) or not name:
        return "unsafe name: text is expected"
    if "/" in name or "\\" in name or "\0" in name or name in (".", ".."):
        return "unsafe name: it would lead out of the folder"
    try:
        return "unsafe name: longer than a file's name can be" if len(name.encode("utf-8")) > 240 else None
    except UnicodeEncodeError:
        return "unsafe name: not valid UTF-8"


def read_table(path: Path, expected: str) -> dict[str, Any]:
    """A JSON object, or one line that says what is wrong with it."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for key, value in pairs:
            table[key] = TWICE if key in table and isinstance(value, (dict, list)) and value != table[key] else value
        return table

    try:
        table = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {expected} is expected there") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON that can be read: {error}") from None
    if not isinstance(table, dict):
        raise UserError(f"{path} holds a {type(table).__name__}: {expected} is expected")
    return table


def _frame_rate(value: Any) -> float | None:
    """Frames a second, where it is a rate that a video may have; a tiny one would make millions of frames of a clip."""
    good = isinstance(value, Real) and not isinstance(value, bool) and 1 <= value <= 1000
    return float(value) if good else None


def _picture_size(row: np.ndarray) -> tuple[float, float] | None:
    """Row 0 of the frames, [T, 3]: the first that holds a width and a height."""
    good = np.isfinite(row[:, :2]).all(1) & (row[:, :2] > 0).all(1)
    return (float(row[good][0, 0]), float(row[good][0, 1])) if good.any() else None


def _segments(value: Any, frames: int) -> tuple[tuple[int, int, str], ...]:
    """Gloss segments as the annotation gives them; what is no [first, one past the last, gloss] inside the clip is none."""
    if not isinstance(value, list):
        return ()
    shaped = [s for s in value if isinstance(s, list) and len(s) == 3 and all(isinstance(n, int) for n in s[:2])]
    return tuple((first, last, str(gloss)) for first, last, gloss in shaped if 0 <= first < last <= frames)
