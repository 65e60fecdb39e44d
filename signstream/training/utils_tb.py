"""What a run says of itself: metrics.jsonl and speed.jsonl, TensorBoard, Weights & Biases where it is asked for, and the line on the screen.

    journal = open_journal(folder, resume_step=None, write=ranks.is_main, config=config)
    journal.numbers(step, epoch, "train", {"loss": 0.1, "recon/face": 0.05})       # metrics.jsonl, and TensorBoard as train/loss, ...
    journal.speed(step, {"ms": 140.0, "chunks_per_s": 5120.0})                      # speed.jsonl, and TensorBoard as speed/ms, ...

metrics.jsonl holds what the run computed and nothing that depends on the clock or the machine: a run that was stopped and resumed has the file
of the run that was not, bit for bit. Whatever a clock or a memory counter says goes to speed.jsonl. For that, all numbers of a step are written,
and `journal.sync()` called, before that step's checkpoint is saved: on resume, lines of later steps are dropped from both files.
"""

from __future__ import annotations

import json
import math
import os
import resource
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import torch
from torch import Tensor

from signstream.config import Config
from signstream.training.checkpoint import RunFolder, write_whole

if TYPE_CHECKING:
    from signstream.training.utils_wandb import WandbJournal

Item = TypeVar("Item")
Number = float | int | Tensor


class Journal:
    """The files of one run, written by one process. `resume_step`: the step of the checkpoint that the run goes on from; None: it begins."""

    def __init__(self, folder: RunFolder, resume_step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if resume_step is not None:
            drop_after(folder.metrics, resume_step)
            drop_after(folder.speed, resume_step)
        self._metrics, self._speed = (
            path.open("a", buffering=1, encoding="utf-8") for path in (folder.metrics, folder.speed)
        )
        self._board = SummaryWriter(
            str(folder.tensorboard), purge_step=None if resume_step is None else resume_step + 1, flush_secs=20
        )

    def numbers(self, step: int, epoch: int, split: str, values: Mapping[str, Number]) -> None:
        self._write(self._metrics, {"step": step, "epoch": epoch, "split": split}, values)
        self._scalars(step, split, values)

    def speed(self, step: int, values: Mapping[str, Number]) -> None:
        """Throughput, ms a step, the wait for data, memory: numbers that differ from run to run."""
        self._write(self._speed, {"step": step}, values)
        self._scalars(step, "speed", values)

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        finite = values.detach().float().flatten()
        finite = finite[finite.isfinite()]
        if len(finite):
            self._board.add_histogram(name, finite.cpu().numpy(), step)

    def text(self, step: int, name: str, text: str) -> None:
        self._board.add_text(name, text, step)

    def image(self, step: int, name: str, image: Tensor) -> None:
        """[3, H, W], uint8 or 0 to 1."""
        self._board.add_image(name, image, step)

    def animation(self, step: int, name: str, gif: bytes) -> None:
        """TensorBoard hands an image's bytes to the browser as they are, so a GIF moves."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        width, height = struct.unpack_from("<HH", gif, 6)
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif)
        self._board.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def sync(self) -> None:
        """Everything so far is on the disk, so that a checkpoint saved next never is ahead of its numbers."""
        for file in (self._metrics, self._speed):
            file.flush()
            os.fsync(file.fileno())
        self._board.flush()

    def close(self) -> None:
        self.sync()
        for file in (self._metrics, self._speed, self._board):
            file.close()

    def _write(self, file: TextIO, place: dict[str, Any], values: Mapping[str, Number]) -> None:
        assert not place.keys() & values.keys(), f"{sorted(place.keys() & values.keys())} say where a line belongs"
        line = {**place, **{name: _plain(value) for name, value in values.items()}}
        file.write(json.dumps(line, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")

    def _scalars(self, step: int, group: str, values: Mapping[str, Number]) -> None:
        for name, value in values.items():
            self._board.add_scalar(f"{group}/{name}", float(value), step)


class NoJournal:
    """What every rank but 0 writes to."""

    def numbers(self, *args: Any, **options: Any) -> None:
        pass

    speed = histogram = text = image = animation = sync = close = numbers


class Both:
    """Two journals that are told the same."""

    def __init__(self, first: Journal, second: WandbJournal) -> None:
        self._each = first, second

    def __getattr__(self, method: str) -> Callable[..., None]:
        def tell(*args: Any, **options: Any) -> None:
            for journal in self._each:
                getattr(journal, method)(*args, **options)

        return tell


def open_journal(
    folder: RunFolder, resume_step: int | None = None, write: bool = True, config: Config | None = None
) -> Journal | NoJournal | Both:
    """The files and TensorBoard; with `train.log_wandb` in the config, Weights & Biases as well."""
    if not write:
        return NoJournal()
    second = None
    if config is not None and config.train.log_wandb:
        from signstream.training.utils_wandb import WandbJournal

        second = WandbJournal(folder, config)
    journal = Journal(folder, resume_step)
    return Both(journal, second) if second else journal


def drop_after(path: Path, step: int) -> None:
    """Leaves the lines up to `step`. A line that a kill or a power cut left half-written goes as well."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if line.endswith(b"\n") and _step_of(line) <= step]
    if len(kept) < len(lines):
        write_whole(path, lambda file: file.writelines(kept))


def _step_of(line: bytes) -> float:
    """A line that cannot be read comes after every step."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf


def _plain(value: Number) -> float | int | None:
    """A number that JSON has: null for what is not finite."""
    number = value.item() if hasattr(value, "item") else value
    return number if math.isfinite(number) else None


@dataclass(frozen=True)
class Speed:
    ms: float  # a step, on average
    waited_ms: float  # of which for data
    chunks_per_s: float  # of this process


class Timer:
    """How long steps take, and how much of it is waiting for data. Taking a window begins the next; `reset` leaves out what was not training."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        self._begin, self._waited, self._steps, self._chunks = self._clock(), 0.0, 0, 0

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

    def step(self, chunks: int) -> None:
        self._steps, self._chunks = self._steps + 1, self._chunks + chunks

    def take(self) -> Speed:
        seconds, steps = self._clock() - self._begin, max(self._steps, 1)
        speed = Speed(1e3 * seconds / steps, 1e3 * self._waited / steps, self._chunks / max(seconds, 1e-9))
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
    losses: Mapping[str, float],
    lr: float,
    speed: Speed,
    memory: int,
    entropy: float | None = None,
    dead: int | None = None,
) -> str:
    """`step` of `total` are done; losses: "loss" and the parts that it is the sum of; entropy in bits of the codes, and how many are dead."""
    parts = ", ".join(f"{name} {value:.4g}" for name, value in losses.items() if name != "loss")
    pieces = [
        f"step {step:>{len(str(total))}}/{total} {100 * step / max(total, 1):5.1f}%",
        f"loss {losses['loss']:.4g}" + (f" ({parts})" if parts else ""),
        "" if entropy is None else f"entropy {entropy:.2f} bits",
        "" if dead is None else f"dead {dead}",
        f"lr {lr:.2e}",
        f"{speed.ms:.0f} ms ({speed.waited_ms:.0f} data)",
        f"{speed.chunks_per_s:.0f} chunks/s",
        f"{memory / 2**30:.2f} GiB",
        f"left {_clock_time((total - step) * speed.ms / 1e3)}",
    ]
    return " | ".join(piece for piece in pieces if piece)


def _clock_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
