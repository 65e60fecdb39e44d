"""What we say to a user: a UserError, one short line whatever it quotes. Anything else that is raised is our fault.

raise UserError(f"data.fps is {shown(value)}: a number is expected")

shown(value)          a value as an error quotes it: short and quick to make, whatever it is
one_line(text)        text that cannot leave its line or turn it round
odd_character(text)   what a name must not hold
refusal(error)        why the system refused to read or write
first_line(error)     what another library says, or the kind of its error
"""

from __future__ import annotations

import errno
import os
import re
from reprlib import Repr
from typing import Any

MOST_SHOWN = 160  # characters of a value
MOST_SAID = 1000  # characters of an error
# Controls (newlines, escapes of a terminal, NUL), the separators of lines and paragraphs, halves of characters, and the
# marks that turn the direction of what follows.
ODD = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class UserError(ValueError):
    """Ends a program with its text as one line and exit status 2 (cli.run)."""

    def __init__(self, text: object = "") -> None:
        super().__init__(one_line(str(text)))


def one_line(text: str, most: int = MOST_SAID) -> str:
    """Line breaks as spaces, other odd characters as Python would write them, the middle left out of what is long."""
    return _cut(ODD.sub(lambda match: " " if match[0] in "\n\r\t" else ascii(match[0])[1:-1], _cut(text, most)), most)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2 - 1]}...{text[2 - most // 2 :]}"


def odd_character(text: str) -> str | None:
    """The first character that cannot stand in a name, as Python would write it."""
    match = ODD.search(text)
    return ascii(match[0])[1:-1] if match else None


def shown(value: Any, most: int = MOST_SHOWN) -> str:
    """`value` as Python would write it, the middle left out of what is long."""
    short = Repr()
    short.maxstring = short.maxother = short.maxlong = most
    short.maxlevel, short.maxdict, short.maxlist, short.maxtuple, short.maxset = 3, 8, 12, 12, 8
    try:
        text = short.repr(value)
    except ValueError:  # Python writes out no number of thousands of digits
        text = f"a {type(value).__name__} too long to show"
    return one_line(text, most)


def refusal(error: OSError) -> str:
    """The system's reason; numpy says in its own words that a disk is full."""
    full = error.errno is None and "requested and" in str(error)
    return os.strerror(errno.ENOSPC) if full else error.strerror or str(error) or type(error).__name__


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
