"""Residual vector quantisation of all parts and levels at once.

    P parts   N chunks   Q levels   K codes in a codebook   Z width of a latent   R donors of a batch, for revival

    latents [P, N, Z] --forward--> Quantized: quantized [P, N, Z], codes [N, P, Q] (-1: not sent), errors, statistics
    Statistics --update--> the codebooks, once per optimiser step: one all-reduce, EMA counts, centroids, revival,
                           in this order

A code is the running mean of what was assigned to it, kept as that mean and a running count. There is no sum beside it
that could disagree: a code that was moved stays where it was put, one that nobody uses does not drift, and its first
vectors give it their own mean, with no bias to zero. `forward` changes nothing; everything that lasts is in buffers, so
a resumed run is the run. All arithmetic is float32, whatever autocast says. Out of training a CPU takes chunks a block
at a time, which then stays in its cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signstream.models.rvq.codebook import (
    CACHED_ROWS,
    Choice,
    LevelBook,
    best_paths,
    descend,
    kmeans,
    levels_sent,
    tally,
)

LEAST_USE = 0.01  # share of a fair one, below which the usage loss pulls no harder


@dataclass(frozen=True)
class Statistics:
    """What one batch says of the codebooks. Sums, so that batches and ranks add up."""

    counts: Tensor  # [P, Q, K] vectors assigned to each code
    sums: Tensor  # [P, Q, K, Z] and their sum
    donors: Tensor  # [P, Q, R, Z] residuals that a dead code of that level may become
    offered: Tensor  # [P, R] 1 for those that are a chunk's residual, 0 for those that only fill up

    def __add__(self, other: Statistics) -> Statistics:
        """Of a step's several batches the last one that has a donor offers it."""
        offers = other.offered[:, None, :, None] > 0
        return Statistics(
            self.counts + other.counts,
            self.sums + other.sums,
            torch.where(offers, other.donors, self.donors),
            torch.maximum(self.offered, other.offered),
        )

    def over_ranks(self, all_reduce: Callable[[Tensor], object], rank: int, world: int) -> Statistics:
        """Those of all ranks, by one sum of one flat buffer, in which each rank's donors have rows of their own: R *
        ranks of them."""
        donors = self.donors.new_zeros(world, *self.donors.shape)
        offered = self.offered.new_zeros(world, *self.offered.shape)
        donors[rank] = self.donors
        offered[rank] = self.offered
        pieces = [self.counts, self.sums, donors, offered]
        flat = torch.cat([piece.flatten() for piece in pieces])
        all_reduce(flat)
        split = flat.split([piece.numel() for piece in pieces])
        counts, sums, donors, offered = (part.view(piece.shape) for part, piece in zip(split, pieces))
        donors = donors.permute(1, 2, 3, 0, 4).flatten(2, 3)  # [P, Q, R * ranks, Z]
        return Statistics(counts, sums, donors, offered.permute(1, 2, 0).flatten(1))


@dataclass(frozen=True)
class Quantized:
    quantized: Tensor  # [P, N, Z]; its gradient reaches the latents unchanged
    codes: Tensor  # [N, P, Q] int64
    commit: Tensor  # [P, N] squared distance of the residuals to their codes, per number, summed over levels
    usage: Tensor  # [P, N] how much each watched chunk adds to KL(usage || uniform), mean over levels; 0 for the others
    statistics: Statistics | None  # in training mode


class Taken(NamedTuple):
    """What is found of n chunks."""

    choices: list[Choice]  # of each level
    limit: Tensor  # [P, n] how many levels the decoder gets
    quantized: Tensor  # [P, n, Z]
    commit: Tensor  # [P, n]


class ResidualQuantizer(nn.Module):
    """decay: what is left of a running count after a step, so that a code remembers about 1 / (1 - decay) steps.
    revive_below: a code with a smaller share than this of its codebook's average count is dead. donors: R, how many of
    a batch's chunks offer their residuals to dead codes, and so how many a rank can revive in a step."""

    levels: Tensor  # [P] how many levels each part has
    codebook: Tensor  # [P, Q, K, Z] the codes: running means of the residuals that were assigned to them
    ema_count: Tensor  # [P, Q, K] how many residuals a step were assigned to each code, a running mean
    step: Tensor  # [] updates so far; with the seed, what the next draw of donors comes from
    initialised: Tensor  # [] bool, whether k-means has made the codes

    def __init__(
        self,
        levels: Sequence[int],
        codebook_size: int,
        dim: int,
        *,
        decay: float,
        revive_below: float = 0.1,
        donors: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        parts, deepest = len(levels), max(levels)
        self.decay = decay
        self.revive_below = revive_below
        self.donors = donors
        self.seed = seed
        self.register_buffer("levels", torch.tensor(list(levels)))
        self.register_buffer("codebook", torch.zeros(parts, deepest, codebook_size, dim))
        self.register_buffer("ema_count", torch.zeros(parts, deepest, codebook_size))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("initialised", torch.zeros((), dtype=torch.bool))
        nn.init.normal_(self.codebook, std=1 / math.sqrt(dim))

    @property
    def depth(self) -> int:
        return self.codebook.shape[1]

    @property
    def books(self) -> list[LevelBook]:
        return [LevelBook(self.codebook, level) for level in range(self.depth)]

    def forward(
        self,
        latents: Tensor,
        valid: Tensor | None = None,
        sent: Tensor | None = None,
        *,
        watched: Tensor | None = None,
        draw: int | None = None,
    ) -> Quantized:
        """latents [P, N, Z]; valid [P, N] bool: which chunks have anything of the part to learn from; sent [N, P]: how
        many levels the decoder gets (level dropout), all by default; watched [n]: the rows of the usage loss's chunks,
        none by default; draw: `next_draw`, for who knows it already and would not wait for the device."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            limit = levels_sent(self.levels, sent).expand(-1, latents.shape[1])
            if self.training or latents.is_cuda:
                blocks = [self._taken(latents, limit)]
            else:
                both = zip(latents.split(CACHED_ROWS, 1), limit.split(CACHED_ROWS, 1))
                blocks = [self._taken(*block) for block in both]
            return Quantized(
                quantized=joined([block.quantized for block in blocks], 1),
                codes=joined([codes_of(block.choices, block.limit) for block in blocks], 0),
                commit=joined([block.commit for block in blocks], 1),
                usage=self._usage_of(latents, watched),
                statistics=self._statistics(blocks[0].choices, valid, draw) if self.training else None,
            )

    def _taken(self, latents: Tensor, limit: Tensor) -> Taken:
        choices = descend(latents.detach(), self.books)
        total = torch.zeros_like(latents)
        commit = latents.new_zeros(latents.shape[:2])
        for level, choice in enumerate(choices):
            target = latents.detach() - choice.residual + choice.vector  # what the levels so far make of it
            commit = commit + (latents - target).square().mean(-1) * (level < self.levels)[:, None]
            total = torch.addcmul(total, choice.vector, (level < limit)[..., None].to(total.dtype))
        return Taken(choices, limit, latents + (total - latents).detach(), commit)

    def encode(self, latents: Tensor) -> Tensor:
        """[P, N, Z] -> codes [N, P, Q]"""
        with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
            return codes_of(descend(latents.float(), self.books), self.levels[:, None])

    def prefixes(self, latents: Tensor) -> Tensor:
        """[P, N, Z] -> [N, P, Q, Q]: for each number of levels the best codes that a beam finds; of a part that has
        fewer levels than others, all of its own from there on."""
        with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
            return within(best_paths(latents.float(), self.codebook).transpose(0, 1), self.levels)

    def decode_codes(self, codes: Tensor) -> Tensor:
        """codes [N, P, Q'], any prefix of the levels, -1 where a level was not sent -> [P, N, Z]"""
        total = self.codebook.new_zeros(codes.shape[1], codes.shape[0], self.codebook.shape[-1])
        for level in range(codes.shape[-1]):
            index = codes[..., level].T  # [P, N]
            vector = LevelBook(self.codebook, level).look_up(index.clamp(min=0))
            total = total + vector * (index >= 0)[..., None]
        return total

    def _usage_of(self, latents: Tensor, watched: Tensor | None) -> Tensor:
        """[P, N, Z] -> [P, N], 0 for chunks that are not watched."""
        usage = latents.new_zeros(latents.shape[:2])
        if watched is None:
            return usage
        return usage.index_add(1, watched, self._usage(latents[:, watched]))

    def _usage(self, latents: Tensor) -> Tensor:
        """[P, n, Z] -> [P, n]: sum over codes of a chunk's soft assignment, which has a gradient, times log(K share),
        the share being the code's running use. The mean over chunks has the gradient of KL(usage || uniform), however
        the chunks fall into batches."""
        loss, residual = latents.new_zeros(latents.shape[:2]), latents
        for level, book in enumerate(self.books):
            codes, count = self.codebook[:, level], self.ema_count[:, level]
            share = count / count.mean(-1, keepdim=True).clamp(min=1e-12)  # [P, K]; 1: a fair one
            crowding = share.clamp(min=LEAST_USE).log()
            size = codes.square().sum(-1)  # [P, K]
            # [P, n, K] the squared distance, but for the residual's own square
            distance = torch.baddbmm(size[:, None], residual, codes.transpose(1, 2), alpha=-2)
            square = residual.detach().square().sum(-1, keepdim=True)
            shortest, index = (distance.detach() + square).min(-1)  # [P, n]
            spread = torch.maximum(shortest, 1e-3 * size.mean(-1, keepdim=True)).clamp(min=1e-12)[..., None]
            soft = torch.softmax(-distance / spread, -1)  # [P, n, K], as sharp as the nearest code is near
            loss = loss + (soft @ crowding[..., None]).squeeze(-1) * (level < self.levels)[:, None]
            residual = residual - book.look_up(index)
        return loss / self.levels[:, None]

    @torch.no_grad()
    def _statistics(self, choices: Sequence[Choice], valid: Tensor | None, draw: int | None) -> Statistics:
        residuals = torch.stack([choice.residual for choice in choices], 1)  # [P, Q, N, Z]
        index = torch.stack([choice.code for choice in choices], 1)  # [P, Q, N]
        if valid is None:
            valid = torch.ones_like(index[:, 0], dtype=torch.bool)
        has_level = torch.arange(self.depth, device=index.device) < self.levels[:, None]  # [P, Q]
        weight = (valid[:, None] & has_level[..., None]).float()  # [P, Q, N]
        counts, sums = tally(residuals, weight, index, size=self.codebook.shape[2])
        generator = torch.Generator().manual_seed(self.next_draw() if draw is None else draw)
        order = torch.rand(valid.shape, generator=generator).to(valid.device, non_blocking=True)
        order = order.masked_fill(~valid, -1.0)
        best, row = order.topk(min(self.donors, valid.shape[1]), dim=1)  # [P, R] valid rows first
        donors = residuals.gather(2, row[:, None, :, None].expand(-1, self.depth, -1, residuals.shape[-1]))
        short = self.donors - row.shape[1]
        return Statistics(counts, sums, F.pad(donors, (0, 0, 0, short)), F.pad((best >= 0).float(), (0, short)))

    def next_draw(self) -> int:
        """The seed of what is drawn at random before the next update."""
        return (self.seed * 1_000_003 + int(self.step)) % (1 << 63)

    @torch.no_grad()
    def update(
        self,
        statistics: Statistics | None,
        all_reduce: Callable[[Tensor], object] | None = None,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> int:
        """Once per optimiser step that quantised, on every rank. Returns how many dead codes were revived."""
        assert statistics is not None, "the step did not quantise in training mode"
        if all_reduce is not None and world > 1:
            statistics = statistics.over_ranks(all_reduce, rank, world)
        counts = statistics.counts
        self.step += 1
        self.ema_count.lerp_(counts, 1 - self.decay)
        pull = (1 - self.decay) / self.ema_count.clamp(min=1e-12)  # of each vector assigned: 1 over the running count
        self.codebook.mul_((1 - pull * counts)[..., None]).addcmul_(statistics.sums, pull[..., None])
        return self._revive(statistics.donors, statistics.offered)

    def _revive(self, donors: Tensor, offered: Tensor) -> int:
        """The least used of the dead codes become residuals of their own level, with a fair share of the average to
        live on."""
        most = min(donors.shape[2], self.ema_count.shape[-1])  # codes that can be revived a level
        fair = self.ema_count.mean(-1, keepdim=True)  # [P, Q, 1]
        count, code = self.ema_count.topk(most, dim=-1, largest=False)  # [P, Q, most] the least used codes
        donor = offered.argsort(dim=1, descending=True, stable=True)[:, :most]  # [P, most] those that are chunks' first
        has_donor = offered.gather(1, donor)[:, None] > 0
        has_level = (torch.arange(self.depth, device=fair.device) < self.levels[:, None])[..., None]
        dead = (count < self.revive_below * fair) & has_donor & has_level & (fair > 0)
        part, level, slot = dead.nonzero(as_tuple=True)
        revived = code[part, level, slot]
        self.codebook[part, level, revived] = donors[part, level, donor[part, slot]]
        self.ema_count[part, level, revived] = fair[part, level, 0]
        return len(part)

    @torch.no_grad()
    def initialise(
        self, latents: Tensor, valid: Tensor, batches: float = 1, *, iterations: int = 15, only: int | None = None
    ) -> None:
        """k-means, level by level, on latents [P, N, Z] that every rank has gathered, so all ranks get the same
        codebooks; `batches`: how many steps' worth they are, which is what the average starts from; `only`: one part,
        whose codes are made anew."""
        part = slice(None) if only is None else slice(only, only + 1)
        latents, valid = latents[part], valid[part]
        residual = latents.float()
        generator, size = torch.Generator().manual_seed(self.next_draw()), self.codebook.shape[2]
        for level in range(self.depth):
            clusters = kmeans(residual, valid, size, iterations=iterations, generator=generator)
            self.codebook[part, level] = clusters.centres
            self.ema_count[part, level] = clusters.counts / batches
            book = LevelBook(self.codebook[part], level)
            residual = residual - book.look_up(book.nearest(residual))
        self.initialised.fill_(True)


def joined(pieces: Sequence[Tensor], axis: int) -> Tensor:
    """A single one as it is."""
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces), axis)


def within(prefixes: Tensor, levels: Tensor) -> Tensor:
    """[N, P, Q, Q]: no more codes than a part has levels [P]."""
    row = torch.minimum(torch.arange(prefixes.shape[2], device=levels.device), levels[:, None] - 1)  # [P, Q]
    return prefixes.gather(2, row[None, :, :, None].expand_as(prefixes))


def codes_of(choices: Sequence[Choice], limit: Tensor) -> Tensor:
    """[N, P, Q]: the codes chosen, -1 from level limit [P, 1 or N] on."""
    codes = [torch.where(level < limit, choice.code, -1) for level, choice in enumerate(choices)]
    return torch.stack(codes, -1).transpose(0, 1)
