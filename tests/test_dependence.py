import math

import pytest
import torch

from signstream.models.metrics.dependence import entropy, mutual_information, stay


def drawn(*shape, size, seed=0):
    return torch.randint(size, shape, generator=torch.Generator().manual_seed(seed))


def test_entropy_by_hand():
    assert entropy(torch.tensor([3, 3, 5, 7])) == pytest.approx(1.5)
    assert entropy(torch.tensor([4, 4])) == 0.0
    assert math.isnan(entropy(torch.tensor([], dtype=torch.int64)))


def test_parts_that_say_the_same_share_their_entropy_and_strangers_nothing():
    """Of 400 chunks the plain estimate gives two independent parts of 64 codes about 3 bits."""
    a, b = drawn(400, size=64), drawn(400, size=64, seed=1)
    shared = mutual_information(torch.stack((a, (a + 5) % 64, b), 1))
    plain = entropy(a) + entropy(b) - entropy(a * 64 + b)
    assert plain > 2.5 and shared[0, 2] < 0.05 * plain
    assert shared[0, 1] == pytest.approx(entropy(a)) and shared[0, 0] == pytest.approx(entropy(a))
    assert torch.equal(shared, shared.T)
    few = mutual_information(
        torch.stack((drawn(4000, size=4), drawn(4000, size=4) // 2), 1)
    )  # half of what a part says
    assert few[0, 1] == pytest.approx(1.0, abs=0.02) and few[1, 1] == pytest.approx(1.0, abs=0.01)


def test_what_was_not_sent_does_not_count():
    codes = drawn(500, 2, size=8)
    more = torch.cat((codes, torch.full((50, 2), -1)))
    assert torch.equal(mutual_information(more), mutual_information(codes))
    assert (
        mutual_information(torch.stack((codes[:, 0], torch.zeros(500, dtype=torch.int64)), 1))[0, 1] == 0.0
    )  # a part that says nothing
    assert math.isnan(mutual_information(torch.stack((torch.arange(9), torch.arange(9)), 1))[0, 1])  # no pair twice
    codes[:, 1] = -1
    shared = mutual_information(codes)
    assert math.isnan(shared[0, 1]) and math.isnan(shared[1, 1]) and shared[0, 0] > 2.9


def test_codes_stay_only_within_a_clip_and_where_both_chunks_speak():
    codes = torch.tensor([[1, 7], [1, 8], [1, -1], [1, 8], [2, 8], [2, 8]])[:, None]  # [6, 1, 2]
    clip, t = torch.tensor([0, 0, 0, 4, 4, 4]), torch.tensor([0, 1, 2, 0, 1, 2])
    assert stay(codes, clip, t).tolist() == [[3 / 4, 2 / 3]]
    assert stay(codes[:1], clip[:1], t[:1]).isnan().all()
