"""A tree of Python files as data: of every module its functions and its imports. Code is parsed, never run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = "signstream"
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Import(NamedTuple):
    target: str  # the module that is imported
    line: int
    function: str | None  # qualified name of the function that it is in
    names: tuple[str, ...]  # what `from target import ...` takes out of it; none where the module itself is imported


class Named(NamedTuple):
    name: str  # with its classes and outer functions
    node: Function
    method: bool


class Module(NamedTuple):
    name: str  # signstream.models.stgcn; a package has the name of its folder
    path: str  # from the root of the tree
    tree: ast.Module
    lines: list[str]
    functions: list[Named]  # methods and inner functions too, outer before inner
    imports: list[Import]  # wherever they stand


def read(root: Path, folder: str = PACKAGE) -> list[Module]:
    """Every module under root/folder."""
    paths = {_module_name(path.relative_to(root)): path for path in sorted((root / folder).rglob("*.py"))}
    return [_read_module(name, path, root, set(paths)) for name, path in paths.items()]


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _read_module(name: str, path: Path, root: Path, names: set[str]) -> Module:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    inner = _functions(tree, name)
    owner = {id(child): entry.name for entry in inner for child in _statements(entry.node)}
    imports = []
    for node in _statements(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imports += _imports(node, package, owner.get(id(node)), names=names)
    return Module(name, str(path.relative_to(root)), tree, text.splitlines(), inner, imports)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """The node and the statements in it, at any depth; an expression holds none."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.expr):
            yield from _statements(child)


def _imports(
    node: ast.Import | ast.ImportFrom, package: str, function: str | None, *, names: set[str]
) -> Iterator[Import]:
    """What one statement imports; `names` are the modules: `from signstream import cli` imports signstream.cli."""
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, node.lineno, function, ()) for alias in node.names)
        return
    base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    source = ".".join([*base, *([node.module] if node.module else [])])
    modules = [alias.name for alias in node.names if f"{source}.{alias.name}" in names]
    taken = tuple(alias.name for alias in node.names if alias.name not in modules)
    yield from (Import(f"{source}.{name}", node.lineno, function, ()) for name in modules)
    if taken:
        yield Import(source, node.lineno, function, taken)


def _functions(node: ast.AST, prefix: str, in_class: bool = False) -> list[Named]:
    entries = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            name = f"{prefix}.{child.name}"
            entries.append(Named(name, child, in_class and not _decorated(child, "staticmethod")))
            entries += _functions(child, name)
        elif isinstance(child, ast.ClassDef):
            entries += _functions(child, f"{prefix}.{child.name}", in_class=True)
        elif not isinstance(child, ast.expr):
            entries += _functions(child, prefix, in_class)
    return entries


def _decorated(node: Function, name: str) -> bool:
    return any(isinstance(d, ast.Name) and d.id == name for d in node.decorator_list)
