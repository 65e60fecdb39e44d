"""What was recognised, as files: a JSON line a clip, and the CTM and STM files that NIST's scoring tools read.

    write(Outputs(out, ctm, stm), results)       all of them, each whole, or none

    {"name": ..., "glosses": ["A", "B"], "signs": [{"gloss": "A", "first": 12, "last": 19, "confidence": 0.93}, ...],
     "fps": 30, "num_frames": 118, "score": -1.7, "reference": ["A", "C"]}

Frames count from 0, at `fps`; `reference` stands where the data set has one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from signstream.errors import UserError
from signstream.inference.clips import Clip
from signstream.inference.recognition.spans import Recognised, Signed
from signstream.io.tables import finite
from signstream.io.transcripts import Segment, TimedWord, ctm_bytes, stm_bytes
from signstream.io.whole import write_together
from signstream.models.metrics import wer

NO_SIGNER = "unknown"


class Result(NamedTuple):
    clip: Clip
    found: Recognised


class Outputs(NamedTuple):
    """Where to; None: not."""

    out: Path | None = None
    ctm: Path | None = None
    stm: Path | None = None

    def check(self) -> None:
        """That there may be such files, before anything is recognised."""
        named = {option: path for option, path in zip(("--out", "--ctm", "--stm"), self) if path is not None}
        for option, path in named.items():
            if path.exists() and not path.is_file():
                raise UserError(f"{option} {path} is {'a folder: name a file in it' if path.is_dir() else 'no file'}")
        if len(set(named.values())) < len(named):
            raise UserError(f"{' and '.join(named)} name the same file")


def write(outputs: Outputs, results: Sequence[Result]) -> None:
    contents: dict[Path, bytes] = {}
    if outputs.out is not None:
        contents[outputs.out] = "".join(f"{json.dumps(line_of(result))}\n" for result in results).encode()
    if outputs.ctm is not None:
        contents[outputs.ctm] = ctm_bytes(outputs.ctm, {clip.name: timed(found) for clip, found in results})
    if outputs.stm is not None:
        segments = [
            Segment(clip.name, clip.signer or NO_SIGNER, clip.words) for clip, _ in results if clip.words is not None
        ]
        contents[outputs.stm] = stm_bytes(outputs.stm, segments)
    for path in contents:
        path.parent.mkdir(parents=True, exist_ok=True)
    write_together(contents)


def line_of(result: Result) -> dict[str, Any]:
    clip, found = result
    line = {
        "name": clip.name,
        "glosses": list(found.glosses),
        "signs": [sign_line(sign) for sign in found.signs],
        "fps": int(found.fps) if found.fps == int(found.fps) else found.fps,
        "num_frames": found.frames,
        "score": round(found.score, 4),
    }
    return finite(line if clip.words is None else {**line, "reference": list(clip.words)})


def sign_line(sign: Signed) -> dict[str, Any]:
    return {**sign._asdict(), "confidence": round(sign.confidence, 4)}


def timed(found: Recognised) -> list[TimedWord]:
    """In seconds."""
    return [
        TimedWord(sign.gloss, sign.first / found.fps, (sign.last + 1 - sign.first) / found.fps, sign.confidence)
        for sign in found.signs
    ]


def errors_of(results: Sequence[Result]) -> wer.Counts:
    """Of the clips whose words are known."""
    return wer.Counts.total(wer.count(clip.words, found.glosses) for clip, found in results if clip.words is not None)
