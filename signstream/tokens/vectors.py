"""What a code stands for: the codebooks' vectors, which go with the tokens wherever these are read.

    vectors = CodeVectors(parts, levels, tokenizer, table)     table [P, Q, K, Z] float32
    vectors.sums(codes)                codes [N, P, Q] -> [N, P, Z], what the tokenizer's decoder is given
    vectors.of_ids(vocabulary)         the vector of each of a vocabulary's ids

A code adds its vector to those of the levels before it; a level that was not sent adds nothing. A code is a place in a
space: whoever reads tokens should begin from these, not from numbers of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from signstream.errors import UserError
from signstream.tokens.codes import check_codes
from signstream.tokens.format import check_parts
from signstream.tokens.vocabulary import SPECIALS, Vocabulary


class IdVectors(NamedTuple):
    """Of V ids, in their order."""

    vectors: Tensor  # [V, Z] float32; 0 for an id that is no code
    part: Tensor  # [V] int64 whose code it is; -1: nobody's
    level: Tensor  # [V] int64 likewise


@dataclass(frozen=True, eq=False)
class CodeVectors:
    """Of the codes that these parts and levels have, under the tokenizer of this digest."""

    parts: tuple[str, ...]
    levels: tuple[int, ...]
    tokenizer: str
    table: Tensor  # [P, Q, K, Z] float32, Q the most levels; 0 where a part has no such level

    def __post_init__(self) -> None:
        if self.table.dim() != 4 or self.table.dtype != torch.float32 or not self.table.shape[3]:
            raise UserError(
                f"vectors are {self.table.dtype} {list(self.table.shape)}: float32 [P, Q, K, Z] is expected"
            )
        check_parts(self.parts, self.levels, self.codebook_size)
        if self.table.shape[:2] != (len(self.parts), max(self.levels)):
            expected = [len(self.parts), max(self.levels), self.codebook_size, self.dim]
            raise UserError(f"vectors are {list(self.table.shape)}: {expected} is expected")
        if not bool(self.table.isfinite().all()):
            raise UserError("vectors are not all finite numbers")

    @property
    def codebook_size(self) -> int:
        return self.table.shape[2]

    @property
    def dim(self) -> int:
        """Z"""
        return self.table.shape[3]

    def only(self, parts: tuple[str, ...]) -> CodeVectors:
        """The same without the other parts."""
        keep = [p for p, tag in enumerate(self.parts) if tag in parts]
        levels = tuple(self.levels[p] for p in keep)
        table = self.table[keep, : max(levels)]
        return CodeVectors(tuple(self.parts[p] for p in keep), levels, self.tokenizer, table)

    def sums(self, codes: Tensor) -> Tensor:
        """codes [N, P, Q'], -1 where a level was not sent -> [N, P, Z]"""
        check_codes(codes, self.parts)
        if codes.numel() and (codes.shape[2] > self.table.shape[1] or int(codes.max()) >= self.codebook_size):
            raise UserError(f"codes {list(codes.shape)} up to {int(codes.max())} are none of {list(self.table.shape)}")
        total = self.table.new_zeros(*codes.shape[:2], self.dim)
        part = torch.arange(len(self.parts), device=codes.device)
        for level in range(codes.shape[2]):
            code = codes[..., level]  # [N, P]
            total = total + self.table[part, level, code.clamp(min=0)] * (code >= 0)[..., None]
        return total

    def of_ids(self, vocabulary: Vocabulary) -> IdVectors:
        """In the order of the vocabulary's ids."""
        if (vocabulary.parts, vocabulary.levels, vocabulary.codebook_size) != (
            self.parts,
            self.levels,
            self.codebook_size,
        ):
            raise UserError("the vocabulary has other parts, levels or codes than the vectors")
        books = [(p, level) for p, levels in enumerate(self.levels) for level in range(levels)]
        none = torch.full((len(SPECIALS),), -1)
        codes = torch.tensor(books).repeat_interleave(self.codebook_size, 0)  # [V - specials, 2]
        vectors = torch.cat([self.table[p, level] for p, level in books])
        return IdVectors(
            vectors=torch.cat((vectors.new_zeros(len(SPECIALS), self.dim), vectors)),
            part=torch.cat((none, codes[:, 0])),
            level=torch.cat((none, codes[:, 1])),
        )
