"""The loss on bones, velocities and accelerations: by hand, of missing joints, of batches; and it steadies poses."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from clips import moving_clip
from data_sets import signer_root, write_csl
from helpers import PLAIN, TINY_RUN, assert_same, tiny_options
from signstream.config import load_config
from signstream.skeleton import COCO_WHOLEBODY as BODY
from signstream.skeleton import LEFT_HAND, RIGHT_HAND
from signstream.tasks.rvq.build import build_model
from signstream.tasks.rvq.losses import Losses, terms_of
from signstream.tasks.rvq.perceptual import Perceptual, visible
from signstream.tasks.rvq.views import Target
from signstream.training.train_rvq import main
from test_losses import BATCH, PARTS, VIEWS, batch_of, gradients, loss_of, model
from test_ranks import SAME_STEPS, assert_close, on_ranks, train_on_plan

CONFIG = load_config(None, [*TINY_RUN, "loss.perceptual_weight=0.1", "model.rvq.codebook_size=4"])
DELTA = CONFIG.loss.huber_delta


def perceptual(*bones: tuple[int, int], joints: int = 2) -> Perceptual:
    """Of a skeleton with one part whose first joint is the whole skeleton's 5."""
    part = SimpleNamespace(bones=[(a + 5, b + 5) for a, b in bones], start=5)
    return Perceptual(CONFIG, SimpleNamespace(parts=[part]))


def value_and_count(term: Perceptual, view: torch.Tensor, target: Target) -> tuple[float, int]:
    return float(term.totals(SimpleNamespace(views=[view]), None, [target])), int(term.counts(None, [target]))


def chunk(*frames: tuple[float, ...]) -> torch.Tensor:
    """A frame's x of each joint -> [1, L, J, 2], y 0"""
    x = torch.tensor(frames)
    return torch.stack((x, torch.zeros_like(x)), -1)[None]


def huber(value: float) -> float:
    value = abs(value)
    return value - DELTA / 2 if value > DELTA else value**2 / 2 / DELTA


def test_each_difference_is_what_a_hand_computes():
    target = Target(chunk((0, 1), (0, 1), (0, 1)), torch.ones(1, 3, 2))
    view = chunk((0, 1), (0.5, 1), (0.5, 1.02))
    bones = huber(0.5) + huber(0.5 - 0.02)
    velocities = huber(0.5) + huber(0.02)
    accelerations = huber(-0.5) + huber(0.02)
    assert value_and_count(perceptual((0, 1)), view, target) == (
        pytest.approx(bones + velocities + accelerations, rel=1e-5),
        3 + 4 + 2,
    )
    assert value_and_count(perceptual(), view, target) == (
        pytest.approx(velocities + accelerations, rel=1e-5),
        4 + 2,
    ), "a part without bones"


def test_what_is_only_moved_or_drifts_evenly_costs_as_little_as_it_shows():
    target = Target(torch.randn(2, 5, 3, 2), torch.ones(2, 5, 3))
    term = perceptual((0, 1), (1, 2))
    assert value_and_count(term, target.xy + 7, target)[0] == pytest.approx(0, abs=1e-3), (
        "the whole part somewhere else: the reconstruction loss sees to that"
    )
    drift = torch.arange(5.0).view(1, 5, 1, 1) * torch.tensor((0.5, 0.0))
    assert value_and_count(term, target.xy + drift, target)[0] == pytest.approx(2 * 4 * 3 * huber(0.5), rel=1e-3), (
        "velocities alone"
    )


@pytest.mark.parametrize(
    ("missing", "bones", "velocities", "accelerations"),
    [
        ([], 10, 8, 6),
        ([(0, 0)], 8, 7, 5),
        ([(2, 0)], 8, 6, 3),
        ([(4, 1)], 8, 7, 5),
        ([(2, 0), (2, 1)], 8, 4, 0),
        ([(1, 0), (3, 1)], 6, 4, 2),
    ],
)
def test_a_difference_counts_where_all_of_it_is_visible(missing, bones, velocities, accelerations):
    """Five frames of two joints, the bone in both directions: what is missing, at (frame, joint), takes its differences
    with it."""
    weight = torch.ones(1, 5, 2)
    for frame, joint in missing:
        weight[0, frame, joint] = 0
    target = Target(torch.zeros(1, 5, 2, 2), weight)
    counts = [int(seen.sum()) for seen in visible(weight > 0, torch.tensor([[0, 1], [1, 0]]))]
    assert counts == [bones, velocities, accelerations]
    assert value_and_count(perceptual((0, 1), (1, 0)), torch.zeros(1, 5, 2, 2), target) == (
        0,
        bones + velocities + accelerations,
    )


@pytest.mark.parametrize("frames", [1, 2])
def test_chunks_of_one_frame_have_bones_and_of_two_velocities(frames):
    target = Target(torch.zeros(3, frames, 2, 2), torch.ones(3, frames, 2))
    assert value_and_count(perceptual((0, 1)), torch.zeros(3, frames, 2, 2), target) == (
        0,
        3 * frames + (frames - 1) * 6,
    )


@pytest.mark.parametrize("fill", [0.0, -1e4, float("inf"), float("nan")])
def test_what_missing_joints_hold_changes_nothing(fill):
    net, losses = model(), Losses(CONFIG, PARTS, terms_of(CONFIG, BODY))
    missing = BATCH.weight == 0
    assert 0.02 < missing.float().mean() < 0.9
    outcomes = []
    for batch in (BATCH, replace(BATCH, xy=torch.where(missing[..., None], fill, BATCH.xy))):
        totals, counts = loss_of(net, batch, losses)
        outcomes.append((totals, counts, gradients(net, losses.terms.value(totals, counts))))
    assert torch.equal(outcomes[0][0], outcomes[1][0]) and torch.equal(outcomes[0][1], outcomes[1][1])
    assert all(torch.equal(gradient, outcomes[1][2][name]) for name, gradient in outcomes[0][2].items())
    term, targets = Perceptual(CONFIG, BODY), VIEWS.of(BATCH)[1]
    spoilt = [Target(torch.where(t.weight[..., None] > 0, t.xy, fill), t.weight) for t in targets]
    views = [
        torch.randn(t.xy.shape, generator=torch.Generator().manual_seed(i)).requires_grad_()
        for i, t in enumerate(targets)
    ]
    for some in (targets, spoilt):
        term.totals(SimpleNamespace(views=views), BATCH, some).sum().backward()
    assert all(torch.isfinite(view.grad).all() for view in views), (
        "what a target holds where nothing is to be seen poisons no gradient either"
    )


def test_batches_add_up_to_the_whole_and_an_empty_one_adds_nothing():
    net, losses = model(), Losses(CONFIG, PARTS, terms_of(CONFIG, BODY))
    whole = loss_of(net, BATCH, losses)
    pieces = [loss_of(net, batch_of(seeds), losses) for seeds in ([0], [1, 2], [3], [])]
    totals, counts = (sum(values)[4] for values in zip(*pieces))
    assert torch.equal(counts, whole[1][4]) and (counts > 0).all()
    torch.testing.assert_close(totals, whole[0][4], rtol=1e-5, atol=1e-4)
    assert not pieces[-1][0].any() and not pieces[-1][1].any()


def test_it_is_logged_by_itself_and_weighed_into_the_loss():
    net, losses, without = model(), Losses(CONFIG, PARTS, terms_of(CONFIG, BODY)), Losses(CONFIG, PARTS)
    totals, counts = (value.detach() for value in loss_of(net, BATCH, losses))
    named = losses.terms.named(totals, counts)
    share = torch.tensor([1.0, 2.0, 2.0, 1.0, 1.0]) / 7  # loss.part_weights
    assert named["perceptual"] == pytest.approx(float((totals[4].double() / counts[4] * share).sum()), rel=1e-6)
    assert named["loss"] == pytest.approx(
        without.terms.named(totals[:4], counts[:4])["loss"] + 0.1 * named["perceptual"], rel=1e-6
    )
    assert terms_of(load_config(), BODY) == {}, "off by default"


def velocity_error(net) -> float:
    inputs, targets = VIEWS.of(BATCH)
    with torch.no_grad():
        errors = [(view - t.xy, t.weight > 0) for view, t in zip(net(inputs, quantise=False).views, targets)]
    return float(
        torch.cat([(e[:, 1:] - e[:, :-1]).norm(dim=-1)[seen[:, 1:] & seen[:, :-1]] for e, seen in errors]).mean()
    )


def test_training_with_it_steadies_what_is_decoded():
    """A network that is too small for four clips, without codes: at a tenth of the reconstruction's weight it moves
    more truly and is as near."""
    results = {}
    for weight in (0.0, 0.1, 1.0):
        config = load_config(None, [*TINY_RUN, f"loss.perceptual_weight={weight}"])
        net, losses = build_model(config, BODY), Losses(config, PARTS, terms_of(config, BODY))
        net.fit(VIEWS.of(BATCH)[0])
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(60):
            optimizer.zero_grad()
            totals, counts = loss_of(net, BATCH, losses, quantise=False)
            losses.terms.value(totals, counts).backward()
            optimizer.step()
        results[weight] = losses.terms.named(totals.detach(), counts)["rec"], velocity_error(net)
    (rec, speed), (rec_with, speed_with), (_, steady) = results.values()
    assert speed_with < 0.93 * speed and rec_with < 1.03 * rec
    assert steady < 0.8 * speed


def test_a_run_that_switches_it_on_when_it_goes_on_logs_it_from_there(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)
    root = signer_root(tmp_path, 24, frames=60)
    assert (
        main(tiny_options(root, "model.arch=mlp", "train.log_every=1", "train.epochs=1", "train.health_every=9")) == 0
    )
    assert "perceptual" not in capsys.readouterr().out
    (folder,) = (root.parent / "runs" / "default").iterdir()
    assert main(["--checkpoint", str(folder), "train.epochs=2", "loss.perceptual_weight=0.1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("step") and ", perceptual " in line for line in lines)
    assert any("validation loss" in line and ", perceptual " in line for line in lines)


def test_two_ranks_are_one_process_on_the_joined_batches(tmp_path):
    """Clips of which a rank sees no left hand, and steps in which it has no clip."""
    clips = {f"clip{i}": moving_clip(30 + 4 * i, i) for i in range(10)}
    for i in range(6, 10):
        clips[f"clip{i}"][:, LEFT_HAND:RIGHT_HAND] = 0
    options = tiny_options(
        write_csl(tmp_path / "data", clips),
        *PLAIN,
        SAME_STEPS,
        "model.arch=mlp",
        "model.rvq.codebook_size=8",
        "loss.perceptual_weight=0.5",
    )
    work = partial(train_on_plan, options)
    (alone,) = on_ranks(1, work, tmp_path)
    first, second = on_ranks(2, work, tmp_path)
    assert_same(second, first)
    assert_close(first, alone, 1e-5)
    assert alone["window"]["perceptual"] > 0
