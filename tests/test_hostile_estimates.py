"""Estimators' files that may be anything: each is a clip or a reason, quickly, and nothing in them is run."""

import pickle
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from clips import moving_clip
from estimate_files import KEYS, T, clip_of, points75, reason, somebody, write_frames, write_pickle
from signstream.errors import UserError
from signstream.io.pickles import Pickled
from signstream.skeleton import NUM_JOINTS

JUNK = {
    "not JSON that can be read": ["{", "", "\x00\xff", "[" * 100_000, '{"people": [' + "9" * 5000 + "]}"],
    "no list of `people`": ["[]", "7", "null", "{}", '{"people": {}}', '{"people": [3]}', '{"people": "abc"}'],
    "pose_keypoints_2d: a list of x, y": [
        [{KEYS[0]: value}] for value in (3, "abc", {}, [1, 2], ["1"] * 75, [True] * 75, [None] * 75, [[1] * 3] * 25)
    ],
    "pose_keypoints_2d: 24 points, 25": [[{KEYS[0]: [1] * 72}]],
    "face_keypoints_2d: 71 points, 70": [[{KEYS[1]: [1] * 213}]],
    "pose_keypoints_2d: a number that is too large": [[{KEYS[0]: [10**400, 1, 1]}]],
    "empty file": [""],
    "too large: ": [[{}] * 501, " " * (1 << 20) + "{}"],
}


def test_a_frame_that_is_none_is_the_clips_reason(tmp_path):
    for expected, contents in JUNK.items():
        for content in contents:
            if content == "" and expected != "empty file":
                continue
            write_frames(tmp_path / "a", {0: [somebody()], 1: content})
            said = reason(tmp_path, "openpose")
            assert said.startswith(expected) and said.endswith("(frame 1)"), (content, said)


def test_a_folder_that_is_no_clip_is_its_reason(tmp_path):
    for name in ("empty", "other", "twice", "far", "nan", "nobody"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "x.json").write_text("{}")
    write_frames(tmp_path / "twice", {0: [somebody()]}, "x")
    write_frames(tmp_path / "twice", {0: [somebody()]}, "y")
    write_frames(tmp_path / "far", {0: [somebody()], 10**11: [somebody()]})
    write_frames(tmp_path / "nan", {0: [{KEYS[0]: [float("nan"), float("inf"), 1e300] * 25}]})
    write_frames(tmp_path / "nobody", {0: []})
    (tmp_path / "splits.json").write_text("{}")
    expected = {"empty": "empty folder: no", "other": "empty folder: no", "gone": "missing folder"}
    for name, said in (expected | {"splits.json": "not a folder"}).items():
        assert reason(tmp_path, "openpose", name).startswith(said)
    assert reason(tmp_path, "openpose", "twice") == "two files of one frame (number 0)"
    assert reason(tmp_path, "openpose", "far").startswith("too long: frames 0 to 100000000000")
    assert reason(tmp_path, "openpose", "nan") == "no visible joint"
    assert reason(tmp_path, "openpose", "nobody") == "no visible joint"


class Harm:
    def __reduce__(self):
        return (Path.write_text, (Path("/nowhere"), "harm"))


def test_a_pickle_that_is_none_is_a_reason_and_runs_nothing(tmp_path):
    places, scores = np.full((T, 1, NUM_JOINTS, 2), 50.0), np.ones((T, 1, NUM_JOINTS))
    table = "no table of `keypoints` and `scores`"
    tables = [
        ([places, scores], table),
        ({"keypoints": places}, table),
        (3, table),
        ({"keypoints": places, "scores": scores[1:]}, "`keypoints` and `scores` of other frames or people"),
        ({"keypoints": places[..., :1], "scores": scores}, "`keypoints`: a frame of shape [1, 133, 1]"),
        ({"keypoints": [places[:, :, :9]], "scores": scores}, "`keypoints`: a frame of shape [6, 1, 9, 2]"),
        ({"keypoints": places.tolist(), "scores": scores}, "`keypoints`: arrays of numbers are expected"),
        ({"keypoints": 3, "scores": scores}, "`keypoints`: arrays of numbers are expected"),
        ({"keypoints": np.float64(3), "scores": scores}, "`keypoints`: arrays of numbers are expected"),
        ({"keypoints": np.array(3.0), "scores": scores}, "`keypoints`: a frame of shape []"),
        ({"keypoints": [], "scores": []}, "no frame"),
        ({"keypoints": places[:0], "scores": scores[:0]}, "no frame"),
        ({"keypoints": places[:, :0], "scores": scores[:, :0]}, "no visible joint"),
        ({"keypoints": places * np.nan, "scores": scores}, "not finite"),
        ({"keypoints": np.sin(np.arange(places.size)).reshape(places.shape), "scores": scores}, "places from -1 to 1"),
        ({"keypoints": Harm(), "scores": scores}, "something else than plain values"),
    ]  # fmt: skip
    for value, expected in tables:
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
        assert reason(tmp_path, "rtmpose").startswith(expected), expected
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"keypoints": places, "scores": scores})[:-900])
    assert reason(tmp_path, "rtmpose").startswith(("truncated", "not a pickle"))


def test_too_many_people_are_refused_before_one_is_read(tmp_path, monkeypatch):
    table = {"keypoints": [np.ones((9, NUM_JOINTS, 2))] * 20_000, "scores": [np.ones((9, NUM_JOINTS))] * 20_000}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(table))
    monkeypatch.setattr(Pickled, "array", None)
    assert reason(tmp_path, "rtmpose").startswith("too large: 180000 poses")


def test_an_array_that_is_none_is_a_reason(tmp_path):
    arrays = {
        "shape [6, 74, 3]": points75(1)[:, :74],
        "shape [75, 3]": points75(1)[0],
        "no frame": points75(1)[:0],
        "no visible joint": points75(1) * 0,
        "pickle inside": np.array([{}], object),
        "type <U1": np.array("x"),
    }
    for expected, array in arrays.items():
        np.save(tmp_path / "a.npy", array)
        assert reason(tmp_path, "mediapipe75").startswith(expected)
    np.save(tmp_path / "a.npy", np.tile([np.nan, np.inf, -1e300], (T, 75, 1)))
    assert reason(tmp_path, "mediapipe75") == "no visible joint"


@pytest.mark.parametrize("layout", ["openpose", "rtmpose", "mediapipe75"])
def test_whatever_is_in_a_file_a_clip_or_a_reason_comes_out(tmp_path, layout):
    write_frames(tmp_path / "a", {0: [somebody()]})
    write_pickle(tmp_path / "a.pkl", moving_clip(2)[:, None])
    np.save(tmp_path / "a.npy", points75(1))
    file = {"openpose": "a/video_000000000000_keypoints.json", "rtmpose": "a.pkl", "mediapipe75": "a.npy"}[layout]
    path, rng = tmp_path / file, np.random.default_rng(5)
    whole = path.read_bytes()
    for _ in range(60):
        content = bytearray(whole)
        for at in rng.integers(0, min(len(content), 800), 3):
            content[at] = rng.integers(0, 256)
        path.write_bytes(content[: rng.integers(0, 2 * len(content))])
        with suppress(UserError):
            assert clip_of(tmp_path, layout, size=[640, 480]).poses.shape[1:] == (NUM_JOINTS, 3)


@pytest.mark.parametrize("layout", ["openpose", "rtmpose", "mediapipe75"])
def test_a_link_that_leads_out_is_not_followed(tmp_path, layout):
    file = {"openpose": "a/video_0_keypoints.json", "rtmpose": "a.pkl", "mediapipe75": "a.npy"}[layout]
    path = tmp_path / "root" / file
    path.parent.mkdir(parents=True)
    (tmp_path / "theirs").write_text("sesame")
    path.symlink_to(tmp_path / "theirs")
    assert reason(tmp_path / "root", layout).startswith("a link that leads out of")
    path.unlink()
    (tmp_path / "root" / "annotations.json").symlink_to(tmp_path / "theirs")
    path.write_text("sesame")
    assert "a link that leads out of" in reason(tmp_path / "root", layout)
    (tmp_path / "root" / "annotations.json").unlink()
    assert "sesame" not in reason(tmp_path / "root", layout)
