"""Features of every clip's pictures, clip by clip, in a folder that one model fills (picture_model.py).

extract(args) -> exit status, 1 if a clip was left out
clip_features(model, paths, batch=32, within=root) -> [180, width] float32
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from signstream.config import load_config
from signstream.data.conversion import choose_splits
from signstream.data.datasets import PoseData, name_fault, open_data, usable_names
from signstream.data.even_frames import ROWS, indices
from signstream.data.picture_model import PictureModel, open_model
from signstream.errors import UserError, shown
from signstream.io.frame_files import read_frames
from signstream.io.pose_files import Shape, read_npy
from signstream.io.tables import read_table
from signstream.io.whole import write_whole

ABOUT = "features.json"
MOST_AT_ONCE = 4096


class Done(NamedTuple):
    """What became of a clip: made, left as it was, or why there is nothing."""

    clip: str
    made: bool = False
    reason: str = ""


def clip_features(model: PictureModel, paths: Sequence[Path], *, batch: int, within: Path | None = None) -> np.ndarray:
    """[180, width] float32. Each picture is read and run once."""
    if not paths:
        raise UserError("no frame")
    distinct, places = np.unique(indices(len(paths)), return_inverse=True)
    batches = [[paths[int(i)] for i in distinct[at : at + batch]] for at in range(0, len(distinct), batch)]
    rows = np.concatenate([model.rows(read_frames(some, within)) for some in batches])
    if not np.isfinite(rows).all():
        raise UserError("not finite: what the model makes of it")
    return np.ascontiguousarray(rows[places], dtype=np.float32)


def claim(out: Path, name: str, model: PictureModel) -> None:
    """Writes what fills the folder, or refuses one that something else has begun to fill."""
    path, about = out / ABOUT, {"rows": ROWS, **model.about()}
    if not path.exists():
        if next(out.glob("*/*.npy"), None) is not None:
            raise UserError(
                f"--out {out} holds features of an unknown model, as it has no {ABOUT}: name another folder"
            )
        out.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"model": name, **about}, indent=2) + "\n"
        write_whole(path, lambda file: file.write(content.encode()))
        return
    there = read_table(path, "an object {model, rows, digest, width, pictures}")
    for key, ours in about.items():
        if there.get(key) != ours:
            raise UserError(
                f"--out {out} holds features of the model {shown(there.get('model'))}, whose {key} is "
                f"{shown(there.get(key), 40)}; {shown(name)} has {shown(ours, 40)}: name another folder"
            )


def is_finished(path: Path, width: int) -> bool:
    """Read to its end, since somebody else may have cut it off."""
    try:
        return read_npy(path, lambda shape: _check_shape(shape, width)).shape == (ROWS, width)
    except UserError:
        return False


def _check_shape(shape: Shape, width: int) -> None:
    if shape != (ROWS, width):
        raise UserError(f"shape {list(shape)}: {[ROWS, width]} is expected")


def make_all(
    source: PoseData, splits: dict[str, list[str]], model: PictureModel, *, out: Path, batch: int
) -> Iterator[Done]:
    for split, listed in splits.items():
        names, refused = usable_names(listed)
        folder = out / source.split_folder(split)
        folder.mkdir(exist_ok=True)
        yield from (Done(f"{split}/{name}", reason=reason) for name, reason in refused)
        for name in names:
            path = folder / f"{name}.npy"
            if is_finished(path, model.width):
                yield Done(f"{split}/{name}")
                continue
            try:
                rows = clip_features(model, source.frame_files(split, name).paths, batch=batch)
                _save(path, rows)
                yield Done(f"{split}/{name}", made=True)
            except ValueError as error:
                yield Done(f"{split}/{name}", reason=" ".join(str(error).split()))


def _save(path: Path, rows: np.ndarray) -> None:
    write_whole(path, lambda file: np.save(file, rows, allow_pickle=False))


def check(source: PoseData, splits: dict[str, list[str]], batch: int) -> None:
    """What would leave out every clip is said before a model is opened."""
    if not 1 <= batch <= MOST_AT_ONCE:
        raise UserError(f"--batch is {shown(batch)}: 1 to {MOST_AT_ONCE} pictures are possible")
    if type(source).frame_files is PoseData.frame_files:
        raise UserError(
            f"data.layout {source.data.layout} has poses alone: features are made of pictures, as phoenix2014 has them"
        )
    for split in splits:
        if fault := name_fault(source.split_folder(split)):
            raise UserError(f"the split {shown(split)} can have no folder: {fault}")


def table(done: Sequence[Done]) -> str:
    """What became of the clips, a line a fact, its number of clips first."""
    reasons = Counter(one.reason.split(":")[0] for one in done if one.reason)
    lines: list[tuple[int, str]] = [(sum(one.made for one in done), "made")]
    lines += [(sum(not one.made and not one.reason for one in done), "finished before")]
    lines += [(count, f"left out: {reason}") for reason, count in reasons.most_common()]
    return "\n".join(f"{count:>8}  {fact}" for count, fact in lines)


def extract(args: argparse.Namespace) -> int:
    """The door's work, on its arguments."""
    source = open_data(load_config(args.config, list(args.overrides)).data)
    splits: dict[str, list[Any]] = choose_splits(source, args.splits)
    check(source, splits, args.batch)
    model = open_model(args.model, args.device)
    claim(args.out, args.model, model)
    total = sum(len(names) for names in splits.values())
    made = make_all(source, splits, model, out=args.out, batch=args.batch)
    done = list(tqdm(made, total=total, desc="features", unit="clip", disable=None))
    left_out = [one for one in done if one.reason]
    for one in left_out:
        print(f"left out: {one.clip}: {one.reason}", file=sys.stderr)
    print(table(done))
    print(f"wrote {args.out}", flush=True)
    return 1 if left_out else 0
