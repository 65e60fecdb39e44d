"""Run-length coding of codes [N, P, Q], without loss: a part that repeats the codes of the chunk before is written
once.

    rows = compress(codes, ["F", "LH"])    [{"t": 0, "F": [12, 7], "LH": [37]}, {"t": 1, "F": [7], "LH": ["NC", 2]}, ..]
    codes = expand(rows, ["F", "LH"], 2)   exactly what was compressed; the last argument is Q

A row a chunk, `t` its number. ["NC", k] at t: the codes of chunk t-1 hold for the k chunks t .. t+k-1, whose other rows
leave the part out. []: nothing of the part was sent. Whether a chunk changed so little that it holds is decided before,
on the codes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from reprlib import repr as shown  # short, on one line, whatever it shows
from typing import Any

import torch
from torch import Tensor

from signstream.errors import UserError
from signstream.tokens.codes import check_codes

Row = dict[str, Any]  # {"t": chunk, part: its codes or ["NC", k], ...}


def is_run(entry: object) -> bool:
    """Whether an entry of a row stands for held chunks."""
    return isinstance(entry, list) and entry[:1] == ["NC"]


def compress(codes: Tensor, parts: Sequence[str], rle: bool = True, *, longest: int = sys.maxsize) -> list[Row]:
    """codes [N, P, Q] -> N rows; no run is longer than `longest`. With 1, a row depends on no later chunk: so a live
    stream writes."""
    check_codes(codes, parts)
    rows: list[Row] = [{"t": t} for t in range(len(codes))]
    for p, part in enumerate(parts):
        entries = [[code for code in chunk if code >= 0] for chunk in codes[:, p].tolist()]
        t = 0
        while t < len(entries):
            k = _run_from(entries, t, longest) if rle else 0
            rows[t][part] = ["NC", k] if k else entries[t]
            t += max(k, 1)
    return rows


def _run_from(entries: list[list[int]], t: int, longest: int) -> int:
    """How many chunks from t on have the codes of chunk t-1, if it has any."""
    if t == 0 or not entries[t]:
        return 0
    end = min(len(entries), t + longest)
    return next((i for i in range(t, end) if entries[i] != entries[t - 1]), end) - t


def expand(rows: Sequence[Row], parts: Sequence[str], depth: int, *, codebook_size: int | None = None) -> Tensor:
    """N rows -> codes [N, P, depth]. Reads runs however they are cut; a malformed row is an error that says chunk, part
    and fault."""
    held = {part: [-1] * depth for part in parts}
    run_ends = dict.fromkeys(parts, 0)
    table = []
    for t, row in enumerate(rows):
        _check_row(row, t, parts)
        for part in parts:
            where = f"chunk {t}, {part}"
            _check_presence(part in row, t, run_ends[part], where=where)
            if part not in row:
                continue
            entry = row[part]
            if is_run(entry):
                run_ends[part] = t + _run_length(entry, t, len(rows) - t, where=where)
            else:
                held[part] = _padded(entry, depth, codebook_size, where=where)
        table.append(list(held.values()))
    return torch.tensor(table, dtype=torch.int64).reshape(len(rows), len(parts), depth)


def _check_row(row: Row, t: int, parts: Sequence[str]) -> None:
    if not isinstance(row, Mapping):
        raise UserError(f"chunk {t}: {shown(row)} is no row")
    if type(row.get("t")) is not int or row["t"] != t:
        raise UserError(f"chunk {t}: its t is {shown(row.get('t'))}: rows stand in order, one a chunk")
    for key in row:
        if key != "t" and key not in parts:
            raise UserError(f"chunk {t}, {shown(key)}: no part has this tag; the parts are {', '.join(parts)}")


def _check_presence(present: bool, t: int, run_end: int, *, where: str) -> None:
    """A part stands in each row that no run covers, and in no other."""
    if present and t < run_end:
        raise UserError(f"{where}: it stands in the row, but a run holds it up to chunk {run_end - 1}")
    if not present and t >= run_end:
        raise UserError(f"{where}: it is missing, and no run holds it ([] says that nothing was sent)")


def _run_length(entry: list[Any], t: int, left: int, *, where: str) -> int:
    k = entry[1] if len(entry) == 2 else None
    if type(k) is not int or k < 1:
        raise UserError(f'{where}: {shown(entry)} is no run: ["NC", k] with k of at least 1 is')
    if t == 0:
        raise UserError(f"{where}: a run in the first chunk has nothing to hold")
    if k > left:
        raise UserError(f"{where}: a run of {shown(k)} chunks goes on past the end; {left} are left")
    return k


def _padded(entry: Any, depth: int, codebook_size: int | None, *, where: str) -> list[int]:
    """The entry's codes, and -1 up to `depth`."""
    if not isinstance(entry, list):
        raise UserError(f'{where}: {shown(entry)} is no entry: a list of codes or ["NC", k] is')
    if len(entry) > depth:
        raise UserError(f"{where}: {len(entry)} codes; there are {depth} levels")
    size = codebook_size or 1 << 63
    for code in entry:
        if type(code) is not int or not 0 <= code < size:
            raise UserError(f"{where}: {shown(code)} is no code: 0..{size - 1} are")
    return entry + [-1] * (depth - len(entry))
