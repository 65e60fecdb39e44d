"""The folder of a run, and checkpoints that are either whole or not there.

    folder = RunFolder.create(config.save_path, config.experiment_name)       # rank 0; the others get its path: RunFolder(path)
    folder.describe(config, environment(device, world, seed))
    save({"step": 120, "model": model.state_dict(), ...}, folder.last)
    path = find("auto", config.save_path, config.experiment_name)             # the newest run that can go on, or None
    state = load(path)

A checkpoint is {"format": 1, "step": int, ...}, tensors and plain values. It is written under another name, synced and renamed, so a stop at
any moment leaves the old one or the new one; it is read without running code, and only if every byte is as it was written.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
import uuid
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, TextIO

import torch
from torch import Tensor

from signstream.config import Config, dump, to_dict
from signstream.errors import UserError

FORMAT = 1
ROOT = Path(__file__).resolve().parents[2]
RUN_NAME = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")
EPOCH_NAME = re.compile(r"epoch_(\d+)\.pt")


@dataclass(frozen=True)
class RunFolder:
    """<save_path>/<experiment_name>/<timestamp>/ and the names in it. Making one of a path touches nothing."""

    path: Path

    @classmethod
    def create(cls, save_path: str | Path, experiment_name: str) -> RunFolder:
        """A new folder named by the time. Two runs that start in the same second get two: the later waits for the next."""
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

    def describe(self, config: Config, facts: Mapping[str, Any]) -> None:
        """config.yaml and environment.json."""
        write_whole(self.path / "config.yaml", lambda file: file.write(dump(config).encode()))
        write_whole(
            self.path / "environment.json",
            lambda file: file.write((json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode()),
        )

    def sweep(self) -> None:
        """Removes what killed saves left; for rank 0 of a run that goes on in this folder."""
        for path in self.path.glob(".*.part"):
            path.unlink(missing_ok=True)

    def prune(self, keep: int) -> None:
        """Removes all but the newest `keep` of epoch_*.pt."""
        kept = sorted(
            (int(match[1]), path) for path in self.path.glob("epoch_*.pt") if (match := EPOCH_NAME.fullmatch(path.name))
        )
        for _, path in kept[: max(len(kept) - keep, 0)]:
            path.unlink(missing_ok=True)


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """The file shows under its name only when all of it is on the disk; until then the old one stays."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def save(state: Mapping[str, Any], path: Path) -> None:
    """state: "step" and whatever else the run is, in tensors and plain values."""
    assert type(state.get("step")) is int, "a checkpoint needs its step"
    whole = {"format": FORMAT, **state}
    odd = _odd_value(whole, "state")
    assert odd is None, f"{odd}: weights_only=True would not read it back; save tensors and plain values"
    try:
        write_whole(path, lambda file: torch.save(whole, file))
    except (OSError, RuntimeError) as error:  # a full disk is a RuntimeError where torch finishes its archive
        raise OSError(f"cannot write the checkpoint {path}: {_first_line(error)}") from None


def _odd_value(value: Any, where: str) -> str | None:
    """Which value is neither a tensor nor plain, and what it is."""
    if isinstance(value, Tensor) or value is None or type(value) in (bool, int, float, str):
        return None
    if type(value) in (dict, OrderedDict):
        inner = [(item, f"{where}[{key!r}]") for key, item in value.items()]
    elif type(value) in (list, tuple):
        inner = [(item, f"{where}[{i}]") for i, item in enumerate(value)]
    else:
        return f"{where} is a {type(value).__module__}.{type(value).__name__}"
    return next((odd for item, name in inner if (odd := _odd_value(item, name))), None)


def load(path: str | Path) -> dict[str, Any]:
    """A whole checkpoint, on the CPU. Anything else is a ValueError that says what the file is instead."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    fault = _archive_fault(path)
    if fault:
        raise UserError(f"{path} is no whole checkpoint: {fault}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "TypedStorage is deprecated")  # torch 2.1 warns of what it does itself
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the bytes are somebody's, so reading them may fail in any way
        raise UserError(f"{path} is no checkpoint: {type(error).__name__}, {_first_line(error)}") from None
    if not isinstance(state, dict) or "format" not in state:
        raise UserError(f'{path} is no checkpoint of this program: it has no "format"')
    if state["format"] != FORMAT:
        raise UserError(
            f"{path} has checkpoint format {state['format']!r}, this version reads {FORMAT}: use the version that wrote it"
        )
    if type(state.get("step")) is not int:
        raise UserError(f'{path} is no checkpoint of this program: it has no "step"')
    return state


def _archive_fault(path: Path) -> str | None:
    """torch does not look at the archive's checksums, so a damaged weight would pass for a weight."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        return f"it is cut short, damaged or another kind of file ({_first_line(error)})"
    return f"{damaged} in it is damaged" if damaged else None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def newest_whole(folder: str | Path) -> Path | None:
    """last.pt if it is whole, else the checkpoint of the most steps that is, with a line that says so; None: there is none."""
    run, steps, broken = RunFolder(Path(folder)), {}, []
    for path in [run.last, run.best, *sorted(run.path.glob("epoch_*.pt"), reverse=True)]:
        if not path.exists():
            continue
        try:
            steps[path] = load(path)["step"]
        except ValueError as error:
            broken.append(str(error))
            continue
        if path == run.last:
            return path
    taken = max(steps, key=steps.__getitem__) if steps else None
    for line in broken:
        print(
            f"checkpoint: {line}; "
            + (f"taking {taken.name} of step {steps[taken]} instead" if taken else "no other is whole")
        )
    return taken


def find(checkpoint: str, save_path: str | Path, experiment_name: str) -> Path | None:
    """ "auto": the newest run of the experiment that has a whole checkpoint, None if none has; else a checkpoint's or a run folder's path."""
    if checkpoint == "auto":
        runs = sorted((Path(save_path) / experiment_name).glob("*"), reverse=True)
        candidates = (newest_whole(run) for run in runs if run.is_dir() and RUN_NAME.match(run.name))
        return next((path for path in candidates if path), None)
    path = Path(checkpoint)
    if path.is_dir():
        found = newest_whole(path)
        if found is None:
            raise UserError(
                f"{path} holds no whole checkpoint (last.pt, best.pt, epoch_*.pt): name a checkpoint, a run folder, or auto"
            )
        return found
    if not path.exists():
        raise UserError(f"there is no checkpoint {path}: name a checkpoint, a run folder, or auto")
    return path


def best_of(path: str | Path) -> Path:
    """The checkpoint to use, not to go on from: a checkpoint itself, or best.pt (else last.pt) of a run's folder or of an experiment's newest run."""
    path = Path(path)
    runs = [path] if path.is_dir() else []
    runs += (
        sorted((run for run in path.glob("*") if run.is_dir() and RUN_NAME.match(run.name)), reverse=True)
        if path.is_dir()
        else []
    )
    found = (
        path
        if path.is_file()
        else next((file for run in runs for file in (RunFolder(run).best, RunFolder(run).last) if file.exists()), None)
    )
    if found is None:
        raise UserError(f"there is no checkpoint {path}: name one, or a run's folder that has best.pt or last.pt")
    return found


def check_same(config: Config, saved: Config, free: Sequence[str], why: str) -> None:
    """Model and data are the checkpoint's, but for the data's keys that are `free`; the first difference is an error with both values."""
    ours, theirs = to_dict(config), to_dict(saved)
    for key in free:
        ours["data"].pop(key), theirs["data"].pop(key)

    def differing(a: dict, b: dict, path: str):
        for key in a:
            if isinstance(a[key], dict) and isinstance(b.get(key), dict):
                yield from differing(a[key], b[key], f"{path}.{key}")
            elif a[key] != b.get(key):
                yield f"{path}.{key} is {a[key]} and the checkpoint's is {b.get(key)}"

    for section in ("data", "model"):
        for difference in differing(ours[section], theirs[section], section):
            raise UserError(f"{difference}: {why}; leave the option out, or begin a new run")


def digest(state_dict: Mapping[str, Tensor]) -> str:
    """16 hexadecimal digits that name these weights: names, types, shapes and bytes, in whatever order they come."""
    sha = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach().cpu().contiguous()
        sha.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()[:16]


def environment(device: torch.device, world: int, seed: int) -> dict[str, Any]:
    """What a run was made with, as far as numbers may depend on it; nothing that names the machine or its user."""
    return {
        "git": _git_state(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "cuda": torch.version.cuda,
        "packages": _packages(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "world": world,
        "seed": seed,
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
    }


def _git_state() -> dict[str, Any] | None:
    """The commit, and whether tracked files differ from it; None outside a checkout of this repository."""
    outside = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_")
    }  # a hook's name its own repository

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(
            command, env=outside, capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != ROOT:
            return None
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _packages() -> dict[str, str | None]:
    """The versions of what requirements.txt asks for; None: not installed."""
    file = ROOT / "requirements.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    names = [match[0] for line in lines if (match := re.match(r"[A-Za-z][\w.-]*", line.strip()))]
    return {name: _version(name) for name in names}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        names = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:  # not Linux
        names = []
    return names[0] if names else platform.processor() or platform.machine()
