"""Features of pictures beside a clip's steps: what leaves a clip out, what a digest tells, which rows are of one moment
with the steps, and batches of both."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import assert_same
from sentence_clips import FEATURES, data_of, eight, left_out, root_of, sequences_of, write_features
from sentences import said_in_one_line
from signstream.config import load_config
from signstream.config.common import PoseAugment
from signstream.data.sentences import open_sentences, sentence_batch
from signstream.data.transforms import warped_track
from signstream.data.visual import Visual, moments
from signstream.errors import UserError
from signstream.io.batch import StreamBatch
from signstream.io.dataloader_utils import BatchLoader

TEXTS = {"a": "Der Regen kommt.", "b": "Im Norden SCHNEE", "c": "Guten Abend"}


def test_what_is_wrong_with_features_leaves_a_clip_out(tmp_path):
    """And not all others, where it is the first that is wrong."""
    names = ["first", "wide", "flat", "nan", "text", "cut", "gone", "link", "good", "also", "more"]
    root = root_of(tmp_path, dict.fromkeys(names, "Text"))
    folder = write_features(root, names)
    np.save(folder / "first.npy", np.zeros((3, 4), np.float32))
    np.save(folder / "wide.npy", np.zeros((18, 6), np.float32))
    np.save(folder / "flat.npy", np.zeros(18, np.float32))
    np.save(folder / "nan.npy", np.full((18, 5), np.nan))
    (folder / "text.npy").write_text("no array\n")
    (folder / "cut.npy").write_bytes((folder / "good.npy").read_bytes()[:-8])
    (folder / "gone.npy").unlink()
    os.replace(folder / "link.npy", tmp_path / "outside.npy")
    (folder / "link.npy").symlink_to(tmp_path / "outside.npy")
    sequences = sequences_of(root, visual=FEATURES)
    reasons = {name: reason.removeprefix("faulty visual features: ") for name, reason in left_out(sequences).items()}
    assert reasons.pop("link").startswith("a link that leads out of")
    assert reasons.pop("cut").startswith("truncated: ")
    assert reasons == {
        "first": "shape [3, 4]: [18, 5] is expected, as of the others",
        "wide": "shape [18, 6]: [18, 5] is expected, as of the others",
        "flat": "shape [18]: [V, W] is expected",
        "nan": "not finite",
        "text": "not an npy file",
        "gone": "no visual features",
    }
    assert all("\n" not in line.reason for line in sequences.skipped)
    assert [sequences.examples[clip].name for clip in sequences.clips_of("train")] == ["good", "also", "more"]
    assert sequences.visual_width == 5 and "[18, 5] a clip" in sequences.summary()


def test_a_folder_of_none_is_one_line(tmp_path):
    root = root_of(tmp_path, TEXTS)
    said_in_one_line(lambda: sequences_of(root, visual=FEATURES), "there is no folder .*features.* writes one")
    (root / FEATURES).mkdir()
    said_in_one_line(lambda: sequences_of(root, visual=FEATURES), "no clip of train .*, the last: no visual features")
    said_in_one_line(lambda: data_of(root, visual=FEATURES, augment={"mirror": True}), "cannot be mirrored")


def test_a_file_that_is_gone_later_is_named(tmp_path):
    root = root_of(tmp_path, TEXTS)
    folder = write_features(root, TEXTS)
    sequences = sequences_of(root, visual=FEATURES)
    (folder / "b.npy").unlink()
    said_in_one_line(lambda: sequences.read([0, 1], 0), "features/train/b.npy: missing file")


def test_rows_are_read_and_told_by_the_digest(tmp_path, monkeypatch):
    """Whatever their number and width; and read once for it, since a checkpoint asks for it each time."""
    root = root_of(tmp_path, TEXTS)
    folder = write_features(root, TEXTS, shape=(7, 3))
    sequences = sequences_of(root, visual=FEATURES)
    batch = sentence_batch(sequences, sequences.read([2, 0], 0), train=False)
    expected = torch.tensor([200.0, 0.0])[:, None, None] + torch.arange(7.0)[:, None].expand(7, 3)
    assert torch.equal(batch.streams["visual"], expected) and batch.streams["keypoints"].shape[:2] == (2, 14)
    with monkeypatch.context() as patched:
        patched.setattr(Visual, "rows", lambda *_: pytest.fail("read again"))
        assert sequences.digest("train") == sequences.digest("train")
    rows = np.load(folder / "a.npy")
    np.save(folder / "a.npy", rows + 1e-3)
    assert sequences_of(root, visual=FEATURES).digest("train") != sequences.digest("train")
    assert sequences_of(root).digest("train") != sequences.digest("train")


def test_features_beside_tokens(tmp_path):
    options = eight("codes", tmp_path)
    for split in ("train", "val"):
        write_features(tmp_path / "data", [f"clip{i}" for i in range(8)], split=split)
    sequences = open_sentences(load_config(None, [*options, f"data.visual={FEATURES}"]).data, quiet=True)
    padded = sequences.padded(sequences.read([1, 2], 0), train=False)
    assert padded.streams["codes"].shape == (2, 4, 2, 2) and padded.streams["visual"].shape == (2, 18, 5)
    assert padded.streams["visual"][1, :, 0].tolist() == [200.0 + row for row in range(18)]
    assert sequences.vectors is not None and sequences.parts == ("F", "RH") and sequences.tokenizer == "one"


@pytest.mark.parametrize("rows", [1, 3, 18, 180])
@pytest.mark.parametrize("steps", [1, 2, 7, 40, 180, 313])
def test_a_whole_clip_has_its_rows_as_they_are(rows, steps):
    assert np.array_equal(moments(rows, np.arange(steps, dtype=float), whole=steps), np.arange(rows))


@pytest.mark.parametrize("steps", [1, 3, 40, 300])
def test_of_a_clip_that_was_cut_only_the_rows_of_what_is_left(steps):
    for share in (0.5, 0.3, 0.9):
        chosen = moments(180, np.arange(steps, dtype=float), whole=steps / share)
        assert np.array_equal(chosen, np.floor((np.arange(180) + 0.5) * share))


def test_rows_follow_a_warp():
    """In order, and each of the moment of the frame that stands beside it."""
    rng, augment = np.random.default_rng(0), PoseAugment(time_warp_range=0.9)
    for length in (2, 5, 30, 200):
        for _ in range(50):
            track = warped_track(length, augment, rng)
            chosen = moments(180, track, whole=length)
            assert (np.diff(chosen) >= 0).all() and 0 <= chosen[0] <= chosen[-1] < 180
            beside = np.interp((np.arange(180) + 0.5) / 180 * len(track) - 0.5, np.arange(len(track)), track)
            assert np.abs((chosen + 0.5) / 180 * length - 0.5 - beside).max() <= length / 180 + 1
    assert np.array_equal(moments(5, np.zeros(0), whole=1), np.arange(5))


def test_the_share_that_is_left_counts_frames_as_they_are_read(tmp_path):
    """Files of other frame rates, whose length is rounded: 41 frames at 60 are 20 at 30."""
    frames = {"same": 41, "fast": 41, "slow": 16, "odd": 7}
    rates = {"fast": {"fps": 60}, "slow": {"fps": 15}, "odd": {"fps": 33}}
    root = root_of(tmp_path, dict.fromkeys(frames, "Text"), frames=frames.values(), **rates)
    write_features(root, frames)
    shares = {None: [1, 1, 1, 1], 100: [1, 1, 1, 1], 20: [20 / 41, 1, 20 / 32, 1], 5: [5 / 41, 5 / 20, 5 / 32, 5 / 6]}
    for most, expected in shares.items():
        sequences = sequences_of(root, visual=FEATURES, max_frames=most)
        assert [sequences.share(clip) for clip in range(4)] == pytest.approx(expected, abs=1e-12)
        visual = sequences.padded(sequences.read(range(4), 0), train=False).streams["visual"][..., 0]
        for number, share in enumerate(expected):
            assert visual[number].tolist() == [100 * number + int((row + 0.5) * share) for row in range(18)]


# -- batches of both


def streams() -> StreamBatch:
    steps, whole = torch.arange(9.0)[:, None], torch.arange(12.0).view(4, 3)
    return StreamBatch({"x": steps}, (2, 0, 4, 3), (5, 6, 7, 8), seed=1, whole={"visual": whole})


def test_a_part_of_a_batch_has_its_clips_wholes():
    part = streams().part(1, 3, 9)
    assert part.streams["x"][:, 0].tolist() == [2, 3, 4, 5] and part.lengths == (0, 4) and part.index == (6, 7)
    assert torch.equal(part.whole["visual"], streams().whole["visual"][1:3]) and part.seed == 9
    assert len(streams().part(2, 2, 9).whole["visual"]) == 0


def test_wholes_move_and_pin_with_a_batch(monkeypatch):
    moved = streams().to("meta")
    assert moved.whole["visual"].is_meta and moved.streams["x"].is_meta
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 100)  # it needs a GPU
    pinned = streams().pin_memory()
    assert (pinned.whole["visual"] >= 100).all() and (pinned.streams["x"] >= 100).all()


def test_workers_read_the_same_batches(tmp_path):
    root = root_of(tmp_path, {f"clip{i}": "Text" for i in range(7)})
    folder = write_features(root, [f"clip{i}" for i in range(7)])
    sequences = sequences_of(root, visual=FEATURES)
    read = [list(BatchLoader(sequences, "train", batch_size=3, workers=n, seed=4, train=True)) for n in (0, 2)]
    assert len(read[0]) == 3 and all("visual" in batch.whole for batch in read[0])
    for one, other in zip(*read, strict=True):
        assert_same(
            [one.streams, one.whole, replace(one, streams={}, whole={})],
            [other.streams, other.whole, replace(other, streams={}, whole={})],
        )
    (folder / "clip3.npy").unlink()
    with pytest.raises(UserError, match=r"clip3\.npy: missing file"):
        list(BatchLoader(sequences, "train", batch_size=3, workers=2))
