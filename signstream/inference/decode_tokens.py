"""Poses back from tokens alone: <name>.npy [T, 133, 3] a clip, in the folder --out.

    python -m signstream.inference.decode_tokens --checkpoint checkpoints/quickstart --tokens tokens.jsonl --out poses
    python -m signstream.inference.decode_tokens --checkpoint PATH --tokens tokens.jsonl --out poses --reference ROOT

Without a reference: x and y in unit lengths from the nose, at the tokens' frame rate. With one (a data root in the
layout that data.layout names): in its clip's pixels, at its frame rate and for as many frames. Of that clip only the
nose's track and one unit length, the median of its frames', are used. The third number is 1 where the tokens tell the
joint, and 0 for a hand that they say is not in view, or joints that training seldom showed, such as legs. Files of the
same names are replaced, others in the folder stay.
"""

from __future__ import annotations

from pathlib import Path

from signstream import cli


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    cli.add_checkpoint(parser)
    parser.add_argument(
        "--tokens", type=Path, required=True, metavar="FILE", help="what export_tokens wrote, in any format and layout"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--reference", metavar="ROOT", help="a data root with the clips' poses")
    parser.add_argument("--split", help="of the reference; without it, the first split that names the clip")
    args = cli.parse_with_overrides(parser, argv, "how the reference is read, for example data.layout=npz")

    from signstream.inference.decode import decode_file

    decode_file(args)


if __name__ == "__main__":
    cli.run(main)
