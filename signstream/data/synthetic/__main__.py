"""Writes a data set of a synthetic signer, in the layout of CSL-Daily, PHOENIX-2014 or PHOENIX-2014-T: something to
train and test on without a licence.

    python -m signstream.data.synthetic --out data/synthetic --clips 2000 --seed 0
    python -m signstream.data.synthetic --out data/tiny --clips 24 --seed 1 --signers 4 --glosses 40 --workers 1
    python -m signstream.data.synthetic --out data/streams --clips 600 --stream 5 --text near
    python -m signstream.data.synthetic --layout phoenix2014 --out data/phoenix --clips 400 --seed 0
    python -m signstream.data.synthetic --layout phoenix14t --out data/phoenix14t --clips 3000 --seed 0
    python -m signstream.data.synthetic --layout phoenix14t --out data/phoenix14t --clips 400 --seed 0 --visual

A made-up detector looks at a body that signs made-up sentences (jitter, scores, lost hands); clips are written as
frames_512x512/<name>.npy [T, 134, 3], with annotations, splits and a README; with --stream a clip is a recording of
many sentences, with pauses, rests and false starts. In PHOENIX-2014's layout the body is drawn as a person, frame by
frame, and the detector's keypoints lie beside the frames. In PHOENIX-2014-T's there are sentences in tables, and
keypoints as its public extraction writes them, kpts/<split>/<name>.npy [T, 75, 3]; with --visual also features
[180, 768] of drawn frames, in the place of SigLIP's, which they are not. The same arguments give the same bytes,
whatever the number of workers. numpy, and Pillow to draw.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from signstream import cli


def _add_kinds(parser: argparse.ArgumentParser) -> None:
    """What clips and texts are made instead of the usual ones."""
    parser.add_argument(
        "--stream", type=float, metavar="MINUTES", help="csl_daily: recordings of about this length, of many sentences"
    )
    parser.add_argument(
        "--text",
        choices=("usual", "near"),
        default="usual",
        help="default usual: the subject first, which is signed nearly last; near: the words follow the signs",
    )


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--out", required=True, type=Path, help="folder to make; must not exist or be empty")
    parser.add_argument(
        "--layout",
        choices=("csl_daily", "phoenix2014", "phoenix14t"),
        default="csl_daily",
        help="default csl_daily: poses; phoenix2014: drawn frames; phoenix14t: poses of 75 joints, for translation",
    )
    parser.add_argument("--clips", type=int, default=600, help="default 600; with --stream: sentences, in all")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="the language is the same for every seed; people and sentences are not (default 0)",
    )
    parser.add_argument(
        "--signers",
        type=int,
        help="people; CSL-Daily's layout keeps every fifth for test_unseen_signer (default 10; the other two: 9)",
    )
    parser.add_argument("--glosses", type=int, help="size of the vocabulary (default: the whole language)")
    parser.add_argument("--fps", type=float, help="frames a second (default 30; the other two: 25)")
    _add_kinds(parser)
    parser.add_argument(
        "--visual",
        action="store_true",
        help="phoenix14t: also write what stands in for SigLIP's features, a random projection of drawn frames; "
        "they cost about 0.15 s of a core and 0.55 MB a clip",
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    parser.add_argument("--workers", type=int, default=cores, help="processes (default: one a core)")
    args = parser.parse_args(argv)

    from signstream.data.synthetic.dataset import generate

    generate(**vars(args))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a killed run leaves nothing half-written
    cli.run(main)
