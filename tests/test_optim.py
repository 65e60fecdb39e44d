"""Weight decay, learning rate, accumulation and the search for a batch size."""

import itertools
import math

import pytest
import torch
from torch import nn

from signstream.config import Train
from signstream.training.optim import accumulation, build_optimizer, groups_of, largest_batch, learning_rate, peak_rate

TRAIN = Train(lr=1e-3, wd=0.1, warmup_steps=10, min_lr=0.05, clips_per_step=64)


class Small(nn.Module):
    no_decay = ("part",)

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Parameter(torch.zeros(5, 4))
        self.start = nn.Parameter(torch.zeros(5, 4))
        self.names = nn.Embedding(7, 4)
        self.layer = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)


def decayed(model: nn.Module) -> set[str]:
    name_of = {id(p): name for name, p in model.named_parameters()}
    groups = build_optimizer(groups_of(model), TRAIN).param_groups
    assert {g["weight_decay"] for g in groups} <= {0.0, TRAIN.wd}
    names = [name_of[id(p)] for g in groups for p in g["params"]]
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert sorted(names) == sorted(trained), "each trained parameter once"
    return {name_of[id(p)] for g in groups if g["weight_decay"] for p in g["params"]}


def test_norms_biases_embeddings_and_what_a_module_names_do_not_decay():
    assert decayed(Small()) == {"start", "layer.weight"}
    assert decayed(nn.Sequential(Small(), nn.Linear(2, 2))) == {"0.start", "0.layer.weight", "1.weight"}


def test_a_shared_weight_does_not_decay_if_one_of_its_places_says_so():
    model = Small()
    model.layer.weight = model.part
    assert decayed(model) == {"start"}


def test_a_name_that_is_no_parameter_is_our_mistake():
    model = Small()
    model.no_decay = ("parts",)
    with pytest.raises(AssertionError, match="parts"):
        groups_of(model)


def test_more_processes_learn_at_a_rate_that_grows_as_their_root():
    assert build_optimizer(groups_of(Small()), TRAIN, world=4).param_groups[0]["lr"] == pytest.approx(2e-3)
    assert peak_rate(Train(lr=1e-3, scale_with_world=False), 4) == 1e-3


def test_the_rate_rises_along_a_line_and_falls_along_a_cosine():
    rates = [learning_rate(step, 100, TRAIN) for step in range(100)]
    assert rates[:10] == pytest.approx([1e-4 * (i + 1) for i in range(10)])
    assert max(rates) == rates[10] == TRAIN.lr
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(TRAIN.lr * TRAIN.min_lr)
    assert rates[10] + rates[99] == pytest.approx(rates[40] + rates[69]), "a cosine is symmetric about its middle"
    assert learning_rate(1000, 100, TRAIN) == pytest.approx(rates[-1]), "past the end it stays"


@pytest.mark.parametrize("total", [1, 2, 5, 12])
def test_a_run_shorter_than_its_warm_up_still_rises_and_falls(total):
    rates = [learning_rate(step, total, TRAIN) for step in range(total)]
    assert all(0 < rate <= TRAIN.lr for rate in rates)
    assert max(rates) == TRAIN.lr


@pytest.mark.parametrize("scale", [True, False])
def test_accumulation_meets_the_clips_of_a_step(scale):
    for clips, batch, world in itertools.product((1, 7, 64, 100), (1, 3, 24, 64, 1000), (1, 3, 8)):
        size, micro = accumulation(Train(clips_per_step=clips, scale_with_world=scale), batch, world)
        share = clips if scale else math.ceil(clips / world)
        assert 1 <= size <= batch
        assert share <= size * micro < share + micro
        assert micro == math.ceil(share / batch), "no more micro batches than need be"


@pytest.mark.parametrize("limit", [1, 2, 3, 11, 37, 66, 70, 100])
def test_the_largest_batch_leaves_a_tenth_free(limit):
    tried = []

    def run(size: int) -> None:
        tried.append(size)
        if size > limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    largest = largest_batch(run, upper=64)
    assert largest == max(n for n in range(1, 65) if n + n // 10 <= limit)
    assert len(tried) <= 14


def test_a_model_that_does_not_fit_at_all_is_an_error_in_a_line():
    def run(size: int) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ValueError, match="batch of 2 clips does not fit"):
        largest_batch(run, upper=64, lower=2)


def test_another_error_is_not_taken_for_a_lack_of_memory():
    def run(size: int) -> None:
        raise RuntimeError("a mistake in the model")

    with pytest.raises(RuntimeError, match="mistake"):
        largest_batch(run, upper=64)
