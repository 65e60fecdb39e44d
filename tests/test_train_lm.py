"""train_lm.sh: what it starts, in a tree whose programs only say how they were called."""

import subprocess
from pathlib import Path

import pytest

from script_trees import EXTRAS, ROOT, calls, make_tree, run_script
from signstream.config import load_config

RUN = "checkpoints/prefix_lm_live_quickstart"


@pytest.fixture
def tree(tmp_path) -> Path:
    return make_tree(tmp_path, "train_lm.sh", "scripts/checkpoint.sh")


def ran(tree: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return run_script(tree / "train_lm.sh", *arguments, **environment)


def started(tree: Path, *arguments: str, **environment: str) -> list[str]:
    return [line.removeprefix("-m signstream.") for line in calls(ran(tree, *arguments, **environment))]


def trained(tree: Path, experiment: str) -> None:
    folder = tree / "checkpoints" / experiment / "2026-01-01_00-00-00"
    folder.mkdir(parents=True)
    (folder / "best.pt").touch()


def exports(checkpoint: str, folder: str, more: str = "") -> list[str]:
    call = f"inference.export_tokens --checkpoint {checkpoint} --split"
    return [f"{call} {split} --out {folder}/{split}.jsonl{more}" for split in ("train", "val")]


def test_without_arguments_it_makes_all_and_ends_with_the_page(tree):
    usual, tokenizer, near, *rest = started(tree)
    assert usual.startswith("data.synthetic --out data/synthetic ")
    assert tokenizer == "training.train_rvq --config configs/quickstart.yaml"
    assert near.startswith("data.synthetic --text near --out data/synthetic_near ")
    assert rest[:2] == exports("checkpoints/quickstart", "exports/near", " data.root=data/synthetic_near")
    assert rest[2] == "train_multi --config configs/prefix_lm_live_quickstart.yaml"
    heard, page = rest[3:-1], rest[-1]
    assert all(line.startswith(f"inference.translate --live --checkpoint {RUN} --split val ") for line in heard)
    assert [line.endswith("--controls") for line in heard] == [True, False, False]
    outs = [line.split("--out ")[1].split()[0] for line in heard]
    beside = [f"{control}={outs[0].removesuffix('jsonl')}{control}.jsonl" for control in ("shuffled", "none")]
    assert page.startswith(f"inference.live_report --checkpoint {RUN} --split val ")
    assert page.endswith(" ".join(("--events", *outs, "--beside", *beside)))


def test_what_is_there_stays(tree):
    made = started(tree)
    trained(tree, "quickstart")
    assert started(tree) == made[2:]
    (tree / "data" / "synthetic_near").mkdir(parents=True)
    assert started(tree) == made[3:]
    mine = started(tree, CHECKPOINT_PATH="mine")
    assert mine == [*exports("mine", "exports/near", " data.root=data/synthetic_near"), *made[5:]]


def test_options_are_the_trainings_and_a_data_set_is_found(tree):
    trained(tree, "default")
    tokenizer = "checkpoints/default/2026-01-01_00-00-00/best.pt"
    training = "train_multi --config configs/prefix_lm.yaml model.form=live"
    options = ("data.root=DIR", "model.lm=big model")
    assert started(tree, *options) == [*exports(tokenizer, "exports"), f"{training} data.root=DIR model.lm=big model"]
    assert started(tree, *options, CHECKPOINT_PATH="mine")[:2] == exports("mine", "exports")
    (tree / "CSL-Daily").mkdir()
    assert started(tree) == [*exports(tokenizer, "exports"), training]


def test_without_a_tokenizer_for_a_data_set_nothing_starts(tree):
    done = ran(tree, "data.root=DIR")
    assert done.returncode == 2 and "train first (bash train.sh)" in done.stderr
    assert "export_tokens" not in done.stdout


def test_what_sentences_need_is_added_to_our_venv(tree):
    assert started(tree, FAILS="import sacrebleu")[0] == EXTRAS


def test_the_quickstart_reads_what_was_exported(tree):
    config = load_config(ROOT / "configs" / "prefix_lm_live_quickstart.yaml")
    call = next(line for line in started(tree) if "export_tokens" in line)
    assert config.data.tokens_of("train") == call.split("--out ")[1].split()[0]
    assert call.endswith(f"data.root={config.data.root}")
    assert f"{config.save_path}/{config.experiment_name}" == RUN and config.model.form == "live"
