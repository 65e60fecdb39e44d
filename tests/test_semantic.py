"""Codes that are taught what they mean: what teaches them, that tokens are of poses alone, and that a stream is its
file."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from data_sets import signer_root
from helpers import ARCHS, begin_loop, run_steps, tiny_options
from signstream.data.cache import open_cache
from signstream.errors import UserError
from signstream.inference.tokenizer import Tokenizer
from signstream.models.rvq.lesson import Asked, Gloss, Next, Text, padded, rows_with_a_later_one
from signstream.models.rvq.look_back import MEMORY, WIDTH, Hidden, LookBack
from signstream.tasks.rvq.losses import chunks_before
from signstream.training.task import Progress
from test_losses import chunks_at
from test_tokenizer import clips, streamed, with_options

MLP = (*ARCHS["mlp"], "model.rvq.look_back=3")
CARRIER = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return signer_root(tmp_path_factory.mktemp("signer"), 20, {"train": (0, 14), "val": (14, 18)}, frames=70)


def trained(root, kind, *options, steps=12):
    options = ("train.epochs=40", "train.clips_per_step=5", *options)
    loop = begin_loop(tiny_options(root, *MLP, f"model.rvq.semantic={kind}", *options))
    run_steps(loop, steps)
    return loop


@pytest.fixture(scope="module")
def loop(root):
    loop = trained(root, "gloss", steps=24)
    loop.validate(health=False)
    return loop


@pytest.fixture(scope="module")
def tokenizer(loop):
    return Tokenizer(loop.state_dict())


# -- tokens


@pytest.mark.parametrize(("rate", "hold"), [("full", 0.0), (6, 0.05), (5, 0.0)])
def test_a_stream_gives_the_codes_of_the_file(loop, tokenizer, rate, hold):
    with_options(tokenizer, rate, hold)
    for number, clip in enumerate(clips(loop)):
        whole = tokenizer.encode(clip.poses, clip.fps).codes
        codes, _ = streamed(tokenizer, clip, [1] * 40 if number else [7, 33])
        assert torch.equal(codes, whole) and len(whole) > 4


def test_a_code_looks_back_so_far_and_no_further(loop, tokenizer):
    with_options(tokenizer, "full", 0.0)
    setup, past = loop.task.setup, 3
    batch = setup.chunked(setup.clips(loop.loader.clips[:2]), train=False)
    read = tokenizer.model.encode(batch.inputs, batch.earlier)
    changed = [view.clone() for view in batch.inputs]
    changed[2][1] += 1.0  # of the first clip, the second chunk's right hand
    moved = (tokenizer.model.encode(changed, batch.earlier) != read).any(-1)  # [P, N]
    assert moved[CARRIER].nonzero()[:, 0].tolist() == list(range(1, 2 + past)) and moved[CARRIER].sum() == 1 + past
    assert moved[2].nonzero()[:, 0].tolist() == [1] and not moved[[0, 1, 3]].any()


def test_a_clip_has_the_same_codes_in_any_company(loop, tokenizer):
    with_options(tokenizer, "full", 0.0)
    rows = [loop.task.setup.cache.frames(i) for i in loop.loader.clips[:5]]
    together = tokenizer.encode_prepared(rows, list("abcde"))
    for name, clip, tokens in zip("abcde", rows, together):
        assert torch.equal(tokenizer.encode_prepared([clip], [name])[0].codes, tokens.codes)


def with_other_words(root, folder, change):
    """The same clips; `change` is given each one's annotation and its number."""
    shutil.copytree(root, folder)
    path = folder / "annotations.json"
    entries = json.loads(path.read_text(encoding="utf-8"))
    for number, entry in enumerate(entries.values()):
        change(entry, number)
    path.write_text(json.dumps(entries), encoding="utf-8")
    return folder


def test_annotations_never_reach_a_token(loop, tokenizer, root, tmp_path):
    with_options(tokenizer, "full", 0.0)
    other = with_other_words(root, tmp_path / "other", lambda entry, _: entry.update(gloss="A B", text="nothing"))
    told = []
    for folder in (root, other):
        cache = open_cache(replace(loop.config.data, root=str(folder), cache=str(tmp_path / "cache")), quiet=True)
        rows = [cache.frames(i) for i in range(len(cache.clips))]
        told.append([tokens.codes for tokens in tokenizer.encode_prepared(rows, [clip.name for clip in cache.clips])])
        glosses = {clip.gloss for clip in cache.clips}
    assert glosses == {"A B"} and len(told[0]) == 18
    assert all(torch.equal(one, another) for one, another in zip(*told))


def test_the_lesson_stays_behind(loop, tokenizer):
    assert any(name.startswith("lesson.") for name in loop.state_dict()["model"])
    assert not any("lesson" in name for name in tokenizer.model.state_dict())
    state = loop.state_dict()
    state["model"] = {name: value + 1.0 if "lesson." in name else value for name, value in state["model"].items()}
    assert Tokenizer(state).digest == tokenizer.digest


def test_the_carrier_has_one_code_which_is_not_held_and_is_drawn_by_the_others(loop, tokenizer):
    with_options(tokenizer, "full", 100.0)  # all that is drawn holds for ever
    clip = clips(loop)[0]
    codes = tokenizer.encode(clip.poses, clip.fps).codes
    assert tokenizer.levels == (3, 3, 3, 3, 1)
    assert all(len(codes[:, part].unique(dim=0)) == 1 for part in (0, 3))
    with_options(tokenizer, "full", 0.0)
    assert torch.equal(codes[:, CARRIER], tokenizer.encode(clip.poses, clip.fps).codes[:, CARRIER])
    views = tokenizer.joined(tokenizer.model.detokenise(codes), codes[..., 0] >= 0)
    skeleton = tokenizer.skeleton
    hand, body, whole = (views[name] for name in ("right_hand", "body", "full_body"))
    assert torch.equal(whole[..., : body.shape[2], :], body)
    drawn, sent = whole[..., skeleton.part("right_hand").joints, :], codes[:, 2, 0] >= 0
    torch.testing.assert_close((drawn - drawn[..., :1, :])[sent], (hand - hand[..., :1, :])[sent])
    assert sent.any()


def test_what_only_the_carrier_could_draw_is_not_known(loop, tokenizer):
    with_options(tokenizer, "full", 0.0)
    clip = clips(loop)[0]
    tokens = tokenizer.encode(clip.poses, clip.fps)
    known = tokenizer.decode(tokens)[..., 2]
    assert known[:, :5].any() and not known[:, 17:23].any()  # feet are of no other part
    moved = tokens.codes.clone()
    moved[:, CARRIER, 0] = (moved[:, CARRIER, 0] + 1) % 32
    assert torch.equal(tokenizer.decode(replace(tokens, codes=moved)), tokenizer.decode(tokens))
    alone = replace(tokens, codes=tokens.codes[:, [CARRIER], :1], parts=("FB",), levels=(1,))
    assert not tokenizer.decode(alone)[..., 2].any()


# -- what is taught


def test_drawing_learns_nothing_of_meaning(root):
    """The gradient of what is taught ends at the latents of the parts."""
    loop = begin_loop(tiny_options(root, *MLP, "model.rvq.semantic=gloss"))
    setup = loop.task.setup
    batch = setup.chunked(setup.clips(loop.loader.clips[:3]), train=True)
    output = setup.model(batch.inputs, batch.valid, earlier=batch.earlier, quantise=False)
    setup.taught.totals(output, batch.layout, draw=0).sum().backward()
    weights = setup.model.named_parameters()
    moved = {name.split(".")[0] for name, weight in weights if weight.grad is not None and weight.grad.any()}
    assert moved == {"look_back", "lesson"}


@pytest.mark.parametrize("kind", ["gloss", "text", "next"])
def test_every_lesson_is_learnt(root, kind):
    as_they_are = [f"data.augment.{name}=false" for name in ("mirror", "time_warp", "random_phase")]
    options = ("train.lr=0.01", "train.warmup_steps=2", "data.augment.dropout_prob=0", *as_they_are)
    loop = trained(root, kind, *options, steps=2)
    first = loop.take_window()
    run_steps(loop, 28)
    loop.take_window()
    run_steps(loop, 3)
    last = loop.take_window()
    assert last["reading"] < 0.8 * first["reading"], (kind, first, last)


def test_codes_begin_anew_once_what_they_stand_for_has_settled(root):
    loop = trained(root, "next", "train.epochs=10", steps=24)  # of 30
    books = loop.task.model.quantizer.codebook
    for step, anew in ((23, False), (24, True), (25, False)):
        before = books.clone()
        loop.task.before_step([], Progress(step, 30, step // 3, 10))
        assert torch.equal(books[:CARRIER], before[:CARRIER])
        assert torch.equal(books[CARRIER], before[CARRIER]) is not anew, step


def test_clips_without_words_teach_nothing_and_it_is_said(root, tmp_path):
    def less(entry, number):
        entry.update(gloss=entry["gloss"] if number % 2 else "", text="")

    other = with_other_words(root, tmp_path / "other", less)
    loop = begin_loop(tiny_options(other, *MLP, "model.rvq.semantic=gloss"))
    said = loop.task.describe()[1]
    assert said.startswith("meaning: codes are taught by gloss, ") and "training clips have none" in said
    assert begin_loop(tiny_options(other, *MLP, "model.rvq.semantic=next"))
    with pytest.raises(UserError, match="semantic is text, and no training clip has a sentence: next needs none"):
        begin_loop(tiny_options(other, *MLP, "model.rvq.semantic=text"))


def test_a_run_with_other_words_does_not_go_on(loop):
    state = loop.task.state_dict()
    state["taught"]["words"] = state["taught"]["words"][1:]
    with pytest.raises(UserError, match="saved with other words"):
        loop.task.load_state_dict(state)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("data.body_parts={left_hand: [92, 112], right_hand: [113, 133]}", "they are not what it is made of; set off"),
        ("data.body_parts={right_hand: [113, 133], full_body: [1, 133]}", "they are not what it is made of; set off"),
        (
            "model.rvq.levels={face: 1, left_hand: 2, right_hand: 2, body: 2, full_body: 2}",
            "2 for full_body, whose code tells what is meant .* give it 1",
        ),
        ("data.chunk_stride=5", "data.chunk_stride is 5, and model.rvq.semantic next"),
    ],
)
def test_what_does_not_go_with_it_is_refused(root, option, says):
    with pytest.raises(UserError, match=says):
        begin_loop(tiny_options(root, *MLP, "model.rvq.semantic=next", "data.augment.mirror=false", option))


# -- the lessons


def test_how_many_chunks_lie_before_each():
    assert chunks_before(chunks_at([5, 5, 5, 7, 7, 7, 9], [0, 1, 2, 0, 1, 3, 0])).tolist() == [0, 1, 2, 0, 1, 0, 0]
    assert chunks_before(chunks_at([], [])).tolist() == []


def test_rows_are_padded_and_know_who_comes_later():
    x = torch.randn(7, 3)
    rows = padded(x, (2, 5))
    assert torch.equal(rows[0, :2], x[:2]) and torch.equal(rows[1], x[2:]) and not rows[0, 2:].any()
    assert rows_with_a_later_one((3, 1, 2), 1) == [0, 1, 4] and rows_with_a_later_one((3, 1, 2), 2) == [0]


@torch.no_grad()
def test_the_memory_is_an_lstm_that_begins_so_many_chunks_back():
    torch.manual_seed(0)
    look_back = LookBack(2, 4, past=3).eval()
    lstm = torch.nn.LSTM(WIDTH, MEMORY, batch_first=True)
    forget, take, show, new = look_back.now.weight.split(MEMORY)
    lstm.weight_ih_l0.copy_(torch.cat((take, forget, new, show)))
    forget, take, show, new = look_back.now.bias.split(MEMORY)
    lstm.bias_ih_l0.copy_(torch.cat((take, forget + 1, new, show)))
    forget, take, show, new = look_back.then.weight.split(MEMORY)
    lstm.weight_hh_l0.copy_(torch.cat((take, forget, new, show)))
    lstm.bias_hh_l0.zero_()
    x = torch.randn(7, WIDTH)
    told = look_back.remember(x, torch.tensor([0, 1, 2, 3, 4, 0, 1]))  # two clips, of five chunks and two
    for row, first in enumerate((0, 0, 0, 0, 1, 5, 5)):
        torch.testing.assert_close(told[row], lstm(x[None, first : row + 1])[0][0, -1])


def test_what_is_hidden_is_hidden_for_a_whole_clip():
    before = torch.tensor([0, 1, 2, 0, 1])
    drawn = [Hidden.drawn(seed, 400, before) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0].parts, drawn[1].parts) and torch.equal(drawn[0].rows, drawn[1].rows)
    assert not torch.equal(drawn[0].rows, drawn[2].rows)
    parts = drawn[0].parts[..., 0]
    assert torch.equal(parts[0], parts[1]) and torch.equal(parts[3], parts[4]) and not torch.equal(parts[0], parts[3])
    assert 0.8 < parts.float().mean() < 0.97 and drawn[0].rows.mean() == pytest.approx(1.0, abs=0.1)


def test_nothing_is_hidden_once_training_is_over(loop):
    setup = loop.task.setup
    batch = setup.chunked(setup.clips(loop.loader.clips[:3]), train=True)
    setup.model.train()
    one, again = (setup.model.encode(batch.inputs, batch.earlier)[CARRIER] for _ in range(2))
    other = setup.model.encode(batch.inputs, batch.earlier._replace(draw=batch.layout.draw + 1))[CARRIER]
    assert torch.equal(one, again) and not torch.allclose(one, other)
    setup.model.eval()
    one, other = (
        setup.model.encode(batch.inputs, batch.earlier._replace(draw=draw))[CARRIER]
        for draw in (None, batch.layout.draw)
    )
    setup.model.train()
    assert torch.equal(one, other)


def lessons():
    torch.manual_seed(0)
    sentences = [[1, 2], [2, 3], [1]]
    return {"gloss": Gloss(4, 4), "text": Text(4, sentences, known=3, words=4), "next": Next(2, 4)}


@pytest.mark.parametrize("kind", ["gloss", "text", "next"])
def test_clips_add_up_however_they_fall_into_batches(kind):
    lesson, lengths = lessons()[kind].eval(), (4, 3, 5)
    units = [[1, 2], [], [3]] if kind == "gloss" else [[0], [], [2]]
    latents, meant = torch.randn(2, 12, 4), torch.randn(12, 4)
    whole = lesson.reading(meant, Asked(lengths, units, latents, draw=3))
    pieces, at = [], 0
    for length, unit in zip(lengths, units):
        clip = slice(at, at + length)
        pieces.append(lesson.reading(meant[clip], Asked((length,), [unit], latents[:, clip], draw=3)))
        at += length
    torch.testing.assert_close(sum(pieces), whole)
    assert lesson.counts(Asked(lengths, units, latents)) == {"gloss": 3, "text": 2, "next": 9 + 6}[kind]


def test_the_right_sentence_is_found_among_others():
    """By hand: the own one is no wrong one, and each word is heard where it is nearest."""
    lesson = lessons()["text"]
    meant = torch.randn(4, 4)
    with torch.no_grad():
        found = float(lesson.reading(meant, Asked((4,), [[1]], torch.zeros(2, 4, 4), draw=0)))
        words = torch.nn.functional.normalize(lesson.words.weight, dim=-1)
        best = (torch.nn.functional.normalize(lesson.near(meant), dim=-1) @ words.T).amax(0) * lesson.sharpness.exp()
        scores = torch.tensor([[0, 0.5, 0.5, 0], [0, 0, 0.5, 0.5], [0, 1.0, 0, 0]]) @ best
    assert found == pytest.approx(float(scores.logsumexp(0) - scores[1]), rel=1e-5)
