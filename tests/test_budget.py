import pytest
import torch

from signstream.models.rvq.budget import Budget, levels_sent, worth


def costs(chunks=300, parts=3, depth=4, seed=0):
    """Falling with every level, but not always at a falling rate."""
    g = torch.Generator().manual_seed(seed)
    falls = torch.rand(chunks, parts, depth, generator=g) * torch.rand(chunks, parts, 1, generator=g)
    return falls.flip(-1).cumsum(-1).flip(-1)


LEVELS = torch.tensor([4, 4, 4])
ALL = torch.ones(300, 3, dtype=torch.bool)


@pytest.mark.parametrize("price", [0.0, 0.01, 0.1, 0.3, 2.0])
def test_what_is_sent_is_the_cheapest_choice_at_that_price(price):
    c = costs()
    sent = levels_sent(worth(c), LEVELS, ALL, price=price)
    best = (c + price * torch.arange(1, 5)).min(-1).values
    torch.testing.assert_close(c.gather(-1, sent[..., None] - 1)[..., 0] + price * sent, best)


def test_worth_falls_from_code_to_code_even_where_a_level_does_harm():
    c = costs()
    c[:100, :, 2] += 0.5
    assert (worth(c).diff(dim=-1) <= 1e-6).all()
    assert (worth(c)[..., 0] == torch.inf).all()
    assert worth(costs(depth=1)).shape == (300, 3, 1)


@pytest.mark.parametrize("rate", [3.0, 4.0, 5.5, 7.25, 9.0, 11.5, 12.0])
def test_the_price_of_a_rate_sends_that_many_codes_and_never_more(rate):
    w = worth(costs())
    budget = Budget.fit(w, LEVELS, ALL)
    mean = levels_sent(w, LEVELS, ALL, price=budget.price(rate)).sum(1).float().mean().item()
    assert rate - 0.1 < mean <= rate


def test_a_rate_that_cannot_be_met_is_met_as_nearly_as_can_be():
    w = worth(costs())
    budget = Budget.fit(w, LEVELS, ALL)
    assert (levels_sent(w, LEVELS, ALL, price=budget.price(0.5)) == 1).all()
    assert (levels_sent(w, LEVELS, ALL, price=budget.price(100)) == levels_sent(w, LEVELS, ALL, price=0.0)).all()


def test_what_is_not_visible_gets_no_code_and_a_part_never_more_than_it_has():
    w, visible = worth(costs()), torch.rand(300, 3, generator=torch.Generator().manual_seed(1)) < 0.7
    levels = torch.tensor([1, 2, 4])
    budget = Budget.fit(w, levels, visible)
    for rate in (2.5, 3.0, 4.0):
        sent = levels_sent(w, levels, visible, price=budget.price(rate))
        assert (sent[~visible] == 0).all() and (sent[visible] >= 1).all()
        assert (sent.amax(0) <= levels).all()
        assert sent.sum(1).float().mean() <= rate


def test_nothing_to_measure_on_is_no_error():
    budget = Budget.fit(worth(costs(0)), LEVELS, torch.zeros(0, 3, dtype=torch.bool))
    assert budget.price(6) == 0.0


def test_it_survives_a_checkpoint(tmp_path):
    budget = Budget.fit(worth(costs()), LEVELS, ALL)
    torch.save(budget.state_dict(), tmp_path / "b.pt")
    loaded = Budget.from_state(torch.load(tmp_path / "b.pt", weights_only=True))
    assert [loaded.price(r) for r in (3, 5, 8)] == [budget.price(r) for r in (3, 5, 8)]
    assert budget.price(4) > budget.price(5) > budget.price(8)


def test_a_budget_spends_codes_where_they_help():
    """At the same number of codes the budget errs less than the same number of levels for everyone."""
    c = costs()
    w = worth(c)
    for count in (2, 3):
        sent = levels_sent(w, LEVELS, ALL, price=Budget.fit(w, LEVELS, ALL).price(3 * count))
        assert c.gather(-1, sent[..., None] - 1).sum() < 0.9 * c[..., count - 1].sum()
