"""What a user wrote, as tables of plain values: YAML files, those that their `base:` names, and `key.path=value`.

    read(Path("large.yaml")) -> [Layer("default.yaml", {...}), Layer("large.yaml", {"model": {...}})]    lowest first
    override("data.chunk_len=8") -> Layer("the override 'data.chunk_len=8'", {"data": {"chunk_len": 8}})
    merge(Config, lower, upper) -> one table

Nothing is renamed or checked here but that it can be read: as text, as YAML, and as a tree of a config's size, however
often its aliases repeat it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from signstream import cli
from signstream.config.schema import DEEPEST, check_size, options
from signstream.errors import UserError, one_line, refusal, shown
from signstream.text_files import read_text

with cli.required():
    import yaml

LARGEST = 1 << 20  # bytes of one file
LONGEST = 1 << 18  # characters of YAML: configs/default.yaml has 10,000
MOST_FILES = 20  # that stand on each other


class Layer(NamedTuple):
    """One table of a config, and where a user finds it."""

    where: str
    tree: dict[str, Any]


def read(path: Path, above: tuple[Path, ...] = ()) -> list[Layer]:
    """A file, after those that it stands on."""
    text = _text(path)
    if path.resolve() in above:
        raise UserError(f"{path}: its `base:` leads back to itself")
    if len(above) >= MOST_FILES:
        raise UserError(f"{path}: its `base:` is the {MOST_FILES}th on the way: put some of these files together")
    tree = parse(text, str(path)) or {}
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds {type(tree).__name__}: a config is a table of keys")
    base = tree.pop("base", None)
    if base is None:
        return [Layer(str(path), tree)]
    if not isinstance(base, str):
        raise UserError(f"{path}: base is {shown(base)}: one path, relative to this file, is expected")
    return [*read(path.parent / base, (*above, path.resolve())), Layer(str(path), tree)]


def _text(path: Path) -> str:
    try:
        return read_text(path, most=LARGEST)
    except (OSError, UnicodeDecodeError) as error:
        reason = refusal(error) if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"cannot read the config {path}: {reason}") from None


def override(text: str) -> Layer:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"{shown(text)} is no override: write key.path=value, for example data.chunk_len=8")
    where = f"the override {shown(text)}"
    spaced = re.sub(r"(?<=\w):(?=[\w\[])", ": ", value) if value.startswith("{") else value
    tree = parse(spaced, where)
    for part in reversed(name.split(".", DEEPEST)):
        tree = {part: tree}
    check_size(tree, where)
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
    """SafeLoader that refuses a key written twice, and what is nested deeper than any config."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth > DEEPEST:
            raise UserError(f"nested deeper than {DEEPEST} levels (line {self.line + 1})")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[Any] = set()
        for written, _ in node.value:
            key = self.construct_object(written, deep=deep)
            if key in keys:
                raise UserError(f"the key {shown(key)} is written twice (line {node.start_mark.line + 1})")
            keys.add(key)
        return super().construct_mapping(node, deep)


def parse(text: str, where: str) -> Any:
    """Plain values of YAML text: a SafeLoader builds nothing else."""
    if len(text) > LONGEST:
        raise UserError(f"{where} has {len(text)} characters: a config has {LONGEST} at most")
    try:
        tree = yaml.load(text, Loader)
    except (yaml.YAMLError, TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{where} is not YAML that can be read: {one_line(reason, 300)}") from None
    check_size(tree, where)
    return tree


def write(tree: dict[str, Any]) -> str:
    """As `parse` reads it back."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, default_flow_style=None, width=150)
