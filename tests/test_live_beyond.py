"""How much later a live run is than who says each word as soon as its signs were seen; and what a long one takes."""

import tracemalloc
from types import SimpleNamespace

import pytest

from clips import moving_clip
from data_sets import data_config, note, write_csl
from live_events import lines_of, write_events
from signstream.data.cache import open_cache
from signstream.data.datasets import open_data
from signstream.data.live_targets import Targets
from signstream.inference.report.live.events import LiveClip, LiveRun, Update, read_events
from signstream.inference.report.live.meant import MeantClip, meant_in
from signstream.inference.report.live.measure import beyond, measure
from signstream.inference.report.live.soonest import soonest

pytest.importorskip("sacrebleu")

FRAMES = 60  # 2000 ms
ONE = SimpleNamespace(sentences=(), between=())


def run_of(**clips):
    """clips: {name: [(consumed, what is said by then), ..., (signing, all of it)]}"""
    out = {}
    for name, steps in clips.items():
        updates = [Update(i, float(at), float(at), 0.0, text, "") for i, (at, text) in enumerate(steps)]
        out[name] = LiveClip(name, tuple(updates), float(steps[-1][0]))
    return LiveRun("a", out)


def test_a_clip_of_which_nothing_was_said_takes_no_part():
    """Whoever is as soon as the soonest in one clip, and silent in the other, is 0 ms beyond it, whichever it is."""
    steps = {"short": [(1000, "it"), (2000, "it rains")], "long": [(40_000, "sun"), (60_000, "sun shines")]}
    meant = {name: MeantClip(0, steps[name][-1][1], ONE) for name in steps}
    least = measure(run_of(**steps), meant, "en_XX")
    assert least.numbers["latency/measured"] == 2
    for silent in steps:
        run = measure(run_of(**steps | {silent: [(steps[silent][-1][0], "")]}), meant, "en_XX")
        assert run.numbers["latency/measured"] == 1
        assert beyond(run, least) == {"latency/beyond_seen": 0, "latency/first_beyond_seen": 0}
    nothing = measure(run_of(short=[(2000, "")], long=[(60_000, "")]), meant, "en_XX")
    assert beyond(nothing, least) == {}


def test_a_word_that_training_lacks_waits_for_its_own_sign_alone(tmp_path):
    """Three signs, of which the first is of a word that only the report's split has."""
    clips = {name: moving_clip(FRAMES, i) for i, name in enumerate("abcde")}
    texts = {"a": "sun shines", "b": "sun", "c": "shines", "d": "moon sun shines", "e": "moon"}
    notes = {}
    for name, text in texts.items():
        glosses = text.upper().split()
        size = FRAMES // len(glosses)
        segments = [[i * size, (i + 1) * size, gloss] for i, gloss in enumerate(glosses)]
        notes[name] = note(clips[name], text=text, gloss=" ".join(glosses), segments=segments, fps=30)
    write_csl(tmp_path / "data", clips, {"train": ["a", "b", "c"], "test": ["d", "e"]}, notes)
    data = data_config(tmp_path / "data", cache=str(tmp_path / "cache"))
    steps = [(at, at, 1, "", "") for at in (round(1000 * i / 3, 2) for i in range(1, 6))]  # as in files
    events = lines_of("d", [*steps, (2000, 2000, 1, "moon sun shines", "")])
    run = read_events(write_events(tmp_path / "events.jsonl", events))
    meant = meant_in(data, "test", ["d"], file=tmp_path / "events.jsonl")
    targets = Targets.of(open_cache(data), data, None, source=open_data(data), splits=("train", "test"))
    spoken = [update.committed for update in soonest(run, meant, targets).clips["d"].updates]
    assert spoken == ["", "moon", "moon", "moon sun", "moon sun", "moon sun shines"]


def test_memory_of_measuring_grows_no_faster_than_what_was_said():
    """Each update's text is all that was said, but their words are there one update at a time."""

    def peak(chunks):
        texts = [" ".join(f"word{i}" for i in range(n)) for n in range(1, chunks)]
        run = run_of(a=list(enumerate(texts, 1)))
        tracemalloc.start()
        measure(run, {"a": MeantClip(0, texts[-1], ONE)}, "en_XX")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(10)
    assert peak(800) < 3 * peak(400)
