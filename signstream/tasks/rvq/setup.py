"""What the tokenizer's training stands on, and how clips become what its loss is worked out on.

ClipBatch --Setup.chunked--> RvqBatch: chunks, what the encoder sees, what the decoder is asked for
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from signstream.config import Config, Data
from signstream.data.cache import open_cache
from signstream.data.collate import ChunkBatch, make_chunks
from signstream.io.batch import ClipBatch
from signstream.io.dataloader_utils import read_clips, step_seed
from signstream.io.pose_cache import PoseCache
from signstream.models.rvq.rvq_model import Earlier, Output, RVQModel
from signstream.skeleton import Skeleton
from signstream.space import SigningSpace
from signstream.tasks.rvq.build import build_model
from signstream.tasks.rvq.losses import Losses, chunks_before, terms_of, valid_chunks, watched
from signstream.tasks.rvq.semantic import Layout, Taught
from signstream.tasks.rvq.views import Target, Views
from signstream.training.distributed import Ranks


@dataclass(frozen=True)
class RvqBatch:
    chunks: ChunkBatch
    inputs: list[Tensor]  # P x [N, L, J, 3] what the encoder sees
    targets: list[Target]  # P: what the decoder is asked for
    watched: Tensor | None = None  # [n] the chunks that the usage loss is worked out on
    sent: Tensor | None = None  # [N, P] how many levels the decoder gets
    layout: Layout | None = None  # where codes are taught what they mean

    def __len__(self) -> int:
        return len(self.chunks)

    @property
    def valid(self) -> Tensor:
        """[P, N] which chunks have anything of a part."""
        return valid_chunks(self.targets)

    @property
    def earlier(self) -> Earlier:
        return Earlier(chunks_before(self.chunks), draw=None if self.layout is None else self.layout.draw)


class Setup:
    def __init__(self, config: Config, cache: PoseCache, ranks: Ranks) -> None:
        self.config = config
        self.cache = cache
        self.ranks = ranks
        self.parts = [part.name for part in self.skeleton.parts]
        self.model: RVQModel = build_model(config, self.skeleton)
        self.taught = Taught.of(config, cache, self.model)
        if self.taught is not None:  # it is trained and saved with the model
            self.model.lesson = self.taught.lesson
        self.model.to(ranks.device)
        taught = None if self.taught is None else self.taught.weights(config.loss.semantic_weight)
        extra = terms_of(config, self.skeleton)
        self.losses = Losses(config, self.parts, extra, taught=taught, device=ranks.device)
        self.views = Views(self.skeleton, _no_space(self.parts))  # until the constants are fitted or read
        if config.model.compile:
            for half in (self.model.encoder, self.model.decoder):
                half.forward = torch.compile(half.forward, dynamic=True)

    @classmethod
    def open(cls, config: Config, ranks: Ranks) -> Setup:
        return cls(config, open_cache(config.data, quiet=not ranks.is_main), ranks)

    @property
    def skeleton(self) -> Skeleton:
        return self.cache.skeleton

    @property
    def quantising(self) -> bool:
        """Whether there are codebooks yet."""
        return bool(self.model.quantizer.initialised)

    def use_space(self, space: SigningSpace) -> None:
        self.views = Views(self.skeleton, space)

    def clips(self, index: list[int], seed: int = 0) -> ClipBatch:
        """Clips of the cache, packed."""
        return read_clips(self.cache, index, seed)

    def chunked(self, clips: ClipBatch, data: Data | None = None, *, train: bool) -> RvqBatch:
        """On the device; `data`: the config's unless it is given. All that waits for the device is done here."""
        chunks = make_chunks(clips.to(self.ranks.device), self.skeleton, data or self.config.data, train=train)
        inputs, targets = self.views.of(chunks)
        hides = train and self.config.data.augment.dropout_prob > 0
        layout = None if self.taught is None else layout_of(clips, chunks, step_seed(clips.seed, 2) if hides else None)
        if not train:
            return RvqBatch(chunks, inputs, targets, layout=layout)
        rows = watched(chunks).nonzero()[:, 0] if self.config.model.rvq.usage_reg else None
        return RvqBatch(chunks, inputs, targets, rows, self._levels_sent(len(chunks), clips.seed), layout)

    def counts(self, batch: RvqBatch) -> Tensor:
        """[R, P]"""
        rows = self.losses.counts(batch.chunks, batch.targets)
        if self.taught is None or batch.layout is None:
            return rows
        return torch.cat((rows, self.taught.counts(batch.layout, rows.device)))

    def totals(self, output: Output, batch: RvqBatch, draw: int = 0) -> Tensor:
        """[R, P]"""
        rows = self.losses.totals(output, batch.chunks, batch.targets)
        if self.taught is None or batch.layout is None:
            return rows
        return torch.cat((rows, self.taught.totals(output, batch.layout, draw=draw)))

    def _levels_sent(self, chunks: int, seed: int) -> Tensor:
        """Level dropout [N, P]: a share of the chunks is decoded from the first few levels alone."""
        depth, size = self.model.quantizer.depth, (chunks, len(self.parts))
        generator = torch.Generator().manual_seed(step_seed(seed, 1))  # not the seed that hides joints
        few = torch.rand(size, generator=generator) < self.config.model.rvq.level_dropout
        sent = torch.where(few, torch.randint(1, depth + 1, size, generator=generator), depth)
        return sent.to(self.ranks.device, non_blocking=True)


def layout_of(clips: ClipBatch, chunks: ChunkBatch, draw: int | None) -> Layout:
    there = [(clip, length) for clip, length in zip(clips.index, chunks.of_clips) if length]
    return Layout(tuple(clip for clip, _ in there), tuple(length for _, length in there), draw)


def _no_space(parts: list[str]) -> SigningSpace:
    """Constants that change nothing."""
    count = len(parts)
    return SigningSpace(tuple(parts), torch.zeros(count, 2), torch.ones(count), torch.zeros(count, 2))
