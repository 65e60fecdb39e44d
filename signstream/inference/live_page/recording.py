"""Clips that are kept on request, as a data set in CSL-Daily's layout with its tokens beside it.

    recording = Recording(root, tokenizer)      # a new folder, or one that a recording made
    kept = Kept(size, fps); kept.add(news)      # of one clip
    name = recording.write(kept)

<root>/frames_512x512/<name>.npy [T, 134, 3], annotations.json, split_files.json (all in train; texts and glosses are
left empty, for who knows them), and, where there is a tokenizer, tokens.jsonl with tokens.vectors.npz.
"""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from signstream.data.conversion import csl_daily_rows, note_of
from signstream.data.datasets import Clip
from signstream.errors import UserError
from signstream.inference.live_page.session import News
from signstream.inference.tokenizer import Tokenizer
from signstream.io.tables import read_table
from signstream.io.vector_files import vectors_beside, write_vectors
from signstream.io.whole import write_together
from signstream.tokens.format import read_jsonl, write_line

LONGEST = 600  # seconds of a clip


class Kept:
    """What is kept of one clip, from its first frame on."""

    def __init__(self, size: tuple[float, float], fps: float) -> None:
        self.size, self.fps = size, fps
        self.frames: list[np.ndarray] = []
        self.codes: list[Tensor] = []

    def add(self, news: News) -> None:
        self.frames += news.frames
        self.codes += [decoded.chunk.codes for decoded in news.decoded]

    @property
    def full(self) -> bool:
        return len(self.frames) >= LONGEST * self.fps


class Recording:
    def __init__(self, root: Path, tokenizer: Tokenizer | None) -> None:
        self.root, self.tokenizer = root, tokenizer
        self.notes, self.splits = root / "annotations.json", root / "split_files.json"
        self.tokens = root / "tokens.jsonl"
        if root.exists() and not root.is_dir():
            raise UserError(f"--record {root} is no folder: name one that is new, or that a recording made")
        if root.is_dir() and holds_files(root) and not self.notes.is_file():
            raise UserError(f"--record {root} holds something else: name a new folder, or one that a recording made")
        if tokenizer is not None and self.tokens.exists():
            for tokens in read_jsonl(self.tokens):
                if tokens.tokenizer != tokenizer.digest:
                    other = f"{self.tokens} has tokens of the tokenizer {tokens.tokenizer}, this one is"
                    raise UserError(f"{other} {tokenizer.digest}: name another folder with --record")

    def write(self, kept: Kept) -> str:
        """All of the clip or nothing; its name."""
        frames = self.root / "frames_512x512"
        frames.mkdir(parents=True, exist_ok=True)
        name = self._free_name(frames)
        clip = Clip(name, np.stack(kept.frames), kept.fps, kept.size, signer="live")
        notes = {**self._table(self.notes), name: note_of(clip)}
        splits = {"train": [], "val": [], "test": [], **self._table(self.splits)}
        splits["train"] = [*splits["train"], name]
        contents = {
            frames / f"{name}.npy": _as_npy(csl_daily_rows(clip)),
            self.notes: _as_json(notes),
            self.splits: _as_json(splits),
        }
        write_together({**contents, **self._tokens_of(kept, name)})
        return name

    def _tokens_of(self, kept: Kept, name: str) -> dict[Path, bytes]:
        if self.tokenizer is None:
            return {}
        codes = torch.stack(kept.codes) if kept.codes else torch.zeros(0, len(self.tokenizer.parts), 1).long()
        line = write_line(self.tokenizer.sequence(codes, len(kept.frames), name))
        before = self.tokens.read_bytes() if self.tokens.exists() else b""
        vectors = io.BytesIO()
        write_vectors(vectors, self.tokenizer.code_vectors)
        return {self.tokens: before + line.encode(), vectors_beside(self.tokens): vectors.getvalue()}

    def _free_name(self, folder: Path) -> str:
        name = first = time.strftime("live_%Y-%m-%d_%H-%M-%S")
        count = 1
        while (folder / f"{name}.npy").exists():
            count += 1
            name = f"{first}_{count}"
        return name

    def _table(self, path: Path) -> dict[str, Any]:
        return read_table(path, "what a recording wrote") if path.exists() else {}


def holds_files(root: Path) -> bool:
    """Folders alone, and hidden files, are left where the disk was full or the program was killed."""
    return any(path.is_file() and not path.name.startswith(".") for path in root.rglob("*"))


def _as_npy(rows: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, rows.astype(np.float32))
    return file.getvalue()


def _as_json(table: dict[str, Any]) -> bytes:
    return (json.dumps(table, indent=0, ensure_ascii=False) + "\n").encode()
