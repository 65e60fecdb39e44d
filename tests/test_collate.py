from dataclasses import replace

import numpy as np
import pytest
import torch

from clips import moving_clip, with_gaps
from signstream.config import Augment, Data
from signstream.data.collate import make_chunks
from signstream.data.frontend import prepare
from signstream.io.batch import pack
from signstream.skeleton import COCO_WHOLEBODY as BODY

STILL = Augment(mirror=False, time_warp=False, affine=0, dropout_prob=0, random_phase=False)
FIELDS = ("xy", "weight", "seen", "place", "frames", "t")


def cached(frames, seed):
    """[T, 1 + J, 3], a clip as the cache holds it."""
    out = prepare(torch.from_numpy(with_gaps(moving_clip(frames, seed), seed)), BODY, Data())
    return torch.cat((out.place[:, None], out.frames), 1).numpy()


CLIPS = [
    cached(frames, seed) for seed, frames in enumerate([37, 1, 10, 9, 11, 64, 25, 100, 12, 20, 33, 8, 41, 50, 19, 30])
]


def chunks(indexes, data=None, **options):
    return make_chunks(
        pack([CLIPS[i] for i in indexes], indexes, **options), BODY, data or Data(), train="seed" in options
    )


@pytest.mark.parametrize(
    "batches",
    [[[i] for i in range(16)], [list(range(16))], [[3], [0, 1, 2, 4, 5, 6, 7], [], [8, 9], [15, 14, 13, 12, 11, 10]]],
)
def test_however_clips_are_batched_the_chunks_are_the_same(batches):
    alone = {i: chunks([i]) for i in range(16)}
    for batch in map(chunks, batches):
        for i in set(batch.clip.tolist()):
            rows = batch.clip == i
            assert all(torch.equal(getattr(batch, f)[rows], getattr(alone[i], f)) for f in FIELDS)
    assert sorted(i for batch in batches for i in batch) == list(range(16))


def test_chunks_put_together_are_the_clips():
    batch = chunks(list(range(16)))
    whole = batch.split(torch.cat((batch.xy, batch.weight[..., None]), -1))
    for i, clip in enumerate(CLIPS):
        assert np.array_equal(whole[i].numpy(), clip[:, 1:])
    assert batch.frames.sum() == sum(map(len, CLIPS))


def test_a_batch_without_a_clip_has_no_chunk_and_every_shape():
    for batch in (chunks([]), chunks([], seed=1)):
        assert len(batch) == 0
        assert batch.xy.shape == (0, 10, 133, 2)
        assert batch.weight.shape == batch.seen.shape == (0, 10, 133)
        assert batch.local("left_hand").xy.shape == (0, 10, 21, 2)


@pytest.mark.parametrize("clip", [np.zeros((n, 134, 3), np.float32) for n in (1, 10, 30)], ids=len)
def test_a_clip_in_which_nothing_is_seen_is_all_zero(clip):
    clip[:, 0, 2] = 1
    batch = make_chunks(pack([clip], [0], seed=3), BODY, Data(), train=True)
    assert not batch.weight.any()
    assert not any(batch.local(part).xy.any() for part in BODY.parts)


def test_a_still_clip_gives_the_same_chunk_over_and_over():
    clip = np.repeat(CLIPS[7][:1], 30, 0)
    batch = make_chunks(pack([clip], [0]), BODY, Data())
    assert torch.equal(batch.xy[0], batch.xy[1])
    assert torch.equal(batch.xy[0, 0], batch.xy[2, 9])


def test_frames_past_the_end_weigh_nothing():
    batch = chunks([4, 1])
    assert batch.frames.tolist() == [10, 1, 1]
    assert not batch.weight[1, 1:].any()
    assert not batch.xy[1, 1:].any()


def test_the_seed_alone_decides_the_augmentation():
    many = list(range(16))
    one, repeated, other = chunks(many, seed=5), chunks(many, seed=5), chunks(many, seed=6)
    assert all(torch.equal(getattr(one, f), getattr(repeated, f)) for f in FIELDS)
    assert one.xy.shape != other.xy.shape or not torch.equal(one.xy, other.xy)


@pytest.mark.parametrize(
    ("switch", "value"),
    [("mirror", True), ("time_warp", True), ("affine", 0.2), ("dropout_prob", 0.2), ("random_phase", True)],
)
def test_each_augmentation_has_its_switch(switch, value):
    many, plain = list(range(16)), chunks(list(range(16)))
    off = chunks(many, replace(Data(), augment=STILL), seed=5)
    assert all(torch.equal(getattr(off, f), getattr(plain, f)) for f in FIELDS)
    on = chunks(many, replace(Data(), augment=replace(STILL, **{switch: value})), seed=5)
    changed = [
        f
        for f in FIELDS
        if getattr(on, f).shape != getattr(plain, f).shape or not torch.equal(getattr(on, f), getattr(plain, f))
    ]
    assert changed == ["seen"] if switch == "dropout_prob" else "xy" in changed


def test_about_half_of_the_clips_are_mirrored_and_a_clip_is_mirrored_whole():
    data, clips = replace(Data(), augment=replace(STILL, mirror=True)), [CLIPS[6]] * 200
    batch = make_chunks(pack(clips, range(200), seed=1), BODY, data, train=True)
    flipped = (batch.xy - make_chunks(pack(clips, range(200)), BODY, data).xy).abs().amax((1, 2, 3)) > 0
    by_clip = flipped.view(200, 3)
    assert (by_clip.all(1) == by_clip.any(1)).all()
    assert 60 < by_clip[:, 0].sum() < 140


def test_hidden_joints_are_hidden_from_the_encoder_and_kept_as_its_target():
    batch = chunks(list(range(16)), replace(Data(), augment=replace(STILL, dropout_prob=0.3)), seed=2)
    hidden = (batch.weight > 0) & (batch.seen == 0)
    assert hidden.any()
    view = batch.local("full_body")
    assert torch.equal(view.seen == 0, (view.weight == 0) | hidden)
    assert view.xy[hidden].any()


def test_without_centring_a_part_keeps_its_place():
    data = replace(Data(), normalize=replace(Data().normalize, center_parts=False))
    batch = chunks([0], data)
    assert torch.equal(batch.local("left_hand").xy, batch.xy[:, :, 91:112])


def test_a_batch_moves_with_all_its_tensors():
    batch = chunks([0, 1]).to("meta")
    assert {getattr(batch, f).device.type for f in (*FIELDS, "clip")} == {"meta"}
