"""Turns a data set into another layout: CSL-Daily's, npz, or .pose files.

    python -m signstream.data.convert --from csl_daily --to npz --root CSL-Daily --out data/npz
    python -m signstream.data.convert --from pose --to csl_daily --root data/holistic --out data/csl --splits train val
    python -m signstream.data.convert --from pose --to npz --root folder_of_files --split-file splits.json --out data/npz

The layouts, and what each of them holds, are in docs/data.md. Poses stay [T, 133, 3] as they were read, bit for bit; MediaPipe Holistic's 543 points
become COCO-WholeBody's 133. Text, gloss, signer and segments travel in annotations.json, whatever the layout.
A clip that cannot be read is named with its reason and left out; then the exit status is 1. --out appears when all of it is written.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from signstream import cli
from signstream.config import Data, load_config
from signstream.errors import UserError

if TYPE_CHECKING:
    from signstream.data.datasets import Clip, PoseData

LAYOUTS = ("csl_daily", "npz", "pose")
TABLE = "annotations.json"


class Read(NamedTuple):
    """One clip that was asked for. Without a reason why there is none, there is one; its poses are let go once they are written."""

    split: str
    name: str
    reason: str = ""
    frames: int = 0
    clip: Clip | None = None


def open_source(layout: str, data: Data) -> PoseData:
    from signstream.data.csl_daily import CSLDaily
    from signstream.data.dot_pose import DotPose
    from signstream.data.npz import NpzPoses

    if layout == "npz" and data.split_file:
        raise UserError("--split-file: the npz layout's folders are its splits; leave the option out")
    return {"csl_daily": CSLDaily, "npz": NpzPoses, "pose": DotPose}[layout](data)


def choose_splits(source: PoseData, asked: list[str] | None) -> dict[str, list[Any]]:
    found = source.splits()
    if unknown := [split for split in asked or () if split not in found]:
        raise UserError(f"--splits: {source.root} has no split {unknown[0]!r}, but {', '.join(found)}")
    return {split: found[split] for split in asked or found}


def read_notes(source: PoseData) -> dict[str, Any]:
    """The annotations that lie beside .pose files. The other layouts' classes read their own."""
    from signstream.data.dot_pose import DotPose
    from signstream.io.tables import read_table

    path = source.root / TABLE
    return (
        read_table(path, "an object {name: {text, gloss, signer}}")
        if isinstance(source, DotPose) and path.is_file()
        else {}
    )


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


def read_clips(source: PoseData, splits: dict[str, list[Any]]) -> Iterator[Read]:
    from signstream.data.datasets import annotate, load_checked, usable_names

    notes = read_notes(source)
    for split, listed in splits.items():
        names, refused = usable_names(listed)
        yield from (Read(split, name, reason) for name, reason in refused)
        for name in names:
            try:
                clip = annotate(load_checked(source, split, name), notes.get(name))
                yield Read(split, name, frames=len(clip.poses), clip=clip)
            except ValueError as error:
                yield Read(split, name, " ".join(str(error).split()))


def write_csl_daily(root: Path, split: str, clip: Clip) -> None:
    import numpy as np

    from signstream.io.pose_files import read_npy

    rows = clip.poses
    if clip.size is not None:
        rows = np.concatenate((np.full((len(rows), 1, 3), (*clip.size, 1), np.float32), rows), 1)
    path = root / "frames_512x512" / f"{clip.name}.npy"
    if path.exists() and not np.array_equal(read_npy(path), rows, equal_nan=True):
        raise UserError("duplicate name: another split has another clip of it, and this layout has one place for both")
    np.save(path, rows)


def write_npz(root: Path, split: str, clip: Clip) -> None:
    import numpy as np

    rate = {} if clip.fps is None else {"fps": np.float64(clip.fps)}
    np.savez(root / "processed" / split / f"{clip.name}.npz", poses=clip.poses, **rate)


def write_dot_pose(root: Path, split: str, clip: Clip) -> None:
    from signstream.data.dot_pose import write_pose

    write_pose(root / split / f"{clip.name}.pose", clip)


WRITERS: dict[str, Callable[[Path, str, Any], None]] = {
    "csl_daily": write_csl_daily,
    "npz": write_npz,
    "pose": write_dot_pose,
}


def make_folders(root: Path, layout: str, splits: dict[str, list[Any]]) -> None:
    if layout == "csl_daily":
        (root / "frames_512x512").mkdir()
        return
    for split in dict.fromkeys(("train", "val", "test", *splits)):  # the usual three are what such a root is known by
        (root / "processed" / split if layout == "npz" else root / split).mkdir(parents=True)


def write_all(root: Path, layout: str, source: PoseData, splits: dict[str, list[Any]]) -> list[Read]:
    """The data set in its new layout; what was read, each clip's poses let go."""
    from tqdm import tqdm

    done: list[Read] = []
    notes: dict[str, dict[str, Any]] = {}
    make_folders(root, layout, splits)
    total = sum(len(names) for names in splits.values())
    for read in tqdm(read_clips(source, splits), total=total, desc="convert", unit="clip", disable=None):
        if read.clip is not None:
            note = note_of(read.clip)
            try:
                if notes.get(read.name, note) != note:
                    raise UserError("duplicate name: another split has a clip of it that is annotated otherwise")
                WRITERS[layout](root, read.split, read.clip)
                notes[read.name] = note
            except ValueError as error:
                read = read._replace(frames=0, reason=" ".join(str(error).split()))
            read = read._replace(clip=None)
        done.append(read)
    kept = {split: [read.name for read in done if not read.reason and read.split == split] for split in splits}
    if layout == "csl_daily":
        (root / "split_files.json").write_text(json.dumps(kept, indent=0) + "\n", encoding="utf-8")
    (root / TABLE).write_text(json.dumps(notes, indent=0) + "\n", encoding="utf-8")
    return done


def table(done: list[Read], splits: dict[str, list[Any]], lacks: list[tuple[int, str]]) -> str:
    """What became of the clips, a line a fact, its number of clips first."""
    counts = Counter(read.split for read in done if not read.reason)
    reasons = Counter(read.reason.split(":")[0].split(" [")[0].split(" (")[0] for read in done if read.reason)
    by_split = ", ".join(f"{split} {counts[split]}" for split in splits)
    lines = [(counts.total(), f"converted: {by_split}; {sum(read.frames for read in done)} frames")]
    lines += [(count, f"left out: {reason}") for reason, count in reasons.most_common()]
    lines += [(count, f"without a point for {words}: score 0") for count, words in lacks]
    return "\n".join(f"{count:>8}  {fact}" for count, fact in lines)


def convert(source: PoseData, layout: str, out: Path, asked: list[str] | None) -> int:
    from signstream.data.dot_pose import DotPose, check_skeleton, open_library
    from signstream.data.synthetic.dataset import written_whole

    splits = choose_splits(source, asked)
    if layout == "pose":
        check_skeleton(source.data)
        open_library()
    with written_whole(out) as root:
        done = write_all(root, layout, source, splits)
        left_out = [read for read in done if read.reason]
        for read in left_out:
            print(f"left out: {read.split}/{read.name}: {read.reason}", file=sys.stderr)
        if len(left_out) == len(done):
            raise UserError(f"--root {source.root} has no clip that can be converted: nothing was written")
    print(table(done, splits, source.lacks() if isinstance(source, DotPose) else []))
    print(f"wrote {out}", flush=True)
    return 1 if left_out else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m signstream.data.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--from", dest="origin", required=True, choices=LAYOUTS, help="the layout of --root")
    parser.add_argument("--to", dest="target", required=True, choices=LAYOUTS, help="the layout of --out")
    parser.add_argument("--root", required=True, metavar="DIR")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to make; must not exist or be empty"
    )
    parser.add_argument(
        "--split-file", metavar="FILE", help="the splits' names, where they are not <root>/split_files.json or folders"
    )
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="only these (default: all that there are)")
    args = cli.parse_with_config(parser, argv)
    config = load_config(args.config, args.overrides)
    source = open_source(args.origin, replace(config.data, root=args.root, split_file=args.split_file))
    return convert(source, args.target, args.out, args.splits)


if __name__ == "__main__":
    from signstream.cli import run

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a killed run leaves nothing half-written
    run(main)
