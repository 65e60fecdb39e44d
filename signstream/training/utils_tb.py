"""The journals of a run: metrics.jsonl, speed.jsonl and TensorBoard as one, Weights & Biases where it is asked for.

    for journal in open_journals(folder, config, resume_step=None):        # on rank 0 alone
        journal.numbers(step, "train", {"loss": 0.1}, epoch=3)          # metrics.jsonl; TensorBoard: train/loss, ...
        journal.speed(step, {"ms": 140.0, "chunks_per_s": 5120.0})         # speed.jsonl; TensorBoard: speed/ms, ...

metrics.jsonl holds what the run computed and nothing that depends on the clock or the machine: a run that was stopped
and resumed has the file of the run that was not, bit for bit. Whatever a clock or a memory counter says goes to
speed.jsonl. For that, all numbers of a step are written, and `journal.sync()` called, before that step's checkpoint is
saved: on resume, lines of later steps are dropped from both files, and those of a test, which comes last.
"""

from __future__ import annotations

import json
import math
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from signstream.config import Base
from signstream.io.tables import finite
from signstream.io.whole import write_whole
from signstream.training.run_folder import RunFolder
from signstream.training.utils_wandb import WandbJournal

Number = float | int | Tensor


class Journal:
    """The files of one run, written by one process. `resume_step`: the step of the checkpoint that the run goes on
    from; None: it begins. `board`: where TensorBoard's lie, if not with the others."""

    def __init__(self, folder: RunFolder, resume_step: int | None = None, board: Path | None = None) -> None:
        if resume_step is not None:
            drop_after(folder.metrics, resume_step)
            drop_after(folder.speed, resume_step)
        self._metrics = folder.metrics.open("a", buffering=1, encoding="utf-8")
        self._speed = folder.speed.open("a", buffering=1, encoding="utf-8")
        purge = None if resume_step is None else resume_step + 1
        board = board or folder.tensorboard
        wait_for_a_later_name(board)
        self._board = SummaryWriter(str(board), purge_step=purge, flush_secs=20)

    def numbers(self, step: int, split: str, values: Mapping[str, Number], *, epoch: int) -> None:
        self._write(self._metrics, {"step": step, "epoch": epoch, "split": split}, values)
        self._scalars(step, split, values)

    def speed(self, step: int, values: Mapping[str, Number]) -> None:
        """Throughput, ms a step, the wait for data, memory: numbers that differ from run to run."""
        self._write(self._speed, {"step": step}, values)
        self._scalars(step, "speed", values)

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        numbers = values.detach().float().flatten()
        numbers = numbers[numbers.isfinite()]
        if len(numbers):
            self._board.add_histogram(name, numbers.cpu().numpy(), step)

    def text(self, step: int, name: str, text: str) -> None:
        self._board.add_text(name, text, step)

    def image(self, step: int, name: str, image: Tensor) -> None:
        """[3, H, W], uint8 or 0 to 1."""
        self._board.add_image(name, image, step)

    def animation(self, step: int, name: str, gif: bytes) -> None:
        """TensorBoard hands an image's bytes to the browser as they are, so a GIF moves."""
        width, height = struct.unpack_from("<HH", gif, 6)
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif)
        writer: Any = self._board.file_writer
        writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

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

    def _write(self, file: TextIO, head: dict[str, Any], values: Mapping[str, Number]) -> None:
        assert not head.keys() & values.keys(), f"{sorted(head.keys() & values.keys())} say where a line belongs"
        line = {**head, **finite(values)}
        file.write(json.dumps(line, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")

    def _scalars(self, step: int, group: str, values: Mapping[str, Number]) -> None:
        for name, value in values.items():
            self._board.add_scalar(f"{group}/{name}", float(value), step)


def open_journals(folder: RunFolder, config: Base, resume_step: int | None = None) -> list[Journal | WandbJournal]:
    """The files and TensorBoard; with `train.log_wandb` in the config, Weights & Biases as well."""
    second = [WandbJournal(folder, config)] if config.train.log_wandb else []
    logs = config.train.log_dir
    board = Path(logs, config.experiment_name, folder.path.name) if logs is not None else None
    return [Journal(folder, resume_step, board), *second]


def wait_for_a_later_name(board: Path) -> None:
    """TensorBoard reads a folder's files in the order of their names, which begin with a second: of two files of one
    second the older may come last, and so may steps that a resumed run drops."""
    seconds = [path.name.split(".")[3] for path in board.glob("events.out.tfevents.*")]
    ahead = max((int(second) for second in seconds if second.isdigit()), default=0) + 1 - time.time()
    if 0 < ahead <= 1:
        time.sleep(ahead)


def drop_after(path: Path, step: int) -> None:
    """Leaves the lines up to `step`. A line that a kill or a power cut left half-written goes as well."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if line.endswith(b"\n") and _step_of(line) <= step]
    if len(kept) < len(lines):
        write_whole(path, lambda file: file.writelines(kept))


def _step_of(line: bytes) -> float:
    """A line that cannot be read, or of a test, comes after every step."""
    try:
        entry = json.loads(line)
        return entry["step"] if entry.get("split") in (None, "train", "val") else math.inf
    except (ValueError, KeyError, TypeError, AttributeError):
        return math.inf
