"""What must hold for the tree: the floors, the doors, the names, the sizes. The rules are in structure_rules.py.

Each rule is held on the repository, and finds its faults, and only these, in a made-up tree.
"""

import subprocess
import sys
from pathlib import Path

import pytest

import structure_rules as rules
from source_tree import Module, read

ROOT = Path(__file__).parents[1]
MADE_HERE = ("signstream", "tests", "benchmarks")
# Of the package alone, and of everything that is written here.
PACKAGE_RULES = {
    "an arrow runs down, and to no sibling": rules.arrows_up,
    "these imports are ruled out whatever the floor": rules.forbidden,
    "no files import each other": rules.circles,
    "no door is imported": rules.imported_doors,
    "a door's top imports the standard library and signstream.cli": rules.thick_doors,
    "an import stands at the top": rules.inner_imports,
    "a private name stays in its module": rules.private_names,
    "more than three parameters go by name": rules.many_positional,
    "three values are a NamedTuple": rules.long_tuples,
    "every function says its types": rules.untyped,
    "every module says what it is": rules.headless,
}
SIZES = {
    "a file has at most 400 lines": rules.long_files,
    "a line has at most 120 columns": rules.long_lines,
    "a function has at most 40 lines": rules.long_functions,
}

HEAD = '"""What it is."""\n'


def door(top: str = "", inside: str = "pass") -> str:
    """A door, with a line at its top and one in its main."""
    end = 'if __name__ == "__main__":\n    cli.run(main)\n'
    return f"{HEAD}import argparse\nfrom signstream import cli\n{top}\ndef main() -> None:\n    {inside}\n{end}"


NET = """
import torch

class Net:
    def __init__(self) -> None:
        self._x = 1

    def forward(self, a: int, b: int, c: int, d: int) -> tuple[int, ...]:
        return self._x, a, b
"""
CLIPS = """
from signstream.io.cache import Cache

def f(a: int, b: int, c: int, *, d: int) -> int: ...
"""
GOOD = {
    "errors": HEAD,
    "cli": HEAD + "from signstream.errors import UserError\n",
    "registry": HEAD,
    "config/__init__": HEAD + "from signstream import registry\n",
    "config/schema": HEAD + "from signstream.errors import UserError\n",
    "io/cache": HEAD + "import numpy as np\nfrom signstream import config, errors\n",
    "data/__init__": "",
    "data/clips": HEAD + CLIPS,
    "models/net": HEAD + NET,
    "training/loop": HEAD + "def f() -> None:\n    import wandb\n",
    "tasks/rvq/task": HEAD + "from signstream.training.loop import Loop\nfrom .losses import loss\n",
    "tasks/rvq/losses": HEAD,
    "inference/work": HEAD + "from signstream.tasks.rvq import task\n",
    "inference/door": door(inside="from signstream.inference.work import x, y"),
}


def tree(folder: Path, files: dict[str, str]) -> list[Module]:
    """The good tree with these files in it."""
    for name, text in (GOOD | files).items():
        path = folder / "signstream" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return read(folder)


@pytest.fixture(scope="module")
def folders() -> dict[str, list[Module]]:
    """All that is written here, parsed once."""
    return {folder: read(ROOT, folder) for folder in MADE_HERE}


@pytest.fixture(scope="module")
def modules(folders) -> list[Module]:
    return folders["signstream"]


@pytest.mark.parametrize("what", PACKAGE_RULES)
def test_the_package(modules, what):
    faults = PACKAGE_RULES[what](modules)
    assert not faults, f"{what}:\n" + "\n".join(faults)


@pytest.mark.parametrize("what", SIZES)
def test_sizes(folders, what):
    faults = [fault for modules in folders.values() for fault in SIZES[what](modules)]
    assert not faults, f"{what}:\n" + "\n".join(faults)


@pytest.mark.parametrize("folder", ["tests", "benchmarks"])
def test_tests_and_benchmarks_use_public_names(folders, folder):
    faults = rules.private_names(folders[folder])
    assert not faults, "private names:\n" + "\n".join(faults)


def test_the_picture_names_every_folder():
    faults = rules.unnamed_folders(ROOT, (ROOT / "docs/architecture.md").read_text(encoding="utf-8"))
    assert not faults, "\n".join(faults)


# -- a rule that cannot fail is worth nothing


def test_no_rule_finds_a_fault_where_there_is_none(tmp_path):
    modules = tree(tmp_path, {})
    faults = {what: rule(modules) for what, rule in (PACKAGE_RULES | SIZES).items()}
    assert not any(faults.values()), faults


PLANTED = [
    # the floors
    (rules.arrows_up, "errors", "from signstream.cli import run", "errors.py:2 imports signstream.cli"),
    (rules.arrows_up, "registry", "import signstream.cli as c", "registry.py:2 imports signstream.cli"),
    (rules.arrows_up, "io/cache", "from ..data import clips", "io/cache.py:2 imports signstream.data.clips"),
    (rules.arrows_up, "data/clips", "from signstream.models import net", "data/clips.py:2 imports signstream.models"),
    (rules.arrows_up, "training/loop", "def f():\n    import signstream.tasks.rvq", "loop.py:3 imports"),
    (rules.arrows_up, "errors", "from signstream import load", "errors.py:2 imports signstream"),
    (rules.arrows_up, "views", "", "views.py:1 stands on no floor"),
    # what is ruled out besides
    (rules.forbidden, "training/loop", "from signstream.data import clips", "imports signstream.data.clips"),
    (rules.forbidden, "training/run", "from signstream.models.net import Net", "imports signstream.models.net"),
    (rules.forbidden, "models/net", "from signstream.io.cache import x", "imports signstream.io.cache"),
    (rules.forbidden, "config/schema", "import signstream.registry", "imports signstream.registry"),
    (rules.forbidden, "data/synthetic/signer", "from torch import Tensor", "imports torch"),
    # circles
    (rules.circles, "tasks/rvq/losses", "from signstream.tasks.rvq.task import x", "rvq/losses.py <-> "),
    (rules.circles, "errors", "if TYPE_CHECKING:\n    from signstream.cli import x", "cli.py <-> signstream/errors.py"),
    (rules.circles, "registry", "def f():\n    import signstream.config", "config/__init__.py <-> "),
    # doors
    (rules.imported_doors, "inference/work", "from signstream.inference.door import main", "imports the door"),
    (rules.imported_doors, "inference/work", "from . import door", "imports the door signstream.inference.door"),
    (rules.thick_doors, "inference/door", door("import numpy"), "imports numpy"),
    (rules.thick_doors, "inference/door", door("from signstream.errors import U"), "signstream.errors"),
    (rules.thick_doors, "inference/door", door("if TYPE_CHECKING:\n    import torch"), "imports torch"),
    (rules.inner_imports, "inference/door", door(inside="import json\n    import re"), "main imports a second time"),
    (rules.inner_imports, "inference/work", "def main():\n    import torch", "work.main imports torch"),
    (rules.inner_imports, "models/net", "class A:\n    def f(self):\n        from . import x", "net.A.f imports"),
    # names
    (rules.private_names, "models/net", "from torch.nn import _x", "imports _x of torch.nn"),
    (rules.private_names, "models/net", "from signstream.models._net import x", "imports _net of"),
    (rules.private_names, "models/net", "import torch\ntorch._x()", "uses torch._x"),
    (rules.private_names, "models/net", "def f(a):\n    return a.b._x", "uses a.b._x"),
    # sizes
    (rules.long_files, "errors", "\n" * 399, "has 401 lines"),
    (rules.long_lines, "errors", "#" * 121, "errors.py:2 has 121 columns"),
    (rules.long_functions, "errors", "def f():\n" + "    0\n" * 40, "f has 41 lines"),
    # signatures
    (rules.many_positional, "errors", "def f(a, b, /, c, d, *, e): ...", "f takes 4 by position"),
    (rules.many_positional, "errors", "class A:\n    def __init__(self, a, b, c, d): ...", "takes 4 by position"),
    (rules.many_positional, "errors", "class A:\n    @staticmethod\n    def f(a, b, c, d): ...", "takes 4 by position"),
    (rules.long_tuples, "errors", "def f() -> tuple[int, str, int]: ...", "errors.py:2 f"),
    (rules.long_tuples, "errors", "def f() -> tuple[int, str, int] | None: ...", "errors.py:2 f"),
    (rules.long_tuples, "errors", "def f() -> Iterator[tuple[int, str, int]]: ...", "errors.py:2 f"),
    (rules.long_tuples, "errors", "def f():\n    if x:\n        return 1, 2, 3", "errors.py:2 f"),
    (rules.untyped, "errors", "def f(a) -> int: ...", "f: a"),
    (rules.untyped, "errors", "def f(*a: int, **b) -> int: ...", "f: b"),
    (rules.untyped, "errors", "class A:\n    def f(self): ...", "f: the result"),
]


@pytest.mark.parametrize(("rule", "file", "code", "fault"), PLANTED)
def test_a_planted_fault_is_found(tmp_path, rule, file, code, fault):
    text = code if code.startswith(HEAD) else f"{HEAD}{code}\n"
    faults = rule(tree(tmp_path, {file: text}))
    assert len(faults) == 1 and fault in faults[0]


def test_a_module_without_a_head_is_found(tmp_path):
    assert rules.headless(tree(tmp_path, {"errors": "x = 1\n"})) == ["signstream/errors.py:1 has no docstring"]


@pytest.mark.parametrize(
    ("page", "faults"),
    [
        ("config/\n    data/  clips\n data/synthetic/ a signer\n", []),
        (
            "config/\n data/  clips\n no audio/config/data/synthetic/ a signer\n",
            ["signstream/data/synthetic/ is not in the page"],
        ),
        (
            "config/\ndata/\ndata/synthetic/\ndata/layouts/  gone\n",
            ["the page names data/layouts/, which is no folder of signstream"],
        ),
    ],
)
def test_a_folder_that_the_page_forgets_is_found(tmp_path, page, faults):
    for folder in ("config", "data", "data/synthetic"):
        (tmp_path / "signstream" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "signstream" / folder / "a.py").touch()
    (tmp_path / "signstream" / "data" / "__pycache__").mkdir()
    (tmp_path / "signstream" / "data" / "__pycache__" / "a.pyc").touch()
    assert rules.unnamed_folders(tmp_path, page) == faults


def test_the_program_prints_the_counts(tmp_path):
    tree(tmp_path, {"errors": f"{HEAD}from signstream import cli\n"})
    command = [sys.executable, str(ROOT / "tests/structure_rules.py"), str(tmp_path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    numbers = {label: number for number, label in (line.split(maxsplit=1) for line in lines)}
    assert numbers["files of the package"] == str(len(GOOD))
    assert numbers["arrows up or to a sibling"] == numbers["circles of files"] == "1"
