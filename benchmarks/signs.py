"""What signs are made of, in reconstructed poses, whoever made them: hands in place, handshape, palms, movement, mouth
and brows, as signstream/models/metrics/signing.py measures them.

    python -m benchmarks.signs DATA_ROOT/frames_512x512 RECONSTRUCTIONS [--split-file FILE --split test]

The folders are those of benchmarks/score.py, and a joint counts where it counts there. Printed as JSON,
{"hands": {"location": .., ..}, "mouth_opening": {"correlation": .., ..}, ..}.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import torch

from benchmarks import score
from signstream.models.metrics.signing import Signs

Report = dict[str, dict[str, float]]


def measured(originals: Path, reconstructions: Path, names: Iterable[str] | None = None) -> Report:
    """Of `names`, or of all originals, those that both folders have."""
    signs = Signs()
    for name in sorted(file.stem for file in originals.glob("*.npy")) if names is None else names:
        files = [folder / f"{name}.npy" for folder in (originals, reconstructions)]
        if not all(file.exists() for file in files):
            continue
        poses, made = map(score.read, files)
        score.check(name, poses, made)
        width = score.shoulder_width(poses)
        poses[poses[..., 2] <= score.SEEN] = 0
        places = torch.from_numpy(made[..., :2])
        signs.add(torch.from_numpy(poses), places, width=width if width > score.NARROWEST else None)
    report: Report = {}
    for key, value in signs.result().items():
        group, number = key.split("/")
        report.setdefault(group, {})[number] = value
    return report


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("originals", type=Path, help="a folder of NAME.npy")
    parser.add_argument("reconstructions", type=Path, help="a folder of the same names")
    parser.add_argument(
        "--split-file", type=Path, metavar="FILE", help="JSON, {split: [names]}: only these are measured"
    )
    parser.add_argument("--split", default="test")
    args = parser.parse_args(argv)
    names = json.loads(args.split_file.read_text(encoding="utf-8"))[args.split] if args.split_file else None
    print(json.dumps(measured(args.originals, args.reconstructions, names), indent=1))


if __name__ == "__main__":
    main()
