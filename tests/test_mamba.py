"""The layers on the state-space scan: a clip does not know its company, a stream is its clip, patches go four ways."""

import math

import pytest
import torch
import torch.nn.functional as F

from scans import assert_close, drawn, loop
from signstream.errors import UserError
from signstream.models.causal_conv import CausalConv
from signstream.models.mamba import Heads, SpatialMixer, TemporalMixer, turned
from signstream.models.state_space import CHUNK

WAYS = pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])


pytestmark = pytest.mark.usefixtures("one_thread")


# -- the convolution


def conv(taps, channels=6):
    layer = CausalConv(channels, taps)
    layer.init_weights(torch.Generator().manual_seed(5))
    layer.bias.data += 0.3
    return layer


@WAYS
@pytest.mark.parametrize(("taps", "steps"), [(4, 9), (4, 2), (1, 5), (3, 1)])
def test_the_convolution_is_torchs(taps, steps, backward):
    layer, x = conv(taps).double(), drawn(2, steps, 6).double().requires_grad_()
    tensors = (x, layer.weight, layer.bias)
    ours = layer(x, backward=backward)
    kernel = layer.weight.flip(0) if backward else layer.weight
    padded = F.pad(x.mT, (0, taps - 1) if backward else (taps - 1, 0))
    theirs = F.silu(F.conv1d(padded, kernel.T[:, None], layer.bias, groups=6)).mT
    grads = [torch.autograd.grad((y * drawn(*y.shape)).sum(), tensors) for y in (ours, theirs)]
    assert_close([ours, *grads[0]], [theirs, *grads[1]], ("y", "x", "weight", "bias"), 1e-12)


# -- time


def temporal(causal=False, width=16, **sizes):
    """Nothing in it is 0 or 1 by the way it begins."""
    mixer = TemporalMixer(width, head=4, state=3, causal=causal, **sizes)
    mixer.init_weights(torch.Generator().manual_seed(6), depth=2)
    generator = torch.Generator().manual_seed(7)
    for weight in mixer.parameters():
        if weight.ndim < 2:
            weight.data += 0.2 * torch.randn(weight.shape, generator=generator)
    return mixer


CAUSAL = pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
LENGTHS = (CHUNK + 2, 1, 2, CHUNK, 5)


def clips_of(lengths, width=16):
    return [drawn(length, width, seed=place) for place, length in enumerate(lengths)]


def padded(clips, steps=None, fill=0.0):
    steps = max(map(len, clips)) if steps is None else steps
    return torch.stack([F.pad(clip, (0, 0, 0, steps - len(clip)), value=fill) for clip in clips])


@CAUSAL
@torch.no_grad()
def test_a_clip_is_the_same_in_any_company(causal):
    """Alone, first, last, with any padding, padded or packed."""
    mixer, clips = temporal(causal), clips_of(LENGTHS)
    alone = [mixer(clip[None])[0] for clip in clips]
    for order in (range(5), range(4, -1, -1), (2, 0, 3)):
        batch = [clips[place] for place in order]
        lengths = torch.tensor([len(clip) for clip in batch])
        y = mixer(padded(batch, CHUNK + 9, fill=float("nan")), lengths)
        first = torch.zeros(int(lengths.sum()), dtype=torch.bool)
        first[lengths.cumsum(0) - lengths] = True
        packed = mixer(torch.cat(batch)[None], first=first)[0].split(lengths.tolist())
        for row, place in enumerate(order):
            own = len(clips[place])
            assert torch.allclose(y[row, :own], alone[place], atol=1e-6) and not y[row, own:].any()
            assert torch.allclose(packed[row], alone[place], atol=1e-6)


@CAUSAL
def test_padding_changes_no_gradient(causal):
    mixer, clips = temporal(causal), clips_of(LENGTHS)
    lengths = torch.tensor(LENGTHS)

    def gradients(steps, fill):
        x = padded(clips, steps, fill).requires_grad_()
        y = mixer(x, lengths)
        (y.square() * torch.arange(y.shape[1])[:, None]).sum().backward()
        grads = [weight.grad.clone() for weight in mixer.parameters()]
        mixer.zero_grad()
        assert not x.grad[:, CHUNK + 2 :].any()
        return [x.grad[:, : CHUNK + 2], *grads]

    names = ("x", *(name for name, _ in mixer.named_parameters()))
    assert_close(gradients(3 * CHUNK, float("nan")), gradients(CHUNK + 2, 0.0), names)


@torch.no_grad()
def test_rows_of_packed_clips_share_their_borders():
    """[tokens, sum of S, D]: as the frames of a picture's patches lie."""
    mixer, x = temporal(), drawn(6, 9, 16)
    first = torch.arange(9) % 4 == 0
    y = mixer(x, first=first)
    assert torch.equal(y, mixer(x, first=first.expand(6, 9)))
    assert torch.allclose(y[:, 4:8], mixer(x[:, 4:8]), atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3])
@torch.no_grad()
def test_a_stream_is_its_clip(batch):
    mixer, x = temporal(causal=True), drawn(batch, CHUNK + 3, 16)
    memory, rows = None, []
    for t in range(x.shape[1]):
        y, memory = mixer.step(x[:, t], memory)
        rows.append(y)
    assert torch.allclose(torch.stack(rows, 1), mixer(x), atol=1e-6)


@CAUSAL
def test_who_hears_whom(causal):
    mixer, x = temporal(causal), drawn(1, 9, 16).requires_grad_()
    for t in range(9):
        (heard,) = torch.autograd.grad(mixer(x)[0, t].sum(), x)
        heard = heard[0].abs().sum(-1) > 0
        assert heard.tolist() == [s <= t or not causal for s in range(9)]


# -- patches


ORDERS = ((0, 1, 2, 3, 4, 5, 6), (5, 4, 3, 2, 1, 0, 6), (0, 3, 1, 4, 2, 5, 6), (5, 2, 4, 1, 3, 0, 6))


def test_directions_over_a_grid():
    """2 x 3 patches and the class token."""
    x = torch.arange(7)[None, :, None]
    directions = torch.tensor(ORDERS).T[None]  # [1, 7, 4]: a number a direction
    assert torch.equal(turned(x.expand(1, 7, 4), (2, 3), False), directions)
    assert torch.equal(turned(directions, (2, 3), True), x.expand(1, 7, 4))


def spatial():
    mixer = SpatialMixer(16, head=4, state=3)
    generator = torch.Generator().manual_seed(8)
    for weight in mixer.parameters():
        if weight.ndim < 2:
            weight.data += 0.2 * torch.randn(weight.shape, generator=generator)
    return mixer


def test_the_spatial_layer_is_four_scans():
    """Each quarter of the channels by itself, in its own order, by the loop. The class token knows no convolution."""
    mixer, x = spatial().double(), drawn(2, 7, 16).double().requires_grad_()
    z, dt = mixer.into(x).split(mixer.sizes, -1)
    patches = F.silu(mixer.conv(z[:, :6].mT.reshape(2, -1, 2, 3))).flatten(2).mT
    z = torch.cat((patches, z[:, 6:]), 1)
    parts = z.split(mixer.heads.sizes, -1)
    heads, quarters = mixer.heads, []
    for way, order in enumerate(map(torch.tensor, ORDERS)):
        xs, b, c = (part.chunk(4, -1)[way][:, order] for part in parts)
        own = slice(2 * way, 2 * way + 2)
        steps = F.softplus(dt[..., own][:, order] + heads.dt_bias[own])
        a, skip = -heads.log_rate[own].exp(), heads.skip[own]
        y = loop(xs.unflatten(-1, (2, 4)), steps, a, b=b[:, :, None], c=c[:, :, None], skip=skip)
        quarters.append(y.flatten(2)[:, order.argsort()])
    ours, theirs = mixer(x, (2, 3)), mixer.out(mixer.norm(torch.cat(quarters, -1)))
    tensors = {"x": x, **dict(mixer.named_parameters())}
    grads = [torch.autograd.grad((y * drawn(*y.shape)).sum(), tensors.values()) for y in (ours, theirs)]
    assert_close([ours, *grads[0]], [theirs, *grads[1]], ("y", *tensors), 1e-12)


def test_the_class_token_reads_every_patch():
    x = drawn(1, 13, 16).requires_grad_()
    mixer = spatial()
    (heard,) = torch.autograd.grad(mixer(x, (3, 4))[0, -1].sum(), x)
    assert bool((heard[0].abs().sum(-1) > 0).all())
    (heard,) = torch.autograd.grad(mixer(x, (3, 4))[0, :-1].sum(), x)
    assert not heard[0, -1].any(), "no patch comes after it"


# -- weights


@pytest.mark.parametrize(("mixer", "weights"), [(TemporalMixer, 1_130_160), (SpatialMixer, 1_135_920)])
def test_the_sizes_of_the_facts(mixer, weights):
    """docs: a temporal layer of 1.130 M, a spatial one of 1.136 M; and no buffer that an average of weights could
    move."""
    layer = mixer(512)
    assert sum(weight.numel() for weight in layer.parameters()) == weights
    assert not list(layer.buffers())
    assert set(layer.state_dict()) == {name for name, _ in layer.named_parameters()}


def test_how_weights_begin():
    mixer = TemporalMixer(64, head=1)
    mixer.init_weights(torch.Generator().manual_seed(0), depth=12)
    heads = mixer.forth.heads
    dt, rates = F.softplus(heads.dt_bias), heads.log_rate.exp()
    assert 1e-3 * 0.99 <= dt.min() < 2e-3 and 0.07 < dt.max() <= 0.1 * 1.01
    assert 1 <= rates.min() < 2 and 15 < rates.max() <= 16
    assert bool((heads.skip == 1).all()) and not mixer.forth.conv.bias.any()
    bound = 1 / math.sqrt(128) / math.sqrt(3 * 12)
    assert 0.95 * bound < mixer.out.weight.abs().max() <= bound
    again = TemporalMixer(64, head=1)
    again.init_weights(torch.Generator().manual_seed(0), depth=12)
    assert all(torch.equal(a, b) for a, b in zip(mixer.parameters(), again.parameters()))


@pytest.mark.parametrize("make", [lambda: temporal(), lambda: temporal(causal=True), lambda: spatial()])
def test_every_weight_learns(make):
    mixer, x = make(), drawn(2, 7, 16)
    y = mixer(x) if isinstance(mixer, TemporalMixer) else mixer(x, (2, 3))
    y.square().sum().backward()
    assert [name for name, weight in mixer.named_parameters() if not weight.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TemporalMixer(96), "192 channels .* a multiple of 128"),
        (lambda: SpatialMixer(64, head=8, groups=3), "3 groups for .* do not divide"),
        (lambda: Heads(4, 8, groups=2, state=4, kernel="cuda"), "'cuda' is none of torch, mamba_ssm"),
    ],
)
def test_sizes_that_do_not_fit_are_said(make, said):
    with pytest.raises(UserError, match=said):
        make()


@pytest.mark.parametrize("make", [lambda: TemporalMixer(32, head=8), lambda: SpatialMixer(32, head=8)])
def test_autocast_leaves_what_a_mixer_scans_float32(make, monkeypatch):
    seen = []
    monkeypatch.setattr("signstream.models.mamba.scan", lambda x, dt, a, **rest: seen.append((x, dt, a)) or x)
    mixer, x = make(), drawn(2, 7, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = mixer(x) if isinstance(mixer, TemporalMixer) else mixer(x, (2, 3))
    assert y.dtype == torch.bfloat16 and seen and all(t.dtype == torch.float32 for row in seen for t in row)
