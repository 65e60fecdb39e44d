"""A language model that speaks while it watches: clips learnt by heart and said live; sequences of training that are
what inference writes; a stream that is the pass under the mask, summaries and all; words that are held back; what is
said of another form."""

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import begin_loop, case_options, run_steps, slow_but
from sentence_clips import root_of
from sentences import said_in_one_line
from signstream.config.prefix_lm import Live, PrefixModel, TinyLM
from signstream.models.kv_window import SUMMARY, KVWindow, Layout
from signstream.models.live_lm import LiveLM
from signstream.models.live_prompts import LivePrompts, window_of
from signstream.models.live_text import Speaker
from signstream.models.policies import POLICY, policy_of
from signstream.models.prefix_lm import PrefixLM
from signstream.models.prefix_sources import lm_of
from signstream.tasks.prefix_lm.restore import restore
from signstream.tasks.prefix_lm.task import PrefixTask
from signstream.tokens.llm import NOT_ASKED, SINK, LiveStream, offline
from signstream.tokens.vocabulary import Vocabulary
from signstream.training.loop import Loop
from token_files import LEVELS, PARTS, SIZE, codes_of, vectors

for package in ("transformers", "tokenizers", "sacrebleu"):
    pytest.importorskip(package)

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = (
    "the sun shines in the north",
    "rain comes in the morning",
    "a strong wind blows at night",
    "in the south it stays dry",
)
MANY = (*TEXTS, *(f"{text} and {place}" for text in TEXTS[:3] for place in ("north", "south", "east", "west")))
SIGNED = {"gloss": "DRY", "segments": [[20, 45, "DRY"]]}  # of the last; of the others nothing is known
HEART = ("train.epochs=80", "train.warmup_steps=5", "train.wd=0", "train.lr=1e-2", "train.lm_lr=1e-2")
WIDE = "model.tiny={vocabulary: 120, width: 32, layers: 2, heads: 2, positions: 512}"
SIZES = TinyLM(vocabulary=120, width=32, layers=2, heads=2, positions=512, dropout=0)
WINDOWS = {
    "all": Live(chunks=20, words=10, positions=400),
    "short": Live(chunks=2, words=10, positions=200, delayed=0),
    "summaries": Live(chunks=3, words=10, positions=400, summary=2, group=2, reach=8, delayed=0),
}


def options(folder: Path, count: int, *more: str) -> list[str]:
    """Of clips that say these, to train and to validate on; each has a chunk more than the one before."""
    names = {f"clip{i}": text for i, text in enumerate(MANY[:count])}
    frames = [62 + 10 * i for i in range(count)]
    notes = {name: SIGNED if name == "clip3" else {"gloss": ""} for name in names}
    root = root_of(folder, names, frames=frames, splits={"train": list(names), "val": list(names)}, **notes)
    given = ("train.sample_clips=16", "live.words=24", *HEART, WIDE, "model.tiny.dropout=0", *more)
    return case_options(root, "prefix_lm_live", *given, plain=True)


@pytest.fixture(scope="module")
def four(tmp_path_factory) -> list[str]:
    return options(tmp_path_factory.mktemp("four"), 4)


@pytest.fixture
def loop(four) -> Loop:
    return begin_loop(four)


def model_of(live: Live) -> LiveLM:
    """Drawn so wide that what it says depends on everything."""
    made = lm_of(PrefixModel(target_language="en_XX", tiny=SIZES), TEXTS, seed=3)
    vocabulary = Vocabulary(PARTS, LEVELS, SIZE, made.network.config.vocab_size)
    model = LiveLM(made, vocabulary, window=window_of(live, vocabulary), vectors=vectors()).eval()
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.data += 0.2 * torch.randn(weight.shape, generator=generator)
    model.units, model.vocabulary = made.units, vocabulary
    model.prompts = LivePrompts(vocabulary, model.window, first_summary=model.first_summary)
    return model


@pytest.fixture(scope="module", params=WINDOWS)
def model(request) -> LiveLM:
    return model_of(WINDOWS[request.param])


CLIPS = [codes_of(f"clip{i}", chunks) for i, chunks in enumerate((5, 9, 2))]
AFTER = [[0, 2, 2, 5], [1, 3, 4, 8], [1, 1, 2, 2]]


def words_of(model: LiveLM, clip: int) -> list[list[int]]:
    return [[unit] for unit in model.units.ids(TEXTS[clip])[:4]]


def sequence_of(model: LiveLM, clip: int):
    return model.prompts.of(CLIPS[clip], words_of(model, clip), after=AFTER[clip])


def batch_of(model: LiveLM, *clips: int, begins=(0, 7, 30), asked=True):
    made = [sequence_of(model, clip) for clip in clips]
    return model.prompts.batch(made, begins=[begins[clip] for clip in clips], asked=[asked] * len(clips))


@torch.no_grad()
def logits_of(model: LiveLM, batch) -> torch.Tensor:
    return model.logits(model.hear(batch.ids, batch.layout, batch.positions).flatten(0, 1)[batch.places])


def said_live(speaks: Speaker, codes: torch.Tensor) -> list[list[int]]:
    """Units behind each chunk, and at the end."""
    heard = [speaks.hear(ids) for ids in speaks.stream.vocabulary.chunks(codes, longest=1)]
    return [[unit for word in each.words for unit in word] for each in [*heard, speaks.end()]]


# -- learning


@pytest.mark.parametrize("count", slow_but((1, 4, 16), 1, 4))
def test_clips_are_learnt_by_heart_and_said_live(tmp_path, count):
    """Word for word, each behind its chunk; and it writes what it was trained on."""
    loop = begin_loop(options(tmp_path, count))
    run_steps(loop, loop.total_steps if count < 16 else 2 * loop.total_steps)
    findings = loop.validate(health=True)
    numbers, setup, clips = findings.numbers, loop.task.setup, list(loop.val_loader.clips)
    assert loop.total_steps <= 160 and numbers["sentence"] < 0.1 and numbers["question"] < 0.1
    setup.model.eval()
    assert setup.said([setup.sequences.rows(clip) for clip in clips]) == list(MANY[:count])
    assert numbers["early"] == 1 and "% of its words before signing ended" in findings.lines[0]
    for clip in clips:
        codes, form = setup.sequences.rows(clip), setup.form
        after = form.due(clip, len(codes))
        name, words = setup.sequences.examples[clip].name, form.line(clip).words
        assert len(set(after)) == (1 if name == "clip3" else len(words)), "times at which it speaks"
        trained = form.prompts.of(codes, form.line(clip).ids, after=after)
        speaks = Speaker(setup.model, setup.vocabulary, units=setup.units, policy=policy_of(POLICY))
        said_live(speaks, codes)
        assert speaks.stream.written.input_ids == [
            i for i, kind in zip(trained.input_ids, trained.kind) if kind != SUMMARY
        ]
    if count > 1:
        assert numbers["shuffled/sentence"] > numbers["sentence"] + 1 and numbers["shuffled/bleu_4"] < 60
        assert numbers["none/sentence"] > numbers["sentence"] + 1 and "shuffled/question" in numbers


# -- sequences


def test_training_reads_what_inference_writes(model):
    """Chunk by chunk, by hand."""
    for clip, codes in enumerate(CLIPS):
        stream, due = LiveStream(model.vocabulary), AFTER[clip]
        for t, ids in enumerate(model.vocabulary.chunks(codes, longest=1)):
            stream.hear(ids)
            if said := [i for word, at in zip(words_of(model, clip), due) if at == t for i in word]:
                stream.speak()
                stream.say(said)
                stream.commit()
        stream.end()
        stream.say([i for word, at in zip(words_of(model, clip), due) if at == len(codes) for i in word])
        stream.commit()
        made = sequence_of(model, clip)
        heard = [i for i, kind in enumerate(made.kind) if kind != SUMMARY]
        for name in ("input_ids", "kind", "chunk"):
            assert [getattr(made, name)[i] for i in heard] == getattr(stream.written, name)
        asked = [label for label in made.labels if label != NOT_ASKED]
        assert asked == [label for label in stream.written.labels if label != NOT_ASKED], "the same, in this order"


def test_what_is_asked_for(model):
    """A question a chunk, whose answer is <SEP> where something is said; every unit; each <COMMIT> that is written."""
    batch, flat = batch_of(model, 0, 1, 2), batch_of(model, 0, 1, 2).ids.flatten()
    separator, commit = (model.vocabulary.special(mark) for mark in ("<SEP>", "<COMMIT>"))
    question = batch.targets[batch.words :].tolist()
    assert len(question) == sum(map(len, CLIPS))
    assert question.count(separator) == sum(len({at for at in AFTER[i] if at < len(c)}) for i, c in enumerate(CLIPS))
    words = batch.targets[: batch.words].tolist()
    assert [i for i in words if i != commit] == [i for clip in range(3) for word in words_of(model, clip) for i in word]
    assert words.count(commit) == question.count(separator) + 3
    before, then = flat[batch.places], flat[(batch.places + 1).clamp(max=len(flat) - 1)]
    assert bool((before[batch.words :] < model.first_summary).all()), "nothing is asked behind a summary"
    assert torch.equal(then[: batch.words], batch.targets[: batch.words])
    assert not set(batch.targets.tolist()) & set(model.prompts.summary)
    assert sorted(model.said(batch.targets).unique().tolist())[-2:] == [model.offset, model.offset + 1]


def test_held_back_to_the_end_it_is_the_offline_prompt_but_for_the_end():
    """Ids and numbers."""
    model = model_of(WINDOWS["all"])
    for clip, codes in enumerate(CLIPS):
        units = [i for word in words_of(model, clip) for i in word]
        made = model.prompts.of(codes, words_of(model, clip), after=[len(codes)] * 4)
        whole = offline(model.vocabulary, model.vocabulary.chunks(codes, longest=1), [*units, model.end])
        assert made.input_ids[:-1] == whole.input_ids[:-1] and made.kind == whole.kind and made.chunk == whole.chunk
        batch = model.prompts.batch([made], begins=[0], asked=[False])
        assert batch.targets.tolist() == [*units, model.vocabulary.special("<COMMIT>")]
        same = PrefixLM.forward(model, batch.ids, batch.places)
        torch.testing.assert_close(logits_of(model, batch)[:, : model.offset], same)


# -- company, streams


def test_a_sequence_alone_is_the_sequence_in_a_batch(model):
    together, fills = batch_of(model, 0, 1, 2), (0, 7, model.offset + 40)
    lengths = torch.tensor([len(sequence_of(model, clip).input_ids) for clip in range(3)])
    padding = torch.arange(together.ids.shape[1]) >= lengths[:, None]
    row = together.places // together.ids.shape[1]
    assert padding.any()
    for fill in fills:
        logits = logits_of(model, together._replace(ids=together.ids.masked_fill(padding, fill)))
        for clip in range(3):
            alone = logits_of(model, batch_of(model, clip))
            torch.testing.assert_close(logits[row == clip], alone, atol=1e-5, rtol=1e-5)
    empty = model.prompts.batch([], begins=[], asked=[])
    assert empty.ids.shape == (0, 0) and len(empty.targets) == 0 == empty.words


@pytest.mark.parametrize("clip", range(3))
def test_a_stream_is_the_row_that_was_trained_on(model, clip):
    """From wherever it begins."""
    batch = batch_of(model, clip)
    layout = Layout(batch.kind[0], batch.chunk[0])
    with torch.no_grad():
        whole = model.hear(batch.ids, batch.layout, batch.positions)
        kept, heard, embeds = KVWindow(model.decoder, model.window), [], model.embedded(batch.ids)
        for at in range(len(layout.kind)):
            piece = Layout(*(column[at : at + 1] for column in layout))
            heard.append(kept.step(embeds[:, at : at + 1], piece))
            kept.commit()
            if piece.kind[0] == SINK:
                kept.next += (0, 7, 30)[clip]
    torch.testing.assert_close(torch.cat(heard, 1), whole, atol=1e-5, rtol=1e-5)


def test_summaries_matter_and_learn():
    model = model_of(WINDOWS["summaries"])
    batch = batch_of(model, 1)
    assert int((batch.kind == SUMMARY).sum()) == 4 * 2 and model.summaries.shape == (2, 32)
    before = logits_of(model, batch)
    model.hear(batch.ids, batch.layout, batch.positions).flatten(0, 1)[batch.places].square().sum().backward()
    assert bool((model.summaries.grad.abs().sum(1) > 0).all())
    model.summaries.data += 1
    assert (logits_of(model, batch) - before).abs().max() > 0.01


def test_all_that_it_is_made_of_is_trained(loop):
    trained = {id(p) for group in loop.task.groups() for p in group.parameters}
    assert trained == {id(p) for p in loop.task.model.parameters()} and hasattr(loop.task.model, "summaries")


# -- held back, moved


def drawn(setup, seed: int):
    """What training makes of the four clips."""
    clips = list(range(4))
    codes = [setup.sequences.rows(clip) for clip in clips]
    return setup.form.told(codes, clips, np.random.default_rng(seed))


def test_who_is_held_back_wishes_to_speak_as_long_as_a_word_is_due(model):
    """Though nothing is said; beside that the sequence is the one that is written."""
    due, late, speak, silent = [0, 2, 2, 4], [1, 3, 3, 5], *map(model.vocabulary.special, ("<SEP>", "<COMMIT>"))
    made = model.prompts.of(CLIPS[0], words_of(model, 0), after=late, due=due)
    written = model.prompts.of(CLIPS[0], words_of(model, 0), after=late)
    assert made._replace(labels=[]) == written._replace(labels=[])
    batches = [model.prompts.batch([each], begins=[0], asked=[True]) for each in (made, written)]
    asked, plain = (batch.targets[batch.words :].tolist() for batch in batches)
    assert plain == [silent, speak, silent, speak, silent] and asked == [speak] * 5
    assert torch.equal(batches[0].targets[: batches[0].words], batches[1].targets[: batches[1].words])
    on_time = model.prompts.of(CLIPS[0], words_of(model, 0), after=AFTER[0], due=AFTER[0])
    assert on_time == sequence_of(model, 0)
    later = model.prompts.of(CLIPS[0], words_of(model, 0), after=[1, 3, 3, 5], due=[1, 3, 3, 5])
    assert later == written, "before a word is due, and once it is said, there is nothing to wish"


def test_words_that_are_held_back_are_said_late(four):
    setup = begin_loop([*four, "live.delayed=1", "live.delay=3"]).task.setup
    late, speak = 0, setup.vocabulary.special("<SEP>")
    for seed in range(20):
        told = drawn(setup, seed)
        assert setup.form.counts(told)[1] == sum(len(setup.sequences.rows(clip)) for clip in range(4))
        assert torch.equal(told.ids, drawn(setup, seed).ids), "of one seed the same"
        assert (told.targets == speak).sum() > (told.ids == speak).sum() - 4, "it wishes more often than it may speak"
        late += not torch.equal(told.ids, setup.form.told([*map(setup.sequences.rows, range(4))], range(4)).ids)
        for clip in range(4):
            after = setup.form.due(clip, 9)
            held = setup.form.late(after, 9, np.random.default_rng(seed))
            at_end = held == [9] * len(after)
            assert all(0 <= b - a <= 3 or b == 9 for a, b in zip(after, held)) and held == sorted(held)
            assert at_end or len(set(held)) <= 1 + 9 // 2
            assert setup.form.late(after, 9, None) is None
            beyond = setup.form.late([0], 30, np.random.default_rng(seed))
            assert beyond != [30], "the window holds 8 chunks: at the end the first sign is not there"
    assert late > 15
    assert bool(torch.isfinite(setup.totals(told)).all())


def test_of_a_word_without_ids_nothing_is_asked(loop):
    """It is part of a later word's, as in scripts without blanks, or was cut."""
    prompts, codes = loop.task.setup.form.prompts, loop.task.setup.sequences.rows(0)
    speak = prompts.separator
    due, said = [0, 3], [5, 5]
    both, second, none = (
        [at for at, label in enumerate(prompts.of(codes, words, after=said, due=due).labels) if label == speak]
        for words in ([[5], [6]], [[], [6]], [[], []])
    )
    assert len(both) == 6 and second == both[3:] and none == []


def test_half_of_the_streams_begin_anywhere(four):
    setup = begin_loop([*four, "live.moved=0.5"]).task.setup
    every = [drawn(setup, seed) for seed in range(100)]
    assert all(bool((told.positions[:, 0] == 0).all()) for told in every), "the prompt stays"
    assert all(bool((told.positions[:, 1:].diff(dim=1) == 1).all()) for told in every)
    last = max(int(told.positions[told.ids > 0].max()) for told in every)
    assert 380 < last < 400, "within the window's positions"
    begins = torch.cat([told.positions[:, 1] for told in every])
    assert 0.4 < float((begins == 1).double().mean()) < 0.6 and int(begins.min()) == 1
    assert setup.form.told([setup.sequences.rows(0)], [0]).positions[0, 1] == 1, "validation's begin behind the prompt"


def test_a_clip_at_another_speed_says_its_words_at_the_same_share(loop):
    form, rows = loop.task.setup.form, loop.task.setup.sequences.rows
    assert form.due(3, len(rows(3))) == [4] * 6 and form.due(3, 2 * len(rows(3))) == [8] * 6
    assert form.due(3, 7) == [3] * 6, "45 of 92 frames"
    assert form.due(0, 6) == [0, 1, 2, 3, 4, 5] and form.due(0, 0) == [0] * 6


def test_a_word_waits_for_so_many_chunks_but_not_beyond_the_end(four):
    form = begin_loop([*four, "live.wait=2"]).task.setup.form
    assert form.due(0, 6) == [2, 3, 4, 5, 6, 6] and form.due(0, 0) == [0] * 6


def test_a_long_sentence_is_cut_as_offline(four):
    setup = begin_loop([*four, "data.max_tokens=5"]).task.setup
    assert setup.cut == 4
    for clip in range(4):
        said = [i for word in setup.form.line(clip).ids for i in word]
        assert said == setup.units.ids(TEXTS[clip], 5)[:-1]


# -- others' files


def test_a_checkpoint_is_its_form_or_one_line(loop):
    config, state = loop.config, loop.state_dict()
    PrefixTask.check_state(config, state)
    model = restore(config, state).model
    assert isinstance(model, LiveLM) and model.window == loop.task.setup.model.window
    assert torch.equal(model.summaries, loop.task.setup.model.summaries)
    for change, told in (
        ({"form": "offline"}, "of the form offline, and its config's model.form live"),
        ({"form": ["live"]}, "of the form \\['live'\\]: this version knows"),
    ):
        odd = {**state, "task": {**state["task"], **change}}
        said_in_one_line(lambda odd=odd: PrefixTask.check_state(config, odd), told)
        said_in_one_line(lambda odd=odd: loop.task.load_state_dict(odd["task"]), "form")
    weights = {**state["model"], "summaries": state["model"]["summaries"][:0]}
    said_in_one_line(lambda: PrefixTask.check_state(config, {**state, "model": weights}), "summaries")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("live.positions=600", "live.positions is 600, and the language model has 512"),
        ("live.words=40", "the window needs 491 positions"),
        ("live.reach=8", "no longer than the window's 8"),
        ("data.max_tokens=395", "has 400 positions: no chunk of 3 codes"),
        ("live.signs=/nowhere", "live.signs /nowhere: "),
    ],
)
def test_a_window_that_cannot_be_is_one_line(four, more, told):
    said_in_one_line(lambda: begin_loop([*four, more]), told)


def test_words_are_held_back_for_less_than_the_window(four):
    for late in (
        ["live.delayed=1", "live.delay=8"],
        ["live.wait=8"],
        ["live.delayed=1", "live.delay=4", "live.wait=4"],
    ):
        said_in_one_line(lambda late=late: begin_loop([*four, *late]), "the window has live.chunks 8")
