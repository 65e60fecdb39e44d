"""Hidden folders that something is made in, held by who makes it, so that what a killed maker left can be told from
what somebody is making just now.

    with partial_folder(out) as part: ...; part.rename(out)     # .<name>.<8 letters>.partial, gone if the block fails

A folder is held by a lock that the system lets go when its maker and the processes that it started are gone. Where a
disk has no such locks, nothing is ever removed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ENDING = ".partial"
MIDDLE = re.compile("[a-z0-9_]{8}")  # as tempfile makes it


@contextmanager
def partial_folder(out: Path) -> Iterator[Path]:
    """A new folder beside `out`; those that killed makers of `out` left are removed."""
    with _held(_hold(out.parent, wait=True)):  # nobody sweeps a folder between its making and its being held
        _sweep(out)
        part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=ENDING, dir=out.parent))
        hold = _hold(part)
    with _held(hold):
        try:
            yield part
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def _sweep(out: Path) -> None:
    for part in out.parent.glob(f".*{ENDING}"):
        middle = part.name.removeprefix(f".{out.name}.").removesuffix(ENDING)
        if part.name == f".{out.name}.{middle}{ENDING}" and MIDDLE.fullmatch(middle):
            hold = _hold(part)
            if hold is not None:
                with _held(hold):
                    shutil.rmtree(part, ignore_errors=True)


def _hold(folder: Path, wait: bool = False) -> int | None:
    """A descriptor that holds the folder; None where somebody holds it, or it cannot be held."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | (0 if wait else os.O_NOFOLLOW))
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def _held(descriptor: int | None) -> Iterator[None]:
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
