"""How every door begins and ends: its parser, and what a user is told when something is wrong.

The standard library alone, so that --help is quick and a Python without torch gets a line.

A door is a module that is started with `python -m`. It parses, imports once, calls:

    def main(argv: list[str] | None = None) -> int | None:
        parser = cli.parser(__doc__, __spec__)
        parser.add_argument("--out", ...)
        args = cli.parse_with_config(parser, argv)  # --config, --import, key.path=value: args.config, args.overrides

        from signstream.inference.export import export
        return export(args)

    if __name__ == "__main__":
        cli.run(main)

A user's mistake (UserError, and what the operating system refuses) is one line on standard error and exit status 2.
Everything else is a fault of ours and keeps its traceback. SIGNSTREAM_DEBUG=1 shows the traceback of the former too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from typing import Any, NoReturn

from signstream.errors import UserError, one_line, refusal, shown

# requirements.txt, by the names they are imported under
REQUIRED = ("torch", "numpy", "yaml", "tensorboard", "matplotlib", "tqdm")
# How long a waiting thread of OpenMP spins before it sleeps: for GNU's library (turns), for LLVM's and Intel's
# (milliseconds). They read it once, when torch is first imported. scripts/env.sh sets the same.
SPINNING = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}


# Flags of the recognition specification, each an override of that name (config/aliases.py); the second kind is on.
FLAGS = (
    *("prefix", "meta_dir_path", "gloss_dict_path", "kp_path", "frame_interval"),
    *("d_model", "depth", "lr", "weight_decay", "output_dir", "log_dir"),
)
SWITCHES = ("use_heatmap",)


class Parser(argparse.ArgumentParser):
    """Refuses NUL, which the system takes in no path."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        for argument in sys.argv[1:] if args is None else args:
            if "\0" in argument:
                raise UserError(f"{shown(argument)} holds NUL, which no path and no option can")
        return super().parse_known_args(args, namespace)


def parser(doc: str | None, spec: ModuleSpec | None) -> argparse.ArgumentParser:
    """The parser of the door with this docstring and __spec__."""
    name = spec.name.removesuffix(".__main__") if spec else "?"
    raw = argparse.RawDescriptionHelpFormatter
    return Parser(prog=f"python -m {name}", description=doc, formatter_class=raw)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """The option of a door that stands on one trained run."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="PATH",
        help="a checkpoint, a run's folder or an experiment's: its newest run",
    )


def parse_with_checkpoints(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """As parse_with_config, of a door that stands on one trained run or on several together: args.checkpoint is a list.
    Overrides may follow it: what has a `=`, and is no file's name, is one."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        nargs="+",
        metavar="PATH",
        help="a checkpoint, a run's folder or an experiment's: its newest run; several are taken together",
    )
    args = parse_with_config(parser, argv)
    overrides = [value for value in args.checkpoint if "=" in value and not os.path.exists(value)]
    args.checkpoint = [value for value in args.checkpoint if value not in overrides]
    args.overrides = [*overrides, *args.overrides]
    if not args.checkpoint:
        parser.error("argument --checkpoint: expected at least one argument")
    return args


def parse_with_config(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """The arguments of a door that takes a config file: args.config and args.overrides are for config.load_config."""
    parser.add_argument("--config", metavar="FILE", help="a YAML file, for example configs/default.yaml")
    return parse_with_overrides(parser, argv, "an option of the config, for example data.root=DIR")


def parse_training(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """The arguments of the program that trains, which has two names. After a rank died, torchrun begins it anew: then
    it goes on, not over."""
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="go on from a checkpoint, a run's folder, an experiment's (its newest run), or `auto`: if there is one",
    )
    parser.add_argument(
        "--wandb-project",
        dest="implied",
        action="append",
        type=_override("train.log_wandb"),
        metavar="NAME",
        help="log to this project of Weights & Biases as well",
    )
    parser.add_argument(
        "--test_best",
        dest="implied",
        action="append_const",
        const="train.test_best=true",
        help="after the last epoch, measure the best checkpoint on the test split",
    )
    others = parser.add_argument_group("names of the recognition specification", "configs/recognition.yaml has ours")
    for name in FLAGS:
        others.add_argument(f"--{name}", dest="implied", action="append", type=_override(name), metavar="X")
    for name in SWITCHES:
        others.add_argument(f"--{name}", dest="implied", action="append_const", const=f"{name}=true")
    args = parse_with_config(parser, argv)
    if args.checkpoint is None and int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0) > 0:
        args.checkpoint = "auto"
    return args


def _override(name: str) -> Callable[[str], str]:
    return lambda text: f"{name}={json.dumps(text)}"


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
    bound_spinning()
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
        end(error)
    sys.exit(code)


@contextmanager
def required() -> Iterator[None]:
    """Around an import at the top of a package that is a door too (signstream.config): Python imports it before `run`.
    While that door is being started, what is missing is one line all the same; anybody else gets the error."""
    try:
        yield
    except ModuleNotFoundError as error:
        if sys.argv[:1] != ["-m"]:  # what Python has there until the package is imported
            raise
        end(error)


def end(error: Exception) -> NoReturn:
    """Ends the program with a line, or with the traceback of a fault of ours."""
    line = told_as(error)
    if line is None or os.environ.get("SIGNSTREAM_DEBUG"):
        raise error
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)


def bound_spinning() -> None:
    """Beside other programs a thread that spins holds a core that the one it waits for could have (docs/training.md).
    A user who has set how threads wait keeps that. Processes that this one starts inherit it."""
    if not any(name in os.environ for name in ("OMP_WAIT_POLICY", *SPINNING)):
        os.environ.update(SPINNING)


def told_as(error: Exception) -> str | None:
    """The line that a user is told instead of a traceback; None: the fault is ours."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:  # the system's own: no such file, no room, not allowed
        return one_line(str(error))
    if isinstance(error, OSError) and str(error) != refusal(error):  # numpy's own: no room
        return refusal(error)
    if isinstance(error, ModuleNotFoundError) and error.name in REQUIRED:
        return (
            f"{sys.executable} has no {error.name}: `bash train.sh` makes .venv, which has it; "
            "then `source .venv/bin/activate`, or start this with .venv/bin/python"
        )
    return None


def lacking(error: ModuleNotFoundError) -> Exception:
    """What a user's own program gets where a package is missing."""
    line = told_as(error)
    return error if line is None else UserError(line)
