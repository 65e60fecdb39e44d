"""What codes are taught of meaning: a reader of whole clips learns what they say, and the carrier's first code learns
what the reader noted at its chunk. The reader is there in training alone.

    N chunks of B whole clips, packed   P parts   Z width of a latent   D width of a note   V words

    notes = lesson.read(latents [P, N, Z], lengths, draw=seed)      # [N, D], in the light of the whole clip
    lesson.reading(notes, asked)                                    # a number: what the reader is off by
    lesson.telling(vectors [N, Z], notes)                           # [N] how far a code is from telling its note

Codes that learnt the words alone learnt whole sentences by heart and told little of new ones; notes are of each chunk.
A Gloss lesson reads by CTC; a Text lesson finds a clip's sentence among others, each word by the chunk that is nearest
to it; a Next lesson needs no words: it reads forward and foresees the latents of the next chunks.
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

PART_WIDTH = 64
STEPS = 2  # of CTC that a chunk is: glosses may be shorter than two chunks
DROPPED = 0.3  # of what the reader sees
AHEAD = 2  # chunks that a Next lesson foresees
SHARPNESS = 10.0  # that a Text lesson's similarities begin with
OTHERS = 512  # sentences that it finds the right one among


class Asked(NamedTuple):
    """What a reader is asked of B clips."""

    lengths: Sequence[int]  # B chunks of each
    units: Sequence[Sequence[int]]  # B: its words as ids (Gloss), or its sentence's (Text); none: nothing is asked
    latents: Tensor  # [P, N, Z]
    draw: int = 0  # the same for all of a step


class Lesson(nn.Module, ABC):
    """The reader: an LSTM over each clip, both ways or forward alone."""

    both_ways = True

    def __init__(self, parts: int, latent: int, *, width: int = 160) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(latent, PART_WIDTH) for _ in range(parts))
        self.norm = nn.LayerNorm(parts * PART_WIDTH)
        self.into = nn.Linear(parts * PART_WIDTH, width)
        self.forth = nn.LSTM(width, width, batch_first=True)
        self.back = nn.LSTM(width, width, batch_first=True) if self.both_ways else None
        self.width = width * (2 if self.both_ways else 1)
        self.tell = nn.Linear(latent, self.width)

    def read(self, latents: Tensor, lengths: Sequence[int], *, draw: int | None = None) -> Tensor:
        """[P, N, Z] -> [N, D]. `draw`: the seed of what is not looked at in training."""
        with torch.autocast(latents.device.type, enabled=False):
            seen = torch.cat([part(x) for part, x in zip(self.parts, latents.detach().float())], -1)
            x = F.gelu(self.into(self.norm(seen)))
            if draw is not None:
                kept = torch.rand(x.shape, generator=torch.Generator().manual_seed(draw)) > DROPPED
                x = x * kept.to(x.device, non_blocking=True) / (1 - DROPPED)
            if not len(x):
                return x.new_zeros(0, self.width)
            notes = packed(self.forth(padded(x, lengths))[0], lengths)
            if self.back is None:
                return notes
            turned = torch.tensor(rows_backwards(lengths)).to(x.device, non_blocking=True)  # each clip from its own end
            return torch.cat((notes, packed(self.back(padded(x[turned], lengths))[0], lengths)[turned]), -1)

    def telling(self, vectors: Tensor, notes: Tensor) -> Tensor:
        """[N, Z] and [N, D] -> [N]: 1 from codes that say nothing, about; the reader learns nothing of it."""
        note = F.layer_norm(notes.detach(), notes.shape[-1:])
        return (self.tell(vectors.float()) - note).square().mean(-1)

    @abstractmethod
    def reading(self, notes: Tensor, asked: Asked) -> Tensor:
        """The sum over the batch of what the reader is off by."""

    @abstractmethod
    def counts(self, asked: Asked) -> int:
        """How many things that is a sum over, from the data alone."""


class Gloss(Lesson):
    def __init__(self, parts: int, latent: int, words: int) -> None:
        super().__init__(parts, latent)
        self.head = nn.Linear(self.width, words)
        nn.init.normal_(self.head.weight, std=self.width**-0.5)  # words that begin apart leave the blank sooner

    def reading(self, notes: Tensor, asked: Asked) -> Tensor:
        if not any(asked.units):
            return notes.sum() * 0
        steps = padded(self.head(notes).log_softmax(-1), asked.lengths).repeat_interleave(STEPS, 1)  # [B, S', V]
        targets = torch.tensor([unit for line in asked.units for unit in line], dtype=torch.int64)
        long = STEPS * torch.tensor(asked.lengths)
        counts = [len(line) for line in asked.units]
        return ctc_cost(steps, targets.to(steps.device, non_blocking=True), steps=long, units=counts)

    def counts(self, asked: Asked) -> int:
        return sum(map(len, asked.units))


class Text(Lesson):
    """`sentences`: the words of each one that there is, as ids; the first `known` of them are training's."""

    def __init__(self, parts: int, latent: int, sentences: Sequence[Sequence[int]], *, known: int, words: int) -> None:
        super().__init__(parts, latent)
        self.sentences, self.known = sentences, known
        self.words = nn.Embedding(words, PART_WIDTH)
        self.near = nn.Linear(self.width, PART_WIDTH)
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS).log())

    def reading(self, notes: Tensor, asked: Asked) -> Tensor:
        """All clips of a step have the same others, drawn from training's; the clip's own is not among them."""
        rows = [row for row, line in enumerate(asked.units) if line]
        if not rows:
            return notes.sum() * 0
        generator = torch.Generator().manual_seed(asked.draw)
        drawn = torch.randperm(self.known, generator=generator)[:OTHERS].tolist()  # D
        mine = [asked.units[row][0] for row in rows]  # B
        own, others = (self._shares(numbers).to(notes.device, non_blocking=True) for numbers in (mine, drawn))
        same = torch.tensor(drawn) == torch.tensor(mine)[:, None]  # [B, D]
        near = F.normalize(self.near(notes), dim=-1) @ F.normalize(self.words.weight, dim=-1).T  # [N, V]
        clips = near.split(list(asked.lengths))
        best = torch.stack([clips[row].amax(0) for row in rows]) * self.sharpness.exp()  # [B, V]
        right = (best * own).sum(-1, keepdim=True)
        wrong = (best @ others.T).masked_fill(same.to(notes.device, non_blocking=True), float("-inf"))  # [B, D]
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
    both_ways = False

    def __init__(self, parts: int, latent: int) -> None:
        super().__init__(parts, latent)
        self.ahead = nn.Linear(self.width, AHEAD * parts * latent)

    def reading(self, notes: Tensor, asked: Asked) -> Tensor:
        coming = asked.latents.detach().float().transpose(0, 1).flatten(1)  # [N, P * Z]
        coming = F.layer_norm(coming, coming.shape[-1:])  # the network makes latents larger as it learns
        foreseen = self.ahead(notes).unflatten(1, (AHEAD, -1))  # [N, AHEAD, P * Z]
        total = notes.sum() * 0
        for far in range(1, AHEAD + 1):
            now = torch.tensor(rows_with_a_later_one(asked.lengths, far), dtype=torch.int64)
            now = now.to(notes.device, non_blocking=True)
            total = total + (foreseen[now, far - 1] - coming[now + far]).square().mean(-1).sum()
        return total

    def counts(self, asked: Asked) -> int:
        return sum(len(rows_with_a_later_one(asked.lengths, far)) for far in range(1, AHEAD + 1))


def rows_backwards(lengths: Sequence[int]) -> list[int]:
    """The rows of clips packed one after another, each clip's last one first."""
    starts = accumulate(lengths, initial=0)
    return [row for start, length in zip(starts, lengths) for row in range(start + length - 1, start - 1, -1)]


def rows_with_a_later_one(lengths: Sequence[int], far: int) -> list[int]:
    """Of clips packed one after another the rows that have one of the same clip so far behind them."""
    starts = accumulate(lengths, initial=0)
    return [start + row for start, length in zip(starts, lengths) for row in range(length - far)]


def padded(x: Tensor, lengths: Sequence[int]) -> Tensor:
    """[N, ...] -> [B, S, ...]"""
    return pad_sequence(list(x.split(list(lengths))), batch_first=True)


def packed(x: Tensor, lengths: Sequence[int]) -> Tensor:
    """[B, S, ...] -> [N, ...]"""
    return torch.cat([row[:length] for row, length in zip(x, lengths)])
