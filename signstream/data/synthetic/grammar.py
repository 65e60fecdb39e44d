"""A small grammar over the synthetic signer's signs.

    Grammar(signs).sentence(rng) -> Sentence, English text and glosses        Grammar(signs, near=True): the near text

The glosses' order (time, place, object, subject, verb, negation or question word) is not the order of the text. It is
that of the near text, in which a word depends on no sign after its own, so that it can be said as soon as that is seen.
Either grammar draws the same glosses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from signstream.data.synthetic.lexicon import WORDS, Sign

TENSE = {
    "yesterday": "past",
    "last-week": "past",
    "morning": "past",
    "tomorrow": "future",
    "tonight": "future",
    "next-year": "future",
}
PLURAL_SUBJECTS = ("i", "you", "they", "we")
TIME_TEXT = {"morning": "in the morning"}


@dataclass(frozen=True)
class Sentence:
    text: str
    glosses: tuple[str, ...]
    mood: str  # "statement", "asks" (yes or no), "wonders" (question word), "denies"

    @property
    def key(self) -> str:
        return " ".join(self.glosses)


def _third_person(verb: str) -> str:
    if verb.endswith("y") and verb[-2] not in "aeo":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("ch", "sh", "s", "x", "o")) else "s")


def _verb_text(verb: str, subject: str, tense: str, *, negation: str) -> str:
    """ "bought", "will not buy", "does not buy", "never bought"."""
    base, past = verb.split(":")
    plural = subject in PLURAL_SUBJECTS
    if negation == "not":
        return {"past": "did not ", "future": "will not "}.get(tense, "do not " if plural else "does not ") + base
    plain = {"past": past, "future": f"will {base}"}.get(tense, base if plural else _third_person(base))
    if negation != "never":
        return plain
    return f"will never {base}" if tense == "future" else f"never {plain}"


def _noun_text(noun: str, adjective: str, number: str) -> str:
    many = noun if noun == "fish" else noun + "s"
    words = [number, adjective, many if number else noun]
    return " ".join(w for w in ([] if number else ["the"]) + words if w)


def _time_text(time: str) -> str:
    return TIME_TEXT.get(time, time.replace("-", " "))


def _place_text(place: str) -> str:
    return "at home" if place == "home" else f"at the {place}" if place else ""


def _subject_text(subject: str) -> str:
    return subject if subject in PLURAL_SUBJECTS else f"the {subject}"


def _question_text(word: str, subject: str, verb: str, *, noun: str, tense: str) -> str:
    base, past = verb.split(":")
    if word == "who":
        asked = {"past": past, "future": f"will {base}"}.get(tense, _third_person(base))
        return f"who {asked} {noun}"
    helper = {"past": "did", "future": "will"}.get(tense, "do" if subject in PLURAL_SUBJECTS else "does")
    return f"{word} {helper} {_subject_text(subject)} {base}" + ("" if word == "what" else f" {noun}")


class Clause(NamedTuple):
    text: str
    glosses: list[str]
    mood: str


class Grammar:
    """Sentences over some signs: `sentence(rng)` draws one of 1 to about 16 glosses; `near`: its words in their
    order."""

    def __init__(self, signs: dict[str, Sign], *, near: bool = False) -> None:
        self.near = near
        self.kinds = {kind: [s.word for s in signs.values() if s.kind == kind] for kind in WORDS}

    def _maybe(self, rng: np.random.Generator, kind: str, chance: float) -> str:
        words = self.kinds[kind]
        return str(rng.choice(words)) if words and rng.random() < chance else ""

    def _clause(self, rng: np.random.Generator, may_ask: bool) -> Clause:
        time, place = self._maybe(rng, "time", 0.35), self._maybe(rng, "place", 0.2)
        subject, verb, noun = (self._maybe(rng, kind, 1.0) for kind in ("subject", "verb", "object"))
        adjective, number = self._maybe(rng, "adjective", 0.25), self._maybe(rng, "number", 0.1)
        question = self._maybe(rng, "question", 0.15) if may_ask else ""
        negation = "" if question else self._maybe(rng, "negation", 0.2)
        tense = TENSE.get(time, "present")
        subject = subject.lower()
        thing = _noun_text(noun, adjective, number)
        if question:
            text = _question_text(question, subject, verb, noun=thing, tense=tense)
            if question == "what":
                noun = adjective = number = ""
            if question == "who":
                subject = ""
            if question == "where":
                place = ""
        else:
            text = f"{_subject_text(subject)} {_verb_text(verb, subject, tense, negation=negation)} {thing}"
        text = " ".join(part for part in (text, _place_text(place), _time_text(time)) if part)
        order = [time, place, noun, adjective, number, subject, verb.split(":")[0], negation, question]
        if self.near:
            said = [_time_text(time), _place_text(place), f"the {noun}" if noun else "", adjective, number]
            said += [_subject_text(subject) if subject else "", _verb_text(verb, subject, tense, negation="")]
            text = " ".join(part for part in (*said, negation, question) if part)
        mood = "wonders" if question else "denies" if negation else "statement"
        return Clause(text, [word.upper() for word in order if word], mood)

    def sentence(self, rng: np.random.Generator) -> Sentence:
        phrase = self._maybe(rng, "phrase", 0.12)
        if phrase and rng.random() < 0.35:
            return Sentence(phrase, (phrase.upper(),), "statement")
        clauses = 1 + int(rng.random() < 0.1) + int(rng.random() < 0.04)
        text, glosses, mood = self._clause(rng, may_ask=clauses == 1)
        for _ in range(clauses - 1):
            link = self._maybe(rng, "link", 1.0)
            more, signs, mood = self._clause(rng, may_ask=False)
            text = f"{text} {link} {more}"
            glosses = [*glosses, *([link.upper()] if link else []), *signs]
        if phrase:
            text = f"{phrase} {text}"
            glosses = [phrase.upper(), *glosses]
        if mood == "statement" and rng.random() < 0.1:
            mood = "asks"
            text = f"{text} is it true" if self.near else f"is it true that {text}"
        return Sentence(text, tuple(glosses), mood)
