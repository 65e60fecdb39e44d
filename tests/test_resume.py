"""A run that is stopped, at whatever moment, and goes on is the run that was not stopped: bit for bit."""

import io
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from helpers import assert_same, begin_loop, run_steps, signer_root, tiny_options
from signstream.training import checkpoint

ROOT = Path(__file__).parents[1]
EPOCHS, STEPS = 8, 4  # of an epoch
OPTIONS = (
    "train.clips_per_step=4",
    f"train.epochs={EPOCHS}",
    "train.log_every=3",
    "train.save_every=3",
    "train.keep=2",
    "train.health_every=9",
    "train.warmup_steps=6",
)
PROCESSES = multiprocessing.get_context(
    "forkserver"
)  # imports torch once; each run is a fork of that, with nothing of the test's in it
PROCESSES.set_forkserver_preload(
    [
        "signstream.training.train_rvq",
        "signstream.tasks.rvq.validation",
        "signstream.tasks.rvq.pictures",
        "signstream.pictures.figure",
        "torch.utils.tensorboard",
        "torch._dynamo",
    ]
)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return signer_root(tmp_path_factory.mktemp("signer"), 24, {"train": (0, 16), "val": (16, 24)})


@pytest.fixture(scope="module")
def straight(root, tmp_path_factory) -> Path:
    """The folder of the run that nothing stops."""
    place = tmp_path_factory.mktemp("straight")
    assert life(options(root, place)) == 0
    return newest(place)


def options(root: Path, place: Path) -> list[str]:
    return [*tiny_options(root, *OPTIONS), f"save_path={place}", "--checkpoint", "auto"]


def newest(place: Path) -> Path:
    return max((place / "default").iterdir())


def assert_same_run(run: Path, straight: Path) -> None:
    """Weights, codebooks, optimiser, generators, position: all that a checkpoint holds but where it lies; and every number that was written."""
    names = sorted(path.name for path in straight.glob("*.pt"))
    assert names == ["best.pt", "epoch_0003.pt", "epoch_0006.pt", "last.pt"]
    assert sorted(path.name for path in run.glob("*.pt")) == names
    for name in names:
        ours, theirs = checkpoint.load(run / name), checkpoint.load(straight / name)
        for state in (ours, theirs):
            state["config"].pop("save_path"), state["config"]["data"].pop("workers")
        assert_same(ours, theirs, name)
    assert (run / "metrics.jsonl").read_bytes() == (straight / "metrics.jsonl").read_bytes()
    assert not list(run.glob(".*.part"))


def life(
    arguments: list[str], moment: tuple[str, int] | None = None, number: int = signal.SIGKILL, log: Path | None = None
) -> int:
    """One start of the program, which gets the signal at the n-th passage of a place in it, or n ms after its first step; its exit status."""
    process = PROCESSES.Process(target=_live, args=(arguments, moment, number, log))
    process.start()
    process.join(120)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def _live(arguments: list[str], moment: tuple[str, int] | None, number: int, log: Path | None) -> None:
    from signstream import cli
    from signstream.training import train_rvq

    with (log or Path(os.devnull)).open("a") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    if moment is not None:
        _strike(*moment, number)
    cli.run(lambda: train_rvq.main(arguments))


def _strike(place: str, nth: int, number: int) -> None:
    """The signal reaches this process when it passes `place` for the n-th time, or n ms after its first step."""
    import torch

    from signstream.tasks.rvq import validation
    from signstream.training import loop, train_rvq, utils_tb

    owner, name, when = {
        "before a step": (loop.Loop, "train_step", "before"),
        "after a step": (loop.Loop, "_optimise", "after"),
        "before a file shows": (os, "replace", "before"),
        "after a file shows": (os, "replace", "after"),
        "half-way through a checkpoint": (torch, "save", "half"),
        "after numbers were written": (utils_tb.Journal, "numbers", "after"),
        "in validation": (validation, "validate", "after"),
        "before a checkpoint": (utils_tb.Journal, "sync", "before"),
        "after a checkpoint": (train_rvq.Run, "_save", "after"),
        "ms": (loop.Loop, "train_step", "later"),
    }[place]
    real, passed = getattr(owner, name), [0]

    def struck(*args, **options):
        passed[0] += 1
        if when == "later" and passed[0] == 1:
            threading.Timer(nth / 1000, os.kill, (os.getpid(), number)).start()
        here = passed[0] == nth and when != "later"
        if here and when == "half":
            state, file = args
            whole = io.BytesIO()
            real(state, whole)
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            file.flush()
        if here and when != "after":
            os.kill(os.getpid(), number)
        result = real(*args, **options)
        if here and when == "after":
            os.kill(os.getpid(), number)
        return result

    setattr(owner, name, struck)


def test_it_goes_on_where_sigterm_stopped_it(root, straight, tmp_path):
    """On its first step, within the warm-up, on an epoch's last step, in validation, within an epoch, while it saves."""
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
    assert_same_run(newest(tmp_path), straight)


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
        ends.append(life(arguments, ("ms", rng.randrange(600)) if turn % 2 else MOMENTS[turn // 2]))
        found = checkpoint.find("auto", tmp_path, "default")
        steps.append(checkpoint.load(found)["step"] if found else 0)
    assert ends.count(-signal.SIGKILL) >= 7, "the others would have ended before they were killed"
    assert steps == sorted(steps) and steps[-1] > 0
    assert life(arguments) == 0
    assert_same_run(newest(tmp_path), straight)


@pytest.mark.parametrize("first", ["before a step", "in validation"])
def test_numbers_are_written_once_though_validation_is_repeated(root, straight, tmp_path, first):
    """Asked to stop on the last step of an epoch or in its validation, then killed between the numbers and their checkpoint."""
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
    assert_same_run(newest(tmp_path), straight)


def test_a_checkpoint_cut_short_gives_way_to_the_newest_whole_one(root, straight, tmp_path):
    shutil.copytree(straight.parent, tmp_path / "default")
    run = newest(tmp_path)
    if checkpoint.load(run / "best.pt")["step"] > 3 * STEPS:
        (run / "best.pt").unlink()  # it comes again
    for path, share in ((run / "last.pt", 0.6), (run / "epoch_0006.pt", 0.999)):
        with path.open("r+b") as file:
            file.truncate(int(path.stat().st_size * share))
    log = tmp_path / "log"
    assert life(options(root, tmp_path), log=log) == 0
    said = log.read_text().splitlines()
    assert any(
        "last.pt is no whole checkpoint" in line and f"taking epoch_0003.pt of step {3 * STEPS} instead" in line
        for line in said
    )
    assert f"going on from {run / 'epoch_0003.pt'}, step {3 * STEPS}" in said
    assert_same_run(run, straight)


def test_a_finished_run_that_is_asked_to_go_on_says_so_and_stays(root, straight, tmp_path):
    shutil.copytree(straight.parent, tmp_path / "default")
    assert life(options(root, tmp_path), log=tmp_path / "log") == 0
    assert f"done: step {EPOCHS * STEPS}" in (tmp_path / "log").read_text()
    assert_same_run(newest(tmp_path), straight)


def test_going_on_never_initialises_the_codebooks_again(root, tmp_path, monkeypatch):
    arguments = tiny_options(root, *OPTIONS)
    loop = begin_loop(arguments)
    run_steps(loop, 9)
    checkpoint.save(loop.state(), tmp_path / "last.pt")
    again = begin_loop([*arguments, "train.seed=7"])
    again.load_state(checkpoint.load(tmp_path / "last.pt"))
    monkeypatch.setattr(type(again), "initialise_codebooks", lambda self: pytest.fail("the codebooks are drawn anew"))
    assert bool(again.model.quantizer.initialised)
    assert_same(again.model.state_dict(), loop.model.state_dict())
    assert run_steps(again, 3) == run_steps(loop, 3)
    assert_same(again.model.state_dict(), loop.model.state_dict())


def test_the_command_stops_on_sigterm_and_goes_on(root, straight, tmp_path):
    """The program itself, with workers that read ahead, as a scheduler would start it, stop it (torchrun and Slurm: the whole group), start it."""
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
    assert_same_run(newest(tmp_path), straight)
