"""Glosses as ids: the blank is 0, then every gloss of the training split, sorted.

    glosses = Glosses.of(lines)          lines of words -> Glosses
    glosses.ids(["REGEN", "MORGEN"])     -> [7, 4], UNKNOWN where there is no such gloss
    glosses.words([7, 4])                -> ["REGEN", "MORGEN"]

They are kept with the weights that were trained on them (`state`, `from_state`), since an id means nothing else. What
is not among them has no id, and no reader makes one up: the word stays in its reference, where it counts as an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from signstream.errors import UserError, odd_character, shown

BLANK = 0
UNKNOWN = -1
MOST = 1 << 20  # glosses: the largest sets have a few thousands
LONGEST = 1 << 10  # characters of one


@dataclass(frozen=True)
class Glosses:
    """V - 1 of them; a gloss's id is its place here, from 1."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, lines: Iterable[Iterable[str]]) -> Glosses:
        return cls(tuple(sorted({word for line in lines for word in line})))

    @classmethod
    def from_state(cls, state: Any) -> Glosses:
        """Out of a checkpoint, which may be anybody's."""
        if not isinstance(state, list) or not 0 < len(state) <= MOST:
            raise UserError("the checkpoint is of another program: it has no list of glosses")
        odd = next((name for name in state if not _is_gloss(name)), None)
        if odd is not None or len(set(state)) != len(state):
            raise UserError(
                f"the checkpoint's glosses are odd: {shown(odd) if odd is not None else 'one stands twice'}"
            )
        return cls(tuple(state))

    def state(self) -> list[str]:
        return list(self.names)

    def __len__(self) -> int:
        """V, the blank among them."""
        return len(self.names) + 1

    def ids(self, words: Sequence[str]) -> list[int]:
        return [self._number.get(word, UNKNOWN) for word in words]

    def words(self, ids: Iterable[int]) -> list[str]:
        return [self.names[i - 1] for i in ids if i != BLANK]

    @cached_property
    def _number(self) -> Mapping[str, int]:
        return {name: i for i, name in enumerate(self.names, start=1)}


def _is_gloss(value: Any) -> bool:
    return (
        isinstance(value, str) and 0 < len(value) <= LONGEST and not odd_character(value) and value.split() == [value]
    )
