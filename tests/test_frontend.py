from dataclasses import replace

import numpy as np
import pytest
import torch

from clips import fill_missing, moving_clip, with_gaps
from signstream.config import Data
from signstream.data.frontend import FrontEnd, RunningMedian, fill_gaps, fir_taps, low_pass, prepare
from signstream.skeleton import COCO_WHOLEBODY as BODY
from signstream.skeleton import FACE, LEFT_HAND, NUM_JOINTS
from signstream.space import to_pixels

RAW = replace(Data(), smooth=0, max_gap=0)  # the front end without its filters


def ready(poses, data=None, fps=None):
    return prepare(torch.from_numpy(np.array(poses)), BODY, data or Data(), fps=fps)


def same(a, b):
    return torch.equal(a.frames, b.frames) and torch.equal(a.place, b.place)


def in_pieces(poses, data, fps, sizes):
    front, out, start = FrontEnd(BODY, data, fps), [], 0
    for size in sizes:
        out.append(front.push(torch.from_numpy(poses[start : start + size])))
        start += size
    assert start >= len(poses)
    out.append(front.finish())
    return torch.cat([o.frames for o in out]), torch.cat([o.place for o in out])


@pytest.mark.parametrize("fps", [None, 25, 24, 50, 60, 29.97, 12.5, 120])
@pytest.mark.parametrize("frames", [1, 2, 9, 10, 11, 47])
def test_a_stream_in_pieces_gives_the_bits_of_the_whole_clip(frames, fps):
    poses, rng = with_gaps(moving_clip(frames, seed=frames), seed=frames), np.random.default_rng(frames)
    whole = ready(poses, fps=fps)
    for sizes in ([1] * frames, [frames], [0, 3] * frames, rng.integers(0, 9, 4 * frames + 8).tolist()):
        streamed, place = in_pieces(poses, Data(), fps, sizes)
        assert torch.equal(streamed, whole.frames)
        assert torch.equal(place, whole.place)


@pytest.mark.parametrize("seed", range(6))
def test_a_frame_does_not_depend_on_what_comes_after_its_lookahead(seed):
    rng, frames = np.random.default_rng(seed), 60
    data = replace(
        Data(),
        max_gap=int(rng.integers(0, 7)),
        smooth=int(rng.choice([0, 2, 3])),
        unit_window=int(rng.choice([5, 300])),
    )
    poses = with_gaps(moving_clip(frames, seed), seed)
    whole = ready(poses, data)
    for t in rng.integers(0, frames - 1, 12):
        changed = poses.copy()
        after = changed[t + data.lookahead + 1 :]
        after[...] = with_gaps(moving_clip(len(after), seed + 100, unit=40), seed + 1) if len(after) else after
        altered = ready(changed, data)
        assert torch.equal(altered.frames[: t + 1], whole.frames[: t + 1])
        assert torch.equal(altered.place[: t + 1], whole.place[: t + 1])


def test_the_lookahead_is_no_longer_than_stated_nor_shorter():
    poses, data, t = moving_clip(40), Data(), 20
    assert data.lookahead == 6
    poses[t + 2 : t + 6, 100, 2] = 0  # a gap that closes only when frame t + 6 is here
    late = poses.copy()
    late[t + data.lookahead, 100, 0] += 40
    assert not torch.equal(ready(late, data).frames[t], ready(poses, data).frames[t])
    front = FrontEnd(BODY, data)
    assert [len(front.push(torch.from_numpy(frame[None])).frames) for frame in poses] == [0] * 6 + [1] * 34
    assert len(front.finish().frames) == 6


@pytest.mark.parametrize("value", [0.0, -7.5, 1e9, np.nan, np.inf, -np.inf])
def test_what_missing_joints_are_filled_with_does_not_show(value):
    poses = with_gaps(moving_clip(50, 3), 3)
    assert same(ready(fill_missing(poses, value)), ready(poses))
    scores = poses.copy()
    scores[poses[..., 2] <= 0.3, 2] = np.nan
    assert same(ready(scores), ready(poses))


def test_a_coordinate_that_is_no_number_is_a_missing_joint():
    poses, bad = moving_clip(30), moving_clip(30)
    bad[10:25, 100, 0], bad[5, 60, 1], bad[6, 61, 0] = np.nan, np.inf, 1e12
    poses[10:25, 100, 2] = poses[5, 60, 2] = poses[6, 61, 2] = 0
    assert same(ready(bad), ready(poses))


@pytest.mark.parametrize(("scale", "shift"), [(1, (300, -200)), (0.25, (0, 0)), (7.5, (1000, 50)), (1 / 512, (0, 0))])
def test_translation_and_scale_of_the_picture_do_not_show(scale, shift):
    poses = with_gaps(moving_clip(40, 5), 5)
    moved = poses.copy()
    moved[..., :2] = poses[..., :2].astype(np.float64) * scale + shift
    torch.testing.assert_close(ready(moved).frames, ready(poses).frames, atol=2e-3, rtol=0)


@pytest.mark.parametrize("unit", [4.0, 15.0, 60.0])
def test_normalised_and_back_are_the_pixels_to_a_thousandth(unit):
    poses = with_gaps(moving_clip(40, 2, unit=unit, nose=(1600, 900)), 2)
    out = ready(poses, RAW)
    back = to_pixels(out.frames[..., :2], out.place).numpy()
    seen = poses[..., 2] > 0.3
    assert np.array_equal(out.frames[..., 2].numpy() > 0, seen)
    assert np.abs(back - poses[..., :2])[seen].max() < 1e-3


def test_unit_is_the_mean_eye_width_and_settles_to_the_running_median():
    poses = moving_clip(40, unit=20.0)
    wide = poses.copy()
    wide[5, FACE + 36, 0] -= 30  # one frame's corner jumps: a median does not follow
    assert ready(poses).place[:, 2].numpy() == pytest.approx(np.full(40, 20.0), rel=1e-4)
    assert ready(wide).place[:, 2].numpy() == pytest.approx(np.full(40, 20.0), rel=1e-4)


def test_without_a_face_the_shoulders_give_the_unit_and_without_them_a_hand():
    poses = moving_clip(30, unit=20.0, move=0.0)
    poses[:, FACE:LEFT_HAND, 2] = 0
    assert ready(poses).place[:, 2].numpy() == pytest.approx(np.full(30, 20.0), rel=1e-3)
    poses[:, 5:7, 2] = 0
    palm = np.linalg.norm(poses[0, LEFT_HAND, :2] - poses[0, LEFT_HAND + 9, :2]) / 3
    assert ready(poses).place[:, 2].numpy() == pytest.approx(np.full(30, palm), rel=1e-3)


def test_a_face_seen_later_takes_over_from_the_shoulders():
    poses = moving_clip(40, unit=20.0, move=0.0)
    poses[:, 5:7, 0] += np.array([40, -40])  # shoulders that say something else
    poses[:20, FACE:LEFT_HAND, 2] = 0
    unit = ready(poses).place[:, 2]
    assert unit[0] > 21
    assert unit[25:].numpy() == pytest.approx(np.full(15, 20.0), rel=1e-3)


def test_the_origin_falls_back_along_the_list_and_then_holds():
    poses = moving_clip(60, unit=20.0, move=0.0)
    nose = poses[:, 0, :2].copy()
    poses[10:, [0], 2] = 0
    poses[20:, [FACE + 30], 2] = 0
    poses[30:, 1:3, 2] = 0
    poses[40:, FACE:LEFT_HAND, 2] = 0
    poses[50:, 5:7, 2] = 0
    origin = ready(poses, RAW).place[:, :2].numpy()
    assert np.abs(origin[:50] - nose[:50]).max() < 0.1 * 20  # every stand-in lands where the nose is
    assert np.abs(origin[:20] - nose[:20]).max() < 1e-3
    assert np.array_equal(origin[50:], np.tile(origin[49], (10, 1)))


def test_a_missing_nose_does_not_take_the_body_with_it():
    poses = moving_clip(30)
    poses[:, [0, FACE + 30], 2] = 0
    out = ready(poses, RAW)
    assert torch.equal(out.frames[:, 1:17, 2] > 0, torch.ones(30, 16, dtype=torch.bool))


@pytest.mark.parametrize(
    "kept", [[100], [0], [], list(range(17)), list(range(LEFT_HAND, 133)), list(range(FACE, LEFT_HAND))]
)
def test_however_little_is_seen_the_numbers_are_finite(kept):
    poses = moving_clip(25)
    poses[:, [j for j in range(NUM_JOINTS) if j not in kept], 2] = 0
    out = ready(poses)
    assert torch.isfinite(out.frames).all()
    assert torch.isfinite(out.place).all()
    assert (out.place[:, 2] > 0).all()
    assert (out.frames[..., 2] > 0).sum() == 25 * len(kept)


def test_gaps_up_to_max_gap_close_in_a_straight_line_and_longer_ones_stay():
    frames = torch.zeros(20, 2, 3)
    frames[..., 0], frames[..., 2] = torch.arange(20.0)[:, None] * 3, 1.0
    for joint, gap in ((0, range(5, 9)), (1, range(5, 10))):
        frames[list(gap), joint] = 0
    filled = fill_gaps(frames, 4)
    assert torch.equal(filled[:, 0, 0], torch.arange(20.0) * 3)
    assert (filled[:, 0, 2] == 1).all()
    assert torch.equal(filled[:, 1], frames[:, 1])


def test_gaps_at_the_ends_of_a_clip_stay():
    frames = torch.ones(10, 1, 3)
    frames[:2], frames[8:] = 0, 0
    assert torch.equal(fill_gaps(frames, 4), frames)


@pytest.mark.parametrize("half", [2, 3, 5])
def test_the_filter_keeps_smooth_movement_and_quietens_jitter(half):
    taps = np.array(fir_taps(half))
    assert taps.sum() == pytest.approx(1)
    assert taps == pytest.approx(taps[::-1])
    t, rng = torch.arange(60.0), np.random.default_rng(0)
    frames = torch.ones(60, 1, 3)
    frames[:, 0, 0], frames[:, 0, 1] = 3 + 2 * t - 0.1 * t * t, torch.from_numpy(rng.normal(size=60).astype(np.float32))
    out = low_pass(frames, half)
    torch.testing.assert_close(out[:, 0, 0], frames[:, 0, 0], atol=1e-3, rtol=0)
    assert out[half:-half, 0, 1].std() < 0.8 * frames[half:-half, 0, 1].std()


def test_the_filter_leaves_frames_beside_a_gap_alone():
    frames = torch.rand(20, 1, 3, generator=torch.Generator().manual_seed(0)) + 0.1
    frames[10] = 0
    out = low_pass(frames, 2)
    assert torch.equal(out[8:13], frames[8:13])
    assert not torch.equal(out[2:8], frames[2:8])


@pytest.mark.parametrize(
    ("fps", "frames", "expected"), [(30, 40, 40), (25, 25, 30), (60, 60, 30), (15, 15, 30), (29.97, 40, 40), (24, 1, 1)]
)
def test_resampling_keeps_the_duration(fps, frames, expected):
    assert len(ready(moving_clip(frames), fps=fps).frames) == expected


def test_resampling_meets_the_source_at_common_times():
    poses = moving_clip(31, 4)
    out = ready(poses, RAW, fps=15)
    back = to_pixels(out.frames[..., :2], out.place).numpy()
    assert np.abs(back[::2][:31] - poses[..., :2]).max() < 1e-3
    assert np.abs(back[1:60:2] - (poses[:-1, :, :2] + poses[1:, :, :2]) / 2).max() < 1e-3


def test_max_frames_cuts_what_the_front_end_gives():
    poses = moving_clip(50)
    whole, short = ready(poses), ready(poses, replace(Data(), max_frames=20))
    assert torch.equal(short.frames, whole.frames[:20])


def test_no_frame_at_all_gives_none():
    front = FrontEnd(BODY, Data(), 25)
    assert len(front.push(torch.zeros(0, 133, 3)).frames) == len(front.finish().frames) == 0


def test_running_median_is_the_median_of_its_window():
    rng, values = np.random.default_rng(0), np.random.default_rng(1).normal(size=200)
    values[rng.random(200) < 0.1] = np.nan
    median, kept = RunningMedian(17), []
    for value in values.tolist():
        median.push(value)
        kept += [value] if value == value else []
        assert not kept or median.median == pytest.approx(np.median(kept[-17:]))
    assert len(median.values) == len(median.order) == 17


def test_a_stream_of_any_length_keeps_bounded_memory():
    front = FrontEnd(BODY, replace(Data(), unit_window=50), 50)
    for start in range(0, 2000, 20):
        front.push(torch.from_numpy(moving_clip(20, seed=start)))
    assert len(front.buffer) <= 2 * front.data.lookahead + 20
    assert len(front.source) <= 3
    assert len(front.units) <= front.data.lookahead
    assert all(len(m.values) <= 50 for m in front.unit.medians)
