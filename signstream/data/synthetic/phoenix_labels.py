"""What the glosses of a clip are written as in PHOENIX-2014's layout: raw in training, clean elsewhere.

raw_words(glosses, signs, rng) -> words with the marks that scoring takes off again
clean_label(glosses, rng) -> the glosses in a line, now and then with a space too many, as in the real set
"""

from __future__ import annotations

import numpy as np

from signstream.data.synthetic.lexicon import Sign

# How often a sign of a kind is marked so: a place in space, a classifier, a possessive, a question, the left hand.
PREFIXES = {"place": ("loc-", 0.5), "verb": ("cl-", 0.12), "subject": ("poss-", 0.12), "question": ("qu-", 0.2)}
LEFT_HAND = ("lh-", 0.01)
AGAIN, TWICE = ("-PLUSPLUS", 0.04), 0.04  # a sign that is repeated, and one that is written a second time
BEGINS, ENDS = ("__ON__", 0.15), ("__OFF__", 0.15)
BETWEEN = (("__EMOTION__", 0.02), ("__PU__", 0.02), ("__LEFTHAND__", 0.015))


def _marked(sign: Sign, rng: np.random.Generator) -> str:
    """One gloss with at most one mark before and one behind."""
    prefix, often = PREFIXES.get(sign.kind, LEFT_HAND)
    before = prefix if rng.random() < often else ""
    return before + sign.gloss + (AGAIN[0] if rng.random() < AGAIN[1] else "")


def raw_words(glosses: tuple[str, ...], signs: dict[str, Sign], rng: np.random.Generator) -> list[str]:
    """Glosses as an annotator wrote them, between what an annotator notes besides."""
    words = [BEGINS[0]] if rng.random() < BEGINS[1] else []
    for gloss in glosses:
        words += [note for note, often in BETWEEN if rng.random() < often]
        word = _marked(signs[gloss], rng)
        plain = len(gloss) > 1 and gloss.isalpha()  # letters in a row are a spelled word, and NEXT-YEAR stays twice
        twice = rng.random() < TWICE and plain
        words += [word] * (1 + twice)
    return words + ([ENDS[0]] if rng.random() < ENDS[1] else [])


def clean_label(glosses: tuple[str, ...], rng: np.random.Generator) -> str:
    """A label of dev or test, which holds now and then two spaces for one, or one behind."""
    gaps = [" " + " " * (rng.random() < 0.03) for _ in glosses[1:]]
    tail = " " * (rng.random() < 0.1)
    return glosses[0] + "".join(gap + gloss for gap, gloss in zip(gaps, glosses[1:])) + tail
