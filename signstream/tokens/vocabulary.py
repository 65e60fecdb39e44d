"""Codes as ids for a language model, beside the ids of its text, and back, exactly.

    vocabulary = Vocabulary(("F", "LH"), levels=(2, 1), codebook_size=1024, offset=len(text_tokenizer))
    vocabulary.encode(codes)              ids of <SIGN> <F0:c12> <F1:c7> <LH0:a37> <F0:c7> <NC:2> ... </SIGN>
    vocabulary.decode(ids)                codes [N, P, Q]
    vocabulary.chunks(codes)              [N] the ids of each chunk

A clip is <SIGN>, then chunk by chunk, part by part: its codes, or <NONE> (nothing was sent), or <NC:k> (the codes of
the chunk before hold for k chunks, in which nothing more is written for the part), then </SIGN>. What stands around it
for a language model, <SEP> and <COMMIT> among it, is in llm.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from reprlib import repr as shown  # short, on one line, whatever it shows
from typing import Any

from torch import Tensor

from signstream.errors import UserError
from signstream.tokens.codes import check_codes
from signstream.tokens.format import check_parts
from signstream.tokens.rle import Row, compress, expand, is_run
from signstream.tokens.templates import part_letters

LONGEST_RUN = 32  # chunks; a longer run is written as several, each where the one before ends
SPECIALS = ("<SIGN>", "</SIGN>", "<SEP>", "<COMMIT>", "<NONE>", *(f"<NC:{k}>" for k in range(1, LONGEST_RUN + 1)))


@dataclass(frozen=True)
class Vocabulary:
    """Ids from `offset` (the size of the text's vocabulary) on: the specials, then the codes part by part, level by
    level."""

    parts: tuple[str, ...]
    levels: tuple[int, ...]
    codebook_size: int
    offset: int = 0

    def __post_init__(self) -> None:
        check_parts(self.parts, self.levels, self.codebook_size)

    def __len__(self) -> int:
        return len(SPECIALS) + sum(self.levels) * self.codebook_size

    @property
    def strings(self) -> list[str]:
        """In the order of their ids; <F0:c12> is code 12 of F's first level."""
        letters = part_letters(self.parts)
        return [
            *SPECIALS,
            *(
                f"<{tag}{level}:{letters[tag]}{code}>"
                for tag, levels in zip(self.parts, self.levels)
                for level in range(levels)
                for code in range(self.codebook_size)
            ),
        ]

    def added_tokens(self) -> dict[str, int]:
        return {text: self.offset + i for i, text in enumerate(self.strings)}

    def special(self, text: str) -> int:
        return self.offset + SPECIALS.index(text)

    def encode(self, codes: Tensor, rle: bool = True, longest: int = LONGEST_RUN) -> list[int]:
        """codes [N, P, Q] -> ids. With longest=1 a chunk's ids depend on no later chunk."""
        inside = [i for ids in self.chunks(codes, rle, longest) for i in ids]
        return [self.special("<SIGN>"), *inside, self.special("</SIGN>")]

    def chunks(self, codes: Tensor, rle: bool = True, longest: int = LONGEST_RUN) -> list[list[int]]:
        """codes [N, P, Q] -> the ids of each chunk; none of one that every part holds. With longest=1 there are some in
        each."""
        check_codes(codes, self.parts, levels=self.levels, codebook_size=self.codebook_size)
        rows = compress(codes, self.parts, rle, longest=min(longest, LONGEST_RUN))
        return [[i for p, tag in enumerate(self.parts) if tag in row for i in self._ids(p, row[tag])] for row in rows]

    def _ids(self, p: int, entry: list[Any]) -> list[int]:
        if not entry:
            return [self.special("<NONE>")]
        if is_run(entry):
            return [self.special(f"<NC:{entry[1]}>")]
        return [self._first(p, level) + code for level, code in enumerate(entry)]

    def _first(self, p: int, level: int) -> int:
        """The id of code 0."""
        return self.offset + len(SPECIALS) + (sum(self.levels[:p]) + level) * self.codebook_size

    def decode(self, ids: Sequence[int]) -> Tensor:
        """ids -> codes [N, P, Q], Q the most levels. What says no codes is an error that names the position."""
        self._check_ends(ids)
        rows: list[Row] = []
        at = 1
        run_ends = [0] * len(self.parts)
        # the last chunks may be held by every part, and so have no ids
        while at < len(ids) - 1 or len(rows) < max(run_ends):
            t = len(rows)
            row: Row = {"t": t}
            for p, tag in enumerate(self.parts):
                if t < run_ends[p]:
                    continue
                row[tag] = entry = self._entry(ids, at, p, t=t)
                held = is_run(entry)
                at += 1 if held else max(len(entry), 1)
                run_ends[p] = t + entry[1] if held else t
            rows.append(row)
        return expand(rows, self.parts, max(self.levels))

    def _check_ends(self, ids: Sequence[int]) -> None:
        for at, i in enumerate(ids):
            if type(i) is not int:
                raise UserError(f"position {at}: {shown(i)} is no id")
        for at, mark in ((0, "<SIGN>"), (len(ids) - 1, "</SIGN>")):
            if len(ids) < 2 or ids[at] != self.special(mark):
                raise UserError(f"position {max(at, 0)}: {mark} is expected")

    def _entry(self, ids: Sequence[int], at: int, p: int, *, t: int) -> list[Any]:
        """What part p says in chunk t, from ids[at] on; the last id is </SIGN>, so the reading ends."""
        first = ids[at] - self.offset
        special = SPECIALS[first] if 0 <= first < len(SPECIALS) else ""
        if special == "<NONE>":
            return []
        if special.startswith("<NC:") and t > 0:
            return ["NC", first - SPECIALS.index("<NC:1>") + 1]
        entry: list[int] = []
        for level in range(self.levels[p]):
            code = ids[at + level] - self._first(p, level)
            if not 0 <= code < self.codebook_size:
                break
            entry.append(code)
        if not entry:
            stands = special or shown(ids[at])
            raise UserError(f"position {at}: {stands} stands where chunk {t} of {self.parts[p]} is expected")
        return entry
