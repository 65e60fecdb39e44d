"""MediaPipe Holistic as 133 joints, and what is said where it, or one of its models, is not there."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from signstream.data.estimator import estimator_library, open_estimator
from signstream.errors import UserError
from signstream.io.video_files import pictures

pytestmark = pytest.mark.filterwarnings("ignore:SymbolDatabase.GetPrototype")
# Published recordings, never copied here: one folder above the repository.
REAL = Path(__file__).parents[1].parent / "shared" / "data" / "video" / "test_video.mp4"
HEIGHT, WIDTH = 48, 64


class Landmark:
    def __init__(self, x, y, visibility=0.0):
        self.x, self.y, self.visibility = x, y, visibility


class Landmarks:
    def __init__(self, landmark):
        self.landmark = landmark


def test_without_the_package_a_line_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(UserError, match=r"needs the package mediapipe \(pip install mediapipe==0.10.14, Python 3.9 to"):
        open_estimator()


@pytest.fixture(scope="module")
def library():
    pytest.importorskip("mediapipe", reason="needs mediapipe, of the extra `video`")
    return estimator_library()


@pytest.fixture(scope="module")
def see(library):
    see = open_estimator()
    yield see
    see.close()


class Found:
    """What a graph returns: nobody, save what is given."""

    pose_landmarks = left_hand_landmarks = right_hand_landmarks = face_landmarks = None

    def __init__(self, **given):
        vars(self).update(given)

    def process(self, picture):
        return self


def joints_of(see, monkeypatch, **found):
    monkeypatch.setattr(see, "graph", Found(**found))
    monkeypatch.setattr(see, "stale", False)
    return see(np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def test_points_become_pixels_and_scores(see, monkeypatch):
    body = [Landmark(0.5, 0.25, 0.75) for _ in range(33)]
    body[11] = Landmark(0.25, 0.5, 0.5)  # the signer's left shoulder
    body[13] = Landmark(0.5, 1.01, 0.9)  # the left elbow, below the picture
    hand = [Landmark(0.5, 0.5) for _ in range(21)]
    hand[8] = Landmark(0.75, 0.5)  # the tip of the index finger
    joints = joints_of(see, monkeypatch, pose_landmarks=Landmarks(body), right_hand_landmarks=Landmarks(hand))
    assert joints.shape == (133, 3) and joints.dtype == np.float32
    assert joints[0].tolist() == [32, 12, 0.75] and joints[5].tolist() == [16, 24, 0.5]
    assert joints[7].tolist() == [0, 0, 0], "outside of the picture"
    assert joints[112 + 8].tolist() == [48, 24, 1]
    assert not joints[91:112].any() and not joints[23:91].any(), "no left hand, no face"
    assert joints[[18, 21]].tolist() == [[0, 0, 0]] * 2, "Holistic has no small toe"


def test_nobody_is_nobody(see, monkeypatch):
    assert not joints_of(see, monkeypatch).any()


def test_a_mesh_with_irises_has_the_same_points_first(see, monkeypatch):
    mesh = [Landmark(number / 512, 0.5) for number in range(478)]
    joints = joints_of(see, monkeypatch, face_landmarks=Landmarks(mesh))
    assert joints[23].tolist() == [WIDTH * 127 / 512, 24, 1]


@pytest.mark.parametrize(("complexity", "says"), [(0, "pose_landmark_lite.*downloads.*--models"), (3, "0, 1 or")])
def test_a_model_that_is_not_there_is_named(library, complexity, says):
    with pytest.raises(UserError, match=says):
        open_estimator(complexity=complexity)


def test_a_folder_without_the_model_is_named(library, tmp_path):
    with pytest.raises(UserError, match=r"--models .* has no pose_landmark_heavy.tflite"):
        open_estimator(complexity=2, models=tmp_path)


@pytest.fixture(scope="module")
def clip():
    if not REAL.is_file():
        pytest.skip("the recorded video is not on this machine")
    return [picture.pixels for _, picture in zip(range(8), pictures(REAL))]


def test_after_a_reset_it_sees_what_a_fresh_one_sees(see, clip, capfd, tmp_path, library):
    see.reset()
    first = np.stack([see(picture) for picture in clip])
    see.reset()
    assert np.array_equal(np.stack([see(picture) for picture in clip]), first)
    assert (first[:, 0, 2] > 0.9).all() and not first[:, 91:112].any()
    shutil.copy(library.root / "mediapipe/modules/pose_landmark/pose_landmark_full.tflite", tmp_path)
    (tmp_path / "pose_landmark_full.tflite").rename(tmp_path / "pose_landmark_heavy.tflite")
    other = open_estimator(complexity=2, models=tmp_path)
    assert np.array_equal(np.stack([other(picture) for picture in clip]), first), "the model of --models"
    other.close()
    assert capfd.readouterr() == ("", "")
