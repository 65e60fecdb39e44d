"""Three pictures of a data set, of any layout and skeleton: look at them before training on it.

    python -m signstream.data.visualize_dataset --out pictures data.root=DIR
    python -m signstream.data.visualize_dataset --config FILE --out pictures --split val --names clip_a,clip_b

contact_sheet.png: clips as the files hold them. animation.gif: the same beside what the front end makes of them.
statistics.png: lengths, scores, missing joints, gaps, speeds; the numbers are printed too.
"""

from __future__ import annotations

from pathlib import Path

from signstream import cli


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="where the three pictures go; made if need be"
    )
    parser.add_argument("--split", default="train", help="default: %(default)s")
    parser.add_argument(
        "--clips",
        type=int,
        default=6,
        help="rows of the contact sheet, drawn evenly over the split (default: %(default)s)",
    )
    parser.add_argument("--names", default="", metavar="A,B", help="clips to show instead")
    parser.add_argument(
        "--sample", type=int, default=200, help="clips that the statistics are taken from (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws other clips (default: %(default)s)")
    args = cli.parse_with_config(parser, argv)

    from signstream.data.overview import Look, visualize

    names = [name for name in args.names.split(",") if name]
    look = Look(args.split, names, args.clips, args.sample, args.seed)
    visualize(args.config, args.overrides, out=args.out, look=look)


if __name__ == "__main__":
    cli.run(main)
