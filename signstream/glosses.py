"""What is done to a gloss line before it is compared with a reference: the rules that PHOENIX's public scoring goes by.

    clean(["loc-NORD", "REGEN-PLUSPLUS", "C", "M"], "phoenix2014") -> ["NORD", "REGEN", "C+M"]

The set's training labels are raw and those of dev and test are not, so a recogniser is trained on cleaned labels, and
what it says is cleaned before it is scored. A label is split at white space; cleaning a clean line changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from signstream.errors import UserError, shown

LETTER = re.compile(r"(?:[A-Z]|SCH|NN)(?:\+(?:[A-Z]|SCH|NN))*")  # spelled with the fingers, one or several
PLAIN = re.compile("[A-Z]+")
ROOM = re.compile("(?<=[A-Z][A-Z])(?:RAUM)+$")


@dataclass(frozen=True)
class Rules:
    prefixes: tuple[str, ...] = ()  # marks before a word
    dropped: tuple[str, ...] = ()  # words that are no glosses
    all_marks: bool = False  # __ANY__ is no gloss
    renamed: Mapping[str, str] = field(default_factory=dict)
    joined: bool = False  # spelled letters to one word, WIE AUSSEHEN, repeated words to one


RULES = {
    "phoenix2014": Rules(
        ("loc-", "cl-", "qu-", "poss-", "lh-"),
        ("__EMOTION__", "__PU__", "__LEFTHAND__"),
        renamed={"S0NNE": "SONNE", "HABEN2": "HABEN", "ZEIGEN": "ZEIGEN-BILDSCHIRM"},
        joined=True,
    ),
    "phoenix2014t": Rules(("loc-", "cl-"), all_marks=True, joined=True),
    "none": Rules(),
}


def clean(words: Iterable[str], rules: str) -> list[str]:
    """The glosses that count."""
    if rules not in RULES:
        raise UserError(f"glosses cannot be cleaned by {shown(rules)}: {', '.join(RULES)} are known")
    rule = RULES[rules]
    kept = [_bare(word, rule) for word in words if not _is_mark(word, rule)]
    kept = [rule.renamed.get(word, word) for word in kept if word and not _is_mark(word, rule)]
    return _joined(kept) if rule.joined else kept


def _is_mark(word: str, rule: Rules) -> bool:
    return word in rule.dropped or (rule.all_marks and re.fullmatch("__[^_]*__", word) is not None)


def _bare(word: str, rule: Rules) -> str:
    """Without the marks before and behind it."""
    word = word.replace("-PLUSPLUS", "") if rule.joined else word
    while prefix := next((prefix for prefix in rule.prefixes if word.startswith(prefix)), ""):
        word = word.removeprefix(prefix)
    return ROOM.sub("", word) if rule.joined else word


def _joined(words: list[str]) -> list[str]:
    """Spelled letters that follow each other as one word, and of a plain word that is repeated the first."""
    out: list[str] = []
    for word in words:
        before = out[-1] if out else ""
        if LETTER.fullmatch(before) and LETTER.fullmatch(word):
            out[-1] = f"{before}+{word}"
        elif before == "WIE" and word == "AUSSEHEN":
            out[-1] = "WIE-AUSSEHEN"
        elif before != word or not PLAIN.fullmatch(word):
            out.append(word)
    return out
