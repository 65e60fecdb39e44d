"""What was translated, as files: a JSON line a clip, and the scores of all of them.

    write(Outputs(out, report, folder), lines, report, page=page)    all, each whole, or none

    {"name": ..., "text": "it rains", "score": -0.31, "nbest": [["it rains", -0.31], ...], "meant": "it rained"}

`nbest` stands where more than one was asked for, `meant` where the data set has a sentence. A score is the sum of the
units' log-probabilities divided by units ** length_penalty.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from signstream.errors import UserError
from signstream.inference.clips import Clip
from signstream.inference.translation.translator import Best
from signstream.io.tables import finite
from signstream.io.whole import write_together
from signstream.models.metrics.text import TextScores

PAGE = "index.html"


class Result(NamedTuple):
    clip: Clip
    best: Best
    units: tuple[int, ...]  # of the best
    number: int  # among the clips


class Outputs(NamedTuple):
    """Where to; None: not."""

    out: Path | None = None
    report: Path | None = None
    page: Path | None = None  # a folder

    def check(self) -> None:
        """That there may be such files, before anything is translated."""
        both = {"--out": self.out, "--report": self.report}
        named = {option: path for option, path in both.items() if path is not None}
        for option, path in named.items():
            if path.exists() and not path.is_file():
                raise UserError(f"{option} {path} is {'a folder: name a file in it' if path.is_dir() else 'no file'}")
        if len(set(named.values())) < len(named):
            raise UserError(f"{' and '.join(named)} name the same file")
        if self.page is None:
            return
        if self.page.exists() and not self.page.is_dir():
            raise UserError(f"--page {self.page} is no folder: name one, in which {PAGE} is written")
        for option, path in named.items():
            if path in (self.page, self.page / PAGE):
                raise UserError(f"{option} {path} is where --page writes: name another file")


def write(outputs: Outputs, lines: Sequence[str], report: Mapping[str, Any], *, page: str | None = None) -> None:
    contents: dict[Path, bytes] = {}
    if outputs.out is not None:
        contents[outputs.out] = as_bytes("".join(f"{line}\n" for line in lines))
    if outputs.report is not None:
        contents[outputs.report] = as_bytes(json.dumps(finite(report), indent=1, ensure_ascii=False) + "\n")
    if outputs.page is not None and page is not None:
        contents[outputs.page / PAGE] = as_bytes(page)
    for path in contents:
        path.parent.mkdir(parents=True, exist_ok=True)
    write_together(contents)


def as_bytes(text: str) -> bytes:
    """UTF-8; half a character, which a file's name may hold, as JSON escapes it."""
    return text.encode("utf-8", "backslashreplace")


def line_of(result: Result, n_best: int = 1) -> str:
    clip = result.clip
    pairs = [[each.text, round(each.score, 4)] for each in result.best]
    line: dict[str, Any] = {"name": clip.name, "text": pairs[0][0], "score": pairs[0][1]}
    if n_best > 1:
        line["nbest"] = pairs
    return json.dumps(finite(line if clip.text is None else {**line, "meant": clip.text}), ensure_ascii=False)


def scored(language: str, references: Sequence[str], said: Sequence[str]) -> TextScores:
    scores = TextScores(language)
    scores.add(references, said)
    return scores
