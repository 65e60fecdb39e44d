"""Glosses out of a recogniser: the same of a split, a clip, tokens and a stream; with frames that lie in the clip; in
files that are whole or not there."""

import io
import json
import random
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import signstream
from clips import moving_clip
from recognition_runs import ERRORS, FRAMES, LINES, VAL_WORDS, WRONG, Run, make_run, write_tokens
from signstream.config.recognition import Decode
from signstream.data.datasets import open_data
from signstream.errors import UserError
from signstream.glosses import RULES, clean
from signstream.inference import export_tokens, recognize
from signstream.inference.live_page.session import Session, open_readers
from signstream.inference.recognition.live import LivePath
from signstream.inference.recognition.recogniser import Recogniser
from signstream.inference.recognition.spans import Cleaning, Signed
from signstream.inference.timing import Timing
from signstream.io.transcripts import read_ctm, read_stm
from signstream.models.ctc_beam import greedy
from signstream.tokens.format import read_jsonl

GREEDY = "decode.beam=1"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A causal one, of keypoints."""
    return make_run(tmp_path_factory.mktemp("made"), "model.causal=true")


@pytest.fixture(scope="module")
def of_codes(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("codes")
    return make_run(folder, "data.source=codes", write_tokens(folder))


def recognise(run: Run, *options) -> list[dict]:
    """The lines that it wrote."""
    out = run.checkpoint.parent / "out.jsonl"
    recognize.main(["--checkpoint", str(run.checkpoint), "--out", str(out), *map(str, options)])
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    out.unlink()
    return lines


def type_in(monkeypatch, poses: np.ndarray) -> None:
    text = "".join(f"{json.dumps(frame)}\n" for frame in poses.tolist())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))


def refused(run: Run, *options) -> str:
    with pytest.raises(UserError) as caught:
        recognise(run, *options)
    line = str(caught.value)
    assert line.isprintable() and len(line) < 400
    assert not (run.checkpoint.parent / "out.jsonl").exists()
    return line


def same(one: dict, other: dict) -> None:
    """But for their names and their references, and to rounding."""
    assert one["glosses"] == other["glosses"] and len(one["glosses"]) > 0
    assert (one["fps"], one["num_frames"]) == (other["fps"], other["num_frames"])
    assert one["score"] == pytest.approx(other["score"], abs=1e-3)
    for sign, twin in zip(one["signs"], other["signs"]):
        assert sign == {**twin, "confidence": pytest.approx(twin["confidence"], abs=2e-4)}


# -- the same from wherever it comes


def test_a_split_is_recognised_and_its_errors_are_counted(run, capsys):
    lines = {line["name"]: line for line in recognise(run, "--split", "val")}
    assert list(lines) == [*LINES, *WRONG]
    for i, (name, line) in enumerate(lines.items()):
        assert line["reference"] == list((LINES | WRONG)[name])
        assert line["glosses"] == list(LINES[name if i < 8 else f"clip{i - 8}"])
        assert [sign["gloss"] for sign in line["signs"]] == line["glosses"]
        assert (line["fps"], line["num_frames"]) == (30, FRAMES) and line["score"] < 0
    said = capsys.readouterr().out
    rate = 100 * sum(ERRORS) / VAL_WORDS
    assert f"11 clips, 33 glosses; WER {rate:.1f} % (1 substituted, 1 deleted, 1 inserted of {VAL_WORDS} words)" in said
    assert run.numbers["wer"] == pytest.approx(rate)


def test_the_live_page_says_what_the_clip_has(run):
    readers = open_readers(None, str(run.checkpoint), None, device="cpu")
    clip = open_data(readers.recogniser.config.data).load("val", next(iter(LINES)))
    session = Session(readers)
    news = [each for i, frame in enumerate(clip.poses) for each in session.see(i / 30, frame)] + session.end()
    said = [sign.gloss for each in news for sign in each.glosses]
    assert tuple(said) == readers.recogniser.recognise(clip.poses).glosses and len(said) > 0


def test_a_clip_and_a_stream_are_what_the_split_is(run, tmp_path, monkeypatch, capsys):
    of_split = next(line for line in recognise(run, "--split", "val", GREEDY) if line["name"] == "clip3")
    poses = moving_clip(FRAMES, 3)
    np.save(tmp_path / "clip3.npy", poses.astype(np.float32))
    (of_clip,) = recognise(run, "--input", tmp_path / "clip3.npy", GREEDY)
    assert of_clip["name"] == "clip3" and "reference" not in of_clip
    same(of_clip, of_split)
    found = run.recogniser.recognise(poses)
    assert list(found.glosses) == of_clip["glosses"]
    type_in(monkeypatch, poses)
    capsys.readouterr()
    (streamed,) = recognise(run, "--input", "-")
    same(streamed, of_split)
    header, *rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()[:-1]]
    assert header == {"fps": 30.0, "recogniser": run.recogniser.digest, "glosses": 5}
    assert [{key: row[key] for key in of_clip["signs"][0]} for row in rows] == streamed["signs"]
    assert all(row["ms"] > 0 and 0 <= row["behind_frames"] < FRAMES for row in rows)


def test_a_gloss_is_said_once_as_soon_as_it_is_final_and_in_pieces_of_any_size(run):
    """In 24 frames more than its own: 6 of lookahead, and steps of 8 until one that is something else is complete."""
    poses = np.concatenate([moving_clip(FRAMES, i) for i in range(4)])
    recogniser = signstream.recogniser(run.checkpoint, device="cpu")
    whole, said = recogniser.stream(), {}
    for number, frame in enumerate(poses):
        for sign in whole.push(frame):
            assert number - sign.last <= 24
            said[number, sign.first] = sign
    said[len(poses), -1] = whole.finish()
    signs = [*list(said.values())[:-1], *said[len(poses), -1]]
    assert [sign.first for sign in signs] == sorted(sign.first for sign in signs) and len(signs) > 6
    rng = random.Random(0)
    pieces, start, others = recogniser.stream(), 0, []
    while start < len(poses):
        stop = start + rng.randint(0, 30)
        others += pieces.push(poses[start:stop])
        start = stop
    others += pieces.finish()
    assert [sign[:3] for sign in others] == [sign[:3] for sign in signs]
    recogniser.decode = Decode(beam=1)
    found = recogniser.recognise(poses)
    assert [sign[:3] for sign in found.signs] == [sign[:3] for sign in signs]
    assert found.score == pytest.approx(whole.score, abs=1e-2)


@pytest.mark.parametrize("frames", [0, 1, 2, 17])
@pytest.mark.parametrize("fps", [None, 20])
def test_a_short_clip_of_another_rate_and_one_that_shows_nothing(run, frames, fps):
    recogniser = signstream.recogniser(run.checkpoint, device="cpu")
    recogniser.decode = Decode(beam=1)
    for poses in (moving_clip(max(frames, 1), 5)[:frames], np.zeros((frames, 133, 3))):
        found, stream = recogniser.recognise(poses, fps), recogniser.stream(fps)
        signs = [*(sign for frame in poses for sign in stream.push(frame)), *stream.finish()]
        assert [sign[:3] for sign in signs] == [sign[:3] for sign in found.signs]
        assert stream.frames == found.frames == round(frames * 30 / (fps or 30)) and found.fps == 30
        assert all(0 <= sign.first <= sign.last < found.frames for sign in signs)


def test_memory_of_a_stream_does_not_grow(run):
    stream, sizes = run.recogniser.stream(), []
    for i in range(20):
        stream.push(moving_clip(FRAMES, i % 8))
        sizes.append(sum(tensor.numel() for tensor in tensors(stream.memory)) + len(stream.front.buffer))
    assert len(set(sizes[5:])) == 1


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [one for item in value for one in tensors(item)] if isinstance(value, (list, tuple)) else []


def test_tokens_are_recognised_as_the_split_that_they_are_of(of_codes, tmp_path, capsys):
    root = of_codes.checkpoint.parents[3]
    of_split = recognise(of_codes, "--split", "val")
    assert [tuple(line["glosses"]) for line in of_split[:8]] == list(LINES.values())
    assert of_codes.numbers["wer"] == pytest.approx(100 * sum(ERRORS) / VAL_WORDS)
    capsys.readouterr()
    alone = recognise(of_codes, "--tokens", root / "val.jsonl")
    assert "WER" not in capsys.readouterr().out
    labelled = recognise(of_codes, "--tokens", root / "val.jsonl", "--split", "val")
    assert labelled == of_split and "WER" in capsys.readouterr().out
    assert alone == [{key: value for key, value in line.items() if key != "reference"} for line in of_split]
    tokens = list(read_jsonl(root / "val.jsonl"))[5]
    assert of_codes.recogniser.recognise_tokens(tokens).glosses == tuple(of_split[5]["glosses"])


def test_tokens_that_training_alone_reads_may_be_gone(tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    write_tokens(more)
    run = make_run(tmp_path, "data.source=codes", write_tokens(tmp_path), f"data.more_tokens=[{more}/train.jsonl]")
    shutil.rmtree(more)
    assert recognise(run, "--split", "val")


def test_latents_are_recognised_as_the_split_that_they_are_of(tmp_path):
    run = make_run(tmp_path, "data.source=latents", write_tokens(tmp_path))
    of_split = recognise(run, "--split", "val")
    assert sum(map(len, (line["glosses"] for line in of_split))) > 20
    assert recognise(run, "--tokens", tmp_path / "val.jsonl", "--split", "val") == of_split


# -- frames


def test_the_frames_of_a_step():
    keypoints, tokens, slow = Timing(30, 4), Timing(30, 10, 3), Timing(25, 2)
    assert keypoints.span((0, 0), 40) == (0, 3) and keypoints.span((2, 3), 40) == (8, 15)
    assert keypoints.span((9, 9), 38) == (36, 37) and keypoints.span((9, 9), 30) == (29, 29)
    assert [tokens.span((step, step), 40) for step in range(4)] == [(0, 3), (3, 6), (6, 9), (10, 13)]
    assert slow.span((0, 5), 11) == (0, 10)


def test_ctm_and_stm_hold_what_the_lines_hold(run, of_codes, tmp_path):
    for each in (run, of_codes):
        lines = recognise(each, "--split", "val", "--ctm", tmp_path / "out.ctm", "--stm", tmp_path / "ref.stm")
        ctm, stm = read_ctm(tmp_path / "out.ctm"), {segment.name: segment for segment in read_stm(tmp_path / "ref.stm")}
        assert ctm.keys() == stm.keys() == {line["name"] for line in lines}
        for line in lines:
            words, seconds = ctm[line["name"]], line["num_frames"] / line["fps"]
            assert [word.word for word in words] == line["glosses"]
            assert list(stm[line["name"]].words) == line["reference"]
            for sign, word in zip(line["signs"], words):
                assert 0 <= sign["first"] <= sign["last"] < line["num_frames"] and 0 < sign["confidence"] <= 1
                assert word.start == pytest.approx(sign["first"] / 30, abs=1e-3)
                assert word.start + word.duration == pytest.approx((sign["last"] + 1) / 30, abs=2e-3)
                assert word.start >= 0 and word.start + word.duration <= seconds + 2e-3
            firsts = [sign["first"] for sign in line["signs"]]
            assert firsts == sorted(firsts)
    assert stm["clip0"].signer == "Anna"


@pytest.mark.skipif(shutil.which("sctk") is None, reason="no sclite here")
def test_sclite_counts_the_same_errors(run, tmp_path):
    recognise(run, "--split", "val", "--ctm", tmp_path / "out.ctm", "--stm", tmp_path / "ref.stm")
    command = ["sctk", "sclite", "-r", "ref.stm", "stm", "-h", "out.ctm", "ctm", "-o", "rsum", "stdout", "-f", "0"]
    said = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=30).stdout
    total = next(line for line in said.splitlines() if line.startswith(" | Sum "))
    words = total.replace("|", " ").split()
    assert words[1:3] == ["11", str(VAL_WORDS)] and words[4:7] == ["1", "1", "1"]


# -- what is cleaned and decoded as it comes


@pytest.mark.parametrize("rules", RULES)
def test_glosses_cleaned_one_by_one_are_the_line_cleaned(rules):
    stock = ["A", "B", "SCH", "C+M", "WIE", "AUSSEHEN", "REGEN", "REGEN", "loc-NORD", "REGEN-PLUSPLUS", "__PU__", "cl-"]
    stock += ["__ON__", "__EMOTION__", "S0NNE", "neg-X", "ZIMMERRAUM", "WIE-AUSSEHEN", "loc-", "D2"]
    for seed in range(400):
        rng = random.Random(seed)
        words = [rng.choice(stock) for _ in range(rng.randint(0, 9))]
        signs = Cleaning(rules).all(Signed(word, 10 * i, 10 * i + 4, 0.5) for i, word in enumerate(words))
        assert [sign.gloss for sign in signs] == clean(words, rules), words
        assert all(a.last < b.first for a, b in zip(signs, signs[1:]))
    joined = Cleaning("phoenix2014").all(
        [Signed("A", 0, 3, 0.4), Signed("B", 8, 19, 0.8), Signed("REGEN", 30, 31, 1.0)]
    )
    assert joined == (Signed("A+B", 0, 19, pytest.approx(0.7)), Signed("REGEN", 30, 31, 1.0))


def test_a_path_that_comes_in_pieces_is_the_greedy_one():
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        log_probs = (2 * torch.randn(1, 40, 5, generator=generator)).log_softmax(-1)
        path, heard, start = LivePath(), [], 0
        while start < 40:
            stop = start + int(torch.randint(6, (), generator=generator))
            heard += path.push(log_probs[0, start:stop])
            start = stop
        heard += path.finish()
        (whole,) = greedy(log_probs, torch.tensor([40]))
        assert tuple(one.id for one in heard) == whole.ids and tuple(one.steps for one in heard) == whole.steps
        assert [one.confidence for one in heard] == pytest.approx(whole.confidence)
        assert path.score == pytest.approx(whole.score, abs=1e-4)


# -- what cannot be


def test_what_does_not_fit_is_one_line(run, of_codes, tmp_path):
    np.save(tmp_path / "clip.npy", moving_clip(FRAMES, 0))
    np.save(tmp_path / "flat.npy", np.zeros((4, 133)))
    np.save(tmp_path / "empty.npy", np.zeros((0, 133, 3)))
    (tmp_path / "text.npy").write_text("hello")
    tokens = of_codes.checkpoint.parents[3]
    write_tokens(tmp_path, tokenizer="two")
    clip = ("--input", tmp_path / "clip.npy")
    for each, options, told in (
        (run, (), "what is to be recognised?"),
        (run, (*clip, "--split", "val"), "--input is one clip"),
        (run, ("--split", "val", "--fps", "25"), "--fps is the frame rate of --input"),
        (run, (*clip, "--fps", "0"), "--fps is 0"),
        (run, (*clip, "--stm", tmp_path / "x.stm"), "--stm holds references"),
        (run, ("--split", "gone"), "the split 'gone' has no clip"),
        (run, ("--split", "val", "--ctm", tmp_path), "--ctm .* is a folder"),
        (run, ("--split", "val", "--stm", "a", "--ctm", "a"), "name the same file"),
        (run, ("--input", tmp_path / "flat.npy"), r"shape \[4, 133\]; \[T, 133, 3\]"),
        (run, ("--input", tmp_path / "empty.npy"), r"\[T, 133, 3\] or"),
        (run, ("--input", tmp_path / "text.npy"), "not an npy file"),
        (run, ("--input", tmp_path / "gone.npy"), "gone.npy: missing file"),
        (run, ("--tokens", tokens / "val.jsonl"), "reads keypoints: give it poses"),
        (run, ("--split", "val", "model.width=64"), "model.width is 64 and the checkpoint's is 48"),
        (run, ("--split", "val", "data.max_gap=0"), "data.max_gap is 0"),
        (of_codes, clip, "reads codes: give it what export_tokens wrote"),
        (of_codes, ("--input", "-"), "reads codes: give it what export_tokens wrote"),
        (of_codes, ("--tokens", tmp_path / "val.jsonl"), "tokenizer 'two', one is expected"),
        (of_codes, ("--split", "val", f"data.tokens={tmp_path}/{{split}}.jsonl"), "tokenizer 'two', and the recogn"),
    ):
        line = refused(each, *options)
        assert re.search(told, line), line
    write_tokens(tmp_path, ("RH",))
    told = "1 x 2 codes of 32 and the recogniser was trained on 2 x 2 of 32"
    assert told in refused(of_codes, "--tokens", tmp_path / "val.jsonl")
    write_tokens(tmp_path, ("RH", "F"))
    told = "the tokens are of the parts RH, F, and the recogniser was trained on F, RH"
    assert told in refused(of_codes, "--tokens", tmp_path / "val.jsonl")
    assert told in refused(of_codes, "--split", "val", f"data.tokens={tmp_path}/{{split}}.jsonl")
    with pytest.raises(UserError, match="the config is of task recognition: this needs one of task rvq"):
        export_tokens.main(["--checkpoint", str(run.checkpoint), "--out", str(tmp_path / "x.jsonl")])


def test_a_stream_needs_a_recogniser_that_is_causal(tmp_path):
    run = make_run(tmp_path, steps=1)
    assert "the recogniser is not causal" in refused(run, "--input", "-")
    with pytest.raises(UserError, match="not causal"):
        run.recogniser.stream()


def test_a_word_that_a_ctm_cannot_hold_leaves_no_file_at_all(run, tmp_path, monkeypatch):
    out = tmp_path / "out.ctm"
    out.write_text("old")
    monkeypatch.setattr(Recogniser, "signed", lambda self, heard, frames, timing: Signed("A;B", 0, 1, 0.5))
    line = refused(run, "--split", "val", "--ctm", out, "--stm", tmp_path / "ref.stm")
    assert "cannot stand in such a file" in line and str(out) in line
    assert out.read_text() == "old" and not (tmp_path / "ref.stm").exists()
