import math

import pytest
import torch

from clips import moving_clip, with_gaps
from signstream.data.frontend import clean
from signstream.models.metrics.steadiness import (
    CHANGES,
    HIDDEN,
    JITTER,
    LARGER,
    SHIFT,
    Steadiness,
    changes,
    seeded_order,
)

POSES = clean(torch.from_numpy(with_gaps(moving_clip(30, 2), 2)), 0.3)
SEEN = POSES[..., 2] > 0


def test_the_changes_are_what_their_names_say():
    changed = changes(POSES, (512.0, 400.0), seed=3)
    assert tuple(changed) == CHANGES
    noise = (changed[JITTER] - POSES)[..., :2]
    assert noise.std() == pytest.approx(1.0, abs=0.03) and abs(noise.mean()) < 0.05
    assert torch.equal(changed[SHIFT], POSES[1:])
    middle = torch.tensor([256.0, 200.0])
    torch.testing.assert_close(
        changed[LARGER][SEEN][:, :2] - middle, 1.02 * (POSES[SEEN][:, :2] - middle), rtol=0, atol=1e-3
    )
    hidden = (changed[HIDDEN] == 0).all(-1).all(0)
    assert hidden.sum() == 7 and torch.equal(changed[HIDDEN][:, ~hidden], POSES[:, ~hidden])
    for change in (JITTER, LARGER):
        assert torch.equal(changed[change][..., 2], POSES[..., 2])


def test_they_depend_on_the_seed_alone():
    one, same, other = (changes(POSES, None, seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[change], same[change]) for change in CHANGES)
    assert not torch.equal(one[JITTER], other[JITTER]) and not torch.equal(one[HIDDEN], other[HIDDEN])


def test_a_picture_of_unknown_size_has_its_middle_where_the_joints_are():
    grown = changes(POSES, None, 0)[LARGER][SEEN][:, :2]
    before = POSES[SEEN][:, :2]
    torch.testing.assert_close(
        (grown.amax(0) + grown.amin(0)) / 2, (before.amax(0) + before.amin(0)) / 2, rtol=0, atol=1e-3
    )
    torch.testing.assert_close(
        grown.amax(0) - grown.amin(0), 1.02 * (before.amax(0) - before.amin(0)), rtol=0, atol=1e-3
    )


def test_shares_by_hand_in_any_order_and_over_ranks():
    before = torch.tensor([[[1, 2], [3, -1]], [[1, 2], [3, 4]], [[9, 9], [9, 9]]])  # [3, 2, 2]
    after = torch.tensor([[[1, 5], [3, 4]], [[1, 2], [-1, -1]]])  # the last chunk is gone
    first, second = Steadiness(2, 2), Steadiness(2, 2)
    first.add(SHIFT, before, after)
    share = first.result()[SHIFT]
    assert share[0].tolist() == [1.0, 0.5] and share[1, 0] == 1.0 and math.isnan(share[1, 1])
    assert first.result()[JITTER].isnan().all()
    second.add(SHIFT, before, before)
    summed = Steadiness(2, 2)
    summed.load_state(first.state() + second.state())
    assert summed.result()[SHIFT].tolist() == [[1.0, 4 / 5], [1.0, 1.0]]


def test_the_seeded_order_is_an_order():
    assert sorted(seeded_order(20)) == list(range(20)) != seeded_order(20) == seeded_order(20)
