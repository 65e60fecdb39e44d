"""A user's own classes under names that a config can say: a layout of data, an architecture, a loss. docs/extending.md has one of each.

    @signstream.register("layout", "folder_of_text")          # in my_signs.py, the user's own file
    class FolderOfText(PoseData): ...

    python -m signstream.training.train_rvq --import my_signs data.layout=folder_of_text

    layout  a subclass of data.datasets.PoseData
    arch    called with (shapes, graphs, frames, window, config.model), gives (encoder, decoder): models/rvq/encoder.py, decoder.py
    loss    called with (config, skeleton), gives a Term: training/losses.py

The config keeps what was imported, so a checkpoint can say what it needs. But a module runs only when the user names it, with `--import` or under
`imports` in a config file: never because a checkpoint says so, since that may be anybody's. Imports nothing of ours.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from signstream.errors import UserError

if TYPE_CHECKING:
    from signstream.config import Config

Kind = TypeVar("Kind", bound=Callable)
LAYOUTS: dict[str, Any] = {}
ARCHS: dict[str, Any] = {}
LOSSES: dict[str, Any] = {}
TABLES = {"layout": LAYOUTS, "arch": ARCHS, "loss": LOSSES}
KEYS = {"layout": "data.layout", "arch": "model.arch", "loss": "train.losses"}
BUILT_IN = {"layout": ("csl_daily", "npz"), "arch": ("transformer", "mlp", "stgcn"), "loss": ()}
TAKEN = {
    **BUILT_IN,
    "loss": ("loss", "rec", "commit", "temporal", "usage", "perceptual", "lr", "gradient_norm", "revived"),
}


def register(kind: str, name: str) -> Callable[[Kind], Kind]:
    """Makes a class (or a function that returns what the class would) known by a name."""
    if kind not in TABLES:
        raise UserError(f"register: {kind!r} is no kind of class: {', '.join(TABLES)} are")
    if not isinstance(name, str) or not name.isidentifier():
        raise UserError(f"register: {name!r} is no name for a {kind}: letters, digits and _ are expected")
    if name in TAKEN[kind]:
        raise UserError(f"register: the {kind} {name!r} is the program's own: choose another name")

    def add(made: Kind) -> Kind:
        old = TABLES[kind].get(name)
        if old is not None and (old.__module__, old.__qualname__) != (made.__module__, made.__qualname__):
            raise UserError(
                f"register: the {kind} {name!r} is {old.__module__}.{old.__qualname__} already: choose another name"
            )
        TABLES[kind][name] = made
        return made

    return add


def import_module(name: str) -> None:
    """Runs the user's module, from the current folder or PYTHONPATH, so that its classes become known."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        importlib.import_module(name)
    except Exception as error:  # the module is the user's, so running it may fail in any way
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise UserError(
                f"--import {name}: there is no module {error.name} in the current folder {os.getcwd()} or on PYTHONPATH"
            ) from None
        last = traceback.extract_tb(error.__traceback__)[-1]
        file, line = (error.filename, error.lineno) if isinstance(error, SyntaxError) else (last.filename, last.lineno)
        what = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        raise UserError(
            f"--import {name}: {what} ({file}, line {line}); SIGNSTREAM_DEBUG=1 shows how it came there"
        ) from error


def find(kind: str, name: str) -> Any:
    """What is registered under the name."""
    if name not in TABLES[kind]:
        raise UserError(f"{KEYS[kind]} {'names' if kind == 'loss' else 'is'} {name!r}: {_choices(kind)} is expected")
    return TABLES[kind][name]


def check(config: Config, kinds: Sequence[str] = tuple(TABLES)) -> None:
    """That the names in a config are known; of one that is not, the line says which import is missing."""
    absent = [module for module in config.imports if module not in sys.modules]
    for kind, name in _names(config):
        if kind not in kinds or name in BUILT_IN[kind] or name in TABLES[kind]:
            continue
        if not absent:
            find(kind, name)
        way_out = "" if kind == "arch" else f", or another {KEYS[kind]}"
        raise UserError(
            f"{KEYS[kind]} names {name!r}, made with {' '.join(f'--import {module}' for module in absent)}: "
            f"give that{way_out} (in Python, import it first); nothing is imported only because a checkpoint names it"
        )


def _names(config: Config) -> Iterator[tuple[str, str]]:
    yield "arch", config.model.arch
    yield "layout", config.data.layout
    yield from (("loss", name) for name in config.train.losses)


def _choices(kind: str) -> str:
    known = list(dict.fromkeys((*BUILT_IN[kind], *TABLES[kind])))
    return f"{', '.join(known)}{' or ' if known else ''}a name that a module of --import registers"
