"""Weights & Biases as a second journal, offline and with the real package: the names and steps of the other files."""

import io
import json
import struct
import sys
from pathlib import Path

import pytest
import torch

from data_sets import signer_root
from helpers import assert_same, tiny_options
from signstream.config import load_config
from signstream.training.run_folder import RunFolder
from signstream.training.seed import generator_states
from signstream.training.train_rvq import main
from signstream.training.utils_tb import Journal, open_journals
from signstream.training.utils_wandb import WandbJournal, check_wandb
from test_utils_tb import scalars

WANDB = load_config(None, ["train.log_wandb=my project"])


@pytest.fixture
def offline(monkeypatch):
    """No call leaves this machine."""
    pytest.importorskip("wandb", reason="wandb is not installed (requirements-extra.txt)")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr("signal.signal", lambda *_: None)


def records(folder: Path) -> list:
    """What wandb wrote in a run's sessions, in their order: a header, then blocks of 32 KiB with pieces (checksum,
    length, kind) of messages. A run's last block is written by wandb's own process, for whose end we wait: `finish`
    returns before, the end of a training does not."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()
    messages = []
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        data, position, message = path.read_bytes(), 7, b""
        assert data[:4] == b":W&B"
        while position < len(data):
            left = 32768 - position % 32768
            if left < 7:
                position += left
                continue
            _, length, kind = struct.unpack_from("<IHB", data, position)
            message += data[position + 7 : position + 7 + length]
            position += 7 + length
            if kind in (1, 4):  # a whole message, or the last piece of one
                messages.append(Record.FromString(message))
                message = b""
    return messages


def history(folder: Path) -> list[dict]:
    """The lines that were logged."""
    lines = []
    for record in records(folder):
        if record.WhichOneof("record_type") == "history":
            line = {}
            for item in record.history.item:
                name, *inner = item.nested_key or [item.key]
                value = json.loads(item.value_json)
                line[name] = {**line.get(name, {}), inner[0]: value} if inner else value
            lines.append({name: value for name, value in line.items() if not name.startswith("_")})
    return lines


def runs(folder: Path) -> list:
    return [record.run for record in records(folder) if record.WhichOneof("record_type") == "run"]


def test_numbers_pictures_and_texts_come_with_the_names_and_steps_of_the_other_files(offline, tmp_path):
    from PIL import Image

    folder, before = RunFolder(tmp_path), generator_states()
    gif = io.BytesIO()
    Image.new("RGB", (8, 6)).save(gif, "GIF", save_all=True, append_images=[Image.new("RGB", (8, 6), "red")])
    for journal in open_journals(folder, WANDB):
        journal.numbers(3, "train", {"loss": 0.5, "rec/face": torch.tensor(2.0), "bad": float("nan")}, epoch=1)
        journal.numbers(3, "val", {"loss": 0.25}, epoch=1)
        journal.speed(3, {"ms": 7.0})
        journal.histogram(3, "use/face/0", torch.tensor([1.0, 2.0, float("nan")]))
        journal.histogram(3, "nothing", torch.tensor([float("nan")]))
        journal.text(3, "tokens", "<T0><F:c12>")
        journal.image(3, "reconstruction", torch.zeros(3, 4, 6, dtype=torch.uint8))
        journal.animation(3, "moving", gif.getvalue())
        journal.sync()
        journal.close()
    assert_same(generator_states(), before)  # nothing that training draws from is touched
    merged = {name: value for line in history(tmp_path) for name, value in line.items()}
    assert all(line["step"] == 3 for line in history(tmp_path))
    assert (merged["train/loss"], merged["train/rec/face"], merged["val/loss"], merged["speed/ms"]) == (
        0.5,
        2.0,
        0.25,
        7.0,
    )
    assert merged["use/face/0"]["_type"] == "histogram" and sum(merged["use/face/0"]["values"]) == 2
    assert merged["reconstruction"]["_type"] == "image-file"
    assert (merged["reconstruction"]["width"], merged["reconstruction"]["height"]) == (6, 4)
    assert (merged["moving"]["_type"], merged["tokens"]["_type"]) == ("video-file", "html-file")
    (page,) = tmp_path.glob("wandb/offline-run-*/files/media/html/tokens*.html")
    assert "&lt;T0&gt;&lt;F:c12&gt;" in page.read_text(encoding="utf-8")
    assert "nothing" not in merged
    run = runs(tmp_path)[0]
    assert (run.project, run.run_id) == ("my project", (tmp_path / "wandb_id").read_text())
    assert json.loads(next(item.value_json for item in run.config.update if item.key == "model"))["latent_dim"] == 256
    assert scalars(folder, "train/loss") == {3: 0.5}, "and the files and TensorBoard have theirs"
    assert json.loads(folder.metrics.read_text().splitlines()[1])["loss"] == 0.25


def test_a_run_that_is_trained_and_resumed_is_one_run_with_the_numbers_of_metrics_jsonl(offline, tmp_path):
    root = signer_root(tmp_path, 24, frames=60)
    more = ("train.log_every=1", "train.epochs=2", "train.health_every=1", "train.sample_clips=1")
    options = tiny_options(root, "model.arch=mlp", *more)
    assert main(["--wandb-project", "signs 2", *options]) == 0
    (folder,) = (root.parent / "runs" / "default").iterdir()
    first = len(runs(folder))
    assert main(["--checkpoint", str(folder), "train.epochs=3"]) == 0  # the checkpoint remembers the project
    found = runs(folder)
    assert len(found) > first and {run.run_id for run in found} == {(folder / "wandb_id").read_text()}
    assert {run.project for run in found} == {"signs 2"}
    written = {
        (line["split"], line["step"]): line
        for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    }
    logged = {
        (name.split("/")[0], line["step"]): line
        for line in history(folder)
        for name in line
        if name.split("/")[0] in ("train", "val")
    }
    assert logged.keys() == written.keys()
    for (split, step), line in written.items():
        theirs = logged[split, step]
        assert theirs == pytest.approx(
            {f"{split}/{k}": v for k, v in line.items() if k not in ("step", "epoch", "split")}
            | {"step": step, "epoch": line["epoch"]},
            nan_ok=True,
        )
    names = {name for line in history(folder) for name in line}
    assert {"reconstruction", "reconstruction_animation", "tokens", "speed/ms"} <= names
    assert any(name.startswith("use/") for name in names)


def test_each_journal_has_what_the_other_has():
    methods = {name for name in vars(Journal) if not name.startswith("_")}
    assert methods == {name for name in vars(WandbJournal) if not name.startswith("_")}


def test_without_it_nothing_is_imported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    check_wandb(load_config())
    (journal,) = open_journals(RunFolder(tmp_path), load_config())
    assert isinstance(journal, Journal)
    journal.close()
