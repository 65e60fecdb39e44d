"""PHOENIX-2014's layout: labels and keypoints out of pickles, frames out of PNG files, and what may be wrong there."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import phoenix_data
from data_sets import reasons
from phoenix_data import (
    CLIPS,
    FEATURES,
    entry,
    fuzz,
    keypoints_of,
    phoenix_config,
    save_info,
    save_keypoints,
    write_phoenix,
)
from signstream.config import load_config
from signstream.data.cache import open_cache
from signstream.data.collate import make_chunks
from signstream.data.datasets import load_checked, open_data
from signstream.data.phoenix2014 import Gloss, read_gloss_dict
from signstream.data.phoenix_joints import coco_joints, keypoints_key
from signstream.errors import UserError
from signstream.io.dataloader_utils import read_clips
from signstream.io.frame_files import frame_size, list_frames, read_frames

FIRST, SECOND = CLIPS["train"]


@pytest.fixture
def root(tmp_path) -> Path:
    return write_phoenix(tmp_path / "data")


def reason_of(root: Path, split: str = "train", name: str = FIRST, **options: object) -> str:
    with pytest.raises(UserError) as error:
        load_checked(open_data(phoenix_config(root, **options)), split, name)
    return str(error.value)


# -- what is read


def test_splits_labels_and_keypoints_are_read(root):
    source = open_data(phoenix_config(root))
    assert source.splits() == {"train": list(CLIPS["train"]), "val": list(CLIPS["dev"]), "test": list(CLIPS["test"])}
    clip = load_checked(source, "train", SECOND)
    assert np.array_equal(clip.poses, coco_joints(keypoints_of(5, 1))) and (clip.poses[:, 11:23] == 0).all()
    assert (clip.gloss, clip.signer, clip.fps) == ("loc-NORD REGEN-PLUSPLUS __ON__", "Signer04", 25.0)
    (name,) = CLIPS["dev"]
    assert load_checked(source, "val", name).gloss == "REGEN MORGEN", "double and trailing spaces are no words"


def test_the_pose_cache_and_the_chunks_take_it_as_any_layout(root):
    cache = open_cache(phoenix_config(root), quiet=True)
    assert not cache.skipped
    assert {split: len(clips) for split, clips in cache.splits.items()} == {"train": 2, "val": 1, "test": 1}
    assert [clip.length for clip in cache.clips] == [7, 5, 6, 6]
    chunks = make_chunks(read_clips(cache, cache.splits["train"]), cache.skeleton, phoenix_config(root))
    assert len(chunks) == 2 and chunks.weight[:, :5, :11].gt(0).all() and (chunks.weight[:, :, 11:23] == 0).all()
    changed = open_cache(phoenix_config(root), quiet=True)
    assert changed.index.file == cache.index.file
    save_info(root, "train", [entry("train", name, frames) for name, frames in CLIPS["train"].items()][:1])
    assert len(open_cache(phoenix_config(root), quiet=True).clips) == 3


def test_labels_and_keypoints_may_lie_elsewhere(root, tmp_path):
    for folder in ("meta", "kp"):
        (tmp_path / folder).mkdir()
    for file in root.glob("*_info.npy"):
        file.rename(tmp_path / "meta" / file.name)
    (root / phoenix_data.KEYPOINTS).rename(tmp_path / "kp" / "hrnet.pkl")
    options = {"meta_dir": str(tmp_path / "meta"), "keypoints": str(tmp_path / "kp" / "hrnet.pkl")}
    assert len(load_checked(open_data(phoenix_config(root, **options)), "train", FIRST).poses) == 7


def test_a_suffix_is_taken_off_exactly(root):
    """Taken as a set of characters it would take the name's end with it."""
    name = "morgen_png.png"
    phoenix_data.write_frames(root / FEATURES / "train" / name, 4)
    save_info(root, "train", [entry("train", name, 4, folder=f"train/{name}/*.png")])
    save_keypoints(root, {keypoints_key("train", name): {"keypoints": keypoints_of(4)}})
    source = open_data(phoenix_config(root))
    assert len(load_checked(source, "train", name).poses) == len(source.frame_files("train", name).paths) == 4


def test_frames_are_read_in_the_order_of_their_names(root):
    source = open_data(phoenix_config(root))
    files = source.frame_files("train", FIRST)
    written = phoenix_data.write_frames(root / "again", 7, seed=0)
    assert np.array_equal(read_frames(files.paths, source.root), written)
    assert (files.gloss, files.signer, files.size) == ("loc-NORD REGEN-PLUSPLUS __ON__", "Signer04", (256.0, 256.0))
    assert list(files.paths[2:5]) == list(files.paths)[2:5] == sorted((root / FEATURES).glob(f"*/{FIRST}/1/*"))[2:5]
    some = [files.paths[i] for i in (0, 0, 3, 3, 6)]
    assert np.array_equal(read_frames(some), written[[0, 0, 3, 3, 6]])
    assert read_frames([]).shape[0] == 0 and frame_size(files.paths[0]) == (phoenix_data.SIDE, phoenix_data.SIDE)


def test_poses_need_no_frames_and_frames_no_poses(root):
    (root / "features").rename(root / "no features")
    source = open_data(phoenix_config(root))
    assert len(load_checked(source, "train", FIRST).poses) == 7
    with pytest.raises(UserError, match="no frames: No such file"):
        source.frame_files("train", FIRST)
    (root / "no features").rename(root / "features")
    (root / phoenix_data.KEYPOINTS).unlink()
    source = open_data(phoenix_config(root))
    assert len(source.frame_files("train", FIRST).paths) == 7
    assert reason_of(root).startswith("no keypoints: there is no keypoints_256x256.pkl")


def test_the_dictionary_of_glosses(root):
    glosses = read_gloss_dict(root / "gloss_dict.npy")
    assert list(glosses) == sorted(glosses) and glosses["MORGEN"] == Gloss(1, 1)
    assert sorted(gloss.index for gloss in glosses.values()) == list(range(1, len(glosses) + 1))


# -- what is left out


def spoil_frames(root: Path) -> None:
    next((root / FEATURES / "train" / FIRST / "1").glob("*.png")).unlink()


def spoil_folder(root: Path) -> None:
    (root / FEATURES / "train" / FIRST / "1").rename(root / "gone")


def with_keypoints(value: object, key: str = keypoints_key("train", FIRST)) -> Callable[[Path], None]:
    """In the place of the first clip's."""

    def spoil(root: Path) -> None:
        keypoints = pickle.loads((root / phoenix_data.KEYPOINTS).read_bytes())
        del keypoints[keypoints_key("train", FIRST)]
        save_keypoints(root, {**keypoints, key: value})

    return spoil


def with_entry(**changes: object) -> Callable[[Path], None]:
    return lambda root: save_info(root, "train", [{**entry("train", FIRST, 7), **changes}, entry("train", SECOND, 5)])


LEFT_OUT = {
    "a frame too few": (spoil_frames, "num_frames: the annotation says 7, there are 6 frames"),
    "no folder": (spoil_folder, "no frames: No such file or directory"),
    "keypoints of another length": (
        with_keypoints({"keypoints": keypoints_of(6)}),
        "num_frames: the annotation says 7, there are 6 keypoints",
    ),
    "133 joints": (
        with_keypoints({"keypoints": np.zeros((7, 133, 3), np.float32)}),
        r"shape [7, 133, 3]: [T, 121, 3] is expected",
    ),
    "another key": (with_keypoints({"keypoints": keypoints_of(7)}, "x"), "no keypoints: their pickle has no array"),
    "no array": (with_keypoints({"keypoints": [1, 2]}), "no keypoints: their pickle has no array"),
    "no table": (with_keypoints([1]), "no keypoints: their pickle has no array"),
    "nothing seen": (with_keypoints({"keypoints": np.zeros((7, 121, 3), np.float32)}), "no visible joint"),
    "no number": (with_keypoints({"keypoints": np.full((7, 121, 3), np.nan, np.float32)}), "no visible joint"),
    "no label": (with_entry(label=None), "annotation: its folder and its label"),
    "another suffix": (with_entry(folder=f"train/{FIRST}/1/*.jpg"), "folder: <split>/<fileid>/1/*.png is expected"),
    "a folder above": (with_entry(folder=f"train/../../{FIRST}/*.png"), "unsafe folder"),
    "a folder at the root": (with_entry(folder="/etc/*.png"), "unsafe folder"),
    "an odd label": (with_entry(label="A\x1b[2J"), "label: it holds an odd character"),
    "an odd signer": (with_entry(signer="A\x1b[2J"), "signer: a short name"),
    "an endless label": (with_entry(label="A " * 2000), "label: 2000 words"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_clip_that_is_wrong_is_left_out_with_its_reason_and_the_others_stay(root, name):
    spoil, reason = LEFT_OUT[name]
    spoil(root)
    assert reason_of(root).startswith(reason)
    cache = open_cache(phoenix_config(root), quiet=True)
    assert list(reasons(cache)) == [FIRST] and len(cache.clips) == 3


def test_counts_are_believed_if_the_user_says_so(root):
    spoil_frames(root)
    source = open_data(phoenix_config(root, check_num_frames=False))
    assert len(load_checked(source, "train", FIRST).poses) == 7
    assert len(source.frame_files("train", FIRST).paths) == 6


def test_entries_that_are_none_are_listed(root):
    good = entry("train", FIRST, 7)
    save_info(root, "train", [good, "text", {"label": "A"}, {**good, "fileid": 3}, good, {**good, "fileid": "../x"}])
    cache = open_cache(phoenix_config(root), quiet=True)
    assert [clip.name for clip in cache.clips if clip.split == "train"] == [FIRST]
    found = {(line.name, line.reason.split(":")[0]) for line in cache.skipped}
    assert found == {
        *((f"entry {key}", "annotation") for key in (1, 2, 3)), (FIRST, "duplicate name"), ("../x", "unsafe name"),
    }  # fmt: skip


# -- what is no data set


def test_what_is_no_data_set_is_one_line(root, tmp_path):
    with pytest.raises(UserError, match=r"data\.root .*none of train_info\.npy"):
        open_data(phoenix_config(tmp_path))
    with pytest.raises(UserError, match=r"data\.num_joints is 75"):
        open_data(phoenix_config(root, num_joints=75))
    with pytest.raises(UserError, match=r"cannot read /no/where: missing file; \{key:"):
        open_data(phoenix_config(root, keypoints="/no/where"))
    with pytest.raises(UserError, match=r"data\.keypoints is x, but with data\.layout csl_daily nothing reads it"):
        load_config(None, ["data.keypoints=x"])
    (root / "train_info.npy").unlink()
    os.mkfifo(root / "train_info.npy")
    with pytest.raises(UserError, match=r"cannot read .*train_info\.npy: not a file, but a pipe"):
        open_data(phoenix_config(root))


@pytest.mark.parametrize(
    "table",
    [
        [],
        {},
        {"": [1, 1]},
        {"A B": [1, 1]},
        {"A": [0, 1]},
        {"A": [1, 1], "B": [1, 1]},
        {"A": [2, 1]},
        {"A": 1},
        {"A": [1]},
        {"A": [True, 1]},
        {3: [1, 1]},
        {"A\x1b": [1, 1]},
    ],
)
def test_a_dictionary_that_is_none_is_one_line(tmp_path, table):
    phoenix_data.save_table(tmp_path / "gloss_dict.npy", table)
    with pytest.raises(UserError, match=r"gloss_dict\.npy"):
        read_gloss_dict(tmp_path / "gloss_dict.npy")


def test_links_out_of_the_root_are_not_followed(root, tmp_path):
    outside = write_phoenix(tmp_path / "outside")
    (root / phoenix_data.KEYPOINTS).unlink()
    (root / phoenix_data.KEYPOINTS).symlink_to(outside / phoenix_data.KEYPOINTS)
    with pytest.raises(UserError, match="a link that leads out of"):
        open_data(phoenix_config(root))
    (root / phoenix_data.KEYPOINTS).unlink()
    frame = root / FEATURES / "train" / FIRST / "1" / "fn000003-0.png"
    frame.unlink()
    frame.symlink_to(outside / FEATURES / "train" / FIRST / "1" / "fn000003-0.png")
    (root / FEATURES / "train" / SECOND).rename(tmp_path / "aside")
    (root / FEATURES / "train" / SECOND).symlink_to(outside / FEATURES / "train" / SECOND)
    source = open_data(phoenix_config(root))
    for name in (FIRST, SECOND):
        with pytest.raises(UserError, match="a link that leads out of"):
            source.frame_files("train", name)
    with pytest.raises(UserError, match="a link that leads out of"):
        read_frames(list_frames(frame.parent), root)


# -- 500 mutated files of each kind


@pytest.mark.parametrize("count", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_fuzzed_tables_are_a_data_set_or_one_line(root, count):
    def call() -> None:
        source = open_data(phoenix_config(root))
        for split, names in source.splits().items():
            for name in names:
                try:
                    load_checked(source, split, name)
                    source.frame_files(split, name)
                except UserError:
                    continue

    for file, head in ((root / "train_info.npy", 700), (root / phoenix_data.KEYPOINTS, 600)):
        whole = file.read_bytes()
        lines = fuzz(file, [whole], call, head=head, count=count)
        assert 0 < lines.count("") < count
        assert all(str(root) in line for line in lines if line)
        file.write_bytes(whole)


@pytest.mark.parametrize("count", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_fuzzed_dictionaries_are_one_or_one_line(root, count):
    file = root / "gloss_dict.npy"
    lines = fuzz(file, [file.read_bytes()], lambda: read_gloss_dict(file), head=400, count=count)
    assert lines.count("") < count


def test_a_hostile_table_in_a_data_set_runs_nothing(root):
    marker = root / "it ran"

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    phoenix_data.save_table(root / "train_info.npy", {0: {**entry("train", FIRST, 7), "label": Evil()}})
    with pytest.raises(UserError, match=r"cannot read .*train_info\.npy: something else than plain values"):
        open_data(phoenix_config(root))
    (root / "train_info.npy").unlink()
    (root / phoenix_data.KEYPOINTS).write_bytes(pickle.dumps({"x": Evil()}))
    with pytest.raises(UserError, match=r"cannot read .*\.pkl: something else than plain values"):
        open_data(phoenix_config(root))
    assert not marker.exists()


def test_torch_is_not_seeded_by_reading(root):
    before = torch.random.get_rng_state()
    load_checked(open_data(phoenix_config(root)), "train", FIRST)
    assert torch.equal(before, torch.random.get_rng_state())
