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
from signstream.models.rvq.lesson import Asked, Gloss, Next, Text, packed, padded, rows_backwards, rows_with_a_later_one
from signstream.tasks.rvq.losses import chunks_before
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


def test_the_reader_stays_behind(loop, tokenizer):
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
def test_the_reader_learns_and_the_codes_learn_from_it(root, kind):
    as_they_are = [f"data.augment.{name}=false" for name in ("mirror", "time_warp", "random_phase")]
    options = ("train.lr=0.01", "train.warmup_steps=2", "data.augment.dropout_prob=0", *as_they_are)
    loop = trained(root, kind, *options, steps=2)
    first = loop.take_window()
    run_steps(loop, 28)
    loop.take_window()
    run_steps(loop, 3)
    last = loop.take_window()
    assert last["reading"] < 0.8 * first["reading"] and last["telling"] < 0.9, (kind, first, last)


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


def test_rows_are_packed_and_padded_again():
    x = torch.randn(7, 3)
    assert torch.equal(packed(padded(x, (2, 5)), (2, 5)), x)
    assert rows_backwards((3, 1, 2)) == [2, 1, 0, 3, 5, 4]
    assert rows_with_a_later_one((3, 1, 2), 1) == [0, 1, 4] and rows_with_a_later_one((3, 1, 2), 2) == [0]


def lessons():
    torch.manual_seed(0)
    sentences = [[1, 2], [2, 3], [1]]
    return {"gloss": Gloss(2, 4, 4), "text": Text(2, 4, sentences, known=3, words=4), "next": Next(2, 4)}


@pytest.mark.parametrize("kind", ["gloss", "text", "next"])
def test_clips_add_up_however_they_fall_into_batches(kind):
    lesson, lengths = lessons()[kind].eval(), (4, 3, 5)
    units = [[1, 2], [], [3]] if kind == "gloss" else [[0], [], [2]]
    latents = torch.randn(2, 12, 4)
    notes = lesson.read(latents, lengths)
    whole = lesson.reading(notes, Asked(lengths, units, latents, draw=3))
    pieces, at = [], 0
    for length, unit in zip(lengths, units):
        of_clip = latents[:, at : at + length]
        alone = lesson.read(of_clip, (length,))
        torch.testing.assert_close(alone, notes[at : at + length])
        pieces.append(lesson.reading(alone, Asked((length,), [unit], of_clip, draw=3)))
        at += length
    torch.testing.assert_close(sum(pieces), whole)
    assert lesson.counts(Asked(lengths, units, latents)) == {"gloss": 3, "text": 2, "next": 9 + 6}[kind]


def test_the_right_sentence_is_found_among_others():
    """By hand: the own one is no wrong one, and each word is heard where it is nearest."""
    lesson = lessons()["text"]
    notes = torch.randn(4, lesson.width)
    with torch.no_grad():
        found = float(lesson.reading(notes, Asked((4,), [[1]], torch.zeros(2, 4, 4), draw=0)))
        words = torch.nn.functional.normalize(lesson.words.weight, dim=-1)
        best = (torch.nn.functional.normalize(lesson.near(notes), dim=-1) @ words.T).amax(0) * lesson.sharpness.exp()
        scores = torch.tensor([[0, 0.5, 0.5, 0], [0, 0, 0.5, 0.5], [0, 1.0, 0, 0]]) @ best
    assert found == pytest.approx(float(scores.logsumexp(0) - scores[1]), rel=1e-5)
