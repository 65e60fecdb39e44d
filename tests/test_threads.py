"""How long OpenMP's threads spin is set before a door imports torch, unless the user has set it, and nowhere else."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from signstream import cli

ROOT = Path(__file__).parents[1]
NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
DOORS = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in (ROOT / "signstream").rglob("*.py")
    if re.search(r"^    cli\.run\(main\)$", file.read_text(encoding="utf-8"), re.M)
)
WATCHED = """
import os, runpy, sys
from signstream import cli
run = cli.run
def watched(main):
    assert not {"torch", "numpy"} & set(sys.modules), "imported before main"
    run(main)
cli.run = watched
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code
assert os.environ["GOMP_SPINCOUNT"] == cli.SPINNING["GOMP_SPINCOUNT"]
"""


def python(*arguments, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    path = {"PYTHONPATH": str(ROOT), "PATH": os.pathsep.join((str(Path(sys.executable).parent), clean["PATH"]))}
    return subprocess.run(arguments, cwd=ROOT, env=clean | path | environment, capture_output=True, text=True)


def test_there_are_doors():
    assert "signstream.training.train_rvq" in DOORS
    assert "signstream.inference.evaluate" in DOORS


@pytest.mark.parametrize("door", DOORS)
def test_a_door_sets_it_before_torch_is_imported(door):
    done = python(sys.executable, "-c", WATCHED, door)
    assert done.returncode == 0, done.stderr
    assert "usage: python -m signstream" in done.stdout


def test_the_library_hears_it():
    arguments = ("-m", "signstream.inference.evaluate", "--checkpoint", "nowhere", "--split", "val")
    done = python(sys.executable, *arguments, OMP_DISPLAY_ENV="VERBOSE")
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("this torch has another OpenMP than GNU's")
    assert f"GOMP_SPINCOUNT = '{cli.SPINNING['GOMP_SPINCOUNT']}'" in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_what_the_user_has_set_stays_alone(name, monkeypatch):
    for other in NAMES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "7")
    cli.bound_spinning()
    assert {other: os.environ[other] for other in NAMES if other in os.environ} == {name: "7"}
    scripted = python("bash", "-c", "source scripts/env.sh; env", **{name: "7"})
    assert {line for line in scripted.stdout.splitlines() if line.startswith(NAMES)} == {f"{name}=7"}


def test_the_scripts_set_the_same():
    done = python("bash", "-c", "source scripts/env.sh; env")
    lines = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith(NAMES))
    assert lines == cli.SPINNING, done.stderr


def test_a_users_own_program_keeps_its_environment():
    code = f"import os, signstream, signstream.inference.tokenizer; print([n for n in {NAMES} if n in os.environ])"
    done = python(sys.executable, "-c", code)
    assert done.stdout.strip() == "[]", done.stderr
