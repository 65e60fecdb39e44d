"""What a killed maker of a folder left is removed by the next one, and nothing that somebody is making."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import ROOT
from signstream.io.whole import whole_folder

MAKE = """
import os, sys, time
from pathlib import Path
from signstream.io.whole import whole_folder
with whole_folder(Path(sys.argv[1])) as part:
    (part / "begun").touch()
    child = os.fork() if "fork" in sys.argv else 1
    if child == 0 or "fork" not in sys.argv:
        print("ready", flush=True)
        time.sleep(60)
    os.waitpid(child, 0)
"""


@pytest.fixture
def make():
    """Starts a process that makes a folder, and is given back once it is at it."""
    running = []

    def start(out: Path, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-c", MAKE, str(out), *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
        running.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def kill(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def make_here(out: Path) -> None:
    with whole_folder(out) as part:
        (part / "made").touch()


def test_what_a_killed_maker_left_goes_and_who_is_at_it_is_left_alone(tmp_path, make):
    kill(make(tmp_path / "out"))
    (left,) = hidden(tmp_path)
    busy = make(tmp_path / "out")
    (begun,) = hidden(tmp_path)
    assert begun != left, "the second one swept what the first one left"
    make_here(tmp_path / "other")
    make_here(tmp_path / "out")
    assert hidden(tmp_path) == [begun] and (tmp_path / begun / "begun").exists()
    kill(busy)
    (tmp_path / "out" / "made").unlink()
    make_here(tmp_path / "out")
    assert hidden(tmp_path) == [] and (tmp_path / "out" / "made").exists()


def test_a_process_that_the_maker_started_counts_as_the_maker(tmp_path, make):
    process = make(tmp_path / "out", "fork")
    (begun,) = hidden(tmp_path)
    kill(process)
    make_here(tmp_path / "out")
    assert hidden(tmp_path) == [begun]
    os.killpg(process.pid, signal.SIGKILL)
    until = time.monotonic() + 20
    while hidden(tmp_path) and time.monotonic() < until:
        (tmp_path / "out" / "made").unlink()
        make_here(tmp_path / "out")
    assert hidden(tmp_path) == []


def test_what_looks_alike_is_not_touched(tmp_path):
    names = [".out.abcd1234.partial.txt", ".out.notes.partial", ".output.abcd1234.partial", ".out.x.abcd1234.partial"]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / ".out.abcd1234.partial").write_text("a file")
    (tmp_path / ".out.abcd5678.partial").symlink_to(tmp_path / ".out.notes.partial")
    make_here(tmp_path / "out")
    assert hidden(tmp_path) == sorted([*names, ".out.abcd1234.partial", ".out.abcd5678.partial"])


def test_a_disk_without_locks_keeps_everything(tmp_path, monkeypatch):
    (tmp_path / ".out.abcd1234.partial").mkdir()

    def refuse(*_: object) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr("fcntl.flock", refuse)
    make_here(tmp_path / "out")
    assert hidden(tmp_path) == [".out.abcd1234.partial"] and (tmp_path / "out" / "made").exists()


def test_a_killed_data_set_is_swept_by_the_next(tmp_path):
    command = [sys.executable, "-m", "signstream.data.synthetic", "--out", str(tmp_path / "data")]
    options = ["--seed", "0", "--signers", "3", "--glosses", "30", "--workers", "2"]
    process = subprocess.Popen([*command, "--clips", "600", *options], cwd=ROOT, stderr=subprocess.DEVNULL)
    while not any(tmp_path.glob(".data.*/frames_512x512/*.npy")):
        assert process.poll() is None
        time.sleep(0.02)
    kill(process)
    assert len(hidden(tmp_path)) == 1
    time.sleep(1)  # its workers see that it is gone
    subprocess.run([*command, "--clips", "8", *options], cwd=ROOT, capture_output=True, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
