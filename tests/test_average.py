"""A running average of weights: floating points alone, and soon free of what it began with."""

import copy

import torch
from torch import nn

from helpers import assert_same
from signstream.training.average import Average


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.register_buffer("order", torch.tensor([2, 0, 1]))
        self.register_buffer("seen", torch.tensor(0))


def test_the_average_leaves_integers_alone():
    net = Counting()
    average = Average(net, 0.9)
    for step in range(200):
        net.weight.data += 1
        net.seen += 1
        average.update(net)
        assert torch.equal(average.values["order"], net.order) and average.values["seen"] == step + 1
    lag = (net.weight - average.values["weight"]).detach()
    assert bool((lag > 8).all() and (lag < 10).all()), "what moves by 1 a step is followed by 0.9 / 0.1 steps"
    own = copy.deepcopy(net.state_dict())
    with average.inside(net):
        assert_same(net.state_dict(), type(own)(average.values))
    assert_same(net.state_dict(), own)


def test_a_short_runs_average_forgets_where_it_began():
    net = Counting()
    net.weight.data.fill_(100.0)
    average = Average(net, 0.9999)
    net.weight.data.fill_(1.0)
    for _ in range(50):
        average.update(net)
    assert bool((average.values["weight"] < 1.1).all())
