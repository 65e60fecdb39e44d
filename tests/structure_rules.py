"""What must hold for the tree of the package: functions from modules to the places where it does not hold.

Code is read, never run.

    python tests/structure_rules.py [ROOT]      # today's counts of ROOT/signstream, tests and benchmarks, a line each

A rule takes `read(root)`, all modules under root/signstream, and gives lines like "signstream/x.py:12 what";
no line: it holds.
test_structure.py holds each rule on the repository, and sees it find a fault in a made-up tree.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from source_tree import PACKAGE, Function, Module, read

FLOORS = (
    ("errors",),
    ("skeleton", "glosses", "registry", "cli", "text_files", "published"),
    ("config",),
    ("space", "tokens"),
    ("io",),
    ("pictures",),
    ("data", "models"),
    ("training",),
    ("tasks",),
    ("inference",),
)
# Beyond the floors: these modules import nothing that begins with one of those names ...
NEVER = (
    ("training", ("signstream.tasks", "signstream.data", "signstream.models")),
    ("models", ("signstream.data", "signstream.io", "signstream.training")),
    ("data.synthetic", ("torch",)),
)
# ... and these import of ours only what stands here.
ONLY = {"config.schema": ("signstream.errors",)}
OPTIONAL = {
    "mamba_ssm",
    "av",
    "mediapipe",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "peft",
    "PIL",
    "pose_format",
    "sacrebleu",
    "tokenizers",
    "transformers",
    "wandb",
}
# Functions that import though they are no door's main, and why.
LATE_IMPORTS = dict.fromkeys(
    ("signstream.load", "signstream.recogniser", "signstream.translator"), "`import signstream.cli` imports no torch"
)
# Methods that somebody else's interface gives more than three positional parameters.
FOREIGN = {
    "forward": "torch.nn.Module and torch.autograd.Function: what the caller passes by position",
    "__exit__": "Python's context managers",
}
MAX_LINES, MAX_COLUMNS, MAX_FUNCTION, MAX_POSITIONAL, MAX_TUPLE = 400, 120, 40, 3, 2
# Public whatever they look like: of named tuples, of os, and where torch 2.1 alone says whether it compiles.
PUBLIC = {"_replace", "_asdict", "_fields", "_make", "_exit", "_dynamo"}


Rule = Callable[[list[Module]], list[str]]


def _ours(target: str) -> bool:
    return target == PACKAGE or target.startswith(f"{PACKAGE}.")


def _begins(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


# -- who imports whom


def floor_of(name: str) -> int | None:
    """The floor of a module, 0 the lowest; the package's own __init__ is the roof; None: it stands on no floor."""
    if name == PACKAGE:
        return len(FLOORS)
    room = name.split(".")[1]
    return next((height for height, rooms in enumerate(FLOORS) if room in rooms), None)


def arrows_up(modules: list[Module]) -> list[str]:
    """Imports that run up, or to a sibling on the same floor."""
    faults = [f"{m.path}:1 stands on no floor" for m in modules if floor_of(m.name) is None]
    for module in modules:
        for entry in module.imports:
            if not _ours(entry.target):
                continue
            height, target = floor_of(module.name), floor_of(entry.target)
            inside = _ours(entry.target) and module.name.split(".")[1:2] == entry.target.split(".")[1:2]
            if height is not None and target is not None and not inside and target >= height:
                faults.append(f"{module.path}:{entry.line} imports {entry.target}")
    return faults


def forbidden(modules: list[Module]) -> list[str]:
    """Imports that NEVER and ONLY rule out."""
    faults = []
    for module in modules:
        banned = [p for room, prefixes in NEVER if _begins(module.name, f"{PACKAGE}.{room}") for p in prefixes]
        only = next((allowed for room, allowed in ONLY.items() if module.name == f"{PACKAGE}.{room}"), None)
        for entry in module.imports:
            outside = only is not None and _ours(entry.target) and entry.target not in only
            if outside or any(_begins(entry.target, prefix) for prefix in banned):
                faults.append(f"{module.path}:{entry.line} imports {entry.target}")
    return faults


def circles(modules: list[Module]) -> list[str]:
    """Files that import each other, directly or around; imports for types alone and inside functions count too."""
    names = {module.name for module in modules}
    paths = {module.name: module.path for module in modules}
    targets = {m.name: {e.target for e in m.imports} & names for m in modules}

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = targets[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    reach = {name: reached(name) for name in names}
    rings = {frozenset(b for b in reach[a] if a in reach[b]) for a in names if a in reach[a]}
    return sorted(" <-> ".join(sorted(paths[name] for name in ring)) for ring in rings)


# -- doors


def is_door(module: Module) -> bool:
    """Whether it has a main, and runs it when it is started with `python -m`."""
    has_main = any(isinstance(node, Function) and node.name == "main" for node in module.tree.body)
    starts = any(isinstance(node, ast.If) and "__name__" in ast.unparse(node.test) for node in module.tree.body)
    return has_main and starts


def imported_doors(modules: list[Module]) -> list[str]:
    """Doors that another module imports."""
    doors = {module.name for module in modules if is_door(module)}
    return [f"{m.path}:{e.line} imports the door {e.target}" for m in modules for e in m.imports if e.target in doors]


def thick_doors(modules: list[Module]) -> list[str]:
    """What a door imports at its top besides the standard library and signstream.cli."""
    faults = []
    for module in filter(is_door, modules):
        for entry in module.imports:
            light = entry.target == f"{PACKAGE}.cli" or entry.target.split(".")[0] in sys.stdlib_module_names
            if entry.function is None and not light:
                faults.append(f"{module.path}:{entry.line} imports {entry.target}")
    return faults


def inner_imports(modules: list[Module]) -> list[str]:
    """Imports inside functions, save optional packages, what LATE_IMPORTS excuses, and one import in a door's main."""
    faults = []
    for module in modules:
        main = f"{module.name}.main" if is_door(module) else None
        in_main: set[int] = set()
        for entry in module.imports:
            if entry.function is None or entry.function in LATE_IMPORTS or entry.target.split(".")[0] in OPTIONAL:
                continue
            if entry.function != main:
                faults.append(f"{module.path}:{entry.line} {entry.function} imports {entry.target}")
            else:
                in_main.add(entry.line)
        faults += [f"{module.path}:{line} main imports a second time" for line in sorted(in_main)[1:]]
    return faults


# -- names


def private_names(modules: list[Module]) -> list[str]:
    """Private names that are imported from another module, or used on something that this module did not define."""
    faults = []
    for module in modules:
        for entry in module.imports:
            parts = (*entry.target.split("."), *entry.names) if _ours(entry.target) else entry.names
            faults += [
                f"{module.path}:{entry.line} imports {part} of {entry.target}" for part in parts if _private(part)
            ]
        known = _defined(module) | PUBLIC
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and _foreign(node, known):
                faults.append(f"{module.path}:{node.lineno} uses {ast.unparse(node)}")
    return faults


def _private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name != "_"


def _foreign(node: ast.Attribute, known: set[str]) -> bool:
    """A private name of something else; self._x may come from a class above."""
    if not _private(node.attr) or node.attr in known:
        return False
    return ast.unparse(node.value) not in ("self", "cls", "super()")


def _defined(module: Module) -> set[str]:
    """Private names that the module makes: functions, classes, variables, fields, and attributes of self."""
    made = set()
    for node in ast.walk(module.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            made.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            made.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            made.add(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("register_buffer") and node.args:
            made.add(ast.literal_eval(node.args[0]) if isinstance(node.args[0], ast.Constant) else "")
    return made


# -- size


def long_files(modules: list[Module]) -> list[str]:
    return [f"{m.path}:1 has {len(m.lines)} lines" for m in modules if len(m.lines) > MAX_LINES]


def long_lines(modules: list[Module]) -> list[str]:
    lines = ((m.path, number, len(line)) for m in modules for number, line in enumerate(m.lines, 1))
    return [f"{path}:{number} has {width} columns" for path, number, width in lines if width > MAX_COLUMNS]


def long_functions(modules: list[Module]) -> list[str]:
    """From `def` to the last line, docstring and inner functions included."""
    faults = []
    for module in modules:
        for entry in module.functions:
            lines = (entry.node.end_lineno or entry.node.lineno) - entry.node.lineno + 1
            if lines > MAX_FUNCTION:
                faults.append(f"{module.path}:{entry.node.lineno} {entry.node.name} has {lines} lines")
    return faults


# -- signatures


def many_positional(modules: list[Module]) -> list[str]:
    """Functions that take more than three by position; self and cls do not count."""
    faults = []
    for module in modules:
        for entry in module.functions:
            parameters = [*entry.node.args.posonlyargs, *entry.node.args.args]
            count = len(parameters) - entry.method
            if count > MAX_POSITIONAL and entry.node.name not in FOREIGN:
                faults.append(f"{module.path}:{entry.node.lineno} {entry.node.name} takes {count} by position")
    return faults


def long_tuples(modules: list[Module]) -> list[str]:
    """Functions that return a tuple of three or more values: a NamedTuple names them."""
    faults = []
    for module in modules:
        for entry in module.functions:
            if (entry.node.returns is not None and _long_tuple(entry.node.returns)) or _returns_values(entry.node):
                faults.append(f"{module.path}:{entry.node.lineno} {entry.node.name}")
    return faults


def _long_tuple(annotation: ast.expr) -> bool:
    """tuple[A, B, C], alone, in a union, or as what an iterator gives."""
    if isinstance(annotation, ast.BinOp):
        return _long_tuple(annotation.left) or _long_tuple(annotation.right)
    if not isinstance(annotation, ast.Subscript):
        return False
    outer, inner = ast.unparse(annotation.value).split(".")[-1], annotation.slice
    if outer in ("Iterator", "Iterable", "Generator", "Optional"):
        return _long_tuple(inner.elts[0] if isinstance(inner, ast.Tuple) else inner)
    return outer in ("tuple", "Tuple") and isinstance(inner, ast.Tuple) and len(inner.elts) > MAX_TUPLE


def _returns_values(node: Function) -> bool:
    """Whether it returns `a, b, c` under an annotation that says nothing of it: `tuple[X, ...]` does."""
    if node.returns is not None and "..." in ast.unparse(node.returns):
        return False
    values = (child.value for child in _body(node) if isinstance(child, ast.Return))
    return any(isinstance(value, ast.Tuple) and len(value.elts) > MAX_TUPLE for value in values)


def _body(node: ast.AST) -> Iterator[ast.AST]:
    """All that stands in a function, save what stands in a function inside it."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, Function | ast.Lambda | ast.ClassDef):
            yield from _body(child)


def untyped(modules: list[Module]) -> list[str]:
    """Functions with a parameter or a result without a type."""
    faults = []
    for module in modules:
        for entry in module.functions:
            args = entry.node.args
            plain = [*args.posonlyargs, *args.args][entry.method :]
            more = [a for a in (args.vararg, args.kwarg) if a is not None]
            missing = [a.arg for a in (*plain, *args.kwonlyargs, *more) if a.annotation is None]
            missing += ["the result"] if entry.node.returns is None else []
            if missing:
                faults.append(f"{module.path}:{entry.node.lineno} {entry.node.name}: {', '.join(missing)}")
    return faults


# -- words at the head


def headless(modules: list[Module]) -> list[str]:
    """Modules that say nothing of themselves; an empty one need not."""
    return [f"{m.path}:1 has no docstring" for m in modules if m.tree.body and not ast.get_docstring(m.tree)]


def unnamed_folders(root: Path, page: str) -> list[str]:
    """Folders of the package that begin no line of the page, as `data/synthetic/`; and such lines without a folder."""
    package = root / PACKAGE
    folders = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*")
        if path.is_dir() and path.name != "__pycache__" and any(p.is_file() for p in path.iterdir())
    }
    named = {name.rstrip("/") for name in re.findall(r"^ *(?:\| )?`?((?:[a-z_]+/)+)`?(?=\s)", page, re.M)}
    missing = [f"{PACKAGE}/{folder}/ is not in the page" for folder in sorted(folders - named)]
    return missing + [
        f"the page names {folder}/, which is no folder of {PACKAGE}" for folder in sorted(named - folders)
    ]


# -- counts


def counts(root: Path) -> dict[str, int]:
    """What docs/LOG.md says of the tree before and after."""
    modules = read(root)
    everything = [m for folder in (PACKAGE, "tests", "benchmarks") for m in read(root, folder)]
    inside = [e for m in modules for e in m.imports if e.function is not None]
    return {
        "files of the package": len(modules),
        "lines of the package": sum(len(m.lines) for m in modules),
        "files with tests and benchmarks": len(everything),
        "lines with tests and benchmarks": sum(len(m.lines) for m in everything),
        "arrows up or to a sibling": len([fault for fault in arrows_up(modules) if "no floor" not in fault]),
        "files on no floor": len([fault for fault in arrows_up(modules) if "no floor" in fault]),
        "imports ruled out besides": len(forbidden(modules)),
        "circles of files": len(circles(modules)),
        "files in circles": sum(ring.count(" <-> ") + 1 for ring in circles(modules)),
        "doors that others import": len(imported_doors(modules)),
        "private names of others": len(private_names(modules)),
        "imports inside functions": len({(e.function, e.line) for e in inside}),
        "of these not excused": len(inner_imports(modules)),
        "TYPE_CHECKING blocks": sum(line.startswith("if TYPE_CHECKING") for m in modules for line in m.lines),
        "files over 400 lines, all": len(long_files(everything)),
        "lines over 120 columns": len(long_lines(modules)),
        "lines over 120 columns, all": len(long_lines(everything)),
        "functions over 40 lines": len(long_functions(modules)),
        "functions over 40 lines, all": len(long_functions(everything)),
        "more than three by position": len(many_positional(modules)),
        "tuples of three returned": len(long_tuples(modules)),
        "functions without all types": len(untyped(modules)),
    }


if __name__ == "__main__":
    for label, count in counts(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]).items():
        print(f"{count:7,}  {label}")
