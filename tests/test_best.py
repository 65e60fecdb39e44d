"""train.test_best: after the last epoch the best checkpoint is measured on the splits that training had no eye on, for
every task; nothing else changes."""

import json
from pathlib import Path

import pytest

from data_sets import signer_root
from helpers import assert_same, case_options
from processes import life
from signstream.training import checkpoint

SPLITS = {"train": (0, 8), "val": (8, 12), "test": (12, 16)}


def trained(root: Path, place: Path, case: str, *more: str) -> tuple[Path, str]:
    """A run's folder, and what it said."""
    few = ("train.epochs=3", "train.clips_per_step=4", "train.log_every=3")
    arguments = [*case_options(root, case, *few), f"save_path={place}", *more]
    assert life(arguments, log=place.with_suffix(".log")) == 0
    (run,) = (place / "default").iterdir()
    return run, place.with_suffix(".log").read_text(encoding="utf-8")


def lines_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("case", ["mlp", "gloss", "recognition"])
def test_the_best_checkpoint_is_measured_and_the_run_is_the_same(case, tmp_path):
    root = signer_root(tmp_path, 24, SPLITS, frames=None if case == "recognition" else 60)
    plain, _ = trained(root, tmp_path / "plain", case)
    tested, said = trained(root, tmp_path / "tested", case, "--test_best")
    *lines, last = lines_of(tested)
    assert lines == lines_of(plain)
    best = checkpoint.load(tested / "best.pt")
    assert (last["split"], last["epoch"]) == ("test", best["epoch"]) and "loss" in last
    assert f"test, best.pt of epoch {best['epoch']}: " in said
    states = [checkpoint.load(run / "last.pt") for run in (plain, tested)]
    for state in states:
        del state["config"], state["generators"]
    assert_same(*states)


def test_without_such_a_split_it_says_so(tmp_path):
    root = signer_root(tmp_path, 24, {"train": (0, 8), "val": (8, 12)})
    run, said = trained(root, tmp_path / "tested", "gloss", "train.test_best=true")
    assert "test: the data has no such clip" in said and {line["split"] for line in lines_of(run)} == {"train", "val"}
