"""Ranks of torchrun that are killed: all start again, and the run they end with is the one that nobody killed."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from data_sets import signer_root
from helpers import ROOT, assert_same, tiny_options
from processes import PROCESSES
from signstream.training import checkpoint
from signstream.training.distributed import start
from test_tasks import SAME_STEPS

KILLS = 20


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return signer_root(tmp_path_factory.mktemp("signer"), 24, {"train": (0, 17), "val": (17, 20)}, frames=60)


class Torchrun:
    """Two ranks under torchrun, whose workers can be killed."""

    def __init__(self, arguments: list[str], restarts: int, place: Path) -> None:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        command = [*launcher, f"--max-restarts={restarts}", "-m", "signstream.training.train_rvq", *arguments]
        self.log = place / "log"
        with self.log.open("w") as log:
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            self.process = subprocess.Popen([*command, f"save_path={place}"], env=environment, stdout=log, stderr=log)

    def workers(self) -> list[int]:
        try:
            listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            return [int(pid) for pid in listed if b"train_rvq" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        except OSError:  # it ends just now
            return []

    def new_workers(self, old: list[int]) -> list[int]:
        """Both of the next start; none: torchrun ended."""
        while self.process.poll() is None:
            workers = [pid for pid in self.workers() if pid not in old]
            if len(workers) == 2:
                return workers
            time.sleep(0.02)
        return []

    def wait_for(self, text: str, times: int) -> None:
        while self.process.poll() is None and self.log.read_text().count(text) < times:
            time.sleep(0.02)


def straight_run(root: Path, options: list[str], place: Path) -> dict:
    place.mkdir()
    run = Torchrun(tiny_options(root, SAME_STEPS, *options), 0, place)
    assert run.process.wait(600) == 0, run.log.read_text()
    return last_of(place)


def last_of(place: Path) -> dict:
    state = checkpoint.load(max((place / "default").iterdir()) / "last.pt")
    state["config"].pop("save_path")
    return state


def join_and_stay(rank: int, port: int, said: Path) -> None:
    """A rank under torchrun, whose store is the launcher's and stays."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", TORCHELASTIC_USE_AGENT_STORE="True")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    with start("cpu", threads=1) as ranks:
        total = ranks.sum_(torch.full((1,), rank + 1.0))
        said.write_text(str(total.item()))
        time.sleep(60)


def wait_until(done: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.01)
    return done()


def test_ranks_that_start_anew_do_not_read_what_the_dead_left_in_the_store(tmp_path):
    """One is killed at work, one before the other came, one as they meet, and each time both start anew."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for number, moment in enumerate(["at work", "alone", "at work", "they meet", "at work"]):
        said = [tmp_path / f"{number}-{rank}" for rank in range(2)]
        started = (0,) if moment == "alone" else (0, 1)
        ranks = [PROCESSES.Process(target=join_and_stay, args=(rank, store.port, said[rank])) for rank in started]
        for process in ranks:
            process.start()
        if moment == "at work":
            assert wait_until(lambda paths=said: all(path.exists() and path.read_text() == "3.0" for path in paths))
        elif moment == "they meet":
            wait_until(lambda: store.check(["name/0"]), 5)
        else:
            time.sleep(0.5)
        for process in ranks:
            process.kill()
            process.join()


@pytest.mark.slow
def test_a_rank_is_killed_twice_and_the_run_ends_as_if_none_had_been(root, tmp_path):
    """In its steps, and as soon as it goes on."""
    options = ["train.epochs=6", "train.log_every=1"]
    straight = straight_run(root, options, tmp_path / "straight")
    (tmp_path / "killed").mkdir()
    run = Torchrun(tiny_options(root, SAME_STEPS, *options), 2, tmp_path / "killed")
    workers: list[int] = []
    for text, victim in (("step  4/", 1), ("going on from", 0)):
        workers = run.new_workers(workers)
        run.wait_for(text, 1)
        os.kill(workers[victim], signal.SIGKILL)
    assert run.process.wait(120) == 0, run.log.read_text()
    assert_same(last_of(tmp_path / "killed"), straight)


@pytest.mark.slow
def test_twenty_kills_in_a_row_at_random_moments_change_nothing(root, tmp_path):
    """Every second one while the ranks start, the others after a few steps; the last in the last steps."""
    options = ["train.epochs=40", "train.log_every=1", "train.health_every=40"]
    straight = straight_run(root, options, tmp_path / "straight")
    (tmp_path / "killed").mkdir()
    run, rng = Torchrun(tiny_options(root, SAME_STEPS, *options), KILLS, tmp_path / "killed"), random.Random(0)
    workers, begun = run.new_workers([]), time.monotonic()
    run.wait_for("\nstep ", 1)
    start_lasts = time.monotonic() - begun
    for number in range(KILLS):
        if number == KILLS - 1:
            run.wait_for("\nstep 119/", 1)
        elif number % 2:
            time.sleep(rng.uniform(0, start_lasts))
        else:
            run.wait_for("\nstep ", run.log.read_text().count("\nstep ") + rng.randrange(1, 12))
        assert run.process.poll() is None, run.log.read_text()[-4000:]
        os.kill(rng.choice(workers), signal.SIGKILL)
        workers = run.new_workers(workers)
    assert run.process.wait(600) == 0, run.log.read_text()[-4000:]
    assert run.log.read_text().count("closing signal SIGTERM") >= KILLS // 2, "too few were killed at work"
    assert_same(last_of(tmp_path / "killed"), straight)
