"""Linear layers by oneDNN: the same numbers and gradients in training, the same bits in evaluation, small ones left."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from signstream.models import linear
from signstream.models.linear import WideLinear, at_full_width

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN"),
]


def pair(monkeypatch, bias=True, least=0):
    """A layer as torch has it, and the same as ours."""
    monkeypatch.setattr(linear, "LEAST", least)
    monkeypatch.setattr(linear, "half_width", lambda: True)
    torch.manual_seed(0)
    plain, wide = nn.Linear(40, 56, bias=bias), WideLinear(40, 56, bias=bias)
    wide.load_state_dict(plain.state_dict())
    return plain, wide


def with_gradients(layer, x, run=lambda layer, x: layer(x)):
    x = x.detach().requires_grad_()
    y = run(layer, x)
    weights = [weight for weight in layer.parameters() if weight.requires_grad]
    return [y, *torch.autograd.grad(y.square().sum(), [x, *weights])]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(70, 40), (3, 20, 40), (2, 3, 5, 40), (0, 40)])
def test_values_and_gradients_are_those_of_torch(monkeypatch, bias, shape):
    plain, wide = pair(monkeypatch, bias)
    x = torch.randn(shape)
    for theirs, ours in zip(with_gradients(plain, x), with_gradients(wide, x)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_turned_checkpointed_and_frozen_ones_too(monkeypatch):
    plain, wide = pair(monkeypatch)
    x = torch.randn(3, 40, 20)
    torch.testing.assert_close(wide(x.mT), plain(x.mT), rtol=1e-4, atol=1e-5)

    def again(layer, x):
        return checkpoint(layer, x, use_reentrant=False)

    for theirs, ours in zip(with_gradients(plain, x.mT), with_gradients(wide, x.mT, again)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    wide.weight.requires_grad_(False)
    assert len(with_gradients(wide, x.mT)) == 3


def test_evaluation_and_small_products_keep_their_bits(monkeypatch):
    def refused(*_):
        raise AssertionError("oneDNN was asked")

    plain, wide = pair(monkeypatch)
    x = torch.randn(70, 40)
    monkeypatch.setattr(torch.Tensor, "to_mkldnn", refused)
    assert wide.eval()(x).equal(plain(x))
    plain, wide = pair(monkeypatch, least=70 * 40 * 56 + 1)
    assert wide.train()(x).equal(plain(x))
    monkeypatch.setattr(linear, "LEAST", 70 * 40 * 56)
    with pytest.raises(AssertionError, match="oneDNN was asked"):
        wide(x)


def test_under_autocast_it_is_torchs(monkeypatch):
    plain, wide = pair(monkeypatch)
    x = torch.randn(70, 40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for theirs, ours in zip(with_gradients(plain, x), with_gradients(wide, x)):
            assert ours.dtype == theirs.dtype and ours.equal(theirs)


@pytest.mark.parametrize("half", [True, False])
def test_a_network_is_changed_where_it_pays(monkeypatch, half):
    monkeypatch.setattr(linear, "half_width", lambda: half)
    network = nn.ModuleDict({"in": nn.Linear(3, 4), "more": nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))})
    before = list(network.state_dict())
    at_full_width(network)
    kinds = {type(network["in"]), type(network["more"][0])}
    assert kinds == {WideLinear if half else nn.Linear} and list(network.state_dict()) == before
