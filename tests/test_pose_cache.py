import contextlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

from data_sets import cache_of, content, data_config, note, whole_clip, write_csl
from signstream import registry
from signstream.data.cache import open_cache
from signstream.data.csl_daily import CSLDaily
from signstream.data.datasets import skeleton_of
from signstream.data.frontend import prepare
from signstream.io.pose_cache import PoseCache

REPO = Path(__file__).resolve().parents[1]
CLIPS = {f"clip{i}": whole_clip(6 + i, i) for i in range(20)}


@pytest.fixture
def root(tmp_path) -> Path:
    return write_csl(tmp_path / "data", {name: CLIPS[name] for name in ("clip0", "clip1", "clip2")})


def built(cache: PoseCache) -> tuple:
    """What tells one build from the next."""
    return (
        cache.path,
        cache.path.stat().st_ino,
        cache.path.stat().st_mtime_ns,
        (cache.folder / "index.json").stat().st_ino,
    )


def files(cache: PoseCache) -> set[str]:
    return {path.name for path in cache.folder.iterdir()}


def test_the_cache_holds_what_the_front_end_makes_of_each_clip(root):
    cache, data = cache_of(root), data_config(root)
    assert [clip.name for clip in cache.clips] == ["clip0", "clip1", "clip2"]
    for i, clip in enumerate(cache.clips):
        ready = prepare(torch.from_numpy(CLIPS[clip.name]), skeleton_of(data), data)
        assert np.array_equal(cache.frames(i)[:, 1:], ready.frames.numpy())
        assert np.array_equal(cache.frames(i)[:, 0], ready.place.numpy())
    assert not cache.frames(0).flags.writeable


def test_it_is_built_once_however_the_root_is_spelled(root, monkeypatch):
    first = built(cache_of(root))
    (root.parent / "link").symlink_to(root)
    monkeypatch.chdir(root.parent)
    cache = str(root.parent / "cache")
    for same in (root, Path("data"), Path("../") / root.parent.name / "data", root.parent / "link"):
        assert built(cache_of(same, cache=cache)) == first


def replace_at_the_same_time(path: Path, poses: np.ndarray) -> None:
    times = path.stat()
    np.save(path, poses)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda root: replace_at_the_same_time(
            root / "frames_512x512" / "clip1.npy", np.concatenate((CLIPS["clip1"], CLIPS["clip1"]))
        ),
        lambda root: os.utime(root / "frames_512x512" / "clip1.npy", ns=(0, 10**18)),
        lambda root: (root / "frames_512x512" / "clip1.npy").unlink(),
        lambda root: (root / "split_files.json").write_text('{"train": ["clip0"]}'),
        lambda root: (root / "split_files.json").write_text('{"val": ["clip0", "clip1", "clip2"]}'),
        lambda root: (root / "annotations.json").write_text(
            json.dumps({name: note(CLIPS[name], text="anew") for name in ("clip0", "clip1", "clip2")})
        ),
        lambda root: (root / "CSL-Daily_README.md").write_text("30 fps"),
    ],
    ids=["size", "time", "gone", "fewer names", "another split", "annotations", "a README"],
)
def test_it_is_built_anew_when_a_file_changes(root, change):
    before = built(cache_of(root))
    change(root)
    after = cache_of(root)
    assert built(after) != before
    assert content(after) == content(open_cache(data_config(root, cache=str(root.parent / "fresh")), quiet=True))
    assert files(after) == {"lock", "index.json", after.path.name}, "the old memory map goes"


def test_it_is_built_anew_when_a_layout_without_files_names_other_clips(root, monkeypatch):
    monkeypatch.setattr(CSLDaily, "files", lambda *_: [])
    monkeypatch.setattr(CSLDaily, "sources", lambda *_: [])
    assert len(cache_of(root).clips) == 3
    (root / "split_files.json").write_text('{"train": ["clip0"]}')
    assert len(cache_of(root).clips) == 1


def test_it_is_built_anew_when_a_missing_file_appears(root):
    (root / "frames_512x512" / "clip1.npy").rename(root / "aside.npy")
    assert [line.reason for line in cache_of(root).skipped] == ["missing file"]
    (root / "aside.npy").rename(root / "frames_512x512" / "clip1.npy")
    assert len(cache_of(root).clips) == 3


PREPROCESSING = {
    "check_num_frames": False,
    "fps": 25,
    "max_frames": 5,
    "min_score": 0.4,
    "max_gap": 3,
    "smooth": 0,
    "unit_window": 7,
    "unit_joints": [[60, 63]],
}
OTHER = {
    "workers": 1,
    "chunk_len": 7,
    "chunk_stride": 3,
    "normalize": {"bbox_range": 4.0},
    "augment": {"mirror": False, "dropout_prob": 0.5, "time_warp": False},
    "body_parts": {"body": [1, 17]},
}


@pytest.mark.parametrize(("key", "value"), PREPROCESSING.items())
def test_another_preprocessing_has_a_cache_of_its_own(root, key, value):
    plain = cache_of(root)
    first = built(plain)
    assert cache_of(root, **{key: value}).folder != plain.folder
    assert built(cache_of(root)) == first, "and both are kept"


def test_another_unit_has_a_cache_of_its_own(root):
    assert cache_of(root, unit_joints=[[60, 63]]).folder != cache_of(root, unit_joints=[[66, 69]]).folder


@pytest.mark.parametrize(("key", "value"), OTHER.items())
def test_what_comes_after_the_cache_does_not_touch_it(root, key, value):
    assert built(cache_of(root)) == built(cache_of(root, **{key: value}))


def test_one_and_two_workers_write_the_same_bytes(tmp_path):
    root = write_csl(tmp_path / "data", CLIPS, {"train": [*CLIPS, "gone", "../x"], "val": ["clip3"]}, {"gone": {}})
    one = cache_of(root, workers=1, cache=str(tmp_path / "one"))
    two = cache_of(root, workers=2, cache=str(tmp_path / "two"))
    assert one.path.read_bytes() == two.path.read_bytes()
    assert (one.clips, one.skipped, one.splits) == (two.clips, two.skipped, two.splits)
    assert len(one.clips) == 21


@pytest.mark.parametrize(
    "damage",
    [
        lambda cache: os.truncate(cache.path, cache.path.stat().st_size - 4),
        lambda cache: os.truncate(cache.path, 0),
        lambda cache: cache.path.unlink(),
        lambda cache: os.truncate(cache.folder / "index.json", 100),
        lambda cache: (cache.folder / "index.json").unlink(),
        lambda cache: (cache.folder / "index.json").write_text("[]"),
        lambda cache: (cache.folder / "index.json").write_bytes(b"\xff\0"),
        lambda cache: (cache.folder / "index.json").write_text(
            json.dumps({key: value for key, value in read_index(cache).items() if key != "clips"})
        ),
    ],
    ids=[
        "map short",
        "map empty",
        "map gone",
        "index short",
        "index gone",
        "index a list",
        "index binary",
        "index without clips",
    ],
)
def test_a_damaged_cache_is_built_anew(root, damage):
    cache = cache_of(root)
    whole = content(cache)
    damage(cache)
    rebuilt = cache_of(root)
    assert content(rebuilt) == whole
    assert files(rebuilt) == {"lock", "index.json", rebuilt.path.name}


def read_index(cache: PoseCache) -> dict:
    return json.loads((cache.folder / "index.json").read_text(encoding="utf-8"))


def test_a_pickled_cache_carries_no_frames_and_opens_them_itself(root):
    cache = cache_of(root)
    unread = len(pickle.dumps(cache))
    whole = content(cache)
    packed = pickle.dumps(cache)
    assert len(packed) == unread
    assert content(pickle.loads(packed)) == whole


def test_a_disk_that_cannot_hold_it_is_one_line_with_both_sizes(root, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - 3_000_000, 3_000_000))
    monkeypatch.setattr("signstream.io.pose_cache.SPARE_DISK", 3_000_000 - 20_000)
    needs = rf"the cache of {root} needs 0 MB and 3 MB to spare, and .* has 3 MB free"
    with pytest.raises(ValueError, match=rf"{needs}: name another place with data.cache=DIR"):
        cache_of(root)
    assert not list((root.parent / "cache").glob("*/frames-*"))
    monkeypatch.setattr("signstream.io.pose_cache.SPARE_DISK", 0)
    assert len(cache_of(root).clips) == 3


def test_files_that_promise_too_much_do_not_stop_the_others(root):
    splits = {"train": ["clip0", "liar"]}
    write_csl(root, {"clip0": CLIPS["clip0"]}, splits, {"liar": {}})
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 134, 3), }\n"
    (root / "frames_512x512" / "liar.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(1000)
    )
    cache = cache_of(root)
    assert ([clip.name for clip in cache.clips], [line.name for line in cache.skipped]) == (["clip0"], ["liar"])


def test_what_was_left_out_is_written_a_line_each(root, tmp_path):
    write_csl(root, {"clip0": CLIPS["clip0"]}, {"train": ["clip0", "走", "a\ud800", 5], "val": ["clip0"]}, {"走": {}})
    cache_of(root).write_skipped(tmp_path / "skipped.jsonl")
    lines = (tmp_path / "skipped.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"split": "train", "name": "a\\ud800", "reason": "unsafe name: not valid UTF-8"},
        {"split": "train", "name": "5", "reason": "unsafe name: text is expected"},
        {"split": "train", "name": "走", "reason": "missing file"},
    ]
    assert "走" in lines[2], "as people read it"


# ---- several processes, and killed ones

SLOW = """
import os, time
from pathlib import Path
import signstream
from signstream.data.csl_daily import CSLDaily

@signstream.register("layout", "slow")
class Slow(CSLDaily):
    def load(self, split, name):
        with open(self.root.parent / "loads", "a") as file:
            file.write(f"{os.getpid()}\\n")
        if (self.root.parent / "hang").exists() and name == "clip9":
            (self.root.parent / "hanging").touch()
            time.sleep(30)
        time.sleep(0.02)
        return super().load(split, name)
"""
OPEN = """
import hashlib, json, sys
import torch
import slow_layout
from signstream.config import from_dict
from signstream.data.cache import open_cache
torch.set_num_threads(int(sys.argv[2]))
cache = open_cache(from_dict({"data": json.loads(sys.argv[1])}).data, quiet=True)
digest = hashlib.sha256(b"".join(cache.frames(i).tobytes() for i in range(len(cache.clips)))).hexdigest()
print(cache.path.name, digest, len(cache.clips))
"""


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """(root of 20 clips, starts a process that opens its cache through a layout that takes its time)."""
    root = write_csl(tmp_path / "data", CLIPS)
    (tmp_path / "slow_layout.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    registry.import_module("slow_layout")
    running = []

    def start(workers: int = 1) -> subprocess.Popen:
        options = {"root": str(root), "cache": str(tmp_path / "cache"), "layout": "slow"}
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(REPO), str(tmp_path))), "OMP_NUM_THREADS": "1"}
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", OPEN, json.dumps(options), str(workers)],
                env=environment,
                cwd=tmp_path,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        )
        return running[-1]

    yield root, start
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with workers that outlived it
        process.communicate()


def wait_for(condition, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_processes_that_start_together_build_it_once_and_see_the_same(slow):
    root, start = slow
    outputs = [process.communicate(timeout=60) for process in [start() for _ in range(3)]]
    assert [errors for _, errors in outputs] == ["", "", ""]
    assert len({output for output, _ in outputs}) == 1, "one memory map, the same bytes"
    assert outputs[0][0].split()[2] == "20"
    assert len((root.parent / "loads").read_text().split()) == 20, "each clip was loaded once"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_build_harms_nobody(slow, workers):
    root, start = slow
    (root.parent / "hang").touch()
    process = start(workers)
    wait_for((root.parent / "hanging").exists)
    (folder,) = (root.parent / "cache").iterdir()
    assert not (folder / "index.json").exists()
    assert not list(folder.glob("*.f32")), "a half-written memory map never bears its name"
    assert list(folder.glob(".*.part"))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (root.parent / "hang").unlink()
    (folder / "index.json.tmp").write_text('{"file": ')
    loaders = set(map(int, (root.parent / "loads").read_text().split()))
    output, errors = start(workers).communicate(timeout=20)
    assert errors == ""
    name, _, count = output.split()
    assert count == "20"
    assert {path.name for path in folder.iterdir()} == {"lock", "index.json", name}
    whole = content(cache_of(root, cache=str(root.parent / "plain")))
    assert content(cache_of(root, layout="slow")) == whole
    wait_for(lambda: not any(map(alive, loaders)), 10)


def test_who_has_it_open_keeps_the_old_frames_while_it_is_built_anew(slow):
    root, start = slow
    assert start().wait(60) == 0
    cache = cache_of(root, layout="slow")
    before = content(cache)
    np.save(root / "frames_512x512" / "clip0.npy", CLIPS["clip5"][:6])
    (root.parent / "hang").touch()
    process = start()
    wait_for((root.parent / "hanging").exists)
    assert content(PoseCache(cache.folder, cache.index, cache.skeleton)) == before, (
        "the old one stands until the new one is whole"
    )
    process.kill()
    process.wait()
    (root.parent / "hang").unlink()
    assert content(cache) == before
    after = content(cache_of(root, layout="slow"))
    assert {key[1] for key in before if after[key] != before[key]} == {"clip0"}
    assert content(cache) == before
