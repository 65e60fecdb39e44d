"""How every door begins and ends: its parser, and what a user is told when something is wrong. The standard library alone, so --help is quick.

A door is a module that is started with `python -m`. It parses, imports once, calls:

    def main(argv: list[str] | None = None) -> int | None:
        parser = cli.parser(__doc__, __spec__)
        parser.add_argument("--out", ...)
        args = cli.parse_with_config(parser, argv)              # --config, --import, key.path=value: args.config, args.overrides

        from signstream.inference.export import export
        return export(args)

    if __name__ == "__main__":
        cli.run(main)

A user's mistake (UserError, and what the operating system refuses) is one line on standard error and exit status 2. Everything else is a
fault of ours and keeps its traceback. SIGNSTREAM_DEBUG=1 shows the traceback of the former too.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec

from signstream.errors import UserError

REQUIRED = (
    "torch",
    "numpy",
    "yaml",
    "tensorboard",
    "matplotlib",
    "tqdm",
)  # requirements.txt, by the names they are imported under


def parser(doc: str | None, spec: ModuleSpec | None) -> argparse.ArgumentParser:
    """The parser of the door with this docstring and __spec__."""
    name = spec.name.removesuffix(".__main__") if spec else "?"
    raw = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=f"python -m {name}", description=doc, formatter_class=raw)


def parse_with_config(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """The arguments of a door that takes a config file: `args.config` and `args.overrides` are for config.load_config."""
    parser.add_argument("--config", metavar="FILE", help="a YAML file, for example configs/default.yaml")
    return parse_with_overrides(parser, argv, "an option of the config, for example data.root=DIR")


def parse_with_overrides(parser: argparse.ArgumentParser, argv: list[str] | None, what: str) -> argparse.Namespace:
    """The arguments of a door that takes overrides, before, between and after its options. An option that stands for an
    override has dest="implied" and a `type` that writes it out; these come first in `args.overrides`."""
    parser.add_argument(
        "--import",
        dest="implied",
        action="append",
        type="imports=[{}]".format,
        metavar="MODULE",
        help="a module of your own, whose registered classes the config may name (docs/extending.md)",
    )
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help=what)
    args = parser.parse_intermixed_args(argv)
    args.overrides = [*(args.implied or ()), *args.overrides]
    return args


def run(main: Callable[[], int | None]) -> None:
    """Ends the program as its `main` does."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader left (`| head`): not our error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        line = told_as(error)
        if line is None or os.environ.get("SIGNSTREAM_DEBUG"):
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
    sys.exit(code)


def told_as(error: Exception) -> str | None:
    """The line that a user is told instead of a traceback; None: the fault is ours."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:  # the system's own: no such file, no room, not allowed
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name in REQUIRED:
        return (
            f"{sys.executable} has no {error.name}: `bash train.sh` makes .venv, which has it; "
            "then `source .venv/bin/activate`, or start this with .venv/bin/python"
        )
    return None
