"""Writes a data set of a synthetic signer, in CSL-Daily's layout, README included: something to train and test on without a licence.

    python -m signstream.data.synthetic --out data/synthetic --clips 2000 --seed 0
    python -m signstream.data.synthetic --out data/tiny --clips 24 --seed 1 --signers 4 --glosses 40 --workers 1

data.lexicon says what is signed, data.signer moves a body [T, 133, 3]; here a made-up detector looks at it (jitter, scores, lost hands), and
clips are written as frames_512x512/<name>.npy [T, 134, 3]. The same arguments give the same bytes, whatever the number of workers. numpy only.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path

from signstream.data.synthetic.dataset import make_dataset


def _complain(problem: str) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return 2


def main(argv: list[str] | None = None) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m signstream.data.synthetic", description=__doc__, formatter_class=raw
    )
    parser.add_argument("--out", required=True, type=Path, help="folder to make; must not exist or be empty")
    parser.add_argument("--clips", type=int, default=600, help="default 600")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="the language is the same for every seed; people and sentences are not (default 0)",
    )
    parser.add_argument(
        "--signers", type=int, default=10, help="people; every fifth is kept for test_unseen_signer (default 10)"
    )
    parser.add_argument("--glosses", type=int, help="size of the vocabulary (default: the whole language)")
    parser.add_argument("--fps", type=float, default=30.0, help="frames a second (default 30)")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    parser.add_argument("--workers", type=int, default=cores, help="processes (default: one a core)")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a killed run leaves nothing half-written
    try:
        make_dataset(**vars(args), quiet=False)
    except ValueError as error:
        sys.exit(_complain(str(error)))
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(
            _complain(
                f"cannot write --out {args.out}: {error.strerror}{where}; choose a folder that can be written, with room for it"
            )
        )
    except BrokenExecutor:
        sys.exit(
            _complain(
                "a worker process was killed, most likely for want of memory: ask for fewer --workers; nothing was written"
            )
        )
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"wrote {args.clips} clips to {args.out}")


if __name__ == "__main__":
    main()
