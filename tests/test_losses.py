from dataclasses import replace

import pytest
import torch

from clips import moving_clip, with_gaps
from helpers import TINY_RUN
from signstream import registry
from signstream.config import Config, from_dict, load_config
from signstream.data.collate import ChunkBatch, make_chunks
from signstream.data.frontend import prepare
from signstream.io.batch import pack
from signstream.models.rvq.quantizer import Quantized
from signstream.models.rvq.rvq_model import Output
from signstream.skeleton import COCO_WHOLEBODY as BODY
from signstream.space import fit_signing_space
from signstream.tasks.rvq.build import build_model
from signstream.tasks.rvq.losses import TERMS, Losses, Weighted, huber, terms_of, valid_chunks, watched
from signstream.tasks.rvq.views import Target, Views

REC, COMMIT, TEMPORAL, USAGE = range(4)
CONFIG = load_config(None, [*TINY_RUN, "model.rvq.codebook_size=4"])  # fewer codes than chunks
PARTS = [part.name for part in BODY.parts]


def config(weights=(1.0, 3.0), **rvq):
    """Two parts, a and b; Huber's delta 0.1, commitment 0.25, temporal 0.05, usage 0.001 unless told otherwise."""
    return from_dict({"train": {"part_weights": dict(zip("ab", weights))}, "model": {"rvq": rvq}})


def chunks_at(clip, t):
    """A ChunkBatch of which only the chunks' clips and numbers matter."""
    n = len(clip)
    empty = torch.zeros(n, 1, 0)
    return ChunkBatch(
        torch.zeros(n, 1, 0, 2),
        empty,
        empty,
        torch.zeros(n, 1, 3),
        torch.ones(n),
        torch.tensor(clip),
        torch.tensor(t),
        BODY,
    )


def by_hand():
    """Three chunks of one frame and two joints, two parts. Chunk 1 shows nothing of part b."""
    weight = torch.tensor(
        [[[[1.0, 0.5]], [[1.0, 0.0]], [[1.0, 1.0]]], [[[1.0, 0.0]], [[0.0, 0.0]], [[0.2, 1.0]]]]
    )  # [P, N, L, J]
    views, xy = torch.zeros(2, 3, 1, 2, 2), torch.zeros(2, 3, 1, 2, 2)
    views[0, 0, 0, 0] = torch.tensor([0.05, -1.0])  # within delta, and beyond it
    views[0, 0, 0, 1] = torch.tensor([0.1, 0.0])  # at delta; its score of 0.5 counts as seen
    views[0, 1, 0, 1] = 50.0  # missing
    xy[1, 2, 0, 0] = torch.tensor([2.0, 0.0])
    latents = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [1.0, 3.0]], [[0.0, 2.0], [9.0, 9.0], [0.0, 0.0]]])  # [P, N, Z]
    commit, usage = (
        torch.tensor([[1.0, 2.0, 4.0], [8.0, 100.0, 16.0]]),
        torch.tensor([[0.0, 0.5, 0.0], [0.0, 7.0, 0.0]]),
    )
    quantised = Quantized(latents, torch.zeros(3, 2, 1, dtype=torch.int64), commit, usage, None)
    return (
        Output(list(views), latents, quantised),
        chunks_at([7, 7, 7], [4, 5, 6]),
        [Target(x, w) for x, w in zip(xy, weight)],
    )


def test_each_term_is_what_a_hand_computes():
    output, batch, targets = by_hand()
    losses = Losses(config(), "ab")
    totals, counts = losses.totals(output, batch, targets), losses.counts(batch, targets)
    near, far, at = 0.5 * 0.05**2 / 0.1, 1.0 - 0.05, 0.05
    expected = torch.tensor([[near + far + at, 2.0 - 0.05], [7.0, 24.0], [1.0 + 2.0, 0.0], [0.5, 0.0]])
    torch.testing.assert_close(totals, expected)
    assert counts.tolist() == [[5, 3], [3, 2], [2, 0], [1, 0]]
    mean = [(near + far + at) / 5 * 0.25 + 1.95 / 3 * 0.75, (7 / 3 + 24 / 2) / 2, (3 / 2 + 0) / 2, (0.5 + 0) / 2]
    assert float(losses.terms.value(totals, counts)) == pytest.approx(
        mean[0] + 0.25 * mean[1] + 0.05 * mean[2] + 0.001 * mean[3], rel=1e-6
    )
    named = losses.terms.named(totals, counts)
    assert [named[term] for term in TERMS] == pytest.approx(mean, rel=1e-6)
    assert named["loss"] == pytest.approx(float(losses.terms.value(totals, counts)), rel=1e-6)
    assert (named["rec/a"], named["rec/b"]) == pytest.approx(((near + far + at) / 5, 1.95 / 3), rel=1e-6)
    assert named.keys() == {"loss", *TERMS, "rec/a", "rec/b"}


@pytest.mark.parametrize(
    ("clip", "t", "pairs"),
    [
        ([7, 7, 7], [0, 1, 2], [2, 0]),  # b shows nothing in the middle one
        ([7, 7, 8], [0, 1, 0], [1, 0]),
        ([7, 8, 8], [0, 0, 1], [1, 0]),
        ([7, 8, 9], [0, 0, 0], [0, 0]),
        ([7, 7, 7], [0, 2, 3], [1, 0]),
        ([7, 7, 7], [2, 1, 0], [0, 0]),
        ([7, 8, 9], [0, 1, 2], [0, 0]),
    ],
)
def test_the_temporal_term_is_between_neighbours_of_one_clip(clip, t, pairs):
    output, _, targets = by_hand()
    losses, batch = Losses(config(), "ab"), chunks_at(clip, t)
    assert losses.counts(batch, targets)[TEMPORAL].tolist() == pairs
    steps = [
        1.0 if clip[0] == clip[1] and t[1] == t[0] + 1 else 0.0,
        2.0 if clip[1] == clip[2] and t[2] == t[1] + 1 else 0.0,
    ]
    assert losses.totals(output, batch, targets)[TEMPORAL].tolist() == [sum(steps), 0.0]


def test_part_weights_are_shares_of_the_reconstruction():
    output, batch, targets = by_hand()
    plain = {"commitment_beta": 0.0, "temporal_loss_alpha": 0.0, "usage_reg": 0.0}

    def value(*weights):
        losses = Losses(config(weights, **plain), "ab")
        return float(losses.terms.value(losses.totals(output, batch, targets), losses.counts(batch, targets)))

    alone = value(1.0, 0.0), value(0.0, 1.0)
    assert alone == pytest.approx((0.2025, 0.65), rel=1e-5)
    assert value(1.0, 3.0) == pytest.approx(0.25 * alone[0] + 0.75 * alone[1], rel=1e-6)
    assert value(10.0, 30.0) == pytest.approx(value(1.0, 3.0), rel=1e-6)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1.0}, "loss.part_weights has no weight for b"),
        ({"a": 0.0, "b": 0.0}, r"loss.part_weights is .* one above"),
        ({"a": -1.0, "b": 2.0}, "loss.part_weights is .* from 0"),
    ],
)
def test_part_weights_that_weigh_nothing_are_an_error(weights, message):
    with pytest.raises(ValueError, match=message):
        Losses(from_dict({"train": {"part_weights": weights}}), "ab")


# -- with a model and clips that have gaps


def clip_frames(seed, frames=35, spoil=lambda poses: poses):
    ready = prepare(torch.from_numpy(spoil(with_gaps(moving_clip(frames, seed), seed))), BODY, Config().data)
    return torch.cat((ready.place[:, None], ready.frames), 1).numpy()


def batch_of(seeds, hide=()):
    """Clips as one ChunkBatch; `hide` names parts of which nothing is visible."""
    clips = [clip_frames(seed, 35 + seed) for seed in seeds]
    for part in hide:
        for clip in clips:
            clip[:, 1:][:, BODY.part(part).joints] = 0
    return make_chunks(pack(clips, seeds), BODY, Config().data)


BATCH = batch_of(range(4))
VIEWS = Views(
    BODY, fit_signing_space(torch.cat([BATCH.xy, BATCH.weight[..., None]], -1).flatten(0, 1), BODY, Config().data)
)


def model():
    net = build_model(CONFIG, BODY)
    inputs, targets = VIEWS.of(BATCH)
    net.fit(inputs)
    with torch.no_grad():
        net.quantizer.initialise(net.encode(inputs), torch.stack([(t.weight > 0).any(-1).any(-1) for t in targets]))
    return net.train()


def loss_of(net, batch, losses, quantise=True):
    inputs, targets = VIEWS.of(batch)
    valid = torch.stack([(t.weight > 0).any(-1).any(-1) for t in targets])
    output = net(inputs, valid, quantise=quantise, watched=watched(batch).nonzero()[:, 0])
    return losses.totals(output, batch, targets), losses.counts(batch, targets)


def gradients(net, value):
    net.zero_grad()
    value.backward()
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("quantise", [False, True])
def test_batches_add_up_to_the_whole(quantise):
    net, losses = model(), Losses(CONFIG, PARTS)
    whole = loss_of(net, BATCH, losses, quantise)
    pieces = [loss_of(net, batch_of(seeds), losses, quantise) for seeds in ([0], [1, 2], [3], [])]
    totals, counts = (sum(values) for values in zip(*pieces))
    torch.testing.assert_close(counts, whole[1], rtol=0, atol=0)
    torch.testing.assert_close(totals, whole[0], rtol=1e-5, atol=1e-4)
    assert (whole[0][REC] > 0).all() and (whole[0][TEMPORAL] > 0).all()
    assert bool((whole[0][COMMIT] > 0).all()) == quantise


@pytest.mark.parametrize("fill", [0.0, -1e4, float("inf"), float("nan")])
def test_what_missing_joints_hold_changes_nothing(fill):
    net, losses = model(), Losses(CONFIG, PARTS)
    missing = BATCH.weight == 0
    assert 0.02 < missing.float().mean() < 0.9
    spoilt = replace(BATCH, xy=torch.where(missing[..., None], fill, BATCH.xy))
    found = []
    for batch in (BATCH, spoilt):
        totals, counts = loss_of(net, batch, losses)
        found.append((totals, counts, gradients(net, losses.terms.value(totals, counts))))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    assert all(torch.equal(gradient, found[1][2][name]) for name, gradient in found[0][2].items())


def test_a_part_of_which_nothing_is_visible_adds_nothing_and_poisons_nothing():
    net, losses = model(), Losses(CONFIG, PARTS)
    hidden = PARTS.index("left_hand")
    totals, counts = loss_of(net, batch_of(range(3), hide=["left_hand"]), losses)
    assert totals[:, hidden].tolist() == [0.0] * 4 and counts[:, hidden].tolist() == [0.0] * 4
    others = [i for i in range(len(PARTS)) if i != hidden]
    assert (totals[:USAGE][:, others] > 0).all()
    assert all(torch.isfinite(g).all() for g in gradients(net, losses.terms.value(totals, counts)).values())
    nothing = batch_of(range(3))
    nothing = replace(nothing, weight=torch.zeros_like(nothing.weight), seen=torch.zeros_like(nothing.seen))
    for empty in (nothing, batch_of([])):
        totals, counts = loss_of(net, empty, losses)
        value = losses.terms.value(totals, counts)
        assert float(value.detach()) == 0.0 and not totals.any() and not counts.any()
        assert all(not g.any() for g in gradients(net, value).values()), "and no NaN, which would count as any"


def test_huber_is_the_distance_far_away_and_ends_smoothly():
    view = torch.tensor([1000.0, 0.0]).view(1, 1, 1, 2)
    target = Target(torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1))
    assert float(huber(view, target, 0.1).sum()) == pytest.approx(1000, rel=1e-3)
    inside = torch.full((1, 1, 1, 2), 0.1).requires_grad_()
    huber(inside, target, 0.1).sum().backward()
    assert inside.grad.flatten().tolist() == pytest.approx([1.0, 1.0])


def test_the_usage_loss_reaches_the_encoder_through_the_value():
    net = model()
    only = Losses(CONFIG, PARTS)
    assert (only.terms.weights[USAGE] > 0).all()
    only.terms.weights[[REC, COMMIT, TEMPORAL]] = 0
    net.quantizer.ema_count[:, :, 0] *= 10  # a code that everybody uses
    totals, counts = loss_of(net, BATCH, only)
    found = gradients(net, only.terms.value(totals, counts))
    assert {name.split(".")[0] for name, g in found.items() if g.abs().sum() > 0} == {"encoder"}
    before = float(only.terms.value(totals, counts).detach())
    optimizer = torch.optim.Adam(net.encoder.parameters(), 1e-3)
    for _ in range(15):
        optimizer.zero_grad()
        only.terms.value(*loss_of(net, BATCH, only)).backward()
        optimizer.step()
    assert float(only.terms.value(*loss_of(net, BATCH, only)).detach()) < before - 0.05 * abs(before)


class NearestNeighbour:
    """InfoNCE: a chunk's latent should resemble the next chunk's of its clip more than others'. A user's loss."""

    def __init__(self, _config=None, _skeleton=None):
        self.asked = []

    def counts(self, batch, targets):
        return valid_chunks(targets).sum(1)

    def totals(self, output, batch, targets):
        self.asked.append(len(batch))
        unit = torch.nn.functional.normalize(output.latents, dim=-1)
        alike = unit @ unit.transpose(1, 2) / 0.2  # [P, N, N]
        there = torch.nn.functional.pad((batch.clip[1:] == batch.clip[:-1]) & (batch.t[1:] == batch.t[:-1] + 1), (0, 1))
        following = torch.arange(1, len(batch) + 1).clamp(max=len(batch) - 1)
        itself = torch.eye(len(batch), dtype=torch.bool)
        others = alike.masked_fill(itself, -1e9).transpose(1, 2)
        each = (
            torch.nn.functional.cross_entropy(others, following.expand(len(alike), -1), reduction="none") * there
        )  # [P, N]
        return (each * valid_chunks(targets)).sum(1)


def test_a_term_of_the_users_is_weighed_logged_and_trained():
    net, term = model(), NearestNeighbour()
    without, given = Losses(CONFIG, PARTS), Losses(CONFIG, PARTS, {"info_nce": Weighted(term, 0.5)})
    totals, counts = (value.detach() for value in loss_of(net, BATCH, given))
    assert term.asked == [len(BATCH)]
    share = torch.tensor([1.0, 2.0, 2.0, 1.0, 1.0]) / 7  # loss.part_weights
    mean = float((totals[4].double() / counts[4] * share).sum())
    assert float(given.terms.value(totals, counts)) == pytest.approx(
        float(without.terms.value(totals[:4], counts[:4])) + 0.5 * mean, rel=1e-5
    )
    assert given.terms.named(totals, counts)["info_nce"] == pytest.approx(mean, rel=1e-5)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(20):
        optimizer.zero_grad()
        given.terms.value(*loss_of(net, BATCH, given)).backward()
        assert all(p.grad.abs().sum() > 0 for p in net.encoder.inputs.parameters())
        optimizer.step()
    totals, counts = (value.detach() for value in loss_of(net, BATCH, given))
    assert given.terms.named(totals, counts)["info_nce"] < 0.7 * mean


def test_terms_come_from_the_config_in_its_order(monkeypatch):
    monkeypatch.setitem(registry.TABLES["loss"], "nce", NearestNeighbour)
    assert terms_of(CONFIG, BODY) == {}
    on = load_config(None, ["loss.terms={nce: 0.3}", "loss.perceptual_weight=0.1"])
    found = terms_of(on, BODY)
    assert {name: weight for name, (_, weight) in found.items()} == {"perceptual": 0.1, "nce": 0.3}
    assert Losses(on, PARTS, found).terms.names == (*TERMS, "perceptual", "nce")


@pytest.mark.parametrize(
    ("losses", "says"),
    [
        ({"nce": -1.0}, "loss.terms.nce is -1: a weight from 0"),
        ({"ncee": 1.0}, "loss.terms names 'ncee': nce, number or a name that a module of --import registers"),
        ({"number": 1.0}, "a loss has the methods counts and totals"),
    ],
)
def test_a_loss_that_is_none_is_one_line(losses, says, monkeypatch):
    monkeypatch.setitem(registry.TABLES["loss"], "nce", NearestNeighbour)
    monkeypatch.setitem(registry.TABLES["loss"], "number", lambda config, skeleton: 3)
    with pytest.raises(ValueError) as error:
        terms_of(from_dict({"train": {"losses": losses}}), BODY)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("found", [0.5, torch.tensor(0.5), torch.zeros(7), None])
def test_a_term_that_gives_no_number_a_part_is_one_line(found, monkeypatch):
    term = NearestNeighbour()
    monkeypatch.setattr(term, "totals", lambda output, batch, targets: found)
    with pytest.raises(ValueError, match=r"the loss 'nce': totals gave .*: one number a part, \[5\], is expected"):
        loss_of(model(), BATCH, Losses(CONFIG, PARTS, {"nce": Weighted(term, 0.5)}))


def test_what_is_taught_counts_in_its_column_and_meaning_may_change_from_chunk_to_chunk():
    taught = torch.tensor([[0.0, 2.0]])
    plain, losses = Losses(config(), ["a", "b"]), Losses(config(), ["a", "b"], taught=taught)
    assert losses.terms.names == (*TERMS, "reading")
    assert torch.equal(losses.terms.weights[4:], taught)
    assert losses.terms.weights[TEMPORAL].tolist() == [float(plain.terms.weights[TEMPORAL, 0]), 0.0]
    others = [REC, COMMIT, USAGE]
    assert torch.equal(losses.terms.weights[others], plain.terms.weights[others])
