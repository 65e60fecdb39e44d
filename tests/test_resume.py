"""A run that is stopped, at whatever moment, and goes on is the run that was not stopped: bit for bit."""

import copy
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from data_sets import signer_root
from helpers import ROOT, assert_same, begin_loop, run_steps, tiny_options
from processes import life
from signstream.tasks.rvq import task as rvq_task
from signstream.training import checkpoint
from signstream.training.run_folder import newest_of

EPOCHS, STEPS = 6, 4  # of an epoch
OPTIONS = (
    "train.clips_per_step=4",
    f"train.epochs={EPOCHS}",
    "train.log_every=3",
    "train.save_every=2",
    "train.keep=2",
    "train.health_every=3",
    "train.warmup_steps=6",
    "data.max_frames=60",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return signer_root(tmp_path_factory.mktemp("signer"), 24, {"train": (0, 16), "val": (16, 24)})


@pytest.fixture(scope="module")
def straight(root, tmp_path_factory) -> Path:
    """The folder of the run that nothing stops."""
    place = tmp_path_factory.mktemp("straight")
    assert life(options(root, place)) == 0
    return newest_run(place)


def options(root: Path, place: Path) -> list[str]:
    return [*tiny_options(root, *OPTIONS), f"save_path={place}", "--checkpoint", "auto"]


def newest_run(place: Path) -> Path:
    return max((place / "default").iterdir())


def assert_same_run(run: Path, straight: Path) -> None:
    """Weights, codebooks, optimiser, generators, position: all that a checkpoint holds but where it lies; and every
    number that was written."""
    names = sorted(path.name for path in straight.glob("*.pt"))
    assert names == ["best.pt", "epoch_0004.pt", "epoch_0006.pt", "last.pt"]
    assert sorted(path.name for path in run.glob("*.pt")) == names
    for name in names:
        ours, theirs = checkpoint.load(run / name), checkpoint.load(straight / name)
        for state in (ours, theirs):
            state["config"].pop("save_path"), state["config"]["data"].pop("workers")
        assert_same(ours, theirs, name)
    assert (run / "metrics.jsonl").read_bytes() == (straight / "metrics.jsonl").read_bytes()
    assert not list(run.glob(".*.part"))


def test_it_goes_on_where_sigterm_stopped_it(root, straight, tmp_path):
    """On its first step, within the warm-up, on an epoch's last step, in validation, within an epoch, while it
    saves."""
    arguments, log = options(root, tmp_path), tmp_path / "log"
    for place, nth in (
        ("before a step", 1),
        ("before a step", 2),
        ("before a step", 2),
        ("in validation", 1),
        ("after a step", 2),
        ("half-way through a checkpoint", 1),
    ):
        assert life(arguments, (place, nth), signal.SIGTERM, log=log) == 128 + signal.SIGTERM
    assert life(arguments, log=log) == 0
    stops = [
        int(line.split()[3].rstrip(","))
        for line in log.read_text().splitlines()
        if line.startswith("stopped, saved: step")
    ]
    assert stops == sorted(stops) and {step % STEPS == 0 for step in stops} == {True, False}, (
        "within epochs and at an end"
    )
    assert len(list((tmp_path / "default").iterdir())) == 1
    assert_same_run(newest_run(tmp_path), straight)


MOMENTS = [
    ("half-way through a checkpoint", 2),
    ("before a file shows", 3),
    ("after a file shows", 2),
    ("after numbers were written", 5),
    ("after a step", 3),
]


def test_it_goes_on_where_sigkill_ended_it(root, straight, tmp_path):
    """Ten times: five at moments drawn at random, five at the worst ones, while files are being written."""
    arguments, rng = options(root, tmp_path), random.Random(3)
    ends, steps = [], []
    for turn in range(10):
        ends.append(life(arguments, ("ms", rng.randrange(400)) if turn % 2 else MOMENTS[turn // 2]))
        newest = newest_of(tmp_path / "default")
        steps.append(checkpoint.load(newest)["step"] if newest else 0)
    assert ends.count(-signal.SIGKILL) >= 7, "the others would have ended before they were killed"
    assert steps == sorted(steps) and steps[-1] > 0
    assert life(arguments) == 0
    assert_same_run(newest_run(tmp_path), straight)


@pytest.mark.parametrize("first", ["before a step", "in validation"])
def test_numbers_are_written_once_though_validation_is_repeated(root, straight, tmp_path, first):
    """Asked to stop on the last step of an epoch or in its validation, then killed between the numbers and their
    checkpoint."""
    arguments = options(root, tmp_path)
    assert (
        life(arguments, (first, STEPS - 1 if first == "before a step" else 1), signal.SIGTERM) == 128 + signal.SIGTERM
    )
    for place, nth in (
        ("in validation", 1),
        ("before a checkpoint", 1),
        ("before a file shows", 1),
        ("after a checkpoint", 1),
    ):
        assert life(arguments, (place, nth)) == -signal.SIGKILL
    assert life(arguments) == 0
    assert_same_run(newest_run(tmp_path), straight)


def test_a_checkpoint_cut_short_gives_way_to_the_newest_whole_one(root, straight, tmp_path):
    shutil.copytree(straight.parent, tmp_path / "default")
    run = newest_run(tmp_path)
    if checkpoint.load(run / "best.pt")["step"] > 4 * STEPS:
        (run / "best.pt").unlink()  # it comes again
    for path, share in ((run / "last.pt", 0.6), (run / "epoch_0006.pt", 0.999)):
        with path.open("r+b") as file:
            file.truncate(int(path.stat().st_size * share))
    log = tmp_path / "log"
    assert life(options(root, tmp_path), log=log) == 0
    said = log.read_text().splitlines()
    assert any(
        "last.pt is no whole checkpoint" in line and f"taking epoch_0004.pt of step {4 * STEPS} instead" in line
        for line in said
    )
    assert f"going on from {run / 'epoch_0004.pt'}, step {4 * STEPS}" in said
    assert_same_run(run, straight)


def test_what_a_run_did_not_begin_with_is_said(root, straight, tmp_path):
    shutil.copytree(straight.parent, tmp_path / "default")
    assert life([*options(root, tmp_path), "train.lr=0.002", "train.save_every=4"], log=tmp_path / "log") == 0
    said = (tmp_path / "log").read_text()
    assert re.search(r"^note: train.lr is 0.002 and the checkpoint's is ", said, re.M)
    assert "note: train.save_every is 4" in said and said.count("note: ") == 2


def test_a_finished_run_that_is_asked_to_go_on_says_so_and_stays(root, straight, tmp_path):
    shutil.copytree(straight.parent, tmp_path / "default")
    assert life(options(root, tmp_path), log=tmp_path / "log") == 0
    assert f"done: step {EPOCHS * STEPS}" in (tmp_path / "log").read_text()
    assert_same_run(newest_run(tmp_path), straight)


def test_going_on_never_initialises_the_codebooks_again(root, tmp_path, monkeypatch):
    arguments = tiny_options(root, *OPTIONS)
    loop = begin_loop(arguments)
    run_steps(loop, 9)
    checkpoint.save(loop.state_dict(), tmp_path / "last.pt")
    resumed = begin_loop([*arguments, "train.seed=7"])
    resumed.load_state_dict(checkpoint.load(tmp_path / "last.pt"))
    monkeypatch.setattr(rvq_task, "initialise_codebooks", lambda *_, **__: pytest.fail("the codebooks are drawn anew"))
    assert resumed.task.setup.quantising
    assert_same(resumed.task.model.state_dict(), loop.task.model.state_dict())
    assert run_steps(resumed, 3) == run_steps(loop, 3)
    assert_same(resumed.task.model.state_dict(), loop.task.model.state_dict())


def test_the_command_stops_on_sigterm_and_goes_on(root, straight, tmp_path):
    """The program itself, with workers that read ahead, as a scheduler would start it, stop it (torchrun and Slurm:
    the whole group), start it."""
    command = [sys.executable, "-m", "signstream.training.train_rvq", *options(root, tmp_path), "data.workers=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith(f"step {STEPS + 2:>2}/"):
                os.killpg(process.pid, signal.SIGTERM)
                break
        said += process.stdout.readlines()
    assert process.returncode == 128 + signal.SIGTERM, "".join(said)
    assert said[-1].startswith("stopped, saved: step ")
    step = int(said[-1].split()[3].rstrip(","))
    assert STEPS < step < EPOCHS * STEPS
    log = tmp_path / "log"
    assert life([*options(root, tmp_path), "data.workers=1"], log=log) == 0
    assert f"last.pt, step {step}" in log.read_text()
    assert_same_run(newest_run(tmp_path), straight)


def test_a_checkpoint_of_format_1_goes_on_bit_for_bit(root, tmp_path):
    """The tokenizer's constants lay beside the loop's values then, and no group of the optimiser had a rate of its
    own."""
    loop = begin_loop(tiny_options(root, *OPTIONS))
    run_steps(loop, 9)
    loop.validate(health=False)
    state = copy.deepcopy(loop.state_dict())
    old = {key: value for key, value in state.items() if key not in ("task", "watch", "waited")}
    old |= {**state["task"], **state["watch"], "format": 1}
    for group in old["optimizer"]["param_groups"]:
        del group["share"]
    torch.save(old, tmp_path / "old.pt")
    resumed = begin_loop(tiny_options(root, *OPTIONS, "train.seed=7"))
    resumed.load_state_dict(checkpoint.load(tmp_path / "old.pt"))
    assert run_steps(resumed, 3) == run_steps(loop, 3)
    one, other = resumed.state_dict(), loop.state_dict()
    for kept in (one, other):
        del kept["config"]
        kept["optimizer"]["param_groups"] = [dict(sorted(group.items())) for group in kept["optimizer"]["param_groups"]]
    assert_same(one, other)
