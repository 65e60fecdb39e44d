"""SigLIP's features of every clip's pictures: 180 rows a clip, whatever its length.

    python -m signstream.data.features --model google/siglip-base-patch16-224 --out siglip data.root=DIR

--model is a folder, or the name of what was fetched before; nothing is fetched here. A clip becomes float32
[180, width] of frames that are evenly spaced over it, in OUT/<split>/<name>.npy; the split is called as the data set
itself calls it (`dev`). OUT/features.json says which model made them, and another model is refused. What is finished is
left, so a stopped run goes on. A clip that cannot be read is named with its reason and left out; then the exit status
is 1. Pictures are PNG files, as data.layout=phoenix2014 or one of your own names them; videos are not read yet.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from signstream import cli


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--model", required=True, metavar="NAME", help="a SigLIP: its folder, or its published name")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder, or one to go on with")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="only these (default: all that there are)")
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="pictures at once (default: 32)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    args = cli.parse_with_config(parser, argv)

    from signstream.data.picture_features import extract

    return extract(args)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a killed run leaves nothing half-written
    cli.run(main)
