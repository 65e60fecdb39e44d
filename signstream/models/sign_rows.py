"""What a vocabulary's ids are to a language model: what each has of its own, and a row of its part and level.

    V ids, M of them no codes   C codes   D width   Z of a codebook's vector   P parts   Q levels   K codes of each

    SignRows(vocabulary, D, spread=spread, vectors=vectors, seed=0)     a row of every id is learnt
    MappedRows.begun(vocabulary, D, spread=spread, vectors=vectors)     of a code its vector's place under a learnt map
    rows(ids [..])                                                      [.., D] of ids from 0 on

All begin at the spread of the model's own embedding, and with the same draw both at the same place: a code begins as
its codebook's vector, along the axes in which a part's differ, through a map that is drawn, so that codes which mean
alike begin alike. What is mapped for good has no more to learn than the map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from signstream.models.recognition_fronts import stretched
from signstream.tokens.vectors import CodeVectors
from signstream.tokens.vocabulary import SPECIALS, Vocabulary

HALF = 0.5**0.5  # the spread of each of two that are summed


class SignRows(nn.Module):
    book: Tensor  # [V] of an id; 0: no code's

    def __init__(
        self, vocabulary: Vocabulary, width: int, *, spread: float, vectors: CodeVectors | None, seed: int
    ) -> None:
        """`vectors` None: codes as drawn too."""
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(len(vocabulary), width, generator=generator)
        books = torch.randn(1 + sum(vocabulary.levels), width, generator=generator)
        if vectors is not None:
            rows[len(SPECIALS) :] = mapped(vectors, width, generator)
        half = spread * HALF
        self.rows = nn.Embedding.from_pretrained(rows * half, freeze=False)
        self.books = nn.Embedding.from_pretrained(books * half, freeze=False)
        self.register_buffer("book", books_of(vocabulary))

    def forward(self, ids: Tensor) -> Tensor:
        """ids from 0 on [..] -> [.., D]"""
        return self.rows(ids) + self.books(self.book[ids])


class MappedRows(nn.Module):
    book: Tensor  # [V] of an id; 0: no code's
    axes: Tensor  # [C, Z]

    def __init__(self, vocabulary: Vocabulary, width: int, *, dim: int) -> None:
        """All 0, as a checkpoint's come over it."""
        super().__init__()
        self.rows = nn.Embedding.from_pretrained(torch.zeros(len(SPECIALS), width), freeze=False)
        self.books = nn.Embedding.from_pretrained(torch.zeros(1 + sum(vocabulary.levels), width), freeze=False)
        self.map = nn.Parameter(torch.zeros(dim, width))
        self.register_buffer("axes", torch.zeros(len(vocabulary) - len(SPECIALS), dim))
        self.register_buffer("book", books_of(vocabulary))

    @classmethod
    def begun(cls, vocabulary: Vocabulary, width: int, *, spread: float, vectors: CodeVectors, seed: int) -> MappedRows:
        made, generator = cls(vocabulary, width, dim=vectors.dim), torch.Generator().manual_seed(seed)
        half = spread * HALF
        rows = torch.randn(len(vocabulary), width, generator=generator)  # more than are kept: as SignRows draws
        made.rows.weight.data = rows[: len(SPECIALS)] * half
        made.books.weight.data = torch.randn(made.books.weight.shape, generator=generator) * half
        # A code's axes have a length of about 1, so that a step of the optimiser moves it no further than a row.
        made.axes.copy_(axes_of(vectors) * vectors.dim**-0.5)
        made.map.data = torch.randn(made.map.shape, generator=generator) * half
        return made

    def forward(self, ids: Tensor) -> Tensor:
        """ids from 0 on [..] -> [.., D]"""
        code = ids - len(SPECIALS)
        special = self.rows(ids.clamp(max=len(SPECIALS) - 1))
        own = torch.where((code < 0)[..., None], special, self.axes[code.clamp(min=0)] @ self.map)
        return own + self.books(self.book[ids])


def books_of(vocabulary: Vocabulary) -> Tensor:
    """[V]: of each id its part and level, counted from 1 on; 0: none."""
    of_code = torch.arange(sum(vocabulary.levels)).repeat_interleave(vocabulary.codebook_size) + 1
    return torch.cat((torch.zeros(len(SPECIALS), dtype=torch.int64), of_code))


def mapped(vectors: CodeVectors, width: int, generator: torch.Generator) -> Tensor:
    """[C, D] in the order of a vocabulary's ids, by one map for all parts."""
    return axes_of(vectors) @ torch.randn(vectors.dim, width, generator=generator) * vectors.dim**-0.5


def axes_of(vectors: CodeVectors) -> Tensor:
    """[C, Z] in the order of a vocabulary's ids; of each part and level the mean is 0 and the spread 1, since each has
    a row of its own."""
    table = stretched(vectors.table)  # [P, Q, K, Z]
    table = table - table.mean(2, keepdim=True)
    table = table / table.square().mean((2, 3), keepdim=True).sqrt().clamp(min=1e-6)
    return torch.cat([table[p, level] for p, levels in enumerate(vectors.levels) for level in range(levels)])
