"""The door of the live page: what it prints, how it ends, and what it refuses in a line."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from live_shows import Follows
from sentences import said_in_one_line
from signstream.inference import live
from signstream.inference.live_page import command
from signstream.inference.live_page.session import Readers

ROOT = Path(__file__).parents[1]
NOBODY = ("--checkpoint", "none", "--lm", "none")


def test_it_prints_its_address_serves_and_ends_with_ctrl_c(tmp_path):
    command = [sys.executable, "-m", "signstream.inference.live", "--demo", "--no-browser", *NOBODY]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes)
    try:
        lines = [process.stdout.readline() for _ in range(4)]
        address = re.search(r"http://127\.0\.0\.1:\d+/[\w-]+/", lines[-1])[0]
        assert [line.split(":")[0] for line in lines[:3]] == ["no tokens", "no glosses", "no text"]
        with urllib.request.urlopen(address, timeout=10) as page:
            assert b"SignStream" in page.read() and "frame-ancestors" in page.headers["Content-Security-Policy"]
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20) == ("ended\n", "") and process.returncode == 0
    finally:
        process.kill()
        process.communicate()
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_is_a_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()

    def door(*options):
        return lambda: live.main(["--no-browser", *options])

    said_in_one_line(door("--demo", "--video", "clip.mp4"), "two signers: choose one")
    said_in_one_line(door("--demo", "--lm", "run"), "name their tokenizer with --checkpoint")
    said_in_one_line(door("--demo", "--record", "full"), "holds something else")
    said_in_one_line(door("--demo", "--port", "99999"), "--port 99999")
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    said_in_one_line(door(), "needs the package mediapipe")


def test_before_a_person_the_quickstarts_words_mean_nothing(monkeypatch, capsys):
    """Which it says, on the page as well."""
    said = []
    monkeypatch.setattr(command, "open_estimator", Follows)
    monkeypatch.setattr(command, "open_readers", lambda *_, **__: Readers())
    monkeypatch.setattr(command, "serve", lambda _, names, **__: said.append(names.note))
    for who in ([], ["--demo"], ["--lm", "mine"]):
        live.main(["--checkpoint", "run", "--lm", command.USUAL_TEXT, *who])
    assert said == [command.FOREIGN, "", ""] and "mean nothing" in command.FOREIGN


def test_a_video_that_is_none_is_a_line(tmp_path, monkeypatch):
    pytest.importorskip("av")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "open_estimator", Follows)
    (tmp_path / "letter.mp4").write_text("dear")
    said_in_one_line(lambda: live.main(["--no-browser", "--video", "letter.mp4"]), "letter.mp4: ")
