"""The sequences of a language model: where what is said stands, what is asked for, and that what is run is what was
trained on."""

import random

import pytest
import torch

from signstream.tokens.llm import SIGN, SINK, WORD, LiveStream, LLMSequence, live, offline, to_llm
from signstream.tokens.vocabulary import Vocabulary
from test_rle import cases

WORDS = Vocabulary(("F", "LH"), (2, 1), 64, offset=1000)
BEGIN, END, SEP, COMMIT = (WORDS.special(text) for text in ("<SIGN>", "</SIGN>", "<SEP>", "<COMMIT>"))
NONE = -100
A, B, C = [1100, 1101], [1102], [1103, 1104]  # chunks


def columns(*rows: tuple[int, int, int, int]) -> LLMSequence:
    """(id, label, kind, chunk) a position."""
    return LLMSequence(*map(list, zip(*rows)))


def drawn(seed: int) -> tuple[list[list[int]], list[tuple[list[int], int]]]:
    """Chunks, and words each with the chunk behind which it is said."""
    rng = random.Random(seed)
    chunks = [[rng.randint(1100, 1150) for _ in range(rng.randint(1, 5))] for _ in range(rng.randint(1, 9))]
    count = rng.randint(0, 8)
    after = sorted(rng.randint(0, len(chunks)) for _ in range(count))
    return chunks, [([rng.randrange(1000) for _ in range(rng.randint(0, 3))], chunk) for chunk in after]


def test_live_says_what_it_can_between_chunks():
    assert live(WORDS, [A, B, C], [[7], [8, 9], [5]], after=[1, 1, 3]) == columns(
        (BEGIN, NONE, SINK, -1),
        (1100, NONE, SIGN, 0),
        (1101, NONE, SIGN, 0),
        (1102, COMMIT, SIGN, 1),  # nothing was said behind chunk 0
        (SEP, SEP, WORD, 1),
        (7, 7, WORD, 1),
        (8, 8, WORD, 1),
        (9, 9, WORD, 1),
        (COMMIT, COMMIT, WORD, 1),
        (1103, NONE, SIGN, 2),
        (1104, NONE, SIGN, 2),
        (END, COMMIT, SIGN, 2),
        (SEP, NONE, WORD, 2),
        (5, 5, WORD, 2),
        (COMMIT, COMMIT, WORD, 2),
    )


def test_offline_is_signs_then_text():
    assert offline(WORDS, [A, [], C], [7, 8]) == columns(
        (BEGIN, NONE, SINK, -1),
        (1100, NONE, SIGN, 0),
        (1101, NONE, SIGN, 0),
        (1103, NONE, SIGN, 2),
        (1104, NONE, SIGN, 2),
        (END, NONE, SIGN, 2),
        (SEP, NONE, WORD, 2),
        (7, 7, WORD, 2),
        (8, 8, WORD, 2),
    )


def test_offline_holds_the_ids_of_a_whole_clip():
    for codes, tags, levels in cases(60):
        words = Vocabulary(tags, levels, 8, offset=7)
        for rle in (True, False):
            signs = words.encode(codes, rle)
            sequence = offline(words, words.chunks(codes, rle), [3, 4])
            assert sequence.input_ids == [*signs, words.special("<SEP>"), 3, 4]
            assert to_llm(codes, words, [3, 4], rle=rle) == {
                "input_ids": sequence.input_ids,
                "labels": [NONE] * (len(signs) + 1) + [3, 4],
            }


def ran(chunks: list[list[int]], words: list[tuple[list[int], int]]) -> list[LLMSequence]:
    """All that a model is given while a stream comes that is told token by token what to say."""
    stream, out = LiveStream(WORDS), []

    def see() -> None:
        out.append(LLMSequence(*map(list, stream.written)))

    def say(turn: int) -> None:
        for i in (i for word, chunk in words if chunk == turn for i in word):
            stream.say([i])
            see()
        stream.commit()
        see()

    for t, ids in enumerate(chunks):
        stream.hear(ids)
        see()
        if any(word for word, chunk in words if chunk == t):
            stream.speak()
            see()
            say(t)
    stream.end()
    see()
    say(len(chunks))
    return out


@pytest.mark.parametrize("seed", range(40))
def test_all_that_is_given_live_begins_what_was_trained_on(seed):
    chunks, words = drawn(seed)
    trained = live(WORDS, chunks, [word for word, _ in words], after=[chunk for _, chunk in words])
    given = ran(chunks, words)
    for so_far in given:
        assert len({len(column) for column in so_far}) == 1
        assert all(column[: len(part)] == part for column, part in zip(trained, so_far))
    assert given[-1] == trained


@pytest.mark.parametrize("seed", range(40))
def test_what_comes_later_changes_nothing_that_stands(seed):
    chunks, words = drawn(seed)
    whole = live(WORDS, chunks, [word for word, _ in words], after=[chunk for _, chunk in words])
    for count in range(1, len(chunks)):
        said = [(word, chunk) for word, chunk in words if chunk < count]
        short = live(WORDS, chunks[:count], [word for word, _ in said], after=[chunk for _, chunk in said])
        common = short.input_ids.index(END)
        assert all(column[:common] == part[:common] for column, part in zip(whole, short))


@pytest.mark.parametrize("seed", range(40))
def test_no_sign_is_asked_for_and_every_word_is(seed):
    chunks, words = drawn(seed)
    ids, labels, kind, chunk = live(WORDS, chunks, [word for word, _ in words], after=[at for _, at in words])
    assert [i for i, k in zip(ids, kind) if k == SIGN] == [i for each in chunks for i in each] + [END]
    said = [(i, at) for i, k, at in zip(ids, kind, chunk) if k == WORD and i not in (SEP, COMMIT)]
    assert said == [(i, min(at, len(chunks) - 1)) for word, at in words for i in word]
    assert all(label in (NONE, COMMIT) for label, k in zip(labels, kind) if k != WORD)
    assert [i for i, label in enumerate(labels) if kind[i] == WORD and label != ids[i]] == [ids.index(END) + 1]
    asked = [label for before, label in zip(kind, labels[1:]) if before == SIGN and label != NONE]
    turns = {at for word, at in words if word and at < len(chunks)}
    assert asked == [SEP if t in turns else COMMIT for t in range(len(chunks))]


def test_chunks_that_are_written_live_are_never_empty():
    for codes, tags, levels in cases(60):
        words = Vocabulary(tags, levels, 8)
        chunks = words.chunks(codes, longest=1)
        assert len(chunks) == len(codes) and all(chunks)
        assert words.decode(live(words, chunks, [], after=[]).input_ids[:-2]).equal(codes)
        assert all(words.chunks(codes[:n], longest=1) == chunks[:n] for n in range(len(codes)))


def test_a_stream_in_the_wrong_order_is_our_fault():
    stream = LiveStream(WORDS)
    for call in (stream.speak, stream.commit, lambda: stream.say([1]), lambda: stream.hear([])):
        with pytest.raises(AssertionError):
            call()
    stream.hear(A)
    stream.speak()
    for call in (stream.speak, stream.end, lambda: stream.hear(A)):
        with pytest.raises(AssertionError):
            call()
    stream.commit()
    stream.end()
    stream.commit()
    for call in (stream.end, stream.speak, stream.commit, lambda: stream.hear(A)):
        with pytest.raises(AssertionError):
            call()
    for after in ([1, 0], [0], [0, 3], [-1, 0]):
        with pytest.raises(AssertionError):
            live(WORDS, [A, B], [[1], [2]], after=after)


def test_words_of_the_signs_vocabulary_are_refused():
    with pytest.raises(ValueError, match="text_ids holds ids of sign tokens, which begin at 1000: offset"):
        live(WORDS, [A], [[1000]], after=[0])
    with pytest.raises(ValueError, match="which begin at 1000"):
        to_llm(torch.zeros(1, 2, 2, dtype=torch.int64)[:0], WORDS, [1100])
