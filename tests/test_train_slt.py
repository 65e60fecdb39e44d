"""train_slt.sh: what it starts, in a tree whose programs only say how they were called."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = "-m pip install -q --disable-pip-version-check transformers tokenizers sacrebleu>=2.2,<3"


@pytest.fixture
def tree(tmp_path) -> Path:
    """.venv's Python agrees to everything, unless FAILS says what it may not be asked."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("train_slt.sh", "scripts/env.sh", "scripts/check_requirements.py", "requirements-extra.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "requirements.txt").write_text("no-such-package>=1\n")
    (tmp_path / "train_multi.sh").write_text('echo "train_multi $*"\n')
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\ncase "$*" in *"${FAILS:-nothing}"*) exit 1;; esac\necho "python $*"\n')
    python.chmod(0o755)
    return tmp_path


def started(tree: Path, *arguments: str, **environment: str) -> list[str]:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        ["bash", str(tree / "train_slt.sh"), *arguments],
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.removeprefix("python ") for line in done.stdout.splitlines()]
    return [line for line in lines if not line.startswith(("scripts/check", "-c "))]


def test_without_arguments_it_makes_the_synthetic_signer_and_ends_with_the_page(tree):
    made, first, second, page = started(tree)
    assert made.startswith("-m signstream.data.synthetic --layout phoenix14t --out data/phoenix14t ")
    assert first == "train_multi --config configs/contrast_quickstart.yaml"
    from_first = "model.init_from=checkpoints/contrast_quickstart"
    assert second == f"train_multi --config configs/translation_quickstart.yaml {from_first}"
    assert page.startswith("-m signstream.inference.translate --checkpoint checkpoints/translation_quickstart ")
    (tree / "data" / "phoenix14t").mkdir(parents=True)
    assert started(tree) == [first, second, page]


def test_options_are_both_phases_and_a_data_set_is_found(tree):
    first, second = started(tree, "data.root=DIR", "model.text=big model")
    assert first == "train_multi --config configs/contrast.yaml data.root=DIR model.text=big model"
    from_first = "model.init_from=checkpoints/contrast"
    assert second == f"train_multi --config configs/translation.yaml {from_first} data.root=DIR model.text=big model"
    (tree / "PHOENIX-2014-T").mkdir()
    assert started(tree) == [first.split(" data.root")[0], second.split(" data.root")[0]]


def test_what_translation_needs_is_added_to_our_venv(tree):
    assert started(tree, "data.root=DIR", FAILS="import sacrebleu")[0] == EXTRAS


def test_quickstarts_have_one_encoder():
    from signstream.config import load_config

    phases = [load_config(ROOT / "configs" / f"{phase}_quickstart.yaml") for phase in ("contrast", "translation")]
    encoders = [{**vars(phase.model.encoder), "tokens": None} for phase in phases]
    assert encoders[0] == encoders[1] and phases[0].data == phases[1].data
