"""One clip's tokens as JSON, and read back, exactly; as ids for a language model: vocabulary.py.

    line = write_line(TokenSequence(name, fps, chunk_len, num_frames, codes, parts, levels, codebook_size, tokenizer))
    for sequence in read_jsonl("tokens.jsonl"): ...

codes [N, P, Q] are int64, -1 where a level was not sent; `parts` are the P tags of skeleton.TAGS, `levels` how many
codes each may send. A line's templates are a second copy of its codes and `check` a sum over all that it says, so a
line that was changed is not decoded.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from reprlib import repr as shown  # short, on one line, whatever it shows
from typing import Any, NamedTuple

from torch import Tensor

from signstream.errors import UserError
from signstream.skeleton import TAGS
from signstream.text_files import open_regular
from signstream.tokens.codes import check_codes, held_chunks
from signstream.tokens.rle import Row, compress, expand
from signstream.tokens.templates import from_templates, part_letters, templates

FORMAT = 1
LONGEST = 1 << 20  # frames, 9.7 hours at 30 a second: a few bytes of text can ask for no more memory than that
LONGEST_LINE = 1 << 28  # bytes; 9.7 hours are 60 MB
MOST_CODES = 1 << 26  # of a clip, sent or not; a line of little text can name many parts and levels
NAMES = {tag: name for name, tag in TAGS.items()}
NEEDED_KEYS = ("video_name", "fps", "chunk_len", "num_frames", "tokens", "meta")
OPTIONAL_KEYS = ("templates", "rle")
NEEDED_META_KEYS = ("format", "tokenizer", "codebook_size", "levels")
OPTIONAL_META_KEYS = ("check", "note")


class Counts(NamedTuple):
    """What a clip's tokens cost."""

    chunks: int
    seconds: float
    codes: int
    symbols: int  # that are written: a run is one
    held: int  # part-chunks that repeat the chunk before
    part_chunks: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Counts:
        """From its numbers in their order, as sums over several clips are."""
        chunks, seconds, *others = values
        return cls(int(chunks), seconds, *map(int, others))


@dataclass(frozen=True, eq=False)
class TokenSequence:
    """One clip's tokens and what it takes to read them: N is ceil(num_frames / chunk_len), Q the most levels that a
    part has."""

    name: str
    fps: float
    chunk_len: int
    num_frames: int
    codes: Tensor  # [N, P, Q]
    parts: tuple[str, ...]
    levels: tuple[int, ...]
    codebook_size: int
    tokenizer: str  # the digest of the weights that made the codes

    def __post_init__(self) -> None:
        _check_header(**{key: value for key, value in vars(self).items() if key != "codes"})
        check_codes(self.codes, self.parts, levels=self.levels, codebook_size=self.codebook_size)
        _check_length("codes", len(self.codes), self.num_frames, chunk_len=self.chunk_len)

    @property
    def templates(self) -> list[str]:
        """A line a chunk, as 7.2 of the specification prints them; a held part stands with its codes once more."""
        return templates(self.codes, self.parts)

    @property
    def check(self) -> str:
        """8 hexadecimal digits over all that a line says, however it is laid out."""
        lengths = [self.chunk_len, self.num_frames]
        header = [self.name, float(self.fps), *lengths, self.parts, self.levels, self.codebook_size, self.tokenizer]
        return f"{zlib.crc32(json.dumps([*header, self.codes.tolist()]).encode()):08x}"

    def only(self, parts: Sequence[str]) -> TokenSequence:
        """The same without the other parts."""
        keep = [p for p, tag in enumerate(self.parts) if tag in parts]
        levels = tuple(self.levels[p] for p in keep)
        codes = self.codes[:, keep, : max(levels)]
        return replace(self, parts=tuple(self.parts[p] for p in keep), levels=levels, codes=codes)

    def counts(self, rle: bool) -> Counts:
        """What it costs, written with runs or without."""
        held = held_chunks(self.codes)
        begins = held.clone()
        begins[1:] &= ~held[:-1]
        sent = self.codes >= 0
        codes = int(sent.sum())
        symbols = int(sent[~held].sum() + begins.sum()) if rle else codes
        seconds = self.num_frames / self.fps
        return Counts(len(self.codes), seconds, codes, symbols, int(held.sum()), held.numel())

    def to_json(self, layout: str = "chunk", rle: bool = True) -> dict[str, Any]:
        if layout not in ("chunk", "part"):
            raise UserError(f"the layout is {layout!r}: chunk or part is expected")
        rows = compress(self.codes, self.parts, rle)
        return {
            "video_name": self.name,
            "fps": int(self.fps) if self.fps == int(self.fps) else self.fps,
            "chunk_len": self.chunk_len,
            "num_frames": self.num_frames,
            "tokens": rows if layout == "chunk" else _by_part(rows, self.parts),
            "templates": templates(self.codes, self.parts, rle),
            "rle": rle,
            "meta": {
                "format": FORMAT,
                "tokenizer": self.tokenizer,
                "codebook_size": self.codebook_size,
                "levels": dict(zip(self.parts, self.levels)),
                "check": self.check,
            },
        }

    @classmethod
    def from_json(cls, data: Any) -> TokenSequence:
        """Reads both layouts. An error says what is wrong; there is none only if the line says what was written."""
        header = _header_of(data)
        parts, levels = header["parts"], header["levels"]
        rows = data["tokens"]
        if not isinstance(rows, list):
            chunks = -(-header["num_frames"] // header["chunk_len"])
            rows = _rows_of_parts(rows, parts, chunks)
        stated = data.get("templates")
        for what, lines in (("tokens", rows), ("templates", rows if stated is None else stated)):
            _check_length(what, len(lines), header["num_frames"], chunk_len=header["chunk_len"])
        codes = expand(rows, parts, max(levels), codebook_size=header["codebook_size"])
        sequence = cls(codes=codes, **header)
        if stated is not None:
            _check_templates(sequence, stated)
        check = sequence.check
        stated_check = data["meta"].get("check", check)
        if stated_check != check:
            differs = f"meta.check is {shown(stated_check)}, its content has {check}"
            raise UserError(f"{differs}: the line was changed after it was written")
        return sequence


def _header_of(data: Any) -> dict[str, Any]:
    """All of a line but its codes, checked: what TokenSequence takes."""
    _check_keys(data, "the line", NEEDED_KEYS, allowed=OPTIONAL_KEYS)
    meta = data["meta"]
    _check_keys(meta, "meta", NEEDED_META_KEYS, allowed=OPTIONAL_META_KEYS)
    if meta["format"] != FORMAT:
        raise UserError(f"meta.format is {shown(meta['format'])}: this program reads {FORMAT}")
    kinds = ((meta["levels"], dict), (data.get("rle", True), bool), (data.get("templates"), list | None))
    if not all(isinstance(value, kind) for value, kind in kinds):
        raise UserError("a wrong type: meta.levels is an object {tag: levels}, rle true or false, templates a list")
    header = {
        "name": data["video_name"],
        "fps": data["fps"],
        "chunk_len": data["chunk_len"],
        "num_frames": data["num_frames"],
        "parts": tuple(meta["levels"]),
        "levels": tuple(meta["levels"].values()),
        "codebook_size": meta["codebook_size"],
        "tokenizer": meta["tokenizer"],
    }
    _check_header(**header)
    return header


def check_parts(parts: Sequence[str], levels: Sequence[int], codebook_size: int) -> None:
    part_letters(parts)
    if len(levels) != len(parts) or not all(type(level) is int and 1 <= level <= 64 for level in levels):
        expected = f"a whole number from 1 to 64 for each of the {len(parts)} parts is expected"
        raise UserError(f"levels are {shown(levels)}: {expected}")
    if type(codebook_size) is not int or not 1 <= codebook_size <= 1 << 24:
        raise UserError(f"codebook_size is {shown(codebook_size)}: a whole number from 1 to {1 << 24} is expected")


def _check_header(
    *,
    name: str,
    fps: float,
    chunk_len: int,
    num_frames: int,
    parts: tuple[str, ...],
    levels: tuple[int, ...],
    codebook_size: int,
    tokenizer: str,
) -> None:
    check_parts(parts, levels, codebook_size)
    for key, value, low in (("chunk_len", chunk_len, 1), ("num_frames", num_frames, 0)):
        if type(value) is not int or not low <= value <= LONGEST:
            raise UserError(f"{key} is {shown(value)}: a whole number from {low} to {LONGEST} is expected")
    chunks = -(-num_frames // chunk_len)
    if chunks * len(parts) * max(levels) > MOST_CODES:
        size = f"{chunks} chunks of {len(parts)} parts with {max(levels)} levels"
        raise UserError(f"{size}: a clip has at most {MOST_CODES} codes")
    if type(fps) not in (int, float) or not 0 < fps < 1e6:
        raise UserError(f"fps is {shown(fps)}: frames a second are expected")
    for key, text in (("video_name", name), ("tokenizer", tokenizer)):
        if not isinstance(text, str) or not text or re.search("[\ud800-\udfff]", text):
            raise UserError(f"{key} is {shown(text)}: text is expected")


def _check_length(what: str, count: int, num_frames: int, *, chunk_len: int) -> None:
    chunks = -(-num_frames // chunk_len)
    if count != chunks:
        raise UserError(f"{what} has {count} chunks: {num_frames} frames in chunks of {chunk_len} make {chunks}")


def _check_keys(data: Any, what: str, needed: tuple[str, ...], *, allowed: tuple[str, ...] = ()) -> None:
    if not isinstance(data, dict):
        raise UserError(f"{what} is {shown(data)}: an object is expected")
    if missing := [key for key in needed if key not in data]:
        raise UserError(f"{what} has no {missing[0]!r}")
    if unknown := [key for key in data if key not in needed + allowed]:
        raise UserError(f"{what} has {shown(unknown[0])}: its keys are {', '.join(needed + allowed)}")


def _check_templates(sequence: TokenSequence, stated: list[str]) -> None:
    """A line's templates say what its tokens say."""
    read = from_templates(stated, sequence.parts, sequence.codes.shape[2])
    differ = (read != sequence.codes).any(-1).nonzero()
    if len(differ):
        t, part = differ[0].tolist()
        where = f"chunk {t}, {sequence.parts[part]}"
        raise UserError(f"{where}: tokens and templates differ: the line was changed after it was written")


def _part_name(tag: str) -> str:
    return NAMES.get(tag, tag)


def _by_part(rows: list[Row], parts: tuple[str, ...]) -> dict[str, list[Row]]:
    """A row a chunk -> {part's name: [{"t": t, TAG: entry}, ...]}."""
    return {_part_name(tag): [{"t": row["t"], tag: row[tag]} for row in rows if tag in row] for tag in parts}


def _rows_of_parts(tokens: Any, parts: tuple[str, ...], chunks: int) -> list[Row]:
    """{part's name: [{"t": t, TAG: entry}, ...]} -> a row a chunk."""
    names = {_part_name(tag): tag for tag in parts}
    _check_keys(tokens, "tokens", tuple(names))
    rows: list[Row] = [{"t": t} for t in range(chunks)]
    for name, tag in names.items():
        if not isinstance(tokens[name], list):
            raise UserError(f"tokens.{name} is {shown(tokens[name])}: a list is expected")
        last = -1
        for i, entry in enumerate(tokens[name]):
            where = f"tokens.{name}, row {i}"
            _check_keys(entry, where, ("t", tag))
            t = entry["t"]
            if type(t) is not int or not last < t < chunks:
                raise UserError(f"{where}: its t is {shown(t)}: chunks stand in order and end with {chunks - 1}")
            last = t
            rows[t][tag] = entry[tag]
    return rows


def write_line(sequence: TokenSequence, layout: str = "chunk", rle: bool = True) -> str:
    return json.dumps(sequence.to_json(layout, rle), ensure_ascii=False) + "\n"


def write_list(lines: Iterable[str]) -> str:
    """The lines of a JSONL file as one JSON list."""
    return "[\n" + ",\n".join(line.rstrip("\n") for line in lines) + "\n]\n"


def read_jsonl(path: str | Path) -> Iterator[TokenSequence]:
    """The clips of a JSONL file, or of one that is a JSON list. What is wrong is an error in one line: file, line (or
    the list's item), fault."""
    empty = True
    with open_regular(Path(path)) as file:
        lines = iter(partial(file.readline, LONGEST_LINE + 1), b"")
        for number, line in enumerate(lines, 1):
            if empty and line.lstrip().startswith(b"["):
                yield from _read_list(line + file.read(), str(path))
                return
            if len(line) > LONGEST_LINE:
                raise UserError(f"{path}, line {number}: longer than {LONGEST_LINE >> 20} MB, which no clip's is")
            if line.strip():
                empty = False
                yield parse_line(line.strip(), f"{path}, line {number}")
    if empty:
        raise UserError(f"{path}, line 1: there is none, the file is empty")


def _read_list(content: bytes, where: str) -> Iterator[TokenSequence]:
    items = _load(content, where)
    if not items:
        raise UserError(f"{where}: the list is empty")
    for number, item in enumerate(items, 1):
        yield _sequence(item, f"{where}, item {number}")


def parse_line(text: str | bytes, where: str) -> TokenSequence:
    return _sequence(_load(text, where), where)


def _sequence(data: Any, where: str) -> TokenSequence:
    try:
        return TokenSequence.from_json(data)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _load(text: str | bytes, where: str) -> Any:
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
        return json.loads(decoded, object_pairs_hook=_unique, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        fault = f"not UTF-8 at byte {error.start}"
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in error.doc else ""
        fault = f"not whole JSON: {error.msg} ({line}character {error.colno}); the file may be cut"
    except RecursionError:
        fault = "lists within lists, too deep to read"
    except ValueError as error:  # of the hooks, or a number of thousands of digits
        fault = str(error)
    raise UserError(f"{where}: {fault}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise UserError(f"a key stands twice in one object: {shown([key for key, _ in pairs])}")
    return table


def _no_number(text: str) -> float:
    raise UserError(f"{text} is no number")
