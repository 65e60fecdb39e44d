"""How like real signing is the synthetic signer? Measures both with the same code in one run, printed side by side.

    python -m benchmarks.synthetic_realism --real DIR
    python -m benchmarks.synthetic_realism --real DIR --synthetic data/synthetic

Reads two data sets in CSL-Daily's layout; without --synthetic it makes one in a temporary folder. A second table
compares with the real clips of one kind alone, since the real set is a mixture. "explain" marks a ratio outside of a
factor of two; docs/synthetic.md does.

Lengths are in shoulder widths of the clip (its median), times in seconds by each clip's own fps; clips that name no fps
count for lengths and gaps, not for speeds. A joint below score 0.3 is missing. Each part's motion is relative to its
centre joint, the wrists' to the nose.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from signstream import cli
from signstream.data.synthetic.dataset import make_dataset
from signstream.errors import UserError
from signstream.skeleton import (
    COCO_WHOLEBODY,
    FACE,
    LEFT_HAND,
    LEFT_SHOULDER,
    LEFT_WRIST,
    NOSE,
    NOSE_TIP,
    RIGHT_HAND,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
)

VISIBLE = 0.3
BODY_TOP = 11  # nose to wrists: hips and legs stand still or are out of the picture
NO_MOTION = 1e-3  # shoulder widths a second: below it a ratio of two speeds says nothing
PARTS = {
    "body": (range(BODY_TOP), NOSE),
    "face": (range(FACE, LEFT_HAND), NOSE_TIP),
    "left hand": (range(LEFT_HAND, RIGHT_HAND), LEFT_HAND),
    "right hand": (range(RIGHT_HAND, 133), RIGHT_HAND),
    "left wrist": ((LEFT_WRIST,), NOSE),
    "right wrist": ((RIGHT_WRIST,), NOSE),
}


class Measured(NamedTuple):
    """One clip as its files hold it."""

    pose: np.ndarray  # [T, 133, 3]
    fps: float | None


def read_clips(root: Path, split: str, kind: str | None) -> list[Measured]:
    """The clips of one split; `kind` keeps those annotated with it."""
    if not (root / "split_files.json").is_file():
        raise UserError(f"{root} has no split_files.json: a data set in CSL-Daily's layout is needed")
    notes = json.loads((root / "annotations.json").read_text(encoding="utf-8"))
    listed = json.loads((root / "split_files.json").read_text(encoding="utf-8"))[split]
    names = [name for name in listed if kind is None or notes[name].get("kind") == kind]
    if not names:
        raise UserError(f"{root}: split {split!r} has no clip of kind {kind!r}")
    paths = {name: root / "frames_512x512" / f"{name}.npy" for name in names}
    return [Measured(np.load(path, allow_pickle=False)[:, 1:], notes[name].get("fps")) for name, path in paths.items()]


def shoulder_width(pose: np.ndarray) -> float:
    """pose [T, 133, 3] -> the clip's median shoulder width in pixels, NaN where it was never seen."""
    both = (pose[:, [LEFT_SHOULDER, RIGHT_SHOULDER], 2] > VISIBLE).all(1)
    width = np.linalg.norm(pose[both, LEFT_SHOULDER, :2] - pose[both, RIGHT_SHOULDER, :2], axis=-1)
    return float(np.median(width)) if width.size and np.median(width) > 5 else float("nan")


def gaps_of(missing: np.ndarray) -> np.ndarray:
    """missing [T] bool -> the lengths of its runs, in frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], missing.astype(np.int8), [0]])))
    return edges[1::2] - edges[::2]


class Motion(NamedTuple):
    speed: np.ndarray  # [any]
    acceleration: np.ndarray  # [any]


def motion_of(pose: np.ndarray, unit: float, fps: float, *, joints: Sequence[int], centre: int) -> Motion:
    """Of `joints` relative to `centre`, where visible in two (three) frames running."""
    columns = list(joints)
    seen = (pose[:, columns, 2] > VISIBLE) & (pose[:, centre, 2] > VISIBLE)[:, None]
    seen &= (np.asarray(columns) != centre)[None]
    points = (pose[:, columns, :2] - pose[:, centre, None, :2]).astype(np.float64) / unit
    speed = np.linalg.norm(np.diff(points, axis=0), axis=-1)[seen[1:] & seen[:-1]] * fps
    bend = np.linalg.norm(np.diff(points, 2, axis=0), axis=-1)[seen[2:] & seen[1:-1] & seen[:-2]] * fps**2
    return Motion(speed, bend)


def lengths_of(pose: np.ndarray, unit: float) -> dict[str, np.ndarray]:
    """In shoulder widths, one a frame: eye, palm (wrist to middle knuckle), hand (wrist to middle finger's tip)."""

    def apart(a: int, b: int) -> np.ndarray:
        seen = (pose[:, [a, b], 2] > VISIBLE).all(1)
        return np.linalg.norm(pose[seen, a, :2] - pose[seen, b, :2], axis=-1) / unit

    eyes = np.concatenate([apart(a, b) for a, b in COCO_WHOLEBODY.unit_pairs])
    palm = np.concatenate([apart(root, root + 9) for root in (LEFT_HAND, RIGHT_HAND)])
    tips = np.concatenate([apart(root, root + 12) for root in (LEFT_HAND, RIGHT_HAND)])
    return {"eye width": eyes, "palm length": palm, "wrist to middle tip": tips}


def measure(clips: Sequence[Measured]) -> dict[str, float]:
    """All statistics of one set: name -> value."""
    pool: defaultdict[str, list[np.ndarray]] = defaultdict(list)
    for pose, fps in clips:
        unit = shoulder_width(pose)
        if np.isnan(unit):
            continue
        for name, (joints, centre) in PARTS.items():
            if fps:
                motion = motion_of(pose, unit, fps, joints=joints, centre=centre)
                pool[f"{name}: speed"].append(motion.speed)
                pool[f"{name}: acceleration"].append(motion.acceleration)
        for name, values in lengths_of(pose, unit).items():
            pool[name].append(values)
        for name, start in (("left hand", LEFT_HAND), ("right hand", RIGHT_HAND)):
            gone = (pose[:, start : start + 21, 2] <= VISIBLE).all(1)
            pool[f"{name}: share missing"].append(gone)
            pool[f"{name}: gap, seconds"].append(gaps_of(gone) / (fps or 25.0))
        for name, joints in (("body", range(BODY_TOP)), ("face", range(FACE, LEFT_HAND))):
            pool[f"{name}: share missing"].append((pose[:, list(joints), 2] <= VISIBLE).ravel())
        pool["frames in a clip"].append(np.array([len(pose)]))
    return {key: number for name, values in pool.items() for key, number in summary(name, np.concatenate(values))}


def summary(name: str, values: np.ndarray) -> Iterator[tuple[str, float]]:
    """A statistic's mean or percentiles, under the names that are printed."""
    if name.endswith("missing"):
        yield name, float(values.mean())
        return
    spread = any(word in name for word in ("speed", "acceleration", "gap"))
    for q in (10, 50, 90) if spread else (50,):
        yield f"{name} p{q}", float(np.percentile(values, q)) if len(values) else float("nan")


def verdict(synthetic: float, real: float) -> tuple[str, str]:
    """The ratio as text, and whether the two lie within a factor of two."""
    if max(abs(synthetic), abs(real)) < NO_MOTION:
        return "-", "ok"
    ratio = synthetic / real if real else float("inf")
    return f"{ratio:.2f}", "ok" if 0.5 <= ratio <= 2 else "explain"


def print_table(synthetic: dict[str, float], real: dict[str, float], label: str) -> None:
    print(f"\n{'statistic':42s} {'synthetic':>10s} {label:>10s} {'ratio':>7s}")
    for name in sorted(set(synthetic) & set(real)):
        ratio, word = verdict(synthetic[name], real[name])
        print(f"{name:42s} {synthetic[name]:10.4f} {real[name]:10.4f} {ratio:>7s} {word}")


def compare(args: argparse.Namespace) -> None:
    """Measures both sets and prints the tables."""
    with tempfile.TemporaryDirectory() as scratch:
        made = args.synthetic or Path(scratch) / "made"
        if not args.synthetic:
            make_dataset(made, clips=args.clips, seed=args.seed)
        synthetic = measure(read_clips(made, args.split, None))
    print_table(synthetic, measure(read_clips(args.real, args.split, None)), "real")
    if args.kind != "none":
        print_table(synthetic, measure(read_clips(args.real, args.split, args.kind)), args.kind[:10])


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--real", type=Path, required=True, metavar="DIR")
    parser.add_argument("--synthetic", type=Path, help="a synthetic data set (default: make one in a temporary folder)")
    parser.add_argument(
        "--kind",
        default="continuous",
        help="the second table compares with real clips of this kind alone; none: no second table",
    )
    parser.add_argument("--split", default="train", help="split that the statistics are taken from")
    parser.add_argument(
        "--clips",
        type=int,
        default=340,
        help="clips to make: 340 give about as many frames to train on as the real set",
    )
    parser.add_argument("--seed", type=int, default=0)
    compare(parser.parse_args(argv))


if __name__ == "__main__":
    cli.run(main)
