"""Joints that weigh more or less within their part: the loss, its gradient, what a code is worth; and nothing else."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from clips import moving_clip
from data_sets import write_csl
from helpers import begin_loop, run_steps, tiny_options
from signstream.config import from_dict, load_config, to_dict
from signstream.errors import UserError
from signstream.inference.tokenizer import Tokenizer
from signstream.models.rvq.rvq_model import Output
from signstream.skeleton import COCO_WHOLEBODY as BODY
from signstream.skeleton import FACE, FEET, JOINT_GROUPS, LEFT_HAND_BONES, NUM_JOINTS, RIGHT_HAND_BONES
from signstream.tasks.rvq.losses import Losses, valid_chunks
from signstream.tasks.rvq.views import Target
from test_losses import BATCH, CONFIG, PARTS, REC, VIEWS, batch_of, gradients, loss_of, model

TARGETS = VIEWS.of(BATCH)[1]
SOME = {"wrists": 4.0, "mouth": 3.0, "fingertips": 0.5, "legs": 0.0, "feet": 0.0}
BELOW = range(11, FACE)  # legs and feet


def losses_of(weights, config=CONFIG):
    return Losses(replace(config, loss=replace(config.loss, joint_weights=weights)), PARTS)


def decoded(depth=None):
    """Views as a network may give them, some of `depth` levels: P x ([Q,] N, L, J, 2)."""
    generator = torch.Generator().manual_seed(3)
    some = () if depth is None else (depth,)
    return [t.xy + 0.3 * torch.randn(*some, *t.xy.shape, generator=generator) for t in TARGETS]


def output_of(views):
    return Output(views, torch.zeros(len(PARTS), len(BATCH), 4), None)


def weight_of_joints(weights):
    """[133]"""
    of_joint = torch.ones(NUM_JOINTS, dtype=torch.float64)
    for group, weight in weights.items():
        of_joint[list(JOINT_GROUPS[group])] = weight
    return of_joint


def by_hand(views, targets, weights):
    """[P, N] sums of each chunk, and [P] what all that is visible weighs."""
    of_joint = weight_of_joints(weights)
    delta, sums, counts = CONFIG.loss.huber_delta, [], []
    for part, view, target in zip(BODY.parts, views, targets):
        away = (view - target.xy).double().abs()
        far = torch.where(away < delta, away**2 / (2 * delta), away - delta / 2).sum(-1)  # [N, L, J]
        seen = (target.weight > 0) * of_joint[part.joints]
        sums.append((far * seen).sum((1, 2)))
        counts.append(seen.sum())
    return torch.stack(sums), torch.stack(counts)


# -- without any it is the loss that it was


@pytest.mark.parametrize("weights", [{}, dict.fromkeys(JOINT_GROUPS, 1.0)], ids=["none", "all 1"])
def test_without_weights_loss_gradient_and_worth_are_what_they_were_bit_for_bit(weights):
    delta, losses, views = CONFIG.loss.huber_delta, losses_of(weights), [v.requires_grad_() for v in decoded()]

    def plain(view, target):
        error = F.huber_loss(view.float(), target.xy, reduction="none", delta=delta).sum(-1) / delta
        return torch.where(target.weight > 0, error, 0.0).sum((1, 2))

    totals, counts = losses.totals(output_of(views), BATCH, TARGETS), losses.counts(BATCH, TARGETS)
    before = torch.stack([plain(view, target).sum() for view, target in zip(views, TARGETS)])
    assert torch.equal(totals[REC], before)
    assert torch.equal(counts[REC], torch.stack([(t.weight > 0).sum() for t in TARGETS]).double())
    found, expected = (torch.autograd.grad((rec / counts[REC]).sum(), views) for rec in (totals[REC], before))
    assert all(torch.equal(a, b) for a, b in zip(found, expected))
    prefixes = decoded(depth=3)
    costs = [
        torch.stack([plain(view, target) for view in levels], -1) / target.weight[:1].numel()
        for levels, target in zip(prefixes, TARGETS)
    ]
    assert torch.equal(losses.level_costs(prefixes, TARGETS), torch.stack(costs, 1) * losses.terms.weights[0, :, None])


def test_a_part_without_any_such_joint_stays_as_it_was_bit_for_bit():
    plain, wrists = losses_of({}), losses_of({"wrists": 4.0})
    output, hands = output_of(decoded()), [PARTS.index("left_hand"), PARTS.index("right_hand")]
    for method in (lambda one: one.totals(output, BATCH, TARGETS), lambda one: one.counts(BATCH, TARGETS)):
        assert torch.equal(method(plain)[:, hands], method(wrists)[:, hands])
        assert not torch.equal(method(plain)[REC], method(wrists)[REC])


# -- with them


def test_a_parts_loss_is_the_weighted_mean_and_its_share_stays_what_it_was():
    losses, views = losses_of(SOME), decoded()
    sums, counts = by_hand(views, TARGETS, SOME)
    named = losses.terms.named(losses.totals(output_of(views), BATCH, TARGETS), losses.counts(BATCH, TARGETS))
    means = sums.sum(1) / counts
    assert [named[f"rec/{part}"] for part in PARTS] == pytest.approx(means.tolist(), rel=1e-5)
    share = torch.tensor([1.0, 2.0, 2.0, 1.0, 1.0]) / 7  # loss.part_weights
    assert named["rec"] == pytest.approx(float((means * share).sum()), rel=1e-5)


def test_only_how_weights_compare_matters():
    """Of a part that is wrists and legs alone, at four to one, up to where numbers end."""
    small, body, inside, found = {"body": [10, 17]}, PARTS.index("body"), slice(9, 17), []
    targets = [Target(TARGETS[body].xy[:, :, inside], TARGETS[body].weight[:, :, inside])]
    output = Output([decoded()[body][:, :, inside]], torch.zeros(1, len(BATCH), 4), None)
    for scale in (1.0, 7.0, 1e307, 1e-300):
        weights = {"wrists": 2 * scale, "legs": 0.5 * scale}
        losses = Losses(from_dict({"data": {"body_parts": small}, "loss": {"joint_weights": weights}}), ["body"])
        totals, counts = losses.totals(output, BATCH, targets), losses.counts(BATCH, targets)
        found.append(losses.terms.named(totals, counts)["rec"])
    assert found[1:] == pytest.approx(found[:1] * 3, rel=1e-6) and found[0] > 0


def test_what_a_code_is_worth_is_the_weighted_mean_of_a_whole_chunk():
    losses, prefixes = losses_of(SOME), decoded(depth=3)
    costs = losses.level_costs(prefixes, TARGETS)
    of_joint, frames = weight_of_joints(SOME), BATCH.xy.shape[1]
    whole = frames * torch.stack([of_joint[part.joints].sum() for part in BODY.parts])
    for level in range(3):
        sums, _ = by_hand([view[level] for view in prefixes], TARGETS, SOME)
        expected = (sums / whole[:, None]).T * losses.terms.weights[0]
        torch.testing.assert_close(costs[..., level].double(), expected, rtol=1e-5, atol=1e-7)


def test_what_legs_do_that_weigh_nothing_changes_nothing():
    losses, prefixes, outcomes = losses_of(SOME), decoded(depth=2), []
    for away in (0.0, 100.0):
        targets = []
        for part, target in zip(BODY.parts, TARGETS):
            legs = torch.tensor([joint in BELOW for joint in range(part.start, part.stop)])
            targets.append(Target(target.xy + away * legs[:, None], target.weight))
        views = [view.requires_grad_() for view in decoded()]
        totals, counts = losses.totals(output_of(views), BATCH, targets), losses.counts(BATCH, targets)
        found = torch.autograd.grad(losses.terms.value(totals, counts), views)
        outcomes.append((totals.detach(), counts, losses.level_costs(prefixes, targets), *found))
    assert all(torch.equal(a, b) for a, b in zip(*outcomes))
    body, whole = (outcomes[0][3 + PARTS.index(part)] for part in ("body", "full_body"))
    assert not body[:, :, 11:FEET].any() and not whole[:, :, 11:FACE].any()
    assert body[:, :, :11].any() and whole[:, :, FACE:].any()


def test_chunks_that_show_nothing_of_a_part_but_legs_add_nothing_and_poison_nothing():
    hidden = [joint for joint in range(NUM_JOINTS) if joint not in BELOW]
    weight, seen = BATCH.weight.clone(), BATCH.seen.clone()
    weight[:, :, hidden], seen[:, :, hidden] = 0, 0
    weight[:, :, 11:FACE] = 1
    batch, net, losses = replace(BATCH, weight=weight, seen=seen), model(), losses_of(SOME)
    targets = VIEWS.of(batch)[1]
    assert valid_chunks(targets)[PARTS.index("body")].all(), "what is visible is still sent"
    totals, counts = loss_of(net, batch, losses)
    assert not totals[REC].any() and not counts[REC].any()
    value = losses.terms.value(totals, counts)
    assert torch.isfinite(value) and all(torch.isfinite(g).all() for g in gradients(net, value).values())
    assert not losses.level_costs(decoded(depth=2), targets).any()


def test_a_step_in_pieces_is_the_step():
    net, losses = model(), losses_of(SOME)
    totals, counts = loss_of(net, BATCH, losses, quantise=False)
    whole = {name: g.clone() for name, g in gradients(net, losses.terms.value(totals, counts)).items()}
    pieces = [loss_of(net, batch_of(seeds), losses, quantise=False) for seeds in ([0, 1], [2, 3], [])]
    torch.testing.assert_close(sum(count for _, count in pieces), counts, rtol=1e-12, atol=0)
    torch.testing.assert_close(sum(total for total, _ in pieces), totals, rtol=1e-5, atol=1e-4)
    summed = gradients(net, sum(losses.terms.value(total, counts) for total, _ in pieces))
    for name, gradient in whole.items():
        torch.testing.assert_close(summed[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


# -- the config


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["loss.joint_weights={wrist: 4}"], "loss.joint_weights names 'wrist': did you mean wrists?"),
        (["loss.joint_weights.mouht=2"], "loss.joint_weights names 'mouht': did you mean mouth?"),
        (["loss.joint_weights={tail: 4}"], "loss.joint_weights names 'tail': the groups of joints are wrists, "),
        (["loss.joint_weights={legs: -1}"], "loss.joint_weights.legs is -1: a weight from 0 is expected"),
        (["loss.joint_weights={legs: .inf}"], "loss.joint_weights is {'legs': inf}: a table of names to a number"),
        (["loss.joint_weights={legs: 0}", "data.num_joints=75"], "COCO-WholeBody's 133 joints, and data.num_joints is"),
    ],
)
def test_weights_that_are_none_are_one_line(options, says):
    with pytest.raises(UserError) as error:
        load_config(None, options)
    assert says in str(error.value) and "\n" not in str(error.value)
    assert load_config(None, options[1:]), "the rest is right"


def test_a_part_that_would_weigh_nothing_is_one_line():
    config = from_dict({"data": {"body_parts": {"body": [12, 20]}}, "loss": {"joint_weights": {"legs": 0, "feet": 0}}})
    with pytest.raises(UserError, match=r"loss\.joint_weights leaves no joint of body a weight above 0: give it one"):
        Losses(config, ["body"])


def test_a_checkpoint_from_before_has_none_and_a_new_one_keeps_its_own(tmp_path):
    before = to_dict(CONFIG)
    del before["loss"]["joint_weights"]
    assert from_dict(before) == CONFIG and CONFIG.loss.joint_weights == {}
    clips = {f"clip{i}": moving_clip(30, i) for i in range(8)}
    root = write_csl(tmp_path / "data", clips, {"train": list(clips)[:6], "val": list(clips)[6:]})
    options = tiny_options(root, "model.arch=mlp", "train.epochs=4", "loss.joint_weights={mouth: 3, legs: 0}")
    loop = begin_loop(options)
    run_steps(loop, 4)
    assert loop.validate(health=False).numbers["rec"] > 0
    state = loop.state_dict()
    tokenizer = Tokenizer(state)
    assert tokenizer.config.loss.joint_weights == {"mouth": 3.0, "legs": 0.0}
    face = tokenizer.losses.joints[PARTS.index("face")].tolist()
    assert face == pytest.approx([68 / (48 + 60)] * 48 + [3 * 68 / (48 + 60)] * 20), "1 on average"
    assert len(tokenizer.encode(clips["clip7"]).codes) == 3
    again = begin_loop(options)
    again.load_state_dict(state)
    assert run_steps(again, 1) == run_steps(loop, 1)


def test_the_names_are_of_the_joints_that_they_say():
    assert JOINT_GROUPS["wrists"] == (9, 10) and JOINT_GROUPS["feet"] == tuple(range(FEET, FACE))
    everything = [joint for joints in JOINT_GROUPS.values() for joint in joints]
    assert len(everything) == len(set(everything)), "a joint has one weight"
    for joints in JOINT_GROUPS.values():
        assert {BODY.flip[joint] for joint in joints} == set(joints), "mirrored clips weigh the same"
    hands = [joint for bone in (*LEFT_HAND_BONES, *RIGHT_HAND_BONES) for joint in bone]
    assert set(JOINT_GROUPS["fingertips"]) == {joint for joint in hands if hands.count(joint) == 1}
    for name, count in (("mouth", 20), ("eyes", 12), ("brows", 10)):
        bones = [bone for bone in BODY.part("face").bones if set(bone) & set(JOINT_GROUPS[name])]
        assert len(JOINT_GROUPS[name]) == count
        assert all(set(bone) <= set(JOINT_GROUPS[name]) for bone in bones), "lines of a face by themselves"
