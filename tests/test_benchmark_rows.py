"""What rows() of benchmarks' modules stand on."""

import os
import subprocess
import sys

from benchmarks import programs
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
