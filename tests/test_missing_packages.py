"""A Python without what requirements.txt asks for: every door says so in one line, and so does signstream.load."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each door, asked for something that it would begin to do.
DOORS = {
    "config": "",
    "data.convert": "--from csl_daily --to npz --root in --out out",
    "data.features": "--model model --out out",
    "data.synthetic": "--out out --clips 8",
    "data.video": "in --out out",
    "data.visualize_dataset": "--out out",
    "training.check_gpu": "",
    "training.train": "",
    "training.train_rvq": "",
    "inference.check_export": "file",
    "inference.decode_tokens": "--checkpoint run --tokens file --out out",
    "inference.evaluate": "--checkpoint run",
    "inference.export_model": "--checkpoint run --output out",
    "inference.export_tokens": "--out out",
    "inference.live": "--demo --no-browser",
    "inference.live_report": "--checkpoint run --events file --out out",
    "inference.recognize": "--checkpoint run --split val --out out",
    "inference.stream": "--checkpoint run",
    "inference.translate": "--checkpoint run --split val --out out",
    "inference.visualizer": "--checkpoint run --out out.gif",
    "inference.viz": "--report run --out out",
}
LACKS = """
import sys
class Lacks:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Lacks())
"""


def python(folder, *arguments):
    environment = {"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_no_door_is_left_out():
    ends = re.compile(r"^    cli\.run\(main\)$", re.M)
    files = [file for file in (ROOT / "signstream").rglob("*.py") if ends.search(file.read_text(encoding="utf-8"))]
    names = (".".join(file.relative_to(ROOT / "signstream").with_suffix("").parts) for file in files)
    assert sorted(name.removesuffix(".__main__") for name in names) == sorted(DOORS)


def assert_says(done, packages, where):
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr, f"{where}: {done.stderr}"
    line = done.stderr.splitlines()[-1]  # torch has a warning of its own before, where numpy is missing
    assert re.match(rf"error: \S+ has no ({packages}): `bash train.sh` makes .venv", line), f"{where}: {done.stderr}"


@pytest.mark.parametrize("door", DOORS)
def test_on_a_bare_python_a_door_says_what_is_missing(door, tmp_path):
    done = python(tmp_path, "-S", "-m", f"signstream.{door}", *DOORS[door].split())
    assert_says(done, "numpy|torch|yaml|tqdm", door)
    assert done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("package", ["numpy", "torch", "yaml"])
def test_where_one_package_is_missing_a_door_does_its_work_or_says_so(package, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(LACKS.format(package=package))
    for door, arguments in DOORS.items():
        done = python(tmp_path, "-m", f"signstream.{door}", *arguments.split())
        if done.returncode or (package, door) not in (("numpy", "config"), ("torch", "config")):
            if package != "numpy" and door == "data.synthetic":
                assert done.returncode == 0, "it needs numpy alone"
            else:
                assert_says(done, package, door)


def test_a_users_own_program_gets_the_same_line(tmp_path):
    code = (
        "import signstream\ntry:\n    signstream.load('run')\nexcept signstream.UserError as error:\n    print(error)"
    )
    done = python(tmp_path, "-S", "-c", code)
    assert done.returncode == 0, done.stderr
    assert re.match(r"\S+ has no numpy: `bash train.sh` makes .venv", done.stdout) and done.stdout.count("\n") == 1
