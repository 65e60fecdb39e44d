"""A zip archive that says itself whether a byte of it has changed: its comment ends with the SHA-256 of all before.

sealer = Sealer(file)
torch.save(state, sealer)      # whoever writes an archive, from its first byte to its last
sealer.finish()
read_seal(file) -> the digits that the archive ends with, None: none     digest_of(file) -> those it should
"""

from __future__ import annotations

import hashlib
import os
from threading import Thread
from typing import IO

MARK = b"signstream sha256 "
DIGITS = 64
END = 22  # bytes of the record that ends an archive without a comment; the last two of them are the comment's length
BLOCK = 1 << 20


class Sealer:
    """What an archive is written to, front to back. `fault`: what the system said when a write failed, since torch's
    writer goes on to an error of its own."""

    def __init__(self, file: IO[bytes]) -> None:
        self.fault: OSError | None = None
        self._file = file
        self._sha = hashlib.sha256()
        self._tail = b""  # the last bytes, which change when the comment is added

    def write(self, data: bytes | memoryview) -> int:
        view = memoryview(data).cast("B")
        if len(view) >= END:
            self._put(self._tail)
            self._put(view[:-END])
            self._tail = bytes(view[-END:])
        else:
            tail = self._tail + bytes(view)
            self._put(tail[:-END])
            self._tail = tail[-END:]
        return len(view)

    def flush(self) -> None:
        """All that can be is in the file already."""

    def finish(self) -> None:
        assert self._tail.startswith(b"PK\5\6") and self._tail.endswith(b"\0\0"), "an archive ends otherwise"
        self._put(self._tail[:-2] + (len(MARK) + DIGITS).to_bytes(2, "little") + MARK)
        self._file.write(self._sha.hexdigest().encode())
        self._file.flush()

    def _put(self, data: bytes | memoryview) -> None:
        """Of what is long the digest is worked out while it is written."""
        digesting = Thread(target=self._sha.update, args=(data,)) if len(data) > BLOCK else None
        if digesting is None:
            self._sha.update(data)
        else:
            digesting.start()
        try:
            self._file.write(data)
        except OSError as error:
            self.fault = error
            raise
        finally:
            if digesting is not None:
                digesting.join()


def read_seal(file: IO[bytes]) -> str | None:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - len(MARK) - DIGITS, 0))
    tail = file.read()
    return tail[len(MARK) :].decode("ascii", "replace") if tail.startswith(MARK) else None


def digest_of(file: IO[bytes]) -> str:
    """Of all but the digits themselves."""
    left = file.seek(0, os.SEEK_END) - DIGITS
    file.seek(0)
    sha = hashlib.sha256()
    while left > 0 and (block := file.read(min(BLOCK, left))):
        sha.update(block)
        left -= len(block)
    return sha.hexdigest()
