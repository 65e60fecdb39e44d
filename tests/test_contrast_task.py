"""The contrast as a task: a step is one whatever its pieces, what is frozen stays, eight clips by heart, the encoder
that is handed on."""

import copy
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from clips import moving_clip
from data_sets import note, signer_root, write_csl
from helpers import assert_same, begin_loop, case_options, in_double, run_steps
from processes import life, on_ranks
from sentences import said_in_one_line
from signstream.config import from_dict
from signstream.models.contrast import contrast, similarity
from signstream.models.metrics.retrieval import retrieval
from signstream.models.sign_encoder import KeptEncoder, sign_encoder
from signstream.tasks.contrast.restore import restore
from signstream.training import checkpoint
from signstream.training.bounds import take_weights
from signstream.training.distributed import Ranks
from signstream.training.loop import auto_batch
from signstream.training.run_folder import best_of

KINDS = [(match, positives) for match in ("pooled", "tokens") for positives in ("sentence", "clip")]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """32 clips to train on, among them several of a sentence; the first eight of them to validate with."""
    return signer_root(tmp_path_factory.mktemp("signer"), 48, {"train": (0, 32), "val": (0, 8)}, frames=40)


def options(root: Path, *more: str, plain: bool = True) -> list[str]:
    return case_options(root, "contrast", "train.clips_per_step=32", *more, plain=plain)


# -- a step


def gradients_of_a_step(options: list[str], ranks: Ranks) -> dict:
    """Its loss, and its gradient over ranks, before the optimiser."""
    loop = begin_loop(options, ranks)
    task, progress = loop.task, loop.progress
    in_double(task.model)
    task.model.train()
    batches = [task.prepare(small, progress, True) for small in task.split(next(iter(loop.loader)), loop.micro)]
    task.before_step(batches, progress)
    counts = ranks.sum_(torch.stack([task.counts(batch) for batch in batches]).sum(0))
    totals, _ = loop.forward_backward(batches, counts, progress)
    gradients = {name: ranks.sum_(p.grad) for name, p in task.model.named_parameters() if p.requires_grad}
    assert not task.losses.given, "all that was given was taken"
    return {"loss": (ranks.sum_(totals) / counts).item(), "sizes": [len(b) for b in batches], **gradients}


def assert_same_step(one: dict, other: dict) -> None:
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    for name in other.keys() - {"loss", "sizes"}:
        scale = other[name].abs().max().clamp(min=1e-3)
        torch.testing.assert_close(one[name] / scale, other[name] / scale, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize(("match", "positives"), KINDS)
def test_a_step_at_once_in_pieces_and_on_two_ranks_is_one_step(root, tmp_path, match, positives):
    few = ("train.scale_with_world=false", f"model.match={match}", f"loss.positives={positives}")
    whole = gradients_of_a_step(options(root, *few, "train.batch_size=32"), Ranks())
    pieces = gradients_of_a_step(options(root, *few, "train.batch_size=8"), Ranks())
    assert (whole["sizes"], pieces["sizes"]) == ([32], [8] * 4)
    assert_same_step(pieces, whole)
    for size, sizes in ((16, [16]), (8, [8, 8])):
        work = partial(gradients_of_a_step, options(root, *few, f"train.batch_size={size}"))
        for rank in on_ranks(2, work, tmp_path / str(size)):
            assert rank["sizes"] == sizes
            assert_same_step(rank, whole)


@pytest.mark.parametrize(("match", "positives"), KINDS)
def test_the_loss_is_that_of_the_formula(root, match, positives):
    """In float64, of the embeddings as they are; and so is the gradient."""
    loop = begin_loop(options(root, f"model.match={match}", f"loss.positives={positives}"))
    task, progress = loop.task, loop.progress
    batch = task.prepare(next(iter(loop.loader)), progress, False)
    task.before_step([batch], progress)
    task.loss(batch, progress).totals.sum().backward()
    gradients = {name: p.grad for name, p in task.model.named_parameters() if p.grad is not None}
    task.model.zero_grad(set_to_none=True)
    pair = task.setup.embedded(batch)
    found = similarity(*(side._replace(vectors=side.vectors.double()) for side in pair))
    texts = [task.setup.sequences.examples[clip].text for clip in batch.signs.index]
    assert len(set(texts)) < len(texts), "no sentence comes twice"
    same = torch.tensor(
        [[a == b if positives == "sentence" else i == j for j, b in enumerate(texts)] for i, a in enumerate(texts)]
    )
    wanted = contrast(found, task.model.scale().double(), same).sum()
    wanted.backward()
    assert task.loss(batch, progress).totals.item() == pytest.approx(wanted.item(), rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, dict(task.model.named_parameters())[name].grad, rtol=1e-3, atol=1e-4)


def test_what_is_dropped_is_dropped_again(root):
    """With dropout, the second time that a micro-batch is embedded is the first."""
    loop = begin_loop(options(root, "train.batch_size=8", "model.encoder.dropout=0.3", plain=False))
    task, progress = loop.task, loop.progress
    batches = [task.prepare(small, progress, True) for small in task.split(next(iter(loop.loader)), 8)]
    task.model.train()
    assert_same(*(tuple(task.setup.embedded(batches[0]).signing) for _ in range(2)))


def test_a_last_step_of_one_clip_and_one_without_are_no_trouble(tmp_path):
    data = signer_root(tmp_path, 24, {"train": (0, 5), "val": (5, 8)}, frames=30)
    loop = begin_loop(options(data, "train.clips_per_step=2"))
    raw = next(iter(loop.loader))
    assert len(run_steps(loop, 5)) == 5
    task = loop.task
    for clips in (1, 0):
        batch = task.prepare(raw.part(0, clips, 1), loop.progress, True)
        task.before_step([batch], loop.progress)
        totals = task.loss(batch, loop.progress).totals
        totals.sum().backward()
        assert totals.item() == 0 and task.counts(batch).item() == clips


def test_a_batch_that_no_step_was_told_of_is_its_own(root):
    """As batch_size auto tries them."""
    loop = begin_loop(options(root))
    task, raw = loop.task, next(iter(loop.loader))
    batch = task.prepare(raw, loop.progress, False)
    alone = task.loss(batch, loop.progress).totals
    task.before_step([batch], loop.progress)
    assert torch.equal(task.loss(batch, loop.progress).totals, alone)
    assert auto_batch(task, loop.config, Ranks()) == 32


# -- what stays, what is learnt


@pytest.mark.parametrize("match", ["pooled", "tokens"])
def test_the_text_model_is_bit_for_bit_what_it_was(root, match):
    loop = begin_loop(options(root, "train.batch_size=16", f"model.match={match}", plain=False))
    text = loop.task.model.text
    before = copy.deepcopy({**dict(text.named_parameters()), **dict(text.named_buffers())})
    digest = text.frozen_digest()
    run_steps(loop, 3)
    loop.validate(health=True)
    after = {**dict(text.named_parameters()), **dict(text.named_buffers())}
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert text.frozen_digest() == digest == loop.state_dict()["task"]["text_digest"]
    assert all(p.grad is None for p in text.parameters())
    assert not any(module.training for module in text.mbart.model.encoder.modules())


@pytest.mark.parametrize("match", ["pooled", "tokens"])
def test_eight_clips_find_their_sentences_and_back(tmp_path, match):
    data = signer_root(tmp_path, 24, {"train": (0, 8), "val": (0, 8)}, frames=60)
    more = ("train.epochs=60", "train.lr=5e-3", "train.clips_per_step=8", "train.sample_clips=5")
    loop = begin_loop(options(data, *more, f"model.match={match}"))
    before = loop.validate(health=True).numbers
    run_steps(loop, loop.total_steps)
    findings = loop.validate(health=True)
    ways = [f"retrieval/{way}/recall_1" for way in ("sign_to_text", "text_to_sign")]
    assert [findings.numbers[way] for way in ways] == [1, 1] and findings.score == -1
    assert min(before[way] for way in ways) < 1 and findings.numbers["loss"] < before["loss"] / 4
    assert findings.lines[0].startswith("validation R@1 100.0 / 100.0 % (chance ")
    for sample in findings.texts["sentences"].split("\n\n"):
        _, signed, nearest = sample.splitlines()
        assert signed.split()[1:] == nearest.split()[1:]


def test_validation_by_words_is_retrieval_where_there_is_one_of_each(root, monkeypatch):
    """Pooled, through similarities in pieces, it is to the last bit what the metric says of the vectors; a model that
    gives everything the same vector gets chance."""
    from signstream.tasks.contrast import validation

    monkeypatch.setattr(validation, "ROWS", 3)
    loop = begin_loop(options(root))
    setup = loop.task.setup
    numbers = loop.validate(health=True).numbers
    batch = setup.batch(setup.sequences.read(list(loop.val_loader.clips), 0), train=False)
    loop.task.model.eval()
    signing, text = (side.vectors[:, 0] for side in setup.embedded(batch))
    wanted = retrieval(signing, text, batch.sentence)
    assert {name: numbers[name] for name in wanted} == pytest.approx(wanted)
    for match in ("pooled", "tokens"):
        same = begin_loop(options(root, f"model.match={match}"))
        with torch.no_grad():
            for head in (same.task.model.heads.signing, same.task.model.heads.text):
                head.weight.zero_()
                head.bias.fill_(0.3)
        numbers = same.validate(health=True).numbers
        for way in ("sign_to_text", "text_to_sign"):
            for name in ("recall_1", "recall_5", "median_rank"):
                assert numbers[f"retrieval/{way}/{name}"] == pytest.approx(numbers[f"retrieval/chance/{name}"])


def test_the_score_is_minus_the_mean_of_six(root):
    loop = begin_loop(options(root))
    findings = loop.validate(health=True)
    names = [f"retrieval/{way}/recall_{k}" for way in ("sign_to_text", "text_to_sign") for k in (1, 5, 10)]
    assert findings.score == pytest.approx(-sum(findings.numbers[name] for name in names) / 6)
    assert findings.numbers["temperature"] == pytest.approx(0.07)


# -- what is handed on


@pytest.fixture(scope="module")
def run(root, tmp_path_factory) -> Path:
    """A run of two epochs, in its folder."""
    place = tmp_path_factory.mktemp("runs")
    assert life([*options(root, "train.epochs=2", "train.clips_per_step=8"), f"save_path={place}"]) == 0
    return next((place / "default").iterdir())


@pytest.mark.parametrize("name", ["vlp_best_encoder.pt", "best.pt", ""])
def test_the_encoder_of_a_run_is_loaded_into_a_new_one(run, name):
    state = checkpoint.load(best_of(run / name))
    kept = KeptEncoder.from_state(state)
    config = checkpoint.config_of(state)
    encoder = sign_encoder(config.model.encoder, kept.reads, seed=99)
    take_weights(encoder, kept.weights, "encoder")
    best = checkpoint.load(run / "best.pt")["model"]
    assert kept.reads.source == "keypoints" and kept.reads.shape == (133,)
    own = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    assert own and all(torch.equal(value, best[name]) for name, value in own.items())


def test_beside_best_lies_the_encoder_alone(run):
    state = checkpoint.load(run / "vlp_best_encoder.pt")
    assert all(name.startswith("encoder.") for name in state["model"]) and set(state["task"]) == {"reads"}
    assert not any(name.startswith("text.") for name in checkpoint.load(run / "best.pt")["model"])


@pytest.fixture(scope="module")
def saved(root) -> dict:
    loop = begin_loop(options(root))
    run_steps(loop, 1)
    return copy.deepcopy(loop.state_dict())


def with_task(state: dict, **changed: object) -> dict:
    return {**state, "task": {**state["task"], **changed}}


def with_model(state: dict, **changed: object) -> dict:
    return {**state, "model": {**state["model"], **{name.replace("__", "."): value for name, value in changed.items()}}}


HOSTILE = {
    "no task": (lambda state: {**state, "task": None}, "has no encoder of signing"),
    "no model": (lambda state: {**state, "model": 3}, 'no "model" of tensors'),
    "no encoder": (lambda state: {**state, "model": {"a": torch.zeros(1)}}, "has no encoder of signing"),
    "reads nothing": (lambda state: with_task(state, reads=3), "does not say what it reads"),
    "reads what is not known": (lambda state: with_task(state, reads={"source": []}), "does not say what it reads"),
    "a huge shape": (
        lambda state: with_task(state, reads={**state["task"]["reads"], "shape": [1 << 24]}),
        "far larger than its",
    ),
    "no text model": (lambda state: with_task(state, text=None), "which text model"),
    "no digest": (lambda state: with_task(state, text_digest=7), "which text model"),
    "no head": (lambda state: with_model(state, heads__text__weight=torch.zeros(3)), "no matrix heads.text.weight"),
    "another head": (lambda state: with_model(state, heads__signing__weight=torch.zeros(3, 3)), "heads.signing.weight"),
    "no number": (lambda state: with_model(state, heads__log_scale=torch.tensor(float("nan"))), "are not finite"),
    "one too many": (lambda state: with_model(state, more=torch.zeros(1)), "more is in one and not in the other"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_checkpoint_that_is_none_is_one_line(saved, name):
    spoil, says = HOSTILE[name]
    config = from_dict(saved["config"])
    assert restore(config, saved).digest == saved["task"]["text_digest"]
    said_in_one_line(lambda: restore(config, spoil(saved)), says.replace('"', "."))


def test_a_config_that_asks_for_the_moon_is_one_line(saved):
    config = {**saved["config"], "model": {**saved["config"]["model"], "embedding": 1 << 28}}
    said_in_one_line(lambda: restore(from_dict(config), saved), "far larger than its")


def test_a_run_goes_on_only_with_its_text_model(root, saved):
    loop = begin_loop(options(root))
    text = {**saved["task"]["text"], "seed": 5}
    said_in_one_line(lambda: loop.task.load_state_dict({**saved["task"], "text": text}), "another text model")
    odd = {**saved["task"], "text_digest": "0" * 16}
    said_in_one_line(lambda: loop.task.load_state_dict(odd), "frozen weights of the tiny model are not those")
    loop.load_state_dict(copy.deepcopy(saved))


# -- what the data are


def test_sentences_are_said_once_and_long_ones_are_cut_and_counted(tmp_path):
    clips = {f"clip{i}": moving_clip(30, i) for i in range(4)}
    texts = ["a b", "a  b ", "b a b a b a b", " "]
    notes = {name: note(clip, text=text) for (name, clip), text in zip(clips.items(), texts)}
    data = write_csl(tmp_path / "data", clips, {"train": list(clips), "val": list(clips)[:1]}, notes)
    loop = begin_loop(options(data, "data.max_tokens=4"))
    sentences = loop.task.setup.sentences
    assert sentences.texts == ["a b", "b a b a b a b"] and sentences.numbers([0, 1, 2]).tolist() == [0, 0, 1]
    said = loop.task.describe()
    assert said[1] == "sentences: 2 different ones; 1 have more units than data.max_tokens 4, and are cut"
    assert [line["reason"] for line in loop.task.skipped()] == ["no sentence"]
    run_steps(loop, 1)


def test_what_a_sentence_says_depends_neither_on_its_company_nor_on_what_is_kept(root):
    sentences = begin_loop(options(root, "model.match=tokens")).task.setup.sentences
    sentences.kept.clear()
    alone, sentences.room = sentences.read([3]).vectors[0], 0
    together = sentences.read([0, 1, 2, 3, 4]).vectors[3]
    assert list(sentences.kept) == sentences.numbers([3]).tolist(), "there was no room for more"
    assert torch.equal(together[: len(alone)], alone) and not together[len(alone) :].any()


@pytest.mark.parametrize("package", ["transformers", "tokenizers"])
def test_without_an_optional_package_it_is_one_line(root, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    said_in_one_line(lambda: begin_loop(options(root)), f"text models need .*{package}")
