"""Turns a data set, or what an estimator wrote, into another layout: CSL-Daily's, npz, .pose files, or an estimator's.

    python -m signstream.data.convert --from csl_daily --to npz --root CSL-Daily --out data/npz
    python -m signstream.data.convert --from pose --to csl_daily --root data/holistic --out data/csl --splits train val
    python -m signstream.data.convert --from pose --to npz --root ONE_FOLDER --split-file splits.json --out data/npz
    python -m signstream.data.convert --from rtmpose --to csl_daily --root pickles --size 512 512 --out data/csl

The layouts, and what each of them holds, are in docs/data.md. Poses stay [T, 133, 3] as they were read, bit for bit;
other skeletons' points become COCO-WholeBody's 133, of several people the one who signs. Text, gloss, signer and
segments travel in annotations.json, whatever the layout. What is lost is said in a line. A clip that cannot be read is
named with its reason and left out; then the exit status is 1. --out appears when all of it is written.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from signstream import cli

WRITTEN = ("csl_daily", "npz", "pose", "openpose", "rtmpose")
LAYOUTS = (*WRITTEN, "mediapipe75")


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--from", dest="origin", required=True, choices=LAYOUTS, help="the layout of --root")
    parser.add_argument("--to", dest="target", required=True, choices=WRITTEN, help="the layout of --out")
    parser.add_argument("--root", required=True, metavar="DIR")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to make; must not exist or be empty"
    )
    parser.add_argument(
        "--split-file", metavar="FILE", help="the splits' names, where they are not <root>/split_files.json or folders"
    )
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="only these (default: all that there are)")
    parser.add_argument(
        "--size",
        nargs=2,
        type=float,
        metavar=("W", "H"),
        help="the pictures' size, where neither an estimator's files nor annotations.json say it",
    )
    args = cli.parse_with_config(parser, argv)

    from signstream.data.conversion import convert, open_root

    source = open_root(
        args.origin, args.config, args.overrides, root=args.root, split_file=args.split_file, size=args.size
    )
    return convert(source, args.target, args.out, splits=args.splits)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a killed run leaves nothing half-written
    cli.run(main)
