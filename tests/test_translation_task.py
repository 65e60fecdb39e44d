"""Translation as a task: eight clips by heart from whatever is read, scores as sacrebleu has them, what a loss is made
of, two rates, what is left out and what is said before training begins."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from helpers import begin_loop, case_options, run_steps, slow_but
from sentence_clips import FEATURES, LEARNT, TEXT_SOURCES, eight, root_of, write_features
from sentences import said_in_one_line
from signstream.config import load_config
from signstream.data.sentences import sentence_batch
from signstream.io.batch import StreamBatch
from signstream.models.text_model import decoder_inputs
from signstream.models.text_tokenizer import IGNORED
from signstream.tasks.translation.losses import Losses
from signstream.tasks.translation.setup import Setup
from signstream.training.distributed import Ranks
from signstream.training.loop import Loop

sacrebleu = pytest.importorskip("sacrebleu")
for package in ("transformers", "tokenizers"):
    pytest.importorskip(package)

pytestmark = pytest.mark.usefixtures("one_thread")


def options(folder: Path, texts: Mapping[str, str], *more: str, **about) -> list[str]:
    """Of clips with these sentences; `about`: as root_of takes it."""
    root = root_of(folder, texts, **about)
    plain = [option for option in LEARNT if "epochs" not in option and "heart" not in option]
    return case_options(root, "translation", *plain, *more, plain=True)


@pytest.fixture(scope="module")
def heart(tmp_path_factory) -> list[str]:
    """Options of eight clips, as keypoints."""
    return eight("keypoints", tmp_path_factory.mktemp("heart"))


@pytest.fixture
def loop(heart) -> Loop:
    return begin_loop(heart)


def batch_of(loop: Loop):
    """All of training."""
    setup = loop.task.setup
    return setup.batch(setup.sequences.read(list(loop.loader.clips), 0), train=False)


FROZEN = "model.freeze=[embedding, positions, encoder]"

# -- learning, scores


@pytest.mark.parametrize("source", slow_but(TEXT_SOURCES, "keypoints"))
def test_eight_clips_are_learnt_to_the_last_word(source, tmp_path):
    loop = begin_loop(eight(source, tmp_path, *(("train.epochs=110",) if source == "keypoints" else ())))
    before = loop.validate(health=True).numbers["text/bleu_4"]
    run_steps(loop, loop.total_steps)
    findings = loop.validate(health=True)
    assert before < 10 and findings.numbers["text/bleu_4"] > 90 and findings.score == -findings.numbers["text/bleu_4"]


def references(options: list[str]) -> dict[str, str]:
    root = Path(load_config(None, options).data.root)
    notes = json.loads((root / "annotations.json").read_text(encoding="utf-8"))
    return {name: about["text"] for name, about in notes.items()}


@pytest.mark.parametrize(("most", "steps"), [(64, 14), (5, 20)])
def test_scores_are_sacrebleus_own_of_whole_sentences(heart, most, steps):
    """However few of their units are trained on, and however clips fall into batches."""
    loop = begin_loop([*heart, f"data.max_tokens={most}", "train.sample_clips=8"])
    run_steps(loop, steps)
    loop.val_loader.sampler.batch_size = 3
    findings = loop.validate(health=False)
    told = re.findall(r"(\w+)\n  meant       (.*)\n  translated  (.*)(?:\n\n|$)", findings.texts["sentences"])
    meant = {name: reference for name, reference, _ in told}
    assert meant == references(heart) and len(told) == 8
    said = [sentence for _, _, sentence in told]
    bleu = sacrebleu.corpus_bleu(said, [list(meant.values())], force=True).score
    assert 0 < bleu < 99 and findings.numbers["text/bleu_4"] == pytest.approx(bleu, rel=1e-9)
    chrf = sacrebleu.corpus_chrf(said, [list(meant.values())]).score
    assert findings.numbers["text/chrf"] == pytest.approx(chrf, rel=1e-9)
    assert findings.lines[0].startswith(f"validation BLEU-4 {bleu:.2f}, ") and "tok:13a" in findings.lines[1]
    cut = "8 training sentences have more than data.max_tokens 5 and are cut in training"
    assert (cut in loop.task.describe()) == (most == 5)
    labels = batch_of(loop).labels
    assert labels.shape[1] == 5 if most == 5 else labels.shape[1] > 5


def test_lower_case_counts_in_references_too(tmp_path):
    loop = begin_loop(eight("keypoints", tmp_path, "data.lower=true", "train.sample_clips=8"))
    shown = loop.validate(health=False).texts["sentences"]
    assert "zuerst" in shown and "Zuerst" not in shown and "norden" in shown


# -- the loss


def by_hand(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> float:
    """The smoothed cross entropy in float64, unit after unit."""
    total = 0.0
    for row, label in zip(logits.detach().double().flatten(0, 1), labels.flatten().tolist()):
        if label != IGNORED:
            wanted = torch.full_like(row, smoothing / len(row))
            wanted[label] += 1 - smoothing
            total -= float((wanted * (row - row.exp().sum().log())).sum())
    return total


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_is_the_smoothed_one_of_units_alone(heart, smoothing):
    """In training; in validation it is plain."""
    loop = begin_loop([*heart, f"loss.smoothing={smoothing}"])
    batch = batch_of(loop)
    said = loop.task.model.eval()(batch.clips.streams, batch.clips.lengths, decoder_inputs(batch.labels))
    totals = loop.task.loss(batch, loop.progress).totals.detach()
    assert float(totals) == pytest.approx(by_hand(said.logits, batch.labels, smoothing), rel=1e-5)
    units = int((batch.labels != IGNORED).sum())
    assert units == batch.units == float(loop.task.counts(batch)) and units < batch.labels.numel()
    plain = by_hand(said.logits, batch.labels, 0) / units
    findings = loop.validate(health=False)
    assert findings.numbers["sentence"] == pytest.approx(plain, rel=1e-5)
    assert findings.numbers["loss"] == pytest.approx(plain, rel=1e-5)


def test_padding_of_labels_adds_nothing(loop):
    batch = batch_of(loop)
    logits = torch.randn(8, batch.labels.shape[1] + 5, 50, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(50, (8, 7), generator=torch.Generator().manual_seed(1))
    wide = torch.nn.functional.pad(labels, (0, logits.shape[1] - 7), value=IGNORED)
    losses = Losses(loop.config.loss)

    def total(labels: torch.Tensor) -> torch.Tensor:
        said = type("Said", (), {"logits": logits[:, : labels.shape[1]], "glosses": None})
        return losses.totals(said, type("Batch", (), {"labels": labels}), smoothing=0.2)

    torch.testing.assert_close(total(wide), total(labels))


def test_a_steps_loss_is_its_sum_over_its_units(loop):
    """Whatever is padded with what: all clips together, or each alone."""
    task, (raw,) = loop.task, list(loop.loader)
    whole = task.setup.batch(raw, train=False)
    alone = [task.setup.batch(small, train=False) for small in task.split(raw, 1)]
    together = task.loss(whole, loop.progress).totals.detach()
    torch.testing.assert_close(together, sum(task.loss(batch, loop.progress).totals for batch in alone))
    assert torch.equal(task.counts(whole), sum(map(task.counts, alone))) and len(alone) == 8
    run_steps(loop, 1)
    assert loop.watch.recent[-1] == pytest.approx(float(together) / whole.units, rel=1e-5)


def test_a_rank_without_a_clip_adds_nothing(loop):
    (raw,) = list(loop.loader)
    empty = loop.task.setup.batch(raw.part(0, 0, 1), train=True)
    totals = loop.task.loss(empty, loop.progress).totals
    totals.sum().backward()
    assert len(empty) == 0 and not totals.any() and not loop.task.counts(empty).any()


def test_what_the_text_model_drops_is_the_batchs_own(heart):
    """The same batch twice is the same, another draw another; the encoder drops nothing here."""
    loop = begin_loop([*heart, "model.tiny.dropout=0.3"])
    task, (raw,) = loop.task, list(loop.loader)
    assert all(module.training for module in task.model.modules()), "as auto_batch tries it"

    def total(raw: StreamBatch) -> float:
        torch.rand(3)  # somebody else draws too
        return float(task.loss(task.setup.batch(raw, train=False), loop.progress).totals.detach())

    one, same, other = total(raw), total(raw), total(raw.part(0, 8, raw.seed + 1))
    task.model.eval()
    assert one == same != other and total(raw) not in (one, other)


# -- rates


def test_two_rates_and_what_decays(heart):
    """The specification's: encoder and adapter at 1e-4, the text model at 5e-6; norms, biases and embeddings do not
    decay, and what is frozen is in no group."""
    made = [*(option for option in heart if "lr=" not in option and "freeze" not in option), FROZEN]
    rates = ("train.wd=0.05", "loss.ctc=0.1", "data.clean=none")
    loop = begin_loop([*made, *rates, "train.lr=1e-4", "train.text_lr=5e-6"])
    model, groups = loop.task.model, loop.task.groups()
    names = {id(p): name for name, p in model.named_parameters()}
    members = [names[id(p)] for group in groups for p in group.parameters]
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(members) == len(set(members)) and set(members) == trained < set(names.values())
    lr = {names[id(p)]: 1e-4 * group.rate for group in groups for p in group.parameters}
    assert all(lr[name] == pytest.approx(5e-6 if name.startswith("text.") else 1e-4) for name in lr)
    assert {name.split(".")[0] for name in lr} == {"encoder", "adapter", "glosses", "text"}
    assert not any("shared" in name or "embed_" in name or "mbart.model.encoder" in name for name in lr)
    decayed = {names[id(p)] for group in groups if group.decay for p in group.parameters}
    plain = {name for name in lr if name.endswith("bias") or "norm" in name}
    assert not decayed & plain and decayed | plain == trained
    held = sorted((round(group["share"], 9), group["weight_decay"]) for group in loop.optimizer.param_groups)
    assert held == [(0.05, 0.0), (0.05, 0.05), (1.0, 0.0), (1.0, 0.05)]
    defaults = load_config(None, ["task=translation", "data.root=x"]).train
    assert (defaults.lr, defaults.text_lr, defaults.wd, defaults.warmup_steps) == (1e-4, 5e-6, 0.05, 2400)


def test_what_trains_moves_and_no_more(heart):
    loop = begin_loop([*(option for option in heart if "freeze" not in option), FROZEN])
    model = loop.task.model
    everything = dict((*model.named_parameters(), *model.named_buffers()))
    before = {name: tensor.detach().clone() for name, tensor in everything.items()}
    run_steps(loop, 5)
    moved = {name for name, tensor in everything.items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(name in loop.state_dict()["model"] for name in before.keys() - moved if name.startswith("text."))


# -- the auxiliary CTC


def test_which_glosses_ctc_learns(tmp_path):
    """None of a clip that has an unknown one, an odd one, or fewer steps than they need; its sentence counts."""
    glosses = {"a": "X Y", "b": "Y Z", "short": "X Y Z X", "twice": "X X Y", "mute": "", "odd": "X\x1b Y", "val": "X W"}
    frames = {"a": 12, "b": 13, "short": 3, "twice": 3, "mute": 12, "odd": 12, "val": 12}
    splits = {"train": list(glosses)[:-1], "val": ["val", "a"]}
    notes = {name: {"gloss": gloss} for name, gloss in glosses.items()}
    texts = {name: f"Satz {name}" for name in glosses}
    made = options(tmp_path, texts, "loss.ctc=0.5", frames=frames.values(), splits=splits, **notes)
    loop = begin_loop(made)
    setup = loop.task.setup
    assert setup.glosses.names == ("X", "Y", "Z") and not loop.task.skipped()
    clips = list(loop.loader.clips)
    batch = setup.batch(setup.sequences.read(clips, 0), train=False)
    assert batch.glosses == (2, 2, 0, 0, 0, 0) and batch.targets.tolist() == [1, 2, 2, 3]
    (val,) = (setup.batch(raw, train=False) for raw in loop.val_loader)
    assert val.glosses == (0, 2) and val.targets.tolist() == [1, 2]
    counts = loop.task.counts(batch)
    assert counts[:, 0].tolist() == [batch.units, 4] and loop.task.terms.names == ("sentence", "ctc")
    losses = run_steps(loop, 3)
    findings = loop.validate(health=False)
    assert all(loss < 100 for loss in losses) and findings.numbers["ctc"] > 0
    with torch.no_grad():
        said = loop.task.model.eval()(batch.clips.streams, batch.clips.lengths, decoder_inputs(batch.labels))
    costs = torch.nn.functional.ctc_loss(
        said.glosses[:2].transpose(0, 1), batch.targets, batch.steps[:2], torch.tensor([2, 2]), reduction="sum"
    )
    assert float(setup.losses.totals(said, batch, smoothing=0)[1]) == pytest.approx(float(costs), rel=1e-5)
    assert type(setup.glosses).from_state(loop.state_dict()["task"]["glosses"]) == setup.glosses


# -- said before training begins


def test_what_could_not_end_well_is_said_at_once(tmp_path):
    """Not after an epoch."""
    texts = {"a": "Ein Satz", "b": "Noch ein Satz"}
    made = options(tmp_path, texts, splits={"train": ["a"], "val": ["b"]}, a={"gloss": ""})
    faults = {
        "the language is 'fr_XX': translations are scored in": ("model.target_language=fr_XX",),
        "decode.max_tokens is 65: the text model has positions for 64": ("decode.max_tokens=65",),
        "data.max_tokens is 66: the text model has positions for 64": ("data.max_tokens=66",),
        "no clip of the training split has glosses: set loss.ctc=0": ("loss.ctc=0.1",),
    }
    for says, more in faults.items():
        options_now = [*made, "model.tiny.positions=64", *more]
        said_in_one_line(lambda given=options_now: begin_loop(given), says)
    few = [
        *made,
        "model.tiny.positions=16",
        "data.max_tokens=16",
        "decode.max_tokens=16",
        "data.augment.time_warp=true",
    ]
    begin_loop(few[:-1])
    said_in_one_line(lambda: begin_loop([*few, "data.augment.time_warp_range=0.9"]), "the split 'train' has no clip")


def test_a_clip_that_is_left_out_is_not_counted_as_cut(tmp_path):
    texts = {"a": "Kurz und gut", "long": "Dies ist ein sehr langer Satz, den niemand liest", "b": "Auch kurz"}
    splits = {"train": ["a", "long"], "val": ["b"]}
    room = ("model.tiny.positions=40", "data.max_tokens=5")
    made = options(tmp_path, texts, *room, frames=(40, 41, 40), splits=splits)
    loop = begin_loop(made)
    assert [line["name"] for line in loop.task.skipped()] == ["long"]
    assert loop.task.skipped()[0]["reason"].startswith("too long: 41 steps, and the text model reads 40")
    tokenizer = loop.task.model.text.tokenizer
    assert tokenizer.labels([texts["long"]], most=5).cut == 1 and loop.task.setup.cut == 0
    assert "left out: 1 too long" in loop.task.describe()[0]


def test_features_are_read_beside_and_change_what_is_said(tmp_path):
    made = eight("keypoints", tmp_path)
    for split in ("train", "val"):
        write_features(tmp_path / "data", [f"clip{i}" for i in range(8)], split=split)
    with_them = begin_loop([*made, f"data.visual={FEATURES}", "data.points=75"])
    setup = with_them.task.setup
    assert (
        setup.reads.visual == 5
        and setup.reads.shape == (75,)
        and "visual features beside" in str(with_them.task.describe())
    )
    run_steps(with_them, 2)
    grads = with_them.task.model.encoder.fusion.visual.into.weight
    raw = setup.sequences.read([0, 1], 3)
    batch = sentence_batch(setup.sequences, raw, train=True)
    assert batch.streams["visual"].shape == (2, 18, 5) and grads.isfinite().all()
    assert Setup.open(with_them.config, Ranks()).reads == setup.reads
