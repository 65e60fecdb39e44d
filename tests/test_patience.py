"""train.patience: a run ends when so many validations in a row brought nothing better, resumed or not, on all ranks."""

import json
import os
import signal
from functools import partial
from pathlib import Path

import pytest

from data_sets import signer_root
from helpers import case_options
from processes import life, on_ranks
from signstream import registry
from signstream.config import load_config
from signstream.training import checkpoint
from signstream.training.distributed import Ranks
from signstream.training.run import Stop, begin, open_run
from signstream.training.run_folder import RunFolder
from signstream.training.seed import seed_everything

EPOCHS, PATIENCE, STEPS = 40, 2, 2  # steps of an epoch
# A rate at which a classifier of 16 clips soon knows nothing better of 12, most of them others.
RESTLESS = (
    f"train.epochs={EPOCHS}",
    f"train.patience={PATIENCE}",
    "train.lr=0.01",
    "train.scale_with_world=false",
    "train.log_every=100",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return signer_root(tmp_path_factory.mktemp("signer"), 24, {"train": (0, 16), "val": (12, 24)}, frames=60)


def options(root: Path, place: Path, *more: str) -> list[str]:
    return [*case_options(root, "gloss", *RESTLESS, *more, plain=True), f"save_path={place}"]


def run_of(place: Path) -> Path:
    (run,) = (place / "default").iterdir()
    return run


def scores(run: Path) -> list[float]:
    lines = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["split"] == "val"]


def ends_after(losses: list[float], patience: int) -> int:
    """The validation after which a run has waited long enough."""
    best = min(range(len(losses)), key=losses.__getitem__)
    return best + 1 + patience


@pytest.fixture(scope="module")
def straight(root, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("straight")
    assert life(options(root, place)) == 0
    return run_of(place)


def test_it_ends_when_nothing_better_came_for_so_long(straight):
    losses = scores(straight)
    assert PATIENCE + 1 < len(losses) < EPOCHS
    assert len(losses) == ends_after(losses, PATIENCE)
    last, best = (checkpoint.load(straight / name) for name in ("last.pt", "best.pt"))
    assert (last["waited"], best["waited"], last["best"]) == (PATIENCE, 0, min(losses))
    assert last["step"] == len(losses) * STEPS and best["step"] == last["step"] - PATIENCE * STEPS


def test_stopped_and_resumed_it_ends_at_the_same_place(root, straight, tmp_path):
    """Also where it is stopped while it waits, so that what it waited must last."""
    arguments = [*options(root, tmp_path), "--checkpoint", "auto"]
    waiting = len(scores(straight)) - PATIENCE + 1  # the first validation that it waits
    assert life(arguments, ("before a step", 2), signal.SIGTERM) == 128 + signal.SIGTERM
    assert life(arguments, ("in validation", waiting), signal.SIGKILL) == -signal.SIGKILL
    assert life(arguments, ("after a checkpoint", 1), signal.SIGKILL) == -signal.SIGKILL
    assert checkpoint.load(run_of(tmp_path) / "last.pt")["waited"] == 1
    assert life(arguments) == 0
    assert (run_of(tmp_path) / "metrics.jsonl").read_bytes() == (straight / "metrics.jsonl").read_bytes()
    before = os.stat(run_of(tmp_path) / "last.pt").st_mtime_ns
    assert life(arguments, log=tmp_path / "log") == 0
    assert "done: step" in (tmp_path / "log").read_text(), "asked to go on, it has nothing to do"
    assert os.stat(run_of(tmp_path) / "last.pt").st_mtime_ns == before


def test_more_patience_goes_on_from_there(root, straight, tmp_path):
    assert life([*options(root, tmp_path, f"train.patience={PATIENCE + 2}")]) == 0
    losses, first = scores(run_of(tmp_path)), scores(straight)
    assert losses[: len(first)] == first
    assert len(losses) == min(ends_after(losses, PATIENCE + 2), EPOCHS) > len(first)


def train_on_ranks(options: list[str], folder: Path, ranks: Ranks) -> list:
    config = load_config(None, options)
    seed_everything(config.train.seed, ranks.rank)
    task = registry.find("task", config.task).open(config, ranks)
    ranks.from_main(lambda: folder.mkdir(parents=True))
    run = open_run(task, config, ranks, folder=RunFolder(folder), state=None)
    begin(run, None, None)
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    ended = run.train(Stop())
    for number, handler in zip((signal.SIGTERM, signal.SIGINT), handlers):
        signal.signal(number, handler)
    run.close()
    return [ended, run.loop.steps, run.loop.waited, run.loop.best]


def test_ranks_agree_on_the_end(root, straight, tmp_path):
    work = partial(train_on_ranks, options(root, tmp_path), tmp_path / "run")
    first, second = on_ranks(2, work, tmp_path / "ranks")
    assert first == second
    losses = scores(tmp_path / "run")
    assert first == [True, len(losses) * STEPS, PATIENCE, min(losses)]
    assert losses == pytest.approx(scores(straight), rel=1e-3), "a step holds as many clips"
