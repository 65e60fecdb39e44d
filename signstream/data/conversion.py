"""A data set in another layout, clip by clip: CSL-Daily's, npz, .pose files, and what estimators write.

    convert(open_source("pose", data), "npz", out) -> exit status, 1 if a clip was left out

Poses stay [T, 133, 3] as they were read, bit for bit. Text, gloss, signer and segments travel in annotations.json,
whatever the layout. A clip that cannot be read is named with its reason and left out.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from signstream.config import Data, load_config
from signstream.data.csl_daily import CSLDaily
from signstream.data.datasets import Clip, PoseData, is_size, load_checked, splits_of, usable_names
from signstream.data.dot_pose import DotPose, open_library, write_pose
from signstream.data.estimates import TABLE, Estimates, check_skeleton
from signstream.data.mediapipe75 import MediaPipe75
from signstream.data.npz import NpzPoses
from signstream.data.openpose import OpenPose, write_openpose
from signstream.data.rtmpose import RTMPose, write_rtmpose
from signstream.errors import UserError
from signstream.io.whole import whole_folder

SIZELESS: dict[str, type[Estimates]] = {"openpose": OpenPose, "rtmpose": RTMPose, "mediapipe75": MediaPipe75}
LAYOUTS: dict[str, type[PoseData]] = {"csl_daily": CSLDaily, "npz": NpzPoses, "pose": DotPose, **SIZELESS}


class Read(NamedTuple):
    """One clip that was asked for. Without a reason why there is none, there is one; its poses go once written."""

    split: str
    name: str
    reason: str = ""
    frames: int = 0
    clip: Clip | None = None


def open_root(
    layout: str,
    config_file: str | None,
    overrides: Sequence[str],
    *,
    root: str,
    split_file: str | None,
    size: list[float] | None = None,
) -> PoseData:
    """The data set at `root`, with what a config says of it beside."""
    data = load_config(config_file, list(overrides)).data
    return open_source(layout, replace(data, root=root, split_file=split_file), size)


def open_source(layout: str, data: Data, size: list[float] | None = None) -> PoseData:
    if layout == "npz" and data.split_file:
        raise UserError("--split-file: the npz layout's folders are its splits; leave the option out")
    if size is None:
        return LAYOUTS[layout](data)
    if layout not in SIZELESS:
        raise UserError(f"--size: only {', '.join(SIZELESS)} do not know their pictures' size; leave the option out")
    if not is_size(size):
        raise UserError(f"--size {size[0]:g} {size[1]:g}: a width and a height in pixels are expected")
    return SIZELESS[layout](data, (size[0], size[1]))


def choose_splits(source: PoseData, wanted: Sequence[str] | None) -> dict[str, list[str]]:
    splits = splits_of(source)
    if unknown := [split for split in wanted or () if split not in splits]:
        raise UserError(f"--splits: {source.root} has no split {unknown[0]!r}, but {', '.join(splits)}")
    return {split: splits[split] for split in wanted or splits}


def note_of(clip: Clip) -> dict[str, Any]:
    """A clip's annotation, as CSL-Daily's layout has it, with the picture's size, which npz files have no place for."""
    note: dict[str, Any] = {
        "text": clip.text,
        "gloss": clip.gloss,
        "num_frames": len(clip.poses),
        "signer": clip.signer,
    }
    if clip.fps is not None:
        note["fps"] = int(clip.fps) if clip.fps.is_integer() else clip.fps
    if clip.size is not None:
        note["size"] = list(clip.size)
    if clip.segments:
        note["segments"] = [list(segment) for segment in clip.segments]
    return note


def read_clips(source: PoseData, splits: Mapping[str, list[str]]) -> Iterator[Read]:
    for split, listed in splits.items():
        names, refused = usable_names(listed)
        yield from (Read(split, name, reason) for name, reason in refused)
        for name in names:
            try:
                clip = load_checked(source, split, name)
                yield Read(split, name, frames=len(clip.poses), clip=clip)
            except ValueError as error:
                yield Read(split, name, " ".join(str(error).split()))


def csl_daily_rows(clip: Clip) -> np.ndarray:
    """[T, 134, 3], the picture's size first; [T, 133, 3] where it is not known."""
    if clip.size is None:
        return clip.poses
    return np.concatenate((np.full((len(clip.poses), 1, 3), (*clip.size, 1), np.float32), clip.poses), 1)


def write_csl_daily(root: Path, split: str, clip: Clip) -> None:
    rows = csl_daily_rows(clip)
    path = root / "frames_512x512" / f"{clip.name}.npy"
    if path.exists() and not np.array_equal(np.load(path, allow_pickle=False), rows, equal_nan=True):
        raise UserError("duplicate name: another split has another clip of it, and this layout has one place for both")
    np.save(path, rows)


def write_npz(root: Path, split: str, clip: Clip) -> None:
    rate = {} if clip.fps is None else {"fps": np.float64(clip.fps)}
    np.savez(root / "processed" / split / f"{clip.name}.npz", poses=clip.poses, **rate)


def write_dot_pose(root: Path, split: str, clip: Clip) -> None:
    write_pose(root / split / f"{clip.name}.pose", clip)


def write_openpose_folder(root: Path, split: str, clip: Clip) -> None:
    write_openpose(root / split / clip.name, clip)


def write_pickle(root: Path, split: str, clip: Clip) -> None:
    write_rtmpose(root / split / f"{clip.name}.pkl", clip)


WRITERS: dict[str, Callable[[Path, str, Clip], None]] = {
    "csl_daily": write_csl_daily,
    "npz": write_npz,
    "pose": write_dot_pose,
    "openpose": write_openpose_folder,
    "rtmpose": write_pickle,
}


def make_folders(root: Path, layout: str, splits: Mapping[str, list[str]]) -> None:
    if layout == "csl_daily":
        (root / "frames_512x512").mkdir()
        return
    for split in dict.fromkeys(("train", "val", "test", *splits)):  # the usual three are what such a root is known by
        (root / "processed" / split if layout == "npz" else root / split).mkdir(parents=True)


def write_clip(root: Path, layout: str, read: Read, *, notes: dict[str, dict[str, Any]]) -> Read:
    """Writes the clip and its annotation into `notes`; what was read without its poses, or why it was not written."""
    if read.clip is None:
        return read
    note = note_of(read.clip)
    try:
        if notes.get(read.name, note) != note:
            raise UserError("duplicate name: another split has a clip of it that is annotated otherwise")
        WRITERS[layout](root, read.split, read.clip)
    except ValueError as error:
        return Read(read.split, read.name, " ".join(str(error).split()))
    notes[read.name] = note
    return read._replace(clip=None)


def write_all(root: Path, layout: str, source: PoseData, *, splits: Mapping[str, list[str]]) -> list[Read]:
    """The data set in its new layout; what was read, each clip's poses let go."""
    notes: dict[str, dict[str, Any]] = {}
    make_folders(root, layout, splits)
    total = sum(len(names) for names in splits.values())
    reads = tqdm(read_clips(source, splits), total=total, desc="convert", unit="clip", disable=None)
    done = [write_clip(root, layout, read, notes=notes) for read in reads]
    kept = {split: [read.name for read in done if not read.reason and read.split == split] for split in splits}
    if layout == "csl_daily":
        (root / "split_files.json").write_text(json.dumps(kept, indent=0) + "\n", encoding="utf-8")
    (root / TABLE).write_text(json.dumps(notes, indent=0) + "\n", encoding="utf-8")
    return done


def table(done: Sequence[Read], splits: Iterable[str], facts: Sequence[tuple[int, str]]) -> str:
    """What became of the clips, a line a fact, its number of clips first; `facts`: what else is to be said of some."""
    counts = Counter(read.split for read in done if not read.reason)
    reasons = Counter(read.reason.split(":")[0].split(" [")[0].split(" (")[0] for read in done if read.reason)
    by_split = ", ".join(f"{split} {counts[split]}" for split in splits)
    lines = [(counts.total(), f"converted: {by_split}; {sum(read.frames for read in done)} frames")]
    lines += [(count, f"left out: {reason}") for reason, count in reasons.most_common()]
    lines += facts
    return "\n".join(f"{count:>8}  {fact}" for count, fact in lines)


def without_point(joints: str) -> str:
    return f"without a point for {joints}: score 0"


def facts_of(source: PoseData) -> list[tuple[int, str]]:
    """(clips, what an estimator's files lack and what of them was lost)."""
    if not isinstance(source, Estimates):
        return []
    lacks = [(clips, without_point(joints)) for clips, joints in source.lacks()]
    return lacks + [(clips, f"lost: {what}") for clips, what in source.loses()]


def convert(source: PoseData, layout: str, out: Path, *, splits: Sequence[str] | None = None) -> int:
    """`source` into the new folder `out`, in another layout; 1 if a clip was left out."""
    chosen = choose_splits(source, splits)
    if layout not in ("csl_daily", "npz"):
        check_skeleton(source.data)
    if layout == "pose":
        open_library()
    with whole_folder(out) as root:
        done = write_all(root, layout, source, splits=chosen)
        left_out = [read for read in done if read.reason]
        for read in left_out:
            print(f"left out: {read.split}/{read.name}: {read.reason}", file=sys.stderr)
        if len(left_out) == len(done):
            raise UserError(f"--root {source.root} has no clip that can be converted: nothing was written")
    print(table(done, chosen, facts_of(source)))
    print(f"wrote {out}", flush=True)
    return 1 if left_out else 0
