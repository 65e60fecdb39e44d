"""The text models: transformers' own mBART through ours, starts of training and generation, what is frozen, what is
kept and opened, files of others, and packages that are missing."""

import copy
import json
import sys

import pytest
import torch
import torch.nn.functional as F

from sentences import GERMAN, SENTENCES, said_in_one_line
from signstream.models import text_model
from signstream.models.text_model import GROUPS, SPECIFIED, decoder_inputs, group_counts
from signstream.models.text_sources import TinySizes, opened_model, published_model, tiny_model
from signstream.models.text_tokenizer import IGNORED, PAD, trained_tokenizer

for package in ("transformers", "tokenizers"):
    pytest.importorskip(package)
SIZES = TinySizes(vocabulary=120, width=16, layers=1, heads=2, positions=32)
LENGTHS = (5, 9, 1, 7)

pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(**more):
    return tiny_model(SENTENCES, SIZES, **{**GERMAN, "seed": 3, **more})


@pytest.fixture(scope="module")
def text():
    """Drawn wide, so that beams differ; nobody may change it."""
    model = tiny()
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.data += 0.3 * torch.randn(weight.shape, generator=generator)
    return model


def signing(width=16, steps=9):
    embeds = torch.randn(len(LENGTHS), steps, width, generator=torch.Generator().manual_seed(2))
    mask = torch.arange(steps) < torch.tensor(LENGTHS)[:, None]
    return embeds.masked_fill(~mask[..., None], torch.nan), mask


# -- transformers' own


def test_it_is_transformers_own_mbart(text):
    """A batch of sentences, by ids to theirs and by scaled embeddings to ours."""
    encoded, labels = text.tokenizer.encode(SENTENCES), text.tokenizer.labels(SENTENCES)
    with torch.no_grad():
        theirs = text.mbart(input_ids=encoded.ids, attention_mask=encoded.mask.long(), labels=labels.ids)
        embeds = text.mbart.get_input_embeddings()(encoded.ids)
        ours = text(embeds, encoded.mask, decoder_inputs(labels.ids))
        unscaled = copy.copy(text)
        unscaled.scale = 4.0  # as scale_inputs makes it at a width of 16
        scaled = unscaled(embeds / 4, encoded.mask, decoder_inputs(labels.ids))
    torch.testing.assert_close(ours, theirs.logits)
    torch.testing.assert_close(scaled, theirs.logits)
    torch.testing.assert_close(F.cross_entropy(ours.flatten(0, 1), labels.ids.flatten()), theirs.loss)
    assert text.scale == 1 and tiny(scale_inputs=True).scale == 4
    hidden = text.read(encoded.ids, encoded.mask)
    torch.testing.assert_close(hidden, theirs.encoder_last_hidden_state)


def test_padding_and_company_change_nothing(text):
    embeds, mask = signing()
    ids = decoder_inputs(text.tokenizer.labels(SENTENCES).ids)
    together = text(embeds, mask, ids)
    assert together.isfinite().all()
    for clip, length in enumerate(LENGTHS):
        alone = text(embeds[clip : clip + 1, :length], mask[clip : clip + 1, :length], ids[clip : clip + 1])
        torch.testing.assert_close(alone[0], together[clip], rtol=1e-4, atol=1e-5)


def test_training_and_generation_start_alike(text):
    """With the language, then any token: the first unit that is said is the most likely one where training begins."""
    embeds, mask = signing()
    labels = text.tokenizer.labels(SENTENCES).ids
    start = decoder_inputs(labels)
    assert (start[:, 0] == text.tokenizer.target_id).all()
    for row, label in zip(start, labels):
        said = label[label != IGNORED]
        assert row[1 : len(said)].equal(said[:-1])
    first = text(embeds, mask, start[:, :1])[:, 0].argmax(-1)
    said = text.generate(embeds, mask, beams=1, max_new_tokens=4)
    assert said.ids[:, 0, 0].equal(first)


@pytest.mark.parametrize("beams", [1, 4])
def test_generation_is_the_same_from_a_batch_and_alone(text, beams):
    embeds, mask = signing()
    best = min(beams, 3)
    together = text.generate(embeds, mask, beams=beams, n_best=best, max_new_tokens=12)
    assert together.ids.shape[:2] == together.scores.shape == (len(LENGTHS), best)
    for clip, length in enumerate(LENGTHS):
        inputs = embeds[clip : clip + 1, :length], mask[clip : clip + 1, :length]
        alone = text.generate(*inputs, beams=beams, n_best=best, max_new_tokens=12)
        torch.testing.assert_close(alone.scores[0], together.scores[clip], rtol=1e-4, atol=1e-5)
        assert text.tokenizer.texts(alone.ids[0]) == text.tokenizer.texts(together.ids[clip])
        assert (together.scores[clip].diff() <= 0).all(), "best first"


def test_a_search_finds_what_transformers_own_finds(text, monkeypatch):
    """Which lets what a clip's beams hear follow them from place to place."""
    embeds, mask = signing()
    ours = text.generate(embeds, mask, beams=4, n_best=4, max_new_tokens=12)
    monkeypatch.setattr(text_model, "cache_of_beams", lambda mbart: {})
    theirs = text.generate(embeds, mask, beams=4, n_best=4, max_new_tokens=12)
    assert ours.ids.equal(theirs.ids) and ours.scores.equal(theirs.scores)


@pytest.mark.parametrize("beams", [1, 4])
def test_a_score_is_the_mean_log_probability(text, beams):
    embeds, mask = signing()
    said = text.generate(embeds, mask, beams=beams, max_new_tokens=6)
    ids = said.ids[:, 0]
    before = torch.cat((torch.full((len(ids), 1), text.tokenizer.target_id), ids[:, :-1]), 1)
    each = text(embeds, mask, before).log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    forced = torch.arange(ids.shape[1]) == 5  # </s> ends what is too long, at no cost
    each, there = each.masked_fill((ids == PAD) | forced, 0), ids != PAD
    torch.testing.assert_close(each.sum(1) / there.sum(1), said.scores[:, 0], rtol=1e-4, atol=1e-5)


def test_generation_leaves_the_mode_and_refuses_what_cannot_be(text):
    embeds, mask = signing()
    model = tiny().train()
    model.generate(embeds, mask, max_new_tokens=2)
    assert model.training and model.mbart.model.decoder.training
    said_in_one_line(lambda: text.generate(embeds, mask, beams=2, n_best=3), "3 best of 2 beams")
    said_in_one_line(lambda: text.generate(embeds, mask, max_new_tokens=33), "positions for 32")
    long, whole = torch.zeros(1, 33, 16), torch.ones(1, 33, dtype=torch.bool)
    said_in_one_line(lambda: text(long, whole, torch.ones(1, 2).long()), "33 steps of signing.*positions for 32")


# -- frozen groups


def tensors(model):
    """All of them, tied ones under each of their names."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def step_of(model, outer):
    embeds, mask = signing()
    adapter = outer[1]
    labels = model.tokenizer.labels(SENTENCES).ids
    logits = model(adapter(embeds.nan_to_num()), mask, decoder_inputs(labels))
    F.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    return adapter.weight.grad


def test_what_is_frozen_stays_bit_for_bit():
    model = tiny()
    model.freeze(SPECIFIED)
    outer = torch.nn.ModuleList([model, torch.nn.Linear(16, 16)])
    outer.train()
    body = model.mbart.model
    assert not any(module.training for module in (*body.encoder.modules(), body.shared, body.decoder.embed_positions))
    assert body.decoder.layers[0].training
    before, digest = tensors(model), model.frozen_digest()
    optimiser = torch.optim.AdamW(outer.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(2):
        assert step_of(model, outer).abs().sum() > 0, "gradients pass through what is frozen"
        optimiser.step()
        optimiser.zero_grad()
    changed = {name for name, tensor in tensors(model).items() if not tensor.equal(before[name])}
    kept = {name for name, p in model.mbart.named_parameters() if p.requires_grad}
    assert {name.removeprefix("mbart.") for name in changed} <= kept == set(model.state_dict_to_keep())
    assert changed and all(name.startswith("mbart.model.decoder.") for name in changed)
    assert not any("embed_" in name for name in changed)
    assert model.mbart.lm_head.weight is body.shared.weight is body.decoder.embed_tokens.weight
    assert model.frozen_digest() == digest


def test_freezing_says_which_and_no_others():
    model = tiny()
    everything = set(model.state_dict_to_keep())
    for group in GROUPS:
        model.freeze([group])
        left = everything - set(model.state_dict_to_keep())
        assert (
            left
            and sum(model.mbart.state_dict()[n].numel() for n in left if n != "final_logits_bias")
            == (group_counts(model.mbart)[group])
        )
    model.freeze(())
    assert set(model.state_dict_to_keep()) == everything
    said_in_one_line(lambda: model.freeze(["head"]), "no part 'head'")


def test_another_model_is_refused():
    model, same, other = tiny(), tiny(), tiny(seed=4)
    for each in (model, same, other):
        each.freeze(SPECIFIED)
    same.check_digest(model.frozen_digest())
    said_in_one_line(lambda: other.check_digest(model.frozen_digest()), "frozen weights of the tiny model are not")
    with torch.no_grad():
        same.mbart.final_logits_bias[0, 0] = 1e-3
    assert same.frozen_digest() != model.frozen_digest(), "buffers too"


# -- kept and opened


def test_a_kept_model_is_opened_whole():
    model = tiny()
    model.freeze(SPECIFIED)
    with torch.no_grad():
        for tensor in model.state_dict_to_keep().values():
            tensor.add_(0.1)
    again = opened_model(json.loads(json.dumps(model.plain())))
    again.freeze(SPECIFIED)
    again.check_digest(model.frozen_digest())
    again.load_kept(model.state_dict_to_keep())
    assert again.plain() == model.plain()
    assert all(tensor.equal(again.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_a_draw_is_the_seeds_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    model = tiny()
    assert torch.rand(1).equal(expected), "the caller's generator is left as it was"
    for seed, same in ((3, True), (4, False)):
        weight = tiny(seed=seed).mbart.model.shared.weight
        assert weight.equal(model.mbart.model.shared.weight) == same


def changed_tokenizer(plain, **changes):
    kept = json.loads(plain["tokenizer"])
    kept["model"].update(changes)
    return {**plain, "tokenizer": json.dumps(kept)}


HOSTILE = [
    (lambda p: None, "no text model"),
    (lambda p: {**p, "kind": "other"}, "no text model"),
    (lambda p: {**p, "source": 3}, "source is 3"),
    (lambda p: {**p, "source": "no\nsuch"}, "no language"),
    (lambda p: {**p, "seed": -1}, "seed is -1"),
    (lambda p: {**p, "sizes": {"width": 8}}, "sizes are not"),
    (lambda p: {**p, "sizes": {**p["sizes"], "width": True}}, "width is True"),
    (lambda p: {**p, "sizes": {**p["sizes"], "width": 99_998}}, "no tiny text model"),
    (lambda p: {**p, "sizes": {**p["sizes"], "width": 15}}, "no multiple"),
    (lambda p: {**p, "sizes": {**p["sizes"], "dropout": float("nan")}}, "dropout is nan"),
    (lambda p: {**p, "tokenizer": "x" * (9 << 20)}, "9437184 characters"),
    (lambda p: {**p, "tokenizer": "[" * 100_000}, "not one of ours"),
    (lambda p: {**p, "tokenizer": "{}"}, "not one of ours"),
    (lambda p: {**p, "tokenizer": '{"model": 1}'}, "not one of ours"),
    (lambda p: changed_tokenizer(p, type="Unigram"), "'Unigram'"),
    (lambda p: changed_tokenizer(p, vocab={"a": 0, "b": 7}), "ids are not 0 to 1"),
    (lambda p: changed_tokenizer(p, vocab={"a": 0}, merges=[]), "no mBART's tokenizer"),
    (lambda p: changed_tokenizer(p, vocab={"\ud800": 0}, merges=[]), "cannot be opened"),
    (lambda p: changed_tokenizer(p, merges=[["a"]]), "pairs of texts"),
    (lambda p: changed_tokenizer(p, merges=[["no such", "piece"]]), "cannot be opened"),
    (lambda p: {"kind": "published", **GERMAN, "scale_inputs": False, "name": "../no/such\x00"}, "not whole"),
]


@pytest.mark.parametrize("case", range(len(HOSTILE)))
def test_a_hostile_state_is_one_line(text, case):
    change, match = HOSTILE[case]
    said_in_one_line(lambda: opened_model(change(text.plain())), match)


def test_kept_weights_of_another_shape_are_one_line_and_change_nothing():
    model = tiny()
    kept = {name: tensor.clone() + 1 for name, tensor in model.state_dict_to_keep().items()}
    before, last = tensors(model), list(kept)[-1]
    for state in ({**kept, last: torch.zeros(1, 2, 3)}, {**kept, last: "x"}, {**kept, 5: 1}, {}):
        said_in_one_line(lambda state=state: model.load_kept(state), "kept weight")
    assert all(tensor.equal(before[name]) for name, tensor in tensors(model).items())


# -- published


@pytest.fixture
def folder(text, tmp_path):
    """As transformers writes one."""
    text.mbart.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(text.tokenizer.text(), encoding="utf-8")
    return tmp_path


def test_a_folder_is_opened(text, folder):
    model = opened_model(published_model(str(folder), **GERMAN).plain())
    assert all(tensor.equal(model.state_dict()[name]) for name, tensor in text.state_dict().items())
    assert model.tokenizer.encode(SENTENCES).ids.equal(text.tokenizer.encode(SENTENCES).ids)
    said_in_one_line(lambda: published_model(str(folder), source="fr_XX", target="de_DE"), "'fr_XX'; it has de_DE")


def test_what_is_not_there_is_one_line_that_says_what_to_fetch(folder):
    match = "no config.json, no tokenizer.json, no model.safetensors.*`hf download 'nobody/has-this'`"
    said_in_one_line(lambda: published_model("nobody/has-this", **GERMAN), match)
    (folder / "model.safetensors").rename(folder / "weights")
    said_in_one_line(lambda: published_model(str(folder), **GERMAN), "no model.safetensors; fetch it once")
    (folder / "weights").rename(folder / "pytorch_model.bin")
    said_in_one_line(lambda: published_model(str(folder), **GERMAN), "a pickle alone .*not opened.*save_pretrained")


def test_a_folder_of_something_else_is_one_line(text, folder):
    opened = lambda: published_model(str(folder), **GERMAN)  # noqa: E731
    config = json.loads((folder / "config.json").read_text())
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:1000])
    said_in_one_line(opened, "cannot be opened")
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text(json.dumps({**config, "decoder_layers": 2}))
    said_in_one_line(opened, "lacks [0-9]+ weights")
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "bart"}))
    said_in_one_line(opened, "'bart': an mBART is expected")
    fifty = trained_tokenizer(SENTENCES, source="de_DE", target="af_ZA").text()
    (folder / "tokenizer.json").write_text(fifty, encoding="utf-8")
    said_in_one_line(opened, "an mBART-50")
    (folder / "tokenizer.json").write_text("{")
    said_in_one_line(opened, "is no tokenizer")


def test_the_published_sizes():
    """mbart-large-cc25 on the meta device, where nothing has weights: what is frozen, what trains."""
    import transformers

    config = transformers.MBartConfig(vocab_size=250_027, scale_embedding=True)
    with torch.device("meta"):
        counts = group_counts(transformers.MBartForConditionalGeneration(config))
    width, layers = 1024, 12
    norm = 2 * width
    attention = 4 * (width * width + width)
    feed = 2 * 4 * width * width + 4 * width + width
    expected = {
        "embedding": 250_027 * width,
        "positions": 2 * (1024 + 2) * width,
        "encoder": layers * (attention + feed + 2 * norm) + 2 * norm,
        "decoder": layers * (2 * attention + feed + 3 * norm) + 2 * norm,
    }
    assert counts == expected
    assert sum(counts.values()) == 610_851_840
    assert counts["decoder"] == 201_564_160, "what trains, at the decoder's rate"


# -- missing packages


@pytest.mark.parametrize("package", ["transformers", "tokenizers"])
def test_a_missing_package_is_one_line(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    said_in_one_line(tiny, f"the package {package} .pip install {package}")


def test_it_learns_a_sentence_of_each_clip():
    model = tiny_model(SENTENCES, TinySizes(120, width=32, layers=1, positions=32, dropout=0), **GERMAN)
    model.freeze(SPECIFIED)
    embeds, mask = signing(width=32)
    labels = model.tokenizer.labels(SENTENCES).ids
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        logits = model(embeds, mask, decoder_inputs(labels))
        F.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
        optimiser.step()
    said = model.generate(embeds, mask, max_new_tokens=31)
    assert model.tokenizer.texts(said.ids[:, 0]) == SENTENCES
