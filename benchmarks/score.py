"""How far reconstructed poses are from the originals, whoever made them: a scorer that knows no model, only NumPy.

    python -m benchmarks.score DATA_ROOT/frames_512x512 RECONSTRUCTIONS [--split-file FILE --split test] [--tokens FILE]

Both folders hold a file NAME.npy a clip, [T, 133, 3] in pixels (x, y, score); a row before the joints, the picture's
size, is passed over, and a reconstruction needs no score. Printed as JSON, in shoulder widths of the clip:

    local          mean distance of a part's joints after each side's own centre joint is taken away, over all frames
                   of all clips that show the joint and the centre; local_pck@0.1: the share of these below 0.1
    hands_local    the mean of both hands' local         mean_local   of the four parts'
    tokens         with --tokens, what a tokens.jsonl costs: bits_per_s counts log2(codebook_size + 1) a symbol

signstream/models/metrics/recon.py computes the same numbers from batches; tests/test_score.py holds both equal.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

JOINTS, LEFT_SHOULDER, RIGHT_SHOULDER = 133, 5, 6
SEEN = 0.3  # a joint counts where its score is above
NARROWEST = 1.0  # pixels between the shoulders that are still a measure
NEAR = 0.1  # shoulder widths


class Part(NamedTuple):
    joints: slice
    centre: int  # both count from 0, over all joints


PARTS = {
    "body": Part(slice(0, 17), 0),
    "face": Part(slice(23, 91), 31),
    "left_hand": Part(slice(91, 112), 91),
    "right_hand": Part(slice(112, 133), 112),
}


def read(file: Path) -> np.ndarray:
    """Poses [T, 133, 2 or 3], float64."""
    poses = np.load(file, allow_pickle=False).astype(np.float64)
    return poses[:, -JOINTS:] if poses.shape[1] == JOINTS + 1 else poses


def shoulder_width(original: np.ndarray) -> float:
    """The median over the frames that show both shoulders, in pixels; 0 where none does."""
    seen = (original[:, [LEFT_SHOULDER, RIGHT_SHOULDER], 2] > SEEN).all(axis=1)
    across = original[seen, LEFT_SHOULDER, :2] - original[seen, RIGHT_SHOULDER, :2]
    return float(np.median(np.hypot(across[:, 0], across[:, 1]))) if seen.any() else 0.0


def distances(original: np.ndarray, reconstructed: np.ndarray, part: Part) -> np.ndarray:
    """[n] pixels, of the n joints of a part that count, each side about its own centre."""
    seen = (original[:, part.joints, 2] > SEEN) & (original[:, part.centre, 2] > SEEN)[:, None]
    shift = reconstructed[..., :2] - original[..., :2]
    apart = shift[:, part.joints] - shift[:, part.centre][:, None]
    return np.hypot(apart[..., 0], apart[..., 1])[seen]


def check(name: str, original: np.ndarray, reconstructed: np.ndarray) -> None:
    if len(original) != len(reconstructed):
        raise SystemExit(f"{name}: {len(reconstructed)} frames are reconstructed, of {len(original)}")
    if not np.isfinite(reconstructed[..., :2]).all():
        raise SystemExit(f"{name}: the reconstruction holds NaN or infinity")


def score(originals: Path, reconstructions: Path, names: Iterable[str] | None = None) -> dict[str, Any]:
    """The report, of `names`, or of all originals. A clip without a reconstruction is `missing`; one without
    shoulders cannot be measured, and is counted nowhere."""
    errors: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}
    report: dict[str, Any] = {"clips": 0, "missing": 0, "unit": "shoulder width"}
    for name in sorted(file.stem for file in originals.glob("*.npy")) if names is None else names:
        original, reconstruction = (folder / f"{name}.npy" for folder in (originals, reconstructions))
        if not original.exists():
            continue
        if not reconstruction.exists():
            report["missing"] += 1
            continue
        poses, made = read(original), read(reconstruction)
        check(name, poses, made)
        if (width := shoulder_width(poses)) <= NARROWEST:
            continue
        report["clips"] += 1
        for part, where in PARTS.items():
            errors[part].append(distances(poses, made, where) / width)
    return report | summary({part: np.concatenate(each) for part, each in errors.items() if each})


def summary(errors: dict[str, np.ndarray]) -> dict[str, Any]:
    """{part: {"local": .., "local_pck@0.1": ..}, "hands_local": .., "mean_local": ..}, of the parts that were seen."""
    measured = {part: values for part, values in errors.items() if values.size}
    report: dict[str, Any] = {
        part: {"local": float(values.mean()), f"local_pck@{NEAR:g}": float((values < NEAR).mean())}
        for part, values in measured.items()
    }
    for name, parts in {"hands_local": ("left_hand", "right_hand"), "mean_local": tuple(PARTS)}.items():
        if of := [report[part]["local"] for part in parts if part in measured]:
            report[name] = float(np.mean(of))
    return report


def cost(tokens: Path) -> dict[str, Any]:
    """What a tokens.jsonl (docs/tokens.md, the layout by chunk) takes: a symbol is a code, or the mark of a run."""
    count: Counter[str] = Counter()
    seconds, size = 0.0, None
    for record in map(json.loads, tokens.read_text(encoding="utf-8").splitlines()):
        if "tokens" not in record:
            continue
        size = record.get("meta", {}).get("codebook_size", size)
        frames = record.get("num_frames", len(record["tokens"]) * record["chunk_len"])
        seconds += frames / record["fps"]
        count["chunks"] += math.ceil(frames / record["chunk_len"])
        for codes in (value for row in record["tokens"] for key, value in row.items() if key != "t"):
            is_run = codes[:1] == ["NC"]
            count["nc_runs" if is_run else "codes"] += 1 if is_run else len(codes)
    symbols = count["codes"] + count["nc_runs"]
    report = {name: count[name] for name in ("codes", "nc_runs", "chunks")} | {"seconds": seconds}
    report |= {"symbols_per_chunk": symbols / max(count["chunks"], 1), "symbols_per_s": symbols / max(seconds, 1e-9)}
    return report | ({"bits_per_s": report["symbols_per_s"] * math.log2(size + 1)} if size else {})


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("originals", type=Path, help="a folder of NAME.npy")
    parser.add_argument("reconstructions", type=Path, help="a folder of the same names")
    parser.add_argument("--split-file", type=Path, metavar="FILE", help="JSON, {split: [names]}: only these are scored")
    parser.add_argument("--split", default="test")
    parser.add_argument("--tokens", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    names = json.loads(args.split_file.read_text(encoding="utf-8"))[args.split] if args.split_file else None
    report = score(args.originals, args.reconstructions, names)
    print(json.dumps(report | ({"tokens": cost(args.tokens)} if args.tokens else {}), indent=1))


if __name__ == "__main__":
    main()
