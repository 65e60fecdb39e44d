import itertools

import pytest
import torch

from signstream.models.metrics import meaning
from signstream.models.metrics.meaning import (
    Items,
    agreement,
    bag_of_codes,
    chance,
    choose,
    coordinates,
    folds,
    mean_precision,
    probe,
    top_one,
)

SIZE, PARTS, LEVELS = 32, 3, 2


def signed(count=120, classes=6, noise=0.3, seed=0):
    """Segments of 3 chunks, of which a gloss has 4 first-level codes of its own in each part; their bags, and latents
    that say no more."""
    generator = torch.Generator().manual_seed(seed)
    gloss = torch.arange(count) % classes
    typical = gloss[:, None, None, None] * 4 + torch.randint(4, (count, 3, PARTS, LEVELS), generator=generator)
    other = torch.randint(SIZE, typical.shape, generator=generator)
    codes = torch.where(torch.rand(typical.shape, generator=generator) < noise, other, typical)
    bag = bag_of_codes(codes.flatten(0, 1), [(3 * i, 3 * i + 3) for i in range(count)], SIZE)
    return bag, torch.randn(count, 5, generator=generator), gloss


def items(single=True, groups=10, **options):
    bag, latents, gloss = signed(**options)
    words = [[f"G{g}"] if single else [f"G{g}", f"G{(g + i % 2) % 6}"] for i, g in enumerate(gloss.tolist())]
    features = {"codes": bag, "latents": latents}
    return choose(features, words, groups=[i % groups for i in range(len(bag))], single=single)


@pytest.mark.parametrize("single", [True, False])
def test_codes_that_tell_glosses_apart_pass_the_probe_and_shuffled_codes_fail_it(single):
    result = probe(items(single))
    assert result["classes"] == 6 and len(result["codes"]) == len(result["shuffled"]) == 3
    assert min(result["codes"]) > 0.9
    for blind in (result["shuffled"], result["latents"]):
        assert max(blind) < result["chance"] + 0.12 and min(blind) > result["chance"] - 0.12


def test_the_probe_is_the_same_every_time_and_whatever_the_items_axes():
    one = items(noise=0.7)
    assert probe(one) == probe(one)
    codes = one.features["codes"]
    turned = torch.linalg.qr(torch.randn(codes.shape[1], codes.shape[1], generator=torch.Generator().manual_seed(0)))[0]
    scores = meaning.predict(coordinates(codes @ turned), one, 0)
    torch.testing.assert_close(
        scores, meaning.predict(coordinates(codes[:, (codes != 0).any(0)]), one, 0), rtol=0.05, atol=0.05
    )


def test_what_a_code_loses_the_keypoints_still_tell():
    """Each two of six glosses have one code."""
    gloss = torch.arange(120) % 6
    keypoints = torch.eye(6)[gloss] + 0.1 * torch.randn(120, 6, generator=torch.Generator().manual_seed(1))
    code, words = torch.eye(3)[gloss // 2], [[f"G{g}"] for g in gloss.tolist()]
    features = {"codes": code, "tokens": code @ torch.arange(24.0).view(3, 8).cos(), "keypoints": keypoints}
    result = probe(choose(features, words, groups=[i % 10 for i in range(120)], single=True))
    assert min(result["keypoints"]) > 0.9 and len(result["tokens"]) == len(result["keypoints"]) == 3
    assert 0.2 < min(result["tokens"]) <= max(result["tokens"]) < 0.7


@pytest.mark.parametrize("single", [True, False])
def test_the_gradient_that_is_written_out_is_the_losses(single, monkeypatch):
    seen = {}

    class Once(torch.optim.LBFGS):
        def step(self, closure):
            weight, bias = self.param_groups[0]["params"]
            with torch.no_grad():
                weight.normal_(generator=torch.Generator().manual_seed(0)), bias.fill_(0.3)
            seen.update(value=closure(), weight=weight, bias=bias, gradient=[weight.grad, bias.grad])

    monkeypatch.setattr(torch.optim, "LBFGS", Once)
    features = torch.randn(12, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.nn.functional.one_hot(torch.arange(12) % 3, 3).bool()
    meaning.fit(features, labels, single)
    weight, bias = (seen[name].detach().clone().requires_grad_() for name in ("weight", "bias"))
    logits = features @ weight + bias
    if single:
        told = -logits.log_softmax(1)[labels].mean()
    else:
        told = -torch.nn.functional.logsigmoid(torch.where(labels, logits, -logits)).sum() / 12
    loss = told + meaning.STRENGTH / 2 * weight.square().sum()
    torch.testing.assert_close(seen["value"], loss.detach())
    torch.testing.assert_close(seen["gradient"], list(torch.autograd.grad(loss, (weight, bias))))


def test_a_probe_of_groups_never_sees_the_group_it_is_asked_about():
    """Codes that say only who signs, and each signer signs one gloss: known signers would be told, strangers are
    not."""
    signer = torch.arange(60) % 6
    codes = torch.nn.functional.one_hot(signer, 6).float()
    labels = torch.nn.functional.one_hot(signer % 2, 2).bool()
    assert probe(Items({"codes": codes}, labels, torch.arange(60), True))["codes"] == [1.0] * 3
    assert max(probe(Items({"codes": codes}, labels, signer, True))["codes"]) < 0.7


def test_folds_hold_whole_groups_and_about_as_many_items():
    groups = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).repeat_interleave(7)
    for seed in range(3):
        fold = folds(groups, seed)
        assert all(len(fold[groups == group].unique()) == 1 for group in range(10))
        assert torch.bincount(fold).tolist() == [14] * 5
    assert not torch.equal(folds(groups, 0), folds(groups, 1))
    assert folds(torch.tensor([4, 4, 9]), 0).unique().tolist() == [0, 1]


def test_scores_by_hand():
    labels = torch.tensor([[True, False], [False, True], [True, False]])
    scores = torch.tensor([[3.0, 1.0], [2.0, 0.0], [1.0, 2.0]])
    assert top_one(scores, labels) == pytest.approx(1 / 3)
    assert mean_precision(scores, labels) == pytest.approx(((1 / 1 + 2 / 3) / 2 + 1 / 3) / 2)


@pytest.mark.parametrize("positive", [1, 2, 4, 5])
def test_chance_is_the_mean_over_all_orders(positive):
    column = torch.tensor([True] * positive + [False] * (5 - positive))
    orders = [
        mean_precision(torch.tensor(order, dtype=torch.float32)[:, None], column[:, None])
        for order in itertools.permutations(range(5))
    ]
    given = Items({"codes": torch.zeros(5, 1)}, column[:, None], torch.arange(5), False)
    assert chance(given) == pytest.approx(sum(orders) / len(orders))


def test_chance_of_one_gloss_is_the_most_frequent_one():
    labels = torch.nn.functional.one_hot(torch.tensor([0, 0, 0, 1, 2]), 3).bool()
    assert chance(Items({"codes": torch.zeros(5, 1)}, labels, torch.arange(5), True)) == pytest.approx(0.6)


def test_only_glosses_that_two_groups_have_are_asked_about(monkeypatch):
    monkeypatch.setattr(meaning, "FEWEST_ITEMS", 3)
    words, groups = [["A"], ["A", "B"], ["B"], ["C"], ["C"], ["A", "D"]], ["x", "y", "y", "x", "x", "y"]
    result = choose({"codes": torch.eye(6)}, words, groups=groups, single=False)
    assert choose({"codes": torch.eye(6)}, words, groups=["x"] * 6, single=False) is None
    assert result is None  # B and C have one group each, D one item: A alone is nothing to tell apart
    groups[2] = "z"
    result = choose({"codes": torch.eye(6)}, words, groups=groups, single=False)
    assert result.labels.tolist() == [[True, False], [True, True], [False, True], [True, False]]
    assert result.features["codes"].argmax(1).tolist() == [0, 1, 2, 5] and result.groups.tolist() == [0, 1, 2, 1]
    monkeypatch.setattr(meaning, "FEWEST_ITEMS", 5)
    assert choose({"codes": torch.eye(6)}, words, groups=groups, single=False) is None


def test_a_bag_counts_codes_first_levels_first():
    codes = torch.tensor([[[1, 0], [2, -1]], [[1, 3], [-1, -1]], [[0, 0], [0, 0]]])  # [3, 2, 2], of 4 codes
    bag = bag_of_codes(codes, [(0, 2), (2, 3), (1, 1)], 4)
    assert bag.shape == (3, 16)
    assert {i: int(n) for i, n in enumerate(bag[0]) if n} == {1: 2, 4 + 2: 1, 8 + 0: 1, 8 + 3: 1}
    assert bag[1].sum() == 4 and bag[2].sum() == 0


def test_agreement_by_hand():
    bag = torch.tensor([[1, 2, 0, 0], [1, 0, 0, 1], [0, 0, 3, 1], [1, 1, 0, 0]]).float()
    result = agreement(bag, ["A", "A", "B", "B"], ["x", "y", "x", "y"], clip=[0, 1, 2, 3])
    assert result["same gloss, other signer"] == pytest.approx((1 / 3 + 0) / 2)  # 0 with 1, 2 with 3
    assert result["other gloss, same signer"] == pytest.approx((0 + 1 / 3) / 2)  # 0 with 2, 1 with 3
    result = agreement(bag, ["A", "A", "B", "B"], ["x"] * 4, clip=[0, 0, 0, 0])  # one clip
    assert result == {"same gloss, other signer": None, "other gloss, same signer": None}
