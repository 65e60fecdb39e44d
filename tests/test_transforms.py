from dataclasses import replace

import numpy as np
import pytest
import torch

from clips import moving_clip, with_gaps
from signstream.config import Augment, Data
from signstream.data.frontend import prepare
from signstream.data.transforms import cut, deform, hide_joints, num_chunks, plan_chunks
from signstream.skeleton import COCO_WHOLEBODY as BODY

STILL = Augment(mirror=False, time_warp=False, affine=0, dropout_prob=0, random_phase=False)


def ready(frames=40, seed=0, gaps=True):
    poses = moving_clip(frames, seed)
    return prepare(torch.from_numpy(with_gaps(poses, seed) if gaps else poses), BODY, Data()).frames


@pytest.mark.parametrize("size", [1, 8, 10])
def test_chunks_cover_every_frame_of_every_clip_exactly_once(size):
    lengths = [0, 1, size - 1, size, size + 1, 37, 119, 493]
    plan = plan_chunks(lengths, replace(Data(), chunk_len=size))
    shown = plan.position[plan.inside]
    assert np.array_equal(shown, np.arange(sum(lengths)))
    assert np.array_equal(np.bincount(plan.clip, minlength=8), [num_chunks(n, size) for n in lengths])
    owner = np.repeat(np.arange(8), lengths)
    assert np.array_equal(owner[shown.astype(int)], np.repeat(plan.clip, plan.inside.sum(1)))
    for clip in range(8):
        assert np.array_equal(plan.t[plan.clip == clip], np.arange(num_chunks(lengths[clip], size)))


def test_evaluation_ignores_stride_and_augmentation():
    overlapping = replace(Data(), chunk_stride=3)
    assert np.array_equal(
        plan_chunks([25], overlapping).position, plan_chunks([25], replace(Data(), augment=STILL)).position
    )


@pytest.mark.parametrize("stride", [None, 3, 10])
def test_random_phase_loses_no_frame_over_epochs(stride):
    data = replace(Data(), chunk_stride=stride, augment=replace(STILL, random_phase=True))
    lengths, seen = [1, 9, 10, 11, 15, 40, 57], np.zeros(143, int)
    phases = set()
    for epoch in range(60):
        plan = plan_chunks(lengths, data, np.random.default_rng(epoch))
        shown = plan.position[plan.inside].astype(int)
        seen[np.unique(shown)] += 1
        assert stride == 3 or len(np.unique(shown)) == len(shown)
        assert set(range(86 + 9, 86 + 57)) <= set(shown.tolist()), "a frame after the phase was left out"
        phases.add(int(plan.position[plan.clip == 6][0, 0]) - 86)
    assert phases == set(range(10))
    assert (seen > 0).all()


def test_overlapping_chunks_step_by_the_stride():
    data = replace(Data(), chunk_stride=4, augment=STILL)
    plan = plan_chunks([25], data, np.random.default_rng(0))
    assert plan.position[:, 0].tolist() == [0, 4, 8, 12, 16]
    assert plan.inside.sum() == 10 * 4 + 9


def test_time_warp_stays_in_the_clip_moves_forward_and_within_its_range():
    data = replace(Data(), augment=replace(STILL, time_warp=True))
    speeds = []
    for seed in range(50):
        plan = plan_chunks([80, 60], data, np.random.default_rng(seed))
        for clip, (low, high) in enumerate(((0, 79), (80, 139))):
            track = plan.position[plan.clip == clip][plan.inside[plan.clip == clip]]
            step = np.diff(track)
            assert track[0] == low
            assert track[-1] <= high
            assert step.min() > 1 / 1.2 - 1e-9
            assert step.max() < 1.2 + 1e-9
            assert track[-1] + 1.2 > high - 1e-9, "the clip's end was left out"
            speeds.append(step.mean())
    assert min(speeds) < 0.9 < 1.1 < max(speeds)


def test_warped_frames_lie_between_their_neighbours():
    frames, data = ready(60, gaps=False), replace(Data(), augment=replace(STILL, time_warp=True))
    plan = plan_chunks([60], data, np.random.default_rng(1))
    out, low = cut(frames, plan), torch.from_numpy(np.floor(plan.position).astype(int))
    a, b = frames[low], frames[(low + 1).clamp(max=59)]
    inside = torch.from_numpy(plan.inside)
    assert ((out >= torch.minimum(a, b) - 1e-5) & (out <= torch.maximum(a, b) + 1e-5))[inside].all()
    assert (out[~inside] == 0).all()


def test_a_deformed_chunk_is_undone_by_the_inverse_map_and_missing_joints_stay_at_zero():
    frames, maps = (
        ready().view(4, 10, 133, 3),
        torch.eye(2) + torch.randn(4, 2, 2, generator=torch.Generator().manual_seed(0)) * 0.2,
    )
    out = deform(frames, maps)
    torch.testing.assert_close(deform(out, torch.linalg.inv(maps)), frames, atol=1e-4, rtol=1e-4)
    assert torch.equal(out[..., 2], frames[..., 2])
    assert (out[frames[..., 2] == 0] == 0).all()


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_hidden_joints_are_about_the_share_and_only_ever_fewer(share):
    weight = torch.rand(400, 10, 133, generator=torch.Generator().manual_seed(0)) + 0.1
    seen = hide_joints(weight, share, torch.Generator().manual_seed(1))
    hidden = (seen == 0).any(1).float().mean()
    assert hidden == pytest.approx(share, rel=0.15)
    assert torch.equal(seen[seen > 0], weight[seen > 0])
    run = (seen == 0).int()
    assert (run.diff(dim=1).abs().sum(1) <= 2).all(), "hidden frames of a joint are one stretch"
