"""Poses from a token file alone: what Tokenizer.decode gives, and with a reference the same in its clip's pixels and
at its frame rate."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from signstream.data.datasets import Clip, open_data
from signstream.data.frontend import prepare
from signstream.inference import decode_tokens, export_tokens
from signstream.inference.tokenizer import Tokenizer
from signstream.tokens.format import TokenSequence, read_jsonl, write_line
from signstream.training import checkpoint
from test_export import Tiny, make_tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def tokens(tiny, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tokens") / "tokens.jsonl"
    assert export_tokens.main(["--checkpoint", str(tiny.checkpoint), "--out", str(out)]) == 0
    return out


def decode(tiny: Tiny, tokens: Path, out: Path, *options: str) -> dict[str, np.ndarray]:
    decode_tokens.main(["--checkpoint", str(tiny.checkpoint), "--tokens", str(tokens), "--out", str(out), *options])
    return {path.stem: np.load(path, allow_pickle=False) for path in sorted(out.glob("*.npy"))}


def clips(tiny: Tiny) -> dict[str, Clip]:
    source = open_data(tiny.tokenizer.config.data)
    return {name: source.load("val", name) for name in source.splits()["val"]}


def test_the_tokens_alone_give_poses_from_the_nose(tiny, tokens, tmp_path):
    (tmp_path / "other.txt").write_text("mine")
    found = decode(tiny, tokens, tmp_path)
    assert sorted(found) == sorted(clips(tiny))
    for sequence in read_jsonl(tokens):
        poses = found[sequence.name]
        assert poses.dtype == np.float32 and poses.shape == (sequence.num_frames, 133, 3)
        assert np.array_equal(poses, tiny.tokenizer.decode(sequence).numpy())
    assert (tmp_path / "other.txt").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == len(found) + 1


HIPS, LEGS = slice(11, 13), slice(13, 23)  # and feet


def test_joints_that_training_never_showed_are_not_known(tiny, tokens, tmp_path):
    """Legs of a signer who sits are drawn and score 0; a checkpoint without the shares knows all that was sent."""
    assert not any((clip.poses[:, LEGS, 2] > 0.3).any() for clip in clips(tiny).values())
    state = checkpoint.load(tiny.checkpoint)
    state["task"] = {**state["task"], "space": {k: v for k, v in state["task"]["space"].items() if k != "shown"}}
    old = Tokenizer(state)
    assert old.digest == tiny.tokenizer.digest
    for sequence in read_jsonl(tokens):
        poses, sent = tiny.tokenizer.decode(sequence), of_frames(sequence)
        as_before = old.decode(sequence)
        assert torch.equal(poses[..., :2], as_before[..., :2])
        assert not poses[:, LEGS, 2].any() and poses[:, LEGS, :2].abs().sum() > 0
        assert torch.equal(poses[:, HIPS, 2] > 0, sent["B"][:, None].expand(-1, 2))
        assert torch.equal(as_before[:, 17:23, 2] > 0, sent["FB"][:, None].expand(-1, 6))


def test_a_hand_that_was_not_sent_is_not_known(tiny):
    """Although the full body draws one; where the file has no hands, the full body is believed."""
    clip = next(iter(clips(tiny).values()))
    hand = tiny.tokenizer.skeleton.part("left_hand").joints
    poses = clip.poses.copy()
    poses[:, hand] = 0
    tokens = tiny.tokenizer.encode(poses, clip.fps)
    decoded = tiny.tokenizer.decode(tokens)
    assert of_frames(tokens)["FB"].all() and not decoded[:, hand, 2].any()
    alone = tiny.tokenizer.decode(tokens.only(["FB"]))
    shown = tiny.tokenizer.views.space.shown[tokens.parts.index("FB"), hand]
    assert torch.equal(alone[:, hand, 2], (shown >= 0.5).float().expand(len(alone), -1))
    assert alone[:, 0, 2].all()


def of_frames(tokens: TokenSequence) -> dict[str, torch.Tensor]:
    """{tag: [T] whether the part was sent}"""
    sent = (tokens.codes[..., 0] >= 0).repeat_interleave(tokens.chunk_len, 0)[: tokens.num_frames]
    return dict(zip(tokens.parts, sent.unbind(1)))


def error(poses: np.ndarray, clip: Clip) -> float:
    """Mean distance in pixels over the joints that are seen."""
    seen = clip.poses[..., 2] > 0.3
    return float(np.linalg.norm(poses[..., :2] - clip.poses[..., :2], axis=-1)[seen].mean())


def test_with_a_reference_they_stand_where_its_clip_does(tiny, tokens, tmp_path):
    """As near to the clip as what the model makes of it in its true place, frame by frame; and its unit length is the
    median of its frames'."""
    found, own = decode(tiny, tokens, tmp_path, "--reference", str(tiny.root), "--split", "val"), tiny.tokenizer
    for sequence in read_jsonl(tokens):
        clip = clips(tiny)[sequence.name]
        true = prepare(torch.tensor(clip.poses), own.skeleton, own.config.data, fps=clip.fps).place
        best = own.decode(sequence, true).numpy()
        assert found[clip.name].shape == clip.poses.shape
        assert error(found[clip.name], clip) < 1.1 * error(best, clip) + 0.1
        true[:, 2] = true[:, 2].median()
        assert np.array_equal(found[clip.name], own.decode(sequence, true).numpy())


def test_who_is_far_away_at_first_is_drawn_at_the_usual_size(tiny, tmp_path):
    own = tiny.tokenizer
    clip = next(iter(clips(tiny).values()))
    poses = clip.poses.copy()
    nose = poses[:, :1, :2].copy()
    poses[:12, :, :2] = (poses[:12, :, :2] - nose[:12]) / 2 + nose[:12]
    folder = tmp_path / "npz" / "processed" / "test"
    folder.mkdir(parents=True)
    np.savez(folder / "walks.npz", poses=poses, fps=clip.fps)
    sequence = own.encode(poses, clip.fps, "walks")
    file = tmp_path / "tokens.jsonl"
    file.write_text(write_line(sequence))
    made = decode(tiny, file, tmp_path / "out", "--reference", str(tmp_path / "npz"), "data.layout=npz")["walks"]
    place = prepare(torch.tensor(poses), own.skeleton, own.config.data, fps=clip.fps).place
    place[:, 2] = place[0, 2]
    seen = replace(clip, poses=poses)
    assert error(made, seen) < 0.8 * error(own.decode(sequence, place).numpy(), seen)


def test_a_reference_has_its_own_frame_rate_and_layout(tiny, tmp_path):
    """Every second frame of some clips, at half of the rate, in another layout: as many frames come back, where the
    clip's are."""
    own, folder, lines = tiny.tokenizer, tmp_path / "npz" / "processed" / "test", []
    folder.mkdir(parents=True)
    slow = {name: replace(clip, poses=clip.poses[::2], fps=15.0) for name, clip in list(clips(tiny).items())[:3]}
    for name, clip in slow.items():
        np.savez(folder / f"{name}.npz", poses=clip.poses, fps=clip.fps)
        lines.append(write_line(own.encode(clip.poses, clip.fps, name)))
    (tmp_path / "tokens.jsonl").write_text("".join(lines))
    found = decode(
        tiny, tmp_path / "tokens.jsonl", tmp_path / "out", "--reference", str(tmp_path / "npz"), "data.layout=npz"
    )
    for name, clip in slow.items():
        sequence = own.encode(clip.poses, clip.fps, name)
        true = prepare(torch.tensor(clip.poses), own.skeleton, own.config.data, fps=clip.fps).place
        assert found[name].shape == clip.poses.shape and sequence.num_frames == 2 * len(clip.poses)
        assert error(found[name], clip) < 1.1 * error(own.decode(sequence, true).numpy()[::2], clip) + 0.1


def test_a_file_with_some_of_the_parts_is_decoded(tiny, tmp_path):
    out = tmp_path / "hands.jsonl"
    export_tokens.main(
        ["--checkpoint", str(tiny.checkpoint), "--out", str(out), "--layout", "part", "--body-parts", "LH", "B"]
    )
    found, (face, hand) = (
        decode(tiny, out, tmp_path / "poses"),
        (tiny.tokenizer.skeleton.part(name).joints for name in ("face", "left_hand")),
    )
    for sequence in read_jsonl(out):
        told, sent = (
            found[sequence.name][..., 2],
            (sequence.codes[:, 0, 0] >= 0).repeat_interleave(10)[: sequence.num_frames],
        )
        assert sequence.parts == ("LH", "B") and bool(sent.any())
        assert np.array_equal(told[:, hand], np.repeat(sent.numpy()[:, None], 21, 1))
        assert not told[:, face].any()


def spoiled(line: bytes, **values: object) -> str:
    """A line that says something else, and that nothing contradicts."""
    data = json.loads(line)
    data["meta"].pop("check")
    for key, value in values.items():
        (data["meta"] if key in data["meta"] else data)[key] = value
    return json.dumps(data) + "\n"


def test_wrong_tokens_are_one_line_and_nothing_is_written(tiny, tokens, tmp_path):
    lines, out = tokens.read_bytes().splitlines(), tmp_path / "out"
    good, name = lines[0].decode() + "\n", json.loads(lines[0])["video_name"]
    for text, message in (
        (
            good + spoiled(lines[1], tokenizer="0" * 16),
            r"its tokenizer is 0{16} and the checkpoint's .*: load the checkpoint that made",
        ),
        (spoiled(lines[0], fps=25), r"its fps is 25 and the checkpoint's 30"),
        (spoiled(lines[0], codebook_size=64), r"its codebook_size is 64 and the checkpoint's 32"),
        (good + good, rf"{name}.*duplicate name"),
        (good + spoiled(lines[1], video_name="../../evil"), r"evil'.*lead out of the folder"),
        (good + lines[1].decode()[:-40], r"line 2: not whole JSON"),
    ):
        (tmp_path / "tokens.jsonl").write_text(text)
        with pytest.raises(ValueError, match=message):
            decode(tiny, tmp_path / "tokens.jsonl", out)
        assert not out.exists()


def test_a_reference_that_does_not_fit_is_refused(tiny, tokens, tmp_path):
    sequence = next(read_jsonl(tokens))
    file = tmp_path / "tokens.jsonl"
    for text, options, message in (
        (write_line(replace(sequence, name="stranger")), (), r"has no clip 'stranger'"),
        (write_line(sequence), ("--split", "train"), rf"has no clip '{sequence.name}'"),
        (write_line(sequence), ("--split", "nowhere"), r"has no split 'nowhere', but train, val"),
        (write_line(shorter(sequence)), (), r"frames at 30 a second and the tokens 20: it is another clip"),
        (write_line(sequence), ("data.chunk_len=8",), r"data.chunk_len is 8"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            decode(tiny, file, tmp_path / "out", "--reference", str(tiny.root), *options)


def shorter(sequence: TokenSequence) -> TokenSequence:
    return replace(sequence, num_frames=20, codes=sequence.codes[:2])
