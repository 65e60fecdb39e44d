"""pyproject.toml: the pins of the requirements, and a wheel that has what README names."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What `all` has; `dev` is for those who change the tree.
EXTRAS = {"export", "pose", "lm", "lora", "translation", "wandb", "video", "test"}


def listed(name):
    """The list of that name in pyproject.toml, read without a TOML reader, which Python has from 3.11 only."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(r'"([^"]+)"', re.search(rf"^{name} = \[(.*?)\]$", text, re.M | re.S)[1])


def required(file):
    lines = (line.split("#")[0].strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines())
    return {line for line in lines if line}


def test_the_pins_are_those_of_the_requirements():
    extras = {name: set(listed(name)) for name in EXTRAS}
    pytest_itself = {line for line in extras["test"] if line.startswith("pytest")}
    assert {*listed("dependencies"), *pytest_itself} == required("requirements.txt")
    assert set().union(*extras.values()) - pytest_itself == required("requirements-extra.txt")
    (everything,) = listed("all")
    assert set(re.search(r"\[(.*)\]", everything)[1].split(",")) == EXTRAS


def setuptools_version():
    try:
        return int(version("setuptools").split(".")[0])
    except PackageNotFoundError:
        return 0


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of what a wheel is built from, so that nothing is left in the checkout."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("signstream", "configs"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    return tree


@pytest.fixture(scope="module")
def wheel(tree, tmp_path_factory):
    if setuptools_version() < 77:
        pytest.skip("needs setuptools 77, which pip fetches elsewhere")
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "-w", str(out), str(tree)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(out.glob("signstream-*.whl"))


def files_of(tree):
    files = [*(tree / "signstream").rglob("*"), *(tree / "configs").glob("*.yaml")]
    names = {file.relative_to(tree).as_posix() for file in files if file.is_file()}
    return {f"signstream/{name}" if name.startswith("configs/") else name for name in names}


def test_a_wheel_has_every_module_the_page_the_configs_and_the_licence(tree, wheel):
    names, wanted = set(zipfile.ZipFile(wheel).namelist()), files_of(tree)
    assert "signstream/inference/report/page/page.html" in wanted
    assert "signstream/configs/quickstart.yaml" in wanted
    assert {name for name in names if name.startswith("signstream/")} == wanted
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_readmes_config_is_found_from_any_folder(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "work").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def config(*arguments):
        command = [sys.executable, "-m", "signstream.config", *arguments]
        return subprocess.run(command, cwd=tmp_path / "work", env=environment, capture_output=True, text=True)

    assert "experiment_name: quickstart" in config("configs/quickstart.yaml").stdout
    assert "cannot read the config configs/quikstart.yaml" in config("configs/quikstart.yaml").stderr
    (tmp_path / "work" / "configs").mkdir()
    (tmp_path / "work" / "configs" / "quickstart.yaml").write_text("experiment_name: mine\n")
    assert "experiment_name: mine" in config("configs/quickstart.yaml").stdout


def test_no_link_lies_in_git():
    """A link to an environment, or to data, leads nowhere in a clone; an ignored folder's name does not keep it out."""
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    files = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert files and not [line for line in files.splitlines() if line.startswith("120000")]
