"""Converting between layouts: nothing is lost that the target can hold, left stays left, and what is
left out is named and counted."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_sets import GOOD, data_config, note, whole_clip, with_size, write_csl, write_npz
from holistic_points import HAND_LANDMARKS, HOLISTIC_COMPONENTS, MESH_MIDDLE, MESH_PAIRS
from signstream.cli import run
from signstream.data import conversion, convert
from signstream.data.conversion import open_source
from signstream.data.datasets import Clip, load_checked
from signstream.data.holistic import COCO, COCO_COMPONENTS, FACE_MESH, HOLISTIC, describe
from signstream.skeleton import COCO_WHOLEBODY, FACE, LEFT_HAND, NUM_JOINTS, RIGHT_HAND

NOTES = {
    "a": note(GOOD["a"], fps=23.976, segments=[[0, 4, "HELLO"], [4, 12, "YOU"]]),
    "b": note(GOOD["b"], fps=30, text="half \ud800", signer=None),
}


def needs_library():
    return pytest.importorskip("pose_format", reason="pose-format is not installed")


def clips_of(root: Path, layout: str, **options: object) -> dict[tuple[str, str], Clip]:
    """{(split, name): clip} of a root, as the converter reads it."""
    source = open_source(layout, data_config(root, **options))
    return {
        (split, name): load_checked(source, split, name) for split, names in source.splits().items() for name in names
    }


def assert_same_clips(read: dict, expected: dict) -> None:
    assert read.keys() == expected.keys()
    for key, clip in expected.items():
        other = read[key]
        assert np.array_equal(other.poses, clip.poses, equal_nan=True) and other.poses.dtype == np.float32, key
        for field in ("name", "fps", "size", "text", "gloss", "signer", "segments"):
            assert getattr(other, field) == getattr(clip, field), (key, field)


def go(origin: str, target: str, root: Path, out: Path, *options: str) -> int:
    return convert.main(["--from", origin, "--to", target, "--root", str(root), "--out", str(out), *options])


def write_pose_file(
    path: Path,
    points: dict[str, list[str]],
    data: np.ndarray,
    confidence: np.ndarray,
    fps: float = 25,
    form: str = "XYZC",
    size: tuple[int, int] = (640, 480),
) -> None:
    """A file as pose-format writes it. data [T, people, points, 3], confidence [T, people, points]."""
    needs_library()
    from pose_format import Pose, PoseHeader
    from pose_format.numpy import NumPyPoseBody
    from pose_format.pose_header import PoseHeaderComponent, PoseHeaderDimensions

    components = [PoseHeaderComponent(name, names, [], [], form) for name, names in points.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        Pose(
            PoseHeader(0.2, PoseHeaderDimensions(*size), components),
            NumPyPoseBody(fps, data.astype(np.float32), confidence),
        ).write(file)


def holistic_file(
    path: Path, points: dict[str, list[str]] = HOLISTIC_COMPONENTS, frames: int = 4
) -> dict[tuple[str, str], int]:
    """A file whose point number k stands at (10 + k, 2000 - k), with its confidence 0.9;
    where each point stands in it."""
    flat = [(name, point) for name, names in points.items() for point in names]
    numbers = np.stack([10 + np.arange(len(flat)), 2000 - np.arange(len(flat)), np.full(len(flat), 7)], -1)
    write_pose_file(path, points, np.tile(numbers, (frames, 1, 1, 1)), np.full((frames, 1, len(flat)), 0.9))
    return {point: k for k, point in enumerate(flat)}


@pytest.fixture
def csl(tmp_path) -> Path:
    """Two clips, one with a size, unseen joints of all kinds; b is in two splits."""
    a, b = with_size(whole_clip(12, 1), (640, 480)), whole_clip(9, 2)
    a[3, 5], a[4, 6, 2], a[5, 7, 0], b[2:4, 100:] = 0, 0, np.nan, 0
    b[1, :, 2] = np.random.default_rng(0).uniform(0, 1, NUM_JOINTS)
    return write_csl(tmp_path / "csl", {"a": a, "b": b}, {"train": ["a", "b"], "val": ["b"], "test": []}, NOTES)


@pytest.mark.parametrize("through", ["npz", "pose", "csl_daily"])
def test_there_and_back_nothing_is_lost(csl, tmp_path, through):
    if through == "pose":
        needs_library()
    before = clips_of(csl, "csl_daily")
    assert go("csl_daily", through, csl, tmp_path / "there") == 0
    assert_same_clips(clips_of(tmp_path / "there", through), before)
    assert go(through, "csl_daily", tmp_path / "there", tmp_path / "back") == 0
    assert_same_clips(clips_of(tmp_path / "back", "csl_daily"), before)
    assert json.loads((tmp_path / "back" / "split_files.json").read_text()) == {
        "train": ["a", "b"],
        "val": ["b"],
        "test": [],
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "csl", "there"]


def test_a_pose_file_of_ours_is_one_that_the_library_knows(csl, tmp_path):
    needs_library()
    from pose_format import Pose

    assert go("csl_daily", "pose", csl, tmp_path / "out") == 0
    pose = Pose.read((tmp_path / "out" / "train" / "a.pose").read_bytes())
    clip = clips_of(csl, "csl_daily")["train", "a"]
    dimensions = pose.header.dimensions
    assert (dimensions.width, dimensions.height, pose.body.fps) == (640, 480, np.float32(23.976))
    assert np.array_equal(pose.body.data.data[:, 0], clip.poses[..., :2], equal_nan=True)
    assert np.array_equal(pose.body.confidence[:, 0], clip.poses[..., 2])
    assert [(component.name, point) for component in pose.header.components for point in component.points] == list(COCO)
    library_components = pytest.importorskip("pose_format.utils.cocowholebody133_header").cocowholebody_components()
    assert [(component.name, point) for component in library_components for point in component.points] == list(COCO)
    offsets = dict(zip(("BODY", "FACE", "LEFT_HAND", "RIGHT_HAND"), (0, FACE, LEFT_HAND, RIGHT_HAND)))
    limbs = {
        (a + offsets[component.name], b + offsets[component.name])
        for component in pose.header.components
        for a, b in component.limbs
    }
    assert set(COCO_WHOLEBODY.bones) - limbs == {(9, LEFT_HAND), (10, RIGHT_HAND)} and limbs < set(COCO_WHOLEBODY.bones)


def test_without_annotations_a_files_own_rate_and_size_are_kept(csl, tmp_path):
    needs_library()
    go("csl_daily", "pose", csl, tmp_path / "out")
    (tmp_path / "out" / "annotations.json").unlink()
    a, b = (clips_of(tmp_path / "out", "pose")["train", name] for name in "ab")
    assert (a.fps, a.size, b.fps, b.size, a.text) == (23.976, (640, 480), 30, None, "")


def test_a_mask_and_poses_without_scores_become_what_they_mean(tmp_path):
    mask = np.array([1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1])
    arrays = {"masked": {"poses": GOOD["a"], "mask": mask, "fps": np.array(25)}, "plain": {"poses": GOOD["b"][..., :2]}}
    assert go("npz", "csl_daily", write_npz(tmp_path / "npz", arrays), tmp_path / "out") == 0
    read = clips_of(tmp_path / "out", "csl_daily")
    assert np.array_equal(read["train", "masked"].poses, GOOD["a"] * (mask[:, None, None] == 1))
    assert np.array_equal(read["train", "plain"].poses, GOOD["b"])
    assert (read["train", "masked"].fps, read["train", "plain"].fps) == (25, None)


def test_left_maps_to_left():
    """The mirror image of a joint's point is the point of the joint's mirror image, written down for
    the two skeletons apart."""
    mesh = {a: b for pair in MESH_PAIRS for a, b in (pair, pair[::-1])} | {vertex: vertex for vertex in MESH_MIDDLE}

    def mirror(point: tuple[str, str] | None) -> tuple[str, str] | None:
        if point is None or point[0] == "FACE_LANDMARKS":
            return point and (point[0], str(mesh[int(point[1])]))
        return tuple(word.replace("LEFT", "\0").replace("RIGHT", "LEFT").replace("\0", "RIGHT") for word in point)

    assert len(HOLISTIC) == len(COCO) == NUM_JOINTS and sorted(FACE_MESH) == sorted(mesh)
    for joint, image in enumerate(COCO_WHOLEBODY.flip):
        assert mirror(HOLISTIC[joint]) == HOLISTIC[image], COCO[joint]
    named = dict(zip(COCO, HOLISTIC))
    assert (
        named["BODY", "left_wrist"] == ("POSE_LANDMARKS", "LEFT_WRIST")
        and named["RIGHT_HAND", "hand_8"][1] == "INDEX_FINGER_TIP"
    )
    right_of_the_middle = {str(vertex) for vertex, _ in MESH_PAIRS}
    right = {
        joint
        for joint in range(68)
        if joint < 8 or joint in (*range(17, 22), 31, 32, *range(36, 42), 48, 49, 50, 58, 59, 60, 61, 67)
    }
    assert {joint for joint in range(68) if HOLISTIC[FACE + joint][1] in right_of_the_middle} == right


def test_a_holistic_file_maps_by_name(tmp_path, capsys):
    column = holistic_file(tmp_path / "in" / "train" / "x.pose")
    holistic_file(
        tmp_path / "in" / "val" / "y.pose", HOLISTIC_COMPONENTS | {"FACE_LANDMARKS": [str(i) for i in range(478)]}
    )
    assert go("pose", "csl_daily", tmp_path / "in", tmp_path / "out") == 0
    clip = clips_of(tmp_path / "out", "csl_daily")["train", "x"]
    assert clip.poses.shape == (4, NUM_JOINTS, 3) and (clip.fps, clip.size) == (25, (640, 480))
    for joint, point in enumerate(HOLISTIC):
        expected = (0, 0, 0) if point is None else (10 + column[point], 2000 - column[point], np.float32(0.9))
        assert np.array_equal(clip.poses[:, joint], np.tile(np.float32(expected), (4, 1))), COCO[joint]
    assert [point for joint, point in enumerate(COCO) if not clip.poses[0, joint, 2]] == [
        ("BODY", "left_small_toe"),
        ("BODY", "right_small_toe"),
    ]
    printed = capsys.readouterr().out
    assert "2  converted: train 1, val 1; 8 frames" in printed.replace(", test 0", "")
    assert "2  without a point for BODY left_small_toe, right_small_toe: score 0" in printed


def test_of_a_reduced_file_what_is_there_is_used_and_the_rest_is_told(tmp_path, capsys):
    lips = [str(vertex) for vertex in FACE_MESH[48:]]
    holistic_file(
        tmp_path / "in" / "train" / "x.pose",
        {"FACE_LANDMARKS": lips, "RIGHT_HAND_LANDMARKS": HAND_LANDMARKS.split()[::-1]},
    )
    assert go("pose", "npz", tmp_path / "in", tmp_path / "out") == 0
    poses = clips_of(tmp_path / "out", "npz")["train", "x"].poses
    assert np.flatnonzero(poses[0, :, 2]).tolist() == [*range(FACE + 48, LEFT_HAND), *range(RIGHT_HAND, NUM_JOINTS)]
    assert poses[0, FACE + 48 :, 0].tolist() == [*range(10, 30), *[0] * 21, *range(50, 29, -1)]
    assert (
        "1  without a point for BODY (23 of 23); FACE (48 of 68); LEFT_HAND (21 of 21): score 0"
        in capsys.readouterr().out
    )


def test_masked_points_score_nothing(tmp_path):
    confidence = np.full((3, 1, NUM_JOINTS), 0.8)
    confidence[1, 0, :50] = 0
    points = {f"{name}_133": list(names) for name, names in COCO_COMPONENTS.items()}  # AlphaPose's names
    write_pose_file(
        tmp_path / "in" / "train" / "x.pose", points, np.full((3, 1, NUM_JOINTS, 2), 5.0), confidence, form="XYC"
    )
    assert go("pose", "npz", tmp_path / "in", tmp_path / "out") == 0
    assert np.array_equal(clips_of(tmp_path / "out", "npz")["train", "x"].poses[..., 2], np.float32(confidence[:, 0]))


BROKEN = {
    "cut": (lambda whole: whole[:-7], "not a whole .pose file (36864 bytes are promised, 36857 are there)"),
    "header only": (lambda whole: whole[:400], "not a whole .pose file ("),
    "text": (lambda whole: b"these are not the poses", "not a whole .pose file ("),
    "empty": (lambda whole: b"", "empty file"),
}


def test_what_cannot_be_read_is_named_and_counted_and_the_rest_goes_on(tmp_path, capsys):
    root = tmp_path / "in"
    holistic_file(root / "train" / "good.pose")
    whole = (root / "train" / "good.pose").read_bytes()
    for name, (spoil, _) in BROKEN.items():
        (root / "train" / f"{name}.pose").write_bytes(spoil(whole))
    two = np.ones((2, 2, NUM_JOINTS, 2))
    points = {"BODY": [point for _, point in COCO]}
    write_pose_file(root / "train" / "two.pose", points, two, two[..., 0], form="XYC")
    write_pose_file(root / "train" / "nobody.pose", points, two[:, :0], two[:, :0, :, 0], form="XYC")
    write_pose_file(
        root / "train" / "other.pose", {"SPINE": ["c7"]}, np.ones((2, 1, 1, 2)), np.ones((2, 1, 1)), form="XYC"
    )
    write_pose_file(
        root / "train" / "depth.pose", {"BODY": ["nose"]}, np.ones((2, 1, 1, 2)), np.ones((2, 1, 1)), form="ZXC"
    )
    write_pose_file(
        root / "train" / "unseen.pose", {"BODY": ["nose"]}, np.ones((2, 1, 1, 2)), np.zeros((2, 1, 1)), form="XYC"
    )
    (root / "train" / "folder.pose").mkdir()
    expected = {name: reason for name, (_, reason) in BROKEN.items()} | {
        "two": "2 people",
        "nobody": "0 people",
        "other": "components SPINE",
        "depth": "format 'ZXC'",
        "unseen": "no visible joint",
        "folder": "not a file",
    }
    assert go("pose", "csl_daily", root, tmp_path / "out") == 1
    printed = capsys.readouterr()
    read = dict(
        line.removeprefix("left out: train/").split(": ", 1)
        for line in printed.err.splitlines()
        if line.startswith("left out: ")
    )
    assert read.keys() == expected.keys()
    for name, reason in expected.items():
        assert read[name].startswith(reason), name
    assert "1  converted: train 1" in printed.out and "3  left out: not a whole .pose file\n" in printed.out
    assert list(clips_of(tmp_path / "out", "csl_daily")) == [("train", "good")]


def test_the_checks_are_those_of_training(tmp_path, capsys):
    splits = {"train": ["a", "gone", "../up"], "val": ["b"]}
    root = write_csl(tmp_path / "csl", GOOD, splits, {"gone": note(GOOD["a"]), "b": note(GOOD["b"], num_frames=99)})
    assert go("csl_daily", "npz", root, tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert "left out: train/gone: missing file" in printed.err and "left out: train/../up: unsafe name" in printed.err
    assert "1  converted: train 1, val 0; 12 frames" in printed.out and "1  left out: num_frames" in printed.out
    assert go("csl_daily", "npz", root, tmp_path / "believing", "data.check_num_frames=false", "--splits", "val") == 0
    assert list(clips_of(tmp_path / "believing", "npz")) == [("val", "b")]


def test_two_clips_of_one_name_are_not_mixed_up(tmp_path, capsys):
    root = write_npz(write_npz(tmp_path / "npz", {"a": {"poses": GOOD["a"]}}), {"a": {"poses": GOOD["a"] + 1}}, "val")
    assert go("npz", "csl_daily", root, tmp_path / "out") == 1
    assert "left out: val/a: duplicate name" in capsys.readouterr().err
    assert np.array_equal(clips_of(tmp_path / "out", "csl_daily")["train", "a"].poses, GOOD["a"])
    assert go("npz", "npz", root, tmp_path / "apart") == 0
    assert np.array_equal(clips_of(tmp_path / "apart", "npz")["val", "a"].poses, GOOD["a"] + 1)


def test_files_in_one_folder_with_a_list_of_names(csl, tmp_path):
    needs_library()
    go("csl_daily", "pose", csl, tmp_path / "out")
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (tmp_path / "out" / "train").iterdir():
        path.rename(flat / path.name)
    (tmp_path / "splits.json").write_text(json.dumps({"val": ["b"], "dev": ["a"]}))
    assert go("pose", "csl_daily", flat, tmp_path / "again", "--split-file", str(tmp_path / "splits.json")) == 0
    assert list(clips_of(tmp_path / "again", "csl_daily")) == [("val", "b"), ("dev", "a")]
    (tmp_path / "splits.json").write_text(json.dumps({"../val": ["b"]}))
    with pytest.raises(ValueError, match=r"--split-file .*unsafe name"):
        go("pose", "csl_daily", flat, tmp_path / "never", "--split-file", str(tmp_path / "splits.json"))


def test_a_users_mistake_is_one_line_and_nothing_is_written(csl, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"--splits: .* has no split 'dev', but train, val, test"):
        go("csl_daily", "npz", csl, out, "--splits", "dev")
    with pytest.raises(ValueError, match=r"--split-file: the npz layout's folders"):
        go("npz", "csl_daily", csl, out, "--split-file", "x.json")
    with pytest.raises(ValueError, match=r"has no clip that can be converted"):
        go("csl_daily", "npz", csl, out, "--splits", "test")
    with pytest.raises(ValueError, match=r"data\.num_joints is 75"):
        go("csl_daily", "pose", csl, out, "data.num_joints=75")
    monkeypatch.setitem(sys.modules, "pose_format", None)
    with pytest.raises(ValueError, match=r"pip install pose-format"):
        go("csl_daily", "pose", csl, out)
    assert [path.name for path in tmp_path.iterdir()] == ["csl"]
    out.mkdir()
    (out / "mine").write_text("kept")
    with pytest.raises(ValueError, match=r"--out .* is not an empty folder"):
        go("csl_daily", "npz", csl, out)
    assert [path.name for path in out.iterdir()] == ["mine"]


def test_a_folder_without_splits_says_what_to_do(tmp_path):
    holistic_file(tmp_path / "in" / "x.pose")
    with pytest.raises(ValueError, match=r"has none of train/, val/, test/.*--split-file"):
        go("pose", "npz", tmp_path / "in", tmp_path / "out")


def test_stopped_in_the_middle_it_leaves_nothing(csl, tmp_path, monkeypatch):
    calls = []

    def write(root, split, clip):
        calls.append(clip.name)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setitem(conversion.WRITERS, "npz", write)
    monkeypatch.setattr(
        sys,
        "argv",
        ["convert", "--from", "csl_daily", "--to", "npz", "--root", str(csl), "--out", str(tmp_path / "out")],
    )
    with pytest.raises(SystemExit) as ended:
        run(convert.main)
    assert ended.value.code == 2 and [path.name for path in tmp_path.iterdir()] == ["csl"]


def test_help_answers_without_torch():
    command = [sys.executable, "-X", "importtime", "-m", "signstream.data.convert", "--help"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "--split-file" in done.stdout
    assert not {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()} & {
        "torch",
        "matplotlib",
        "pose_format",
    }


def test_joints_are_described_by_name_or_by_number():
    assert (
        describe((0, 18, FACE + 27, *range(LEFT_HAND, RIGHT_HAND)))
        == "BODY nose, left_small_toe; FACE face-27; LEFT_HAND (21 of 21)"
    )
