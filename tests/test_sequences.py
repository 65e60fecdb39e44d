"""Clips as padded sequences: a clip is the same in any company, nothing past its end shows, and what is drawn follows
from the seed; glosses as ids."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clips import moving_clip, with_gaps
from data_sets import note, write_csl
from phoenix_data import write_phoenix
from recognition_data import tokens
from signstream.config import from_dict
from signstream.config.common import PoseAugment
from signstream.config.recognition import RecognitionData
from signstream.data import frame_sequences
from signstream.data.sequences import Sequences, hide, tracks
from signstream.data.sources import open_sequences
from signstream.data.text import UNKNOWN, Glosses
from signstream.data.tokens import TokenData
from signstream.errors import UserError
from signstream.inference.export_beside import latents_text, write_latents_beside
from signstream.io.vector_files import read_vectors, vectors_beside
from signstream.tokens.format import read_jsonl, write_line

FRAMES = (30, 41, 7)


def data_of(root: Path, **more: object) -> RecognitionData:
    tree = {"root": str(root), "cache": str(root.parent / "cache"), **more}
    return from_dict({"task": "recognition", "data": tree}).data


def csl(folder: Path, **more: object) -> Sequences:
    clips = {f"clip{i}": with_gaps(moving_clip(frames, i), i) for i, frames in enumerate(FRAMES)}
    notes = {name: note(poses, gloss="loc-NORD REGEN") for name, poses in clips.items()}
    root = write_csl(folder / "data", clips, {"train": list(clips)}, notes)
    return open_sequences(data_of(root, layout="csl_daily", source="keypoints", fps=30, **more), quiet=True)


def phoenix(folder: Path) -> Sequences:
    root = write_phoenix(folder / "data")
    return open_sequences(data_of(root, frames={"size": 16, "resize": 24, "heat": True}))


def by_tokens(source: str, folder: Path, **more: object) -> Sequences:
    config = {key: value for key, value in (o.split("=", 1) for o in tokens(source, folder)) if key.startswith("data.")}
    return open_sequences(
        data_of(
            Path(config["data.root"]), layout="csl_daily", fps=30, source=source, tokens=config["data.tokens"], **more
        )
    )


SOURCES = {
    "keypoints": csl,
    "codes": lambda folder: by_tokens("codes", folder),
    "latents": lambda folder: by_tokens("latents", folder),
    "frames": phoenix,
}
EMPTY = {"codes": -1}


@pytest.fixture(params=SOURCES)
def source(request, tmp_path):
    return request.param, SOURCES[request.param](tmp_path)


def test_a_clip_is_the_same_in_any_company(source):
    """Alone, first and last; and nothing stands past its end."""
    name, sequences = source
    clips = list(sequences.clips_of("train"))
    together = sequences.padded(sequences.read(clips, 0), train=False)
    backward = sequences.padded(sequences.read(clips[::-1], 0), train=False)
    assert together.lengths == tuple(map(sequences.length, clips)) == backward.lengths[::-1]
    for place, clip in enumerate(clips):
        alone = sequences.padded(sequences.read([clip], 0), train=False)
        for stream, values in alone.streams.items():
            length = together.lengths[place]
            assert values.shape[:2] == (1, length)
            assert torch.equal(together.streams[stream][place, :length], values[0])
            assert torch.equal(backward.streams[stream][len(clips) - 1 - place, :length], values[0])
            assert (together.streams[stream][place, length:] == EMPTY.get(name, 0)).all()


def test_what_is_drawn_follows_from_the_seed(source):
    _, sequences = source
    clips = list(sequences.clips_of("train"))

    def drawn(seed: int) -> dict[str, torch.Tensor]:
        return sequences.padded(sequences.read(clips, seed, train=True), train=True).streams

    one, same, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(one[name].shape != other[name].shape or not torch.equal(one[name], other[name]) for name in one)


def test_no_clip_at_all_is_a_batch_of_none(source):
    _, sequences = source
    padded = sequences.padded(sequences.read([], 3, train=True), train=True)
    assert padded.lengths == () and all(values.shape[:2] == (0, 0) for values in padded.streams.values())


def test_a_missing_joint_is_0_and_so_is_a_hidden_one(tmp_path):
    sequences = csl(tmp_path, augment={"dropout_prob": 0.5})
    raw = sequences.read([0, 1], 4)
    plain = sequences.padded(raw, train=False).streams["keypoints"]
    assert not plain[plain[..., 2] == 0].any() and (plain[..., 2] == 0).any()
    hidden = sequences.padded(raw, train=True).streams["keypoints"]
    assert not hidden[hidden[..., 2] == 0].any()
    assert (hidden[..., 2] == 0).float().mean() > (plain[..., 2] == 0).float().mean() + 0.05


def test_steps_keep_their_order_and_as_many_as_are_needed():
    rng = np.random.default_rng(0)
    augment = PoseAugment(time_warp_range=0.9)
    for need in (0, 30, 60, 99):
        for track in tracks((60,) * 20, augment, rng, least=(need,) * 20):
            assert len(track) >= min(need, 60) and (np.diff(track) > 0).all() and 0 <= track[0] <= track[-1] <= 59
    assert all(len(track) == 60 for track in tracks((60, 60), replace(augment, time_warp=False), rng, least=(0, 0)))
    short = [len(track) for track in tracks((60,) * 50, augment, rng, least=(0,) * 50)]
    assert min(short) < 45 and max(short) > 80


def test_what_is_hidden_is_hidden_for_stretches_of_every_window():
    weight = torch.ones(3, 50, 40)
    out = hide(weight, 0.5, torch.Generator().manual_seed(0), window=10)
    assert out.shape == weight.shape and 0.05 < (out == 0).float().mean() < 0.4
    for window in out.split(10, 1):
        assert ((window == 0).any(1)).any()


def test_glosses_are_cleaned_sorted_and_found_again(tmp_path):
    assert csl(tmp_path, clean="phoenix2014").examples[0].words == ("NORD", "REGEN")
    glosses = Glosses.of([("WIND", "REGEN"), ("ABEND", "WIND")])
    assert glosses.names == ("ABEND", "REGEN", "WIND") and len(glosses) == 4
    assert glosses.ids(["WIND", "ABEND", "SONNE"]) == [3, 1, UNKNOWN]
    assert glosses.words([3, 0, 1]) == ["WIND", "ABEND"]
    assert Glosses.from_state(glosses.state()) == glosses


def test_labels_that_changed_are_other_data(tmp_path):
    one = csl(tmp_path / "a")
    other = csl(tmp_path / "b", clean="none")
    assert one.content("train") == other.content("train") and one.digest("train") != other.digest("train")


def test_frames_that_do_not_fit_are_left_out_with_their_reason(tmp_path):
    root = write_phoenix(tmp_path / "data")
    data = data_of(root, frames={"size": 16, "resize": 24})
    first = next(path for path in sorted(root.rglob("*.png")) if "train" in str(path))
    first.unlink()
    sequences = open_sequences(data)
    assert [line.reason for line in sequences.skipped] == ["num_frames: the annotation says 7, there are 6 frames"]
    assert "frames of 24 x 24" in sequences.summary() and "left out: 1 num_frames" in sequences.summary()


def test_of_pictures_only_those_that_are_seen_are_read(tmp_path, monkeypatch):
    root = write_phoenix(tmp_path / "data")
    sequences = open_sequences(data_of(root, frames={"size": 16, "resize": 24, "interval": 3}))
    opened = []
    read = frame_sequences.read_frames
    monkeypatch.setattr(frame_sequences, "read_frames", lambda paths: opened.extend(paths) or read(paths))
    raw = sequences.read([0], 0)
    assert raw.lengths == (3,) == (sequences.length(0),) and opened == list(sequences.files[0].paths)[::3]
    sequences.least[0] = 3
    for seed in range(20):
        assert sequences.read([0], seed, train=True).lengths[0] >= 3


def other_tokens(folder: Path, source: str, tokenizer: str = "one") -> str:
    """A file beside train's in which each clip has what the one before it has there."""
    own, other = folder / "train.jsonl", folder / "other.jsonl"
    clips = list(read_jsonl(own))
    named = [replace(clip, name=before.name) for clip, before in zip(clips, [*clips[1:], clips[0]])]
    other.write_text("".join(write_line(replace(clip, tokenizer=tokenizer)) for clip in named), encoding="utf-8")
    if tokenizer == "one":
        shutil.copy(vectors_beside(own), vectors_beside(other))
    if source == "latents":
        file = TokenData.open(own, latents=True)
        fields = [latents_text(file.latents(clip.name)).encode() for clip in clips]
        chunks = {clip.name: len(clip.codes) for clip in named}
        write_latents_beside(other, fields, read_vectors(vectors_beside(own)), chunks=chunks)
    return str(other)


@pytest.mark.parametrize("source", ["codes", "latents"])
def test_in_training_other_tokens_of_a_clip_are_drawn(tmp_path, source):
    """From the files that have enough of it for its words; in validation never."""
    plain = by_tokens(source, tmp_path)
    more = by_tokens(source, tmp_path, more_tokens=(other_tokens(tmp_path, source),))
    before, own = more.rows(0), more.rows(1)
    assert not torch.equal(before, own) and torch.equal(plain.rows(1), own)
    drawn = [more.read([1], seed, train=True).streams[source] for seed in range(20)]
    assert {torch.equal(rows, own) for rows in drawn} == {True, False}
    assert all(torch.equal(rows, own) or torch.equal(rows, before) for rows in drawn)
    assert all(torch.equal(more.read([1], seed).streams[source], own) for seed in range(20))
    assert plain.content("train") != more.content("train") and plain.content("val") == more.content("val")
    more.examples[1] = more.examples[1]._replace(length=5)  # the other file has four chunks of it
    more.least[1] = 4
    assert more.having(1) == list(more.more)
    more.least[1] = 5
    assert more.having(1) == []


def test_other_tokens_are_of_the_same_tokenizer(tmp_path):
    by_tokens("codes", tmp_path)
    other = other_tokens(tmp_path, "codes", "two")
    with pytest.raises(UserError, match=r"other\.jsonl: its tokens are of the tokenizer 'two', one is expected"):
        by_tokens("codes", tmp_path, more_tokens=(other,))


def test_tokens_of_no_split_are_one_line(tmp_path):
    root = write_csl(tmp_path / "data", {"a": moving_clip(20, 0)})
    data = data_of(root, layout="csl_daily", fps=30, source="codes", tokens=f"{tmp_path}/{{split}}.jsonl")
    with pytest.raises(UserError, match=r"data.tokens: there is no .*/train\.jsonl"):
        open_sequences(data)
    with pytest.raises(UserError, match="files of tokens, one a split, are expected"):
        data_of(root, source="codes", tokens="all.jsonl")
