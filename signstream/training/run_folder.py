"""The folder of a run, and which of its checkpoints to take.

    folder = RunFolder.create(save_path, experiment_name)     on rank 0; the others get its path: RunFolder(path)
    newest_of(experiment), find(path)                         the checkpoint to go on from
    best_of(path)                                             the checkpoint to use

Making a RunFolder of a path touches nothing.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from signstream.config import Base, dump
from signstream.errors import UserError
from signstream.io.whole import remove_parts, write_whole
from signstream.training.checkpoint import load

RUN_NAME = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")
EPOCH_NAME = re.compile(r"epoch_(\d+)\.pt")


@dataclass(frozen=True)
class RunFolder:
    """<save_path>/<experiment_name>/<timestamp>/ and the names in it. Making one of a path touches nothing."""

    path: Path

    @classmethod
    def create(cls, save_path: str | Path, experiment_name: str) -> RunFolder:
        """A new folder named by the time. Two runs that start in the same second get two: the later waits for the
        next."""
        parent = Path(save_path) / experiment_name
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            path = parent / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
            try:
                path.mkdir()
                return cls(path)
            except FileExistsError:
                time.sleep(0.05)

    @property
    def last(self) -> Path:
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        return self.path / "best.pt"

    def epoch(self, number: int) -> Path:
        return self.path / f"epoch_{number:04d}.pt"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def speed(self) -> Path:
        return self.path / "speed.jsonl"

    @property
    def skipped(self) -> Path:
        return self.path / "skipped.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    def open_log(self) -> TextIO:
        """train.log, to append to; every line reaches the file as it is written."""
        return (self.path / "train.log").open("a", buffering=1, encoding="utf-8")

    def describe(self, config: Base, facts: Mapping[str, Any]) -> None:
        """config.yaml and environment.json."""
        write_whole(self.path / "config.yaml", lambda file: file.write(dump(config).encode()))
        write_whole(
            self.path / "environment.json",
            lambda file: file.write((json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode()),
        )

    def sweep(self) -> None:
        """Removes what killed saves left; for rank 0 of a run that goes on in this folder."""
        remove_parts(self.path)

    def prune(self, keep: int) -> None:
        """Removes all but the newest `keep` of epoch_*.pt."""
        named = ((EPOCH_NAME.fullmatch(path.name), path) for path in self.path.glob("epoch_*.pt"))
        oldest_first = sorted((int(match[1]), path) for match, path in named if match)
        for _, path in oldest_first[: max(len(oldest_first) - keep, 0)]:
            path.unlink(missing_ok=True)


def newest_whole(folder: str | Path) -> Path | None:
    """last.pt if it is whole, else the checkpoint of the most steps that is, with a line that says so; None: there is
    none."""
    run = RunFolder(Path(folder))
    steps: dict[Path, int] = {}
    broken: list[str] = []
    for path in [run.last, run.best, *sorted(run.path.glob("epoch_*.pt"), reverse=True)]:
        if not path.exists():
            continue
        try:
            steps[path] = load(path)["step"]
        except UserError as error:
            broken.append(str(error))
            continue
        if path == run.last:
            return path
    taken = max(steps, key=steps.__getitem__) if steps else None
    instead = f"taking {taken.name} of step {steps[taken]} instead" if taken else "no other is whole"
    for fault in broken:
        print(f"checkpoint: {fault}; {instead}")
    return taken


def find(checkpoint: str | Path) -> Path:
    """The checkpoint to go on from: a checkpoint's path, a run folder's, or an experiment's, whose newest run it is."""
    path = Path(checkpoint)
    if path.is_dir():
        newest = newest_whole(path) or newest_of(path)
        if newest is None:
            raise UserError(
                f"{path} holds no whole checkpoint (last.pt, best.pt, epoch_*.pt): "
                "name a checkpoint, a run folder, an experiment's, or auto"
            )
        return newest
    if not path.exists():
        raise UserError(f"there is no checkpoint {path}: name a checkpoint, a run folder, an experiment's, or auto")
    return path


def newest_of(experiment: Path) -> Path | None:
    """The checkpoint of the newest run in <save_path>/<experiment_name> that has a whole one; None: none has."""
    return next((path for path in map(newest_whole, _runs(experiment)) if path), None)


def best_of(path: str | Path) -> Path:
    """The checkpoint to use, not to go on from: a checkpoint itself, or best.pt (else last.pt) of a run's folder or of
    an experiment's newest run."""
    path = Path(path)
    if path.is_file():
        return path
    for folder in (path, *_runs(path)):
        for file in (RunFolder(folder).best, RunFolder(folder).last):
            if file.exists():
                return file
    raise UserError(f"there is no checkpoint {path}: name one, or a run's folder that has best.pt or last.pt")


def _runs(experiment: Path) -> list[Path]:
    """The newest first."""
    return sorted((run for run in experiment.glob("*") if run.is_dir() and RUN_NAME.fullmatch(run.name)), reverse=True)
