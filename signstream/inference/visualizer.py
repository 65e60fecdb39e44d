"""A clip beside what its tokens say, as an animation: GIF, or MP4 where ffmpeg is installed.

    python -m signstream.inference.visualizer --checkpoint checkpoints/quickstart --out sample.gif   # its first clip
    python -m signstream.inference.visualizer --checkpoint PATH --split test --sample NAME --out sample.mp4

Left the clip as the front end prepares it, right what Tokenizer.decode gives from the tokens as they are written
(budgeted, then held), in the original's place; a joint that the original does not show is not compared. Below, the
chunk's tokens, with the parts that hold marked, and the clip's ribbons. Poses are [T, J, 3] in pixels, the score 0
where a joint is missing.
"""

from __future__ import annotations

from pathlib import Path

from signstream import cli


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    cli.add_checkpoint(parser)
    parser.add_argument("--split", default="val", help="default: %(default)s")
    parser.add_argument("--sample", metavar="NAME", help="the clip (default: the split's first)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a .gif or an .mp4; its folder is made if need be"
    )
    parser.add_argument(
        "--frames",
        type=int,
        default=300,
        metavar="N",
        help="show the first N frames at most (default: %(default)s)",
    )
    args = cli.parse_with_overrides(parser, argv, "for example export.codes_per_chunk=8")

    from signstream.inference.sample import show_sample

    show_sample(args)


if __name__ == "__main__":
    cli.run(main)
