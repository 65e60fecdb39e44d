"""Several processes as ranks, and the program in a process of its own that can be struck at a moment of its life."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from helpers import free_port
from signstream import cli
from signstream.training.distributed import Ranks, start

PRELOADED = [
    "signstream.training.run",
    "signstream.tasks.contrast.task",
    "signstream.tasks.recognition.task",
    "signstream.tasks.rvq.task",
    "torch.utils.tensorboard",
    "torch._dynamo",
    "transformers.models.mbart.modeling_mbart",
]
PROCESSES = multiprocessing.get_context("forkserver")  # imports torch once; each process is a fork of that
PROCESSES.set_forkserver_preload(PRELOADED)


def on_ranks(world: int, work: Callable, folder: Path, join: bool = True) -> list:
    """What `work(ranks)` gives on each rank, saved and loaded; one process needs no group. `join` False: `work(rank)`
    joins the ranks itself."""
    folder.mkdir(parents=True, exist_ok=True)
    if world == 1:
        return [work(Ranks())]
    port = free_port()
    ranks = [PROCESSES.Process(target=_rank, args=(work, rank, world, port, folder, join)) for rank in range(world)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(90)
    late = [rank for rank, process in enumerate(ranks) if process.exitcode is None]
    for process in ranks:
        process.kill()
    assert not late, f"ranks {late} wait for ever"
    assert [process.exitcode for process in ranks] == [0] * world
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


def _rank(work: Callable, rank: int, world: int, port: int, folder: Path, join: bool) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    if not join:
        torch.save(work(rank), folder / f"{rank}.pt")
        return
    with start("cpu", threads=1) as ranks:
        torch.save(work(ranks), folder / f"{rank}.pt")


def life(
    arguments: list[str], moment: tuple[str, int] | None = None, number: int = signal.SIGKILL, log: Path | None = None
) -> int:
    """One start of the program, which gets the signal at the n-th passage of a moment, or n ms after its first step;
    its exit status."""
    process = PROCESSES.Process(target=_live, args=(arguments, moment, number, log))
    process.start()
    process.join(120)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def _live(arguments: list[str], moment: tuple[str, int] | None, number: int, log: Path | None) -> None:
    from signstream.training import train_rvq

    with (log or Path(os.devnull)).open("a") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    if moment is not None:
        strike(*moment, number)
    cli.run(lambda: train_rvq.main(arguments))


def moments() -> dict[str, tuple[Any, str, str]]:
    """Where a run can be struck: what is called there, and when."""
    from signstream.training import loop, run, utils_tb

    return {
        "before a step": (loop.Loop, "step", "before"),
        "after a step": (loop.Loop, "optimise", "after"),
        "before a file shows": (os, "replace", "before"),
        "after a file shows": (os, "replace", "after"),
        "half-way through a checkpoint": (torch, "save", "half"),
        "after numbers were written": (utils_tb.Journal, "numbers", "after"),
        "in validation": (loop.Loop, "validate", "after"),
        "before a checkpoint": (utils_tb.Journal, "sync", "before"),
        "after a checkpoint": (run.Run, "save", "after"),
        "ms": (loop.Loop, "step", "later"),
    }


def strike(moment: str, nth: int, number: int) -> None:
    """The signal reaches this process when it passes the moment for the n-th time, or n ms after its first step."""
    owner, name, when = moments()[moment]
    real, passed = getattr(owner, name), [0]

    def struck(*args: Any, **options: Any) -> Any:
        passed[0] += 1
        if when == "later" and passed[0] == 1:
            threading.Timer(nth / 1000, os.kill, (os.getpid(), number)).start()
        now = passed[0] == nth and when != "later"
        if now and when == "half":
            state, file = args
            whole = io.BytesIO()
            real(state, whole)
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            file.flush()
        if now and when != "after":
            os.kill(os.getpid(), number)
        result = real(*args, **options)
        if now and when == "after":
            os.kill(os.getpid(), number)
        return result

    setattr(owner, name, struck)
