"""Every block of Python in README.md and docs/data.md, run as a new user would, and what its commands say where they
cannot run. Those that can are run by scripts/follow_readme.sh. README.zh.md shows what README.md does."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from signstream.data.synthetic.dataset import make_dataset

ROOT = Path(__file__).parents[1]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)


def runnable(page: str) -> list[str]:
    """A page's Python, less what needs a package that is not here."""
    here = importlib.util.find_spec("transformers") is not None
    return [block for block in blocks(page, "python") if here or "from transformers" not in block]


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(ROOT), str(folder)])
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with the repository's configs in it, and a run."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "configs").symlink_to(ROOT / "configs")
    make_dataset(folder / "data" / "synthetic", 40, seed=0)
    done = run(
        [
            sys.executable,
            "-m",
            "signstream.training.train_rvq",
            "--config",
            "configs/quickstart.yaml",
            "train.epochs=2",
            "train.threads=1",
            "train.clips_per_step=8",
            "model.rvq.codebook_size=64",
        ],
        folder,
    )  # what `bash train.sh` leaves, small
    assert done.returncode == 0, done.stderr
    return folder


def commands() -> list[list[str]]:
    lines = [line for block in blocks("README.md", "bash") for line in block.splitlines()]
    return [line.split("#")[0].split() for line in lines if line.startswith("python ")]


def test_the_readmes_python_runs_in_its_order(folder):
    """Its commands are typed by scripts/follow_readme.sh, which .ci/run calls."""
    export = next(command for command in commands() if "signstream.inference.export_tokens" in command)
    assert run([sys.executable, *export[1:]], folder).returncode == 0
    assert len(runnable("README.md")) >= 2
    done = run([sys.executable, "-c", "\n".join(runnable("README.md"))], folder)
    assert done.returncode == 0, done.stderr


def test_on_a_bare_python_each_command_says_what_to_type(tmp_path):
    """README shows the same line after `bash train.sh`; .ci/run types all of it, scripts/follow_readme.sh."""
    activation = "source .venv/bin/activate"
    assert any(line.startswith(activation) for line in blocks("README.md", "bash")[0].splitlines())
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    assert len(commands()) >= 5
    for command in commands():
        done = run([str(tmp_path / "bare" / "bin" / "python"), *command[1:]], ROOT)
        assert (done.returncode, done.stdout) == (2, ""), f"{' '.join(command)}: {done.stderr}"
        assert done.stderr.count("\n") == 1
        assert activation in done.stderr


def test_train_sh_ends_with_the_line_to_type_where_it_used_its_venv(tmp_path):
    """In a tree whose .venv has all (a stand-in that agrees to everything) and whose active Python lacks one thing."""
    (tmp_path / "scripts").mkdir()
    for name in ("train.sh", "scripts/env.sh", "scripts/check_requirements.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "requirements.txt").write_text("no-such-package>=1\n")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text("#!/bin/sh\n")
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = run(["bash", "train.sh"], tmp_path, PATH=path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].endswith("type this once in a shell: source .venv/bin/activate")
    done = run(["bash", "train.sh", "train.epochs=1"], tmp_path, PATH=path)
    assert "source .venv/bin/activate" in done.stderr
    (tmp_path / "requirements.txt").write_text("pytest\n")
    done = run(["bash", "-c", "source scripts/env.sh && activation_hint"], tmp_path, PATH=path)
    assert "using the active Python" in done.stderr
    assert "activate" not in done.stderr


def test_the_class_of_twenty_lines_reads_a_users_own_files(folder):
    code = next(block for block in blocks("docs/data.md", "python") if "class FolderOfText" in block)
    assert len(code.splitlines()) <= 24
    (folder / "my_poses.py").write_text(code, encoding="utf-8")
    (folder / "texts" / "train").mkdir(parents=True)
    (folder / "texts" / "train" / "a.txt").write_text("\n".join(" ".join(["10 20 1"] * 133) for _ in range(25)))
    (folder / "texts" / "train" / "b.txt").write_text("1 2 3")
    script = (
        "from signstream.config import load_config\nfrom signstream.data.cache import open_cache\n"
        "options = ['imports=[my_poses]', 'data.root=texts', 'data.layout=folder_of_text']\n"
        "cache = open_cache(load_config(None, options).data)\n"
        "print(cache.clips[0].length, cache.skipped[0].name, cache.skipped[0].reason)"
    )
    done = run([sys.executable, "-c", script], folder)
    assert done.stdout.startswith("30 b cannot reshape array"), done.stderr


def test_the_npz_example_is_a_config(folder):
    (folder / "npz.yaml").write_text(blocks("docs/data.md", "yaml")[0], encoding="utf-8")
    done = run([sys.executable, "-m", "signstream.config", "npz.yaml"], folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "module",
    [
        "config",
        "data.synthetic",
        "data.visualize_dataset",
        "training.check_gpu",
        "training.train_rvq",
        "inference.export_tokens",
        "inference.decode_tokens",
        "inference.stream",
        "inference.translate",
        "inference.evaluate",
        "inference.live",
        "data.video",
    ],
)
def test_help_answers_without_loading_torch_or_matplotlib(module, folder):
    done = run([sys.executable, "-X", "importtime", "-m", f"signstream.{module}", "--help"], folder)
    assert done.returncode == 0
    assert "usage: python -m signstream" in done.stdout
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"torch", "matplotlib"}


class Shown(NamedTuple):
    """Of a page, without the words."""

    commands: list[str]
    python: list[str]
    names: list[str]  # in backquotes
    figures: list[str]
    links: list[str]


def shown(page: str) -> Shown:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)
    commands = [re.sub(r" *#.*", "", line) for block in blocks(page, "bash") for line in block.splitlines()]
    figures = re.findall(r"[0-9]+(?:[.,][0-9]+)*", re.sub(r"`[^`]*`|\]\([^)]*\)", "", text))
    names, links = re.findall(r"`([^`]*)`", text), re.findall(r"\]\(([^)]+)\)", text)
    return Shown(commands, blocks(page, "python"), *map(sorted, (names, figures, links)))


def test_both_readmes_show_the_same_commands_and_figures():
    english, chinese = shown("README.md"), shown("README.zh.md")
    english.links.remove("README.zh.md")
    chinese.links.remove("README.md")
    assert english == chinese
    assert min(map(len, english)) >= 3


def test_links_in_the_pages_lead_somewhere():
    for page in [*ROOT.glob("README*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"
