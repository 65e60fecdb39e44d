"""How fast a run goes and what it takes: the time of a step, the wait for data, memory, and the line that a person
reads.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

Item = TypeVar("Item")


@dataclass(frozen=True)
class Speed:
    ms: float  # a step, on average
    waited_ms: float  # of which for data
    per_second: float  # what the task counts, in this process


class Timer:
    """How long steps take, and how much of it is waiting for data. Taking a window begins the next; `reset` leaves out
    what was not training."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        self._begin = self._clock()
        self._waited = 0.0
        self._steps = 0
        self._counted = 0

    def waiting(self, batches: Iterable[Item]) -> Iterator[Item]:
        """The same batches; the time until each one comes counts as waiting."""
        source = iter(batches)
        while True:
            begin = self._clock()
            try:
                batch = next(source)
            except StopIteration:
                return
            self._waited += self._clock() - begin
            yield batch

    def step(self, counted: int) -> None:
        self._steps += 1
        self._counted += counted

    def take(self) -> Speed:
        seconds = self._clock() - self._begin
        steps = max(self._steps, 1)
        speed = Speed(1e3 * seconds / steps, 1e3 * self._waited / steps, self._counted / max(seconds, 1e-9))
        self.reset()
        return speed


def memory_used(device: torch.device) -> int:
    """The most bytes so far: of the GPU, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def progress_line(
    step: int,
    total: int,
    *,
    losses: Mapping[str, float],
    status: Sequence[str],
    lr: float,
    speed: Speed,
    unit: str,
    memory: int,
) -> str:
    """`step` of `total` are done; losses: "loss" and the terms that it is the sum of; status: what the last validation
    has to repeat."""
    terms = ", ".join(f"{name} {value:.4g}" for name, value in losses.items() if name != "loss")
    pieces = [
        f"step {step:>{len(str(total))}}/{total} {100 * step / max(total, 1):5.1f}%",
        f"loss {losses['loss']:.4g}" + (f" ({terms})" if terms else ""),
        *status,
        f"lr {lr:.2e}",
        f"{speed.ms:.0f} ms ({speed.waited_ms:.0f} data)",
        f"{speed.per_second:.0f} {unit}/s",
        f"{memory / 2**30:.2f} GiB",
        f"left {_clock_time((total - step) * speed.ms / 1e3)}",
    ]
    return " | ".join(pieces)


def _clock_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
