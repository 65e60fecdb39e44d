"""Videos to a data set in CSL-Daily's layout: PyAV reads them, MediaPipe Holistic finds the person in each frame.

    python -m signstream.data.video recordings --out data/mine
    python -m signstream.data.video recordings --list texts.csv --out data/mine --workers 4
    python -m signstream.data.video talk.mp4 --crop 640,0,640,720 --fps 25 --out data/talk

INPUT is a video or a folder, whose folders are looked through too: `a/x.mp4` below it is the clip `a_x`. --list is a
table (.csv, .tsv with a header; .json) of name or path, text, gloss, signer, split; each may be left out but one of the
first two. Splits that it does not say are drawn by the clips' names. One person is found in a frame; where several are
seen, --crop says where the one is. Nothing is downloaded.

What is finished is left, so a stopped command goes on when it is given again; a video that was changed, or other
settings, are done anew. A clip that fails is named with its reason and left out; then the exit status is 1.
docs/data.md says what is written and what it is worth. It needs the packages av and mediapipe.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from signstream import cli


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("inputs", nargs="*", type=Path, metavar="INPUT", help="a video, or a folder of videos")
    parser.add_argument("--list", type=Path, metavar="FILE", help="what is signed in them: .csv, .tsv or .json")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder, or one to go on with")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--fps", type=float, metavar="F", help="frames a second (default: each video's own average)")
    parser.add_argument("--crop", metavar="X,Y,W,H", help="look only there, in pixels of the picture as it is shown")
    parser.add_argument("--complexity", type=int, default=1, choices=(0, 1, 2), help="of the body's model (default: 1)")
    parser.add_argument("--models", type=Path, metavar="DIR", help="where its model lies, for complexity 0 and 2")
    parser.add_argument("--refine-face", action="store_true", help="a second model for lips and eyes")
    parser.add_argument(
        "--min-hands", type=float, default=5.0, metavar="PERCENT", help="of a clip's frames show a hand (default: 5)"
    )
    parser.add_argument("--splits", default="8:1:1", metavar="A:B:C", help="train : val : test (default: 8:1:1)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the splits (default: 0)")
    args = parser.parse_args(argv)

    from signstream.data.video_set import make_set, options_of

    return make_set(options_of(args))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a killed run leaves nothing half-written
    cli.run(main)
