"""What cannot be translated, averaged or opened, in a line each."""

import copy
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from clips import moving_clip
from recognition_runs import FRAMES, write_tokens
from recognition_runs import make_run as make_recogniser
from signstream.tokens.format import read_jsonl, write_line
from signstream.training import checkpoint
from translation_runs import Run, make_root, make_run, refused, said_by, type_in

for package in ("transformers", "tokenizers", "sacrebleu"):
    pytest.importorskip(package)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return make_run(tmp_path_factory.mktemp("made"), steps=1)


@pytest.fixture(scope="module")
def of_codes(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("codes")
    return make_run(folder, "data.source=codes", write_tokens(folder), steps=1)


def test_what_does_not_fit_is_one_line(run, of_codes, tmp_path):
    np.save(tmp_path / "clip.npy", moving_clip(FRAMES, 0))
    np.save(tmp_path / "flat.npy", np.zeros((4, 133)))
    tokens = of_codes.checkpoint.parents[3] / "val.jsonl"
    clip = ("--input", tmp_path / "clip.npy")
    for each, options, told in (
        (run, (), "what is to be translated?"),
        (run, (*clip, "--split", "val"), "--input is one clip"),
        (run, ("--split", "val", "--fps", "25"), "--fps is the frame rate of --input"),
        (run, (*clip, "--report", tmp_path / "x"), "--report holds scores"),
        (run, (*clip, "--controls"), "--controls are of a data set's split"),
        (run, ("--split", "gone"), "the split 'gone' has no clip"),
        (run, ("--split", "val", "--report", tmp_path), "--report .* is a folder"),
        (run, ("--split", "val", "--n_best", "4"), "--n_best is 4: 1 to 3, the beams"),
        (run, ("--split", "val", "--beams", "0"), "decode.beams"),
        (run, ("--split", "val", "--max_tokens", "many"), "decode.max_tokens"),
        (run, ("--split", "val", "--max_tokens", "2000"), "2000 units of a sentence: the text model has positions"),
        (run, ("--input", tmp_path / "flat.npy"), r"shape \[4, 133\]; \[T, 133, 3\]"),
        (run, ("--tokens", tokens), "the translator reads keypoints: give it poses"),
        (run, ("--split", "val", "model.encoder.width=64"), "model.encoder.width is 64 and the checkpoint's is 32"),
        (of_codes, clip, "the translator reads codes: give it what export_tokens wrote"),
        (of_codes, ("--input", "-"), "the translator reads codes"),
    ):
        line = refused(each.checkpoint, *options)
        assert re.search(told, line), line
    write_tokens(tmp_path, ("RH", "F"))
    told = "the tokens are of the parts RH, F, and the translator was trained on F, RH"
    assert told in refused(of_codes.checkpoint, "--tokens", tmp_path / "val.jsonl")


def test_a_clip_that_the_text_model_has_no_room_for(tmp_path, monkeypatch, capsys):
    run = make_run(tmp_path, "model.tiny.positions=48", "data.max_tokens=24", steps=1)
    np.save(tmp_path / "long.npy", moving_clip(60, 0))
    assert "too long: 60 steps, and the text model reads 48" in refused(
        run.checkpoint, "--input", tmp_path / "long.npy"
    )
    type_in(monkeypatch, moving_clip(60, 0))
    assert "standard input is too long" in refused(run.checkpoint, "--input", "-")
    short = ("model.tiny.positions=26", "data.max_tokens=24")
    codes = make_run(tmp_path, "data.source=codes", write_tokens(tmp_path), *short, steps=1)
    long, *others = read_jsonl(tmp_path / "val.jsonl")
    long = replace(long, num_frames=10 * FRAMES, codes=long.codes.repeat(10, 1, 1))
    (tmp_path / "val.jsonl").write_text("".join(map(write_line, [long, *others])), encoding="utf-8")
    capsys.readouterr()
    found = said_by(codes.checkpoint, "--tokens", tmp_path / "val.jsonl")
    assert [line["name"] for line in found] == [tokens.name for tokens in others]
    assert "1 cannot be read, the first: too long: 80 steps, and the text model reads 26" in capsys.readouterr().out


HOSTILE = {
    "no task": (lambda state: state.update(task=None), "nothing of a task"),
    "no text model": (lambda state: state["task"].update(text=None), "which text model it was trained with"),
    "another text model": (lambda state: state["task"].update(frozen="0" * 64), "are not those of the training"),
    "it reads something else": (lambda state: state["task"]["reads"].update(source="codes"), "what it reads"),
    "a weight that is none": (lambda state: state["model"]["adapter.weight"].fill_(torch.nan), "not finite"),
    "a weight too few": (lambda state: state["model"].pop("adapter.bias"), "adapter.bias"),
    "a huge encoder": (lambda state: state["config"]["model"]["encoder"].update(width=1 << 16), "far larger"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_checkpoint_that_is_no_translators_is_one_line(run, tmp_path, name):
    change, told = HOSTILE[name]
    state = checkpoint.load(run.checkpoint)
    change(state)
    checkpoint.save(state, tmp_path / "hostile.pt")
    assert told in refused(tmp_path / "hostile.pt", "--split", "val")


def test_a_checkpoint_of_another_task_is_one_line(tmp_path):
    recogniser = make_recogniser(tmp_path, steps=1)
    told = "the config is of task recognition: this needs one of task translation"
    assert told in refused(recogniser.checkpoint, "--split", "val")


def test_what_cannot_be_averaged_is_one_line(run, of_codes, tmp_path):
    state = checkpoint.load(run.checkpoint)
    make_root(tmp_path)
    words = make_run(tmp_path, "model.tiny.vocabulary=90", steps=1)
    all_points = make_run(tmp_path, "data.points=133", steps=1)
    broken = copy.deepcopy(state)
    broken["model"]["adapter.bias"][0] = torch.nan
    checkpoint.save(broken, tmp_path / "nan.pt")
    for path, told in (
        (words.checkpoint, "checkpoint 2 of 2 cannot be averaged with the first: its text model has other tokens"),
        (of_codes.checkpoint, "data.source is codes and the checkpoint's is keypoints"),
        (all_points.checkpoint, "data.points is 133 and the checkpoint's is 75"),
        (tmp_path / "nan.pt", "checkpoint 2 of 2: the checkpoint's weights are not finite"),
    ):
        assert told in refused([run.checkpoint, path], "--split", "val")
