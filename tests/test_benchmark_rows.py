"""What rows() of benchmarks' modules stand on."""

import os
import subprocess
import sys

from benchmarks import busy, growth, programs, video_pace
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
