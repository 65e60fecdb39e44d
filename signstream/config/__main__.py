"""Print a config as the programs see it."""

from __future__ import annotations

from signstream import cli


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("file", nargs="?", default="configs/default.yaml", help="a YAML file (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    args = parser.parse_args(argv)

    from signstream.config import describe

    print(describe(args.file, args.overrides), end="")


if __name__ == "__main__":
    cli.run(main)
