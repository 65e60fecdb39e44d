"""Configs, overrides and reports that were made to do harm: each is one short line, quickly and in little memory."""

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from signstream import cli
from signstream.config import from_dict, load_config
from signstream.config.files import DEEPEST, LONGEST, MOST_FILES
from signstream.errors import MOST_SAID, MOST_SHOWN, UserError, one_line, shown
from signstream.inference.report import files as report_files

ROOT = Path(__file__).parents[1]
LEVELS = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
BOMB = f"a0: &a0 [x, x, x, x, x, x, x, x, x]\n{LEVELS}"  # 9^10 values in 600 bytes
SHOWN = "data:\n" + re.sub(r"a\d: &", "- &", BOMB)  # where an error quotes it
TABLES = BOMB.replace("[x, x", "{k: x, l: [x, x").replace("x]\n", "x]}\n", 1)
# NUL, a line break, an escape of a terminal, marks that turn the direction of what follows.
ODD = ["\0", "\n", "\x1b[31m", "\u202e", "\u202a", "\u2066", "\u2069", "\u2028", "\x85"]


def refused(load, *, under: int = 400) -> str:
    with pytest.raises(UserError) as caught:
        load()
    line = str(caught.value)
    assert len(line) <= under and line.isprintable(), line
    return line


def bounded(code: str, *arguments: str) -> subprocess.CompletedProcess:
    """A program of its own with 1 GB of memory and 20 seconds."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, preexec_fn=limit, capture_output=True, text=True, timeout=20)


# -- what an error quotes


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, list(range(10**5)), {i: [i] * 100 for i in range(1000)}, 1 << 100_000, b"x" * 10**6, "\u202e\n\0"],
    ids=["text", "list", "table", "number", "bytes", "odd"],
)
def test_what_an_error_quotes_is_short_and_on_one_line(value):
    assert len(shown(value)) <= MOST_SHOWN and shown(value).isprintable()


def test_what_repeats_itself_is_shown_at_once():
    inner: list = [0] * 9
    for _ in range(60):
        inner = [inner] * 9
    assert len(shown(inner)) <= MOST_SHOWN


@pytest.mark.parametrize("odd", ODD)
def test_an_error_cannot_leave_its_line_or_turn_it_round(odd):
    error = UserError(f"a{odd}b" + "x" * 10**5)
    assert str(error).isprintable() and len(str(error)) <= MOST_SAID
    assert one_line("一个 name, naïve — “quoted”") == "一个 name, naïve — “quoted”"


@pytest.mark.parametrize("debug", [False, True])
def test_a_mistake_is_a_line_and_a_fault_keeps_its_traceback(debug, monkeypatch, capsys):
    monkeypatch.delenv("SIGNSTREAM_DEBUG", raising=False)
    if debug:
        monkeypatch.setenv("SIGNSTREAM_DEBUG", "1")

    def ended(fault: Exception) -> BaseException:
        def main() -> None:
            raise fault

        with pytest.raises(type(fault) if debug or not isinstance(fault, UserError) else SystemExit) as caught:
            cli.run(main)
        return caught.value

    end = ended(UserError("data.fps is 0"))
    assert debug or (end.code == 2 and capsys.readouterr().err == "error: data.fps is 0\n")
    assert ended(fault := KeyError("fps")) is fault and capsys.readouterr().err == ""


# -- configs


@pytest.mark.parametrize("text", ["!!int ''", "!!float ''", "!!bool maybe", "!!timestamp foo", "!!binary x", "!!set 5"])
def test_a_tag_that_its_text_does_not_bear_out_is_one_line(text, tmp_path):
    (tmp_path / "config.yaml").write_text(f"train:\n  lr: {text}\n")
    assert "config.yaml" in refused(lambda: load_config(tmp_path / "config.yaml"))
    refused(lambda: load_config(None, [f"train.lr={text}"]))


@pytest.mark.parametrize("text", [BOMB, SHOWN, TABLES, "experiment_name: &a [*a]", "data: &a {root: *a}"], ids=range(5))
def test_aliases_are_counted_as_often_as_they_repeat(text, tmp_path):
    assert len(text) < 1000
    (tmp_path / "config.yaml").write_text(text)
    code = "import sys; from signstream import cli, config; cli.run(lambda: print(config.describe(sys.argv[1], [])))"
    done = bounded(code, str(tmp_path / "config.yaml"))
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and len(done.stderr) < 400, done.stderr[-2000:]
    assert "values, its aliases written out" in done.stderr or "is nested deeper than" in done.stderr


def test_aliases_that_repeat_little_are_read(tmp_path):
    (tmp_path / "config.yaml").write_text("train: {epochs: &n 7, save_every: *n}\n")
    assert load_config(tmp_path / "config.yaml").train.save_every == 7


@pytest.mark.parametrize(
    ("opened", "closed"), [("[", "]"), ("{a: ", "}"), ("[", ""), ("- ", ""), ("? ", ""), ("!!set {? ", "}")]
)
@pytest.mark.parametrize("depth", [DEEPEST + 2, 20_000])
def test_what_is_nested_too_deep_is_one_line(opened, closed, depth, tmp_path):
    text = f"{opened * depth}x{closed * depth}"
    (tmp_path / "config.yaml").write_text(f"data:\n  {text}")
    for load in (lambda: load_config(tmp_path / "config.yaml"), lambda: load_config(None, [f"data.root={text}"])):
        refused(load)


def test_an_override_of_many_names_is_one_line():
    assert "nested deeper" in refused(lambda: load_config(None, [f"{'a.' * 20_000}a=1"]))
    assert "unknown key" in refused(lambda: load_config(None, [f"{'a' * 100_000}=1"]))
    assert "is no override" in refused(lambda: load_config(None, ["a" * 100_000]))


def test_plain_values_of_a_checkpoint_are_bounded_too():
    endless: dict = {}
    endless["data"] = endless
    assert "nested deeper" in refused(lambda: from_dict(endless))
    assert "a table of keys" in refused(lambda: from_dict([1]))


@pytest.mark.parametrize(
    "text",
    ["num_epochs", "sequence_length", "keypoint_dim", "use_amp", "data", "train.lr", "experiment_name", "imports"],
)
@pytest.mark.parametrize(
    "value", ["0x" + "f" * 5000, "x" * 5000, "[" + "1, " * 5000 + "]"], ids=["number", "text", "list"]
)
def test_a_value_is_quoted_in_short_wherever_it_is_refused(text, value):
    if (text, value[0]) != ("experiment_name", "x"):
        refused(lambda: load_config(None, [f"{text}={value}"]), under=600)


def test_a_file_and_its_bases_are_bounded(tmp_path):
    large = tmp_path / "large.yaml"
    large.write_text("# " + "x" * LONGEST)
    assert f"a config has {LONGEST} at most" in refused(lambda: load_config(large))
    large.write_text("# " + "x" * (4 * LONGEST))
    assert "larger than 1 MB" in refused(lambda: load_config(large))
    for i in range(MOST_FILES + 2):
        (tmp_path / f"{i}.yaml").write_text(f"base: {i + 1}.yaml")
    assert "its `base:` is the 20th on the way" in refused(lambda: load_config(tmp_path / "0.yaml"))


def test_a_pipe_or_a_device_is_no_config(tmp_path):
    pipe, beside = tmp_path / "pipe.yaml", tmp_path / "beside.yaml"
    os.mkfifo(pipe)
    for path, what in ((pipe, "a pipe"), (Path("/dev/zero"), "a device")):
        beside.write_text(f"base: {path}")
        for config in (path, beside):
            code = "import sys; from signstream import cli, config; cli.run(lambda: config.load_config(sys.argv[1]))"
            done = bounded(code, str(config))
            assert done.stderr == f"error: cannot read the config {path}: not a file, but {what}\n"


# -- names and paths


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("key", ["experiment_name", "save_path", "data.root", "data.cache", "train.log_wandb"])
def test_a_text_holds_no_character_that_leaves_its_line(key, odd, tmp_path):
    section, _, last = key.rpartition(".")
    tree = {section: {last: f"a{odd}b"}} if section else {last: f"a{odd}b"}
    (tmp_path / "config.yaml").write_text(json.dumps(tree))
    line = refused(lambda: load_config(tmp_path / "config.yaml"))
    assert line.startswith(f"{key} is 'a") and f"without the character {ascii(odd[0])[1:-1]} is expected" in line


@pytest.mark.parametrize("base", ["a\0b", "a\nb", "\ud800"])
def test_a_path_that_no_file_has_is_one_line(base, tmp_path):
    (tmp_path / "config.yaml").write_text(json.dumps({"base": base}))
    refused(lambda: load_config(tmp_path / "config.yaml"))
    refused(lambda: load_config(base))


@pytest.mark.parametrize(
    ("door", "arguments"),
    [
        ("signstream.inference.export_tokens", ["--checkpoint", "x", "--out", "a\0b"]),
        ("signstream.inference.evaluate", ["--checkpoint", "a\0b"]),
        ("signstream.training.train_rvq", ["--config", "a\0b"]),
        ("signstream.config.__main__", ["a\0b"]),
        ("signstream.data.synthetic.__main__", ["--out", "a\0b"]),
    ],
)
def test_no_argument_holds_nul(door, arguments):
    main = __import__(door, fromlist=["main"]).main
    assert "holds NUL" in refused(lambda: main(arguments))


# -- reports


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "[" * 500 + "]" * 500, '{"format": 1, "run": ' + "[" * 60 + "]" * 60 + "}"],
    ids=["lists", "tables", "whole lists", "lists in a table"],
)
def test_a_report_that_is_nested_too_deep_is_one_line(text, tmp_path):
    (tmp_path / "report.json").write_text(text)
    assert str(tmp_path / "report.json") in refused(lambda: report_files.find_report(str(tmp_path)))


def test_a_report_that_is_a_pipe_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "report.json")
    assert "not a file, but a pipe" in refused(lambda: report_files.find_report(str(tmp_path)))
