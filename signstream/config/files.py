"""What a user wrote, as tables of plain values: YAML files, those that their `base:` names, and `key.path=value`.

    read(Path("large.yaml")) -> [Layer("default.yaml", {...}), Layer("large.yaml", {"model": {...}})]    lowest first
    override("data.chunk_len=8") -> Layer("the override 'data.chunk_len=8'", {"data": {"chunk_len": 8}})
    merge(Config, lower, upper) -> one table

Nothing is renamed or checked here but that it can be read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from signstream import cli
from signstream.config.schema import options
from signstream.errors import UserError

with cli.required():
    import yaml


class Layer(NamedTuple):
    """One table of a config, and where a user finds it."""

    where: str
    tree: dict[str, Any]


def read(path: Path, above: tuple[Path, ...] = ()) -> list[Layer]:
    """A file, after those that it stands on."""
    if path.resolve() in above:
        raise UserError(f"{path}: its `base:` leads back to itself")
    tree = parse(_text(path), str(path)) or {}
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds {type(tree).__name__}: a config is a table of keys")
    base = tree.pop("base", None)
    if base is None:
        return [Layer(str(path), tree)]
    if not isinstance(base, str):
        raise UserError(f"{path}: base is {base!r}: one path, relative to this file, is expected")
    return [*read(path.parent / base, (*above, path.resolve())), Layer(str(path), tree)]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"cannot read the config {path}: {reason}") from None


def override(text: str) -> Layer:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"{text!r} is no override: write key.path=value, for example data.chunk_len=8")
    where = f"the override {text!r}"
    spaced = re.sub(r"(?<=\w):(?=[\w\[])", ": ", value) if value.startswith("{") else value
    tree = parse(spaced, where)
    for part in reversed(name.split(".")):
        tree = {part: tree}
    return Layer(where, tree)


def merge(section: type, below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Sections are merged key by key, and what is `added` grows; any other value, `body_parts` and its like too, is
    replaced whole."""
    out = dict(below)
    fields = options(section)
    for key, value in above.items():
        entry, lower = fields.get(key), out.get(key)
        if entry is not None and entry.is_section and isinstance(value, dict) and isinstance(lower, dict):
            value = merge(entry.kind, lower, value)
        elif entry is not None and entry.metadata.get("added") and isinstance(value, list) and isinstance(lower, list):
            value = [*lower, *(each for each in value if each not in lower)]
        out[key] = value
    return out


class Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        twice = [key for i, key in enumerate(keys) if key in keys[:i]]
        if twice:
            raise UserError(f"the key {twice[0]!r} is written twice (line {node.start_mark.line + 1})")
        return super().construct_mapping(node, deep)


def parse(text: str, where: str) -> Any:
    """Plain values of YAML text: a SafeLoader builds nothing else."""
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise UserError(f"{where} is not YAML that can be read: {' '.join(str(error).split())}") from None


def write(tree: dict[str, Any]) -> str:
    """As `parse` reads it back."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, default_flow_style=None, width=150)
