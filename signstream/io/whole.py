"""Files and folders that are whole or not there: what is written shows under its name once all of it is on the disk.

    write_whole(path, lambda file: file.write(content))
    write_together({path: content, ...})         # files that belong together
    with whole_file(path) as part: ...           # for what writes to a path of its own accord
    with whole_folder(path) as part: ...         # a new folder; refuses one that holds anything

A killed program leaves hidden siblings: `.<name>.<8 digits>.part`, which `remove_parts(folder)` removes for who knows
that nobody else writes there, and folders, which the next one who makes the same folder removes (io/partial.py).
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from signstream.errors import UserError, refusal
from signstream.io.partial import partial_folder


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """What `write` writes into an open file; until it is whole the old file stays."""
    with whole_file(path) as part, part.open("xb") as file:
        write(file)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Files that belong together: none shows before all are on the disk."""
    with ExitStack() as stack:
        parts = {path: stack.enter_context(whole_file(path)) for path in contents}
        for path, content in contents.items():
            with _naming(path):
                parts[path].write_bytes(content)
                _sync(parts[path])


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its name when the block ends; when the block fails, it is gone."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is {'a folder' if path.is_dir() else 'no file'}: name a file to write")
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with _naming(path):
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
    with partial_folder(out) as part, _naming(out):
        yield part
        part.chmod(0o755)
        part.rename(out)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A refusal that names no file gets the path: a full disk says only that it is full, and numpy not even that."""
    try:
        yield
    except OSError as error:
        if error.filename or (error.errno is None and refusal(error) == str(error)):
            raise
        raise OSError(error.errno or errno.ENOSPC, refusal(error), str(path)) from error


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
