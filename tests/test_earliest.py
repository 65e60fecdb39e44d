"""When a word may be said: with the sign that it stands for, in the order of the sentence; and by its share where
nothing is known."""

import random

import numpy as np
import pytest
import torch

from signstream.data.earliest import Needs, Sign, earliest, seen, words_in
from signstream.data.synthetic.grammar import Grammar
from signstream.data.synthetic.lexicon import lexicon
from signstream.models.ctc_path import best_path, spans

TOY = {
    "ba": "BA",
    "go": "GO",
    "gone": "GO",
    "ti": "TI",
    "red": "RED",
    "big": "BIG",
    "mo": "MO",
    "su": "SU",
    "ke": "KE",
    "lo": "LO",
}


def toy_lines(count: int = 100, seed: int = 0) -> list[tuple[list[str], list[str]]]:
    """Sentences of two to four words, a particle before each; signed the other way round."""
    rng = random.Random(seed)
    lines = []
    for _ in range(count):
        content = rng.sample(sorted(TOY), rng.randint(2, 4))
        if {"go", "gone"} <= set(content):
            content.remove("go")
        words = [word for each in content for word in (rng.choice(("the", "the", "of")), each)]
        lines.append((words, [TOY[word] for word in reversed(content)]))
    return lines


NEEDS = Needs.of(toy_lines())


def test_what_a_word_stands_for_is_learnt():
    everything = sorted(set(TOY.values()))
    assert {word: NEEDS.gloss(word, everything) for word in TOY} == TOY
    assert [NEEDS.gloss(word, everything) for word in ("the", "of", "nobody", "", "!")] == [None] * 5
    assert NEEDS.gloss("ba", ["GO", "TI"]) is None
    assert NEEDS.gloss(" Ba,", everything) == "BA"
    assert [NEEDS.knows(word) for word in ("the", " The", "ba", "...", "nobody")] == [True, True, True, True, False]


def test_a_rare_form_stands_for_its_gloss_and_not_for_its_neighbours():
    lines = [*toy_lines(), (["the", "bas", "the", "red"], ["RED", "BA"])]
    assert Needs.of(lines).gloss("bas", ["RED", "BA"]) == "BA"


def test_nearly_every_word_of_the_synthetic_signer_finds_its_sign():
    grammar, rng = Grammar(lexicon()), np.random.default_rng(0)
    drawn = [grammar.sentence(rng) for _ in range(400)]
    needs = Needs.of([(words_in(one.text), one.glosses) for one in drawn[:300]])
    found, idle = [], []
    for one in drawn:
        for word in map(str.strip, words_in(one.text)):
            if word.upper() in one.glosses:
                found.append(needs.gloss(word, one.glosses) == word.upper())
            elif word == "the":
                idle.append(needs.gloss(word, one.glosses) is None)
    assert np.mean(found) > 0.98 and all(idle)


def test_the_same_lines_teach_the_same():
    assert Needs.of(toy_lines()) == NEEDS
    assert Needs.of([]).shares == {"": {}} == Needs.of([(["a", "b"], [])]).shares
    assert Needs.of([([], ["A"])]).gloss("a", ["A"]) is None


def test_a_word_waits_for_its_sign_and_for_the_words_before_it():
    signs = (Sign("RED", 2), Sign("BA", 5), Sign("TI", 8))
    for words, expected in (
        ("red the ba the ti", [2, 2, 5, 5, 8]),
        ("the red the ba", [2, 2, 2, 5]),
        ("the ti red the ba", [2, 8, 8, 8, 8]),
        ("ba red", [5, 5]),
        ("red unheard ba", [2, 8, 8]),  # it may be TI
        ("red ba unheard ti", [2, 5, 5, 8]),  # every sign is somebody's
    ):
        assert earliest(words.split(), 10, signs=signs, needs=NEEDS) == expected


def test_a_sign_that_comes_twice_is_waited_for_twice():
    signs = (Sign("BA", 1), Sign("RED", 3), Sign("BA", 6))
    assert earliest(["ba", "red", "ba", "ba"], 9, signs=signs, needs=NEEDS) == [1, 3, 6, 6]


def test_no_word_comes_before_the_one_before_it_or_after_the_end():
    rng = random.Random(1)
    for words, glosses in toy_lines(seed=2):
        chunks = rng.randint(1, 30)
        signs = [Sign(gloss, rng.randrange(chunks)) for gloss in glosses]
        after = earliest(words, chunks, signs=signs, needs=NEEDS)
        assert after == sorted(after) and after[0] >= 0 and after[-1] < chunks
        for word, chunk in zip(words, after):
            assert word not in TOY or chunk >= max(s.chunk for s in signs if s.gloss == TOY[word])
        assert earliest(words, chunks) == earliest(words, chunks, signs=signs, needs=Needs.of([]))


@pytest.mark.parametrize(
    ("count", "chunks", "expected"),
    [(4, 8, [1, 3, 5, 7]), (3, 10, [3, 6, 9]), (4, 2, [0, 0, 1, 1]), (1, 5, [4]), (0, 5, []), (3, 1, [0, 0, 0])],
)
def test_without_signs_a_word_has_its_share(count, chunks, expected):
    words = ["ba"] * count
    assert earliest(words, chunks) == earliest(words, chunks, needs=NEEDS) == expected


def test_a_clip_whose_words_stand_for_nothing_goes_by_shares():
    assert earliest(["the", "of"], 4, signs=(Sign("BA", 0),), needs=NEEDS) == [1, 3]


def test_a_sign_has_been_seen_with_the_chunk_of_its_last_frame():
    assert [s.chunk for s in seen("ABCDE", [1, 10, 11, 30, 99], size=10, chunks=3)] == [0, 0, 1, 2, 2]
    assert [s.chunk for s in seen("ABC", [1, 9, 17], size=10 * 25 / 30, chunks=9)] == [0, 1, 2]
    assert seen("AB", [0, 4], size=2, chunks=5) == (Sign("A", 4), Sign("B", 1))


def test_a_path_of_ctc_serves_as_segments_do():
    ids = {"RED": 1, "BA": 2, "TI": 3}
    steps = [0, 1, 1, 0, 2, 2, 2, 0, 0, 3, 0, 0]  # two a chunk
    log_probs = torch.full((1, len(steps), 4), 0.02)
    log_probs[0, range(len(steps)), steps] = 0.94
    log_probs = log_probs.log()
    units = torch.tensor([list(ids.values())])
    found = spans(log_probs, units, best_path(log_probs, torch.tensor([len(steps)]), units))
    signs = seen(list(ids), (found.last[0] + 1).tolist(), size=2, chunks=6)
    assert signs == seen(list(ids), [15, 35, 50], size=10, chunks=6)
    assert earliest(["the", "red", "ba", "of", "ti"], 6, signs=signs, needs=NEEDS) == [1, 1, 3, 3, 4]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the red  dog .", ["the", " red", "  dog", " ."]),
        (" a\tb \n", [" a", "\tb \n"]),
        ("我去北京，ok 吗", ["我", "去", "北", "京", "，ok", " 吗"]),
        ("  ", []),
        ("", []),
    ],
)
def test_words_joined_are_the_text(text, words):
    assert words_in(text) == words
    assert "".join(words) == text or not text.strip()
