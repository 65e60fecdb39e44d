"""How much later a live run is than who says each word as soon as its signs were seen; and what a long one takes."""

import tracemalloc
from types import SimpleNamespace

import pytest

from clips import moving_clip
from data_sets import note, write_csl
from live_events import lines_of, reported, write_events
from signstream.inference.report.live.events import LiveClip, LiveRun, Update
from signstream.inference.report.live.meant import MeantClip
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


def signed(folder, **texts):
    """A clip of FRAMES frames a text, a sign of equal length a word; d and e are not in train."""
    clips = {name: moving_clip(FRAMES, i) for i, name in enumerate(texts)}
    notes = {}
    for name, text in texts.items():
        glosses = text.upper().split()
        size = FRAMES // len(glosses)
        segments = [[i * size, (i + 1) * size, gloss] for i, gloss in enumerate(glosses)]
        notes[name] = note(clips[name], text=text, gloss=" ".join(glosses), segments=segments, fps=30)
    write_csl(folder / "data", clips, {"train": sorted(set(clips) - set("de")), "test": ["d", "e"]}, notes)
    (folder / "live.yaml").write_text("task: prefix_lm\nmodel: {target_language: en_XX}\n")


def test_a_word_that_training_lacks_waits_for_its_own_sign_alone(tmp_path):
    """Three signs, of which the first is of a word that only the report's split has. Each word is said with the first
    chunk that has all of its sign, ten frames and those that the front end looks ahead; so nothing is beyond it."""
    signed(tmp_path, a="sun shines", b="sun", c="shines", d="moon sun shines", e="moon")
    there = [round(1000 * frame / 30, 2) for frame in (16, 26, 36, 46, 56)]
    said = ("", "moon", "", " sun", "")
    steps = [(at, at, 1, new, "") for at, new in zip(there, said)]
    events = lines_of("d", [*steps, (2000, 2000, 1, " shines", "")])
    write_events(tmp_path / "own.jsonl", events)
    (run,) = reported(tmp_path, tmp_path / "report")["runs"]
    assert run["numbers"]["latency/consumed/first"] == there[1]
    assert (run["numbers"]["latency/beyond_seen"], run["numbers"]["latency/first_beyond_seen"]) == (0, 0)


@pytest.mark.parametrize(
    ("heard", "chunk"),
    [
        ([533.33, 866.67, 1200.0], 333.33),
        ([533.33], 333.33),
        ([2866.67] * 8 + [5533.33] * 8, 333.33),  # eight are known at once
        ([2866.67] * 8, 333.33),
        ([100.0], 100.0),  # of another program's events
        ([], 700.0),
    ],
)
def test_how_long_a_chunk_is_follows_from_when_chunks_are_there(heard, chunk):
    sizes = []
    targets = SimpleNamespace(fps=30, timed=lambda clip, words, **named: sizes.append(named["size"]) or no_words)
    no_words = SimpleNamespace(after=())
    steps = [*((at, "") for at in heard), (heard[-1] + 1 if heard else 700, "")]
    meant = SimpleNamespace(clips={"a": MeantClip(0, "", ONE)}, cache=SimpleNamespace(clips=[None]))
    soonest(run_of(a=steps), meant, targets, behind=200)
    assert sizes == [pytest.approx(chunk * 30 / 1000, abs=0.01)]


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
