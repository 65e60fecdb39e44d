"""What cannot be a clip is one line with its reason; what is no data set is one error; nothing else is lost."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_sets import GOOD, GOOD_FILE, cache_of, content, note, npy_bytes, npy_header, reasons, write_csl, write_npz

REPO = Path(__file__).resolve().parents[1]


class Payload:
    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self):
        return os.mkdir, (str(self.made),)


def saved(array: np.ndarray):
    return lambda path: path.write_bytes(npy_bytes(array))


def written(content: bytes):
    return lambda path: path.write_bytes(content)


def all_over(value: float, channels: slice = slice(None)) -> np.ndarray:
    poses = GOOD["a"].copy()
    poses[..., channels] = value
    return poses


BAD_FILES = {
    "truncated": (written(GOOD_FILE[:-7]), "truncated: "),
    "only a header": (written(GOOD_FILE[:128]), "truncated: "),
    "half a header": (written(GOOD_FILE[:60]), "not an npy file"),
    "rank 2": (saved(GOOD["a"][0]), "shape [133, 3]: "),
    "rank 4": (saved(GOOD["a"][None]), "shape [1, 12, 133, 3]: "),
    "rank 0": (saved(np.float32(1)), "shape ["),
    "17 joints": (saved(GOOD["a"][:, :17]), "shape [12, 17, 3]: "),
    "two channels": (saved(GOOD["a"][..., :2]), "shape [12, 133, 2]: "),
    "text": (written(b"name,x,y\nclip,1,2\n"), "not an npy file"),
    "empty": (written(b""), "empty file"),
    "a directory": (Path.mkdir, "not a file: a directory"),
    "a pipe": (os.mkfifo, "not a file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "missing file"),
    "a link to nothing": (lambda path: path.symlink_to("gone.npy"), "missing file"),
    "NaN": (saved(all_over(np.nan)), "not finite"),
    "inf": (saved(all_over(np.inf)), "not finite"),
    "beyond float32": (saved(all_over(1.0).astype(np.float64) * 1e300), "not finite"),
    "beyond any picture": (saved(all_over(1e9, slice(2))), "no visible joint"),
    "no frame": (saved(GOOD["a"][:0]), "no frame"),
    "scores zero": (saved(all_over(0, slice(2, 3))), "no visible joint"),
    "scores NaN": (saved(all_over(np.nan, slice(2, 3))), "no visible joint"),
    "terabytes promised": (written(npy_header("(1000000000, 134, 3)", payload=GOOD_FILE)), "truncated: "),
    "terabytes of nothing": (written(npy_header("(10000000000, 0, 3)")), "shape [10000000000, 0, 3]"),
    "a size beyond 64 bits": (
        written(npy_header("(10000000000000000000000, 0, 3)")),
        "shape [10000000000000000000000, 0, 3]",
    ),
    "a negative size": (written(npy_header("(-1, 133, 3)", payload=GOOD_FILE)), "shape [-1, 133, 3]"),
    "a header of 4 GB": (written(b"\x93NUMPY\x02\x00\xf0\xff\xff\xff" + GOOD_FILE), "not an npy file"),
    "complex": (saved(GOOD["a"].astype(np.complex64)), "type complex64"),
    "texts": (saved(np.full((12, 133, 3), "1.0")), "type <U3"),
    "records": (saved(np.zeros(12, [("x", "f4"), ("y", "f4")])), "type "),
    "a pickle": (written(pickle.dumps(GOOD["a"])), "not an npy file"),
}


def check_one_left_out(root: Path, reason: str, good_content: dict, name: str = "bad", **options: object) -> None:
    cache = cache_of(root, **options)
    assert list(reasons(cache)) == [name]
    assert reasons(cache)[name].startswith(reason)
    assert reasons(cache)[name].isprintable()
    assert len(reasons(cache)[name]) < 300
    assert content(cache) == good_content


@pytest.mark.parametrize(("write", "reason"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_one_skipped_line_and_the_others_stay(tmp_path, good_content, write, reason):
    root = write_csl(tmp_path / "data", GOOD, {"train": ["bad", "a", "b"]}, {"bad": {}})
    write(root / "frames_512x512" / "bad.npy")
    check_one_left_out(root, reason, good_content)


@pytest.mark.parametrize("layout", ["csl_daily", "npz"])
def test_a_pickle_in_a_file_is_never_run(tmp_path, good_content, layout):
    made = tmp_path / "made_by_the_pickle"
    trap = np.array([Payload(made)], dtype=object)
    if layout == "npz":
        root = write_npz(
            tmp_path / "data", {"bad": {"poses": trap}} | {name: {"poses": poses} for name, poses in GOOD.items()}
        )
        file = root / "processed" / "train" / "bad.npz"
    else:
        root = write_csl(tmp_path / "data", GOOD, {"train": ["bad", "a", "b"]}, {"bad": {}})
        file = root / "frames_512x512" / "bad.npy"
        np.save(file, trap)
    cache = cache_of(root, layout=layout)
    assert reasons(cache) == {"bad": "pickle inside: refused, it could run code"}
    assert {name for _, name in content(cache)} == set(GOOD)
    assert not made.exists()
    loaded = np.load(file, allow_pickle=True)
    _ = loaded["poses"] if layout == "npz" else loaded
    assert made.exists(), "the trap must be one"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_one_skipped_line(tmp_path, good_content):
    root = write_csl(tmp_path / "data", {**GOOD, "bad": GOOD["a"]})
    (root / "frames_512x512" / "bad.npy").chmod(0)
    check_one_left_out(root, "cannot open: Permission denied", good_content)


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ([], "annotation: list instead of an object"),
        ("text", "annotation: str instead of an object"),
        (3, "annotation: int instead"),
        (None, "no annotation"),
        ({"num_frames": 11}, "num_frames: the annotation says 11, the file has 12"),
        ({"num_frames": float("nan")}, "num_frames: "),
    ],
)
def test_a_bad_annotation_is_one_skipped_line(tmp_path, good_content, annotation, reason):
    root = write_csl(tmp_path / "data", {**GOOD, "bad": GOOD["a"]}, notes={"bad": annotation})
    check_one_left_out(root, reason, good_content)


def test_a_frame_count_that_differs_may_be_allowed(tmp_path):
    root = write_csl(tmp_path / "data", GOOD, notes={"a": note(GOOD["b"])})
    assert set(reasons(cache_of(root))) == {"a"}
    assert not cache_of(root, check_num_frames=False).skipped


def test_two_annotations_of_one_name_must_agree(tmp_path, good_content):
    root = write_csl(tmp_path / "data", {**GOOD, "bad": GOOD["a"]})
    text = (root / "annotations.json").read_text(encoding="utf-8").rstrip("}") + "}"
    second = ', "a": ' + json.dumps(note(GOOD["a"])) + ', "bad": {"num_frames": 12, "gloss": "ANOTHER"}}'
    (root / "annotations.json").write_text(text + second, encoding="utf-8")
    check_one_left_out(root, "duplicate name: two annotations that differ", good_content)


def test_a_field_written_twice_in_one_annotation_costs_no_other_clip(tmp_path, good_content):
    root = write_csl(tmp_path / "data", GOOD)
    text = (root / "annotations.json").read_text(encoding="utf-8")
    (root / "annotations.json").write_text(
        text.replace('"signer": 3', '"segments": [], "signer": 3, "segments": [[1, 1, "X"]]', 1), encoding="utf-8"
    )
    assert content(cache_of(root)) == good_content


NAMES = {
    "again": ("a", "a", "duplicate name"),
    "a slash": ("../data/frames_512x512/a", "../data/frames_512x512/a", "unsafe name: "),
    "absolute": ("/etc/passwd", "/etc/passwd", "unsafe name: "),
    "a backslash": ("..\\a", "..\\a", "unsafe name: "),
    "two dots": ("..", "..", "unsafe name: "),
    "NUL": ("a\0b", "a\\x00b", "unsafe name: "),
    "half a character": ("a\ud800", "a\\ud800", "unsafe name: not valid UTF-8"),
    "too long": ("n" * 300, "n" * 300, "unsafe name: longer"),
    "too long in bytes": ("语" * 100, "语" * 100, "unsafe name: longer"),
    "as long as can be": ("n" * 240, "n" * 240, "missing file"),
    "empty": ("", "", "unsafe name: text"),
    "a number": (7, "7", "unsafe name: text"),
    "nothing": (None, "None", "unsafe name: text"),
    "a list": (["a"], "['a']", "unsafe name: text"),
}


@pytest.mark.parametrize(("name", "shown", "reason"), NAMES.values(), ids=NAMES)
def test_a_bad_name_is_one_skipped_line(tmp_path, good_content, name, shown, reason):
    notes = {name: {}} if isinstance(name, str) and name != "a" else {}
    root = write_csl(tmp_path / "data", GOOD, {"train": ["a", name, "b"]}, notes)
    cache = cache_of(root)
    assert [(line.name, line.split) for line in cache.skipped] == [(shown, "train")]
    assert cache.skipped[0].reason.startswith(reason)
    assert content(cache) == good_content
    cache.write_skipped(tmp_path / "skipped.jsonl")
    lines = (tmp_path / "skipped.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line)["name"] for line in lines if line] == [shown]


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"pose": GOOD["a"]}, "no array `poses`"),
        ({"poses": GOOD["a"][:, :50]}, "shape [12, 50, 3]"),
        ({"poses": GOOD["a"], "mask": np.ones(11)}, "mask [11]: [12] is expected"),
        ({"poses": GOOD["a"], "mask": np.ones((12, 1))}, "mask [12, 1]: [12] is expected"),
        ({"poses": GOOD["a"], "mask": np.zeros(12)}, "no visible joint"),
        ({"poses": GOOD["a"][:0]}, "no frame"),
        ({"poses": np.zeros((12, 133, 2))}, "no visible joint"),
        ({"poses": GOOD["a"], "fps": np.array("25")}, "type <U2"),
        (None, "not a whole npz file"),
    ],
)
def test_a_bad_npz_is_one_skipped_line(tmp_path, arrays, reason):
    good = {name: {"poses": poses} for name, poses in GOOD.items()}
    expected = content(cache_of(write_npz(tmp_path / "good", good), layout="npz"))
    root = write_npz(tmp_path / "data", good | {"bad": arrays or good["a"]})
    if arrays is None:
        file = root / "processed" / "train" / "bad.npz"
        file.write_bytes(file.read_bytes()[:-100])
    check_one_left_out(root, reason, expected, layout="npz")


def broken(file: str, content: bytes | str | None):
    def change(root: Path) -> None:
        if content is None:
            (root / file).unlink()
        else:
            (root / file).write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


BAD_ROOTS = {
    "annotations missing": (broken("annotations.json", None), "annotations.json", "is expected there"),
    "annotations no JSON": (broken("annotations.json", "{"), "annotations.json", "is no JSON that can be read"),
    "annotations a list": (broken("annotations.json", "[]"), "annotations.json", "holds a list: an object {name"),
    "annotations empty": (broken("annotations.json", ""), "annotations.json", "is no JSON that can be read"),
    "annotations not UTF-8": (
        broken("annotations.json", b'{"a": "\xff"}'),
        "annotations.json",
        "is no JSON that can be read",
    ),
    "annotations very deep": (
        broken("annotations.json", "[" * 100_000),
        "annotations.json",
        "is no JSON that can be read",
    ),
    "splits missing": (broken("split_files.json", None), "split_files.json", "is expected there"),
    "splits no JSON": (
        broken("split_files.json", '{"train": [a, b]}'),
        "split_files.json",
        "is no JSON that can be read",
    ),
    "splits a list": (broken("split_files.json", '["a", "b"]'), "split_files.json", "holds a list: an object"),
    "a split that is text": (
        broken("split_files.json", '{"train": "a"}'),
        "split_files.json",
        "a list of clips' names is expected",
    ),
    "a split written twice": (
        broken("split_files.json", '{"train": ["a"], "train": ["b"]}'),
        "split_files.json",
        "twice",
    ),
    "a split with the name of a path": (
        broken("split_files.json", '{"../x": ["a"]}'),
        "split_files.json",
        "unsafe name",
    ),
    "a split with half a character": (
        broken("split_files.json", '{"\\ud800": ["a"]}'),
        "split_files.json",
        "unsafe name",
    ),
    "splits empty": (broken("split_files.json", "{}"), "data", "no usable clip"),
    "nothing usable": (
        broken("annotations.json", "{}"),
        "data",
        "no usable clip in the csl_daily layout: 2 were left out (2 no annotation)",
    ),
}


@pytest.mark.parametrize(("change", "where", "what"), BAD_ROOTS.values(), ids=BAD_ROOTS)
def test_a_broken_data_set_is_one_line_that_names_the_file(tmp_path, change, where, what):
    root = write_csl(tmp_path / "data", GOOD)
    change(root)
    with pytest.raises(ValueError) as error:
        cache_of(root)
    assert str(root / where).removesuffix("/data") in str(error.value)
    assert what in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("layout", ["csl_daily", "npz"])
def test_a_root_that_is_not_there_says_what_should_be(tmp_path, layout):
    with pytest.raises(ValueError, match=f"data.root {tmp_path / 'none'} .*frames_512x512/|processed/train"):
        cache_of(tmp_path / "none", layout=layout)


def test_a_root_that_links_to_itself_is_not_there(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match="is no folder"):
        cache_of(tmp_path / "loop")


def test_a_split_file_of_ones_own(tmp_path):
    root = write_csl(tmp_path / "data", GOOD)
    (tmp_path / "mine.json").write_text('{"few": ["b"]}')
    cache = cache_of(root, split_file=str(tmp_path / "mine.json"))
    assert [cache.clips[i].name for i in cache.split("few")] == ["b"]
    with pytest.raises(ValueError, match=r"the split 'train' has no clip: those that have are few \(1\)"):
        cache.split("train")


@pytest.mark.parametrize(
    ("program", "arguments", "named"),
    [
        (["-m", "signstream.config"], ["{}/none.yaml"], "none.yaml"),
        (["-m", "signstream.config"], ["{}/broken.yaml"], "broken.yaml"),
        (["-m", "signstream.config"], ["{}/binary.yaml"], "binary.yaml"),
        (["-m", "signstream.config"], ["{}/empty.yaml", "data.rooot=x"], "data.root"),
        (["-m", "signstream.config"], ["{}/empty.yaml", "data.chunk_len=0"], "data.chunk_len"),
        (
            ["-m", "signstream.data.visualize_dataset"],
            ["data.cache={}/cache", "--out", "{}/pictures", "data.root={}/none"],
            "/none is no folder: it should hold frames_512x512/",
        ),
    ],
)
def test_an_entry_point_ends_with_one_line_and_status_2(tmp_path, program, arguments, named):
    for name, text in (("broken", b"data: ["), ("binary", b"\xff\xfe"), ("empty", b"")):
        (tmp_path / f"{name}.yaml").write_bytes(text)
    command = [sys.executable, *program, *(text.format(tmp_path) for text in arguments)]
    result = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert named in result.stderr
    assert not (tmp_path / "cache").exists()
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert not result.stdout
