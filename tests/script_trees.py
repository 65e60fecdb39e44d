"""A tree of the repository's scripts whose programs only say how they were called."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = "-m pip install -q --disable-pip-version-check transformers tokenizers sacrebleu>=2.2,<3"
NEEDED = (
    "scripts/env.sh",
    "scripts/extras.sh",
    "scripts/sentences.sh",
    "scripts/check_requirements.py",
    "requirements-extra.txt",
)


def make_tree(folder: Path, *files: str) -> Path:
    """.venv's Python agrees to everything, unless FAILS says what it may not be asked."""
    (folder / "scripts").mkdir()
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in (*NEEDED, *files):
        shutil.copy(ROOT / name, folder / name)
    (folder / "requirements.txt").write_text("no-such-package>=1\n")
    (folder / "train_multi.sh").write_text('echo "train_multi $*"\n')
    python = folder / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\ncase "$*" in *"${FAILS:-nothing}"*) exit 1;; esac\necho "python $*"\n')
    python.chmod(0o755)
    return folder


def run_script(script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return subprocess.run(
        ["bash", str(script), *arguments],
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def calls(done: subprocess.CompletedProcess) -> list[str]:
    """What a script that went well started, but for what it asks of the environment."""
    assert done.returncode == 0, done.stderr
    lines = [line.removeprefix("python ") for line in done.stdout.splitlines()]
    return [line for line in lines if not line.startswith(("scripts/check", "-c "))]
