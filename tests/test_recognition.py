"""The recogniser: independence of company, padding and missing joints, streams, what is dropped, and that it learns."""

import pytest
import torch
import torch.nn.functional as F

from signstream.errors import UserError
from signstream.models.recognition import BLANK, Recognizer, branches_kept, steps_needed
from signstream.models.recognition_blocks import MIXERS, Mixing, head_of, mixer_of
from signstream.models.recognition_frames import FrameFront, SpatialSizes
from signstream.models.recognition_fronts import ChunkSizes, CodeFront, KeypointFront, LatentFront, stretched
from signstream.models.recognition_keypoints import stretched_axes
from signstream.skeleton import COCO_WHOLEBODY as BODY
from signstream.training.optim import undecayed

GLOSSES = 7
CODES = (3, 2, 11, 6)  # P, Q, K, Z
LENGTHS = (9, 3, 12, 1)
FRONTS = ("frames", "keypoints", "latents", "codes")


pytestmark = pytest.mark.usefixtures("one_thread")


def vectors(seed=3):
    return torch.randn(CODES, generator=torch.Generator().manual_seed(seed))


def front_of(kind, mixing, heat=True):
    if kind == "frames":
        sizes = {"width": 16, "layers": 2, "stem_blocks": 1, "spatial": SpatialSizes(attention=(1,), head=8, state=4)}
        front = FrameFront(heat=heat, stride=2, axes=3, mixing=mixing, **sizes)
        front.fit(streams_of("frames", seed=1), torch.tensor(LENGTHS))
        return front
    if kind == "keypoints":
        return KeypointFront(BODY.parts, width=24, part_width=8, causal=mixing.causal, twins=[(1, 2)])
    sizes = ChunkSizes(8, causal=mixing.causal)
    if kind == "latents":
        return LatentFront(CODES[0], CODES[3], width=24, sizes=sizes)
    return CodeFront(CODES, width=24, vectors=vectors(), sizes=sizes)


def recognizer(front="codes", kind="mamba", causal=False, **sizes) -> Recognizer:
    """Weights that begin at 0 are drawn too, so that none of them hides a fault."""
    mixing = Mixing(kind, causal, head=8, state=4, past=3)
    model = Recognizer(front_of(front, mixing), GLOSSES, **{"width": 16, "depth": 2, "mixing": mixing, **sizes})
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        if weight.ndim < 2 or not weight.any():
            weight.data += 0.2 * torch.randn(weight.shape, generator=generator)
    model.head.weight.data *= 1.6
    return model.eval()


def streams_of(front, clips=4, steps=14, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*size):
        return torch.randn(clips, steps, *size, generator=generator)

    if front == "frames":
        return {"frames": normal(3, 32, 48), "heat": normal(1, 32, 48).sigmoid()}
    if front == "keypoints":
        seen = (normal(BODY.num_joints, 1) > -1) & (normal(1, 1) > -1.5)  # joints are missing, and whole frames
        return {"keypoints": torch.cat((normal(BODY.num_joints, 2) * 3, seen.float()), -1)}
    if front == "latents":
        return {"latents": normal(CODES[0], CODES[3])}
    return {"codes": torch.randint(-1, CODES[2], (clips, steps, *CODES[:2]), generator=generator)}


def cut(streams, clip, first, stop):
    return {name: stream[clip : clip + 1, first:stop] for name, stream in streams.items()}


def spoilt(streams, lengths):
    """What stands past each clip's end is whatever memory held."""
    out = {}
    for name, stream in streams.items():
        past = torch.arange(stream.shape[1]) >= lengths[:, None]
        past = past.view(*past.shape, *(1,) * (stream.ndim - 2))
        out[name] = torch.where(past, torch.nan if stream.is_floating_point() else 10**12, stream)
    return out


@pytest.mark.parametrize("kind", MIXERS)
@pytest.mark.parametrize("front", FRONTS)
def test_a_clip_is_the_same_in_any_company_whatever_its_padding_holds(front, kind):
    model, lengths = recognizer(front, kind), torch.tensor(LENGTHS)
    streams = spoilt(streams_of(front), lengths)
    out = model(streams, lengths)
    out.log_probs.sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert torch.equal(out.lengths, model.steps(lengths))
    for clip, length in enumerate(LENGTHS):
        alone = model(cut(streams, clip, 0, length), lengths[clip : clip + 1])
        steps = int(alone.lengths)
        assert alone.log_probs.shape == (1, steps, GLOSSES)
        torch.testing.assert_close(out.log_probs[clip, :steps], alone.log_probs[0], atol=2e-5, rtol=1e-4)
        assert (out.log_probs[clip, steps:].argmax(-1) == BLANK).all()
        assert (out.log_probs[clip, steps:].exp().sum(-1) == 1).all()
    steps = out.log_probs[2, : int(out.lengths[2])]
    assert (steps - steps[0]).abs().amax(-1)[1:].min() > 1e-3  # and is not the same at every step


@pytest.mark.parametrize("kind", MIXERS)
def test_a_clips_loss_and_gradient_do_not_depend_on_its_company(kind):
    model, lengths = recognizer("codes", kind).train(), torch.tensor(LENGTHS[:3])
    streams, targets = streams_of("codes", 3), torch.tensor([[1, 2], [3, 3], [4, 1]])

    def gradient(clips):
        model.zero_grad()
        out = model({"codes": streams["codes"][clips]}, lengths[clips])
        sizes = torch.full((len(clips),), 2)
        F.ctc_loss(out.log_probs.transpose(0, 1), targets[clips], out.lengths, sizes, reduction="sum").backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    together, each = gradient([0, 1, 2]), sum(gradient([clip]) for clip in range(3))
    torch.testing.assert_close(together, each, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", MIXERS)
@pytest.mark.parametrize("front", FRONTS)
def test_an_empty_clip_and_an_empty_batch_go_through(front, kind):
    model = recognizer(front, kind)
    out = model(streams_of(front, 2, 4), torch.tensor([0, 4]))
    assert out.lengths.tolist() == [0, int(model.steps(torch.tensor(4)))] and out.log_probs.isfinite().all()
    for steps in (4, 0):
        assert model(streams_of(front, 0, steps), torch.zeros(0, dtype=torch.long)).log_probs.shape[0] == 0


# -- streams


@pytest.mark.parametrize("kind", MIXERS)
@pytest.mark.parametrize("front", FRONTS)
def test_a_stream_says_what_the_file_says(front, kind):
    model, steps = recognizer(front, kind, causal=True), 13
    streams = streams_of(front, 2, steps)
    whole = model(streams, torch.tensor([steps, steps])).log_probs
    ends = (0, 1, 2, 6, 6, 11, steps, steps)
    memory, pieces = model.begin(2), []
    for start, stop in zip(ends, ends[1:]):
        piece = {name: stream[:, start:stop] for name, stream in streams.items()}
        last = start == steps
        held = memory
        log_probs, memory = model.step(piece, held, last=last)
        again, _ = model.step(piece, held, last=last)  # a memory is not used up
        assert torch.equal(log_probs, again)
        pieces.append(log_probs)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=2e-5, rtol=1e-4)
    if front in ("keypoints", "frames"):
        assert pieces[-1].shape[1] == 1, "the last frames make a step that only the end completes"


def test_what_looks_ahead_is_not_streamed():
    with pytest.raises(AssertionError, match="causal"):
        recognizer("codes").begin()
    with pytest.raises(AssertionError, match="looks ahead"):
        Recognizer(KeypointFront(BODY.parts, width=8), 3, width=8, depth=1, mixing=Mixing(causal=True))


# -- what is read


def test_the_heat_map_is_read():
    """The public code computes it and leaves it aside."""
    model, streams, lengths = recognizer("frames"), streams_of("frames", 1, 4), torch.tensor([4])
    heat = streams["heat"].requires_grad_()
    out = model({**streams, "heat": heat}, lengths).log_probs
    out[0, :, 1].sum().backward()
    assert (heat.grad.abs().amax((1, 2, 3, 4)) > 1e-4).all()
    other = model({**streams, "heat": heat.detach().flip(-1)}, lengths).log_probs
    assert (other - out).abs().amax(-1).min() > 1e-3


@pytest.mark.parametrize("value", [5.0, -1e6, float("nan"), float("inf")])
def test_what_missing_joints_hold_changes_nothing(value):
    model, lengths = recognizer("keypoints"), torch.tensor(LENGTHS)
    joints = streams_of("keypoints")["keypoints"]
    zeros = torch.cat((torch.where(joints[..., 2:] > 0, joints[..., :2], 0.0), joints[..., 2:]), -1)
    filled = torch.cat((torch.where(joints[..., 2:] > 0, joints[..., :2], value), joints[..., 2:]), -1)
    model.fit({"keypoints": zeros}, lengths)
    out = model({"keypoints": zeros}, lengths).log_probs
    model.fit({"keypoints": filled}, lengths)
    assert torch.equal(model({"keypoints": filled}, lengths).log_probs, out)


def test_parts_of_keypoints_are_seen_from_their_centres_and_fitted():
    """Moving a hand as a whole changes nothing of what its own layer sees; fitted axes vary alike."""
    hand = BODY.part("left_hand")
    front = KeypointFront((hand,), width=24, part_width=8)
    joints = streams_of("keypoints", 4, 200)["keypoints"]
    joints[..., 2] = 1
    joints[..., hand.joints, :2] *= torch.linspace(0.01, 1, 42).view(21, 2)
    moved = joints.clone()
    moved[..., hand.joints, :2] += 100
    lengths = torch.full((4,), 200)
    front.fit({"keypoints": moved}, lengths)
    place = front({"keypoints": moved}, lengths)
    front.fit({"keypoints": joints}, lengths)
    torch.testing.assert_close(front({"keypoints": joints}, lengths), place, atol=1e-3, rtol=1e-3)


def test_axes_are_stretched_to_one_spread_but_noise_is_not():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(4000, 6, generator=generator) * torch.tensor([9.0, 3, 1, 1e-3, 1e-3, 0])
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator))[0]
    spread = (rows @ turn @ stretched_axes(rows @ turn, 6).T).std(0)
    assert (spread[:2] > 0.9).all() and (spread < 1.1).all() and (spread[3:] < 0.01).all()
    assert stretched_axes(rows[:0], 6).shape == (0, 6)


def test_rows_begin_as_the_vectors_along_their_own_axes():
    """Equally stretched, and each part by itself: what a turn and a stretch made of codebooks is undone."""
    generator = torch.Generator().manual_seed(2)
    turn = torch.linalg.qr(torch.randn(CODES[0], CODES[3], CODES[3], generator=generator))[0]
    long = torch.logspace(0, 1, CODES[3])
    books = torch.randn(CODES[0], CODES[1], 400, CODES[3], generator=generator)
    rows = stretched(torch.einsum("pqkz,pzy->pqky", books * long, turn))
    spread = rows.flatten(1, 2).std(1)
    assert (spread > 0.5).all() and (spread < 1.1).all()  # at most 1, less what coding loses
    for part, mine in zip(books.flatten(1, 2), rows.flatten(1, 2)):
        assert (part.T @ mine / len(part)).abs().amax(0).min() > 0.5  # an axis each, whatever its sign
    assert torch.equal(CodeFront(CODES, width=8, vectors=vectors()).rows, stretched(vectors()))


def test_rows_are_summed_over_what_was_sent():
    front, lengths = CodeFront(CODES, width=8, vectors=vectors()), torch.tensor([2])
    front.absent.data += torch.randn(front.absent.shape, generator=torch.Generator().manual_seed(1))
    codes = torch.full((1, 2, *CODES[:2]), -1)
    codes[0, 0, 0], codes[0, 0, 1, 0] = torch.tensor([4, 7]), 2
    expected = front.absent.sum(1).repeat(2, 1, 1)  # [S, P, Z]
    expected[0, 0] = front.rows[0, 0, 4] + front.rows[0, 1, 7]
    expected[0, 1] = front.rows[1, 0, 2] + front.absent[1, 1]
    torch.testing.assert_close(front.vectors({"codes": codes}, lengths)[0], expected / front.spread)
    front({"codes": codes}, lengths).sum().backward()
    assert front.rows.grad[0, 0, 4].any() and not front.rows.grad[2].any()  # they train; what was not sent does not


def test_fresh_rows_are_drawn_from_the_seed():
    first, same, other = (CodeFront(CODES, width=8, seed=seed).rows for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)


# -- steps, targets


@pytest.mark.parametrize("strides", [(1,), (2, 1), (2, 2), (2, 2, 2)])
@pytest.mark.parametrize("causal", [False, True])
def test_steps_after_a_stride_are_counted_exactly(strides, causal):
    front = KeypointFront(BODY.parts, width=4, part_width=4, strides=strides, causal=causal)
    stride = torch.tensor(strides).prod()
    for length in range(1, 18):
        steps = front(streams_of("keypoints", 1, length), torch.tensor([length])).shape[1]
        assert steps == front.steps(torch.tensor(length)) == -(-length // stride)


def test_with_the_steps_needed_the_loss_is_finite_and_with_fewer_it_is_not():
    for target in ([], [1], [1, 2], [1, 1], [1, 1, 1], [2, 1, 1, 2]):
        for steps in range(1, 9):
            log_probs = torch.full((steps, 3), 1 / 3).log()
            loss = F.ctc_loss(log_probs, torch.tensor(target), torch.tensor(steps), torch.tensor(len(target)))
            assert (steps_needed(target) <= steps) == bool(loss.isfinite()), (target, steps)
    assert steps_needed([1, 1, 2, 2, 2]) == 8


# -- numbers


@pytest.mark.parametrize("front", FRONTS)
def test_log_probs_are_float32_under_autocast(front):
    """The public code takes the softmax in bfloat16."""
    model, streams, lengths = recognizer(front), streams_of(front), torch.tensor(LENGTHS)
    exact = model(streams, lengths).log_probs
    with torch.autocast("cpu", torch.bfloat16):
        out = model(streams, lengths).log_probs
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.exp().sum(-1), torch.ones(out.shape[:2]), atol=1e-6, rtol=0)
    assert 0 < (out.exp() - exact.exp()).abs().max() < 0.2


@pytest.mark.parametrize("front", FRONTS)
def test_a_branch_is_dropped_for_a_whole_clip(front):
    """The same clip sixteen times: two branches of the last block (three, of two blocks with their own) are there or
    not. Were it frames or patches that lose them, hardly two would be alike."""
    model = recognizer(front, drop_path=0.5, depth=0 if front == "frames" else 2).train()
    one = {name: stream.expand(16, *stream.shape[1:]) for name, stream in streams_of(front, 1, 8).items()}
    lengths = torch.full((16,), 8)
    out = model(one, lengths, draw=1).log_probs
    kinds = 8 if front == "frames" else 4
    assert 2 <= len((out.flatten(1) * 1e2).round().unique(dim=0)) <= kinds
    assert torch.equal(model(one, lengths, draw=1).log_probs, out)
    assert not torch.equal(model(one, lengths, draw=2).log_probs, out)
    with pytest.raises(AssertionError, match="draw"):
        model(one, lengths)
    assert torch.equal(model.eval()(one, lengths).log_probs, model(one, lengths, draw=3).log_probs)


def test_dropping_keeps_the_mean_and_drops_more_where_it_is_deeper():
    keep = branches_kept(0.5, (3, 3, 4000), 1)
    assert keep.unique().tolist() == [0, 1, torch.tensor(4 / 3), 2]
    torch.testing.assert_close(keep.mean(-1), torch.ones(3, 3), atol=0.05, rtol=0)
    torch.testing.assert_close((keep == 0).float().mean((1, 2)), torch.tensor([0, 0.25, 0.5]), atol=0.02, rtol=0)


@pytest.mark.parametrize("front", ["frames", "codes"])
def test_checkpointing_changes_no_gradient(front):
    def gradient(checkpointing):
        model = recognizer(front, drop_path=0.3, dropout=0.1, checkpointing=checkpointing).train()
        model.front.checkpointing = checkpointing
        model(streams_of(front), torch.tensor(LENGTHS), draw=4).log_probs[..., 1].sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    torch.testing.assert_close(gradient(True), gradient(False))


# -- weights


def test_glosses_begin_apart():
    """A head that begins near 0 keeps CTC at the blank for many steps more."""
    model = Recognizer(front_of("codes", Mixing()), 500, width=24, depth=0)
    assert model.head.weight.std().item() == pytest.approx(24**-0.5, rel=0.05)


@pytest.mark.parametrize("width", [192, 512])
@pytest.mark.parametrize("causal", [False, True])
def test_mixers_are_of_like_size(width, causal):
    sizes = [sum(p.numel() for p in mixer_of(width, Mixing(kind, causal)).parameters()) for kind in MIXERS]
    assert max(sizes) < 1.2 * min(sizes)


def test_a_width_that_nothing_can_share_is_one_line():
    assert head_of(96, 64) == 48 and head_of(96, 5, of=2) == 4 and head_of(7, 5) == 1
    with pytest.raises(UserError, match="width of 15 cannot be shared"):
        mixer_of(15, Mixing("transformer"))
    with pytest.raises(UserError, match="multiple of 4"):
        FrameFront(width=18)


@pytest.mark.parametrize("front", FRONTS)
def test_every_weight_has_a_depth(front):
    model = recognizer(front)
    depths = model.depths()
    assert list(depths) == [name for name, _ in model.named_parameters()]
    assert depths["head.weight"] == depths["norm.bias"] == model.last == model.front.layers + 3
    assert depths["blocks.0.mlp.up.weight"] + 1 == depths["blocks.1.norm1.weight"] == model.last - 1
    if front == "frames":
        assert depths["front.token"] == depths["front.stem.first.weight"] == 0
        assert depths["front.blocks.1.spatial.out.weight"] == depths["front.blocks.1.mlp.up.bias"] == 2
        assert depths["front.blocks.0.temporal.out.weight"] == depths["front.norm.weight"] == model.last
    else:
        assert {depth for name, depth in depths.items() if name.startswith("front")} == {0}


def test_rows_tokens_norms_and_biases_do_not_decay():
    for front in FRONTS:
        model = recognizer(front)
        kept = undecayed(model)
        names = {name for name, p in model.named_parameters() if id(p) in kept}
        assert names >= {name for name, p in model.named_parameters() if p.ndim < 2}
        special = {"frames": {"token"}, "keypoints": {"absent"}, "codes": {"rows", "absent"}, "latents": set()}[front]
        assert names >= {f"front.{name}" for name in special}
        assert "head.weight" not in names and "blocks.0.mlp.up.weight" not in names


def test_the_seed_draws_the_weights():
    def weights(seed):
        model = Recognizer(front_of("frames", Mixing(head=8, state=4)), 5, width=8, depth=1, seed=seed)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("kind", MIXERS)
def test_four_clips_are_learnt_by_heart(kind):
    model = Recognizer(
        CodeFront(CODES, width=32, vectors=vectors()), GLOSSES, width=32, depth=1, mixing=Mixing(kind, head=16, state=8)
    )
    streams, lengths = streams_of("codes"), torch.tensor([9, 6, 12, 4])
    targets = [[1, 2, 3], [4, 4], [5, 1, 6, 2], [3]]
    flat = torch.tensor([gloss for target in targets for gloss in target])
    sizes = torch.tensor([len(target) for target in targets])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-2)
    for _ in range(60):
        out = model(streams, lengths)
        loss = F.ctc_loss(out.log_probs.transpose(0, 1), flat, out.lengths, sizes, reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    best = [path[: int(n)].unique_consecutive().tolist() for path, n in zip(out.log_probs.argmax(-1), out.lengths)]
    assert [[gloss for gloss in path if gloss != BLANK] for path in best] == targets
