"""The sign encoder of every source, and the translator: independence of company and padding, constants that are fitted,
what a checkpoint says is read, transformers' own mBART, what is frozen, kept and loaded."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sentences import GERMAN, SENTENCES, said_in_one_line
from signstream.config.translation import EncoderModel, TokenModel
from signstream.models.sign_encoder import PointFront, Reads, Signing, sign_encoder
from signstream.models.text_model import SPECIFIED, decoder_inputs
from signstream.models.text_sources import TinySizes, tiny_model
from signstream.models.translation import MBART, SignTranslator

for package in ("transformers", "tokenizers"):
    pytest.importorskip(package)

LENGTHS, SEEDS = (4, 1, 6, 3), (50, 51, 52, 53)
ROWS, FEATURES, WIDTH = 5, 3, 16  # V, W, D
TAGS = {"parts": ("F", "RH"), "tokenizer": "one"}
READS = {
    "keypoints": Reads("keypoints", (7,)),
    "latents": Reads("latents", (2, 6), **TAGS),
    "codes": Reads("codes", (2, 2, 9, 6), **TAGS),
    "glosses": Reads("glosses", (8,)),
}
SIZES = EncoderModel(width=WIDTH, depth=2, heads=2, expand=2, visual_layers=1, tokens=TokenModel(part_width=8))
TEXT = TinySizes(vocabulary=120, width=16, layers=1, heads=2, positions=32)
EVERYONE = tuple(range(len(LENGTHS)))
sources = pytest.mark.parametrize("source", READS)

pytestmark = pytest.mark.usefixtures("one_thread")


def stirred(model: nn.Module) -> nn.Module:
    """No weight at 0 or 1, where it might hide a fault."""
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
    return model


def encoder_of(source: str, visual: bool = True, config: EncoderModel = SIZES):
    return stirred(sign_encoder(config, READS[source]._replace(visual=FEATURES if visual else None), 0)).eval()


def streams_of(source: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    if source == "keypoints":
        steps = torch.randn(4, 6, 7, 3, generator=generator)
        steps[..., 2] = (torch.rand(4, 6, 7, generator=generator) < 0.7).float()
    elif source == "latents":
        steps = torch.randn(4, 6, 2, 6, generator=generator)
    elif source == "codes":
        steps = torch.randint(-1, 9, (4, 6, 2, 2), generator=generator)
    else:
        steps = torch.randint(8, (4, 6), generator=generator)
    return {source: steps, "visual": torch.randn(4, ROWS, FEATURES, generator=generator)}


def chosen(source: str, clips: tuple[int, ...], steps: int) -> dict[str, torch.Tensor]:
    """Some clips in some order, padded to so many steps with what would spoil everything."""
    streams = streams_of(source)
    every = streams[source]
    out = every.new_full((len(clips), steps, *every.shape[2:]), torch.nan if every.is_floating_point() else 10**6)
    for place, clip in enumerate(clips):
        out[place, : LENGTHS[clip]] = every[clip, : LENGTHS[clip]]
    return {source: out, "visual": streams["visual"][list(clips)]}


def answers(encoder, source: str, clips: tuple[int, ...], *, steps: int) -> list[torch.Tensor]:
    lengths = torch.tensor([LENGTHS[clip] for clip in clips])
    signing = encoder(chosen(source, clips, steps), lengths, draw=[SEEDS[clip] for clip in clips])
    assert torch.equal(signing.lengths, encoder.steps(lengths)) and signing.x.isfinite().all()
    assert torch.equal(signing.mask.sum(1), signing.lengths) and not signing.x[~signing.mask].any()
    assert signing.x.shape[2] == encoder.width == WIDTH and signing.x.dtype == torch.float32
    return [row[: int(length)] for row, length in zip(signing.x, signing.lengths)]


@sources
@pytest.mark.parametrize("visual", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_a_clip_is_the_same_in_any_company_whatever_its_padding_holds(source, visual, training):
    encoder = encoder_of(source, visual).train(training)
    alone = [answers(encoder, source, (clip,), steps=LENGTHS[clip])[0] for clip in EVERYONE]
    for clips, steps in ((EVERYONE, 6), (EVERYONE[::-1], 11)):
        for clip, answer in zip(clips, answers(encoder, source, clips, steps=steps)):
            torch.testing.assert_close(answer, alone[clip], atol=2e-5, rtol=1e-4)
    assert (alone[2] - alone[2][:1]).abs().amax(-1)[1:].min() > 1e-3, "steps differ"


@sources
def test_all_that_is_read_is_heard(source):
    """Each step and each row; without a visual side nobody asks for rows."""
    encoder, lengths = encoder_of(source), torch.tensor(LENGTHS)
    whole = encoder(chosen(source, EVERYONE, 6), lengths).x
    other = streams_of(source)
    changed = chosen(source, EVERYONE, 6)
    changed["visual"] = other["visual"] + torch.tensor([0.0, 1.0, 0.0, 0.0])[:, None, None]
    apart = (encoder(changed, lengths).x - whole).abs().amax((1, 2))
    assert apart[1] > 1e-3 and not apart[[0, 2, 3]].any()
    plain = encoder_of(source, visual=False)
    streams = chosen(source, EVERYONE, 6)
    assert plain({source: streams[source]}, lengths).x.isfinite().all() and plain.fusion.gate is None
    streams[source][2, 5] = (streams[source][2, 5] + 1) % 8
    assert not torch.equal(encoder(streams, lengths).x[2], whole[2])


def test_training_drops_what_its_seed_says():
    encoder, lengths = encoder_of("keypoints").train(), torch.tensor(LENGTHS)
    one, same, other = (encoder(chosen("keypoints", EVERYONE, 6), lengths, draw=draw).x for draw in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_seed_draws_the_weights():
    for source, reads in READS.items():
        one, same, other = (sign_encoder(SIZES, reads, seed).state_dict() for seed in (1, 1, 2))
        assert all(torch.equal(one[name], same[name]) for name in one), source
        assert any(not torch.equal(one[name], other[name]) for name in one if name.startswith("fusion")), source


def test_codes_begin_as_their_vectors():
    vectors = torch.randn(2, 2, 9, 6, generator=torch.Generator().manual_seed(1))
    reads = READS["codes"]._replace(vectors=vectors)
    begun, drawn = (
        sign_encoder(EncoderModel(width=WIDTH, heads=2, tokens=TokenModel(vectors=yes, part_width=8)), reads, 0)
        for yes in (True, False)
    )
    apart = sign_encoder(SIZES, READS["codes"], 0).front.rows
    assert torch.equal(drawn.front.rows, apart) and not torch.equal(begun.front.rows, apart)


# -- constants


def test_means_and_spreads_are_of_joints_that_are_seen():
    """Whatever stands in the padding, or where a joint is missing."""
    front = PointFront(7)
    points, lengths = streams_of("keypoints")["keypoints"], torch.tensor(LENGTHS)
    points[..., 3, :2] = 5.0  # one that never moves
    points[..., 4, 2] = 0  # and one that is never seen
    points = torch.where(points[..., 2:] > 0, points, torch.tensor([torch.nan, 1e9, 0.0]))
    points[1, 1:] = torch.nan
    front.fit({"keypoints": points}, lengths)
    for joint in range(7):
        rows = [points[clip, step, joint] for clip in EVERYONE for step in range(LENGTHS[clip])]
        seen = torch.stack([row[:2] for row in rows if row[2] > 0] or [torch.zeros(2)]).double()
        torch.testing.assert_close(front.mean[joint], seen.mean(0).float())
        spread = seen.std(0, correction=0).float()
        torch.testing.assert_close(front.spread[joint], torch.where(spread > 1e-3, spread, 1))
    assert torch.equal(front.spread[[3, 4]], torch.ones(2, 2))
    out = front({"keypoints": points}, lengths).unflatten(2, (7, 3))
    inside = torch.arange(6) < lengths[:, None]
    weight = torch.where(inside[..., None], points[..., 2].nan_to_num(), 0)
    assert torch.equal(out[..., 2], weight) and not out[..., :2][weight == 0].any()
    first = out[..., 0, :2][weight[..., 0] > 0]
    torch.testing.assert_close(first.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(first.std(0, correction=0), torch.ones(2))


# -- what a checkpoint says


def test_what_is_read_comes_back_from_a_checkpoint():
    for reads in READS.values():
        for visual in (None, 768):
            whole = reads._replace(visual=visual)
            assert Reads.from_state(whole.state()) == whole
    assert "vectors" not in READS["codes"]._replace(vectors=torch.ones(1)).state()


POINTS, CODES = READS["keypoints"].state(), READS["codes"].state()
HOSTILE = [
    *((state, "does not say what it reads") for state in (None, [], "keypoints", {}, {**POINTS, "source": None})),
    ({**POINTS, "source": ["keypoints"]}, "what it reads"),
    ({**POINTS, "source": "frames\n\x1b"}, "what it reads"),
    *(({**POINTS, "shape": shape}, "what it reads") for shape in (None, (75,), [], [75, 3], [0], [-1], [True], ["7"])),
    *(({**POINTS, "shape": [shape]}, "what it reads") for shape in (7.0, float("nan"), 10**30, [7])),
    ({**CODES, "source": "latents"}, "what it reads"),
    *(({**POINTS, "visual": visual}, "of what its keypoints are") for visual in (0, -1, 1.5, True, "768", 10**9)),
    *(({**CODES, "parts": parts}, "of what its codes are") for parts in (None, "FR", [1, 2], ["F"], [["F"], "RH"])),
    ({**POINTS, "parts": ["F"]}, "of what its keypoints are"),
    *(({**CODES, "tokenizer": digest}, "of what its codes are") for digest in (None, 3, ["one"])),
]


@pytest.mark.parametrize("case", range(len(HOSTILE)))
def test_what_says_anything_else_is_one_line(case):
    state, match = HOSTILE[case]
    said_in_one_line(lambda: Reads.from_state(state), match)


def test_it_has_the_specified_sizes():
    """225 numbers of keypoints and 768 of pictures at a width of 384; the front has no weight."""
    encoder = sign_encoder(EncoderModel(), Reads("keypoints", (75,), visual=768), 0)
    d = 384
    visual = 2 * (12 * d**2 + 13 * d) + 2 * d
    block = 2 * (2 * d + 8 * d**2 + 5 * d) + (2 * d + 4 * d**2 + 4 * d)
    block += 2 * d + (2 * d**2 + 2 * d) + 16 * d + 2 * d + (d**2 + d) + 2 * d
    expected = (225 * d + d) + (768 * d + d) + visual + (3 * d**2 + 2 * d) + 4 * block + 2 * d
    assert sum(p.numel() for p in encoder.parameters()) == expected == 18_010_752
    assert not list(encoder.front.parameters()) and encoder.front.width == 225


# -- the translator


class Words(nn.Module):
    """An encoder whose signing is a sentence's own embeddings."""

    width = TEXT.width

    def forward(self, streams, lengths, *, draw=None):
        return Signing(streams["words"], lengths)


def translator(frozen=SPECIFIED, glosses=3, **more) -> SignTranslator:
    text = tiny_model(SENTENCES, TEXT, **{**GERMAN, "seed": 3, **more})
    text.freeze(frozen)
    return SignTranslator(encoder_of("keypoints"), text, glosses=glosses, seed=1)


def test_through_ours_it_is_transformers_own_mbart():
    text = stirred(tiny_model(SENTENCES, TEXT, **GERMAN, seed=3, scale_inputs=True))
    model = SignTranslator(Words(), text).eval()
    with torch.no_grad():
        model.adapter.weight.copy_(torch.eye(TEXT.width))
    encoded, labels = text.tokenizer.encode(SENTENCES), text.tokenizer.labels(SENTENCES).ids
    theirs = text.mbart(input_ids=encoded.ids, attention_mask=encoded.mask.long(), labels=labels)
    words = F.embedding(encoded.ids, text.mbart.model.shared.weight).masked_fill(~encoded.mask[..., None], torch.nan)
    words = torch.where(encoded.mask[..., None], words, 0)
    lengths = encoded.mask.sum(1)
    said = model({"words": words}, lengths, decoder_inputs(labels))
    torch.testing.assert_close(said.logits, theirs.logits, atol=1e-5, rtol=1e-4)
    assert said.glosses is None
    ours = model.generate({"words": words}, lengths, beams=3, max_new_tokens=8)
    read = model.read({"words": words}, lengths)
    again = text.generate(read.x, read.mask, beams=3, max_new_tokens=8)
    assert torch.equal(ours.ids, again.ids)


def test_a_translation_is_the_same_alone_and_its_glosses_too():
    model, ids = translator().eval(), decoder_inputs(translator().text.tokenizer.labels(SENTENCES).ids)
    stirred(model.text)
    said = model(chosen("keypoints", EVERYONE, 9), torch.tensor(LENGTHS), ids)
    found = model.generate(chosen("keypoints", EVERYONE, 9), torch.tensor(LENGTHS), beams=2, max_new_tokens=6)
    torch.testing.assert_close(said.glosses.exp().sum(-1), torch.ones(4, 9))
    for clip, length in enumerate(LENGTHS):
        streams, lengths = chosen("keypoints", (clip,), length), torch.tensor([length])
        alone = model(streams, lengths, ids[clip : clip + 1])
        torch.testing.assert_close(alone.logits[0], said.logits[clip], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(alone.glosses[0], said.glosses[clip, :length], atol=2e-5, rtol=1e-4)
        ours = model.generate(streams, lengths, beams=2, max_new_tokens=6)
        assert model.text.tokenizer.texts(ours.ids[0]) == model.text.tokenizer.texts(found.ids[clip])


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """All that there is, frozen too; tied ones once."""
    return {name: t.detach().clone() for name, t in (*model.named_parameters(), *model.named_buffers())}


def train_steps(model: SignTranslator, count: int) -> None:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1)
    labels = model.text.tokenizer.labels(SENTENCES).ids
    for step in range(count):
        said = model(chosen("keypoints", EVERYONE, 6), torch.tensor(LENGTHS), decoder_inputs(labels), draw=step)
        loss = F.cross_entropy(said.logits.flatten(0, 1), labels.flatten())
        (loss + said.glosses[:, 0].square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("frozen", [SPECIFIED, ("encoder",), ()])
def test_what_is_frozen_stays_bit_for_bit_and_all_else_moves(frozen):
    model = translator(frozen).train()
    before, digest = tensors(model), model.text.frozen_digest()
    train_steps(model, 5)
    moved = {name for name, tensor in tensors(model).items() if not torch.equal(tensor, before[name])}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert moved == trained and model.text.frozen_digest() == digest
    assert any(name.startswith("encoder.fusion") for name in moved) and f"{MBART}model.shared.weight" in before


def test_what_is_frozen_is_in_evaluation_whoever_calls():
    model = translator()
    body = model.text.mbart.model
    frozen = [*body.encoder.modules(), body.shared, body.decoder.embed_positions]
    for call in (model.train, model.text.train, lambda: model.eval().train(), lambda: model.train(True)):
        call()
        assert model.encoder.training or call == model.text.train
        assert body.decoder.layers[0].training and not any(module.training for module in frozen)
        assert not any(p.requires_grad for module in frozen for p in module.parameters())
    assert not any(module.training for module in model.eval().modules())
    said = model.generate(chosen("keypoints", (0,), 4), torch.tensor([4]), beams=1, max_new_tokens=2)
    assert not said.scores.requires_grad and not any(module.training for module in model.modules())


# -- kept and loaded


@pytest.mark.parametrize("frozen", [SPECIFIED, ("decoder",), ()])
def test_what_is_kept_restores_all(frozen):
    model, fresh = translator(frozen), translator(frozen)
    train_steps(model.train(), 2)
    state = model.state_dict()
    never = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert not state.keys() & set(never) and f"{MBART}lm_head.weight" not in state
    places = [tensor.data_ptr() for tensor in state.values()]
    assert len(set(places)) == len(places), "tied weights once"
    kept = {name: tensor.clone() for name, tensor in state.items()}
    fresh.load_state_dict(kept)
    restored = tensors(fresh)
    assert all(torch.equal(tensor, restored[name]) for name, tensor in tensors(model).items())
    assert fresh.text.mbart.lm_head.weight is fresh.text.mbart.model.shared.weight
    assert set(state) == set(fresh.state_dict()) and not state["adapter.weight"].requires_grad
    shared = f"{MBART}model.shared.weight"
    assert (shared in state) == ("embedding" not in frozen)
    assert model.state_dict(prefix="model.").keys() == {f"model.{name}" for name in state}


def test_an_odd_state_is_one_line_and_changes_nothing():
    model = translator()
    before, kept = tensors(model), {name: tensor + 1 for name, tensor in model.state_dict().items()}
    text = next(name for name in kept if name.startswith(MBART))
    odd = {
        "one is missing": {name: tensor for name, tensor in kept.items() if name != "adapter.bias"},
        "a text weight is missing": {name: tensor for name, tensor in kept.items() if name != text},
        "one too many": {**kept, "other": torch.ones(1)},
        "a name that is none": {**kept, 5: torch.ones(1)},
        "a frozen one": {**kept, f"{MBART}model.shared.weight": torch.ones(1)},
        "a shape": {**kept, "glosses.bias": torch.ones(99)},
        "a type": {**kept, "adapter.bias": kept["adapter.bias"].double()},
        "no tensor": {**kept, text: "x" * 10_000},
        "nothing": {},
    }
    for what, state in odd.items():
        said_in_one_line(lambda state=state: model.load_state_dict(state), "weight")
        assert all(torch.equal(tensor, before[name]) for name, tensor in tensors(model).items()), what
    model.load_state_dict(kept)
    assert torch.equal(model.adapter.bias, before["adapter.bias"] + 1)


def test_a_copy_is_a_translator_of_its_own():
    model = translator()
    other = copy.deepcopy(model)
    train_steps(other.train(), 1)
    assert not torch.equal(other.adapter.weight, model.adapter.weight)
    assert other.text.frozen == model.text.frozen and other.text.frozen_digest() == model.text.frozen_digest()
