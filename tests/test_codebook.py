"""What one does with a codebook: the nearest code, the way down the levels, counting, k-means."""

import numpy as np
import pytest
import torch

from signstream.models.rvq.codebook import GROUP, LevelBook, descend, kmeans, largest, tally
from test_quantizer import latents, ones


def test_each_level_is_given_what_the_levels_before_left_over():
    codebook, x = torch.randn(2, 3, 16, 8, generator=torch.Generator().manual_seed(0)), latents(40)
    choices = descend(x, [LevelBook(codebook, level) for level in range(3)])
    residual = x
    for level, choice in enumerate(choices):
        assert torch.equal(choice.residual, residual)
        assert torch.equal(choice.code, torch.cdist(residual, codebook[:, level]).argmin(-1))
        assert torch.equal(choice.vector, torch.stack([codebook[p, level][choice.code[p]] for p in range(2)]))
        residual = residual - choice.vector


@pytest.mark.parametrize("size", [GROUP // 2, GROUP, 3 * GROUP, 3 * GROUP + 1])
def test_the_largest_is_the_first_of_the_largest_whatever_the_numbers(size):
    numbers = torch.randint(4, (2, 200, size), generator=torch.Generator().manual_seed(0)).float()  # full of equals
    numbers[0, 0] = 0
    numbers[0, 1] = -torch.inf
    numbers[1, 2, size // 2] = torch.nan
    assert torch.equal(largest(numbers), numbers.argmax(-1))
    assert largest(numbers)[0, :2].tolist() == [0, 0] and int(largest(numbers)[1, 2]) == size // 2
    assert largest(numbers[:, :0]).shape == (2, 0)


def test_a_tally_counts_and_adds_up_what_falls_to_each_code():
    generator = torch.Generator().manual_seed(0)
    vectors, weight = torch.randn(2, 3, 50, 4, generator=generator), torch.rand(2, 3, 50, generator=generator)
    index = torch.randint(5, (2, 3, 50), generator=generator)
    counts, sums = tally(vectors, weight, index, size=5)
    chosen = torch.nn.functional.one_hot(index, 5) * weight[..., None]  # [P, Q, N, K]
    torch.testing.assert_close(counts, chosen.sum(2))
    torch.testing.assert_close(sums, chosen.transpose(2, 3) @ vectors)


@pytest.mark.parametrize("count", [1, 5, 15, 16, 17, 500])
def test_kmeans_takes_any_number_of_vectors(count):
    x, valid = latents(count), torch.ones(2, count, dtype=torch.bool)
    valid[1, count // 2 :] = False
    centres, counts = kmeans(x, valid, 16, iterations=5, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(centres).all()
    assert counts.sum(1).tolist() == valid.sum(1).tolist()


def test_kmeans_finds_clusters_that_are_there():
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(8, 6)) * 10
    x = torch.from_numpy((middles[rng.integers(0, 8, 800)] + rng.normal(size=(800, 6)) * 0.1).astype(np.float32))[None]
    centres, _ = kmeans(x, ones(x), 32, iterations=15, generator=torch.Generator().manual_seed(1))
    assert torch.cdist(torch.from_numpy(middles).float(), centres[0]).min(1).values.max() < 0.5
