"""What became of each video, a line each, so that a command that was stopped goes on where it was.

    with open_journal(out) as journal:
        journal.finished(name, origin, settings) -> Entry, if that very file was done with those settings
        journal.add(entry)                            # on the disk when it returns

The journal claims the folder too: one that something else filled, or that somebody fills just now, is refused.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from signstream.errors import UserError

JOURNAL = "video_journal.jsonl"


class Origin(NamedTuple):
    """Which file it was, and whether it is still the same."""

    path: str
    size: int
    modified: int  # nanoseconds


class Entry(NamedTuple):
    """A video's outcome: a clip, or the reason why it gives none."""

    name: str
    origin: Origin
    settings: Mapping[str, Any]
    reason: str = ""
    frames: int = 0
    fps: float = 0.0
    size: tuple[int, int] = (0, 0)  # of the picture
    body: float = 0.0  # percent of the frames that show it
    hands: float = 0.0  # that show one of them at least


def origin_of(path: Path) -> Origin:
    status = path.stat()
    return Origin(os.path.realpath(path), status.st_size, status.st_mtime_ns)


class Journal:
    def __init__(self, file: BinaryIO) -> None:
        """Of an open file, whose last line may have been cut off."""
        self.file = file
        lines = file.read().split(b"\n")
        self.entries = {entry.name: entry for entry in map(_entry, lines) if entry is not None}
        if lines[-1]:
            file.write(b"\n")

    def finished(self, name: str, origin: Origin, settings: Mapping[str, Any]) -> Entry | None:
        entry = self.entries.get(name)
        return entry if entry is not None and (entry.origin, entry.settings) == (origin, settings) else None

    def add(self, entry: Entry) -> None:
        self.entries[entry.name] = entry
        self.file.write(json.dumps({**entry._asdict(), "origin": entry.origin._asdict()}).encode() + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())


def _entry(line: bytes) -> Entry | None:
    """None: no whole line of ours, so that its video is done anew."""
    try:
        values = json.loads(line)
        return Entry(**{**values, "origin": Origin(**values["origin"]), "size": tuple(values["size"])})
    except (ValueError, TypeError, KeyError):
        return None


@contextmanager
def open_journal(out: Path) -> Iterator[Journal]:
    path = out / JOURNAL
    if out.exists() and not (out.is_dir() and (path.exists() or not any(out.iterdir()))):
        raise UserError(f"--out {out} holds something else, as it has no {JOURNAL}: name another folder")
    out.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"--out {out} is being filled by another process: wait for it, or stop it") from None
        except OSError:
            pass  # a disk without locks
        file.seek(0)
        yield Journal(file)
