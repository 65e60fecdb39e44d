"""Residual vector quantisation of all parts and levels at once.

    P parts   N chunks   Q levels   K codes in a codebook   Z width of a latent   R donors that a batch offers for revival

    latents [P, N, Z] --forward--> Quantized: quantized [P, N, Z], codes [N, P, Q] (-1: level not sent), errors, statistics
    Statistics --update--> the codebooks, once per optimiser step: one all-reduce, EMA counts, centroids, revival, in this order

A code is the running mean of what was assigned to it, kept as that mean and a running count. There is no sum beside it that could disagree: a code
that was moved stays where it was put, one that nobody uses does not drift, and its first vectors give it their own mean, with no bias to zero.
`forward` changes nothing; everything that lasts is in buffers, so a resumed run is the run. All arithmetic is float32, whatever autocast says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 512  # vectors whose products with a codebook are looked through while they are still in cache
LEAST_USE = 0.01  # share of a fair one, below which the usage loss pulls no harder


@dataclass(frozen=True)
class Statistics:
    """What one batch says of the codebooks. Sums, so that batches and ranks add up."""

    counts: Tensor  # [P, Q, K] vectors assigned to each code
    sums: Tensor  # [P, Q, K, Z] and their sum
    donors: Tensor  # [P, Q, R, Z] residuals that a dead code of that level may become
    offered: Tensor  # [P, R] which of them are there

    def __add__(self, other: Statistics) -> Statistics:
        """Of a step's several batches the last one that has a donor offers it."""
        offered = other.offered[:, None, :, None] > 0
        return Statistics(
            self.counts + other.counts,
            self.sums + other.sums,
            torch.where(offered, other.donors, self.donors),
            torch.maximum(self.offered, other.offered),
        )


@dataclass(frozen=True)
class Quantized:
    quantized: Tensor  # [P, N, Z]; its gradient reaches the latents unchanged
    codes: Tensor  # [N, P, Q] int64
    commit: Tensor  # [P, N] squared distance of the residuals to their codes, per number, summed over levels
    usage: Tensor  # [P, N] how much each watched chunk adds to KL(usage || uniform), mean over levels; 0 for the others
    statistics: Statistics | None  # in training mode


class ResidualQuantizer(nn.Module):
    def __init__(
        self,
        levels: Sequence[int],
        codebook_size: int,
        dim: int,
        decay: float,
        revive_below: float = 0.1,
        donors: int = 32,
        rotation: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        parts, deepest = len(levels), max(levels)
        self.decay, self.revive_below, self.donors, self.rotation, self.seed = (
            decay,
            revive_below,
            donors,
            rotation,
            seed,
        )
        self.register_buffer("levels", torch.tensor(list(levels)))  # [P]
        self.register_buffer("codebook", torch.zeros(parts, deepest, codebook_size, dim))
        self.register_buffer("ema_count", torch.zeros(parts, deepest, codebook_size))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("initialised", torch.zeros((), dtype=torch.bool))
        nn.init.normal_(self.codebook, std=1 / math.sqrt(dim))

    @property
    def depth(self) -> int:
        return self.codebook.shape[1]

    def forward(
        self, latents: Tensor, valid: Tensor | None = None, sent: Tensor | None = None, watched: Tensor | None = None
    ) -> Quantized:
        """latents [P, N, Z]; valid [P, N] bool: which chunks have anything of the part to learn from;
        sent [N, P]: how many levels the decoder gets (level dropout), all by default; watched [N] bool: the usage loss's chunks, none by default."""
        with torch.autocast(latents.device.type, enabled=False):
            return self._quantise(latents.float(), valid, sent, watched)

    def _quantise(
        self, latents: Tensor, valid: Tensor | None, sent: Tensor | None, watched: Tensor | None
    ) -> Quantized:
        parts, count, _ = latents.shape
        valid = torch.ones(parts, count, dtype=torch.bool, device=latents.device) if valid is None else valid
        limit = self.levels[:, None] if sent is None else torch.minimum(sent.T, self.levels[:, None])  # [P, 1 or N]
        residual, total, codes = latents.detach(), torch.zeros_like(latents), []
        commit, residuals, chosen_index = latents.new_zeros(parts, count), [], []
        for level in range(self.depth):
            index = self.nearest(residual, level)  # [P, N]
            chosen = self._look_up(index, level)
            there = (level < self.levels)[:, None]
            target = latents.detach() - residual + chosen  # what the levels so far make of it
            commit = commit + (latents - target).square().mean(-1) * there
            residuals.append(residual)
            chosen_index.append(index)
            codes.append(torch.where(level < limit, index, -1))
            total = total + chosen * (level < limit)[..., None]
            residual = residual - chosen
        codes = torch.stack(codes, -1).transpose(0, 1)  # [N, P, Q]
        quantized = _rotate(latents, total) if self.rotation else latents + (total - latents).detach()
        statistics = self._statistics(residuals, chosen_index, valid) if self.training else None
        usage = latents.new_zeros(parts, count)
        if watched is not None:
            row = watched.nonzero()[:, 0]
            usage = usage.index_add(1, row, self._usage(latents[:, row]))
        return Quantized(quantized, codes, commit, usage, statistics)

    def nearest(self, vectors: Tensor, level: int) -> Tensor:
        """The code of a level nearest to each vector: [P, N, Z] -> [P, N] int64."""
        return _nearest(vectors, self.codebook[:, level])

    def _look_up(self, index: Tensor, level: int) -> Tensor:
        """[P, N] -> [P, N, Z]"""
        parts, depth, size, dim = self.codebook.shape
        first = (torch.arange(parts, device=index.device) * depth + level) * size
        return self.codebook.view(-1, dim).index_select(0, (index + first[:, None]).flatten()).view(*index.shape, dim)

    def encode(self, latents: Tensor) -> Tensor:
        """[P, N, Z] -> codes [N, P, Q]"""
        with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
            residual, codes = latents.float(), []
            for level in range(self.depth):
                index = self.nearest(residual, level)
                residual = residual - self._look_up(index, level)
                codes.append(torch.where((level < self.levels)[:, None], index, -1))
            return torch.stack(codes, -1).transpose(0, 1)

    def decode_codes(self, codes: Tensor) -> Tensor:
        """codes [N, P, Q'], any prefix of the levels, -1 where a level was not sent -> [P, N, Z]"""
        total = self.codebook.new_zeros(codes.shape[1], codes.shape[0], self.codebook.shape[-1])
        for level in range(codes.shape[-1]):
            index = codes[..., level].T
            total = total + self._look_up(index.clamp(min=0), level) * (index >= 0)[..., None]
        return total

    def _usage(self, latents: Tensor) -> Tensor:
        """[P, n, Z] -> [P, n]: sum over codes of a chunk's soft assignment, which has a gradient, times log(K share), the share being the code's
        running use. The mean over chunks has the gradient of KL(usage || uniform), however the chunks fall into batches."""
        loss, residual = latents.new_zeros(latents.shape[:2]), latents
        for level in range(self.depth):
            book, count = self.codebook[:, level], self.ema_count[:, level]
            crowding = (
                (count / count.mean(-1, keepdim=True).clamp(min=1e-12)).clamp(min=LEAST_USE).log()
            )  # [P, K]; 0: a fair share
            size = book.square().sum(-1)  # [P, K]
            distance = torch.baddbmm(size[:, None], residual, book.transpose(1, 2), alpha=-2)
            least, index = (distance.detach() + residual.detach().square().sum(-1, keepdim=True)).min(-1)
            spread = torch.maximum(least, 1e-3 * size.mean(-1, keepdim=True)).clamp(min=1e-12)[..., None]
            soft = torch.softmax(-distance / spread, -1)  # [P, n, K], as sharp as the nearest code is near
            loss = loss + (soft @ crowding[..., None]).squeeze(-1) * (level < self.levels)[:, None]
            residual = residual - self._look_up(index, level)
        return loss / self.levels[:, None]

    @torch.no_grad()
    def _statistics(self, residuals: list[Tensor], index: list[Tensor], valid: Tensor) -> Statistics:
        """residuals [P, N, Z] before each level and the codes [P, N] that they got."""
        counts, sums = torch.zeros_like(self.ema_count), torch.zeros_like(self.codebook)
        for level in range(self.depth):
            _tally(
                residuals[level], (valid & (level < self.levels)[:, None]).float(), index[level], counts, sums, level
            )
        order = torch.rand(valid.shape, generator=self._generator()).to(valid.device).masked_fill(~valid, -1.0)
        best, row = order.topk(min(self.donors, valid.shape[1]), dim=1)  # valid rows first
        donors = torch.stack([r.gather(1, row[..., None].expand(-1, -1, r.shape[-1])) for r in residuals], 1)
        pad = self.donors - row.shape[1]
        return Statistics(counts, sums, F.pad(donors, (0, 0, 0, pad)), F.pad((best >= 0).float(), (0, pad)))

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 1_000_003 + int(self.step))

    @torch.no_grad()
    def update(
        self, statistics: Statistics, all_reduce: Callable[[Tensor], None] | None = None, rank: int = 0, world: int = 1
    ) -> int:
        """Once per optimiser step, on every rank. Returns how many dead codes were revived."""
        counts, sums, donors, offered = self._shared(statistics, all_reduce, rank, world)
        self.step += 1
        self.ema_count.lerp_(counts, 1 - self.decay)
        pull = (1 - self.decay) / self.ema_count.clamp(min=1e-12)  # of each vector assigned: 1 over the running count
        self.codebook.mul_((1 - pull * counts)[..., None]).addcmul_(sums, pull[..., None])
        return self._revive(donors, offered)

    def _shared(
        self, statistics: Statistics, all_reduce: Callable[[Tensor], None] | None, rank: int, world: int
    ) -> tuple[Tensor, ...]:
        """The statistics of all ranks, by one sum of one flat buffer; each rank's donors have a place of their own in it."""
        counts, sums, donors, offered = statistics.counts, statistics.sums, statistics.donors, statistics.offered
        if all_reduce is None or world == 1:
            return counts, sums, donors, offered
        all_donors, all_offered = donors.new_zeros(world, *donors.shape), offered.new_zeros(world, *offered.shape)
        all_donors[rank], all_offered[rank] = donors, offered
        pieces = [counts, sums, all_donors, all_offered]
        flat = torch.cat([piece.flatten() for piece in pieces])
        all_reduce(flat)
        counts, sums, donors, offered = (
            part.view(piece.shape) for part, piece in zip(flat.split([p.numel() for p in pieces]), pieces)
        )
        return counts, sums, donors.permute(1, 2, 3, 0, 4).flatten(2, 3), offered.permute(1, 2, 0).flatten(1)

    def _revive(self, donors: Tensor, offered: Tensor) -> int:
        """The least used of the dead codes become residuals of their own level, with a fair share of the average to live on."""
        fair = self.ema_count.mean(-1, keepdim=True)  # [P, Q, 1]
        least, code = self.ema_count.topk(
            min(donors.shape[2], self.ema_count.shape[-1]), dim=-1, largest=False
        )  # [P, Q, R]
        row = offered.argsort(dim=1, descending=True, stable=True)[
            :, : code.shape[-1]
        ]  # the donors that are there come first
        there = offered.gather(1, row)[:, None] > 0
        level_used = (torch.arange(self.depth, device=fair.device) < self.levels[:, None])[..., None]
        dead = (least < self.revive_below * fair) & there & level_used & (fair > 0)
        place = dead.nonzero(as_tuple=True)
        part, level, slot = place
        target = (part, level, code[place])
        vector = donors[part, level, row[part, slot]]
        share = fair.expand_as(least)[place]
        self.codebook[target] = vector
        self.ema_count[target] = share
        return len(part)

    @torch.no_grad()
    def initialise(self, latents: Tensor, valid: Tensor, batches: float = 1, iterations: int = 15) -> None:
        """k-means, level by level, on latents [P, N, Z] that every rank has gathered, so all ranks get the same codebooks;
        `batches`: how many steps' worth they are, which is what the average starts from."""
        residual, generator = latents.float(), self._generator()
        for level in range(self.depth):
            centres, counts = _kmeans(residual, valid, self.codebook.shape[2], iterations, generator)
            self.codebook[:, level] = centres
            self.ema_count[:, level] = counts / batches
            residual = residual - self._look_up(self.nearest(residual, level), level)
        self.initialised.fill_(True)


def _kmeans(
    vectors: Tensor, valid: Tensor, size: int, iterations: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """vectors [P, N, Z], valid [P, N] -> centres [P, K, Z], counts [P, K]; all parts at once. A centre that is nobody's nearest moves to a vector."""
    parts, count, dim = vectors.shape
    number = valid.sum(1, keepdim=True).clamp(min=1)
    order = (
        torch.rand(parts, count, generator=generator)
        .to(vectors.device)
        .masked_fill(~valid, -1.0)
        .argsort(1, descending=True)
    )  # valid ones first

    def vectors_at(place: Tensor) -> Tensor:
        return vectors.gather(1, order.gather(1, place)[..., None].expand(-1, -1, dim))

    centres, weight = vectors_at(torch.arange(size, device=number.device) % number), valid.float()
    for _ in range(iterations):
        counts, sums = _tally(vectors, weight, _nearest(vectors, centres), *_no_tally(centres))
        spare = vectors_at((torch.rand(parts, size, generator=generator).to(number.device) * number).long())
        centres = torch.where(counts[..., None] > 0, sums / counts.clamp(min=1)[..., None], spare)
    return centres, _tally(vectors, weight, _nearest(vectors, centres), *_no_tally(centres))[0]


def _nearest(vectors: Tensor, centres: Tensor) -> Tensor:
    """[P, N, Z] and [P, K, Z] -> [P, N]: one product a block of rows, looked through while it is in cache."""
    half = centres.square().sum(-1)[:, None] / -2  # nearest = largest product, less half the centre's square
    rows = max(vectors.shape[1], 1) if vectors.is_cuda else ROWS
    blocks = [torch.baddbmm(half, block, centres.transpose(1, 2)).argmax(-1) for block in vectors.split(rows, 1)]
    return torch.cat(blocks, 1) if blocks else vectors.new_zeros(vectors.shape[:2], dtype=torch.int64)


def _no_tally(centres: Tensor) -> tuple[Tensor, Tensor]:
    """Empty counts [P, 1, K] and sums [P, 1, K, Z] for centres [P, K, Z]."""
    return torch.zeros_like(centres[:, None, :, 0]), torch.zeros_like(centres[:, None])


def _tally(
    vectors: Tensor, weight: Tensor, index: Tensor, counts: Tensor, sums: Tensor, level: int = 0
) -> tuple[Tensor, Tensor]:
    """Adds what falls to each code of a level to counts [P, Q, K] and sums [P, Q, K, Z]: vectors [P, N, Z], weight and index [P, N].
    Returns that level's counts and sums."""
    parts, depth, size, dim = sums.shape
    flat = (index + (torch.arange(parts, device=index.device) * depth + level)[:, None] * size).flatten()
    counts.view(-1).index_add_(0, flat, weight.flatten())
    sums.view(-1, dim).index_add_(0, flat, (vectors * weight[..., None]).flatten(0, 1))
    return counts[:, level], sums[:, level]


def _rotate(latents: Tensor, target: Tensor) -> Tensor:
    """The rotation trick: the gradient turns and scales with the latent as it goes to its code; the value is the code."""
    e = F.normalize(latents, dim=-1)
    q = F.normalize(target, dim=-1)
    scale = target.norm(dim=-1, keepdim=True) / latents.norm(dim=-1, keepdim=True).clamp(min=1e-8)
    middle = F.normalize(e + q, dim=-1).detach()
    e, q, scale = e.detach(), q.detach(), scale.detach()
    turned = (
        latents - 2 * (latents * middle).sum(-1, keepdim=True) * middle + 2 * (latents * e).sum(-1, keepdim=True) * q
    )
    return turned * scale
