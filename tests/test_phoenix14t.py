"""PHOENIX-2014-T's layout: 75 joints there and back, what the synthetic signer writes is what is read, sentences as
they stand in the tables, and what may be wrong there."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clips import moving_clip
from data_sets import data_config, reasons
from holistic_points import HOLISTIC_COMPONENTS
from phoenix_data import fuzz
from signstream import cli
from signstream.config import Data, load_config
from signstream.data.cache import open_cache
from signstream.data.collate import make_chunks
from signstream.data.datasets import load_checked, open_data
from signstream.data.holistic import BODY_POINTS
from signstream.data.joints75 import CORNERS, NUM_POINTS, POINTS, SHARED_JOINTS, coco_joints, points_of
from signstream.data.phoenix14t import LEGS, Phoenix14T
from signstream.data.synthetic.__main__ import main
from signstream.data.synthetic.orders import cast_of
from signstream.data.synthetic.phoenix import SPLITS, plan_phoenix
from signstream.data.synthetic.phoenix14t import extracted, filmed, make_phoenix14t
from signstream.errors import UserError
from signstream.inference.judge import recipe
from signstream.io.dataloader_utils import read_clips
from signstream.skeleton import (
    LEFT_EYE_CORNERS,
    LEFT_HAND,
    LEFT_SHOULDER,
    NOSE,
    RIGHT_EYE_CORNERS,
    RIGHT_HAND,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
)

HEADER = "name|video|start|end|speaker|orth|translation"
OURS = {"train": "train", "dev": "val", "test": "test"}
CLIPS, SEED, SIGNERS = 12, 3, 3
HIPS = [BODY_POINTS.index("left_hip"), BODY_POINTS.index("right_hip")]


def table(root: Path, split: str = "train") -> Path:
    return root / "annotations" / f"PHOENIX-2014-T.{split}.corpus.csv"


def write(root: Path, lines: list[str], split: str = "train", encoding: str = "utf-8") -> Path:
    table(root, split).parent.mkdir(parents=True, exist_ok=True)
    table(root, split).write_text("\n".join(lines), encoding=encoding)
    return root


def save(root: Path, name: str, array: np.ndarray, *, folder: str = "kpts/train") -> Path:
    path = root / folder / f"{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


def config(root: Path, **options: object) -> Data:
    return data_config(root, layout="phoenix14t", fps=25, **options)


def source_of(root: Path) -> Phoenix14T:
    source = open_data(config(root))
    assert isinstance(source, Phoenix14T)
    return source


def points(frames: int = 8, seed: int = 0) -> np.ndarray:
    return extracted(moving_clip(frames, seed))


@pytest.fixture
def root(tmp_path) -> Path:
    """Two clips of train."""
    for seed, name in enumerate("ab"):
        save(tmp_path / "data", name, points(6 + seed, seed))
    lines = [f"{name}|{name}/1/*.png|-1|-1|Signer0{i}|A loc-B|Text {name}" for i, name in enumerate("ab")]
    return write(tmp_path / "data", [HEADER, *lines, ""])


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_phoenix14t(tmp_path_factory.mktemp("made") / "set", CLIPS, SEED, signers=SIGNERS)


# -- the joints


def test_the_75_joints_are_there_and_back():
    poses = np.random.default_rng(0).normal(size=(2, 133, 3))
    there = points_of(poses)
    assert there.shape == (2, NUM_POINTS, 3)
    back = coco_joints(there)
    assert np.array_equal(back[:, SHARED_JOINTS], poses[:, SHARED_JOINTS])
    others = sorted({*range(133)} - {*SHARED_JOINTS})
    assert len(others) == 64 and not back[:, others].any()
    assert np.array_equal(points_of(back), there) and np.array_equal(coco_joints(points_of(back)), back)
    assert np.array_equal(there[:, 33:54], poses[:, LEFT_HAND:RIGHT_HAND])
    assert np.array_equal(there[:, 54:], poses[:, RIGHT_HAND:])


def test_the_75_are_numbered_as_mediapipe_numbers_them():
    parts = ("POSE_LANDMARKS", "LEFT_HAND_LANDMARKS", "RIGHT_HAND_LANDMARKS")
    assert list(POINTS) == [(part, point) for part in parts for point in HOLISTIC_COMPONENTS[part]]
    assert {*CORNERS} < {point for _, point in POINTS} and {*CORNERS.values()} < {*SHARED_JOINTS}


# -- what the synthetic signer writes is read


def test_sentences_and_poses_come_back(made):
    source = source_of(made)
    cast = cast_of(SEED, 25.0, SIGNERS, glosses=None)
    orders = plan_phoenix(CLIPS, SEED, SIGNERS, signs=cast.signs)
    assert source.splits() == {
        OURS[split]: [order.name for order in orders if order.split == split] for split in SPLITS
    }
    for order in orders:
        clip = load_checked(source, OURS[order.split], order.name)
        assert (clip.text, clip.gloss) == (order.sentence.text, order.sentence.key)
        assert (clip.fps, clip.size, clip.signer) == (25.0, (210.0, 260.0), f"Signer{order.signer + 1:02d}")
        wanted = filmed(cast, order).poses
        lasting = (wanted[..., 2] > 0).all(0)  # neither lost nor filled in
        joints = [joint for joint in SHARED_JOINTS if lasting[joint] and not LEGS.start <= joint < LEGS.stop]
        assert len(joints) > 15 and (clip.poses[:, joints, 2] == 1).all()
        assert np.allclose(in_shoulders(clip.poses)[:, joints], in_shoulders(wanted)[:, joints], atol=1e-4)
        never = [joint for joint in SHARED_JOINTS if not (wanted[:, joint, 2] > 0).any()]
        missing = sorted({*range(133)} - {*SHARED_JOINTS} | {*never} | {*range(LEGS.start, LEGS.stop)})
        assert not clip.poses[:, missing].any() and clip.poses[:, NOSE, 1].min() > 0


def in_shoulders(poses: np.ndarray) -> np.ndarray:
    """[T, 133, 3] -> [T, 133, 2] from the middle of the hips, in shoulder widths."""
    xy = poses[..., :2].astype(np.float64)
    width = np.linalg.norm(xy[:, LEFT_SHOULDER] - xy[:, RIGHT_SHOULDER], axis=-1)
    return (xy - xy[:, HIPS].mean(1, keepdims=True)) / width[:, None, None]


def test_left_is_the_signers_own_left(root):
    clip = load_checked(source_of(root), "train", "a")
    assert (clip.poses[:, LEFT_SHOULDER, 0] > clip.poses[:, RIGHT_SHOULDER, 0]).all()
    slot = points()[:, [15, 16], 0]  # called left wrist, right wrist
    assert (slot[:, 0] > slot[:, 1]).all(), "a mirrored signer faces the camera too"
    moved = moving_clip(6)
    moved[3, RIGHT_WRIST, 1] -= 40
    save(root, "a", extracted(moved))
    moved = load_checked(source_of(root), "train", "a").poses - clip.poses
    assert np.argwhere(np.abs(moved).max(-1) > 1).tolist() == [[3, RIGHT_WRIST]]


def test_a_joint_that_was_never_seen_is_missing(root):
    """Whatever the hips and the shoulders made of it."""
    poses = moving_clip(6)
    poses[:, RIGHT_HAND:] = 0
    written = extracted(poses)
    assert np.abs(written[:, 33:54, :2]).min() > 0.01 and np.ptp(written[:, 33:54], axis=1).max() == 0
    save(root, "a", written)
    read = load_checked(source_of(root), "train", "a").poses
    assert not read[:, RIGHT_HAND:].any() and (read[:, LEFT_HAND:RIGHT_HAND, 2] == 1).all()
    poses[1:4, LEFT_HAND:RIGHT_HAND] = 0
    save(root, "a", extracted(poses))
    filled = load_checked(source_of(root), "train", "a").poses
    assert (filled[:, LEFT_HAND:RIGHT_HAND, 2] == 1).all(), "what was filled in cannot be told"
    assert np.allclose(filled[[0, 4, 5]], read[[0, 4, 5]], atol=1e-3)


def test_the_pose_cache_and_the_chunks_take_it_as_any_layout(made):
    cache = open_cache(config(made), quiet=True)
    assert not cache.skipped and len(cache.clips) == CLIPS and cache.splits["val"] and cache.splits["test"]
    chunks = make_chunks(read_clips(cache, cache.splits["val"]), cache.skeleton, config(made))
    eyes = [corner for pair in (RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS) for corner in pair]
    inside = chunks.weight[:, :, NOSE] > 0
    assert (chunks.weight[inside][:, eyes] > 0).all() and not chunks.weight[:, :, LEGS].any()
    assert cache.clips[0].text and cache.clips[0].gloss
    assert recipe(config(made)).data.clean == "phoenix2014t"


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_arguments_same_bytes_whatever_the_workers(tmp_path):
    made = []
    for seed, workers in ((7, 1), (7, 2), (8, 1)):
        out = tmp_path / f"{seed}_{workers}"
        options = ["--clips", "12", "--signers", "2", "--seed", str(seed), "--workers", str(workers)]
        main(["--layout", "phoenix14t", "--out", str(out), *options])
        made.append(digest(out))
    assert made[0] == made[1] != made[2]
    assert len(made[0]) == 12 + 3 + 1


def test_the_readme_says_that_it_is_made_up_and_how(made):
    text = (made / "README.md").read_text(encoding="utf-8")
    assert "made up: no person signed them" in text and "[T, 75, 3]" in text
    assert f"--layout phoenix14t --out DIR --clips {CLIPS} --seed {SEED} --signers {SIGNERS}" in text


@pytest.mark.parametrize("wrong", [["--clips", "2"], ["--signers", "0"], ["--fps", "1000"], ["--workers", "0"]])
def test_nonsense_gets_one_line(tmp_path, capsys, wrong):
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda: main(["--layout", "phoenix14t", "--out", str(tmp_path / "set"), *wrong]))
    lines = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2 and len(lines) == 1 and lines[0].startswith(f"error: {' is '.join(wrong)}")
    assert not list(tmp_path.iterdir())


# -- the tables


def test_a_table_is_read_as_it_stands(root):
    lines = ["\ufeffspeaker|translation|name|orth", 'S1| NA  "so|a|nan', 'S2|und"  morgen|b|loc-C  D', "", "S3||c|"]
    source = source_of(write(root, lines, encoding="utf-8"))
    assert source.splits() == {"train": ["a", "b", "c"]}
    rows = {name: source.tables["train"].rows[name] for name in "abc"}
    assert rows == {"a": ('NA "so', "nan", "S1"), "b": ('und" morgen', "loc-C D", "S2"), "c": ("", "", "S3")}
    clip = load_checked(source_of(write(root, ["name|translation", "a|Grüße"])), "train", "a")
    assert (clip.text, clip.gloss, clip.signer) == ("Grüße", "", "")
    table(root).write_bytes(b"name|translation\r\na|x\r\n")
    assert load_checked(source_of(root), "train", "a").text == "x"


WRONG = {
    "no clip": ([HEADER], "has no clip: a header, name|"),
    "no line": ([], "has no clip"),
    "no name": (["video|translation", "a|b"], "line 1: names of columns, name|video|"),
    "no translation": (["name|orth", "a|b"], "line 1: names of columns"),
    "a column twice": (["name|translation|name", "a|b|c"], "line 1: names of columns"),
    "commas": (["name,translation", "a,b"], "line 1: names of columns"),
    "a cell too few": ([HEADER, "a|b|c"], "line 2: 3 columns; 7 are expected"),
    "a cell too many": (["name|translation", "a|b", "", "a|b|c"], "line 4: 3 columns; 2 are expected"),
    "an escape": (["name|translation", "a|\x1b[2J"], r"line 2: it holds the character \x1b; UTF-8 text is expected"),
    "a long line": (["name|translation", f"a|{'x' * 20_000}"], "line 2: 20002 characters; 10000 at most"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_table_that_is_wrong_is_one_line(root, name):
    lines, reason = WRONG[name]
    with pytest.raises(UserError) as error:
        source_of(write(root, lines))
    assert str(table(root)) in str(error.value) and reason in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_data_set_is_one_line(root, tmp_path):
    with pytest.raises(UserError, match=r"none of annotations/PHOENIX-2014-T\.train\.corpus\.csv"):
        source_of(tmp_path)
    with pytest.raises(UserError, match=r"data\.num_joints is 75"):
        open_data(config(root, num_joints=75))
    with pytest.raises(UserError, match=r"data\.keypoints is x, but with data\.layout phoenix14t nothing reads it"):
        load_config(None, ["data.layout=phoenix14t", "data.keypoints=x"])
    table(root).write_bytes("name|translation\na|Grüße".encode("latin1"))
    with pytest.raises(UserError, match=r"train\.corpus\.csv, line 2: it holds the character .udcfc; UTF-8"):
        source_of(root)
    table(root).unlink()
    os.mkfifo(table(root))
    with pytest.raises(UserError, match=r"cannot read .*train\.corpus\.csv: not a file, but a pipe"):
        source_of(root)
    table(root).unlink()
    (tmp_path / "out.csv").write_text("name|translation\na|b")
    table(root).symlink_to(tmp_path / "out.csv")
    with pytest.raises(UserError, match="a link that leads out of"):
        source_of(root)


@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_fuzzed_tables_are_a_data_set_or_one_line(root, count):
    def call() -> None:
        source = source_of(root)
        for name in source.splits()["train"]:
            try:
                load_checked(source, "train", name)
            except UserError:
                continue

    lines = fuzz(table(root), [table(root).read_bytes()], call, head=120, count=count)
    assert 0 < lines.count("") < count
    assert all(str(root) in line for line in lines if line)


# -- what is left out

SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no file": (lambda root: (root / "kpts/train/a.npy").unlink(), "missing file"),
    "133 joints": (lambda root: save(root, "a", np.zeros((6, 133, 3))), "shape [6, 133, 3]: [T, 75, 3] is expected"),
    "flat": (lambda root: save(root, "a", np.zeros((6, 225))), "shape [6, 225]: [T, 75, 3] is expected"),
    "a gap": (lambda root: save(root, "a", np.where(points() > 1, np.nan, points())), "not finite"),
    "no frame": (lambda root: save(root, "a", points()[:0]), "no frame"),
    "nothing seen": (lambda root: save(root, "a", np.zeros((6, 75, 3))), "no visible joint"),
    "far away": (lambda root: save(root, "a", points() * np.float32(1e37)), "no visible joint"),
    "text": (lambda root: (root / "kpts/train/a.npy").write_text("poses"), "not an npy file"),
    "a pickle": (lambda root: save(root, "a", np.array([{}], object)), "pickle inside"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_a_clip_that_is_wrong_is_left_out_with_its_reason_and_the_others_stay(root, name):
    spoil, reason = SPOILT[name]
    spoil(root)
    cache = open_cache(config(root), quiet=True)
    assert list(reasons(cache)) == ["a"] and reasons(cache)["a"].startswith(reason) and len(cache.clips) == 1


def test_names_that_are_none_are_listed(root):
    cache = open_cache(config(write(root, ["name|translation", "a|1", "a|2", "../b|3", "|4"])), quiet=True)
    assert [(clip.name, clip.text) for clip in cache.clips] == [("a", "1")]
    assert [line.reason.split(":")[0] for line in cache.skipped] == ["duplicate name", "unsafe name", "unsafe name"]
