"""The report of live runs: numbers worked by hand, and files that are none."""

import json
import re
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from live_events import FRAMES, SENTENCES, STEPS, lines_of, make_place, make_report, measured, reported, write_events
from signstream.config import load_config, to_dict
from signstream.data.recordings import recording_of
from signstream.errors import UserError
from signstream.inference import live_report
from signstream.inference.report.live.build import Run, frontier_of, points_of
from signstream.inference.report.live.definitions import DEFINITIONS
from signstream.inference.report.live.events import read_events
from signstream.inference.report.live.frontier import Point, frontier
from signstream.pictures.figure import figure_pixels
from signstream.training import checkpoint

pytest.importorskip("sacrebleu")
pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return make_place(tmp_path_factory.mktemp("live"))


@pytest.fixture(scope="module")
def made(place, tmp_path_factory) -> SimpleNamespace:
    return make_report(place, tmp_path_factory.mktemp("report") / "new")


# -- numbers


def test_a_run_worked_by_hand(made):
    # Words at 1000, 1500, 2000, 2000 ms of 2000, four meant: 500 ms a word.
    #   laal   1000 - 0, 1500 - 500, 2000 - 1000 -> 1000;   by the clock 1020, 1530 - 500, 2040 - 1000 -> 3090 / 3
    #   dal    g = 1000, 1500, 2000, max(2000, 2500); less 0, 500, 1000, 1500 -> 1000
    # Taken back: "snows", then "moon"; four words stand in the end.
    numbers = made.report["runs"][0]["numbers"]
    expected = {"laal": 1000, "al": 1000, "dal": 1000, "first": 1000}
    assert {key: numbers[f"latency/consumed/{key}"] for key in expected} == pytest.approx(expected)
    assert numbers["latency/elapsed/laal"] == pytest.approx(1030)
    assert (numbers["erasure/shown"], numbers["erasure/committed"], numbers["before_end"]) == (0.5, 0, 0.5)
    assert numbers["real_time_factor"] == pytest.approx(0.05)
    assert (numbers["computing/p50"], numbers["computing/p95"]) == pytest.approx((25, 40))
    assert numbers["text/bleu_4"] == pytest.approx(100) and (numbers["words"], numbers["clips"]) == (8, 2)


def test_a_lag_is_held_against_that_of_who_speaks_as_soon_as_the_signs_were_seen(made):
    """No segments: each of the four words has its quarter of the two seconds, and so lags by half a second."""
    for run in made.report["runs"]:
        numbers = run["numbers"]
        assert numbers["latency/beyond_seen"] == pytest.approx(numbers["latency/consumed/laal"] - 500)
        assert numbers["latency/first_beyond_seen"] == pytest.approx(numbers["latency/elapsed/first"] - 500)
    own, late = made.report["runs"][0], made.report["runs"][2]
    assert own["numbers"]["sentences/latency/beyond_seen"] < late["numbers"]["sentences/latency/beyond_seen"]


def test_sentences_of_a_recording_are_cut_and_timed_from_their_beginnings(made):
    # it rains [0, 1000): 1000 alone, since it reaches the end. sun shines [1200, 2000): both at 2000, 800 from there.
    own, shuffled, late = (run["numbers"] for run in made.report["runs"][:3])
    assert own["sentences/latency/consumed/laal"] == pytest.approx((1000 + 800) / 2)
    assert own["sentences/latency/elapsed/first"] == pytest.approx((1020 + 840) / 2)
    assert own["sentences/text/bleu_2"] == pytest.approx(100) and own["sentences/latency/measured"] == 2
    assert late["sentences/latency/consumed/laal"] == pytest.approx((2000 + 800) / 2)
    assert shuffled["sentences/text/bleu_2"] < shuffled["sentences/text/bleu_1"] < 80
    assert made.report["sentences"] == 2 and made.report["clips"] == 2


def test_controls_and_other_runs_stand_beside(made):
    assert [(run["name"], run["control"]) for run in made.report["runs"]] == [
        ("own:0.5", False),
        ("shuffled", True),
        ("own:0.9", False),
        ("wait:3", False),
    ]
    assert (made.out / "frontier.png").read_bytes()[:4] == b"\x89PNG" and made.data["plot"].startswith("data:image/png")


def test_a_point_of_the_plot_is_a_run_and_a_control_is_a_line(tmp_path):
    numbers = {"latency/consumed/laal": 900.0, "text/bleu_4": 20.0, "sentences/text/bleu_4": 3.0}
    one = measured(lines_of("a"), tmp_path)._replace(numbers=numbers)
    late = one._replace(numbers={**numbers, "latency/consumed/laal": 1500.0})
    silent = one._replace(numbers={"text/bleu_4": 1.0})
    runs = [Run("own:1", "x", False, one), Run("none", "x", True, silent), Run("own:2", "x", False, late)]
    points, floors = points_of([*runs, Run("wait:9", "x", False, silent)])
    assert points == [Point("own:1", 0.9, 20.0), Point("own:2", 1.5, 20.0)] and floors == {"none": 1.0}
    assert frontier_of(runs[:2]) is None and frontier_of(runs)[:4] == b"\x89PNG"
    recording = one.clips[0].meant._replace(recording=SimpleNamespace(sentences=("several",)))
    by_sentence = {**numbers, "sentences/latency/consumed/laal": 700.0}
    long = one._replace(clips=[one.clips[0]._replace(meant=recording)], numbers=by_sentence)
    assert points_of([Run("own:1", "x", False, long)])[0] == [Point("own:1", 0.7, 3.0)]
    figure = frontier([Point("wait:1", 3, 4), *points, Point("own:$x^", 1, 5)], floors=floors, lag="LAAL")
    drawn = [line.get_xydata().tolist() for line in figure.axes[0].lines]
    assert drawn[:2] == [[[3, 4]], [[0.9, 20], [1, 5], [1.5, 20]]] and len(drawn) == 3
    assert {text.get_text() for text in figure.axes[0].texts} == {"wait:1", "own:1", "own:2", "own:$x^", "none"}
    assert figure_pixels(figure).shape[2] == 3
    figure = frontier([Point("wait 2, own:0.5", 1, 4, (3, 6))], floors={}, lag="LAAL")
    assert [line.get_xydata().tolist() for line in figure.axes[0].lines] == [[[1, 4]], [[1, 3], [1, 6]]], "its seeds"
    figure = frontier([Point("own:.5:2", 1, 4), Point("own:.5", 2, 4), Point("own:.6:2", 3, 4)], floors={}, lag="LAAL")
    assert [line.get_xdata().tolist() for line in figure.axes[0].lines] == [[1, 3], [2]], "a line: how much, alone"


def test_no_name_of_the_plot_lies_on_another():
    """Nor outside of the picture, however near to each other the points are."""
    points = [Point(f"own:{i}", 0.3 + 0.01 * i, 18 - 0.1 * i) for i in range(9)] + [Point("wait:3:2", 1, 0.1)]
    figure = frontier(points, floors={}, lag="LAAL")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [Text.get_window_extent(text, canvas.get_renderer()) for text in figure.axes[0].texts]
    assert len(boxes) == 10 and not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in box.get_points())


def test_a_word_is_said_when_it_stands_whole_and_its_beginning_is_not_taken_back(tmp_path):
    steps = ((500, 500, 1, "the bic", "y"), (1000, 1000, 1, "ycle", " is n"), (2000, 2000, 1, "", ""))
    out = measured(lines_of("a", steps), tmp_path, "the bicycle")
    assert [unit.consumed for unit in out.clips[0].units] == [500, 1000]
    assert out.numbers["erasure/committed"] == 0 and out.numbers["erasure/shown"] == pytest.approx(2 / 2)  # is, n


def test_what_nobody_meant_and_what_was_not_said_have_no_latency(tmp_path):
    silent = tuple((*step[:3], "", "") for step in STEPS)
    out = measured(lines_of("a", silent), tmp_path)
    assert out.numbers["latency/left_out"] == 1 and out.numbers["before_end"] is None
    assert out.numbers["text/empty"] == 100 and out.numbers["erasure/shown"] is None
    assert "text/bleu_4" not in measured(lines_of("a"), tmp_path, "").numbers


def test_clips_may_take_turns_and_a_header_may_be_missing(tmp_path):
    turns = [line for pair in zip(lines_of("a"), lines_of("b")) for line in pair]
    run = read_events(write_events(tmp_path / "turns.jsonl", turns))
    assert [update.committed for update in run.clips["a"].updates] == ["", "it", "it rains", "it rains sun shines"]
    assert run.name == "turns" and run.clips["a"].updates == run.clips["b"].updates and len(run.clips) == 2


def test_every_number_is_defined_and_the_docs_say_the_same(made):
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for key, (unit, what, good) in DEFINITIONS.items():
        assert f"| `{key}` | {unit} | {what} | {good} |" in text
    uncounted = {"clips", "latency/measured", "text/bleu_2", "text/bleu_3"}
    found = {key.removeprefix("sentences/") for key in made.report["runs"][0]["numbers"]} - uncounted
    assert found == set(DEFINITIONS) and made.report["definitions"].keys() == found


def test_chinese_is_counted_by_characters(tmp_path):
    steps = ((1000, 1000, 1, "你", "好"), (2000, 2000, 1, "好吗", ""))
    out = measured(lines_of("a", steps), tmp_path, "你好吗", language="zh_CN")
    assert [unit.text for unit in out.clips[0].units] == ["你", "好", "吗"] and out.numbers["erasure/shown"] == 0
    assert out.numbers["text/bleu_1"] == pytest.approx(100)


def test_the_data_set_may_be_that_of_a_checkpoint(place, made, tmp_path):
    config = load_config(place / "live.yaml", [f"data.root={place / 'data'}", f"data.cache={place / 'cache'}"])
    checkpoint.save({"step": 0, "config": to_dict(config)}, tmp_path / "last.pt")
    events, out = str(place / "own.jsonl"), tmp_path / "out"
    live_report.main(["--checkpoint", str(tmp_path / "last.pt"), "--events", events, "--out", str(out)])
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["runs"] == made.report["runs"][:1] and not (out / "frontier.png").exists()


# -- what is no such file


def test_a_file_that_cannot_be_is_one_line_that_names_it(tmp_path):
    path = tmp_path / "events.jsonl"
    lines = lines_of("a")
    faults = {
        "committed is None, text": [lines[0], lines[1] | {"committed": None}],
        "goes on after its end": [*lines, lines[0]],
        "has no line with": lines[:-1],
        "chunk goes back": [lines[1], lines[0]],
        "consumed goes back": [lines[0], lines[1] | {"consumed": 400}],
        "elapsed is before consumed": [lines[0] | {"elapsed": 400}],
        "thought is 3, text": [lines[0] | {"thought": 3}],
        "video_name is None": [{"chunk": 0}],
        "signing is 0, millis": [lines[3] | {"signing": 0}],
        "computing is True": [lines[0] | {"computing": True}],
        "consumed is -1": [lines[0] | {"consumed": -1}],
        "a header in the middle": [lines[0], {"header": True, "policy": "x"}],
        "policy is": [{"header": True, "policy": ["x"]}],
    }
    for told, written in faults.items():
        assert told in refused(write_events(path, written))
    raw = {
        "holds no clip": b"\n\n",
        "line 1: NaN is no number|NaN is no number": json.dumps(lines[0]).replace("500", "NaN").encode(),
        "no JSON": b"[" * 100_000,
        "an object is expected": b"[1]",
        "line 2: no JSON": json.dumps(lines[0]).encode() + b'\n{"video_name": "a\xff"}',
        "longer than 1 MB": b'{"video_name": "' + b"a" * (1 << 20) + b'"}',
        "consumed is a int|consumed is 9": json.dumps(lines[0]).replace("500", "9" * 4000, 1).encode(),
    }
    for told, content in raw.items():
        path.write_bytes(content)
        assert re.search(told, refused(path))


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_events(path)
    line = str(caught.value)
    assert str(path) in line and line.isprintable() and len(line) < 600
    return line


def test_what_does_not_go_together_is_one_line(place, tmp_path):
    out = tmp_path / "out"
    write_events(place / "lone.jsonl", lines_of("long"))
    write_events(place / "stranger.jsonl", lines_of("nobody"))
    for told, options, events in (
        ("the clip 'short' and .*lone.jsonl has not", (), ("own.jsonl", "lone.jsonl")),
        ("own.jsonl has the clip 'short'", (), ("lone.jsonl", "own.jsonl")),
        ("stranger.jsonl: the split 'test' has no clip 'nobody'", (), ("stranger.jsonl",)),
        ("the split 'train' has no clip 'long'; it is in test", ("--split", "train"), ("own.jsonl",)),
        ("--beside 'shuffled': NAME=FILE", ("--beside", "shuffled"), ("own.jsonl",)),
        ("--out .* is a file", ("--out", str(place / "own.jsonl")), ("own.jsonl",)),
    ):
        with pytest.raises(UserError, match=told):
            reported(place, out, *options, events=events)
    (place / "rvq.yaml").write_text("task: rvq\n")
    for told, options in (
        ("whose clips are these", ()),
        ("task is 'rvq', which says no sentences", ("--config", place / "rvq.yaml")),
    ):
        with pytest.raises(UserError, match=told):
            live_report.main([*map(str, options), "--events", str(place / "own.jsonl"), "--out", str(out)])
    assert not out.exists()


def test_sentences_that_cannot_be_are_one_line(place):
    clip = SimpleNamespace(name="a", num_frames=FRAMES, fps=30.0)

    def recording(**annotation):
        return recording_of(SimpleNamespace(root=place, note=lambda *_: annotation), "test", clip)

    assert recording(text="x").sentences == ()
    assert recording(sentences=SENTENCES, between=[[30, 36, "rest"], 3]).between[0] == (1000, 1200, "rest")
    for fault in ([], {}, "x", SENTENCES[::-1], [*SENTENCES, {}], [SENTENCES[0] | {"end": 61}], [{"text": "a\nb"}]):
        with pytest.raises(UserError, match="the sentences of 'a' are a list"):
            recording(sentences=fault)
