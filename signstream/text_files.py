"""Files that somebody hands us, opened and read so that none of them can hang us or fill the memory.

    open_regular(path, within=root) -> an open file      read_text(path, most=1 << 20) -> its text

Only regular files are opened: a pipe would wait for ever, a device never ends. `within`, a folder as os.path.realpath
gives it, refuses links that lead out of it. Whatever is wrong is an OSError whose `strerror` says it in a few words,
or, of text, a UnicodeDecodeError.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def open_regular(path: Path, within: Path | None = None) -> BinaryIO:
    """The file's bytes, from the first."""
    try:
        real = Path(os.path.realpath(path))
        _check_kind(path, os.stat(path))
    except ValueError:  # NUL, or half a character
        raise FileNotFoundError(errno.ENOENT, "no file can have that name", str(path)) from None
    if within is not None and not real.is_relative_to(within):
        raise OSError(errno.EXDEV, f"a link that leads out of {within}", str(path))
    # Should it have become a pipe by now, O_NONBLOCK opens it at once.
    descriptor = os.open(path if within is None else real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_kind(path, os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_kind(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(errno.EINVAL, f"not a file, but {kind}", str(path))


def read_text(path: Path, *, most: int, within: Path | None = None, errors: str = "strict") -> str:
    """UTF-8 text of at most so many bytes, its lines ending as Python has them."""
    with open_regular(path, within) as file:
        # What the system makes up as it is read (/proc) has no size.
        too_large = os.fstat(file.fileno()).st_size > most
        content = b"" if too_large else file.read(most + 1)
    if too_large or len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most >> 20} MB", str(path))
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors=errors).read()
