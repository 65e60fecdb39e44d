"""References and hypotheses as NIST's scoring tools read them: STM and CTM files.

    write_stm(path, [Segment(name, signer, words)])            read_stm(path) -> the segments, in the file's order
    write_ctm(path, {name: [TimedWord(word, start, ...)]})     read_ctm(path) -> the same again
    stm_bytes, ctm_bytes                                       what these write, for files that belong together
    sctk sclite -r FILE.stm stm -h FILE.ctm ctm

    STM  name channel signer start end word ...                one line a segment; `;;` begins a comment
    CTM  name channel start duration word [confidence ...]     one line a word

Both are written in the order of the names' bytes, since sclite reads them side by side. A clip in which nothing was
recognised has a line with sclite's word for no word, @: a file without any line would not be scored at all. A word that
sclite takes for something else is refused, not rewritten.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from signstream.errors import UserError, odd_character, shown
from signstream.io.whole import write_whole
from signstream.text_files import open_regular

FOREVER = 1.79769e308  # the end of a segment that is a whole file, as PHOENIX-2014 has it
CHANNEL = "1"
NO_WORD = "@"
LONGEST_LINE = 1 << 16  # bytes
LONGEST_WORD = 255  # bytes: on one of thousands sclite hangs
MOST_WORDS = 1 << 20  # of a file
NUMBER = re.compile(rb"(?:\d{1,300}\.?\d{0,30}|\.\d{1,30})(?:[eE][+-]?\d{1,3})?")
# What sclite reads as something else, and as what.
OTHERWISE = (
    (re.compile("@"), "no word"),
    (re.compile("<.*"), "a label or a mark of alternatives"),
    (re.compile(r".*\{.*"), "alternatives"),
    (re.compile(r".*[;\\].*|.*\*"), "a shorter word"),
    (re.compile("IGNORE_TIME_SEGMENT_IN_SCORING", re.IGNORECASE), "a segment that does not count"),
)


class Segment(NamedTuple):
    name: str  # of the clip
    signer: str
    words: tuple[str, ...]
    start: float = 0.0  # seconds
    end: float = FOREVER


class TimedWord(NamedTuple):
    word: str
    start: float  # seconds
    duration: float
    confidence: float | None = None  # 0 to 1


class Row(NamedTuple):
    """A line of a file."""

    where: str  # file and line, for an error
    fields: list[bytes]


def write_stm(path: Path, segments: Iterable[Segment]) -> None:
    content = stm_bytes(path, segments)
    write_whole(path, lambda file: file.write(content))


def write_ctm(path: Path, clips: Mapping[str, Sequence[TimedWord]]) -> None:
    content = ctm_bytes(path, clips)
    write_whole(path, lambda file: file.write(content))


def stm_bytes(path: Path, segments: Iterable[Segment]) -> bytes:
    """`path`: where they will lie, for an error."""
    segments, lines = list(segments), []
    _check_names((segment.name for segment in segments), path)
    for segment in sorted(segments, key=lambda segment: (segment.name.encode(), segment.start)):
        where = f"{path}, {shown(segment.name)}"
        _check_name(segment.signer, where)
        for word in segment.words:
            check_word(word, where)
        times = f"{_seconds(segment.start)} {_seconds(segment.end)}"
        lines.append(" ".join((segment.name, CHANNEL, segment.signer, times, *segment.words)))
    return _joined(lines)


def ctm_bytes(path: Path, clips: Mapping[str, Sequence[TimedWord]]) -> bytes:
    lines = []
    _check_names(clips, path)
    for name in sorted(clips, key=str.encode):
        lines += [] if clips[name] else [f"{name} {CHANNEL} 0.000 0.000 {NO_WORD}"]
        for word, start, duration, confidence in clips[name]:
            check_word(word, f"{path}, {shown(name)}")
            sure = "" if confidence is None else f" {confidence:.4f}"
            lines.append(f"{name} {CHANNEL} {_seconds(start)} {_seconds(duration)} {word}{sure}")
    return _joined(lines)


def _joined(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _seconds(time: float) -> str:
    return f"{time:.3f}" if time < 1e9 else f"{time:.6g}"


def check_word(word: str, where: str) -> None:
    """Refuses what sclite would not read as this one word."""
    taken_for = (f"for sclite it is {what}" for pattern, what in OTHERWISE if pattern.fullmatch(word))
    if fault := _fault(word) or next(taken_for, ""):
        raise UserError(f"{where}: the word {shown(word)} cannot stand in such a file: {fault}")


def _check_name(name: str, where: str) -> None:
    if fault := _fault(name) or ("it begins a comment" if name.startswith(";;") else ""):
        raise UserError(f"{where}: the name {shown(name)} cannot stand in such a file: {fault}")


def _check_names(names: Iterable[str], path: Path) -> None:
    """sclite sees no case in names either."""
    seen: dict[str, str] = {}
    for name in names:
        _check_name(name, str(path))
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise UserError(f"{path}: {shown(other)} and {shown(name)} are one name to sclite: give one another name")


def _fault(text: str) -> str:
    if odd_character(text) or text.split() != [text]:
        return "it is empty, or holds white space or a character that is none"
    return f"it is longer than {LONGEST_WORD} bytes" if len(text.encode()) > LONGEST_WORD else ""


def read_stm(path: Path) -> list[Segment]:
    segments, words = [], 0
    for where, fields in _rows(path, 5, "name channel signer start end word ..."):
        name, signer = _name(fields[0], where), _name(fields[2], where)
        start, end = (_number(field, where) for field in fields[3:5])
        if end < start or math.isinf(start):
            raise UserError(f"{where}: it ends at {end:g} s and begins at {start:g} s")
        label = len(fields) > 5 and fields[5].startswith(b"<")
        segment = Segment(name, signer, _words(fields[5 + label :], where), start, end)
        segments.append(segment)
        words += len(segment.words)
        _check_size(words, where)
    return segments


def read_ctm(path: Path) -> dict[str, list[TimedWord]]:
    clips: dict[str, list[TimedWord]] = {}
    channels: dict[str, bytes] = {}
    for where, fields in _rows(path, 5, "name channel start duration word"):
        name = _name(fields[0], where)
        if channels.setdefault(name, fields[1]) != fields[1]:
            raise UserError(f"{where}: a second channel of {shown(name)}; one is expected")
        start, duration = (_number(field, where) for field in fields[2:4])
        confidence = _number(fields[5], where) if len(fields) > 5 and fields[5] != b"NA" else None
        if math.isinf(start + duration) or (confidence or 0.0) > 1:
            raise UserError(f"{where}: times are seconds, and a confidence is a number from 0 to 1")
        clip = clips.setdefault(name, [])
        clip += [TimedWord(word, start, duration, confidence) for word in _words(fields[4:5], where)]
    return clips


def _rows(path: Path, least: int, expected: str) -> Iterator[Row]:
    """Its lines that say something, with so many fields at least."""
    try:
        file = open_regular(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; lines of `{expected}` are expected there") from None
    with file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            where = f"{path}, line {number}"
            _check_size(number, where)
            if len(line) > LONGEST_LINE:
                raise UserError(f"{where}: longer than {LONGEST_LINE >> 10} KB, which no line is")
            fields = line.split()
            if not fields or fields[0].startswith(b";;"):
                continue
            if len(fields) < least:
                raise UserError(f"{where}: {len(fields)} fields; `{expected}` is expected")
            yield Row(where, fields)


def _check_size(count: int, where: str) -> None:
    if count > MOST_WORDS:
        raise UserError(f"{where}: more than {MOST_WORDS} lines or words, which no data set has")


def _words(fields: Sequence[bytes], where: str) -> tuple[str, ...]:
    words = tuple(_text(field, where) for field in fields if field != NO_WORD.encode())
    for word in words:
        check_word(word, where)
    return words


def _name(field: bytes, where: str) -> str:
    name = _text(field, where)
    _check_name(name, where)
    return name


def _text(field: bytes, where: str) -> str:
    try:
        return field.decode()
    except UnicodeDecodeError:
        raise UserError(f"{where}: {shown(field)} is not UTF-8") from None


def _number(field: bytes, where: str) -> float:
    if not NUMBER.fullmatch(field):
        raise UserError(f"{where}: {shown(field)} is no number; one from 0 on is expected")
    return float(field)
