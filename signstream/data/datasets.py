"""What a data set is: Clip, PoseData, and the checks that hold for every clip. Knows of no cache, chunk or model.

    source = open_data(config.data)        load_checked(source, split, name) -> Clip, poses [T, J, 3] in pixels

A data set is a subclass of PoseData: which clips each split names, and how one is loaded. What cannot be a clip raises
a ValueError whose text is the reason ("missing file", "shape [12, 3]", ...); the cache counts and lists it. Config
`data.layout` picks the class: `csl_daily`, `npz`, `phoenix2014`, `phoenix14t` (a file each beside this one), or one of
your own, by the name it was registered under (docs/data.md has an example of twenty lines). No file is read in a way
that could run code, and no clip is ever made up.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from signstream import registry, skeleton
from signstream.config import Poses
from signstream.config.common import FASTEST, SLOWEST
from signstream.data.frontend import FARTHEST
from signstream.errors import UserError, odd_character, one_line
from signstream.io.pose_files import LARGEST
from signstream.skeleton import Skeleton

Segment = tuple[int, int, str]  # first frame, one past the last, gloss
PIECE = 8192  # frames that are looked at together


@dataclass(frozen=True)
class Clip:
    """One video's poses. A missing joint may hold anything; a score that is too low or no number says it is missing."""

    name: str
    poses: np.ndarray  # [T, J, 3] float32: x px, y px, score
    fps: float | None = None  # None: not known
    size: tuple[float, float] | None = None  # width and height of the picture
    text: str = ""
    gloss: str = ""
    signer: str = ""
    segments: tuple[Segment, ...] = ()  # where the annotation has them


class FrameFiles(NamedTuple):
    """A clip as pictures, and what is signed in it."""

    paths: Sequence[Path]  # T, in order
    gloss: str
    signer: str
    size: tuple[float, float] | None = None  # of the picture whose pixels the poses are in; None: of these


class PoseData:
    """What a user extends: `splits` and `load`. `files` lets the cache see that a clip changed, `frames` lets
    it say how large it will be; `frame_files` is for data sets that have pictures too."""

    def __init__(self, data: Poses) -> None:
        self.data = data
        self.root = Path(os.path.realpath(data.root))  # however it is spelled, the same files have the same paths

    def splits(self) -> dict[str, list[str]]:
        """The clips' names, split by split. A name need only be unique in its split."""
        raise NotImplementedError(f"{type(self).__name__} must say which clips each split has")

    def load(self, split: str, name: str) -> Clip:
        """The clip, or a ValueError whose text is the reason why there is none."""
        raise NotImplementedError(f"{type(self).__name__} must load a clip")

    def frame_files(self, split: str, name: str) -> FrameFiles:
        """The clip's pictures, or a ValueError as of `load`."""
        raise UserError(f"no frames: the layout {self.data.layout} has poses alone")

    def split_folder(self, split: str) -> str:
        """What the data set itself calls the split, as its folders do."""
        return split

    def note(self, split: str, name: str) -> Any:
        """What an annotation says of the clip, as JSON holds it; None: the data set has none."""
        return None

    def files(self, split: str, name: str) -> list[Path]:
        return []

    def frames(self, split: str, name: str) -> int | None:
        """How many frames the clip has, if that is cheap to know."""
        return None

    def sources(self) -> list[Path]:
        """Files that say something of all clips: the cache is rebuilt when one of them changes."""
        return []


def annotate(clip: Clip, note: Any) -> Clip:
    """The clip with what an annotation says of it; a frame rate or a size that is no number changes nothing."""
    if not isinstance(note, dict):
        return clip
    size = note.get("size")
    return replace(
        clip,
        text=_words(note, "text", clip.text),
        gloss=_words(note, "gloss", clip.gloss),
        signer=_words(note, "signer", clip.signer),
        fps=_frame_rate(note.get("fps")) or clip.fps,
        size=(float(size[0]), float(size[1])) if is_size(size) else clip.size,
        segments=segments_of(note.get("segments"), len(clip.poses)),
    )


def _words(note: dict[str, Any], key: str, otherwise: str) -> str:
    return otherwise if note.get(key) is None else str(note[key])


def is_size(value: Any) -> TypeGuard[list[float]]:
    pair = isinstance(value, list) and len(value) == 2
    return pair and all(isinstance(side, (int, float)) and 0 < side < FARTHEST for side in value)


def load_checked(source: PoseData, split: str, name: str) -> Clip:
    """`source.load`, with the checks that hold for every data set; a ValueError says why there is no clip."""
    clip = source.load(split, name)
    joints = source.data.num_joints
    if clip.poses.dtype.kind not in "fiub":
        raise UserError(f"type {clip.poses.dtype}: numbers are expected")
    if clip.poses.ndim != 3 or clip.poses.shape[1:] != (joints, 3):
        raise UserError(f"shape {list(clip.poses.shape)}: [T, {joints}, 3] is expected")
    if len(clip.poses) == 0:
        raise UserError("no frame")
    rate = _frame_rate(clip.fps)
    _check_length(len(clip.poses), rate, source.data)
    pieces = [clip.poses[start : start + PIECE] for start in range(0, len(clip.poses), PIECE)]
    if not any(np.isfinite(piece[..., :2]).any() for piece in pieces):
        raise UserError("not finite")
    if not any(_visible(piece, source.data.min_score) for piece in pieces):
        raise UserError("no visible joint")
    return replace(clip, fps=rate)


def _check_length(frames: int, fps: float | None, data: Poses) -> None:
    """A slow clip becomes many times its frames: so what the front end gives is bounded as a file is."""
    ready = min(frames * data.fps / (fps or data.fps), data.max_frames or math.inf)
    if ready * data.num_joints * 12 > LARGEST:
        rate = f" at {fps:g} a second" * bool(fps)
        raise UserError(f"too long: {frames} frames{rate} are {ready:.0f} at {data.fps:g}; data.max_frames=N cuts them")


def _visible(poses: np.ndarray, min_score: float) -> bool:
    return bool(((poses[..., 2] > min_score) & (np.abs(poses[..., :2]) < FARTHEST).all(-1)).any())


def open_data(data: Poses) -> PoseData:
    """The data set that the config names, its own files read and checked."""
    kind = registry.find("layout", data.layout)
    if not (isinstance(kind, type) and issubclass(kind, PoseData)):
        raise UserError(f"data.layout is {data.layout!r}: a subclass of signstream.data.datasets.PoseData is expected")
    return kind(data)


def skeleton_of(data: Poses) -> Skeleton:
    """The skeleton that the config describes, able to be mirrored where augmentation mirrors."""
    body = skeleton.build(
        data.num_joints,
        data.body_parts,
        data.centers,
        unit_joints=data.unit_joints,
        mirror_pairs=data.mirror_pairs,
    )
    if data.augment.mirror and body.flip is None:
        raise UserError(
            "data.augment.mirror needs to know left from right: "
            "give data.mirror_pairs for this skeleton, or set it to false"
        )
    return body


def usable_names(names: list[Any]) -> tuple[list[str], list[tuple[str, str]]]:
    """The names a split may use, and (name, reason) of the others: a name becomes a path, so
    it may not lead elsewhere."""
    usable: dict[str, None] = {}
    refused: list[tuple[str, str]] = []
    for name in names:
        reason = name_fault(name)
        if reason is None and name in usable:
            reason = "duplicate name"
        if reason is None:
            usable[name] = None
        else:
            refused.append((one_line(str(name)), reason))
    return list(usable), refused


def name_fault(name: Any) -> str | None:
    """Why a name cannot be that of a file in its folder."""
    if not isinstance(name, str) or not name:
        return "unsafe name: text is expected"
    if "/" in name or "\\" in name or "\0" in name or name in (".", ".."):
        return "unsafe name: it would lead out of the folder"
    try:
        if len(name.encode("utf-8")) > 240:
            return "unsafe name: longer than a file's name can be"
    except UnicodeEncodeError:
        return "unsafe name: not valid UTF-8"
    odd = odd_character(name)
    return None if odd is None else f"unsafe name: it holds the character {odd}"


def splits_of(source: PoseData) -> dict[str, list[str]]:
    """`source.splits`, whose names can be printed."""
    splits = source.splits()
    for split in splits:
        if odd := odd_character(split):
            raise UserError(f"{source.root}: the split {split!r} has an unsafe name: it holds the character {odd}")
    return splits


def _frame_rate(value: Any) -> float | None:
    """Frames a second, where it is a rate that a video may have; a tiny one would make millions of frames of a clip."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return float(value) if is_number and SLOWEST <= value <= FASTEST else None


def segments_of(value: Any, frames: int) -> tuple[Segment, ...]:
    """Gloss segments of an annotation; what is no [first, one past the last, gloss] inside the clip is none."""
    if not isinstance(value, list):
        return ()
    shaped = [s for s in value if isinstance(s, list) and len(s) == 3 and all(isinstance(n, int) for n in s[:2])]
    return tuple((first, last, str(gloss)) for first, last, gloss in shaped if 0 <= first < last <= frames)
