"""What is read of a signer who goes on signing: the tokens of the file, whoever is absent; pictures, recordings."""

import errno
import io
import json
import os
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from clips import moving_clip
from data_sets import data_config
from live_models import WINDOW, restored
from live_shows import Clock, Follows
from sentences import said_in_one_line
from signstream.data.datasets import open_data
from signstream.inference.inputs import checked_poses
from signstream.inference.live_page.recording import Kept, Recording
from signstream.inference.live_page.session import GAP, Readers, Session
from signstream.inference.live_page.show import STALE, Refused, Show
from signstream.inference.live_page.sources import LEAP, PAUSE, Camera, Demo, read_jpeg
from signstream.inference.live_text import LiveText
from signstream.inference.recognition.spans import Signed
from signstream.io.vector_files import read_vectors
from signstream.space import SEAM
from signstream.tokens.format import read_jsonl
from test_export import Tiny, make_tiny

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("made"))


@pytest.fixture
def readers(tiny) -> Readers:
    return Readers(tiny.tokenizer)


def jpeg(width=64, height=48, bright=None) -> bytes:
    pixels = np.zeros((height, width, 3), np.uint8)
    if bright is not None:
        pixels[:, bright : bright + 4] = 255
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG")
    return out.getvalue()


def watched(session, poses, times) -> list:
    news = [each for at, frame in zip(times, poses) for each in session.see(at, frame)]
    return news + session.end()


def codes_of(news) -> torch.Tensor:
    return torch.stack([decoded.chunk.codes for each in news for decoded in each.decoded])


# -- tokens


def test_frame_by_frame_a_clip_has_the_tokens_of_the_file(tiny, readers):
    poses = moving_clip(95, 3)
    news = watched(Session(readers), poses, np.arange(95) / 30)
    tokens = tiny.tokenizer.encode(poses)
    assert torch.equal(codes_of(news), tokens.codes)
    assert np.array_equal(np.concatenate([each.frames for each in news if each.frames]), poses)
    waits = [decoded.waited for each in news[:-1] for decoded in each.decoded]
    assert np.allclose(waits, 1000 * tiny.tokenizer.config.data.lookahead / 30) and news[-1].over


def test_the_reconstruction_is_the_files_but_where_later_chunks_pull(tiny, readers):
    poses = moving_clip(95, 3)
    news = watched(Session(readers), poses, np.arange(95) / 30)
    shown = torch.cat([decoded.poses for each in news for decoded in each.decoded])
    place = torch.cat([decoded.chunk.place for each in news for decoded in each.decoded])
    whole = tiny.tokenizer.decode(tiny.tokenizer.encode(poses), place)
    settled = torch.arange(95) % 10 < 10 - min(SEAM, 5)
    assert len(shown) == len(whole) and torch.allclose(shown[settled], whole[settled], atol=1e-3)
    assert (shown[..., :2] - torch.from_numpy(poses)[..., :2]).abs().mean() < 60


def test_the_demos_clips_have_the_tokens_of_their_files(tiny, readers):
    clock = Clock()
    demo, session, frames, codes, clips = Demo(readers.fps, now=clock), Session(readers), [], [], 0
    demo.begin()
    while clips < 2:
        clock.seconds += 0.21
        for look in demo.look():
            news = session.see(look.seconds, look.frame) + (session.end() if look.last else [])
            frames += [frame for each in news for frame in each.frames]
            codes += [decoded.chunk.codes for each in news for decoded in each.decoded]
            if look.last:
                assert torch.equal(torch.stack(codes), tiny.tokenizer.encode(np.stack(frames)).codes)
                frames, codes, clips = [], [], clips + 1


def test_irregular_times_are_brought_to_the_readers_pace(tiny, readers):
    """Of movement on straight lines the same frames are seen, whenever pictures came."""
    steps = np.arange(90)[:, None, None]
    poses = (moving_clip(1, 3) + steps * (0.7, 0.3, 0)).astype(np.float32)
    even = watched(Session(readers), poses, np.arange(90) / 30)
    kept = [0, *sorted(np.random.default_rng(0).choice(np.arange(1, 89), 40, replace=False)), 89]
    news = watched(Session(readers), poses[kept], np.array(kept) / 30)
    frames = np.concatenate([each.frames for each in news if each.frames])
    assert np.allclose(frames, poses, atol=1e-3) and (codes_of(news) == codes_of(even)).float().mean() > 0.95


def test_a_gap_ends_the_clip(readers):
    session, poses = Session(readers), moving_clip(40, 3)
    first = [each for i in range(20) for each in session.see(i / 30, poses[i])]
    ended, begun = session.see(19 / 30 + GAP + 0.01, poses[20])
    assert {each.clip for each in first} == {0} and ended.over and ended.clip == 0
    assert (begun.clip, begun.first, len(begun.frames)) == (1, 0, 1)
    assert len(codes_of([*first, ended])) == 2 and session.end()[0].over and session.end() == []


# -- whoever is absent


class Signs:
    """A recogniser that says a gloss for each ten frames."""

    config = SimpleNamespace(data=SimpleNamespace(fps=25.0))

    def stream(self, fps):
        assert fps == 25.0
        return SimpleNamespace(push=lambda x: [Signed("A", 0, 9, 0.5)] * (len(x) > 0), finish=lambda: [])


def test_without_a_tokenizer_there_is_the_skeleton_alone():
    news = watched(Session(Readers()), moving_clip(30, 1), np.arange(30) / 30)
    assert sum(len(each.frames) for each in news) == 30 and news[-1].over
    assert not any(each.decoded or each.glosses or each.said for each in news)


def test_a_recogniser_alone_says_its_glosses_at_its_own_pace():
    news = watched(Session(Readers(recogniser=Signs())), moving_clip(30, 1), np.arange(30) / 30)
    assert sum(len(each.frames) for each in news) == 25
    assert {sign.gloss for each in news for sign in each.glosses} == {"A"}


def test_text_is_what_the_language_model_says_of_the_codes(tiny):
    pytest.importorskip("transformers")
    pytest.importorskip("tokenizers")
    made = restored(like=tiny.tokenizer.vocabulary, window=replace(WINDOW, entries=80, positions=400))
    made = made._replace(kept=made.kept._replace(tokenizer=tiny.tokenizer.digest))
    text = LiveText(made, "agree:2", tiny.tokenizer)
    poses = moving_clip(95, 3)
    news = watched(Session(Readers(tiny.tokenizer, None, text)), poses, np.arange(95) / 30)
    alone = text.begin("alone")
    events = [alone.chunk(codes) for codes in tiny.tokenizer.encode(poses).codes] + alone.end()
    ours = [(event.committed, event.thought) for each in news for event in each.said]
    assert ours == [(event.committed, event.thought) for event in events] and any(x for x, _ in ours)


# -- who signs


def test_the_demo_goes_at_its_own_pace_and_stands_still_while_nobody_looks():
    clock = Clock()
    demo = Demo(30, now=clock)
    demo.begin()
    assert len(demo.look()) == 1
    clock.seconds += 0.11
    assert [round(30 * look.seconds) for look in demo.look()] == [1, 2, 3]
    clock.seconds += 1000
    assert len(demo.look()) == round(30 * LEAP)
    for _ in range(100):
        clock.seconds += 0.4
        looks = demo.look()
        if looks and looks[-1].last:
            break
    over = clock.seconds
    while not (looks := demo.look()):
        clock.seconds += 0.1
    assert [look.seconds for look in looks] == [0.0] and PAUSE - 0.5 < clock.seconds - over < PAUSE + 0.2


def test_a_camera_that_comes_back_is_looked_at_afresh():
    camera = Camera(Follows())
    camera.begin()
    (look,) = camera.look(jpeg(bright=40), 5.0)
    assert look.measured and look.box == (0, 0, 64, 48) and 38 <= look.frame[0, 0] <= 46
    camera.look(jpeg(), 5.5)
    assert camera.estimator.resets == 1
    camera.look(jpeg(), 5.5 + GAP + 0.1)
    assert camera.estimator.resets == 2
    said_in_one_line(lambda: camera.look(jpeg(), 3.0), "time runs forward")


def test_what_is_no_picture_or_too_large_a_one_is_a_line():
    out = io.BytesIO()
    Image.new("RGB", (32, 32)).save(out, "PNG")
    at = jpeg().index(b"\xff\xc0") + 5  # where height and width stand
    bomb = jpeg()[:at] + b"\xff" * 4 + jpeg()[at + 4 :]
    for content in (b"", b"\xff\xd8\xff", jpeg()[:200], out.getvalue(), b"x" * 1000, bomb):
        said_in_one_line(lambda content=content: read_jpeg(content), "no picture|a picture of")
    said_in_one_line(lambda: read_jpeg(jpeg(4000, 20)), "4000 x 20 pixels: 16 to 1920")
    assert read_jpeg(jpeg()).shape == (48, 64, 3)


# -- the reader, and what is kept


@pytest.fixture
def place(readers, tmp_path) -> SimpleNamespace:
    clock = Clock()
    recording = Recording(tmp_path / "kept", readers.tokenizer)
    show = Show(Demo(readers.fps, now=clock), readers, recording, now=clock)
    return SimpleNamespace(clock=clock, show=show, root=recording.root)


def played(place, reader, seconds=20.0) -> list[dict]:
    """Answers until a clip is over."""
    answers = []
    for _ in range(round(seconds / 0.2)):
        place.clock.seconds += 0.2
        answers.append(place.show.step(reader))
        if any(news.get("over") for news in answers[-1]["news"]):
            return answers
    raise AssertionError("no clip was over")


def refused(call, status):
    with pytest.raises(Refused) as found:
        call()
    assert found.value.status == status and "\n" not in found.value.why


def test_one_reads_at_a_time_until_he_is_gone(place):
    show, clock = place.show, place.clock
    first = show.begin()["reader"]
    refused(show.begin, 409)
    refused(lambda: show.step("x" * 22), 410)
    clock.seconds += STALE - 1
    show.expire()
    assert show.step(first)["news"]
    clock.seconds += STALE + 1
    show.expire()
    assert show.session.clip is None
    refused(lambda: show.step(first), 410)
    second = show.begin()["reader"]
    show.step(second)
    assert show.end(second)["news"][-1]["over"] and show.session.clip is None
    refused(lambda: show.step(second), 410)
    assert show.begin()["reader"] not in (first, second)


def test_a_second_question_is_refused_and_not_queued(place):
    reader = place.show.begin()["reader"]
    with place.show.lock:
        refused(lambda: place.show.step(reader), 429)
    assert place.show.step(reader)["news"]


def test_the_look_for_who_is_gone_holds_nobody_up(place):
    show, held = place.show, []
    reader = show.begin()["reader"]
    show.now = lambda: held.append(show.lock.locked()) or place.clock()
    show.expire()
    assert held == [False]
    show.now = place.clock
    assert show.step(reader)["news"]


def test_who_waits_long_for_an_answer_is_not_gone(place, monkeypatch):
    show, reader = place.show, place.show.begin()["reader"]
    look = show.source.look

    def slow(*given):
        place.clock.seconds += STALE + 1
        return look(*given)

    monkeypatch.setattr(show.source, "look", slow)
    show.step(reader)
    show.expire()
    assert show.step(reader)["news"] and show.session.clips == 1


def test_a_page_that_is_loaded_anew_while_a_step_runs_has_the_signer(place):
    show, answers = place.show, []
    old = show.begin()["reader"]
    with show.lock:
        leaves = threading.Thread(target=lambda: show.end(old))
        begins = threading.Thread(target=lambda: answers.append(show.begin()["reader"]))
        leaves.start()
        while show.leaving != old:
            time.sleep(0.01)
        begins.start()
    begins.join()
    leaves.join()
    assert answers == [show.reader] and show.step(show.reader)["news"]


@pytest.mark.parametrize("leaves", ["expire", "begin", "close"])
def test_what_was_being_kept_is_kept_when_nobody_is_there_any_more(place, leaves):
    show, reader = place.show, place.show.begin()["reader"]
    show.record(reader, True)
    for _ in range(20):
        place.clock.seconds += 0.1
        show.step(reader)
    assert show.kept.frames and not place.root.exists()
    place.clock.seconds += STALE + 1
    told = getattr(show, leaves)()
    kept = list(read_jsonl(place.root / "tokens.jsonl"))
    assert len(kept) == 1 and kept[0].num_frames > 55 and show.kept is None
    if leaves == "close":
        assert [news["saved"] for news in told] == [kept[0].name]
        refused(lambda: show.step(reader), 429)


def test_a_full_disk_is_said_and_the_page_goes_on(place, monkeypatch):
    show, reader = place.show, place.show.begin()["reader"]

    def full(self, kept):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Recording, "write", full)
    show.record(reader, True)
    told = played(place, reader)[-1]
    assert told["news"][-1]["lost"] == f"{place.root}: No space left on device" and told["news"][-1]["over"]
    assert told["kept"] is None
    place.clock.seconds += PAUSE
    assert played(place, reader)[-1]["news"][-1]["over"]


def test_what_a_full_disk_leaves_is_no_other_data_set(tmp_path):
    (tmp_path / "frames_512x512").mkdir()
    (tmp_path / "frames_512x512" / ".live.npy.12345678.part").touch()
    Recording(tmp_path, None)


def test_nothing_is_kept_but_on_request(place):
    reader = place.show.begin()["reader"]
    played(place, reader)
    place.show.end(reader)
    assert not place.root.exists()
    bare = Show(Demo(30), Readers())
    refused(lambda: bare.record(bare.begin()["reader"], True), 403)


def test_a_clip_that_is_kept_is_a_data_set_with_its_tokens(place, tiny):
    reader = place.show.begin()["reader"]
    place.show.step(reader)
    answer = place.show.record(reader, True)
    assert answer["news"][-1]["over"] and answer["news"][-1]["saved"] is None and answer["kept"] == 0.0
    first = played(place, reader)[-1]
    assert place.show.record(reader, True)["kept"] == 0.0 and first["kept"] is None
    place.clock.seconds += PAUSE
    played(place, reader)
    clips = list(read_jsonl(place.root / "tokens.jsonl"))
    data = open_data(data_config(place.root))
    assert data.splits()["train"] == [clip.name for clip in clips] and len(clips) == 2
    for clip in clips:
        kept = data.load("train", clip.name)
        assert kept.size == (512, 512) and kept.fps == 30 and kept.text == ""
        assert torch.equal(tiny.tokenizer.encode(checked_poses(kept.poses, 133)).codes, clip.codes)
    assert first["news"][-1]["saved"] == clips[0].name
    assert read_vectors(place.root / "tokens.vectors.npz").tokenizer == tiny.tokenizer.digest


def test_a_folder_that_holds_something_else_is_refused(readers, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    said_in_one_line(lambda: Recording(tmp_path / "full", None), "holds something else")
    kept = Kept((64, 48), 30.0)
    kept.frames = list(moving_clip(12, 1))
    kept.codes = list(readers.tokenizer.encode(moving_clip(12, 1)).codes)
    Recording(tmp_path / "new", readers.tokenizer).write(kept)
    lines = (tmp_path / "new" / "tokens.jsonl").read_text()
    other = json.loads(lines)
    del other["meta"]["check"]
    other["meta"]["tokenizer"] = "another"
    (tmp_path / "new" / "tokens.jsonl").write_text(json.dumps(other) + "\n")
    said_in_one_line(lambda: Recording(tmp_path / "new", readers.tokenizer), "of the tokenizer another")
