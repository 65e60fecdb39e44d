"""live.sh: what it starts, in a tree whose programs only say how they were called."""

import re
from pathlib import Path

import pytest

from script_trees import calls, make_tree, run_script
from test_train_lm import RUN, trained

ROOT = Path(__file__).parents[1]
LIVE = f"-m signstream.inference.live{{}} --checkpoint checkpoints/quickstart --lm {RUN}"


@pytest.fixture
def tree(tmp_path) -> Path:
    made = make_tree(tmp_path, "live.sh")
    (made / "train_lm.sh").write_text('echo "train_lm $*"\n')
    return made


def started(tree: Path, *arguments: str, **environment: str) -> list[str]:
    return calls(run_script(tree / "live.sh", *arguments, **environment))


def test_what_is_missing_is_trained_and_the_demo_opens(tree):
    assert started(tree) == ["train_lm ", LIVE.format(" --demo")]
    trained(tree, "prefix_lm_live_quickstart")
    assert started(tree) == [LIVE.format(" --demo")]
    assert started(tree, "--port", "8000") == [LIVE.format(" --demo") + " --port 8000"]


def test_a_camera_or_a_video_needs_the_packages_that_see(tree):
    trained(tree, "prefix_lm_live_quickstart")
    assert started(tree, CAMERA="1") == [LIVE.format("")]
    listed = (ROOT / "requirements-extra.txt").read_text(encoding="utf-8")
    pins = [re.search(rf"^{name}[^ #;]*", listed, re.M)[0] for name in ("av", "mediapipe")]
    added = f"-m pip install -q --disable-pip-version-check {' '.join(pins)}"
    assert started(tree, CAMERA="1", FAILS="import av") == [added, LIVE.format("")]
    assert started(tree, "--video", "clip.mp4", FAILS="import av") == [added, LIVE.format("") + " --video clip.mp4"]
    assert started(tree, FAILS="import av") == [LIVE.format(" --demo")]


def test_runs_can_be_named_and_of_a_data_set_they_must(tree):
    (tree / "CSL-Daily").mkdir()
    done = run_script(tree / "live.sh")
    assert done.returncode == 2 and "name your runs" in done.stderr and "inference.live" not in done.stdout
    named = started(tree, CHECKPOINT_PATH="mine", LM_PATH="my lm")
    assert named == ["-m signstream.inference.live --demo --checkpoint mine --lm my lm"]
