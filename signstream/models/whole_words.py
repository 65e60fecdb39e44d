"""Units of text that are whole words, whatever tokenizer they are of: what is said goes by words, and only grows.

    units said before --text_after--> the text that more units add to it
    words_of(units, ids, before=said, ended=False)      [W] the ids of each word; what may go on is no word yet
    joins(units, ids, before=said)                      whether they would change the last word that was said

A word is what stands between blanks; in a script without blanks a character is one, as in data/earliest.py. `before`
need be no more than the last word that was said: no unit looks further back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from signstream.models.prefix_sources import Units

ALONE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
HALF = "\ufffd"  # what a character is read as while some of its bytes are missing


def text_after(units: Units, before: Sequence[int], ids: Sequence[int]) -> str:
    """With the blank before it; without half a character at its end, or a blank."""
    return units.text([*before, *ids]).rstrip(f"{HALF} ")[len(units.text(before)) :]


def words_of(units: Units, ids: Sequence[int], *, before: Sequence[int], ended: bool) -> list[list[int]]:
    """`ended`: nothing follows. Units without a text belong to the word behind them."""
    whole = text_after(units, before, ids)
    words: list[list[int]] = []
    begun = seen = 0
    for end in range(1, len(ids) + 1):
        text = text_after(units, before, ids[:end])
        if len(text) > seen and whole.startswith(text) and _ends(whole, len(text), ended):
            words.append(list(ids[begun:end]))
            begun, seen = end, len(text)
    return words


def joins(units: Units, ids: Sequence[int], *, before: Sequence[int]) -> bool:
    said, added = units.text(before), text_after(units, before, ids)
    return bool(said and added) and not _ends(said + added, len(said), False)


def _ends(text: str, at: int, ended: bool) -> bool:
    """Whether a word ends before text[at]."""
    if ALONE.match(text[at - 1]):
        return True
    return ended if at == len(text) else text[at].isspace() or ALONE.match(text[at]) is not None
