"""Codes as lines that people read, and back, exactly: a line a chunk, as the specification prints them.

    templates(codes, ["F", "LH"])     ["<T0><F:c12><F:c7><LH:a37>", "<T1><F:c7>", ...]
    from_templates(lines, tags, Q)    codes [N, P, Q]

A level or part that was not sent is left out; a run of k chunks is <TAG:NCxk>. Each part writes its codes with a
letter of its own, so that no mark is taken for another part's or for a word.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from reprlib import repr as shown  # short, on one line, whatever it shows
from typing import Any

from torch import Tensor

from signstream.errors import UserError
from signstream.tokens.rle import Row, compress, expand, is_run

LETTERS = {"F": "c", "LH": "a", "RH": "b", "B": "d", "FB": "e"}
MARK = re.compile(r"<([A-Z]{1,16}):(?:NCx([0-9]{1,9})|([a-z])([0-9]{1,18}))>")


def part_letters(tags: Sequence[str]) -> dict[str, str]:
    """{tag: letter}; tags that the table lacks get the letters that are free, in their order."""
    free = sorted(set(string.ascii_lowercase) - set(LETTERS.values()))
    others = [tag for tag in tags if tag not in LETTERS]
    distinct = bool(tags) and len(set(tags)) == len(tags)
    written = all(re.fullmatch("[A-Z]{1,16}", tag) for tag in others)
    if not distinct or not written or len(others) > len(free):
        expected = f"different tags of capital letters are expected, such as {', '.join(LETTERS)}"
        raise UserError(f"the parts are {shown(list(tags))}: {expected}")
    return LETTERS | dict(zip(others, free))


def templates(codes: Tensor, tags: Sequence[str], rle: bool = False) -> list[str]:
    """A line for each of the N chunks of codes [N, P, Q]."""
    letters = part_letters(tags)

    def marks(tag: str, entry: list[Any]) -> str:
        if is_run(entry):
            return f"<{tag}:NCx{entry[1]}>"
        return "".join(f"<{tag}:{letters[tag]}{code}>" for code in entry)

    rows = compress(codes, tags, rle)
    return [f"<T{row.pop('t')}>" + "".join(marks(*item) for item in row.items()) for row in rows]


def from_templates(lines: Sequence[str], tags: Sequence[str], depth: int) -> Tensor:
    """The codes [N, P, depth] of N templates, whether they hold runs or not."""
    letters = part_letters(tags)
    rows: list[Row] = []
    run_ends = dict.fromkeys(tags, 0)
    for t, line in enumerate(lines):
        row = _row_of(line, t, letters={tag: letters[tag] for tag in tags})
        row |= {tag: [] for tag in tags if tag not in row and t >= run_ends[tag]}
        run_ends |= {tag: t + entry[1] for tag, entry in row.items() if is_run(entry)}
        rows.append(row)
    return expand(rows, tags, depth)


def _row_of(line: str, t: int, *, letters: dict[str, str]) -> Row:
    """What the template of chunk t says; parts that it leaves out are not in the row. letters {tag: letter}, in
    order."""
    if not isinstance(line, str) or not line.startswith(f"<T{t}>"):
        raise UserError(f"template {t} is {shown(line)}: it should begin with <T{t}>")
    row: Row = {"t": t}
    marks = line[len(f"<T{t}>") :]
    tags = list(letters)
    for tag, run, letter, code in MARK.findall(marks):
        if tag not in letters or (code and letter != letters[tag]):
            written = " ".join(f"<{known}:{letters[known]}..>" for known in tags)
            raise UserError(
                f"template {t} holds <{tag}:{letter or 'NCx'}{code or run}>: the parts are written {written}"
            )
        row[tag] = row.get(tag, []) + (["NC", int(run)] if run else [int(code)])
    order = [tags.index(tag) for tag, *_ in MARK.findall(marks)]
    if MARK.sub("", marks) or order != sorted(order):
        example = f"<{tags[0]}:{letters[tags[0]]}7>"
        raise UserError(f"template {t} is {shown(line)}: after <T{t}> marks such as {example} follow, part by part")
    return row
