"""What a live run wrote while it listened, read and checked: a JSON line a chunk.

    run = read_events(Path("live.jsonl"))    -> LiveRun(name, clips), clips by their names

    {"header": true, "policy": "own:0.5"}                                      may come first
    {"video_name": "a", "chunk": 0, "consumed": 333, "elapsed": 350, "computing": 17, "committed": "it", "thought": ""}
    {"video_name": "a", "chunk": 1, ..., "committed": " rains", "thought": " now", "end": true, "signing": 620}

Times are milliseconds: `consumed` of signing read so far, `elapsed` when the text stood there, `computing` of this
chunk alone, `signing` of the whole clip. `committed` is what a line adds to the text so far, which stays, and `thought`
what may follow; blanks are included. Clips may take turns. What is wrong is one line that names file and line.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from signstream.errors import UserError, shown
from signstream.text_files import open_regular

LONGEST_LINE = 1 << 20  # bytes
LATEST = 1e9  # ms: eleven days
ROUNDED = 1.0  # ms by which a time that was rounded may fall short of one that was not


class Update(NamedTuple):
    chunk: int
    consumed: float
    elapsed: float
    computing: float
    committed: str  # all of it so far
    thought: str

    @property
    def shown(self) -> str:
        return self.committed + self.thought


class LiveClip(NamedTuple):
    name: str
    updates: tuple[Update, ...]
    signing: float


class LiveRun(NamedTuple):
    name: str  # its policy, else the file's
    clips: dict[str, LiveClip]


def read_events(path: Path) -> LiveRun:
    name = path.stem
    open_clips: dict[str, list[Update]] = {}
    done: dict[str, LiveClip] = {}
    with open_regular(path) as file:
        for number, raw in enumerate(iter(partial(file.readline, LONGEST_LINE + 1), b""), 1):
            where = f"{path}, line {number}"
            if not raw.strip():
                continue
            line = _object(raw, where)
            if line.get("header") is True:
                if open_clips or done:
                    raise UserError(f"{where}: a header in the middle; a file is one run's")
                name = _text(line, "policy", where) if "policy" in line else name
                continue
            clip = _text(line, "video_name", where)
            if clip in done:
                raise UserError(f"{where}: the clip {shown(clip)} goes on after its end, or stands there twice")
            updates = open_clips.setdefault(clip, [])
            updates.append(_update(line, updates[-1] if updates else None, where))
            if line.get("end") is True:
                del open_clips[clip]
                done[clip] = LiveClip(clip, tuple(updates), _number(line, "signing", where, least=1))
    if open_clips:
        raise UserError(f'{path}: the clip {shown(next(iter(open_clips)))} has no line with "end": the file may be cut')
    if not done:
        raise UserError(f"{path} holds no clip: translate --live writes such a file")
    return LiveRun(name, done)


def _object(raw: bytes, where: str) -> dict[str, Any]:
    if len(raw) > LONGEST_LINE:
        raise UserError(f"{where}: longer than {LONGEST_LINE >> 20} MB")
    try:
        line = json.loads(raw, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: no JSON that can be read: {error}") from None
    if not isinstance(line, dict):
        raise UserError(f"{where}: {shown(line)}, an object is expected")
    return line


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _update(line: dict[str, Any], before: Update | None, where: str) -> Update:
    chunk = line.get("chunk")
    if not isinstance(chunk, int) or isinstance(chunk, bool) or not 0 <= chunk < LATEST:
        raise UserError(f"{where}: chunk is {shown(chunk)}, a count from 0 on is expected")
    consumed, elapsed, computing = (_number(line, key, where) for key in ("consumed", "elapsed", "computing"))
    committed, thought = (_text(line, key, where) for key in ("committed", "thought"))
    so_far = "" if before is None else before.committed
    update = Update(chunk, consumed, elapsed, computing, so_far + committed, thought)
    if update.elapsed < update.consumed - ROUNDED:
        raise UserError(f"{where}: elapsed is before consumed: nothing is said before its signing was read")
    if before is None:
        return update
    for key in ("chunk", "consumed", "elapsed"):
        if getattr(update, key) < getattr(before, key):
            raise UserError(f"{where}: {key} goes back, from {getattr(before, key):g} to {getattr(update, key):g}")
    return update


def _number(line: dict[str, Any], key: str, where: str, *, least: float = 0) -> float:
    value = line.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value < LATEST:
        raise UserError(f"{where}: {key} is {shown(value)}, milliseconds are expected")
    return float(value)


def _text(line: dict[str, Any], key: str, where: str) -> str:
    value = line.get(key)
    if not isinstance(value, str):
        raise UserError(f"{where}: {key} is {shown(value)}, text is expected")
    return value
