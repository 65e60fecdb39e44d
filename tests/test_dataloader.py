from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from signstream.config import Data
from signstream.io.dataloader_utils import ClipLoader, ClipSampler, seed_worker, step_seed
from signstream.skeleton import COCO_WHOLEBODY

COSTS = np.random.default_rng(0).integers(10, 494, 203).tolist()


def samplers(world, batch_size=4, costs=COSTS, **options):
    return [ClipSampler(costs, batch_size, rank=rank, world=world, **options) for rank in range(world)]


def epoch(sampler):
    batches = sampler.batches()
    sampler.next_epoch()
    return batches


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("clips", [1, 2, 5, 16, 17, 203])
@pytest.mark.parametrize("shuffle", [True, False])
def test_ranks_see_each_clip_once_in_as_many_steps(world, clips, shuffle):
    group = samplers(world, costs=COSTS[:clips], shuffle=shuffle)
    for _ in range(3):
        shares = [epoch(s) for s in group]
        assert sorted(clip for share in shares for batch in share for clip in batch) == list(range(clips))
        assert {len(share) for share in shares} == {-(-clips // (4 * world))}
        assert max(len(batch) for share in shares for batch in share) <= 4
        if clips >= 4 * world:
            assert min(len(batch) for share in shares for batch in share) >= 1


def test_steps_are_of_like_size_so_no_epoch_ends_on_a_crumb():
    sizes = [len(batch) for batch in ClipSampler(list(range(201)), 50).batches()]
    assert max(sizes) - min(sizes) <= 1


def test_a_steps_frames_are_spread_evenly_over_ranks():
    def spread(shares):
        return np.mean([np.ptp([sum(COSTS[c] for c in batch) for batch in step]) for step in zip(*shares)])

    dealt = [s.batches() for s in samplers(2, 8)]
    order, bounds = ClipSampler(COSTS, 8, world=2).order(), ClipSampler(COSTS, 8, world=2).bounds()
    as_they_come = [
        [order[a + r * (b - a) // 2 : a + (r + 1) * (b - a) // 2] for a, b in zip(bounds, bounds[1:])] for r in range(2)
    ]
    assert spread(dealt) < 0.5 * spread(as_they_come)


def test_epochs_differ_and_the_seed_repeats_them():
    one, repeated, other = ClipSampler(COSTS, 4, seed=1), ClipSampler(COSTS, 4, seed=1), ClipSampler(COSTS, 4, seed=2)
    first, second = epoch(one), epoch(one)
    assert first != second
    assert [epoch(repeated), epoch(repeated)] == [first, second]
    assert epoch(other) != first


@pytest.mark.parametrize("world", [1, 2])
def test_a_saved_position_goes_on_where_it_was(world):
    straight, saved = samplers(world, seed=3), samplers(world, seed=3)
    for a, b in zip(straight, saved):
        epoch(a), epoch(b)
        expected = a.batches()[5:]
        b.step = 5
        fresh = ClipSampler(COSTS, 4, seed=99, rank=a.rank, world=world)
        fresh.load_state_dict(b.state_dict())
        assert fresh.batches() == expected
        fresh.next_epoch()
        a.next_epoch()
        assert fresh.batches() == a.batches()


def test_with_another_number_of_ranks_the_rest_of_the_epoch_is_dealt_anew():
    two = samplers(2, seed=3)
    done = [clip for s in two for batch in s.batches()[:7] for clip in batch]
    two[0].step = 7
    three = samplers(3, seed=3)
    for s in three:
        s.load_state_dict(two[0].state_dict())
    rest = [clip for s in three for batch in s.batches() for clip in batch]
    assert sorted(done + rest) == list(range(len(COSTS)))
    assert len({len(s.batches()) for s in three}) == 1
    three[0].step = 2
    state, repeated = three[0].state_dict(), ClipSampler(COSTS, 4, rank=0, world=3)
    repeated.load_state_dict(state)
    assert repeated.batches() == three[0].batches()


def test_a_position_of_other_data_is_refused():
    state = ClipSampler(COSTS, 4).state_dict()
    with pytest.raises(ValueError, match="203 clips in this split, the data now has 10"):
        ClipSampler(COSTS[:10], 4).load_state_dict(state)


def test_seeds_differ_in_each_of_their_numbers():
    seeds = {step_seed(a, b, c, d) for a in range(3) for b in range(3) for c in range(3) for d in range(3)}
    assert len(seeds) == 81
    assert all(0 <= s < 2**63 for s in seeds)
    torch.Generator().manual_seed(max(seeds))


@dataclass
class TinyCache:
    """As much of a PoseCache as a loader uses: clip i is i + 1 frames that all hold i."""

    clips: list
    checked: set = field(default_factory=set)
    skeleton = COCO_WHOLEBODY

    def digest(self, split):
        return f"of {len(self.clips)} clips"

    def split(self, name):
        return list(range(len(self.clips)))

    def frames(self, i):
        return np.full((i + 1, 134, 3), i, np.float32)


CACHE = TinyCache([SimpleNamespace(length=i + 1) for i in range(23)])


def loader(workers=0, **options):
    return ClipLoader(CACHE, "train", replace(Data(), workers=workers), batch_size=4, seed=5, **options)


def checked(batch):
    assert batch.frames[:, 0, 0].tolist() == [i for i in batch.index for _ in range(i + 1)]
    assert batch.lengths == tuple(i + 1 for i in batch.index)
    return batch.index, batch.seed


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing_about_the_batches(workers):
    alone, helped = loader(train=True), loader(workers, train=True)
    for _ in range(2):
        assert [checked(b) for b in alone] == [checked(b) for b in helped]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 3, 6])
def test_an_epoch_left_in_the_middle_goes_on_after_the_last_batch_used(workers, stop):
    straight = loader(train=True)
    expected = [checked(b) for _ in range(2) for b in straight]
    stopped, used = loader(workers, train=True), []
    for batch in stopped:  # workers have read ahead of what was used
        used.append(checked(batch))
        if len(used) == stop:
            state = stopped.state_dict()
            break
    resumed = loader(workers, train=True)
    resumed.load_state_dict(state)
    assert used + [checked(b) for _ in range(2) for b in resumed][: 12 - stop] == expected


def test_an_evaluation_goes_through_the_same_clips_in_order_every_time():
    reader = loader()
    first, second = ([checked(b) for b in reader] for _ in range(2))
    assert first == second
    assert [i for index, _ in first for i in index] == list(range(23))


def test_batches_of_an_epoch_have_seeds_of_their_own_and_so_have_ranks():
    seeds = [b.seed for rank in range(2) for b in loader(train=True, rank=rank, world=2)]
    reader = loader(train=True)
    seeds += [b.seed for _ in range(2) for b in reader]
    assert len(seeds) == 3 + 3 + 6 + 6
    assert len(set(seeds)) >= len(seeds) - 3  # rank 0 of two and rank 0 of one share their first steps' seeds


def test_workers_seed_numpy_and_random_with_torch():
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        seed_worker()
        draws.append((np.random.rand(), __import__("random").random()))
    assert draws[0] == draws[1] != draws[2]
