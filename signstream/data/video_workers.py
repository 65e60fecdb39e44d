"""Videos to poses, in this process or in several.

    for job, made in work(jobs, eyes, how, workers=2, tick=count): ...

In the order in which they are finished; `tick(n)` is called when n more pictures were looked at. A process that dies,
as a broken file can make it, is that video's reason and no more: another one takes its place.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from signstream.data.estimator import Estimator
from signstream.data.video_clip import How, Made, make_clip

PROCESSES = multiprocessing.get_context("spawn")  # a fork of a process with threads may stand still


class Job(NamedTuple):
    name: str
    path: Path


class Eyes(NamedTuple):
    """Who looks."""

    name: str  # with its version
    open: Callable[[], Estimator]  # in the process that looks


class Worker(NamedTuple):
    process: BaseProcess
    job: Job  # what it does


def work(
    jobs: Sequence[Job], eyes: Eyes, how: How, *, workers: int, tick: Callable[[int], object]
) -> Iterator[tuple[Job, Made]]:
    if workers > 1 and len(jobs) > 1:
        yield from _in_processes(jobs, eyes, how, workers=workers, tick=tick)
    elif jobs:
        see = eyes.open()
        try:
            for job in jobs:
                yield job, make_clip(job.path, see, how, tick=partial(tick, 1))
        finally:
            see.close()


def _in_processes(
    jobs: Sequence[Job], eyes: Eyes, how: How, *, workers: int, tick: Callable[[int], object]
) -> Iterator[tuple[Job, Made]]:
    waiting = list(reversed(jobs))
    busy: dict[Any, Worker] = {}  # by the connection to it
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                connection, process = start(eyes, how)
                busy[connection] = Worker(process, _give(connection, waiting))
            ready: list[Any] = wait(list(busy))
            for connection in ready:
                worker = busy[connection]
                message = _message(connection)
                if isinstance(message, int):
                    tick(message)
                    continue
                if waiting and not message.died:
                    busy[connection] = worker._replace(job=_give(connection, waiting))
                else:  # it ends when nobody is there any more
                    del busy[connection]
                    connection.close()
                yield worker.job, message
    finally:
        for worker in busy.values():
            worker.process.terminate()


def start(eyes: Eyes, how: How) -> tuple[Connection, BaseProcess]:
    ours, theirs = PROCESSES.Pipe()
    process = PROCESSES.Process(target=_serve, args=(theirs, eyes, how), daemon=True)
    resource_tracker.ensure_running()  # which would let Ctrl-C through again, if it began only now
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is for this process alone
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return ours, process


def _give(connection: Connection, waiting: list[Job]) -> Job:
    job = waiting.pop()
    with suppress(BrokenPipeError):  # it has died, as will be read next
        connection.send(job)
    return job


def _message(connection: Connection) -> int | Made:
    try:
        return connection.recv()
    except (EOFError, OSError):
        return Made(reason="the process that looked at it died", died=True)


def _serve(connection: Connection, eyes: Eyes, how: How) -> None:
    """What a process does until the one that started it closes the connection or is gone."""
    see = eyes.open()
    try:
        while True:
            job = connection.recv()
            connection.send(make_clip(job.path, see, how, tick=partial(connection.send, 1)))
    except (EOFError, OSError):
        see.close()
