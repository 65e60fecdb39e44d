"""What benchmarks/retrieval.py works out, of tensors alone: which clip is nearest to which, and whether that is right.

sequences = levelled(clips)                        N clips x P parts x [n, D_p], NaN where nothing is known
distance = distances(sequences, euclidean)         [N, N], warped in time; differing: of ids instead of vectors
numbers(ranks(distance, labels)) -> Numbers        clips by the same person never count
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from signstream.models.metrics.retrieval import Ranks, recall

GRID = 2.0**24  # distances are whole numbers of 1 / GRID, so that equals are equal in whatever order they are added

# Two sets of chunks [n, D], [m, D] -> how far apart they are [n, m].
Apart = Callable[[Tensor, Tensor], Tensor]


class Labels(NamedTuple):
    """Of N clips."""

    word: Tensor  # [N]
    person: Tensor  # [N]
    asks: Tensor  # [N] bool: whether it may be a query


class Numbers(NamedTuple):
    first: float  # the share of queries that have a right one first
    five: float  # among the first five
    reciprocal: float  # mean of 1 / the nearest right one's rank


def others(labels: Labels) -> Tensor:
    """[N, N]: clips by somebody else."""
    return labels.person[:, None] != labels.person


def right(labels: Labels) -> Tensor:
    """[N, N]: of these, the same word's."""
    return others(labels) & (labels.word[:, None] == labels.word)


def queries(labels: Labels) -> Tensor:
    return labels.asks & right(labels).any(1)


def ranks(distance: Tensor, labels: Labels) -> Ranks:
    """distance [N, N] -> of each query; without any difference it is chance."""
    same, wrong = right(labels), others(labels) & ~right(labels)
    nearest = distance.masked_fill(~same, torch.inf).amin(1, keepdim=True)
    equal = distance == nearest
    counts = ((distance < nearest) & wrong, equal & wrong, equal & same)
    return Ranks(*(count.sum(1)[queries(labels)].double() for count in counts))


def numbers(found: Ranks) -> Numbers:
    places = int((found.nearer + found.wrong).max()) + 1
    shares = [recall(found, k) for k in range(max(places, 5) + 1)]
    return Numbers(shares[1], shares[5], sum((b - a) / k for k, (a, b) in enumerate(zip(shares, shares[1:]), 1)))


def distances(sequences: Sequence[Tensor], apart: Apart) -> Tensor:
    """N x [T, D] -> [N, N]"""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    rows = torch.cat(list(sequences))
    steps = torch.arange(int(lengths.max()))[:, None]
    index = (steps + lengths.cumsum(0) - lengths).clamp(max=len(rows) - 1)  # [T, N]
    return torch.stack([warped((apart(query, rows) * GRID).round()[:, index] / GRID, lengths) for query in sequences])


def warped(cost: Tensor, lengths: Tensor) -> Tensor:
    """cost [n, T, N] of a query's n chunks and those of N clips, which have `lengths` -> [N]"""
    n, longest, clips = cost.shape
    before = np.full((longest + 1, clips), np.inf)
    before[0] = 0
    for row in cost.numpy():
        now = np.full_like(before, np.inf)
        for t, step in enumerate(row):
            now[t + 1] = np.minimum(np.minimum(before[t + 1], now[t]) + step, before[t] + 2 * step)
        before = now
    return torch.from_numpy(before[lengths, np.arange(clips)]) / (n + lengths)


def levelled(clips: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """N x P x [n, D_p] -> N x [n, D]: each part less its mean, at unit mean square; 0 for NaN."""
    parts = []
    for values in zip(*clips):
        rows = torch.cat(values).double()
        known = ~rows.isnan()
        rows = torch.where(known, rows - rows.nanmean(0), 0.0)
        parts.append(rows / rows[known.any(1)].square().sum(1).mean().sqrt() if rows.any() else rows)
    return [*torch.cat(parts, 1).split([len(clip[0]) for clip in clips])]


def euclidean(query: Tensor, rows: Tensor) -> Tensor:
    return torch.cdist(query, rows, compute_mode="donot_use_mm_for_euclid_dist")


def differing(query: Tensor, rows: Tensor) -> Tensor:
    return (query[:, None] != rows).sum(-1).double()
