"""python -m signstream.config FILE [key.path=value ...]: a config as the programs see it."""

from __future__ import annotations

import argparse

from signstream.cli import run
from signstream.config import dump, load_config


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m signstream.config", description="Print a config as the programs see it."
    )
    parser.add_argument("file", nargs="?", default="configs/default.yaml", help="a YAML file (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    args = parser.parse_args(argv)
    config = load_config(args.file, args.overrides)
    print(dump(config), end="")
    print(
        f"# data.lookahead: {config.data.lookahead} frames, {config.data.lookahead / config.data.fps:.2f} s (max_gap + smooth)"
    )


if __name__ == "__main__":
    run(main)
