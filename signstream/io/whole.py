"""Files and folders that are whole or not there: what is written shows under its name once all of it is on the disk.

    write_whole(path, lambda file: file.write(content))
    with whole_file(path) as part: ...           # for what writes to a path of its own accord
    with whole_folder(path) as part: ...         # a new folder; refuses one that holds anything

A killed program leaves hidden siblings, `.<name>.<8 digits>.part`; `remove_parts(folder)` is for who knows that
nobody else writes there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from signstream.errors import UserError


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """What `write` writes into an open file; until it is whole the old file stays."""
    with whole_file(path) as part, part.open("xb") as file:
        write(file)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its name when the block ends; when the block fails, it is gone."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        _sync(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    _sync(path.parent)


@contextmanager
def whole_folder(out: Path, option: str = "--out") -> Iterator[Path]:
    """A folder beside `out`, which takes its name when the block ends; when the block fails, it is gone."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{option} {out} exists and is not an empty folder: name another one; nothing is overwritten")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        yield part
        part.chmod(0o755)
        part.rename(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def remove_parts(folder: Path) -> None:
    """Removes the files that killed writers left."""
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """To the disk, a file's content or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
