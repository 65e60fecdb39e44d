"""Every option of the program, once: its name, type, default and limits. A class a task.

    python -m signstream.config configs/default.yaml data.chunk_len=8     # prints the resolved config

The top-level key `task` names the class (absent: rvq, the tokenizer; rvq.py). A YAML file may name one `base:` (a path
beside it) and then holds only its differences; the command line's `key.path=value` comes last. What a key means is said
in configs/default.yaml, which a test holds equal to the defaults. Names that the specifications print are read as ours
(aliases.py), and a misspelt key is an error that says the nearest right one. A user's own classes are known by names
(registry.py), a task with its config's class among them; modules that the file or the command line lists under
`imports` are run to learn them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from signstream import registry
from signstream.config import aliases, files, schema
from signstream.config.common import Augment, Base, Data, Normalize, PoseAugment, Poses, Train
from signstream.config.rvq import Config, Export, Loss, Model, Rvq
from signstream.config.schema import option
from signstream.config.shipped import locate
from signstream.errors import UserError, shown

__all__ = [
    "Augment",
    "Base",
    "Config",
    "Data",
    "Export",
    "Loss",
    "Model",
    "Normalize",
    "PoseAugment",
    "Poses",
    "Rvq",
    "Train",
    "check_names",
    "dump",
    "from_dict",
    "load_config",
    "option",
    "to_dict",
]

TASKS = {
    "rvq": "signstream.config.rvq:Config",
    "recognition": "signstream.config.recognition:RecognitionConfig",
    "contrast": "signstream.config.translation:ContrastConfig",
    "translation": "signstream.config.translation:TranslationConfig",
    "prefix_lm": "signstream.config.prefix_lm:PrefixConfig",
}  # of a user's task, the class that it has as `config`
LISTED = {
    "rvq": "configs/default.yaml",
    **{task: f"configs/{task}.yaml" for task in ("recognition", "contrast", "translation", "prefix_lm")},
}  # every key of a task
KINDS = ("task", "arch", "layout", "loss")  # in the order in which a name that is not known is reported

C = TypeVar("C", bound=Base)
File = str | Path | None


@overload
def load_config(path: File = None, overrides: Iterable[str] = (), below: Base | None = None) -> Any: ...
@overload
def load_config(path: File = None, overrides: Iterable[str] = (), below: Base | None = None, *, kind: type[C]) -> C: ...
def load_config(
    path: File = None, overrides: Iterable[str] = (), below: Base | None = None, *, kind: type[Base] = Base
) -> Any:
    """The config of a file (none: `below`, else the defaults) with the command line's `key.path=value` on top, of the
    class that its task has, which must be a `kind`. What these two list under `imports` is imported, and what `below`
    lists is not: that is a checkpoint's, and whether the program knows its classes is then the caller's to check. An
    option that they set in vain is an error."""
    below = below if path is None else None
    layers = files.read(locate(Path(path))) if path is not None else []
    layers += [files.override(text) for text in overrides]
    head = _head(layers)
    for module in head.imports:
        registry.import_module(module)
    if below is not None and head.task != below.task and any("task" in layer.tree for layer in layers):
        raise UserError(f"task is {shown(head.task)} and the checkpoint's is {below.task!r}: begin a new run")
    section = _config_class(head) if below is None else type(below)
    known = set(schema.keys(section))
    tree = to_dict(below) if below is not None else {}
    for layer in layers:
        tree = files.merge(section, tree, aliases.rename(layer.tree, layer.where, known))
    config = from_dict(tree, kind=kind)
    schema.check_idle(config, below if below is not None else section())
    if below is None:
        check_names(config)
    return config


def _head(layers: Sequence[files.Layer]) -> Base:
    """What must be known before the rest can be read: the task, and the modules that may make it known."""
    tree: dict[str, Any] = {}
    for layer in layers:
        tree = files.merge(Base, tree, {key: layer.tree[key] for key in ("task", "imports") if key in layer.tree})
    return schema.build(Base, tree)


def _config_class(head: Base) -> type[Base]:
    """The class of a task's configs. `head` says the task, and which modules may be missing if it is not known."""
    if head.task in TASKS:
        return registry.resolve(TASKS[head.task])
    _demand_known("task", head.task, head.imports)
    section = getattr(registry.find("task", head.task), "config", None)
    if not (isinstance(section, type) and issubclass(section, Base)):
        raise UserError(
            f"the task {head.task!r} has no attribute `config`: a subclass of signstream.config.Base is expected as one"
        )
    return section


@overload
def from_dict(tree: dict[str, Any]) -> Any: ...
@overload
def from_dict(tree: dict[str, Any], *, kind: type[C]) -> C: ...
def from_dict(tree: dict[str, Any], *, kind: type[Base] = Base) -> Any:
    """A checked config from plain values, as a YAML file or a checkpoint holds them, of the class that its task has.
    Runs no module, and reads what is set in vain: an older checkpoint may hold that."""
    if not isinstance(tree, dict):
        raise UserError(f"the config is {shown(tree)}: a table of keys is expected")
    schema.check_size(tree, "the config")
    head = schema.build(Base, {key: tree[key] for key in ("task", "imports") if key in tree})
    section = _config_class(head)
    tree = aliases.rename(tree, "the config", set(schema.keys(section)))
    tree = aliases.whole_window(tree, Data.chunk_len)
    config = schema.build(section, tree, unknown=lambda name: _unknown_key(name, head.task, section))
    if not isinstance(config, kind):
        raise UserError(f"the config is of task {config.task}: this needs one of task {kind.task}")
    return config


def _unknown_key(name: str, task: str, section: type[Base]) -> str:
    others = [other for other in _tasks() if other != task]
    having = [other for other in others if name in schema.keys(_config_class(Base(task=other)))]
    if having:
        return f"unknown key {name}: task {having[0]} has it, and this config's task is {task}"
    known = list(schema.keys(section))
    names = [*aliases.known(known), *aliases.FIXED]
    near = schema.nearest(name, known, names)
    if near is not None:
        return f"unknown key {name}: did you mean {near}?"
    file = LISTED.get(task)
    return f"unknown key {name}: " + (f"{file} lists every key" if file else f"task {task} has {', '.join(known)}")


def _tasks() -> Iterator[str]:
    yield from TASKS
    yield from (name for name in registry.names("task") if name not in TASKS)


def to_dict(config: Any) -> dict[str, Any]:
    """Plain values that YAML, JSON and a checkpoint can hold; `from_dict` reads them back."""
    return schema.plain(config)


def dump(config: Base) -> str:
    """The config as a YAML file."""
    return files.write(to_dict(config))


def describe(path: str, overrides: Sequence[str]) -> str:
    """A config as the programs see it, and what follows from it."""
    config = load_config(path, overrides)
    data = getattr(config, "data", None)
    if not isinstance(data, Poses):
        return dump(config)
    seconds = data.lookahead / data.fps
    return f"{dump(config)}# data.lookahead: {data.lookahead} frames, {seconds:.2f} s (max_gap + smooth)\n"


def check_names(config: Base, kinds: Sequence[str] = KINDS) -> None:
    """That the names in a config are known; of one that is not, the line says which import is missing."""
    for kind in kinds:
        for entry in schema.values(config):
            if entry.option.metadata.get("names") == kind:
                for name in [entry.value] if isinstance(entry.value, str) else entry.value:
                    _demand_known(kind, name, config.imports)


def _demand_known(kind: str, name: str, imports: Sequence[str]) -> None:
    absent = [module for module in imports if module not in sys.modules]
    if name in registry.names(kind):
        return
    if not absent:
        registry.find(kind, name)
    option_name = registry.OPTIONS[kind]
    way_out = "" if kind in ("arch", "task") else f", or another {option_name}"
    raise UserError(
        f"{option_name} names {shown(name)}, made with {' '.join(f'--import {module}' for module in absent)}: "
        f"give that{way_out} (in Python, import it first); nothing is imported only because a checkpoint names it"
    )
