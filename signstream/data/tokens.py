"""Files of tokens as a data set: what recognition, translation and a language model read.

    data = TokenData.open("exports/train.jsonl")      tokenizer=DIGEST: of this tokenizer, or an error
    data.names    data.codes(i or name) [N, P, Q] int64, -1: not sent    data.latents(i or name) [N, P, Z] float16
    data.vectors  [P, Q, K, Z] float32, what a code stands for           data.parts, levels, fps, chunk_len, digest
    joined(data, cache, "train")                      with the labels of a pose cache: which clip is which line

A file is read once, line by line, and its codes stay packed in memory, two bytes each; vectors and latents are those
that export_tokens wrote beside it. What is not of the same tokenizer, or does not fit, is one line.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from signstream.errors import UserError, shown
from signstream.io.cache_index import CachedClip, Skipped
from signstream.io.latent_files import LatentFile, clips_check, latents_beside
from signstream.io.pose_cache import PoseCache
from signstream.io.vector_files import read_vectors, vectors_beside
from signstream.tokens.format import TokenSequence, read_jsonl
from signstream.tokens.vectors import CodeVectors

SAME = ("tokenizer", "fps", "chunk_len", "codebook_size", "parts", "levels")  # in every line of a file
MOST_CODES = 1 << 31  # numbers of a file, sent or not; 13,000 hours at 15 codes a third of a second


class TokenData:
    """The clips of one file. Copies in other processes share the packed codes where the system forks."""

    def __init__(self, path: Path, clips: Iterable[TokenSequence]) -> None:
        self.path = path
        self.names: list[str] = []
        self.num_frames: list[int] = []
        first: TokenSequence | None = None
        blocks: list[np.ndarray] = []
        size = 0
        for clip in clips:
            first = first or clip
            _check_same(clip, first, path)
            size += clip.codes.numel()
            if size > MOST_CODES:
                raise UserError(f"{path}: more than {MOST_CODES} codes: give it as several files")
            self.names.append(clip.name)
            self.num_frames.append(clip.num_frames)
            blocks.append(clip.codes.numpy().astype(np.int16 if clip.codebook_size <= 1 << 15 else np.int32))
        assert first is not None, "read_jsonl gives a clip or an error"
        self.digest = first.tokenizer
        self.fps, self.chunk_len = float(first.fps), first.chunk_len
        self.parts, self.levels = first.parts, first.levels
        self.codebook_size = first.codebook_size
        self.starts = np.cumsum([0, *map(len, blocks)])  # of each clip's rows, and the end of the last
        self.packed = np.concatenate(blocks)  # [sum N, P, Q]
        self._number = {name: i for i, name in enumerate(self.names)}
        if len(self._number) < len(self.names):
            twice = next(name for i, name in enumerate(self.names) if self._number[name] != i)
            raise UserError(f"{path}: the clip {shown(twice)} stands in it twice")

    @classmethod
    def open(cls, path: str | Path, tokenizer: str | None = None, *, latents: bool = False) -> TokenData:
        """`tokenizer`: the digest that the tokens must be of; `latents`: whether they will be read, so that they are
        looked at now, and once, and not by each process that reads them."""
        path = Path(path)
        data = cls(path, read_jsonl(path))
        if tokenizer is not None and data.digest != tokenizer:
            raise UserError(f"{path}: its tokens are of the tokenizer {shown(data.digest)}, {tokenizer} is expected")
        if vectors_beside(path).exists():
            _ = data.code_vectors
        if latents:
            _ = data.latent_file
        return data

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._number

    def number(self, clip: int | str) -> int:
        """Of a clip's line, from 0."""
        if isinstance(clip, str):
            if clip not in self._number:
                raise UserError(f"{self.path}: there is no clip {shown(clip)}")
            return self._number[clip]
        return range(len(self))[clip]

    def chunks(self, clip: int | str) -> int:
        """N"""
        i = self.number(clip)
        return int(self.starts[i + 1] - self.starts[i])

    def codes(self, clip: int | str) -> Tensor:
        """[N, P, Q] int64; -1 where a level was not sent."""
        i = self.number(clip)
        return torch.from_numpy(self.packed[self.starts[i] : self.starts[i + 1]].astype(np.int64))

    @property
    def vectors(self) -> Tensor:
        """[P, Q, K, Z] float32; 0 where a part has no such level."""
        return self.code_vectors.table

    @cached_property
    def code_vectors(self) -> CodeVectors:
        path = vectors_beside(self.path)
        if not path.exists():
            raise UserError(f"{path} is missing, the vectors of the tokens' codes: export_tokens writes it beside them")
        vectors = read_vectors(path)
        for key, theirs in (
            ("tokenizer", vectors.tokenizer),
            ("parts", vectors.parts),
            ("levels", vectors.levels),
            ("codebook_size", vectors.codebook_size),
        ):
            ours = self.digest if key == "tokenizer" else getattr(self, key)
            if theirs != ours:
                differs = f"its {key} is {shown(theirs)} and that of {self.path.name} {shown(ours)}"
                raise UserError(f"{path}: {differs}: export both anew")
        return vectors

    def latents(self, clip: int | str) -> Tensor:
        """[N, P, Z] float16, what the quantiser was given; 0 where a chunk shows nothing of the part."""
        i = self.number(clip)
        return torch.from_numpy(np.array(self.latent_file.rows(int(self.starts[i]), int(self.starts[i + 1]))))

    @cached_property
    def latent_file(self) -> LatentFile:
        path = latents_beside(self.path)
        if not path.exists():
            raise UserError(f"{path} is missing: export_tokens --latents writes it beside the tokens")
        file = LatentFile.open(path)
        check = clips_check(self.names, np.diff(self.starts).tolist())
        for key, theirs, ours in (
            ("tokenizer", file.note.tokenizer, self.digest),
            ("parts", file.note.parts, self.parts),
            ("rows", file.shape[0], len(self.packed)),
            ("clips", file.note.clips, check),
        ):
            if theirs != ours:
                differs = f"its {key} are {shown(theirs)} and those of {self.path.name} {shown(ours)}"
                raise UserError(f"{path}: {differs}: export both anew")
        return file


def _check_same(clip: TokenSequence, first: TokenSequence, path: Path) -> None:
    for key in SAME:
        if (given := getattr(clip, key)) != (expected := getattr(first, key)):
            differs = f"its {key} is {shown(given)} and the first clip's {shown(expected)}"
            raise UserError(f"{path}, {shown(clip.name)}: {differs}: a file holds the tokens of one tokenizer")


class Labelled(NamedTuple):
    """A line of a file of tokens, and what the data set knows of its clip: gloss, text, signer, segments."""

    number: int
    clip: CachedClip


class Joined(NamedTuple):
    clips: list[Labelled]  # in the data set's order
    left_out: list[Skipped]  # and why


def joined(data: TokenData, cache: PoseCache, split: str) -> Joined:
    """The tokens of a split's clips. Clips without tokens, and tokens without a clip, are listed with their reason."""
    clips, left_out = [], [line for line in cache.skipped if line.split == split]
    known = {line.name for line in left_out}
    for i in cache.split(split):
        clip = cache.clips[i]
        known.add(clip.name)
        if fault := _fault(data, clip):
            left_out.append(Skipped(split, clip.name, fault))
        else:
            clips.append(Labelled(data.number(clip.name), clip))
    others = [name for name in data.names if name not in known]
    left_out += [
        Skipped(split, name, f"no clip of the split has this name: it is in {data.path.name} alone") for name in others
    ]
    if not clips:
        first = f"{shown(left_out[0].name)}, {left_out[0].reason}"
        raise UserError(f"{data.path} has tokens of no clip of the split {split!r}: the first is {first}")
    return Joined(clips, left_out)


def _fault(data: TokenData, clip: CachedClip) -> str | None:
    """Why a clip has no tokens."""
    if clip.name not in data:
        return f"no tokens in {data.path.name}"
    frames = data.num_frames[data.number(clip.name)]
    if frames != clip.length:
        return f"another clip: {frames} frames in {data.path.name}, {clip.length} in the data set"
    return None
