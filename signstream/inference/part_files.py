"""What an export has finished, beside its output: files of rows from which another run, of any number of ranks, goes
on.

    parts = PartFiles(out, header, beside)      # .<out>.rank<r>.part; the header holds all that decides a row's bytes
    rows = parts.finished()                     # {clip: where its row is}
    with parts.append(rank) as write: write(row)      # a row is one write
    for line in parts.read(rows.values(), LINE): ...
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from signstream.errors import UserError, refusal

ROW = re.compile(rb"(\d+)" + rb"\t([^\t]*)" * 5 + rb"\n")
CLIP, COUNTS, LINE, LLM, LIVE, LATENTS = range(1, 7)  # the fields of a row


class RowPlace(NamedTuple):
    """Where a row lies."""

    path: Path
    start: int


class PartFiles:
    """Of one output. `header` is compared, never read; `beside`: what may be written with the output."""

    def __init__(self, out: Path, header: dict[str, Any], beside: Iterable[Path] = ()) -> None:
        self.out = out
        self.beside = tuple(beside)
        self.header = json.dumps(header).encode() + b"\n"

    def files(self) -> list[Path]:
        """Part files, and what a killed write of the output, or of what stands beside it, left."""
        others = "|".join(re.escape(path.name) for path in (self.out, *self.beside))
        name = re.compile(rf"\.({re.escape(self.out.name)}\.rank\d+|({others})\.[0-9a-f]{{8}})\.part")
        return [path for path in self.out.parent.iterdir() if name.fullmatch(path.name)]

    def finished(self) -> dict[int, RowPlace]:
        """Where the row of each finished clip begins. What another export wrote is removed, and a row that was cut."""
        rows = {}
        for path in self.files():
            with path.open("r+b") as file:
                if file.readline() != self.header:
                    path.unlink()
                    continue
                while row := file.readline():
                    start = file.tell() - len(row)
                    whole = ROW.fullmatch(row)
                    if not whole:
                        file.truncate(start)
                        break
                    rows[int(whole[CLIP])] = RowPlace(path, start)
        return rows

    @contextmanager
    def append(self, rank: int) -> Iterator[Callable[[bytes], object]]:
        """What writes this rank's rows."""
        path = self.out.with_name(f".{self.out.name}.rank{rank}.part")
        with path.open("ab", buffering=0) as file:

            def write(row: bytes) -> None:
                try:
                    if file.write(row) < len(row):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                except OSError as error:
                    goes_on = "what is finished stays, and the same command goes on with it"
                    raise UserError(f"cannot write {path}: {refusal(error)}; {goes_on}") from None

            if file.tell() == 0:
                write(self.header)
            yield write

    def read(self, rows: Iterable[RowPlace], field: int) -> Iterator[bytes]:
        """A field of each row, a line each."""
        rows = list(rows)
        with ExitStack() as stack:
            files = {path: stack.enter_context(path.open("rb")) for path in {row.path for row in rows}}
            for path, start in rows:
                files[path].seek(start)
                row = ROW.fullmatch(files[path].readline())
                assert row is not None, f"{path} was changed meanwhile"
                yield row[field] + b"\n"

    def remove(self) -> None:
        for path in self.files():
            path.unlink()
