"""Files that may hold anything: a sound clip or a reason, in little memory, and the good clips among
them stay what they were."""

import io
import json
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from data_sets import (
    FORMS,
    GOOD,
    GOOD_FILE,
    cache_of,
    content,
    data_config,
    note,
    npy_bytes,
    npy_header,
    reasons,
    with_size,
    write_csl,
    write_npz,
)
from signstream.data.datasets import load_checked, open_data, skeleton_of
from signstream.data.frontend import prepare
from signstream.io.pose_files import npy_frames, npz_frames

TOKENS = [
    b"(((((",
    b"9999",
    b"-1, ",
    b"True",
    b"1e9,",
    b"0, 0",
    b"None",
    b"'O', ",
    b"\\d\\x",
    b"8L, ",
    bytes(4),
    b"\xff\xff\xff\xff",
]


def mutate(rng: np.random.Generator, content: bytes, head: int, tail: int = 0) -> bytes:
    """`content` after one to three flips, cuts, insertions, overwritings or repetitions, mostly in the first
    `head` or last `tail` bytes."""
    out = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        size = max(len(out), 1)
        at = int(rng.integers(0, size if rng.random() < 0.4 else min(head + tail, size)))
        at = at if at < head or not tail else max(size - 1 - (at - head), 0)
        kind = rng.integers(0, 6)
        if kind == 0:
            out[at : at + 1] = bytes(b ^ (1 << int(rng.integers(0, 8))) for b in out[at : at + 1])
        elif kind == 1:
            del out[at : at + int(rng.integers(1, 200)) if rng.random() < 0.5 else size]
        elif kind == 2:
            out[at:at] = rng.bytes(int(rng.integers(1, 40)))
        elif kind == 3:
            out[at : at + 4] = TOKENS[rng.integers(len(TOKENS))]
        elif kind == 4:
            out[at : at + 8] = rng.bytes(8)
        else:
            start = int(rng.integers(0, size))
            out[at:at] = out[start : start + int(rng.integers(1, 30))]
    return bytes(out)


HEADERS = [
    npy_header(shape, descr, GOOD_FILE[128:])
    for shape in (
        "(12, 133, 3)",
        "(12L, 133L, 3L)",
        "(12, 133, 3.0)",
        "()",
        "(1,)",
        "12",
        "(" * 50 + ")" * 50,
        "(True, 133, 3)",
        "(9**9**9, 133, 3)",
        "(-12, -133, 3)",
        "(4294967296, 4294967296, 0)",
        "(18446744073709551616, 0)",
        f"({'9' * 4000}, {'9' * 4000}, 3)",
        "(" + "1, " * 70 + ")",
    )
    for descr in (
        "'<f4'",
        "'|O'",
        "'<f16'",
        "'<i4'",
        "'f4,f4'",
        "'V0'",
        "'<U0'",
        "'|S4'",
        "'<M8[s]'",
        "'1f4'",
        "'\\d'",
        "None",
        "[('a', '<f4')]",
        "'|b1'",
    )
]


def allocates(limit: int, call, *args):
    """The call's value, if it warned of nothing and took less memory than that."""
    tracemalloc.start()
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            value = call(*args)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit, f"{peak} bytes for a small file"
    assert not warned, warned[0].message
    return value


def load_or_reason(source, name: str) -> np.ndarray | str:
    """What the cache does for one clip, but here only a ValueError counts as a reason."""
    try:
        clip = load_checked(source, "train", name)
    except ValueError as error:
        return str(error)
    raw = torch.from_numpy(np.require(clip.poses, np.float32, "CW"))
    ready = prepare(raw, skeleton_of(source.data), source.data, fps=clip.fps)
    assert ready.frames.shape[1:] == (133, 3)
    assert 1 <= len(ready.frames) <= 30 * len(clip.poses)
    assert torch.isfinite(ready.frames).all()
    assert torch.isfinite(ready.place).all()
    assert (ready.place[:, 2] > 0).all()
    assert ((ready.frames[..., 2] >= 0) & (ready.frames[..., 2] <= 1)).all()
    return clip.poses


def check_fuzzed(source, path: Path, contents: list[bytes], *, frames, min_refused: int) -> None:
    """Each content as the file at `path`: a sound clip or a reason, with `frames` (the cheap guess) never lying;
    between them the file as it was."""
    whole, outcomes = path.read_bytes(), []
    before = load_or_reason(source, path.stem)
    for i, changed in enumerate(contents):
        path.write_bytes(changed)
        try:
            outcome = allocates(64 << 20, load_or_reason, source, path.stem)
            promised = allocates(8 << 20, frames, path)
        except Exception as error:
            raise AssertionError(f"file {i}: {type(error).__name__}: {error}") from error
        assert promised is None or 0 <= promised <= 10_000, f"file {i} promises {promised} frames"
        assert not isinstance(outcome, str) or outcome, f"file {i} is refused without a reason"
        outcomes.append(isinstance(outcome, str))
        if i % 50 == 0:
            path.write_bytes(whole)
            assert np.array_equal(load_or_reason(source, path.stem), before)
    assert min_refused < sum(outcomes) < len(outcomes) - 20, "both outcomes must be there for the fuzz to say something"


def test_fuzzed_npy_files_are_a_sound_clip_or_a_reason(tmp_path):
    root, rng = write_csl(tmp_path / "data", {"x": GOOD["b"]}, notes={"x": {}}), np.random.default_rng(1)
    path = root / "frames_512x512" / "x.npy"
    seeds = [
        npy_bytes(form(GOOD["b"]))
        for form in (np.asarray, with_size, FORMS["float16"], FORMS["big-endian"], FORMS["Fortran order"])
    ]
    contents = [mutate(rng, seeds[i % len(seeds)], 128) for i in range(520)] + [rng.bytes(300) for _ in range(20)]
    contents += [*HEADERS, b"\x93NUMPY\x02\x00\xf0\xff\xff\xff" + GOOD_FILE]
    check_fuzzed(open_data(data_config(root)), path, contents, frames=npy_frames, min_refused=200)


def zipped(members: dict[str, bytes], method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for key, content in members.items():
            archive.writestr(f"{key}.npy", content)
    return out.getvalue()


def test_fuzzed_npz_files_are_a_sound_clip_or_a_reason(tmp_path):
    arrays = {"poses": GOOD["b"], "mask": np.ones(len(GOOD["b"])), "fps": np.array(30.0)}
    root, rng = write_npz(tmp_path / "data", {"x": arrays}), np.random.default_rng(2)
    path = root / "processed" / "train" / "x.npz"
    members = {key: npy_bytes(array) for key, array in arrays.items()}
    seeds = [
        zipped(members, method)
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    ]
    contents = [mutate(rng, seeds[i % 4 if i % 3 else i % 2], 60, 250) for i in range(400)]
    for key in [*members] * 20:
        contents += [
            zipped(members | {key: mutate(rng, members[key], head)}, zipfile.ZIP_DEFLATED) for head in (128, 1 << 20)
        ]
    contents += [zipped({"poses": header}, zipfile.ZIP_STORED) for header in HEADERS]
    long = npy_header("(200000, 133, 3)", payload=GOOD_FILE[128:])
    contents += [
        zipped({"poses": long}, method).replace(len(long).to_bytes(4, "little"), (1 << 29).to_bytes(4, "little"))
        for method in (0, 8)
    ]
    check_fuzzed(open_data(data_config(root, layout="npz")), path, contents, frames=npz_frames, min_refused=100)


def test_good_clips_stay_what_they_are_among_fuzzed_ones(tmp_path, good_content):
    rng, names = np.random.default_rng(3), [f"bad{i}" for i in range(60)]
    root = write_csl(
        tmp_path / "data", GOOD, {"train": [*names[:30], "a", *names[30:], "b"]}, {name: {} for name in names}
    )
    for name in names:
        (root / "frames_512x512" / f"{name}.npy").write_bytes(mutate(rng, GOOD_FILE, 128))
    kept, left_out = content(cache_of(root)), reasons(cache_of(root))
    assert {key: kept[key] for key in good_content} == good_content
    assert {name for _, name in kept} | set(left_out) == {*names, *GOOD}
    assert len(kept) + len(left_out) == 62
    assert len(left_out) > 20


def replace_somewhere(rng: np.random.Generator, tree):
    """GOOD_FILE JSON value with one of its values, keys or entries changed."""
    odd = [None, True, -1, 0, 12, 1e400, float("nan"), 10**30, "", "a", "..", "\ud800", "\0", "n" * 1000]
    odd += [[], {}, [[]], [None], {"a": 1}, ["a", "b", "a"], [["a"]]]
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []
    if not keys or rng.random() < 0.15:
        return odd[rng.integers(len(odd))]
    key, tree = keys[rng.integers(len(keys))], tree.copy()
    kind = rng.integers(0, 6)
    if kind == 0:
        del tree[key]
    elif kind == 1 and isinstance(tree, dict):
        tree[str(odd[rng.integers(len(odd))])] = tree.pop(key)
    else:
        tree[key] = replace_somewhere(rng, tree[key])
    return tree


@pytest.mark.parametrize("file", ["annotations.json", "split_files.json"])
def test_fuzzed_json_is_one_line_or_a_data_set(tmp_path, file):
    segments = [[0, 4, "A"], [4, 9, "B"]]
    root = write_csl(
        tmp_path / "data", GOOD, {"train": ["a"], "val": ["b", "c"]}, {"b": note(GOOD["b"], fps=30, segments=segments)}
    )
    whole, rng, opened = (root / file).read_bytes(), np.random.default_rng(4), 0
    lines: list[str] = []
    for i in range(140):
        changed = mutate(rng, whole, 1) if i % 2 else json.dumps(replace_somewhere(rng, json.loads(whole))).encode()
        (root / file).write_bytes(changed)
        try:
            cache = cache_of(root)
        except ValueError as error:
            lines.append(str(error))
            continue
        opened += 1
        cache.write_skipped(tmp_path / "skipped.jsonl")
        cache.summary().encode()
        assert all(clip.length == clip.num_frames for clip in cache.clips)
    assert all("\n" not in line and str(root) in line for line in lines)
    assert 10 < opened < 130, "both outcomes must be there for the fuzz to say something"
