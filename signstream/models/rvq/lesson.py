"""What a part's latents are taught of meaning, by what can be read from them. A lesson is there in training alone.

    N chunks of B whole clips, packed   P parts   Z width of a latent   V words

    lesson.reading(meant [N, Z], asked)    a number: what is read from them is off by
    lesson.counts(asked)                   how many things that is a sum over

A Gloss lesson reads glosses by CTC; a Text lesson finds a clip's sentence among others, each word by the chunk that is
nearest to it; a Next lesson needs no words: it foresees the latents of the next chunks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from signstream.models.ctc_path import ctc_cost

STEPS = 2  # of CTC that a chunk is: glosses may be shorter than two chunks
WORD_WIDTH = 64
AHEAD = 2  # chunks that a Next lesson foresees
SHARPNESS = 10.0  # that a Text lesson's similarities begin with
OTHERS = 512  # sentences that it finds the right one among


class Asked(NamedTuple):
    """What is asked of B clips."""

    lengths: Sequence[int]  # B chunks of each
    units: Sequence[Sequence[int]]  # B: its words as ids (Gloss), or its sentence's (Text); none: nothing is asked
    latents: Tensor  # [P, N, Z] of all parts, without a look back
    draw: int = 0  # the same for all of a step


class Lesson(nn.Module, ABC):
    @abstractmethod
    def reading(self, meant: Tensor, asked: Asked) -> Tensor:
        """The sum over the batch of what is off."""

    @abstractmethod
    def counts(self, asked: Asked) -> int:
        """How many things that is a sum over, from the data alone."""


class Gloss(Lesson):
    def __init__(self, latent: int, words: int) -> None:
        super().__init__()
        self.head = nn.Linear(latent, STEPS * words)
        nn.init.normal_(self.head.weight, std=latent**-0.5)  # words that begin apart leave the blank sooner

    def reading(self, meant: Tensor, asked: Asked) -> Tensor:
        if not any(asked.units):
            return meant.sum() * 0
        steps = self.head(meant).unflatten(-1, (STEPS, -1)).log_softmax(-1)  # [N, STEPS, V]
        targets = torch.tensor([unit for line in asked.units for unit in line], dtype=torch.int64)
        long = STEPS * torch.tensor(asked.lengths)
        counts = [len(line) for line in asked.units]
        rows = padded(steps, asked.lengths).flatten(1, 2)  # [B, S, V]
        return ctc_cost(rows, targets.to(rows.device, non_blocking=True), steps=long, units=counts)

    def counts(self, asked: Asked) -> int:
        return sum(map(len, asked.units))


class Text(Lesson):
    """`sentences`: the words of each one that there is, as ids; the first `known` of them are training's."""

    def __init__(self, latent: int, sentences: Sequence[Sequence[int]], *, known: int, words: int) -> None:
        super().__init__()
        self.sentences, self.known = sentences, known
        self.words = nn.Embedding(words, WORD_WIDTH)
        self.near = nn.Linear(latent, WORD_WIDTH)
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS).log())

    def reading(self, meant: Tensor, asked: Asked) -> Tensor:
        """All clips of a step have the same others, drawn from training's; the clip's own is not among them."""
        rows = [row for row, line in enumerate(asked.units) if line]
        if not rows:
            return meant.sum() * 0
        generator = torch.Generator().manual_seed(asked.draw)
        drawn = torch.randperm(self.known, generator=generator)[:OTHERS].tolist()  # D
        mine = [asked.units[row][0] for row in rows]  # B
        own, others = (self._shares(numbers).to(meant.device, non_blocking=True) for numbers in (mine, drawn))
        same = torch.tensor(drawn) == torch.tensor(mine)[:, None]  # [B, D]
        near = F.normalize(self.near(meant), dim=-1) @ F.normalize(self.words.weight, dim=-1).T  # [N, V]
        clips = near.split(list(asked.lengths))
        best = torch.stack([clips[row].amax(0) for row in rows]) * self.sharpness.exp()  # [B, V]
        right = (best * own).sum(-1, keepdim=True)
        wrong = (best @ others.T).masked_fill(same.to(meant.device, non_blocking=True), float("-inf"))  # [B, D]
        return (torch.cat((right, wrong), 1).logsumexp(1) - right[:, 0]).sum()

    def _shares(self, numbers: Sequence[int]) -> Tensor:
        """[n, V]: of each of these sentences, what share of it each word is; on the host."""
        shares = torch.zeros(len(numbers), self.words.num_embeddings)
        for row, number in zip(shares, numbers):
            words = torch.tensor(self.sentences[number])
            row.index_add_(0, words, torch.full(words.shape, 1 / len(words)))
        return shares

    def counts(self, asked: Asked) -> int:
        return sum(bool(line) for line in asked.units)


class Next(Lesson):
    def __init__(self, parts: int, latent: int) -> None:
        super().__init__()
        self.ahead = nn.Linear(latent, AHEAD * parts * latent)

    def reading(self, meant: Tensor, asked: Asked) -> Tensor:
        coming = asked.latents.detach().float().transpose(0, 1).flatten(1)  # [N, P * Z]
        coming = F.layer_norm(coming, coming.shape[-1:])  # the network makes latents larger as it learns
        foreseen = self.ahead(meant).unflatten(1, (AHEAD, -1))  # [N, AHEAD, P * Z]
        total = meant.sum() * 0
        for far in range(1, AHEAD + 1):
            now = torch.tensor(rows_with_a_later_one(asked.lengths, far), dtype=torch.int64)
            now = now.to(meant.device, non_blocking=True)
            total = total + (foreseen[now, far - 1] - coming[now + far]).square().mean(-1).sum()
        return total

    def counts(self, asked: Asked) -> int:
        return sum(len(rows_with_a_later_one(asked.lengths, far)) for far in range(1, AHEAD + 1))


def rows_with_a_later_one(lengths: Sequence[int], far: int) -> list[int]:
    """Of clips packed one after another the rows that have one of the same clip so far behind them."""
    starts = accumulate(lengths, initial=0)
    return [start + row for start, length in zip(starts, lengths) for row in range(length - far)]


def padded(x: Tensor, lengths: Sequence[int]) -> Tensor:
    """[N, ...] -> [B, S, ...]"""
    return pad_sequence(list(x.split(list(lengths))), batch_first=True)
