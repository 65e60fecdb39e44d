"""Which videos are meant, and what a list says of them.

    find_videos([file or folder, ...], list_file) -> [Video(name, path, text, gloss, signer, split)], by name

A clip is called after its file, below a folder after the path to it: `a/b/x.mp4` is `a_b_x`. A list's row is of the
video at its `path`, seen from the list's folder, and may give it another `name`; or without a path of the video of that
name among the inputs (the clip's, or the file's own). Two files of one name are refused before anything is done.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from signstream.errors import UserError, first_line, shown
from signstream.io.tables import LARGEST_TABLE
from signstream.text_files import read_text

ENDINGS = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
    *(".mxf", ".ogv", ".ts", ".webm", ".wmv"),
)
TABLES = (".csv", ".tsv", ".json")
COLUMNS = ("name", "path", "text", "gloss", "signer", "split")
SPLITS = ("train", "val", "test")
OTHER_NAMES = {"dev": "val", "validation": "val"}  # of splits


class Video(NamedTuple):
    name: str
    path: Path
    text: str = ""
    gloss: str = ""
    signer: str = ""
    split: str = ""  # "": drawn


def find_videos(inputs: Sequence[Path], list_file: Path | None = None) -> list[Video]:
    if not inputs and list_file is None:
        raise UserError("no INPUT: name videos, folders of videos, or a --list with their paths")
    found: dict[str, Video] = {}  # by where they really lie
    for video in (video for path in inputs for video in _below(path)):
        found.setdefault(os.path.realpath(video.path), video)
    if list_file is not None:
        _annotate(found, list_file)
    return _unlike(found.values())


def _below(path: Path) -> Iterator[Video]:
    if not path.is_dir():
        if not path.exists():
            raise UserError(f"there is no {path}: a video or a folder of videos is expected")
        yield Video(path.stem, path)
        return
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
    files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    if not files:
        raise UserError(f"{path} holds no video: files that end in {', '.join(ENDINGS)} are looked for")
    for file in files:
        yield Video("_".join(file.relative_to(path).with_suffix("").parts), file)


def _unlike(videos: Iterable[Video]) -> list[Video]:
    """By name, of which none stands twice."""
    by_name: dict[str, Video] = {}
    for video in videos:
        if video.name in by_name:
            raise UserError(
                f"two videos are called {shown(video.name)}: {by_name[video.name].path} and {video.path}; rename one, "
                "name the folder above both, or give a --list with path and name"
            )
        by_name[video.name] = video
    return [by_name[name] for name in sorted(by_name)]


def _annotate(found: dict[str, Video], list_file: Path) -> None:
    """Into `found`: what the list says, and its videos that are not there yet."""
    known: dict[str, list[str]] = {}
    for key, video in found.items():
        for name in {video.name, video.path.name, video.path.stem}:
            known.setdefault(name, []).append(key)
    told: dict[str, str] = {}
    for place, row in _rows(list_file):
        name, path = row["name"], row["path"]
        meant = known.get(name, []) if not path else []
        exact = [key for key in meant if found[key].name == name] or meant
        if len(exact) > 1:
            raise UserError(f"{place}: several videos are called {shown(name)}: give their path too")
        key = exact[0] if exact else _real(list_file.parent / (path or name), place)
        if key in told:
            raise UserError(f"{place} is of the same video as {told[key]}: keep one")
        told[key] = place
        video = found.get(key, Video(name or Path(path).stem, list_file.parent / (path or name)))
        video = video if exact or not name else video._replace(name=name)
        found[key] = video._replace(text=row["text"], gloss=row["gloss"], signer=row["signer"], split=row["split"])


def _real(path: Path, place: str) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:  # NUL, or half a character
        raise UserError(f"{place}: no file can be called {shown(str(path))}") from None


def _rows(list_file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Where a row stands, and all its columns as text."""
    for place, raw in _raw_rows(list_file):
        row = {column: _words(raw.get(column)) for column in COLUMNS}
        row["split"] = OTHER_NAMES.get(row["split"], row["split"])
        if not (row["name"] or row["path"]):
            raise UserError(f"{place} has neither name nor path: its columns are {shown(', '.join(map(str, raw)))}")
        if row["split"] not in ("", *SPLITS):
            raise UserError(f"{place}: the split is {shown(row['split'])}: {', '.join(SPLITS)} or nothing is expected")
        yield place, row


def _raw_rows(list_file: Path) -> Iterator[tuple[str, dict[Any, Any]]]:
    ending = list_file.suffix.lower()
    if ending not in TABLES:
        raise UserError(f"--list {list_file}: a table that ends in .csv, .tsv or .json is expected")
    try:
        text = read_text(list_file, most=LARGEST_TABLE).removeprefix("\ufeff")
        if ending == ".json":
            yield from _json_rows(list_file, json.loads(text))
            return
        lines = io.StringIO(text, newline="")
        if ending == ".csv":
            reader = csv.DictReader(lines)
        else:
            reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        for row in reader:
            place = f"{list_file}, line {reader.line_num}"
            if None in row:
                raise UserError(f"{place} has more columns than the header: a text that holds a comma is put in quotes")
            yield place, {column.strip(): value for column, value in row.items()}
    except OSError as error:
        raise UserError(f"cannot read --list {list_file}: {error.strerror}") from None
    except UserError:
        raise
    except (ValueError, RecursionError, csv.Error) as error:
        raise UserError(f"--list {list_file} cannot be read: {first_line(error)}") from None


def _json_rows(list_file: Path, table: Any) -> Iterator[tuple[str, dict[Any, Any]]]:
    """A list of objects, or an object of them by name, as annotations.json is."""
    if isinstance(table, dict):
        table = [{"name": name, **row} if isinstance(row, dict) else row for name, row in table.items()]
    if not isinstance(table, list) or not all(isinstance(row, dict) for row in table):
        raise UserError(f"--list {list_file}: [{{name, text, ...}}, ...] or {{name: {{text, ...}}, ...}} is expected")
    for number, row in enumerate(table, 1):
        yield f"{list_file}, entry {number}", row


def _words(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value).strip()
