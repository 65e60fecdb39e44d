"""What a run was made with, as far as numbers may depend on it; nothing that names the machine or its user."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
NOTE = "SIGNSTREAM_LAUNCHER_SAYS"  # what a script that starts the program has to say; it belongs into the run's log


def launcher_note() -> str | None:
    """In one line."""
    return " ".join(os.environ.get(NOTE, "").split()) or None


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
