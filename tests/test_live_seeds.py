"""Reports of several seeds, as a table and a plot."""

import json

from benchmarks import live_seeds
from sentences import said_in_one_line
from signstream.inference.report.live.frontier import Point


def report(folder, **runs):
    """runs: {policy: its numbers}; whose name is `none` is a control."""
    folder.mkdir()
    told = [{"name": name, "control": name == "none", "numbers": numbers} for name, numbers in runs.items()]
    (folder / "report.json").write_text(json.dumps({"runs": told}))
    return str(folder / "report.json")


def numbers(bleu, later=None, **more):
    return {"text/bleu_4": bleu, "latency/beyond_seen": later, "latency/first_beyond_seen": later, **more}


def printed(capsys, *argv):
    live_seeds.main(list(argv))
    return capsys.readouterr().out.splitlines()[2:]


def test_a_line_is_a_policy_that_all_seeds_have(tmp_path, capsys):
    first = report(tmp_path / "a", own=numbers(40.0, 100), none=numbers(0.0), only=numbers(1.0, 1))
    second = report(tmp_path / "b", none=numbers(1.0), own=numbers(44.0, 300))
    lines = printed(capsys, "--of", "wait 2", first, second, "--of", "wait 3", second)
    assert lines[0] == "| wait 2, own | 2 | 42.0 ± 2.0 | 200 ± 100 | 200 ± 100 |  |"
    assert lines[1] == "| wait 2, none | 2 | 0.5 ± 0.5 |  |  |  |"
    assert lines[2:] == [
        "| wait 3, none | 1 | 1.0 ± 0.0 |  |  |  |",
        "| wait 3, own | 1 | 44.0 ± 0.0 | 300 ± 0 | 300 ± 0 |  |",
    ]


def test_recordings_are_measured_by_sentence(tmp_path, capsys):
    by_sentence = {"sentences/text/bleu_4": 9.0, "sentences/latency/beyond_seen": 5, "erasure/shown": 0.25}
    (line,) = printed(capsys, "--of", "long", report(tmp_path / "a", own=numbers(40.0, 100, **by_sentence)))
    assert line == "| long, own | 1 | 9.0 ± 0.0 | 5 ± 0 |  | 0.25 ± 0.00 |"


def test_the_plot_has_a_point_a_policy_and_its_seeds(tmp_path, capsys, monkeypatch):
    drawn = {}
    monkeypatch.setattr(live_seeds, "frontier", lambda points, **named: drawn.update(points=points, **named))
    monkeypatch.setattr(live_seeds, "figure_pixels", lambda figure: figure)
    monkeypatch.setattr(live_seeds, "as_png", lambda pixels: b"a picture")
    files = [report(tmp_path / str(seed), own=numbers(40.0 + seed, 500), none=numbers(0.0, 1)) for seed in (0, 2)]
    printed(capsys, "--of", "wait 2", *files, "--mark", "offline=68.5", "--plot", str(tmp_path / "plot.png"))
    assert drawn["points"] == [Point("wait 2, own", 0.5, 41.0, (40.0, 42.0))] and drawn["floors"] == {"offline": 68.5}
    assert (tmp_path / "plot.png").read_bytes() == b"a picture"
    said_in_one_line(lambda: live_seeds.main(["--of", "a", files[0], "--mark", "offline"]), "NAME=BLEU is expected")


def test_what_is_no_report_is_one_line(tmp_path):
    twice, own = tmp_path / "twice.json", {"name": "own", "control": False, "numbers": numbers(1.0)}
    twice.write_text(json.dumps({"runs": [own, own]}))
    (tmp_path / "text.json").write_text("no JSON")
    for files, told in (
        ((), "--of 'a': whose reports"),
        ((tmp_path / "none.json",), "is no report of live_report"),
        ((tmp_path / "text.json",), "is no report of live_report"),
        ((twice,), "two of its runs have one name"),
    ):
        said_in_one_line(lambda files=files: live_seeds.main(["--of", "a", *map(str, files)]), told)
