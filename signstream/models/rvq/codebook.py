"""What one does with a codebook: find the nearest code, look it up, count what falls to each, make one by k-means. Pure
functions.

    P parts   N vectors   Q levels   K codes   Z width of a vector

    descend(vectors, books)        level by level: each code is taken off before the next one is looked for
    best_paths(vectors, codebook)  with several ways kept open: for each number of codes those that come nearest
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from signstream.models.rvq.same_bits import at_least_rows
from signstream.space import recorded

BEAM = 8  # ways that are kept open; 32 draw no better (docs/LOG.md)
CACHED_ROWS = 512  # vectors whose products with a codebook are looked through while they are still in cache
GROUP = 64  # numbers of which a CPU first finds the largest alone


class Book(Protocol):
    """A level's codes."""

    def nearest(self, vectors: Tensor) -> Tensor:
        """[.., N, Z] -> [.., N] int64"""

    def look_up(self, index: Tensor) -> Tensor:
        """[.., N] -> [.., N, Z]"""


class Choice(NamedTuple):
    """What a level makes of what the levels before it left over."""

    residual: Tensor  # [.., N, Z] what was left over
    code: Tensor  # [.., N] the one nearest to it
    vector: Tensor  # [.., N, Z] what that stands for


class Tally(NamedTuple):
    counts: Tensor  # [P, Q, K] how much weight falls to each code
    sums: Tensor  # [P, Q, K, Z] and the weighted sum of its vectors


class Clusters(NamedTuple):
    centres: Tensor  # [P, K, Z]
    counts: Tensor  # [P, K] vectors nearest to each


class LevelBook(NamedTuple):
    """One level of the codebooks of all parts."""

    codebook: Tensor  # [P, Q, K, Z]
    level: int

    def nearest(self, vectors: Tensor) -> Tensor:
        return nearest(vectors, self.codebook[:, self.level])

    def look_up(self, index: Tensor) -> Tensor:
        """[P, N] -> [P, N, Z], by rows of the whole, so that no level is copied."""
        parts, depth, size, dim = self.codebook.shape
        first = (torch.arange(parts, device=index.device) * depth + self.level) * size  # [P] the level's first row
        row = (index + first[:, None]).flatten()
        return self.codebook.view(-1, dim).index_select(0, row).view(*index.shape, dim)


def descend(vectors: Tensor, books: Iterable[Book]) -> list[Choice]:
    """vectors [.., N, Z] through a book a level."""
    residual, choices = vectors, list[Choice]()
    for book in books:
        if choices:
            residual = residual - choices[-1].vector
        code = book.nearest(residual)
        choices.append(Choice(residual, code, book.look_up(code)))
    return choices


def best_paths(vectors: Tensor, codebook: Tensor) -> Tensor:
    """vectors [P, N, Z], codebook [P, Q, K, Z] -> [P, N, Q, Q]: in row n - 1 the n codes, one of each level, whose sum
    comes nearest of those that a beam finds; -1 beyond."""
    rows = max(vectors.shape[1], 1) if vectors.is_cuda else CACHED_ROWS // BEAM
    return torch.cat([_best_paths(block, codebook) for block in vectors.split(rows, 1)], 1)


def _best_paths(vectors: Tensor, codebook: Tensor) -> Tensor:
    depth, size, dim = codebook.shape[1:]
    left = vectors[:, :, None]  # [P, N, b, Z] what each way leaves over
    ways = vectors.new_zeros(*left.shape[:3], depth, dtype=torch.int64) - 1  # [P, N, b, Q]
    best = []
    for level in range(depth):
        book = LevelBook(codebook, level)
        near = _nearness(left, codebook[:, level]).flatten(2).topk(min(BEAM, left.shape[2] * size), -1)  # best first
        way, code = near.indices // size, near.indices % size  # [P, N, b']
        vector = book.look_up(code.flatten(1)).view(*code.shape, dim)
        left = left.gather(2, way[..., None].expand_as(vector)) - vector
        ways = ways.gather(2, way[..., None].expand(*way.shape, depth))
        ways[..., level] = code
        best.append(ways[:, :, 0])
    return torch.stack(best, 2)


def _nearness(vectors: Tensor, centres: Tensor) -> Tensor:
    """[P, N, b, Z] and [P, K, Z] -> [P, N, b, K]: half the distance's square, its sign turned."""
    rows = vectors.flatten(1, 2)
    half = (centres.square().sum(-1)[:, None] / -2, rows.square().sum(-1, keepdim=True) / -2)
    products = torch.bmm(at_least_rows(rows, 1), centres.transpose(1, 2))[:, : rows.shape[1]]
    return (products + half[0] + half[1]).unflatten(1, vectors.shape[1:3])


def levels_sent(levels: Tensor, sent: Tensor | None) -> Tensor:
    """How many levels the decoder gets, [P, 1] or [P, N]: all that a part has (levels [P]), or fewer (sent [N, P])."""
    return levels[:, None] if sent is None else torch.minimum(sent.T, levels[:, None])


def nearest(vectors: Tensor, centres: Tensor) -> Tensor:
    """[P, N, Z] and [P, K, Z] -> [P, N]: one product a block of rows, looked through while it is in cache."""
    half = centres.square().sum(-1)[:, None] / -2  # nearest = largest product, less half the centre's square
    rows = max(vectors.shape[1], 1) if vectors.is_cuda else CACHED_ROWS
    best = [largest(torch.baddbmm(half, block, centres.transpose(1, 2))) for block in vectors.split(rows, 1)]
    return torch.cat(best, 1) if best else vectors.new_zeros(vectors.shape[:2], dtype=torch.int64)


def largest(numbers: Tensor) -> Tensor:
    """[P, N, K] -> [P, N]: argmax. Which group has the largest, then which of the group it is: half the time of a CPU's
    own."""
    if numbers.is_cuda or recorded() or numbers.shape[2] % GROUP:
        return numbers.argmax(-1)
    groups = numbers.unflatten(-1, (-1, GROUP))  # [P, N, g, GROUP]
    group = groups.amax(-1).argmax(-1)  # [P, N]
    row = torch.arange(group.numel()).view_as(group) * groups.shape[2] + group
    place = groups.reshape(-1, GROUP).index_select(0, row.flatten()).argmax(-1)
    return group * GROUP + place.view_as(group)


def tally(vectors: Tensor, weight: Tensor, index: Tensor, *, size: int) -> Tally:
    """vectors [P, Q, N, Z], their weight and the index of their code [P, Q, N], of `size` codes."""
    parts, depth, _, dim = vectors.shape
    first = torch.arange(parts * depth, device=index.device).view(parts, depth, 1) * size  # each codebook's first row
    row = (index + first).flatten()
    counts = vectors.new_zeros(parts * depth * size).index_add_(0, row, weight.flatten())
    sums = vectors.new_zeros(parts * depth * size, dim)
    sums.index_add_(0, row, (vectors * weight[..., None]).flatten(0, 2))
    return Tally(counts.view(parts, depth, size), sums.view(parts, depth, size, dim))


def kmeans(vectors: Tensor, valid: Tensor, size: int, *, iterations: int, generator: torch.Generator) -> Clusters:
    """vectors [P, N, Z], valid [P, N]: all parts at once. A centre that is nobody's nearest moves to a vector."""
    parts, count, dim = vectors.shape
    device = vectors.device
    number = valid.sum(1, keepdim=True).clamp(min=1)  # [P, 1]
    shuffled = torch.rand(parts, count, generator=generator).to(device)
    order = shuffled.masked_fill(~valid, -1.0).argsort(1, descending=True)  # [P, N] valid ones first

    def vectors_at(rank: Tensor) -> Tensor:
        """[P, K] places in that order -> [P, K, Z]"""
        return vectors.gather(1, order.gather(1, rank)[..., None].expand(-1, -1, dim))

    def assigned(centres: Tensor) -> Tally:
        index = nearest(vectors, centres)
        return tally(vectors[:, None], valid[:, None].float(), index[:, None], size=size)

    centres = vectors_at(torch.arange(size, device=device) % number)
    for _ in range(iterations):
        counts, sums = assigned(centres)
        spare = vectors_at((torch.rand(parts, size, generator=generator).to(device) * number).long())
        means = sums[:, 0] / counts[:, 0].clamp(min=1)[..., None]
        centres = torch.where(counts[:, 0, :, None] > 0, means, spare)
    return Clusters(centres, assigned(centres).counts[:, 0])
