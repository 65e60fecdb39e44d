"""Text while somebody signs: clips learnt by heart are said behind the chunks where they can be, a stream is one pass
over what it wrote, words stay whole, frames by any pieces give the same, and what cannot be is one line."""

import io
import json
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from clips import moving_clip
from helpers import begin_loop
from live_models import TEXTS, WIDER, WINDOW, chunks_of, flat, heard, restored, speaker, teach
from sentences import said_in_one_line
from signstream.config.prefix_lm import Live
from signstream.data.tokens import TokenData
from signstream.errors import UserError
from signstream.inference import live_text, translate
from signstream.inference.live_text import LiveText
from signstream.inference.report.live.events import read_events
from signstream.inference.translation.live_controls import shuffled
from signstream.models.kv_window import SUMMARY, Window
from signstream.models.live_prompts import LivePrompts, window_of
from signstream.models.live_text import Speaker
from signstream.models.metrics.latency import elapsed
from signstream.models.whole_words import joins, text_after, words_of
from signstream.tokens.format import TokenSequence, read_jsonl, write_line
from signstream.tokens.llm import live
from signstream.training import checkpoint
from test_export import Tiny, make_tiny
from test_prefix_lm import options
from token_files import CHUNK, LEVELS, PARTS, SIZE, codes_of

for package in ("transformers", "tokenizers", "sacrebleu"):
    pytest.importorskip(package)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made():
    return restored()


# -- the engine


def test_clips_learnt_by_heart_are_said_where_they_can_be(monkeypatch):
    """Word for word, behind the very chunks; who waits for the end says the same there."""
    made = restored(spread=0)
    clips = [made.vocabulary.chunks(codes_of(text, 7), longest=1) for text in TEXTS]
    words = [[made.units.ids(word)[:-1] for word in text.split()] for text in TEXTS]
    after = [[min(1 + i, 5) if i < len(line) - 1 else 7 for i in range(len(line))] for line in words]
    written = [live(made.vocabulary, *each[:2], after=each[2]) for each in zip(clips, words, after)]
    ends = [live(made.vocabulary, chunks, line, after=[7] * len(line)) for chunks, line in zip(clips, words)]
    teach(made.model, [*written, *ends], 90)
    for chunks, line, due, text in zip(clips, words, after, TEXTS):
        speaks = speaker(made, "own:0.3")
        heard = [speaks.hear(ids) for ids in chunks] + [speaks.end()]
        assert [said.words for said in heard] == [[w for w, t in zip(line, due) if t == chunk] for chunk in range(8)]
        waits = speaker(made, "offline")
        assert all(waits.hear(ids) == ([], []) for ids in chunks) and made.units.text(flat(waits.end().words)) == text


class Wishes:
    """A policy that keeps what it is told, and lets all be said in every third chunk."""

    def __init__(self):
        self.moments = []

    def __call__(self, moment):
        self.moments.append(moment)
        return len(moment.thought.words) if moment.heard % 3 == 0 else 0


@pytest.mark.parametrize(
    "more", [{}, {"positions": 400, "summary": 2, "group": 2, "reach": 9}], ids=["window", "summaries"]
)
def test_a_stream_is_one_pass_over_what_it_wrote(more):
    """Its wishes and its thoughts, though the window is shorter than the stream."""
    made = restored(window=replace(WINDOW, **more))
    wishes = Wishes()
    speaks = Speaker(made.model, made.vocabulary, units=made.units, policy=wishes)
    for ids in chunks_of(made.vocabulary, 5, 14):
        speaks.hear(ids)
    written = speaks.stream.written
    if more:
        prompts = LivePrompts(made.vocabulary, made.model.window, first_summary=made.model.first_summary)
        written = prompts.summed_up(written)
        assert written.kind.count(SUMMARY) == 2 * 6
    logits = heard(made.model, written)[:, made.model.offset :]
    last = {chunk: at for at, (kind, chunk) in enumerate(zip(written.kind, written.chunk)) if kind == 1}
    ours = torch.tensor([moment.wish for moment in wishes.moments])
    theirs = torch.sigmoid(logits[:, 0] - logits[:, 1])[[last[chunk] for chunk in range(14)]]
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert ours.max() - ours.min() > 0.1


@pytest.mark.parametrize("words", [1, 4])
def test_behind_a_chunk_there_is_room_for_the_words_that_training_counts_on(made, words):
    """And for no more, whatever codes the chunk brought; at the end for what is left."""
    window = window_of(Live(chunks=2, words=words, positions=60), made.vocabulary)
    speaks = speaker(restored(window=window), "agree:1")
    thoughts = [speaks.hear(ids) for ids in chunks_of(made.vocabulary, 1, 9)]
    assert max(len(heard.thought) + len(flat(heard.words)) for heard in thoughts) == words
    assert len(flat(speaks.end().words)) > words


def test_a_chunk_that_fills_the_window_lets_nothing_be_thought():
    made = restored(window=Window(sinks=1, chunks=2, entries=7, positions=40))
    speaks = speaker(made, "agree:1")
    assert all(speaks.hear(ids) == ([], []) for ids in chunks_of(made.vocabulary, 1, 9)) and speaks.end().words


# -- words


class Bytes:
    """Units of one byte each, as the smallest of byte-level tokenizers."""

    end = 256

    def ids(self, sentence, most=None):
        return [*sentence.encode(), self.end]

    def text(self, ids):
        return " ".join(bytes(i for i in ids if i < 256).decode(errors="replace").split())


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("it rains", ["it", " rains"]),
        ("今天下雨", ["今", "天", "下", "雨"]),
        ("在Bonn下 雨 ok", ["在", "Bonn", "下", " 雨", " ok"]),
        ("  ", []),
        ("", []),
    ],
)
def test_words_are_whole_and_text_grows_as_it_is(text, whole):
    units = Bytes()
    ids = list(text.encode())
    words = words_of(units, ids, before=[], ended=True)
    last, grown = [], ""
    for word, expected in zip(words, whole, strict=True):
        grown += text_after(units, last, word)
        assert bytes(word).decode() == expected and grown == units.text(flat(words[: words.index(word) + 1]))
        last = word
    for cut in range(len(ids)):
        part = words_of(units, ids[:cut], before=[], ended=False)
        assert part == words[: len(part)], "no word that could go on"
        assert not grown or units.text(flat(part)) in grown


def test_a_word_that_was_said_is_not_gone_on_with(made):
    units = Bytes()
    for before, added, changes in (("it", "s", True), ("it", " s", False), ("", "s", False), ("今", "s", False)):
        assert joins(units, list(added.encode()), before=list(before.encode())) is changes
    assert text_after(units, [], "今天".encode()[:5]) == "今", "half a character is not shown"
    assert not joins(units, list(b" "), before=list(b"it")), "nobody knows yet"
    for text in TEXTS:
        ids = made.units.ids(text)[:-1]
        assert made.units.text(flat(words_of(made.units, ids, before=[], ended=True))) == text
        assert len(words_of(made.units, ids, before=[], ended=False)) == len(text.split()) - 1


# -- clips and their times


def opened(made, policy="agree:2", tokenizer=None):
    return LiveText(made, policy, tokenizer)


def test_codes_and_ids_say_the_same_and_the_times_add_up(made):
    codes = codes_of("clip", 9)
    live, chunks = opened(made), made.vocabulary.chunks(codes, longest=1)
    told = []
    for each in (codes, chunks):
        clip = live.begin("clip", chunk_ms=100, signing=850)
        told.append([*(clip.chunk(one) for one in each), *clip.end()])
    for events in told:
        assert [event.consumed for event in events] == [*range(100, 900, 100), 850, 850]
        assert [event.chunk for event in events] == list(range(10))
        there = elapsed([event.consumed for event in events], [event.computing for event in events])
        assert [event.elapsed for event in events] == pytest.approx(there)
        assert all(event.computing > 0 for event in events)
        assert events[-1].signing == 850 and events[0].signing is None and events[-1].thought == ""
        assert any(event.thought for event in events), "thought is shown"
    ours, theirs = ([(event.committed, event.thought) for event in events] for events in told)
    assert ours == theirs and ours[-1][0]
    assert "".join(new for new, _ in ours) == made.units.text(said(clip)), "a line has what is new"
    last = json.loads(events[-1].line)
    assert last["end"] is True and last["signing"] == 850 and "end" not in json.loads(events[0].line)


def test_a_clip_without_a_chunk_has_an_end_alone(made):
    (event,) = opened(made).begin(chunk_ms=100).end()
    assert event.signing == event.consumed == event.chunk == 0 and event.thought == ""


def said(clip):
    """All units of text that it wrote."""
    return [unit for unit in clip.speaker.stream.written.input_ids if unit < clip.live.vocabulary.offset]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def of_tokenizer(tiny, window=WINDOW):
    made = restored(like=tiny.tokenizer.vocabulary, window=window)
    return made._replace(kept=made.kept._replace(tokenizer=tiny.tokenizer.digest))


def test_frames_by_any_pieces_give_the_text_of_the_files_tokens(tiny):
    live = opened(of_tokenizer(tiny, WIDER), tokenizer=tiny.tokenizer)
    poses, data = moving_clip(95, 3), tiny.tokenizer.config.data
    tokens = tiny.tokenizer.encode(poses, fps=25)
    frame = 1000 / data.fps
    clip = live.begin("clip", chunk_ms=frame * data.chunk_len, signing=frame * tokens.num_frames)
    whole = [*(clip.chunk(codes) for codes in tokens.codes), *clip.end()]
    assert any(event.committed for event in whole)
    for size in (1, 7, 95):
        clip, began = live.begin("clip", fps=25), time.perf_counter()
        events = [event for at in range(0, 95, size) for event in clip.frames(poses[at : at + size])]
        events += clip.end()
        assert sum(event.computing for event in events) <= 1000 * (time.perf_counter() - began), "none counts twice"
        assert [event[:2] + event[5:7] for event in events] == [event[:2] + event[5:7] for event in whole]
        assert [event.consumed for event in events] == pytest.approx([event.consumed for event in whole])
        assert events[-1].signing == pytest.approx(whole[-1].signing)


# -- the door


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An offline run, of which no more is asked than its config; and its tokens."""
    folder = tmp_path_factory.mktemp("run")
    loop = begin_loop(options(folder, list(TEXTS)))
    checkpoint.save({**loop.state_dict(), "generators": []}, folder / "run.pt")
    return folder / "run.pt", loop.config.data.tokens


def door(run, *given):
    translate.main(["--live", "--checkpoint", str(run), *map(str, given)])


@pytest.fixture
def is_live(monkeypatch, made):
    monkeypatch.setattr(live_text, "restore", lambda config, state: made)


def lines_of(text):
    header, *lines = map(json.loads, text.splitlines())
    assert header == {"header": True, "policy": "agree:2"}
    return [line for line in lines if line.pop("elapsed") >= line.pop("computing") > 0]


def test_a_split_and_a_file_are_told_line_by_line(run, is_live, made, tmp_path, capsys):
    path, tokens = run
    file = tokens.replace("{split}", "val")
    door(path, "--policy", "agree:2", "--split", "val", "--out", tmp_path / "new" / "out.jsonl")
    assert capsys.readouterr().out == f"{tmp_path / 'new' / 'out.jsonl'}\n"
    lines = lines_of((tmp_path / "new" / "out.jsonl").read_text(encoding="utf-8"))
    door(path, "--policy", "agree:2", "--tokens", file)
    assert lines_of(capsys.readouterr().out) == lines
    clips = list(read_jsonl(file))
    assert [line["video_name"] for line in lines if line.get("end")] == [clip.name for clip in clips]
    assert len(lines) == sum(len(clip.codes) + 1 for clip in clips)
    first = [line for line in lines if line["video_name"] == clips[0].name]
    live = opened(made)
    clip = live.begin(clips[0].name, chunk_ms=1000 * CHUNK / 30, signing=1000 * clips[0].num_frames / 30)
    events = [*(clip.chunk(codes) for codes in clips[0].codes), *clip.end()]
    assert [line["committed"] for line in first] == [event.committed for event in events]
    text = made.units.text(said(clip))
    assert read_events(tmp_path / "new" / "out.jsonl").clips[clips[0].name].updates[-1].committed == text != ""
    assert first[0]["consumed"] == round(1000 * (CHUNK + 6) / 30, 2), "the front end looks ahead"
    assert first[-1]["consumed"] == first[-1]["signing"] == round(1000 * clips[0].num_frames / 30, 2)


def test_controls_hear_another_clip_or_nothing_for_as_long(run, is_live, made, tmp_path, capsys):
    path, tokens = run
    out = tmp_path / "new" / "out.jsonl"
    door(path, "--policy", "agree:2", "--split", "val", "--controls", "--out", out)
    files = [out, out.with_name("out.shuffled.jsonl"), out.with_name("out.none.jsonl")]
    assert capsys.readouterr().out.splitlines() == list(map(str, files))
    told = [lines_of(file.read_text(encoding="utf-8")) for file in files]
    keys = ("video_name", "chunk", "consumed", "signing", "end")
    timing = [[[line.get(key) for key in keys] for line in lines] for lines in told]
    assert timing[0] == timing[1] == timing[2], "the same clips, chunks and times of signing"
    clips, live = list(read_jsonl(tokens.replace("{split}", "val"))), opened(made)
    assert len({len(clip.codes) for clip in clips}) > 1 < len(clips)
    for number, clip in enumerate(clips):
        other, count = clips[(number + len(clips) // 2) % len(clips)].codes, len(clip.codes)
        repeated = torch.cat([other] * count)[:count]
        for codes, lines in ((repeated, told[1]), ([[made.vocabulary.special("<NONE>")] * 2] * count, told[2])):
            says = live.begin(clip.name, chunk_ms=1)
            events = [*(says.chunk(chunk) for chunk in codes), *says.end()]
            said = [(line["committed"], line["thought"]) for line in lines if line["video_name"] == clip.name]
            assert said == [(event.committed, event.thought) for event in events]


def test_the_other_clip_says_something_else_where_sentences_are_known(tmp_path):
    path = tmp_path / "tokens.jsonl"
    lines = []
    for name, count in (("a", 2), ("b", 5), ("c", 3)):
        tokens_in(path, name=name, codes=codes_of(name, count), num_frames=CHUNK * count)
        lines.append(path.read_text(encoding="utf-8"))
    path.write_text("".join(lines), encoding="utf-8")
    data = TokenData.open(path)
    c = codes_of("c", 3)
    known, unknown = shuffled(data, {"a": "rain", "b": "rain", "c": "sun"}), shuffled(data, {})
    assert torch.equal(known(0), c[:2]) and torch.equal(known(1), c[[0, 1, 2, 0, 1]])
    assert torch.equal(unknown(0), codes_of("b", 5)[:2]) and torch.equal(unknown(1), known(1))
    said_in_one_line(lambda: shuffled(data, dict.fromkeys("abc", "rain")), "no clip has another")


def test_frames_of_standard_input_and_of_a_file(run, tiny, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(live_text, "restore", lambda config, state: of_tokenizer(tiny, WIDER))
    poses = moving_clip(45, 2)
    text = "".join(f"{json.dumps(frame)}\n" for frame in poses.tolist())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    common = ("--policy", "agree:2", "--tokenizer", tiny.checkpoint, "--fps", 30)
    door(run[0], *common, "--input", "-")
    typed = lines_of(capsys.readouterr().out)
    np.save(tmp_path / "clip.npy", poses)
    door(run[0], *common, "--input", tmp_path / "clip.npy")
    read = lines_of(capsys.readouterr().out)
    names = [{line.pop("video_name") for line in lines} for lines in (typed, read)]
    assert names == [{"stream"}, {"clip"}] and typed == read and len(read) == 6 and read[-1]["end"]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(f"{text}[[1, 2".encode())))
    cut = tmp_path / "cut.jsonl"  # the camera's program died
    assert "standard input, line 46" in refused(run[0], *common, "--input", "-", "--out", cut)
    kept = lines_of(cut.read_text(encoding="utf-8"))
    assert [line.pop("video_name") for line in kept] == ["stream"] * 6 and kept == typed, (
        "it ends as if frames had ended"
    )


def refused(run, *given):
    with pytest.raises(UserError) as caught:
        door(run, *given)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400
    return str(caught.value)


def tokens_in(path, **change):
    head = {"name": "a", "fps": 30.0, "chunk_len": CHUNK, "num_frames": 20, "codes": codes_of("a", 2), "parts": PARTS}
    given = {**head, "levels": LEVELS, "codebook_size": SIZE, "tokenizer": "one", **change}
    path.write_text(write_line(TokenSequence(**given)), encoding="utf-8")
    return path


def test_what_does_not_fit_is_one_line(run, is_live, tiny, tmp_path):
    path, split, out = run[0], ("--split", "val"), tmp_path / "out.jsonl"
    for given, told in (
        ((), "what is heard live"),
        ((*split, "--input", "-"), "what is heard live"),
        ((*split, "--policy", "never"), "no policy 'never'"),
        ((*split, "--n_best", 2), "--n_best is of whole sentences"),
        ((*split, "--controls"), "--controls are files beside --out FILE"),
        (("--input", "-", "--tokenizer", tiny.checkpoint, "--out", out, "--controls"), "of the clips of --split or"),
        (("--tokens", tokens_in(tmp_path / "one.jsonl"), "--out", out, "--controls"), "no clip has another"),
        ((*split, "--report", tmp_path / "x"), "--report is of whole sentences"),
        ((*split, "--tokenizer", tiny.checkpoint), "--input and --tokenizer go together"),
        (("--input", "-"), "--input and --tokenizer go together"),
        ((*split, "--fps", 25), "--fps is the frame rate of --input"),
        ((*split, "--checkpoint", path, path), "one model: name one checkpoint"),
        ((*split, "model.tiny.width=64"), "model.tiny.width is 64 and the checkpoint's is 32"),
        ((*split, "live.wait=0"), "live.wait is 0 and the checkpoint's is 2"),
        (("--split", "gone"), "gone.jsonl"),
        (("--input", "-", "--tokenizer", tiny.checkpoint), f"the tokenizer is {tiny.tokenizer.digest}, and the model"),
        (("--tokens", tokens_in(tmp_path / "two.jsonl", tokenizer="two")), "of the tokenizer 'two', one is expected"),
        (("--tokens", tokens_in(tmp_path / "left.jsonl", parts=("F", "LH"))), "its codes are of parts"),
    ):
        line = refused(path, *given)
        assert told in line, line
    assert not list(tmp_path.glob("out*"))


def test_a_model_that_was_trained_offline_and_options_without_live_are_one_line(run, tiny):
    assert "the model was trained offline" in refused(run[0], "--split", "val")
    assert "task" in refused(tiny.checkpoint, "--split", "val")
    for option in ("--policy", "--tokenizer"):
        with pytest.raises(UserError, match="add --live"):
            translate.main(["--checkpoint", str(run[0]), "--split", "val", "--out", "x", option, "own"])


def test_ids_that_are_no_signs_and_chunks_of_unknown_length_are_said(made):
    clip = opened(made).begin(chunk_ms=100)
    for ids in ([], [3], [made.vocabulary.offset + len(made.vocabulary)]):
        said_in_one_line(lambda ids=ids: clip.chunk(ids), "chunk 0 is .* are signs to this model")
    with pytest.raises(AssertionError, match="chunk_ms"):
        opened(made).begin()
