"""How codes are written as JSON for files and as templates for people, and read back, exactly; as ids for a language model: vocabulary.py.

    line = write_line(TokenSequence(name, fps, chunk_len, num_frames, codes, parts, levels, codebook_size, tokenizer))
    for sequence in read_jsonl("tokens.jsonl"): ...
    templates(codes, ["F", "LH"])              -> ["<T0><F:c12><F:c7><LH:a37>", "<T1><F:c7>", ...]        from_templates(lines, tags, depth) -> codes

codes [N, P, Q] are int64, -1 where a level was not sent; `parts` are the P tags of skeleton.TAGS, `levels` how many codes each may send.
A line's templates are a second copy of its codes and `check` a sum over all that it says, so a line that was changed is not decoded.
"""

from __future__ import annotations

import json
import re
import string
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from signstream.errors import UserError
from signstream.skeleton import TAGS
from signstream.tokens.rle import Row, check_codes, compress, expand, shown

FORMAT = 1
LONGEST = 1 << 20  # frames, 9.7 hours at 30 a second: a few bytes of text can ask for no more memory than that
LETTERS = {
    "F": "c",
    "LH": "a",
    "RH": "b",
    "B": "d",
    "FB": "e",
}  # a part's own letter, so that no id is taken for another part's or a word's
NAMES = {tag: name for name, tag in TAGS.items()}
KEYS = (
    ("video_name", "fps", "chunk_len", "num_frames", "tokens", "meta"),
    ("templates", "rle"),
)  # must be there, may be there
META_KEYS = ("format", "tokenizer", "codebook_size", "levels"), ("check", "note")
_MARK = re.compile(r"<([A-Z]{1,16}):(?:NCx([0-9]{1,9})|([a-z])([0-9]{1,18}))>")


def part_letters(tags: Sequence[str]) -> dict[str, str]:
    """{tag: letter}; tags that the table lacks get the letters that are free, in their order."""
    free = sorted(set(string.ascii_lowercase) - set(LETTERS.values()))
    others = [tag for tag in tags if tag not in LETTERS]
    if (
        not tags
        or len(set(tags)) < len(tags)
        or len(others) > len(free)
        or not all(re.fullmatch("[A-Z]{1,16}", tag) for tag in others)
    ):
        raise UserError(
            f"the parts are {shown(list(tags))}: different tags of capital letters are expected, such as {', '.join(LETTERS)}"
        )
    return LETTERS | dict(zip(others, free))


def templates(codes: Tensor, tags: Sequence[str], rle: bool = False) -> list[str]:
    """A line a chunk; a level or part that was not sent is left out, a run of k chunks is <TAG:NCxk>."""
    letters = part_letters(tags)

    def marks(tag: str, entry: list[Any]) -> str:
        return (
            f"<{tag}:NCx{entry[1]}>"
            if entry[:1] == ["NC"]
            else "".join(f"<{tag}:{letters[tag]}{code}>" for code in entry)
        )

    return [f"<T{row.pop('t')}>" + "".join(marks(*item) for item in row.items()) for row in compress(codes, tags, rle)]


def from_templates(lines: Sequence[str], tags: Sequence[str], depth: int) -> Tensor:
    """The codes [N, P, depth] of N templates, whether they hold runs or not."""
    letters, rows, ends = part_letters(tags), [], dict.fromkeys(tags, 0)
    for t, line in enumerate(lines):
        if not isinstance(line, str) or not line.startswith(f"<T{t}>"):
            raise UserError(f"template {t} is {shown(line)}: it should begin with <T{t}>")
        row: Row = {"t": t}
        marks = line[len(f"<T{t}>") :]
        for tag, run, letter, code in _MARK.findall(marks):
            if tag not in tags or (code and letter != letters[tag]):
                raise UserError(
                    f"template {t} holds <{tag}:{letter or 'NCx'}{code or run}>: the parts are written "
                    + " ".join(f"<{known}:{letters[known]}..>" for known in tags)
                )
            row[tag] = row.get(tag, []) + (["NC", int(run)] if run else [int(code)])
        order = [tags.index(tag) for tag, *_ in _MARK.findall(marks)]
        if _MARK.sub("", marks) or order != sorted(order):
            raise UserError(
                f"template {t} is {shown(line)}: after <T{t}> marks such as <{tags[0]}:{letters[tags[0]]}7> follow, part by part"
            )
        row |= {tag: [] for tag in tags if tag not in row and t >= ends[tag]}
        ends |= {tag: t + entry[1] for tag, entry in row.items() if tag != "t" and entry[:1] == ["NC"]}
        rows.append(row)
    return expand(rows, tags, depth)


@dataclass(frozen=True, eq=False)
class TokenSequence:
    """One clip's tokens and what it takes to read them: N is ceil(num_frames / chunk_len), Q the most levels that a part has."""

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
        check_codes(self.codes, self.parts, self.levels, self.codebook_size)
        chunks = -(-self.num_frames // self.chunk_len)
        if len(self.codes) != chunks:
            raise UserError(
                f"codes has {len(self.codes)} chunks: {self.num_frames} frames in chunks of {self.chunk_len} make {chunks}"
            )

    @property
    def templates(self) -> list[str]:
        """A line a chunk, as 7.2 of the specification prints them; a held part says its codes again."""
        return templates(self.codes, self.parts)

    @property
    def check(self) -> str:
        """8 hexadecimal digits over all that a line says, however it is laid out."""
        header = [
            self.name,
            float(self.fps),
            self.chunk_len,
            self.num_frames,
            self.parts,
            self.levels,
            self.codebook_size,
            self.tokenizer,
        ]
        return f"{zlib.crc32(json.dumps([*header, self.codes.tolist()]).encode()):08x}"

    def to_json(self, layout: str = "chunk", rle: bool = True) -> dict[str, Any]:
        if layout not in ("chunk", "part"):
            raise UserError(f"the layout is {layout!r}: chunk or part is expected")
        rows = compress(self.codes, self.parts, rle)
        by_part = {
            _part_name(tag): [{"t": row["t"], tag: row[tag]} for row in rows if tag in row] for tag in self.parts
        }
        return {
            "video_name": self.name,
            "fps": int(self.fps) if self.fps == int(self.fps) else self.fps,
            "chunk_len": self.chunk_len,
            "num_frames": self.num_frames,
            "tokens": rows if layout == "chunk" else by_part,
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
        """Reads both layouts. A ValueError says what is wrong; there is none only if the line says what was written."""
        _check_keys(data, "the line", *KEYS)
        meta, stated = data["meta"], data.get("templates")
        _check_keys(meta, "meta", *META_KEYS)
        if meta["format"] != FORMAT:
            raise UserError(f"meta.format is {shown(meta['format'])}: this program reads {FORMAT}")
        if (
            not isinstance(meta["levels"], dict)
            or not isinstance(data.get("rle", True), bool)
            or not isinstance(stated, list | None)
        ):
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
        chunks, depth = -(-header["num_frames"] // header["chunk_len"]), max(header["levels"])
        rows = (
            data["tokens"]
            if isinstance(data["tokens"], list)
            else _rows_of_parts(data["tokens"], header["parts"], chunks)
        )
        for what, lines in (("tokens", rows), ("templates", rows if stated is None else stated)):
            if len(lines) != chunks:
                raise UserError(
                    f"{what} has {len(lines)} chunks: {header['num_frames']} frames in chunks of {header['chunk_len']} make {chunks}"
                )
        sequence = cls(codes=expand(rows, header["parts"], depth, header["codebook_size"]), **header)
        if stated is not None:
            differ = (from_templates(stated, sequence.parts, depth) != sequence.codes).any(-1).nonzero()
            if len(differ):
                t, part = differ[0].tolist()
                raise UserError(
                    f"chunk {t}, {sequence.parts[part]}: tokens and templates differ: the line was changed after it was written"
                )
        if meta.get("check", sequence.check) != sequence.check:
            raise UserError(
                f"meta.check is {shown(meta['check'])}, its content has {sequence.check}: the line was changed after it was written"
            )
        return sequence


def check_parts(parts: Sequence[str], levels: Sequence[int], codebook_size: int) -> None:
    part_letters(parts)
    if len(levels) != len(parts) or not all(type(level) is int and 1 <= level <= 64 for level in levels):
        raise UserError(
            f"levels are {shown(levels)}: a whole number from 1 to 64 for each of the {len(parts)} parts is expected"
        )
    if type(codebook_size) is not int or not 1 <= codebook_size <= 1 << 24:
        raise UserError(f"codebook_size is {shown(codebook_size)}: a whole number from 1 to {1 << 24} is expected")


def _check_header(
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
    if type(fps) not in (int, float) or not 0 < fps < 1e6:
        raise UserError(f"fps is {shown(fps)}: frames a second are expected")
    for key, text in (("video_name", name), ("tokenizer", tokenizer)):
        if not isinstance(text, str) or not text or re.search("[\ud800-\udfff]", text):
            raise UserError(f"{key} is {shown(text)}: text is expected")


def _check_keys(data: Any, what: str, needed: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    if not isinstance(data, dict):
        raise UserError(f"{what} is {shown(data)}: an object is expected")
    if missing := [key for key in needed if key not in data]:
        raise UserError(f"{what} has no {missing[0]!r}")
    if unknown := [key for key in data if key not in needed + allowed]:
        raise UserError(f"{what} has {shown(unknown[0])}: its keys are {', '.join(needed + allowed)}")


def _part_name(tag: str) -> str:
    return NAMES.get(tag, tag)


def _rows_of_parts(tokens: Any, parts: tuple[str, ...], chunks: int) -> list[Row]:
    """{part's name: [{"t": t, TAG: entry}, ...]} -> a row a chunk."""
    names = {_part_name(tag): tag for tag in parts}
    _check_keys(tokens, "tokens", tuple(names), ())
    rows: list[Row] = [{"t": t} for t in range(chunks)]
    for name, tag in names.items():
        if not isinstance(tokens[name], list):
            raise UserError(f"tokens.{name} is {shown(tokens[name])}: a list is expected")
        last = -1
        for i, entry in enumerate(tokens[name]):
            where = f"tokens.{name}, row {i}"
            _check_keys(entry, where, ("t", tag), ())
            if type(entry["t"]) is not int or not last < entry["t"] < chunks:
                raise UserError(
                    f"{where}: its t is {shown(entry['t'])}: chunks stand in order and end with {chunks - 1}"
                )
            last = entry["t"]
            rows[last][tag] = entry[tag]
    return rows


def write_line(sequence: TokenSequence, layout: str = "chunk", rle: bool = True) -> str:
    return json.dumps(sequence.to_json(layout, rle), ensure_ascii=False) + "\n"


def write_list(lines: Iterable[str]) -> str:
    """The lines of a JSONL file as one JSON list."""
    return "[\n" + ",\n".join(line.rstrip("\n") for line in lines) + "\n]\n"


def read_jsonl(path: str | Path) -> Iterator[TokenSequence]:
    """The clips of a JSONL file, or of one that is a JSON list. What is wrong is a ValueError in one line: file, line (or the list's item), fault."""
    found = False
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not found and line.lstrip().startswith(b"["):
                yield from _read_list(line + file.read(), str(path))
                return
            if line.strip():
                found = True
                yield parse_line(line.strip(), f"{path}, line {number}")
    if not found:
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
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def _load(text: str | bytes, where: str) -> Any:
    try:
        return json.loads(
            text if isinstance(text, str) else text.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_number,
        )
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
