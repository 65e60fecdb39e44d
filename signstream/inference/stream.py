"""Live: frames in, one JSON line out as soon as a chunk is known.

    python -m signstream.inference.stream --checkpoint checkpoints/quickstart --input clip.npy [--realtime] [--fps 25]
    camera | python -m signstream.inference.stream --checkpoint PATH --input -

`-` is standard input, one frame a line: 133 lists of x px, y px and score. The first line out is a header, then come
rows as in a token file, {"t": 0, "F": [12, 7], "LH": ["NC", 1], ..., "ms": 6.1, "behind_frames": 6}: the time that
the chunk's last step took, and how many frames had come in after the chunk's own. Runs are written chunk by chunk.
The last chunk comes when the input ends or Ctrl-C ends it. Memory does not grow.
"""

from __future__ import annotations

from signstream import cli


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    cli.add_checkpoint(parser)
    parser.add_argument(
        "--input",
        default="-",
        metavar="FILE",
        help="clip.npy [T, 133 or 134, 3], or - for standard input (default: %(default)s)",
    )
    parser.add_argument("--fps", type=float, help="of the input; the config's unless it says so")
    parser.add_argument("--realtime", action="store_true", help="play a file at its own pace")
    args = cli.parse_with_overrides(parser, argv, "for example export.codes_per_chunk=8")

    from signstream.inference.chunk_lines import stream

    stream(args)


if __name__ == "__main__":
    cli.run(main)
