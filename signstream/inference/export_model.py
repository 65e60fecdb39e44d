"""The tokenizer as files that need no signstream, and as ONNX no Python: one that makes codes of poses, one that makes
poses of codes.

    python -m signstream.inference.export_model --checkpoint checkpoints/quickstart --output exports/quickstart.onnx
    python -m signstream.inference.export_model --checkpoint PATH --part encoder --precision fp16 --output phone.onnx
    python -m signstream.inference.export_model --checkpoint PATH --format torchscript --part decoder --output d.pt

    encoder: poses [N, L, J, 3]   prepared frames: x, y in unit lengths from the frame's nose, score; a joint of score 0
                                  is missing
             -> codes [N, P, Q]   int64, every level; -1 where nothing of a part is seen, and at levels that a part does
                                  not have
    decoder: codes [N, P, Q]      int64, the first levels of each part, -1 after them; N chunks of one clip, in order
             -> poses [N, L, J, 3]   x, y in unit lengths from the nose, 1 where a part that was sent draws the joint

N is open, and a multiple of data.window. --part all writes both, as <name>.encoder.onnx and <name>.decoder.onnx. What a
file is travels in it. A file that does not do what the tokenizer does is not written. docs/export.md says how frames
are prepared.
"""

from __future__ import annotations

from pathlib import Path

from signstream import cli


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    cli.add_checkpoint(parser)
    parser.add_argument(
        "--format", choices=("onnx", "torchscript", "pt2"), default="onnx", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--part", choices=("encoder", "decoder", "all"), default="all", help="(default: %(default)s, two files)"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16"),
        default="fp32",
        help="of the weights in an ONNX file; fp16 is half the size (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    what = "for example data.root=DIR, where the clips are that the file is tried on"
    args = cli.parse_with_overrides(parser, argv, what)

    from signstream.inference.model_file.command import export_model

    export_model(args)


if __name__ == "__main__":
    cli.run(main)
