"""How like real signing is the synthetic signer? Measures both with the same code in one run and prints them side by side.

    python -m benchmarks.synthetic_realism --real ../shared/data/realsign
    python -m benchmarks.synthetic_realism --real ../shared/data/realsign --synthetic data/synthetic --no-reference

Reads two data sets in CSL-Daily's layout; without --synthetic it makes one in a temporary folder. A second table compares with the real
clips of one kind alone, since the real set is a mixture. "explain" marks a ratio outside of a factor of two; docs/synthetic.md does.

Lengths are in shoulder widths of the clip (its median), times in seconds by each clip's own fps; clips that name no fps count for lengths and
gaps, not for speeds. A joint below score 0.3 is missing. Each part's motion is relative to its centre joint, the wrists' to the nose. The
reference error is that of PCA and residual k-means, fitted on a set's train split and scored on its test split by the two programs in --bench.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from signstream.data.synthetic.dataset import make_dataset
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
STILL = 1e-3  # shoulder widths a second: below it a ratio of two speeds says nothing
PARTS = {
    "body": (range(BODY_TOP), NOSE),
    "face": (range(FACE, LEFT_HAND), NOSE_TIP),
    "left hand": (range(LEFT_HAND, RIGHT_HAND), LEFT_HAND),
    "right hand": (range(RIGHT_HAND, 133), RIGHT_HAND),
    "left wrist": ((LEFT_WRIST,), NOSE),
    "right wrist": ((RIGHT_WRIST,), NOSE),
}


def read_clips(root: Path, split: str, kind: str | None) -> list[tuple[np.ndarray, float | None]]:
    """[(poses [T, 133, 3], fps or None)] of one split; `kind` keeps the clips annotated with it."""
    if not (root / "split_files.json").is_file():
        raise ValueError(f"{root} has no split_files.json: a data set in CSL-Daily's layout is needed")
    notes = json.loads((root / "annotations.json").read_text(encoding="utf-8"))
    names = [
        n
        for n in json.loads((root / "split_files.json").read_text(encoding="utf-8"))[split]
        if kind is None or notes[n].get("kind") == kind
    ]
    if not names:
        raise ValueError(f"{root}: split {split!r} has no clip of kind {kind!r}")
    return [
        (np.load(root / "frames_512x512" / f"{n}.npy", allow_pickle=False)[:, 1:], notes[n].get("fps")) for n in names
    ]


def shoulder_width(pose: np.ndarray) -> float:
    """pose [T, 133, 3] -> the clip's median shoulder width in pixels, NaN where it was never seen."""
    both = (pose[:, [LEFT_SHOULDER, RIGHT_SHOULDER], 2] > VISIBLE).all(1)
    width = np.linalg.norm(pose[both, LEFT_SHOULDER, :2] - pose[both, RIGHT_SHOULDER, :2], axis=-1)
    return float(np.median(width)) if width.size and np.median(width) > 5 else float("nan")


def gaps_of(missing: np.ndarray) -> np.ndarray:
    """missing [T] bool -> the lengths of its runs, in frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], missing.astype(np.int8), [0]])))
    return edges[1::2] - edges[::2]


def motion_of(pose: np.ndarray, unit: float, fps: float, joints, centre: int) -> tuple[np.ndarray, np.ndarray]:
    """Speeds [*] and accelerations [*] of `joints` relative to `centre`, where visible in two (three) frames running."""
    joints = list(joints)
    seen = (pose[:, joints, 2] > VISIBLE) & (pose[:, centre, 2] > VISIBLE)[:, None]
    seen &= (np.asarray(joints) != centre)[None]
    place = (pose[:, joints, :2] - pose[:, centre, None, :2]).astype(np.float64) / unit
    speed = np.linalg.norm(np.diff(place, axis=0), axis=-1)[seen[1:] & seen[:-1]] * fps
    bend = np.linalg.norm(np.diff(place, 2, axis=0), axis=-1)[seen[2:] & seen[1:-1] & seen[:-2]] * fps**2
    return speed, bend


def lengths_of(pose: np.ndarray, unit: float) -> dict[str, np.ndarray]:
    """Lengths over the shoulder width, one a frame: eye, palm (wrist to middle knuckle), whole hand (wrist to the middle finger's tip)."""

    def apart(a: int, b: int) -> np.ndarray:
        seen = (pose[:, [a, b], 2] > VISIBLE).all(1)
        return np.linalg.norm(pose[seen, a, :2] - pose[seen, b, :2], axis=-1) / unit

    eyes = np.concatenate([apart(a, b) for a, b in COCO_WHOLEBODY.unit_pairs])
    palm = np.concatenate([apart(root, root + 9) for root in (LEFT_HAND, RIGHT_HAND)])
    tips = np.concatenate([apart(root, root + 12) for root in (LEFT_HAND, RIGHT_HAND)])
    return {"eye width": eyes, "palm length": palm, "wrist to middle tip": tips}


def measure(clips: list) -> dict[str, float]:
    """All statistics of one set: name -> value."""
    pool: dict[str, list] = {}
    hand_frames = {"left hand": [], "right hand": []}
    for pose, fps in clips:
        unit = shoulder_width(pose)
        if np.isnan(unit):
            continue
        for name, (joints, centre) in PARTS.items():
            if fps:
                speed, bend = motion_of(pose, unit, fps, joints, centre)
                pool.setdefault(f"{name}: speed", []).append(speed)
                pool.setdefault(f"{name}: acceleration", []).append(bend)
        for name, values in lengths_of(pose, unit).items():
            pool.setdefault(name, []).append(values)
        for name, start in (("left hand", LEFT_HAND), ("right hand", RIGHT_HAND)):
            gone = (pose[:, start : start + 21, 2] <= VISIBLE).all(1)
            hand_frames[name].append(gone)
            pool.setdefault(f"{name}: gap, seconds", []).append(gaps_of(gone) / (fps or 25.0))
        for name, joints in (("body", range(BODY_TOP)), ("face", range(FACE, LEFT_HAND))):
            pool.setdefault(f"{name}: share missing", []).append((pose[:, list(joints), 2] <= VISIBLE).ravel())
        pool.setdefault("frames in a clip", []).append([len(pose)])
    out = {}
    for name, values in pool.items():
        values = np.concatenate(values)
        if name.endswith("missing"):
            out[name] = float(values.mean())
            continue
        for q in (10, 50, 90) if "speed" in name or "acceleration" in name or "gap" in name else (50,):
            out[f"{name} p{q}"] = float(np.percentile(values, q)) if len(values) else float("nan")
    for name, gone in hand_frames.items():
        out[f"{name}: share missing"] = float(np.concatenate(gone).mean())
    return out


def reference_error(root: Path, bench: Path, split: str) -> dict[str, float]:
    """PCA and residual k-means from `root`'s train split to `split`: part -> error in shoulder widths."""
    with tempfile.TemporaryDirectory() as out:
        fit = [sys.executable, str(bench / "baseline_pca_rvq.py"), "--data", str(root), "--split", split, "--out", out]
        score = [
            sys.executable,
            str(bench / "score_reconstruction.py"),
            "--reference",
            str(root),
            "--split",
            split,
            "--reconstructed",
            out,
        ]
        subprocess.run(fit, check=True)
        report = json.loads(subprocess.run(score, check=True, capture_output=True, text=True).stdout)
    parts = {f"reference error: {p}": report[p]["local"] for p in ("body", "face", "left_hand", "right_hand")}
    return {
        **parts,
        "reference error: hands_local": report["hands_local"],
        "reference error: mean_local": report["mean_local"],
    }


def verdict(synthetic: float, real: float) -> tuple[str, str]:
    """The ratio as text, and whether the two lie within a factor of two."""
    if max(abs(synthetic), abs(real)) < STILL:
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
        synthetic, real = measure(read_clips(made, args.split, None)), measure(read_clips(args.real, args.split, None))
        if not args.no_reference:
            synthetic.update(reference_error(made, args.bench, "test"))
            real.update(reference_error(args.real, args.bench, "test"))
    print_table(synthetic, real, "real")
    if args.kind != "none":
        print_table(synthetic, measure(read_clips(args.real, args.split, args.kind)), args.kind[:10])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=Path("../shared/data/realsign"))
    parser.add_argument("--synthetic", type=Path, help="a synthetic data set (default: make one in a temporary folder)")
    parser.add_argument(
        "--bench", type=Path, default=Path("../shared/bench"), help="folder with the reference and its scorer"
    )
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
    parser.add_argument("--no-reference", action="store_true", help="leave out the reference error (minutes)")
    args = parser.parse_args(argv)
    try:
        compare(args)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
