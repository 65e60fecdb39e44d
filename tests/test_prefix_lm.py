"""Signs as the prefix of a language model: a ladder of clips learnt by heart, which the signs alone tell apart; prompts
that are the same in training and in inference; numbers of a clip that depend on no company; where the rows begin; what
is said of another model, another tokenizer, a file of somebody else."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity

from helpers import begin_loop, run_steps, slow_but
from prefix_runs import CLIPS, TEXTS, drawn_model, options, published_at, said_step_by_step
from sentences import said_in_one_line
from signstream.models.prefix_lm import PrefixLM, Prompts
from signstream.models.prefix_sources import opened_lm, published_lm
from signstream.models.sign_rows import mapped
from signstream.tasks.prefix_lm.restore import Kept
from signstream.tasks.prefix_lm.task import PrefixTask
from signstream.tasks.prefix_lm.validation import strangers
from signstream.tokens.vocabulary import SPECIALS
from signstream.training.loop import Loop
from token_files import DIM, LEVELS, SIZE, drawn_tokens, vectors

for package in ("transformers", "tokenizers", "sacrebleu"):
    pytest.importorskip(package)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def four(tmp_path_factory) -> list[str]:
    return options(tmp_path_factory.mktemp("four"), list(TEXTS))


@pytest.fixture
def loop(four) -> Loop:
    return begin_loop(four)


@pytest.fixture(scope="module")
def model() -> PrefixLM:
    """Nobody may change it."""
    return drawn_model()


# -- learning


@pytest.mark.parametrize("count", slow_but((1, 4, 16), 1, 4))
def test_clips_are_learnt_by_heart_and_only_their_own_signs_tell_them(tmp_path, count):
    """Word for word, as inference says them; another clip's signs, or none, say something else."""
    places = ("north", "south", "east", "west")
    texts = [*TEXTS, *(f"{text} and {place}" for text in TEXTS[:3] for place in places)][:count]
    loop = begin_loop(options(tmp_path, texts))
    run_steps(loop, loop.total_steps if count < 16 else 2 * loop.total_steps)
    findings = loop.validate(health=True)
    numbers, setup = findings.numbers, loop.task.setup
    assert loop.total_steps <= 120 and numbers["sentence"] < 0.1 and findings.score == pytest.approx(-100)
    setup.model.eval()
    clips = list(loop.val_loader.clips)
    assert setup.said([setup.sequences.rows(clip) for clip in clips]) == texts
    if count == 1:
        assert "shuffled/bleu_4" not in numbers, "there is no other clip"
        return
    for control in ("shuffled", "none"):
        assert numbers[f"{control}/sentence"] > numbers["sentence"] + 1 and numbers[f"{control}/bleu_4"] < 60
    assert "of another" in findings.texts["sentences"] and "another clip's signs" in findings.lines[1]


def test_trained_on_the_signs_of_others_it_learns_nothing_of_them(four):
    """Each step shows a sentence with the signs of a clip that is drawn: which of the four it is, nothing tells."""
    loop = begin_loop(four)
    sequences, rng = loop.task.setup.sequences, torch.Generator().manual_seed(0)
    rows = sequences.rows
    sequences.rows = lambda clip, _=None: rows(int(torch.randint(4, (), generator=rng)))
    run_steps(loop, loop.total_steps)
    sequences.rows = rows
    numbers, units = loop.validate(health=True).numbers, loop.task.setup.units
    a_sentence = sum(len(units.ids(text)) for text in TEXTS) / 4
    assert numbers["sentence"] * a_sentence > 0.9 * math.log(4) and numbers["text/bleu_4"] < 80


# -- prompts


def test_training_reads_what_inference_reads_and_then_the_sentence(model):
    vocabulary, units = model.prompts.vocabulary, model.prompts.units
    for codes, text in zip(CLIPS, TEXTS):
        train, asked = model.prompts.of(codes, text), model.prompts.of(codes)
        ids, prefix = train.input_ids, asked.input_ids
        assert ids == prefix + units.ids(text) and prefix[-1] == vocabulary.special("<SEP>")
        assert train.labels == [-100] * len(prefix) + units.ids(text) and set(asked.labels) == {-100}
        assert torch.equal(vocabulary.decode(prefix[:-1]), codes)
        assert units.text(units.ids(text)) == text and units.ids(text)[-1] == units.end
        assert max(units.ids(text)) < vocabulary.offset <= min(prefix)
    cut = Prompts(vocabulary, units, most=3).of(CLIPS[0], TEXTS[0]).input_ids
    assert cut == [*model.prompts.of(CLIPS[0]).input_ids, *units.ids(TEXTS[0])[:2], units.end]


def test_the_loss_counts_the_sentence_and_its_end_alone(model):
    batch = model.prompts.batch(CLIPS, TEXTS)
    said = [unit for text in TEXTS for unit in model.prompts.units.ids(text)]
    assert batch.targets.tolist() == said
    before = batch.ids.flatten()[batch.places].tolist()
    separator = model.prompts.vocabulary.special("<SEP>")
    assert before.count(separator) == 4 and all(i == separator or i < model.offset for i in before)
    logits = model(batch.ids, batch.places)
    assert logits.shape == (len(said), model.offset), "a sign id cannot be said"


# -- company


def alone(model, i):
    batch = model.prompts.batch([CLIPS[i]], [TEXTS[i]])
    return model(batch.ids, batch.places)


def test_a_clip_alone_is_the_clip_in_a_batch(model):
    """Its numbers, whatever ids stand in the padding; and what is said of it."""
    batch = model.prompts.batch(CLIPS, TEXTS)
    padding = torch.arange(batch.ids.shape[1]) >= batch.lengths[:, None]
    assert padding.any()
    for fill in (0, 7, model.offset + 40):
        logits = model(batch.ids.masked_fill(padding, fill), batch.places)
        torch.testing.assert_close(logits, torch.cat([alone(model, i) for i in range(4)]), atol=1e-5, rtol=1e-5)
    assert model.prompts.batch([], []).ids.shape == (0, 0), "of no clip"
    asked = model.prompts.batch(CLIPS)
    together = model.generate(asked.ids, asked.lengths, most=20)
    singly = [model.prompts.batch([codes]) for codes in CLIPS]
    assert together == [model.generate(one.ids, one.lengths, most=20)[0] for one in singly]
    assert len({tuple(row) for row in together}) == 4, "the clips say different things"


def test_what_is_said_unit_by_unit_is_what_the_whole_prompt_says(model):
    """Greedily, without a cache."""
    for codes in CLIPS:
        asked = model.prompts.batch([codes])
        assert model.generate(asked.ids, asked.lengths, most=12) == [said_step_by_step(model, codes, 12)]


# -- where it begins


def test_rows_begin_as_the_vectors_at_the_spread_of_the_text(loop):
    """Codes that lie near each other begin near each other; fresh ones do not."""
    model = loop.task.model
    text = model.lm.get_input_embeddings().weight.detach()
    assert float(text.std()) == pytest.approx(32**-0.5, rel=0.1), "one over the root of the width"
    made = vectors()
    made.table[0, 0, 1] = made.table[0, 0, 0] + 0.01
    rows = mapped(made, 256, torch.Generator().manual_seed(0))
    assert rows.shape == (SIZE * sum(LEVELS), 256)
    for book in rows.split(SIZE):
        assert float(book.std()) == pytest.approx(1, abs=0.15)
    assert cosine_similarity(rows[0], rows[1], 0) > 0.99 and abs(cosine_similarity(rows[0], rows[2], 0)) < 0.9
    every = torch.arange(len(model.signs.book))
    seen = model.signs(every).detach()
    assert float(seen.std()) == pytest.approx(float(text.std()), rel=0.15)
    assert model.signs.book.tolist() == [0] * len(SPECIALS) + [1] * SIZE + [2] * SIZE + [3] * SIZE


def test_fresh_rows_know_nothing_of_the_vectors(four):
    one, other = (begin_loop([*four, f"model.signs={signs}"]).task.model for signs in ("vectors", "fresh"))
    codes = len(SPECIALS)
    begun, fresh = one.signs.rows.weight.detach(), other.signs.rows.weight.detach()
    assert torch.equal(begun[:codes], fresh[:codes]) and not torch.equal(begun[codes:], fresh[codes:])
    assert int(torch.linalg.matrix_rank(begun[codes : codes + SIZE])) == DIM
    assert int(torch.linalg.matrix_rank(fresh[codes : codes + SIZE])) == SIZE


def test_a_stranger_says_something_else():
    assert strangers([3, 5, 8], ["a", "a", "b"]) == {3: 8, 5: 8, 8: 3}
    assert strangers([1, 2], ["a", "a"]) == {} and strangers([], []) == {}


# -- others' files


@pytest.fixture(scope="module")
def published(tmp_path_factory, model) -> Path:
    return published_at(tmp_path_factory.mktemp("published"), model)


def test_a_published_model_is_read_from_its_folder(published, model):
    lm = opened_lm(published_lm(str(published)).origin)
    again = PrefixLM(lm, model.prompts.vocabulary, vectors=vectors()).eval()
    again.signs.load_state_dict(model.signs.state_dict())
    batch = Prompts(model.prompts.vocabulary, lm.units).batch(CLIPS, TEXTS)
    assert torch.equal(batch.ids, model.prompts.batch(CLIPS, TEXTS).ids)
    torch.testing.assert_close(again(batch.ids, batch.places), model(batch.ids, batch.places))
    assert lm.units.text([*lm.units.ids(TEXTS[0]), 9]) == TEXTS[0] and len(lm.units.ids(TEXTS[0], 3)) == 3


def test_what_is_no_such_model_is_one_line(published, tmp_path):
    said_in_one_line(lambda: published_lm("nobody/has-this"), "the language model 'nobody/has-this' is not whole")
    config = json.loads((published / "config.json").read_text(encoding="utf-8"))
    for change, told in (
        ({"eos_token_id": None}, "does not say in config.json how a text ends"),
        ({"model_type": "mbart", "architectures": []}, "is 'mbart': a causal language model of the kinds qwen2"),
    ):
        for file in published.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        (tmp_path / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
        said_in_one_line(lambda: published_lm(str(tmp_path)), told)


def test_a_name_is_opened_where_it_lies_and_adapters_beside_it_are_refused(published, tmp_path, monkeypatch):
    """Where peft is, transformers would ask for a name's adapters elsewhere, and read those that lie there."""

    def file_of(name: str, file: str, _kind: object) -> str | None:
        path = (published if name == "some/model" else Path(name)) / file
        return str(path) if path.exists() else None

    monkeypatch.setattr("signstream.published._file_of", file_of)
    assert published_lm("some/model").origin == {"kind": "published", "name": "some/model"}
    for file in published.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    said_in_one_line(lambda: published_lm(str(tmp_path)), "has adapters beside its weights")


@pytest.mark.parametrize("package", ["transformers", "tokenizers"])
def test_a_missing_package_is_one_line(four, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    said_in_one_line(lambda: begin_loop(four), f"models need the package {package} ")


def test_a_model_without_room_is_one_line_and_clips_without_room_are_left_out(four):
    said_in_one_line(lambda: begin_loop([*four, "model.tiny.positions=60"]), "has 60 positions: no chunk of 3 codes")
    setup = begin_loop([*four, "model.tiny.positions=85"]).task.setup
    assert [line.name for line in setup.sequences.skipped if line.split == "train"] == ["clip2", "clip3"]


def test_a_run_goes_on_with_its_own_tokenizer_and_language_model_alone(loop, four):
    state = loop.task.state_dict()
    loop.task.load_state_dict(state)
    others = [option for option in four if not option.startswith("data.tokens")]
    told = begin_loop([*others, f"data.tokens={drawn_tokens(others, 'two')}"]).task
    said_in_one_line(lambda: told.load_state_dict(state), "tokens of the tokenizer 'one', and data.tokens has two's")
    named = {**state, "lm": {"kind": "published", "name": "another"}}
    said_in_one_line(lambda: loop.task.load_state_dict(named), "with the language model 'another', and model.lm is")
    said_in_one_line(lambda: loop.task.load_state_dict({**state, "codebook_size": 8}), "other sentences or codes")


def test_a_checkpoint_of_somebody_is_one_line_or_the_run(loop):
    config, state = loop.config, loop.state_dict()
    PrefixTask.check_state(config, state)
    task = state["task"]
    for change, told in (
        ({"parts": "F"}, "of which parts and levels"),
        ({"levels": [1]}, "levels are"),
        ({"codebook_size": 1 << 23}, "far larger than its"),
        ({"tokenizer": None}, "whose codes it reads"),
        ({"lm": {"kind": "mine"}}, "no language model that this version knows"),
        ({"lm": {**task["lm"], "seed": -1}}, "seed is -1"),
        ({"lm": {**task["lm"], "sizes": {"width": 1 << 16, "layers": 90}}}, "are no tiny model"),
        ({"lm": {**task["lm"], "tokenizer": "{}"}}, "not one of ours"),
    ):
        odd = {**state, "task": {**task, **change}}
        said_in_one_line(lambda odd=odd: PrefixTask.check_state(config, odd), told)
    said_in_one_line(lambda: Kept.of(None), "nothing of a task")
