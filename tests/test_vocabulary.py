import random
import re

import pytest
import torch

from signstream.tokens.llm import to_llm
from signstream.tokens.vocabulary import LONGEST_RUN, SPECIALS, Vocabulary
from test_rle import cases

WORDS = Vocabulary(("F", "LH"), (2, 1), 64, offset=1000)


def ids(*texts: str) -> list[int]:
    table = WORDS.added_tokens()
    return [table[text] for text in texts]


def test_every_string_is_unique_and_its_id_follows_the_text():
    words = Vocabulary(("F", "LH", "X"), (3, 1, 2), 20, offset=50)
    assert len(words) == len(words.strings) == len(set(words.strings)) == len(SPECIALS) + 6 * 20
    assert list(words.added_tokens().values()) == list(range(50, 50 + len(words)))
    assert words.strings[:6] == ["<SIGN>", "</SIGN>", "<SEP>", "<COMMIT>", "<NONE>", "<NC:1>"]
    assert words.strings[len(SPECIALS) + 12] == "<F0:c12>" and words.strings[-1] == "<X1:f19>"


def test_ids_are_those_of_the_strings():
    codes = torch.tensor([[[12, 7], [37, -1]], [[7, -1], [37, -1]], [[7, -1], [37, -1]], [[-1, -1], [37, -1]]])
    written = ids("<SIGN>", "<F0:c12>", "<F1:c7>", "<LH0:a37>", "<F0:c7>", "<NC:3>", "<NC:1>", "<NONE>", "</SIGN>")
    assert WORDS.encode(codes) == written
    assert WORDS.encode(codes[:0]) == ids("<SIGN>", "</SIGN>")
    text = [5, 999, 0]
    llm = to_llm(codes, WORDS, text)
    assert llm == {"input_ids": written + ids("<SEP>") + text, "labels": [-100] * (len(written) + 1) + text}
    with pytest.raises(ValueError, match="text_ids holds ids of sign tokens, which begin at 1000: offset"):
        to_llm(codes, WORDS, [1, 1000])


def test_ids_back_to_codes():
    for codes, tags, levels in cases(300):
        words = Vocabulary(tags, levels, 8, offset=7)
        for options in ({}, {"rle": False}, {"longest": 1}):
            assert torch.equal(words.decode(words.encode(codes, **options)), codes)


@pytest.mark.parametrize("held", [31, 32, 33, 64, 100])
def test_a_long_run_is_several(held):
    codes = torch.tensor([[[3, 4], [5, -1]]]).repeat(1 + held, 1, 1)
    assert len(WORDS.encode(codes)) == 5 + 2 * -(-held // LONGEST_RUN)
    assert torch.equal(WORDS.decode(WORDS.encode(codes)), codes)
    codes = torch.cat((codes, codes[:1] + torch.tensor([[1, 0], [0, 0]])))
    assert torch.equal(WORDS.decode(WORDS.encode(codes)), codes)


def test_a_chunk_that_is_written_live_depends_on_none_that_follows():
    for codes, tags, levels in cases(60):
        words = Vocabulary(tags, levels, 8)
        whole = words.encode(codes, longest=1)
        assert all(
            whole[: len(part) - 1] == part[:-1]
            for n in range(len(codes))
            for part in [words.encode(codes[:n], longest=1)]
        )


@pytest.mark.parametrize(
    ("texts", "position"),
    [
        ((), "position 0: <SIGN>"),
        (("<SIGN>",), "position 0"),
        (("<NONE>", "<NONE>", "</SIGN>"), "position 0: <SIGN>"),
        (("<SIGN>", "<NONE>", "<NONE>"), "position 2: </SIGN>"),
        (("<SIGN>", "<NC:1>", "<NONE>", "</SIGN>"), "position 1: <NC:1> stands where chunk 0 of F is expected"),
        (("<SIGN>", "<NONE>", "</SIGN>"), "position 2: </SIGN> stands where chunk 0 of LH is expected"),
        (("<SIGN>", "<F0:c1>", "<F0:c1>", "<LH0:a1>", "</SIGN>"), "position 2: .* of LH is expected"),
        (("<SIGN>", "<F1:c1>", "<LH0:a1>", "</SIGN>"), "position 1: .* of F is expected"),
        (("<SIGN>", "<LH0:a1>", "<F0:c1>", "</SIGN>"), "position 1"),
        (("<SIGN>", "<NONE>", "<LH0:a1>", "<LH0:a1>", "</SIGN>"), "position 3: .* chunk 1 of F"),
        (
            ("<SIGN>", "<F0:c1>", "<LH0:a1>", "<NC:2>", "<LH0:a2>", "</SIGN>"),
            "position 5: </SIGN> stands where chunk 2 of LH is expected",
        ),
        (("<SIGN>", "<F0:c1>", "<SEP>", "</SIGN>"), "position 2: <SEP> stands"),
        (("<SIGN>", "</SIGN>", "</SIGN>"), "position 1: </SIGN> stands"),
        (("<SIGN>", "<SIGN>", "</SIGN>"), "position 1: <SIGN> stands"),
    ],
)
def test_malformed_ids_are_named_by_their_position(texts, position):
    with pytest.raises(ValueError, match=position):
        WORDS.decode(ids(*texts))


@pytest.mark.parametrize("wrong", [999, 1000 + len(WORDS), -1, 10**30, 1.0, None, True])
def test_what_is_no_id_here(wrong):
    with pytest.raises(ValueError, match=rf"position 1: ({re.escape(str(wrong))}|10+\.\.\.)"):
        WORDS.decode([*ids("<SIGN>"), wrong, *ids("</SIGN>")])


def test_changed_ids_are_refused_or_are_other_codes():
    rng, words, outcomes = random.Random(0), Vocabulary(("F", "LH"), (2, 1), 8), []
    codes = torch.tensor([[[1, 2], [3, -1]], [[1, -1], [-1, -1]], [[4, 4], [5, -1]]])
    for _ in range(300):
        changed = words.encode(codes)
        changed[rng.randrange(len(changed))] = rng.randrange(len(words))
        try:
            outcomes.append(torch.equal(words.decode(changed), codes) == (changed == words.encode(codes)))
        except ValueError as error:
            outcomes.append(bool(re.match(r"position \d+: .*\Z", str(error))))
    assert all(outcomes)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ((("F", "f"), (1, 1), 8), "capital letters"),
        ((("F",), (1, 1), 8), "levels are"),
        ((("F",), (0,), 8), "levels are"),
        ((("F",), (1,), 0), "codebook_size"),
    ],
)
def test_no_vocabulary(arguments, fault):
    with pytest.raises(ValueError, match=fault):
        Vocabulary(*arguments)


def test_codes_of_another_book_have_no_ids():
    with pytest.raises(ValueError, match=r"chunk 0, LH: a code is outside 0\.\.63"):
        WORDS.encode(torch.tensor([[[1, 2], [64, -1]]]))
