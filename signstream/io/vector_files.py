"""The codebooks' vectors as a file beside the tokens, which says itself whose they are.

    write_vectors(file, vectors)          <tokens>.vectors.npz, one float32 array [K, Z] a part and level: F0, F1, ..
    vectors = read_vectors(path)          -> tokens.vectors.CodeVectors
    write_id_vectors(file, vectors, ..)   <tokens>.added_vectors.npz, one row an id of a vocabulary

`meta` in either is JSON as bytes. A file is read as pose files are (pose_files.py): shapes before numbers, no code run,
every array held against its checksum.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from signstream.errors import UserError, shown
from signstream.io.pose_files import LARGEST, Shape, read_npz
from signstream.tokens.format import check_parts
from signstream.tokens.vectors import CodeVectors
from signstream.tokens.vocabulary import Vocabulary

FORMAT = 1
LONGEST_META = 1 << 14  # bytes
ADDS = "a chunk's codes of a part stand for the sum of their vectors over levels; a level that was not sent adds none"
META_KEYS = {"format": int, "tokenizer": str, "codebook_size": int, "levels": dict}


def vectors_beside(tokens: Path) -> Path:
    """Where the vectors of a file of tokens are."""
    return tokens.with_name(f"{tokens.stem}.vectors.npz")


def write_vectors(file: IO[bytes], vectors: CodeVectors) -> None:
    books: dict[str, Any] = {
        f"{tag}{level}": vectors.table[p, level].numpy()
        for p, (tag, levels) in enumerate(zip(vectors.parts, vectors.levels))
        for level in range(levels)
    }
    meta = {
        "format": FORMAT,
        "tokenizer": vectors.tokenizer,
        "codebook_size": vectors.codebook_size,
        "levels": dict(zip(vectors.parts, vectors.levels)),
        "adds": ADDS,
    }
    np.savez(file, meta=_as_bytes(meta), **books)


def write_id_vectors(file: IO[bytes], vectors: CodeVectors, vocabulary: Vocabulary) -> None:
    """`vectors` [V, Z]: row i is that of the id `first_id` + i, 0 if it is no code; `part` and `level` [V]: whose code
    it is, or -1."""
    rows = vectors.of_ids(vocabulary)
    meta = {
        "format": FORMAT,
        "tokenizer": vectors.tokenizer,
        "first_id": vocabulary.offset,
        "levels": dict(zip(vectors.parts, vectors.levels)),
    }
    arrays: dict[str, Any] = {key: value.numpy() for key, value in rows._asdict().items()}
    np.savez(file, meta=_as_bytes(meta), **arrays)


def _as_bytes(meta: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(json.dumps(meta).encode(), np.uint8)


def read_vectors(path: Path) -> CodeVectors:
    """Whatever is wrong with the file is one line."""
    try:
        return _read(path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _read(path: Path) -> CodeVectors:
    meta = _meta_of(path)
    parts, levels = tuple(meta["levels"]), tuple(meta["levels"].values())
    check_parts(parts, levels, meta["codebook_size"])
    keys = [(p, level, f"{tag}{level}") for p, tag in enumerate(parts) for level in range(levels[p])]

    def accept(shapes: dict[str, Shape]) -> None:
        first = shapes.get(keys[0][2], ())
        for _, _, key in keys:
            shape = shapes.get(key, ())
            if len(shape) != 2 or shape != first or shape[0] != meta["codebook_size"] or shape[1] < 1:
                raise UserError(f"`{key}` is {list(shape)}: [{meta['codebook_size']}, Z] is expected in each")
        if len(parts) * max(levels) * first[0] * first[1] * 4 > LARGEST:
            raise UserError(f"too large: {len(keys)} arrays {list(first)}")

    arrays = read_npz(path, tuple(key for _, _, key in keys), accept)
    table = torch.zeros(len(parts), max(levels), *arrays[keys[0][2]].shape)
    for p, level, key in keys:
        table[p, level] = torch.from_numpy(arrays[key])
    return CodeVectors(parts, levels, meta["tokenizer"], table)


def _meta_of(path: Path) -> dict[str, Any]:
    def accept(shapes: dict[str, Shape]) -> None:
        shape = shapes.get("meta", ())
        if len(shape) != 1 or shape[0] > LONGEST_META:
            raise UserError(f"`meta` is {list(shape)}: at most {LONGEST_META} bytes are expected")

    numbers = read_npz(path, ("meta",), accept)["meta"]
    if not bool(((numbers >= 0) & (numbers < 256)).all()):
        raise UserError("`meta` is no text")
    try:
        meta = json.loads(numbers.astype(np.uint8).tobytes().decode("utf-8"))
    except (ValueError, RecursionError):
        raise UserError("`meta` is not JSON") from None
    if not isinstance(meta, dict) or not all(type(meta.get(key)) is kind for key, kind in META_KEYS.items()):
        raise UserError(f"`meta` is {shown(meta)}: {', '.join(META_KEYS)} are expected")
    if meta["format"] != FORMAT:
        raise UserError(f"meta.format is {shown(meta['format'])}: this program reads {FORMAT}")
    return meta
