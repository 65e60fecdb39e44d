"""Clips with their sentences: points and what is missing, what leaves a clip out, what a digest tells, every source,
and clips that are too long."""

import hashlib
import json

import numpy as np
import pytest
import torch

from clips import moving_clip, with_gaps
from data_sets import note, write_csl
from sentence_clips import data_of, eight, left_out, root_of, sequences_of
from sentences import said_in_one_line
from signstream.config import from_dict, load_config
from signstream.config.common import PoseAugment
from signstream.data.cache import open_cache
from signstream.data.joints75 import NUM_POINTS, points_of
from signstream.data.sentences import leave_out_too_long, open_sentences, points_seen, sentence_batch
from signstream.data.sequences import LONGEST_TEXT
from signstream.data.sources import open_sequences
from signstream.data.transforms import warped_track
from signstream.skeleton import COCO_WHOLEBODY

TEXTS = {"a": "Der Regen kommt.", "b": "Im Norden SCHNEE", "c": "Guten Abend"}
OWN = {
    "num_joints": 8,
    "points": 8,
    "body_parts": {"body": [1, 2], "left_hand": [3, 5], "right_hand": [6, 8]},
    "centers": {"body": 1, "left_hand": 3, "right_hand": 6},
    "unit_joints": [[1, 2]],
}


def identity(lengths: torch.Tensor) -> torch.Tensor:
    return lengths


# -- points


def some_joints() -> torch.Tensor:
    """[2, 9, 133, 3]; a fifth is missing, and 0."""
    joints = torch.randn(2, 9, 133, 3, generator=torch.Generator().manual_seed(0))
    joints[..., 2] = joints[..., 2].abs() + 0.1
    joints[torch.rand(2, 9, 133, generator=torch.Generator().manual_seed(1)) < 0.2] = 0
    joints[0, 0, [91, 9]] = 0  # neither the hand's own wrist nor the body's
    return joints


def by_hand(joints: torch.Tensor) -> torch.Tensor:
    """All 133, joint after joint."""
    out = joints.clone()
    for frame, there in zip(out.flatten(0, 1), joints.flatten(0, 1)):
        for wrist, body in ((91, 9), (112, 10)):
            known = [joint for joint in (wrist, body) if there[joint, 2] > 0]
            seen = [joint for joint in range(wrist, wrist + 21) if there[joint, 2] > 0]
            box = there[seen, :2]
            centre = there[known[0], :2] if known else (box.amin(0) + box.amax(0)) / 2
            for joint in seen:
                if joint != wrist:
                    frame[joint, :2] = there[joint, :2] - centre
    return out


def test_a_hand_is_seen_from_its_wrist_and_the_wrist_from_the_nose():
    joints = some_joints()
    before = joints.clone()
    whole = points_seen(joints, COCO_WHOLEBODY, 133)
    torch.testing.assert_close(whole, by_hand(joints))
    assert torch.equal(joints, before) and torch.equal(whole[..., 2], joints[..., 2])
    assert torch.equal(whole[..., [91, 112], :], joints[..., [91, 112], :])
    points = points_seen(joints, COCO_WHOLEBODY, 75)
    assert points.shape == (2, 9, NUM_POINTS, 3)
    assert np.array_equal(points.numpy(), points_of(whole.numpy()))
    assert not points[points[..., 2] == 0].any() and not whole[joints[..., 2] == 0].any()


def test_clips_come_as_points_and_nothing_stands_where_one_is_missing(tmp_path):
    clips = {name: with_gaps(moving_clip(20 + i, i), i) for i, name in enumerate(TEXTS)}
    root = write_csl(tmp_path / "data", clips, None, {n: note(p, text=TEXTS[n]) for n, p in clips.items()})
    sequences = sequences_of(root, points=75, augment={"dropout_prob": 0.3})
    raw = sequences.read([0, 1, 2], 5)
    plain = sequences.padded(raw, train=False)
    assert plain.streams["keypoints"].shape == (3, 22, 75, 3) and plain.lengths == (20, 21, 22)
    for points in (plain.streams["keypoints"], sequences.padded(raw, train=True).streams["keypoints"]):
        assert not points[points[..., 2] == 0].any() and points.isfinite().all()
    assert not plain.streams["keypoints"][0, 20:].any()
    batch = sentence_batch(sequences, raw, train=False)
    assert batch.texts == tuple(TEXTS.values()) and batch.words == (("HELLO",),) * 3 and len(batch) == 3
    assert batch.lengths.tolist() == list(batch.steps) == [20, 21, 22]


@pytest.mark.parametrize("paired", [True, False])
def test_another_skeleton_has_its_own_hands(tmp_path, paired):
    clips = {"a": moving_clip(9, 0)[:, 5:13]}
    root = write_csl(tmp_path / "data", clips, None, {"a": note(clips["a"])})
    pairs = {"mirror_pairs": [[3, 6], [4, 7], [5, 8]]} if paired else {}
    sequences = sequences_of(root, **OWN, **pairs)
    raw = sequences.read([0], 0)
    joints = raw.streams["poses"][None, :, 1:]
    points = sequences.padded(raw, train=False).streams["keypoints"]
    expected = joints.clone()
    if paired:
        for wrist in (2, 5):
            expected[..., wrist + 1 : wrist + 3, :2] -= joints[..., wrist : wrist + 1, :2]
    torch.testing.assert_close(points, expected)


def test_a_skeleton_of_75_joints_is_no_mediapipes(tmp_path):
    """Its points are its own joints, in their order."""
    clips = {"a": moving_clip(9, 0)[:, :75]}
    root = write_csl(tmp_path / "data", clips, None, {"a": note(clips["a"])})
    parts = {"body_parts": {"body": [1, 75]}, "centers": {"body": 1}, "unit_joints": [[1, 2]]}
    sequences = sequences_of(root, num_joints=75, points=75, **parts)
    raw = sequences.read([0], 0)
    assert torch.equal(sequences.padded(raw, train=False).streams["keypoints"][0], raw.streams["poses"][:, 1:])
    for points in (133, 8):
        said_in_one_line(lambda points=points: data_of(root, num_joints=75, points=points, **parts), "75 can be read")
    said_in_one_line(lambda: data_of(root, points=74), "data.points is 74: of 133 joints, 75 or 133 can be read")


# -- sentences


def test_what_is_wrong_with_a_sentence_leaves_its_clip_out(tmp_path):
    texts = {
        **{"empty": "", "blank": " \u3000", "long": "x" * (LONGEST_TEXT + 1), "odd": "a\u202eb"},
        **{"half": "x\ud800", "just": "x" * LONGEST_TEXT, "good": "Gut: \u00fc\U0001f600"},
    }
    sequences = sequences_of(root_of(tmp_path, texts))
    assert left_out(sequences) == {
        "empty": "no sentence",
        "blank": "no sentence",
        "long": f"too long a sentence: {LONGEST_TEXT + 1} characters",
        "odd": "a sentence with an odd character: \\u202e",
        "half": "a sentence with an odd character: \\ud800",
    }
    assert [sequences.examples[clip].name for clip in sequences.clips_of("train")] == ["just", "good"]
    assert "1 too long a sentence" in sequences.summary() and len(sequences.summary()) < 400


def test_glosses_are_no_fault_of_a_sentence(tmp_path):
    root = root_of(tmp_path, TEXTS, a={"gloss": ""}, b={"gloss": "A\x1bB"})
    assert not sequences_of(root).skipped
    recognised = {"root": str(root), "cache": str(tmp_path / "cache"), "layout": "csl_daily", "source": "keypoints"}
    data = from_dict({"task": "recognition", "data": {**recognised, "fps": 30, "clean": "none"}}).data
    assert left_out(open_sequences(data, quiet=True)) == {
        "a": "no gloss",
        "b": "gloss with an odd character: \\x1b",
    }


def test_lower_case_is_asked_for(tmp_path):
    root = root_of(tmp_path, TEXTS)
    plain, lower = sequences_of(root), sequences_of(root, lower=True)
    assert [example.text for example in plain.examples] == list(TEXTS.values())
    assert [example.text for example in lower.examples] == [text.lower() for text in TEXTS.values()]
    assert sentence_batch(lower, lower.read([1], 0), train=True).texts == ("im norden schnee",)
    assert plain.digest("train") != lower.digest("train")


def test_a_digest_is_of_sentences_and_not_of_glosses(tmp_path):
    one = sequences_of(root_of(tmp_path / "1", TEXTS)).digest("train")
    assert sequences_of(root_of(tmp_path / "2", TEXTS, a={"gloss": "OTHER"})).digest("train") == one
    assert sequences_of(root_of(tmp_path / "3", {**TEXTS, "a": "Der Regen kommt"})).digest("train") != one
    moved = root_of(tmp_path / "4", TEXTS, frames=(13, 12, 14))
    assert sequences_of(moved).digest("train") != one, "and of the poses"


def test_a_recognisers_digests_are_what_they_were(tmp_path):
    """Or no run of before would go on."""
    root = root_of(tmp_path, TEXTS, b={"gloss": "A B"})
    tree = {"root": str(root), "cache": str(tmp_path / "cache"), "layout": "csl_daily", "source": "keypoints"}
    data = from_dict({"task": "recognition", "data": {**tree, "fps": 30, "clean": "none"}}).data
    lines = [["a", ["HELLO"]], ["b", ["A", "B"]], ["c", ["HELLO"]]]
    content = json.dumps([open_cache(data, quiet=True).digest("train"), lines])
    assert open_sequences(data, quiet=True).digest("train") == hashlib.sha256(content.encode()).hexdigest()


def test_csl_daily_has_chinese_sentences(tmp_path):
    texts = {"a": "今天下雨，明天下雪。", "b": "你好！"}
    sequences = sequences_of(root_of(tmp_path, texts), points=75)
    assert sentence_batch(sequences, sequences.read([1, 0], 0), train=False).texts == ("你好！", "今天下雨，明天下雪。")


# -- glosses, tokens


def test_glosses_as_a_source(tmp_path):
    notes = {"a": {"gloss": "REGEN WIND"}, "b": {"gloss": "WIND"}, "c": {"gloss": "SONNE WIND"}, "d": {"gloss": ""}}
    texts, splits = {**TEXTS, "d": "Stumm"}, {"train": ["a", "b", "d"], "val": ["c"]}
    sequences = sequences_of(root_of(tmp_path, texts, splits=splits, **notes), source="glosses")
    assert left_out(sequences) == {"d": "no gloss"} and sequences.shape == (4,)
    read = {sequences.examples[clip].name: clip for clip in range(4)}
    padded = sequences.padded(sequences.read([read["a"], read["b"], read["c"]], 0), train=True)
    assert padded.streams["glosses"].tolist() == [[1, 2], [2, -1], [3, 2]], "one that training has not is the last"
    assert padded.lengths == (2, 1, 2) == tuple(sequences.length(read[name]) for name in "abc")
    assert sequences.padded(sequences.read([], 0), train=True).streams["glosses"].shape == (0, 0)
    assert "glosses" in sequences.summary()


def test_a_number_of_another_gloss_is_something_else(tmp_path):
    """As are glosses that moved from one clip to its neighbour."""

    def opened(folder: str, first: str, second: str):
        notes = {"a": {"gloss": first}, "b": {"gloss": second}}
        return sequences_of(root_of(tmp_path / folder, {"a": "A", "b": "B"}, **notes), source="glosses")

    one, other, moved = opened("1", "X Y", "Z"), opened("2", "X Y", "W"), opened("3", "X", "Y Z")
    assert one.tokenizer == moved.tokenizer != other.tokenizer
    assert len({each.digest("train") for each in (one, other, moved)}) == 3


@pytest.mark.parametrize("source", ["codes", "latents"])
def test_token_files_have_the_data_sets_sentences(tmp_path, source):
    data = load_config(None, eight(source, tmp_path)).data
    sequences = open_sentences(data, quiet=True)
    batch = sentence_batch(sequences, sequences.read([3, 0], 0), train=False)
    notes = json.loads((tmp_path / "data/annotations.json").read_text(encoding="utf-8"))
    assert batch.texts == (notes["clip3"]["text"], notes["clip0"]["text"]) and batch.steps == (4, 4)
    notes["clip0"]["text"] = " "
    (tmp_path / "data/annotations.json").write_text(json.dumps(notes), encoding="utf-8")
    again = open_sentences(data, quiet=True)
    assert {line.reason for line in again.skipped} == {"no sentence"} and len(again.clips_of("train")) == 7
    assert again.digest("train") != sequences.digest("train")


# -- too long


@pytest.mark.parametrize(("warp", "longest"), [(0.0, 20), (0.25, 16)])
def test_what_a_text_model_has_no_room_for_leaves_its_split(tmp_path, warp, longest):
    """At the exact limit: in training at the slowest speed, elsewhere as it is."""
    frames = {"fits": longest, "long": longest + 1, "whole": 20, "over": 21}
    splits = {"train": ["fits", "long"], "val": ["whole", "over"]}
    root = root_of(tmp_path, dict.fromkeys(frames, "Text"), frames=frames.values(), splits=splits)
    sequences = sequences_of(root)
    augment = PoseAugment(time_warp=warp > 0, time_warp_range=0.25)
    leave_out_too_long(sequences, identity, most=20, augment=augment)
    steps = {"long": int(np.ceil((longest + 1) * (1 + warp))), "over": 21}
    says = "too long: {} steps, and the text model reads 20; data.max_frames cuts clips"
    assert left_out(sequences) == {name: says.format(count) for name, count in steps.items()}
    twice = sequences_of(root)
    leave_out_too_long(twice, lambda lengths: 2 * lengths, most=40, augment=augment)
    assert left_out(twice).keys() == steps.keys()


class Slowest:
    """A generator that draws the low end of all."""

    def uniform(self, low: float, high: float) -> float:
        return low


def test_no_warped_clip_is_longer_than_was_counted():
    rng = np.random.default_rng(0)
    for share in (1e-6, 0.05, 0.1, 0.2, 1 / 3, 0.7, 0.9):
        augment = PoseAugment(time_warp_range=share)
        for length in range(1, 80):
            counted = np.ceil(length * (1 + share))
            drawn = [len(warped_track(length, augment, rng)) for _ in range(10)]
            assert max(*drawn, len(warped_track(length, augment, Slowest()))) <= counted


def test_a_clip_is_as_long_as_the_longest_of_its_files(tmp_path):
    """In training alone any of them is read."""
    sequences = open_sentences(load_config(None, eight("codes", tmp_path)).data, quiet=True)
    train, val = sequences.clips_of("train")[0], sequences.clips_of("val")[0]

    class Longer:
        def __contains__(self, name: str) -> bool:
            return name == sequences.examples[train].name

        def chunks(self, name: str) -> int:
            return 7

    sequences.more = (Longer(),)
    assert (sequences.most_steps(train), sequences.most_steps(val)) == (7, 4)
    assert sequences.most_steps(sequences.clips_of("train")[1]) == 4
