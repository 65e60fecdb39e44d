"""What rows() of benchmarks' modules stand on."""

import os
import subprocess
import sys

from benchmarks import busy, growth, programs, results, video_pace
from benchmarks.pairs import Row, tell
from test_threads import DOORS


def test_every_door_is_asked_for_help():
    assert [door.removesuffix(".__main__") for door in DOORS] == programs.doors()


def test_a_script_has_the_threads_that_it_takes_unasked_and_its_children_count(tmp_path):
    """Measured by a small process, since a child's peak counts the parent's too until it becomes another program."""
    measure = f"from benchmarks import programs; print(*programs.bash({str(tmp_path)!r}, 'script.sh'))"
    script = tmp_path / "script.sh"

    def run(content: str) -> subprocess.CompletedProcess:
        script.write_text(content + "\n")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run([sys.executable, "-c", measure], env=environment, capture_output=True, text=True)

    seconds, gib = map(float, run('[ -z "${OMP_NUM_THREADS+x}" ] && python -c "bytes([1]) * (1 << 28)"').stdout.split())
    assert 0.25 < gib < 0.4 and seconds > 0
    assert run("exit 3").stderr == "script.sh ended with 3\n"


def test_a_line_says_what_was_missed(capsys):
    tell([Row("a", "1 s", "b", "2 s", 0.5, at_most=1), Row("c", "1 s", "d", "2 s", 2.0, at_least=3)])
    assert capsys.readouterr().out.splitlines() == [
        "a: 1 s; b: 2 s; 0.5 (at most 1)",
        "c: 1 s; d: 2 s; 2 (at least 3, missed)",
    ]


def test_a_busy_step_is_set_beside_an_idle_one(monkeypatch):
    monkeypatch.setattr(
        busy, "measure", lambda args, _: {name: {"alone": [2, 9, 1], "busy": [7]} for name in args.only}
    )
    (row,) = busy.rows()
    assert (row.ours, row.other, row.ratio, row.at_most) == ("7 ms", "2 ms", 3.5, 4)


def test_work_that_grows_is_set_beside_a_straight_line():
    row = growth.grown("tokens", {"few": [1.0, 2.0], "many": [4.0, 9.0]}, less="few", more="many", factor=4)
    assert (row.ours, row.against, row.other, row.ratio) == ("6.5 s", "4 times few", "6 s", (1 + 9 / 8) / 2)


def test_without_a_film_videos_are_left_out_with_a_line(tmp_path, capsys):
    assert not [*video_pace.rows(tmp_path / "none.mp4")]
    assert capsys.readouterr().err == "video: left out, there is no none.mp4, a film with a person\n"


def test_the_page_has_each_row_what_was_missed_and_what_failed():
    rows = [Row("a", "1 s", "b", "2 s", 0.5, at_most=1), Row("c", "1 s", "d", "2 s", 2.0, at_least=3)]
    found = [results.Found("scan", rows, ""), results.Found("busy", [], "`busy` ended with 1")]
    page = "\n".join(results.page(found, 0.0))
    assert (
        "| a | 1 s | b | 2 s | 0.5 | at most 1 |  |" in page
        and "| c | 1 s | d | 2 s | 2 | at least 3 | missed |" in page
    )
    assert "`bash benchmarks/run.sh --only scan,busy`" in page and page.endswith("Not whole: `busy` ended with 1.")
    whole = "\n".join(results.page([results.Found(name, [], "") for name in results.MODULES], 0.0))
    assert "`bash benchmarks/run.sh`" in whole and "Not whole" not in whole


def test_a_module_that_fails_keeps_the_rows_that_it_gave(monkeypatch, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "from benchmarks import scan; from benchmarks.pairs import Row\n"
        "def rows():\n    yield Row('a', '1 s', 'b', '2 s', 0.5, at_most=1)\n    raise OSError\n"
        "scan.rows = rows\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{programs.ROOT}")
    found = results.measured("scan")
    assert [row.what for row in found.rows] == ["a"] and found.fault.startswith("`scan` ended with ")
