from dataclasses import replace

import pytest
import torch

from clips import moving_clip, with_gaps
from signstream.config import Config, Model, Rvq
from signstream.data.collate import make_chunks
from signstream.data.frontend import prepare
from signstream.io.batch import pack
from signstream.models.rvq.rvq_model import RVQModel
from signstream.models.rvq.sizes import PartShape
from signstream.skeleton import COCO_WHOLEBODY as BODY
from signstream.skeleton import build
from signstream.space import fit_signing_space
from signstream.tasks.rvq.build import levels_of, part_shapes
from signstream.tasks.rvq.views import Views
from signstream.tokens.codes import prefixes_of

SMALL = Model(encoder_layer=1, encoder_latent_dim=32, latent_dim=24, rvq=Rvq(codebook_size=32))
SHAPES = part_shapes(BODY, share_hands=True)
ARCHITECTURES = [(arch, pool) for arch in ("transformer", "mlp") for pool in ("flatten", "attention", "mean")]


def batch(clips=4, frames=35):
    data = Config().data
    ready = [prepare(torch.from_numpy(with_gaps(moving_clip(frames, s), s)), BODY, data) for s in range(clips)]
    frames = [torch.cat((r.place[:, None], r.frames), 1).numpy() for r in ready]
    return make_chunks(pack(frames, range(clips)), BODY, data)


BATCH = batch()
VIEWS = Views(
    BODY, fit_signing_space(torch.cat([BATCH.xy, BATCH.weight[..., None]], -1).flatten(0, 1), BODY, Config().data)
)
INPUTS, TARGETS = VIEWS.of(BATCH)


def model(arch="transformer", pool="flatten", **options):
    return RVQModel(SHAPES, [3] * 5, replace(SMALL, arch=arch, pool=pool, **options), frames=10, seed=1)


@pytest.mark.parametrize(("arch", "pool"), ARCHITECTURES)
def test_views_come_back_in_their_shapes_and_every_weight_learns(arch, pool):
    net = model(arch, pool)
    net.fit(INPUTS)
    out = net(INPUTS)
    assert [v.shape for v in out.views] == [v[..., :2].shape for v in INPUTS]
    assert out.latents.shape == (5, len(BATCH), 24)
    assert out.quantised.codes.shape == (len(BATCH), 5, 3)
    (sum(v.square().sum() for v in out.views) + out.quantised.commit.sum()).backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    unneeded = ["encoder.query"] if pool == "attention" and arch == "mlp" else []  # one token needs no attention
    assert idle in ([], unneeded)


@pytest.mark.parametrize(("arch", "pool"), ARCHITECTURES)
def test_what_missing_joints_hold_changes_nothing(arch, pool):
    net = model(arch, pool).eval()
    net.fit(INPUTS)
    for value in (0.0, 5.0, 1e6, float("nan"), float("inf")):
        filled = [torch.cat((torch.where(v[..., 2:] > 0, v[..., :2], value), v[..., 2:]), -1) for v in INPUTS]
        assert torch.equal(net.encode(filled), net.encode(INPUTS))


@pytest.mark.parametrize("arch", ["transformer", "mlp"])
def test_a_chunk_does_not_depend_on_its_batch(arch):
    net = model(arch).eval()
    net.fit(INPUTS)
    whole = net.tokenise(INPUTS)
    for rows in (slice(0, 1), slice(3, 10)):
        assert torch.equal(net.tokenise([v[rows] for v in INPUTS]), whole[rows])
    assert net.tokenise([v[:0] for v in INPUTS]).shape == (0, 5, 3)


def test_untrained_it_is_as_good_as_its_pca():
    net = model()
    for p in net.encoder.trunk.parameters():
        torch.nn.init.zeros_(p)
    net.fit(INPUTS)
    with torch.no_grad():
        net.encoder.pool.weight.zero_()
        for layer in net.decoder.outputs:
            layer.weight.zero_()
        views = net(INPUTS, quantise=False).views
    for part, (view, target) in enumerate(zip(views, TARGETS)):
        seen = target.weight > 0
        rows = torch.where(seen[..., None], target.xy, torch.zeros(())).flatten(1)
        spread = (rows - rows.mean(0)).square().sum()
        assert (view - target.xy)[seen].square().sum() < 0.35 * spread, BODY.parts[part].name


def test_hands_share_a_projection_and_mirror_each_other():
    assert [s.projection for s in SHAPES] == [0, 1, 1, 2, 3]
    assert [s.flip for s in SHAPES] == [False, True, False, False, False]
    assert [s.projection for s in part_shapes(BODY, share_hands=False)] == [0, 1, 2, 3, 4]
    net = model().eval()
    with torch.no_grad():
        for embedding in (net.encoder.part, net.decoder.part):
            embedding.narrow[1] = embedding.narrow[2]
    hand = torch.cat((INPUTS[2][..., :1] * -1, INPUTS[2][..., 1:]), -1)
    latents = net.encode([INPUTS[0], hand, *INPUTS[2:]])
    torch.testing.assert_close(latents[1], latents[2])
    left, right = net.decode(latents)[1:3]
    torch.testing.assert_close(left * torch.tensor([-1.0, 1.0]), right)


def test_a_skeleton_without_a_mirror_shares_nothing():
    other = build(8, {"body": (1, 4), "left_hand": (5, 8)}, {"body": 1, "left_hand": 5}, unit_joints=[[1, 2]])
    assert part_shapes(other, True) == [PartShape(4, 0), PartShape(4, 1)]


def test_levels_a_part_come_from_a_number_or_a_table():
    assert levels_of(BODY, 3) == [3] * 5
    assert levels_of(BODY, {"face": 1, "left_hand": 2, "right_hand": 3, "body": 1, "full_body": 1}) == [1, 2, 3, 1, 1]
    with pytest.raises(ValueError, match=r"model\.rvq\.levels .* body, full_body has none"):
        levels_of(BODY, {"face": 1, "left_hand": 2, "right_hand": 3})


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(0)
    one = model()
    torch.manual_seed(1)
    two = model()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))


def test_a_tokenised_clip_is_decoded_from_its_codes_alone():
    net = model().eval()
    net.fit(INPUTS)
    out = net(INPUTS)
    for view, other in zip(net.detokenise(net.tokenise(INPUTS)), out.views):
        torch.testing.assert_close(view, other, atol=1e-4, rtol=1e-4)


def test_one_token_for_a_chunk_or_one_a_frame():
    assert model("mlp").encoder.tokens == 1
    assert model("transformer").encoder.tokens == 10


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("kind", ["ema", "fsq"])
@pytest.mark.parametrize("arch", ["transformer", "mlp"])
def test_a_window_has_the_same_bits_in_any_company(arch, kind, window):
    config = replace(SMALL, arch=arch, rvq=replace(SMALL.rvq, kind=kind))
    net = RVQModel(SHAPES, [3] * 5, config, frames=10, window=window, seed=1).eval()
    net.fit(INPUTS)
    inputs = [view[: len(view) // window * window] for view in INPUTS]
    net.quantizer.initialise(net.encode(inputs).detach(), torch.ones(5, len(inputs[0]), dtype=torch.bool))
    latents, codes = net.read(inputs)
    prefixes = net.prefixes(latents)
    codes[window, 1, 1:] = -1
    views = net.detokenise(codes)
    for start in range(0, len(codes), window):
        alone = slice(start, start + window)
        reading = net.read([view[alone] for view in inputs])
        assert torch.equal(reading.latents, latents[:, alone])
        assert torch.equal(reading.codes[:, 0], codes[alone][:, 0])
        assert torch.equal(net.prefixes(reading.latents), prefixes[alone])
        assert all(torch.equal(one, whole[alone]) for one, whole in zip(net.detokenise(codes[alone]), views))
        assert all(
            torch.equal(one[-1], whole[alone])
            for one, whole in zip(net.decode_prefixes(prefixes_of(codes[alone])), views)
        )


def test_a_chunk_sees_its_window_and_no_other():
    net = RVQModel(SHAPES, [3] * 5, SMALL, frames=10, window=2, seed=1)
    inputs = [view[:6].clone() for view in INPUTS]
    before = net.encode(inputs)
    inputs[0][3] += 0.1
    changed = (net.encode(inputs) != before).any(-1)  # [P, N]
    assert changed[0].tolist() == [False, False, True, True, False, False] and not changed[1:].any()
