"""Classes under names that a config can say: the program's own, and a user's. docs/extending.md has one of each kind.

    @signstream.register("layout", "folder_of_text")          # in my_signs.py, the user's own file
    class FolderOfText(PoseData): ...

    python -m signstream.training.train_rvq --import my_signs data.layout=folder_of_text

    layout  a subclass of PoseData (data/datasets.py)
    arch    called with (shapes, graphs, frames, window, config.model), gives (encoder, decoder): models/rvq/archs.py
    loss    called with (config, skeleton), gives a Term: tasks/rvq/losses.py
    task    a subclass of Task (training/task.py); its attribute `config` is the class of its configs, a config.Base

The program's own stand in TABLES as text, and are imported when they are asked for. The config keeps what was imported,
so a checkpoint can say what it needs. But a module runs only when the user names it, with `--import` or under `imports`
in a config file: never because a checkpoint says so, since that may be anybody's.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from signstream.errors import UserError, shown

Made = TypeVar("Made", bound=Callable[..., Any])

TABLES: dict[str, dict[str, Any]] = {
    "layout": {
        "csl_daily": "signstream.data.csl_daily:CSLDaily",
        "npz": "signstream.data.npz:NpzPoses",
        "phoenix2014": "signstream.data.phoenix2014:Phoenix2014",
        "phoenix14t": "signstream.data.phoenix14t:Phoenix14T",
    },
    "arch": {
        "transformer": "signstream.models.rvq.archs:sequence",
        "mlp": "signstream.models.rvq.archs:sequence",
        "stgcn": "signstream.models.rvq.archs:graph",
    },
    "loss": {},
    "task": {
        "rvq": "signstream.tasks.rvq.task:RvqTask",
        "recognition": "signstream.tasks.recognition.task:RecognitionTask",
        "contrast": "signstream.tasks.contrast.task:ContrastTask",
        "translation": "signstream.tasks.translation.task:TranslationTask",
        "prefix_lm": "signstream.tasks.prefix_lm.task:PrefixTask",
    },
}
# Where a config says such names, for errors.
OPTIONS = {"layout": "data.layout", "arch": "model.arch", "loss": "loss.terms", "task": "task"}
# Names that a loss cannot have: other numbers are logged under them.
NO_LOSS = ("loss", "rec", "commit", "temporal", "usage", "perceptual", "lr", "gradient_norm", "revived")


def register(kind: str, name: str) -> Callable[[Made], Made]:
    """Makes a class (or a function that returns what the class would) known by a name."""
    if kind not in TABLES:
        raise UserError(f"register: {kind!r} is no kind of class: {', '.join(TABLES)} are")
    if not isinstance(name, str) or not name.isidentifier():
        raise UserError(f"register: {name!r} is no name for a {kind}: letters, digits and _ are expected")
    if isinstance(TABLES[kind].get(name), str) or (kind == "loss" and name in NO_LOSS):
        raise UserError(f"register: the {kind} {name!r} is the program's own: choose another name")

    def add(made: Made) -> Made:
        old = TABLES[kind].get(name)
        if old is not None and (old.__module__, old.__qualname__) != (made.__module__, made.__qualname__):
            raise UserError(
                f"register: the {kind} {name!r} is {old.__module__}.{old.__qualname__} already: choose another name"
            )
        TABLES[kind][name] = made
        return made

    return add


def names(kind: str) -> list[str]:
    """All that are known: the program's own first."""
    return list(TABLES[kind])


def find(kind: str, name: str) -> Any:
    """What is known under the name."""
    if name not in TABLES[kind]:
        known = names(kind)
        choices = f"{', '.join(known)}{' or ' if known else ''}a name that a module of --import registers"
        raise UserError(f"{OPTIONS[kind]} {'names' if kind == 'loss' else 'is'} {shown(name)}: {choices} is expected")
    made = TABLES[kind][name]
    return resolve(made) if isinstance(made, str) else made


def resolve(path: str) -> Any:
    """What "module:Class" means; the text is the program's, never a user's."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def import_module(name: str) -> None:
    """Runs the user's module, from the current folder or PYTHONPATH, so that its classes become known."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        importlib.import_module(name)
    except Exception as error:  # the module is the user's, so running it may fail in any way
        raise UserError(f"--import {name}: {_fault(name, error)}") from error


def _fault(name: str, error: Exception) -> str:
    """Why the user's module did not run, in a line."""
    if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
        return f"there is no module {error.name} in the current folder {os.getcwd()} or on PYTHONPATH"
    last = traceback.extract_tb(error.__traceback__)[-1]
    file, line = (error.filename, error.lineno) if isinstance(error, SyntaxError) else (last.filename, last.lineno)
    what = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    return f"{what} ({file}, line {line}); SIGNSTREAM_DEBUG=1 shows how it came there"
