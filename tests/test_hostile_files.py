"""Files that are there to harm: bombs, pipes, devices, links to what is not theirs. None takes much memory or time, and
no reason quotes what a file holds."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bombs
from data_sets import GOOD, cache_of, content, data_config, npy_header, reasons, write_csl, write_npz
from helpers import ROOT
from signstream.config import load_config
from signstream.data.conversion import open_source
from signstream.data.datasets import open_data
from signstream.errors import UserError
from signstream.text_files import read_text

SECRET = "sesame:x:0:0:" + "sesame" * 4000
PIPES = {"a pipe": os.mkfifo, "a device": lambda path: path.symlink_to("/dev/zero")}


@pytest.fixture(autouse=True)
def within_a_minute():
    """What hangs is struck by a signal."""

    def strike(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, strike)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def took(root: Path, names: list[str]) -> dict[str, tuple[str, float, float]]:
    """{bomb: (reason, MB, seconds)} of a process of its own."""
    bombs.write(root, names)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(ROOT / "tests" / "bombs.py"), str(root), *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=55, check=True)
    return {name: tuple(values) for name, values in json.loads(done.stdout).items()}


def test_no_bomb_takes_memory_or_time(tmp_path):
    results = took(tmp_path / "data", list(bombs.BOMBS))
    assert results.keys() == bombs.BOMBS.keys()
    for name, (reason, grown, seconds) in results.items():
        assert reason.startswith(bombs.BOMBS[name][2]), (name, reason)
        assert grown < 60 and seconds < 2, (name, grown, seconds)


@pytest.mark.slow
def test_the_longest_clip_that_is_read_takes_bounded_memory(tmp_path, monkeypatch):
    """An hour and a half, whose every frame but the first is a hole in the file."""
    head = npy_header("(168000, 133, 3)", "'<f4'", GOOD["a"][0].tobytes())
    bombs.BOMBS["the longest"] = ("csl_daily", lambda path: bombs.sparse(path, head, 133 * 12 * 168_000 + 200), "")
    bombs.write(tmp_path / "data", ["the longest"])
    del bombs.BOMBS["the longest"]
    program = "import bombs, sys, pathlib; bombs.BOMBS['the longest'] = ('csl_daily', None, ''); "
    program += "bombs.read(pathlib.Path(sys.argv[1]), ['the longest'])"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", program, str(tmp_path / "data")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=55, check=True)
    reason, grown, _ = json.loads(done.stdout)["the longest"]
    assert not reason and grown < 1600


# -- what is no file


@pytest.mark.parametrize("make", PIPES.values(), ids=PIPES)
@pytest.mark.parametrize("file", ["annotations.json", "split_files.json"])
def test_a_table_that_is_no_file_is_one_line(tmp_path, file, make):
    root = write_csl(tmp_path / "data", GOOD)
    (root / file).unlink()
    make(root / file)
    with pytest.raises(UserError, match=rf"cannot read {root / file}: not a file, but a (pipe|device); an object"):
        open_data(data_config(root))


@pytest.mark.parametrize("make", PIPES.values(), ids=PIPES)
def test_other_tables_that_are_no_files(tmp_path, make):
    root = write_npz(tmp_path / "npz", {"a": {"poses": GOOD["a"]}})
    make(root / "annotations.json")
    with pytest.raises(UserError, match=r"annotations\.json: not a file, but a"):
        open_data(data_config(root, layout="npz"))
    make(tmp_path / "splits.json")
    split_file = str(tmp_path / "splits.json")
    with pytest.raises(UserError, match=r"splits\.json: not a file, but a"):
        open_data(data_config(write_csl(tmp_path / "csl", GOOD), split_file=split_file))
    with pytest.raises(UserError, match=r"splits\.json: not a file, but a"):
        open_source("pose", data_config(root, split_file=split_file))


@pytest.mark.parametrize("make", PIPES.values(), ids=PIPES)
def test_a_config_or_a_base_that_is_no_file_is_one_line(tmp_path, make):
    make(tmp_path / "pipe.yaml")
    (tmp_path / "child.yaml").write_text("base: pipe.yaml\n")
    for name in ("pipe.yaml", "child.yaml"):
        with pytest.raises(UserError, match=r"cannot read the config .*pipe.yaml: not a file, but a"):
            load_config(str(tmp_path / name), [])


@pytest.mark.parametrize("make", PIPES.values(), ids=PIPES)
def test_a_readme_that_is_no_file_states_nothing(tmp_path, make, good_content):
    root = write_csl(tmp_path / "data", GOOD)
    make(root / "CSL-Daily_README.md")
    assert content(cache_of(root)) == good_content


@pytest.mark.parametrize("file", ["annotations.json", "split_files.json", "CSL-Daily_README.md"])
def test_a_text_of_a_terabyte_is_refused_before_it_is_read(tmp_path, file):
    root = write_csl(tmp_path / "data", GOOD)
    os.truncate(root / file, 1 << 40) if (root / file).exists() else bombs.sparse(root / file, b"", 1 << 40)
    with pytest.raises(UserError, match=rf"cannot read {root / file}: larger than \d+ MB"):
        open_data(data_config(root))


def test_a_text_that_grows_as_it_is_read_is_bounded():
    with pytest.raises(OSError, match="larger than"):
        read_text(Path("/proc/self/smaps"), most=100)


# -- links, and what is quoted


def test_a_clip_that_is_a_link_out_of_the_data_root_is_left_out(tmp_path, good_content):
    outside = write_csl(tmp_path / "outside", {"c": GOOD["a"]})
    root = write_csl(tmp_path / "data", GOOD, {"train": ["a", "b", "c"]}, {"c": {}})
    (root / "frames_512x512" / "c.npy").symlink_to(outside / "frames_512x512" / "c.npy")
    cache = cache_of(root)
    assert reasons(cache) == {"c": f"a link that leads out of {root}"} and content(cache) == good_content


def test_nor_is_a_folder_of_clips_followed_out(tmp_path):
    outside, root = write_csl(tmp_path / "outside", GOOD), write_csl(tmp_path / "data", GOOD)
    (root / "frames_512x512").rename(tmp_path / "aside")
    (root / "frames_512x512").symlink_to(outside / "frames_512x512")
    with pytest.raises(UserError, match=rf"2 were left out \(2 a link that leads out of {root}\)"):
        cache_of(root)


@pytest.mark.parametrize("file", ["annotations.json", "split_files.json", "CSL-Daily_README.md"])
def test_nor_is_one_of_a_table_or_a_readme(tmp_path, file):
    root = write_csl(tmp_path / "data", GOOD)
    (tmp_path / "secret").write_text(SECRET)
    (root / file).unlink(missing_ok=True)
    (root / file).symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match=f"cannot read {root / file}: a link that leads out of {root}") as error:
        open_data(data_config(root))
    assert "sesame" not in str(error.value)


def test_npz_and_pose_files_are_no_way_out_either(tmp_path):
    outside = write_npz(tmp_path / "outside", {"a": {"poses": GOOD["a"]}})
    root = write_npz(tmp_path / "npz", {"b": {"poses": GOOD["b"]}})
    (root / "processed" / "train" / "a.npz").symlink_to(outside / "processed" / "train" / "a.npz")
    assert reasons(cache_of(root, layout="npz")) == {"a": f"a link that leads out of {root}"}
    (tmp_path / "pose" / "train").mkdir(parents=True)
    (tmp_path / "pose" / "train" / "a.pose").symlink_to(outside / "processed" / "train" / "a.npz")
    with pytest.raises(UserError, match="a link that leads out of"):
        open_source("pose", data_config(tmp_path / "pose")).load("train", "a")


def test_links_within_the_root_and_to_it_are_followed(tmp_path, good_content):
    root = write_csl(tmp_path / "data", GOOD)
    (root / "frames_512x512" / "a.npy").rename(root / "elsewhere.npy")
    (root / "frames_512x512" / "a.npy").symlink_to("../elsewhere.npy")
    (tmp_path / "linked").symlink_to(root)
    (tmp_path / "splits.json").symlink_to(root / "split_files.json")
    assert content(cache_of(tmp_path / "linked", split_file=str(tmp_path / "splits.json"))) == good_content


FOREIGN = {
    "text": SECRET.encode(),
    "text in an npy file": npy_header("'sesame' sesame"),
    "a header of text": npy_header("(12, 133, 3)", "'sesame'"),
    "an archive of text": b"PK\3\4" + SECRET.encode(),
    "half a .pose file": bombs.COCO_HEAD[:10] + b"\6\0sesame\xff\xfe",
}


@pytest.mark.parametrize("layout", ["csl_daily", "npz", "pose"])
@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
def test_a_reason_quotes_nothing_of_a_file(tmp_path, layout, foreign):
    root = write_csl(tmp_path / "data", {}, {"train": ["x"]}, {"x": {}})
    for folder, ending in (("frames_512x512", "npy"), ("processed/train", "npz"), ("processed/train", "pose")):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / f"x.{ending}").write_bytes(foreign)
    with pytest.raises(UserError) as error:
        open_source(layout, data_config(root)).load("train", "x")
    assert str(error.value).startswith("not a") and "sesame" not in str(error.value)


def test_a_flipped_bit_in_an_archive_is_noticed(tmp_path):
    """By the archive's own checksum, which is at hand once a member is read to its end."""
    root = write_npz(tmp_path / "npz", {"a": {"poses": GOOD["a"]}})
    file = root / "processed" / "train" / "a.npz"
    whole = bytearray(file.read_bytes())
    at = whole.find(np.float32(GOOD["a"][5, 5, 0]).tobytes(), 1000)
    whole[at] ^= 1
    file.write_bytes(whole)
    with pytest.raises(UserError, match=r"not a whole npz file \(BadZipFile\)"):
        open_source("npz", data_config(root)).load("train", "a")
