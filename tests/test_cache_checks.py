"""A pose cache is held against what was written: each clip's frames, the index and its every value, the files that it
was made of, and the data that a run was saved with."""

import json
import os
import shutil
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from data_sets import GOOD, cache_of, content, data_config, note, signer_root, write_csl, write_npz
from helpers import tiny_options
from signstream.data.cache import open_cache
from signstream.errors import UserError
from signstream.io import pose_cache
from signstream.io.dataloader_utils import ClipLoader, read_clips
from signstream.io.pose_cache import PoseCache
from signstream.training import train_rvq
from signstream.training.run_folder import newest_of

CLIPS = {**GOOD, "c": GOOD["b"][::-1]}


@pytest.fixture
def root(tmp_path) -> Path:
    return write_csl(tmp_path / "data", CLIPS)


def flip(path: Path) -> None:
    """One bit of the exponent of the second clip's first number."""
    content = bytearray(path.read_bytes())
    content[12 * 134 * 12 + 3] ^= 0x20
    path.write_bytes(content)


DAMAGES = {
    "a flipped bit": flip,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "ones": lambda path: path.write_bytes(b"\xff" * path.stat().st_size),
    "another order": lambda path: path.write_bytes(path.read_bytes()[134 * 12 :] + path.read_bytes()[: 134 * 12]),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_frames_that_are_not_as_written_are_never_read_and_then_made_anew(root, damage, capsys):
    cache = cache_of(root)
    whole = content(cache)
    damage(cache.path)
    with pytest.raises(UserError, match=r"no longer holds what was written for the clip '[ab]': start again"):
        content(cache_of(root))
    assert content(open_cache(data_config(root))) == whole
    assert "cache: preparing 3 clips" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_stops_at_them_with_a_line(root, workers):
    flip(cache_of(root).path)
    loader = ClipLoader(cache_of(root), "train", data_config(root, workers=workers), batch_size=1)
    with pytest.raises(UserError, match=r"written for the clip 'b': start again") as error:
        list(loader)
    assert "Traceback" not in str(error.value)


def test_a_clip_is_checked_once_by_whoever_reads_it(root, monkeypatch):
    sums, real = [], zlib.crc32
    monkeypatch.setattr(pose_cache.zlib, "crc32", lambda *args: sums.append(len(args[0])) or real(*args))
    for workers in (0, 1):
        cache = cache_of(root)
        sums.clear()
        loader = ClipLoader(cache, "train", data_config(root, workers=workers), batch_size=2, train=True)
        list(loader), list(loader)
        assert cache.checked == {0, 1, 2} and len(sums) == (0 if workers else 3)
        read_clips(cache, [0, 1, 2])
        assert len(sums) == (0 if workers else 3), "what a worker has checked is known"


# -- the index


def reseal(cache: PoseCache, change) -> None:
    """The index after a change, with the checksum that belongs to it: its values alone can give it away."""
    file = cache.folder / "index.json"
    tree = json.loads(file.read_text())
    del tree["check"]
    change(tree)
    body = json.dumps(tree)[:-1].encode()
    file.write_bytes(body + f', "check": "{zlib.crc32(body):08x}"}}'.encode())


def put(*path: object, value: object):
    def change(tree: dict) -> None:
        for key in path[:-1]:
            tree = tree[key]
        tree[path[-1]] = value

    return change


VALUES = {
    "a start far away": put("clips", 0, "start", value=10**9),
    "a start below 0": put("clips", 1, "start", value=-1),
    "a start between clips": put("clips", 1, "start", value=3),
    "a start that is text": put("clips", 1, "start", value="12"),
    "no length": put("clips", 2, "length", value=0),
    "a longer clip": put("clips", 2, "length", value=99),
    "a length that is true": put("clips", 2, "length", value=True),
    "a split of no name": put("clips", 0, "split", value="dev"),
    "splits as text": put("splits", value="train"),
    "a split twice": put("splits", value=["train", "train"]),
    "a rate of 0": put("clips", 0, "fps", value=0),
    "a rate that is none": put("clips", 0, "fps", value=float("nan")),
    "a text that is none": put("clips", 0, "text", value=None),
    "a size of three": put("clips", 0, "size", value=[1.0, 2.0, 3.0]),
    "segments of words": put("clips", 0, "segments", value=["abc"]),
    "segments without end": put("clips", 0, "segments", value=5),
    "a checksum too large": put("clips", 0, "frames_crc", value=1 << 32),
    "a key too many": put("clips", 0, "more", value=1),
    "a clip that is a list": put("clips", 0, value=[]),
    "clips that are a table": put("clips", value={"0": 1}),
    "clips that are nothing": put("clips", value=None),
    "left out without reason": put("skipped", value=[{"split": "train", "name": "x"}]),
    "left out for a number": put("skipped", value=[{"split": "train", "name": "x", "reason": 3}]),
    "a map elsewhere": put("file", value="../../data/annotations.json"),
    "a map that is a table": put("file", value={}),
    "another format": put("format", value=1),
    "very deep": put("clips", value=json.loads("[" * 400 + "]" * 400)),
}


@pytest.mark.parametrize("change", VALUES.values(), ids=VALUES)
def test_an_index_with_a_value_that_cannot_be_is_made_anew_with_a_line(root, capsys, change):
    cache = cache_of(root)
    whole = content(cache)
    reseal(cache, lambda tree: None)
    assert cache_of(root).path == cache.path, "sealed again as it was, it is believed"
    reseal(cache, change)
    rebuilt = open_cache(data_config(root))
    assert rebuilt.path != cache.path and content(rebuilt) == whole
    lines = [line for line in capsys.readouterr().err.splitlines() if "built anew" in line]
    assert len(lines) == 1 and lines[0].startswith(f"cache: {cache.folder} is built anew: its ")


def test_any_flipped_bit_of_an_index_is_noticed(root):
    cache = cache_of(root)
    file, draw = cache.folder / "index.json", np.random.default_rng(0)
    whole = file.read_bytes()
    for at in draw.integers(0, len(whole), 60):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << int(draw.integers(8)))]) + whole[at + 1 :])
        assert pose_cache.read_index(cache.folder, cache.index.stamp, 134 * 12)[0] is None, f"byte {at}"
    file.write_bytes(whole)
    assert pose_cache.read_index(cache.folder, cache.index.stamp, 134 * 12)[0] == cache.index


def test_a_cache_of_an_earlier_version_is_made_anew_with_a_line(root, capsys):
    cache = cache_of(root)
    tree = json.loads((cache.folder / "index.json").read_text())
    old = {key: tree[key] for key in ("file", "stamp", "root", "splits", "clips", "skipped")}
    sums = {"bytes": cache.path.stat().st_size, "rows": cache.rows}
    (cache.folder / "index.json").write_text(json.dumps({**old, **sums}))
    assert open_cache(data_config(root)).path != cache.path and not cache.path.exists()
    assert f"cache: {cache.folder} is built anew: its index is of another version" in capsys.readouterr().err


# -- the files that it was made of


def edit_under_its_old_time(path: Path) -> None:
    """Another clip of the same size, with the time stamp that the file had."""
    times = path.stat()
    poses = np.load(path)
    poses[:, :, 0] += 5
    time.sleep(0.02)  # the system's clock ticks
    np.save(path, poses)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)


def test_a_clip_that_was_edited_under_its_old_time_is_noticed(root, capsys):
    before = content(cache_of(root))
    edit_under_its_old_time(root / "frames_512x512" / "b.npy")
    after = content(open_cache(data_config(root)))
    assert {key[1] for key in before if before[key] != after[key]} == {"b"}
    assert "is built anew: a file that it was made of has changed" in capsys.readouterr().err


# -- the data that a run was saved with


def test_the_digest_is_of_the_poses_and_of_nothing_else(root, tmp_path):
    digest = cache_of(root).digest("train")
    npz = write_npz(tmp_path / "npz", {name: {"poses": poses} for name, poses in CLIPS.items()})
    same = {
        "another place": cache_of(Path(shutil.copytree(root, tmp_path / "copy"))),
        "another layout": cache_of(npz, layout="npz"),
        "another preprocessing": cache_of(root, smooth=0, min_score=0.1),
        "other texts": cache_of(write_csl(tmp_path / "texts", CLIPS, notes={"a": note(GOOD["a"], text="anew")})),
        "other splits beside it": cache_of(write_csl(tmp_path / "more", CLIPS, {"train": list(CLIPS), "val": ["a"]})),
    }
    assert {what for what, cache in same.items() if cache.digest("train") != digest} == set()
    moved = {**CLIPS, "b": CLIPS["b"] + np.float32([1, 0, 0])}
    other = {
        "another pose": cache_of(write_csl(tmp_path / "moved", moved)),
        "another rate": cache_of(write_csl(tmp_path / "rate", CLIPS, notes={"a": note(GOOD["a"], fps=25)})),
        "another order": cache_of(write_csl(tmp_path / "order", CLIPS, {"train": ["b", "a", "c"]})),
        "a clip less": cache_of(write_csl(tmp_path / "less", CLIPS, {"train": ["a", "b"]})),
    }
    assert {what for what, cache in other.items() if cache.digest("train") == digest} == set()


def test_a_loader_goes_on_only_on_the_same_data(root, tmp_path):
    def loader(where: Path) -> ClipLoader:
        return ClipLoader(cache_of(where), "train", data_config(where), batch_size=2, train=True)

    state = loader(root).state_dict()
    loader(Path(shutil.copytree(root, tmp_path / "copy"))).load_state_dict(state)
    edit_under_its_old_time(root / "frames_512x512" / "c.npy")
    with pytest.raises(UserError, match=r"other poses or frame rates in the split 'train' .* only on the same data"):
        loader(root).load_state_dict(state)
    del state["data"]
    loader(root).load_state_dict(state)  # as an older checkpoint has it


def test_a_run_goes_on_only_on_the_same_data(tmp_path, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)
    root = signer_root(tmp_path, 16, {"train": (0, 12), "val": (12, 16)})
    options = tiny_options(root, "model.arch=mlp", "train.epochs=2", "--checkpoint", "auto")
    threads = torch.get_num_threads()
    assert train_rvq.main([*options, "train.epochs=1"]) in (0, None)
    run = newest_of(tmp_path / "runs" / "default")
    moved = Path(shutil.copytree(root, tmp_path / "moved"))
    edit_under_its_old_time(sorted((root / "frames_512x512").iterdir())[2])
    with pytest.raises(UserError, match="a run goes on only on the same data"):
        train_rvq.main(options)
    assert train_rvq.main([*options, f"data.root={moved}"]) in (0, None)
    assert newest_of(tmp_path / "runs" / "default") == run
    torch.set_num_threads(threads)


# -- who builds it


@pytest.mark.parametrize("threads", [1, 2])
def test_as_many_processes_build_it_as_the_program_has_threads(root, monkeypatch, threads):
    asked, real = [], pose_cache.ProcessPoolExecutor
    monkeypatch.setattr(
        pose_cache, "ProcessPoolExecutor", lambda count, *a, **o: asked.append(count) or real(count, *a, **o)
    )
    cache_of(root, workers=threads)
    assert asked == [2] * (threads == 2)
