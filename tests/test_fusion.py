"""The fusion encoder and its Squeezeformer: independence of company and padding, what is dropped, frames and rows of
one moment, sides that are absent, sizes, and that it learns."""

import pytest
import torch
import torch.nn.functional as F

from signstream.errors import UserError
from signstream.models.fusion import FusionEncoder, VisualSide, positions, stretched
from signstream.models.recognition_blocks import init_weights
from signstream.models.squeezeformer import Squeezeformer, dropped, stays

POINTS, FEATURES, ROWS = 10, 6, 11  # F, W, V
LENGTHS = (9, 3, 12, 1, 2, 7)
SEEDS = (50, 51, 52, 53, 54, 55)
SIDES = ("both", "keypoints", "visual")

pytestmark = pytest.mark.usefixtures("one_thread")


def encoder(side="both", **sizes) -> FusionEncoder:
    """Weights that begin at 0 or 1 are drawn too, so that none of them hides a fault."""
    inputs = {"keypoints": POINTS if side != "visual" else None, "visual": FEATURES if side != "keypoints" else None}
    model = FusionEncoder(**{**inputs, "width": 16, "heads": 2, "visual_layers": 1, "depth": 3, "expand": 2, **sizes})
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        if weight.ndim < 2:
            weight.data += 0.3 * torch.randn(weight.shape, generator=generator)
    return model.eval()


def streams_of(clips=6, steps=12):
    generator = torch.Generator().manual_seed(0)
    keypoints = torch.randn(clips, steps, POINTS, generator=generator)
    return {"keypoints": keypoints, "visual": torch.randn(clips, ROWS, FEATURES, generator=generator)}


def chosen(streams, clips, steps):
    """Some clips in some order, padded with NaN to so many steps."""
    out = torch.full((len(clips), steps, POINTS), torch.nan)
    for place, clip in enumerate(clips):
        out[place, : LENGTHS[clip]] = streams["keypoints"][clip, : LENGTHS[clip]]
    return {"keypoints": out, "visual": streams["visual"][list(clips)]}


def count_of(module):
    return sum(p.numel() for p in module.parameters())


def answers(model, clips, steps):
    """Each clip's output, and the gradient of a sum that weighs every number of it; of a set of clips, together."""
    model.zero_grad()
    lengths = torch.tensor([LENGTHS[clip] for clip in clips])
    draw = [SEEDS[clip] for clip in clips]
    out = model(chosen(streams_of(), clips, steps), lengths, draw=draw)
    assert out.dtype == torch.float32 and out.isfinite().all()
    weights = torch.randn(max(LENGTHS), model.width, generator=torch.Generator().manual_seed(8))
    outs = {clip: row[: LENGTHS[clip]] for clip, row in zip(clips, out)}
    for row, length in zip(out, lengths):
        assert not row[int(length) :].any(), "padding comes out as 0"
    sum((outs[clip] * weights[: LENGTHS[clip]]).sum() for clip in clips).backward()
    return outs, torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("squeeze", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("side", SIDES)
def test_a_clip_is_the_same_in_any_company_whatever_its_padding_holds(side, training, squeeze):
    """In training too, where each clip drops what its own seed says."""
    model = encoder(side, squeeze=squeeze, drop_path=0.4, dropout=0.3).train(training)
    everyone = tuple(range(len(LENGTHS)))
    alone = [answers(model, (clip,), LENGTHS[clip]) for clip in everyone]
    total = sum(gradient for _, gradient in alone)
    for clips, steps in ((everyone, 12), (everyone[::-1], 17), ((5, 2, 0, 4, 1, 3), 40)):
        outs, gradient = answers(model, clips, steps)
        for clip in everyone:
            torch.testing.assert_close(outs[clip], alone[clip][0][clip], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(gradient, total, atol=2e-4, rtol=1e-3)
    steps = alone[2][0][2]
    assert (steps - steps[0]).abs().amax(-1)[1:].min() > 1e-3  # and is not the same at every step
    evaluated = answers(model.eval(), (2,), 12)[0][2]
    assert torch.equal(evaluated, steps) is not training


@pytest.mark.parametrize("squeeze", [False, True])
def test_the_blocks_alone_take_any_padding(squeeze):
    model, lengths = Squeezeformer(16, depth=3, heads=2, squeeze=squeeze), torch.tensor(LENGTHS)
    x = torch.randn(6, 12, 16, generator=torch.Generator().manual_seed(2))
    past = torch.arange(12) >= lengths[:, None]
    out = model(x.masked_fill(past[..., None], torch.nan), lengths)
    assert torch.equal(out, model(x, lengths)) and not out[past].any()
    (out[..., 0] + out[..., 1].square()).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_an_empty_clip_and_an_empty_batch_go_through():
    for squeeze in (False, True):
        for side in SIDES:
            model = encoder(side, squeeze=squeeze).train()
            assert not model(streams_of(2, 4), torch.tensor([0, 0]), draw=1).any()
            assert model(streams_of(2, 4), torch.tensor([4, 0]), draw=1).isfinite().all()
            for steps in (4, 0):
                nobody = torch.zeros(0, dtype=torch.long)
                assert len(model(streams_of(0, steps), nobody, draw=1)) == 0


# -- what is dropped


def test_one_seed_of_a_batch_is_one_of_each_clip():
    """As the loop gives it. A clip keeps its own whatever follows it, and however long the padding."""
    model, lengths = encoder(drop_path=0.5, dropout=0.2).train(), torch.tensor(LENGTHS)
    everyone = tuple(range(len(LENGTHS)))
    out = model(chosen(streams_of(), everyone, 12), lengths, draw=1)
    assert torch.equal(model(chosen(streams_of(), everyone, 12), lengths, draw=1), out)
    longer = model(chosen(streams_of(), everyone, 31), lengths, draw=1)
    torch.testing.assert_close(longer[:, :12], out, atol=2e-5, rtol=1e-4)
    fewer = model(chosen(streams_of(), everyone[:3], 12), lengths[:3], draw=1)
    torch.testing.assert_close(fewer, out[:3], atol=2e-5, rtol=1e-4)
    assert not torch.equal(model(chosen(streams_of(), everyone, 12), lengths, draw=2), out)
    with pytest.raises(AssertionError, match="draw"):
        model(chosen(streams_of(), everyone, 12), lengths)


def test_a_branch_is_dropped_for_a_whole_clip():
    """The same clip 64 times: the last block's four branches are there or not. Were it frames that lose them, hardly
    two would be alike."""
    model = Squeezeformer(16, depth=2, heads=2, drop_path=0.5).train()
    x = torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(1)).expand(64, 8, 16)
    out = model(x, torch.full((64,), 8), draw=1)
    assert 8 <= len((out.flatten(1) * 1e2).round().unique(dim=0)) <= 16


def test_what_goes_into_the_visual_blocks_is_dropped():
    """In an encoder that drops nothing else, since it has no other blocks."""
    model, lengths = encoder("visual", depth=0).train(), torch.tensor(LENGTHS)
    first, same, other = (model(streams_of(), lengths, draw=draw) for draw in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert not torch.equal(first, model.eval()(streams_of(), lengths))


def test_dropout_keeps_the_mean_and_each_clips_own():
    rate = 0.3
    stay = stays(rate, (3, 400, 30), [7, 8, 7])
    torch.testing.assert_close(stay.float().mean((1, 2)), torch.full((3,), 1 - rate), atol=0.02, rtol=0)
    assert torch.equal(stay[0], stay[2]) and (stay[0] ^ stay[1]).float().mean() > 0.35
    assert torch.equal(stays(rate, (1, 17, 30), [8]), stay[1:2, :17])
    torch.testing.assert_close(dropped(torch.ones(3, 400, 30), stay, rate).mean(), torch.tensor(1.0), atol=0.01, rtol=0)


# -- frames and rows of one moment


def test_rows_are_stretched_to_each_clips_own_frames():
    """As torch stretches the clip alone, forward and back; to the padding's length it would be something else."""
    lengths = torch.tensor([1, 2, 7, 180, 181, 257])
    rows = torch.randn(6, 180, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weights = torch.randn(6, 300, 5, generator=torch.Generator().manual_seed(1))
    out = stretched(rows, lengths, 300)
    padded = F.interpolate(rows.mT, size=300, mode="linear", align_corners=False).mT
    for clip, length in enumerate(lengths.tolist()):
        alone = F.interpolate(rows[clip : clip + 1].mT, size=length, mode="linear", align_corners=False).mT[0]
        torch.testing.assert_close(out[clip, :length], alone, atol=1e-4, rtol=1e-4)
        (wanted,) = torch.autograd.grad((alone * weights[clip, :length]).sum(), rows, retain_graph=True)
        (gradient,) = torch.autograd.grad((out * weights)[clip, :length].sum(), rows, retain_graph=True)
        torch.testing.assert_close(gradient, wanted, atol=1e-3, rtol=1e-3)
        assert (out[clip, :length] - padded[clip, :length]).abs().max() > 0.1


def test_the_visual_side_knows_the_order_of_its_rows():
    side = VisualSide(FEATURES, 16)
    init_weights(side, torch.Generator().manual_seed(0), 1)
    rows, order = streams_of(2)["visual"], torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    assert (side(rows)[:, order] - side(rows[:, order])).abs().amax(-1).min() > 1e-4


def test_a_frame_knows_its_number():
    model = encoder("keypoints", depth=0)
    out = model({"keypoints": torch.ones(1, 300, POINTS)}, torch.tensor([300]))[0]
    assert torch.cdist(out, out).fill_diagonal_(1).min() > 1e-2
    table = positions(3, like=torch.zeros(1, 4))
    angles = torch.tensor([[0.0, 0.0], [1.0, 0.01], [2.0, 0.02]])
    torch.testing.assert_close(table, torch.cat((angles.sin(), angles.cos()), -1))


def test_the_middle_blocks_hear_half_the_steps():
    model = Squeezeformer(16, depth=4, heads=2, squeeze=True).eval()
    heard = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _, inputs: heard.append((inputs[0].shape[1], inputs[1].tolist())))
    x, lengths = torch.randn(4, 9, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([9, 5, 2, 1])
    out = model(x, lengths)
    assert heard == [(9, [9, 5, 2, 1]), (5, [5, 3, 1, 1]), (5, [5, 3, 1, 1]), (9, [9, 5, 2, 1])]
    assert out.shape == (4, 9, 16)
    outer = model.blocks[3](model.blocks[0](x, lengths), lengths)
    assert (outer - out)[:, 0].abs().amax(-1).min() > 1e-3
    for weight in model.back.parameters():
        weight.data.zero_()
    assert torch.equal(model(x, lengths), outer)  # what was not squeezed is there still


def test_a_block_has_half_a_perceptron_on_either_side():
    block, lengths = encoder().blocks.blocks[1], torch.tensor(LENGTHS)
    x = torch.randn(6, 12, 16, generator=torch.Generator().manual_seed(0))
    y = x + block.first(x, lengths, [None, None]) / 2
    y = y + block.attention(y, lengths, [None])
    y = y + block.convolution(y, lengths, [None])
    y = block.norm(y + block.second(y, lengths, [None, None]) / 2)
    within = torch.arange(12) < lengths[:, None]
    torch.testing.assert_close(block(x, lengths)[within], y[within], atol=1e-4, rtol=1e-4)


# -- sides, sizes


@pytest.mark.parametrize(("side", "share"), [("keypoints", 90.0), ("visual", -90.0)])
def test_an_open_gate_is_one_side_alone(side, share):
    both, streams, lengths = encoder(), streams_of(), torch.tensor(LENGTHS)
    both.gate.out.bias.data.fill_(share)
    one = encoder(side)
    missing, unused = one.load_state_dict(both.state_dict(), strict=False)
    assert not missing and all(name.startswith(("gate", "keypoints", "visual")) for name in unused)
    torch.testing.assert_close(one({side: streams[side]}, lengths), both(streams, lengths), atol=2e-5, rtol=1e-4)


def test_both_sides_are_heard():
    model, streams, lengths = encoder(), streams_of(), torch.tensor(LENGTHS)
    streams = {name: stream.requires_grad_() for name, stream in streams.items()}
    (model(streams, lengths) * torch.linspace(-1, 1, 16)).sum().backward()
    assert streams["visual"].grad.abs().amax(-1).min() > 1e-7
    within = torch.arange(max(LENGTHS)) < lengths[:, None]
    assert torch.equal(streams["keypoints"].grad.abs().amax(-1) > 1e-7, within)
    with pytest.raises(AssertionError, match="reads nothing"):
        FusionEncoder(keypoints=None, visual=None)


def test_it_has_the_weights_of_the_public_encoder():
    """24.4 M at a width of 448: a LayerNorm has as many weights as the BatchNorm in its place, a block that is
    normalised before as many as one after, and rotary positions have none."""
    d = 448
    sides = (225 * d + d) + (768 * d + d)
    visual = 2 * (12 * d**2 + 13 * d) + 2 * d  # attention 4, perceptron 8; their biases 4 and 5, two norms 4
    gate = (2 * d**2 + d) + (d**2 + d)
    half = 2 * d + 8 * d**2 + 5 * d
    attention = 2 * d + 4 * d**2 + 4 * d
    convolution = 2 * d + (2 * d**2 + 2 * d) + 16 * d + 2 * d + (d**2 + d)
    block = 2 * half + attention + convolution + 2 * d
    count = count_of(FusionEncoder(width=d, heads=8))
    assert count == sides + visual + gate + 4 * block + 2 * d == 24_424_512
    assert round(count / 1e6, 1) == 24.4
    squeezed = count_of(FusionEncoder(width=d, heads=8, squeeze=True))
    assert squeezed - count == (3 * d**2 + d) + (d**2 + d)  # a convolution of three steps, and back


def test_sizes_that_cannot_be_are_one_line():
    with pytest.raises(UserError, match="width of 30 cannot be shared by 4 heads"):
        FusionEncoder(width=30)
    with pytest.raises(UserError, match="it takes 3 or more"):
        FusionEncoder(width=16, depth=2, squeeze=True)


def test_the_seed_draws_the_weights():
    def weights(seed):
        return torch.cat([p.detach().flatten() for p in FusionEncoder(width=16, squeeze=True, seed=seed).parameters()])

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))


# -- numbers


@pytest.mark.parametrize("squeeze", [False, True])
def test_the_residual_is_float32_under_autocast(squeeze):
    model, lengths = encoder(squeeze=squeeze), torch.tensor(LENGTHS)
    kinds = []
    for block in model.blocks.blocks:
        block.register_forward_hook(lambda _, __, out: kinds.append(out.dtype))
    exact = model(streams_of(), lengths)
    with torch.autocast("cpu", torch.bfloat16):
        out = model.train()(streams_of(), lengths, draw=3)
        assert out.isfinite().all()
        out = model.eval()(streams_of(), lengths)
    out.sum().backward()
    assert set(kinds) == {out.dtype} == {torch.float32}
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert 0 < (out - exact).abs().max() < 0.3


@pytest.mark.parametrize("squeeze", [False, True])
def test_four_sequences_are_learnt_by_heart(squeeze):
    """A word a frame, drawn by chance."""
    model = encoder(squeeze=squeeze, width=32, dropout=0.0, drop_path=0.0).train()
    head = torch.nn.Linear(32, 7)
    init_weights(head, torch.Generator().manual_seed(1), 1)
    streams, lengths = streams_of(4), torch.tensor([12, 9, 5, 1])
    within = torch.arange(12) < lengths[:, None]
    words = torch.randint(7, (4, 12), generator=torch.Generator().manual_seed(2))[within]
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=5e-3)
    for _ in range(50):
        said = head(model(streams, lengths)[within])
        optimizer.zero_grad()
        F.cross_entropy(said, words).backward()
        optimizer.step()
    assert torch.equal(said.argmax(-1), words)
