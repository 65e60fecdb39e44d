import json
import textwrap

import numpy as np
import pytest

from data_sets import FORMS, GOOD, TINY, cache_of, content, data_config, note, reasons, whole_clip, write_csl, write_npz
from signstream import registry
from signstream.data.datasets import load_checked, open_data


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_number_type_or_byte_order_changes_no_pose(tmp_path, form):
    poses = whole_clip(10, 3)
    source = open_data(data_config(write_csl(tmp_path / "data", {"clip": form(poses)})))
    clip = load_checked(source, "train", "clip")
    assert clip.poses.dtype == np.float32
    assert np.array_equal(clip.poses, poses)
    assert clip.size == ((512, 512) if form(poses).shape[1] == 134 else None)


def test_the_annotation_travels_with_the_clip(tmp_path):
    full = note(GOOD["a"], fps=30, segments=[[0, 4, "HELLO"], [4, 12, "YOU"]])
    bare = {
        "num_frames": 9,
        "signer": None,
        "fps": "fast",
        "segments": [[4, 2, "BACKWARDS"], [0, 99, "TOO LONG"], "text"],
    }
    cache = cache_of(write_csl(tmp_path / "data", GOOD, notes={"a": full, "b": bare}))
    a, b = cache.clips
    assert (a.text, a.gloss, a.signer, a.segments, a.fps, a.fps_known) == (
        "你好",
        "HELLO",
        "3",
        ((0, 4, "HELLO"), (4, 12, "YOU")),
        30,
        True,
    )
    assert (b.text, b.gloss, b.signer, b.segments, b.fps, b.fps_known) == ("", "", "", (), 30, False)
    assert "1 without a frame rate" in cache.summary()


@pytest.mark.parametrize("fps", [0, -30, True, 1e-3, 1e-300, 1e9, float("nan"), float("inf"), None, "30", [30]])
@pytest.mark.parametrize("layout", ["csl_daily", "npz"])
def test_a_frame_rate_that_no_camera_has_is_unknown(tmp_path, fps, layout):
    if layout == "npz" and not isinstance(fps, float):
        fps = float("-inf")
    write_csl(tmp_path / "data", {"a": GOOD["a"]}, notes={"a": note(GOOD["a"], fps=fps)})
    write_npz(tmp_path / "data", {"a": {"poses": GOOD["a"], "fps": np.array(fps if layout == "npz" else 0)}})
    cache = cache_of(tmp_path / "data", layout=layout)
    assert (cache.clips[0].fps_known, cache.clips[0].fps, cache.clips[0].length) == (False, 30, 12)


def test_a_frame_rate_decides_how_many_frames_are_kept(tmp_path):
    cache = cache_of(
        write_csl(tmp_path / "data", GOOD, notes={"a": note(GOOD["a"], fps=60), "b": note(GOOD["b"], fps=10)})
    )
    assert [(clip.num_frames, clip.length, clip.fps) for clip in cache.clips] == [(12, 6, 60), (9, 27, 10)]


def test_names_without_a_file_or_an_annotation_are_left_out_and_counted(tmp_path, good_content):
    splits = {"train": ["a", "b", "no_file", "neither"], "val": ["no_note", "a"], "test": []}
    root = write_csl(tmp_path / "data", {**GOOD, "no_note": GOOD["a"]}, splits, {"no_file": note(GOOD["a"])})
    annotations = json.loads((root / "annotations.json").read_text(encoding="utf-8"))
    del annotations["no_note"]
    (root / "annotations.json").write_text(json.dumps(annotations), encoding="utf-8")
    cache = cache_of(root)
    assert reasons(cache) == {"no_file": "missing file", "neither": "no annotation", "no_note": "no annotation"}
    assert {key: value for key, value in content(cache).items() if key[0] == "train"} == good_content
    assert cache.split("val") == [2]
    assert "left out: 2 no annotation, 1 missing file" in cache.summary()
    with pytest.raises(ValueError, match=r"'test' has no clip.*train \(2\), val \(1\)"):
        cache.split("test")


def test_npz_and_csl_layout_of_one_clip_give_the_same_frames(tmp_path):
    masked = np.ones(12)
    masked[3:8] = 0
    shown = GOOD["a"] * masked[:, None, None].astype(np.float32)
    csl = cache_of(write_csl(tmp_path / "csl", {"a": GOOD["a"], "masked": shown}), max_gap=2)
    arrays = {
        "a": {"poses": GOOD["a"]},
        "masked": {"poses": GOOD["a"], "mask": masked},
        "plain": {"poses": GOOD["a"][..., :2]},
    }
    npz = cache_of(write_npz(tmp_path / "npz", arrays), layout="npz", max_gap=2)
    frames = {clip.name: npz.frames(i) for i, clip in enumerate(npz.clips)}
    assert np.array_equal(frames["a"], csl.frames(0))
    assert np.array_equal(frames["masked"], csl.frames(1))
    assert np.array_equal(frames["plain"], csl.frames(0)), "a joint of x and y only counts as seen"
    assert not frames["masked"][3:8, 1:].any()
    assert frames["masked"][[2, 8], 1:].any((1, 2)).all()


def test_another_skeleton_comes_with_its_own_parts_and_frame_rate(tmp_path):
    poses = np.random.default_rng(0).uniform(50, 400, (10, 4, 2)).astype(np.float32)
    poses[4, 3] = 0
    cache = cache_of(
        write_npz(tmp_path / "data", {"x": {"poses": poses, "fps": np.array(25)}}),
        layout="npz",
        fps=25,
        smooth=0,
        max_gap=0,
        **TINY,
    )
    assert (cache.clips[0].fps, cache.clips[0].fps_known) == (25, True)
    place, frames = cache.frames(0)[:, :1], cache.frames(0)[:, 1:]
    back = frames[..., :2] * place[..., 2:] + place[..., :2]
    seen = frames[..., 2] > 0
    assert seen.sum() == 39
    assert not seen[4, 3], "x and y both 0 is what a detector writes for nothing"
    assert np.allclose(back[seen], poses[seen], atol=1e-3)


BLOCKS = '''
import numpy as np
import signstream
from signstream.data.datasets import Clip, PoseData

@signstream.register("layout", "blocks")
class Blocks(PoseData):
    """One text file a clip: four joints' x, y, score in a line."""

    def splits(self):
        names = sorted(path.stem for path in self.root.glob("*.txt"))
        return {"train": names[1:], "val": names[:1]}

    def files(self, split, name):
        return [self.root / f"{name}.txt"]

    def load(self, split, name):
        poses = np.loadtxt(self.root / f"{name}.txt").reshape(-1, 4, 3)
        if name == "refused":
            raise ValueError("half-written\\n  by the\\ud800 recorder")
        size, segments = (np.int64(640), 480), [(np.int64(0), 2, name)]
        return Clip(name, poses, fps=np.float32(25), size=size, signer=np.int64(4), segments=segments)
'''


def test_a_users_own_layout_works_through_the_cache(tmp_path, monkeypatch):
    (tmp_path / "my_layout.py").write_text(BLOCKS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    registry.import_module("my_layout")
    root = tmp_path / "data"
    root.mkdir()
    for seed, name in enumerate(("one", "three", "two", "refused")):
        poses = np.random.default_rng(seed).uniform(10, 400, (6, 4, 3))
        poses[..., 2] = 1
        np.savetxt(root / f"{name}.txt", poses.reshape(6, -1))
    (root / "broken.txt").write_text("1 2 three")
    cache = cache_of(root, layout="blocks", fps=25, **TINY)
    assert [(clip.split, clip.name, clip.length) for clip in cache.clips] == [
        ("train", "one", 6),
        ("train", "three", 6),
        ("train", "two", 6),
    ]
    one = cache.clips[0]
    assert (one.fps, one.size, one.signer, one.segments) == (25, (640, 480), "4", ((0, 2, "one"),))
    assert set(reasons(cache)) == {"broken", "refused"}
    assert reasons(cache)["refused"].startswith("half-written by the")
    cache.write_skipped(tmp_path / "skipped.jsonl")
    lines = (tmp_path / "skipped.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["name"] for line in lines} == {"broken", "refused"}


@pytest.mark.parametrize(
    "returned",
    [
        "None",
        "Clip(name, None)",
        "Clip(name, P[0])",
        "Clip(name, P[:, :3])",
        "Clip(name, P, segments=3)",
        "Clip(name, P.astype(object))",
        "Clip(name, P.astype(complex))",
        "Clip(name, P, size=(1,))",
        "1 / 0",
    ],
)
def test_whatever_a_users_reader_returns_the_other_clips_stay(tmp_path, monkeypatch, returned):
    module = f"layout_{abs(hash(returned))}"
    (tmp_path / f"{module}.py").write_text(
        textwrap.dedent(f"""
        import numpy as np
        import signstream
        from signstream.data.datasets import Clip, PoseData
        P = np.random.default_rng(0).uniform(1, 400, (6, 4, 3))

        @signstream.register("layout", "{module}")
        class Layout(PoseData):
            def splits(self):
                return {{"train": ["bad", "good"]}}

            def load(self, split, name):
                return Clip(name, P) if name == "good" else {returned}
    """),
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry.import_module(module)
    cache = cache_of(tmp_path / "anywhere", layout=module, **TINY)
    assert [clip.name for clip in cache.clips] == ["good"]
    assert reasons(cache)["bad"]


@pytest.mark.parametrize("layout", ["csl", "", "json:Decoder", "not_a_reader"])
def test_a_layout_that_is_none_is_one_line(tmp_path, layout, monkeypatch):
    monkeypatch.setitem(registry.TABLES["layout"], "not_a_reader", dict)
    with pytest.raises(ValueError, match=r"data\.layout is '"):
        open_data(data_config(tmp_path, layout=layout))
