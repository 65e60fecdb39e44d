"""What estimators write, to clips and back: each joint in its place, time kept, and what is lost is said."""

import json
import pickle

import numpy as np
import pytest

from clips import moving_clip
from data_sets import data_config, note, whole_clip, with_size, write_csl
from estimate_files import KEYS, T, clip_of, go, numbered, points75, reason, somebody, write_frames, write_pickle
from signstream.data.conversion import open_source
from signstream.data.holistic import BODY_POINTS
from signstream.data.openpose import BODIES, PARTNERS
from signstream.skeleton import COCO_WHOLEBODY, FACE, LEFT_HAND, NUM_JOINTS, RIGHT_HAND

# OpenPose's numbers, as its documentation has them, of COCO-WholeBody's body and feet in their order.
BODY_25 = [0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11, 19, 20, 21, 22, 23, 24]
COCO_18 = [0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10]


# -- there and back


@pytest.mark.parametrize("through", ["openpose", "rtmpose"])
def test_there_and_back_nothing_is_lost(tmp_path, through):
    a, b = with_size(whole_clip(12, 1), (640, 480)), moving_clip(9, 2) * np.float32([-1.1, 0.37, 1])
    a[3, 5], a[4, 6, 2], a[5, 7, 0], a[0], b[2:4, 100:] = 0, 0, np.nan, 0, 0
    a[:, 0] = 640, 480, 1
    notes = {"a": note(a, fps=23.976, segments=[[0, 4, "HELLO"], [4, 12, "YOU"]]), "b": note(b, text="x", signer=None)}
    csl = write_csl(tmp_path / "csl", {"a": a, "b": b}, {"train": ["a", "b"], "val": ["b"]}, notes)
    assert go("csl_daily", through, csl, tmp_path / "there") == 0
    assert go(through, "csl_daily", tmp_path / "there", tmp_path / "back") == 0
    for name, split in (("a", "train"), ("b", "train"), ("b", "val")):
        before = clip_of(csl, "csl_daily", name, split)
        for root, layout in ((tmp_path / "there", through), (tmp_path / "back", "csl_daily")):
            clip = clip_of(root, layout, name, split)
            there = np.isfinite(before.poses).all(-1, keepdims=True) | (through == "rtmpose")
            assert np.array_equal(clip.poses, np.where(there, before.poses, 0), equal_nan=True)
            for field in ("fps", "size", "text", "gloss", "signer", "segments"):
                assert getattr(clip, field) == getattr(before, field), (name, field)


def test_a_name_too_long_for_a_frames_file_is_a_reason(tmp_path, capsys):
    clips = {"x" * 230: whole_clip(2), "b": whole_clip(2)}
    assert go("csl_daily", "openpose", write_csl(tmp_path / "csl", clips), tmp_path / "out") == 1
    assert ": the name is too long" in capsys.readouterr().err


# -- OpenPose


@pytest.mark.parametrize(("body", "numbers"), [(25, BODY_25), (18, COCO_18)])
def test_openposes_points_are_the_joints_of_their_names(tmp_path, capsys, body, numbers):
    write_frames(tmp_path / "in" / "a", {number: [somebody(body)] for number in range(T)})
    assert go("openpose", "npz", tmp_path / "in", tmp_path / "out") == 0
    poses = clip_of(tmp_path / "out", "npz").poses
    points = np.array(numbered(0, body + 112)).reshape(-1, 3)
    face = range(body, body + 68)
    expected = np.zeros((NUM_JOINTS, 3))
    expected[[*range(len(numbers)), *range(FACE, NUM_JOINTS)]] = points[
        [*numbers, *face, *range(body + 70, body + 112)]
    ]
    assert np.array_equal(poses, np.tile(expected.astype(np.float32), (T, 1, 1)))
    printed = capsys.readouterr().out
    assert f"1  lost: {'mid_hip, ' * (body == 25)}neck, pupils" in printed and printed.count("lost") == 1
    assert ("1  without a point for BODY left_big_toe" in printed) == (body == 18)


def test_what_is_written_has_the_neck_between_the_shoulders(tmp_path):
    poses = whole_clip(2)
    poses[1, 11] = 0
    assert go("csl_daily", "openpose", write_csl(tmp_path / "csl", {"a": poses}), tmp_path / "out") == 0
    for number, pose in enumerate(poses):
        frame = json.loads((tmp_path / f"out/train/a/a_{number:012d}_keypoints.json").read_text())
        (person,) = frame["people"]
        assert [len(person[key]) for key in KEYS] == [75, 210, 63, 63]
        body = np.array(person[KEYS[0]]).reshape(25, 3)
        assert np.array_equal(body[BODY_25], pose[: len(BODY_POINTS)])
        assert np.array_equal(body[1], pose[5:7].mean(0))
        assert np.array_equal(body[8], np.zeros(3) if number else pose[11:13].mean(0))


def test_a_frame_that_is_not_there_is_one_in_which_nobody_is_seen(tmp_path):
    write_frames(tmp_path / "in" / "a", {7: [somebody()], 9: [], 10: [somebody()]})
    seen = clip_of(tmp_path / "in", "openpose").poses.any((1, 2))
    assert seen.tolist() == [True, False, False, True]


def test_what_was_not_looked_for_is_told(tmp_path, capsys):
    """Without --face and --hand OpenPose writes empty lists."""
    bare = somebody() | {key: [] for key in KEYS[1:3]}
    del bare[KEYS[3]]
    write_frames(tmp_path / "in" / "val" / "a", {number: [bare] for number in range(T)})
    assert go("openpose", "csl_daily", tmp_path / "in", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "without a point for FACE (68 of 68); LEFT_HAND (21 of 21); RIGHT_HAND (21 of 21): score 0" in printed
    assert (
        "1  lost: mid_hip, neck\n" in printed
        and not clip_of(tmp_path / "out", "csl_daily", "a", "val").poses[:, FACE:].any()
    )


def test_of_several_people_one_is_taken_and_the_loss_of_the_others_said(tmp_path, capsys):
    small = {
        key: (np.array(value).reshape(-1, 3) * (0.3, 0.3, 0.9)).ravel().tolist() for key, value in somebody().items()
    }
    frames = {number: [somebody(), small][:: -1 if number % 2 else 1] for number in range(T)}
    write_frames(tmp_path / "in" / "a", frames)
    write_frames(tmp_path / "in" / "b", {number: [somebody()] for number in range(T)})
    assert go("openpose", "npz", tmp_path / "in", tmp_path / "out") == 0
    assert np.array_equal(*(clip_of(tmp_path / "out", "npz", name).poses for name in "ab"))
    assert "1  lost: other people" in capsys.readouterr().out


# -- RTMPose


@pytest.mark.parametrize("form", ["list", "one array", "nobody's axis", "float32"])
def test_uni_signs_shares_become_pixels(tmp_path, form):
    poses = moving_clip(T)
    write_pickle(tmp_path / "a.pkl", poses[:, None], (512, 384))
    table = pickle.loads((tmp_path / "a.pkl").read_bytes())
    if form == "one array":
        table = {key: np.array(frames) for key, frames in table.items()}
    if form == "nobody's axis":
        table = {key: [frame[0] for frame in frames] for key, frames in table.items()}
    if form == "float32":
        table = {key: [frame.astype(np.float32) for frame in frames] for key, frames in table.items()}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(table))
    assert reason(tmp_path, "rtmpose").startswith("in shares of a picture whose size is not known: give --size W H")
    clip = clip_of(tmp_path, "rtmpose", size=[512, 384])
    assert clip.size == (512, 384) and clip.fps is None
    assert np.allclose(clip.poses, poses, rtol=3e-7, atol=0) if form == "float32" else np.array_equal(clip.poses, poses)
    (tmp_path / "annotations.json").write_text('{"a": {"size": [1024, 768], "fps": 25, "text": "hello"}}')
    clip = clip_of(tmp_path, "rtmpose", size=[512, 384])
    assert (clip.size, clip.fps, clip.text) == ((1024, 768), 25, "hello")
    assert np.allclose(clip.poses[..., :2], poses[..., :2] * 2, rtol=3e-7)


def test_shares_stay_shares_though_some_joints_are_far_away(tmp_path):
    poses = moving_clip(T)
    poses[:, 13:FACE, :2] += 3000
    write_pickle(tmp_path / "a.pkl", poses[:, None], (512, 384))
    assert np.array_equal(clip_of(tmp_path, "rtmpose", size=[512, 384]).poses, poses)


def test_pixels_stay_pixels_whatever_is_said_of_the_size(tmp_path):
    poses = moving_clip(T)
    poses[2:, 5:9] = np.nan, 1e30, 0.9
    poses[1, 3] = -0.5, 0.25, 0.9
    write_pickle(tmp_path / "a.pkl", poses[:, None])
    for size in (None, [640, 480]):
        assert np.array_equal(clip_of(tmp_path, "rtmpose", size=size).poses, poses, equal_nan=True)


def test_of_rtmposes_people_one_is_taken(tmp_path):
    signer, other = moving_clip(T, 1), moving_clip(T, 2, unit=8, nose=(600, 100))
    frames = [np.stack((signer, other), 1)[frame, :: -1 if frame % 2 else 1] for frame in range(T)]
    frames[3] = frames[3][:0]
    table = {"keypoints": [frame[..., :2] for frame in frames], "scores": [frame[..., 2] for frame in frames]}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(table))
    signer[3] = 0
    assert np.array_equal(clip_of(tmp_path, "rtmpose").poses, signer)


# -- MediaPipe's 75


def test_mediapipes_75_are_the_joints_of_their_names(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    points = points75(0.9)
    points[:, 33:, 2], points[:, 27, 2], points[2, 33:54] = 0, 0.1, 0
    np.save(tmp_path / "in" / "a.npy", points)
    assert reason(tmp_path / "in", "mediapipe75").startswith("in shares of a picture whose size is not known")
    assert go("mediapipe75", "csl_daily", tmp_path / "in", tmp_path / "out", "--size", "1000", "400") == 0
    clip = clip_of(tmp_path / "out", "csl_daily")
    expected = {9: 15, 10: 16, 5: 11, 11: 23, 15: 27, 17: 31, LEFT_HAND + 8: 41, RIGHT_HAND: 54, NUM_JOINTS - 1: 74}
    for joint, k in expected.items():
        score = {27: 0.1}.get(k, 0.9 if k < 33 else 1)
        assert np.allclose(clip.poses[0, joint], (10 * k, 2 * k, score)), joint
    assert clip.size == (1000, 400) and not clip.poses[2, LEFT_HAND:RIGHT_HAND].any()
    assert (clip.poses[0, :, 2] > 0).sum() == 69 - 1  # the nose is at 0, 0
    printed = capsys.readouterr().out
    assert "1  without a point for BODY left_small_toe, right_small_toe; FACE (62 of 68): score 0" in printed
    assert "1  lost: the body's own guesses of knuckles (6 of 75 points)\n" in printed


@pytest.mark.parametrize("depth", [-0.2, 1.5])
def test_depth_is_no_score_and_outside_of_the_picture_nothing_is_seen(tmp_path, capsys, depth):
    (tmp_path / "in").mkdir()
    points = points75(depth) + np.array([0.001, 0, 0])
    points[:, 33:, 2] = 0.4
    points[:, 25:33, 1] = 1.2
    np.save(tmp_path / "in" / "a.npy", points * (640, 480, 1))
    poses = clip_of(tmp_path / "in", "mediapipe75").poses
    assert set(poses[..., 2].ravel()) == {0, 1} and poses[0, 13, 2] == 1  # in pixels: no size is needed
    poses = clip_of(tmp_path / "in", "mediapipe75", size=[640, 480]).poses
    assert not poses[:, 13:FACE].any() and (poses[:, LEFT_HAND:, 2] == 1).all()
    go("mediapipe75", "npz", tmp_path / "in", tmp_path / "out")
    assert "1  lost: depth, and the body's own guesses" in capsys.readouterr().out


# -- all three


def test_left_maps_to_left():
    """The mirror image of a joint's name is the name of the joint's mirror image."""
    for count, names in BODIES.items():
        named = {joint: names[point] for point, joint in zip(*PARTNERS[count])}
        for joint, name in named.items():
            other = name.replace("left", "\0").replace("right", "left").replace("\0", "right")
            assert named[COCO_WHOLEBODY.flip[joint]] == other


def test_splits_are_folders_or_a_list_and_else_all_is_train(tmp_path):
    for layout, name in (("rtmpose", "a.pkl"), ("openpose", "a"), ("mediapipe75", "a.npy")):
        root = tmp_path / layout
        for folder in ("flat", "flat/.git", "folders/test", "folders/more", "folders/.cache"):
            folder = root / folder
            folder.mkdir(parents=True)
            (folder / name).mkdir() if layout == "openpose" else (folder / name).write_bytes(b"")
        assert open_source(layout, data_config(root / "flat")).splits() == {"train": ["a"]}
        assert open_source(layout, data_config(root / "folders")).splits() == {"test": ["a"], "more": ["a"]}
        (tmp_path / "list.json").write_text('{"val": ["a"]}')
        source = open_source(layout, data_config(root / "flat", split_file=str(tmp_path / "list.json")))
        assert source.splits() == {"val": ["a"]} and source.path("val", "a") == root / "flat" / name
        (tmp_path / "nothing").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match=r"has no <name>.*, nor train/, val/, test/ with such in them"):
            open_source(layout, data_config(tmp_path / "nothing"))


def test_a_size_that_is_none_or_not_asked_for_is_one_line(tmp_path):
    write_csl(tmp_path / "csl", {"a": whole_clip(2)})
    with pytest.raises(ValueError, match="--size: only openpose, rtmpose, mediapipe75 do not know"):
        go("csl_daily", "npz", tmp_path / "csl", tmp_path / "out", "--size", "640", "480")
    for size in ("0", "-5", "nan", "inf", "1e9"):
        with pytest.raises(ValueError, match=r"--size .*: a width and a height in pixels are expected"):
            go("rtmpose", "npz", tmp_path / "csl", tmp_path / "out", "--size", "640", size)
    with pytest.raises(ValueError, match=r"data\.num_joints is 75"):
        go("csl_daily", "rtmpose", tmp_path / "csl", tmp_path / "out", "data.num_joints=75")
