"""Movement by hand: jumps at chunks' borders, errors of speed and jerk, and quantiles as fine as their bins."""

import numpy as np
import pytest
import torch

from signstream import skeleton
from signstream.models.metrics.temporal import Smoothness

FOUR = skeleton.build(4, {"body": (1, 4)}, {"body": 1}, unit_joints=[[2, 3]])


def moving(xs, made_xs, t=None, clip=None, size=4):
    """Smoothness of joints whose x over time is xs, and made_xs in the reconstruction, [T], cut into chunks of
    `size`."""
    count = -(-len(xs) // size)
    view, made = torch.zeros(2, count * size, 4, 2, dtype=torch.float64)
    view[: len(xs), :, 0] = torch.tensor(xs)[:, None]
    made[: len(xs), :, 0] = torch.tensor(made_xs)[:, None]
    inside = torch.arange(count * size).view(count, size) < len(xs)
    weight = inside[..., None].expand(-1, -1, 4).double()
    metric = Smoothness(FOUR)
    metric.add(
        {"body": view.view(count, size, 4, 2)},
        {"body": made.view(count, size, 4, 2)},
        {"body": weight},
        clip=torch.zeros(count, dtype=torch.int64) if clip is None else torch.tensor(clip),
        t=torch.arange(count) if t is None else torch.tensor(t),
        frames=inside.sum(1),
    )
    return metric.result()


def test_movement_computed_by_hand():
    steady = [float(i) for i in range(10)]
    result = moving(steady, [0.0] * 4 + [5.0] * 6)
    assert result["body/jump/original/mean"] == 1.0  # frames 3 to 4 and 7 to 8
    assert result["body/jump/reconstruction/mean"] == 2.5
    assert result["body/jump/reconstruction/q50"] == 0.0
    assert result["body/jump/reconstruction/q99"] == pytest.approx(5.0, rel=0.006)
    assert result["body/speed_error"] == pytest.approx((8 * 1 + 4) / 9)
    assert result["body/jerk_error"] == pytest.approx((5 + 10 + 5) / 7)
    cubic = moving([float(i**3) for i in range(10)], steady)
    assert cubic["body/jerk_error"] == cubic["body/jerk/original"] == pytest.approx(6.0)
    assert cubic["body/jerk/reconstruction"] == 0 and result["body/jerk/reconstruction"] == pytest.approx(
        (5 + 10 + 5) / 7
    )


def test_only_neighbours_of_one_clip_are_joined():
    steady = [float(i) for i in range(12)]
    unmoved = [0.0] * 12
    assert "body/jump/original/mean" not in moving(steady, unmoved, t=[0, 2, 4])
    assert "body/jump/original/mean" not in moving(steady, unmoved, t=[0, 1, 2], clip=[0, 1, 2])
    apart = moving([0.0] * 4 + [50.0] * 4 + [51.0] * 4, unmoved, t=[0, 1, 2], clip=[3, 5, 5])
    assert apart["body/jump/original/mean"] == 1.0
    assert apart["body/speed_error"] == pytest.approx(1 / 10)
    assert moving([1.0], [2.0]) == {}


def test_quantiles_are_the_samples_to_the_bins_width():
    jumps = np.sort(np.exp(np.random.default_rng(0).normal(-1, 1.5, 3000)))
    xs, size = np.cumsum(np.stack((jumps, np.zeros(3000)), 1).ravel()), 2
    result = moving(xs.tolist(), [0.0] * 6000, size=size)
    for name, share in {"q50": 0.5, "q90": 0.9, "q99": 0.99}.items():
        exact = float(np.quantile(jumps[1:], share, method="inverted_cdf"))
        assert result[f"body/jump/original/{name}"] == pytest.approx(exact, rel=0.006)
        assert result[f"body/jump/reconstruction/{name}"] == 0
    far = moving([0.0, 0.0, 1e4, 1e4], [0.0] * 4, size=2)
    assert far["body/jump/original/q50"] == 100.0 and far["body/jump/original/mean"] == 1e4
