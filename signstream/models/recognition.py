"""The recogniser: signs, as frames, keypoints, latents or codes, to the probabilities of glosses at each step, for CTC.

    B clips   S steps of a stream, padded   S' of CTC (S over the front's stride, or times its steps a chunk)
    V glosses, the blank first (0)   U units of a target   D width

    model = Recognizer(KeypointFront(parts, width=256), V, width=256, depth=6, mixing=Mixing("mamba"), seed=0)
    model.fit(streams, lengths)                      # constants of the front, from training clips
    model(streams, lengths [B]) -> Emissions: log_probs [B, S', V] float32, lengths [B]

The front (recognition_fronts.py, recognition_frames.py) is all that knows what is read; the blocks over time are the
same (recognition_blocks.py). A clip's emissions do not depend on its company or on padding, and beyond its end they
are certain blanks. With drop path, a branch is dropped for a whole clip; what is dropped follows from `draw`, so a step
can be repeated.

A causal recogniser is fed as the clip comes: begin() -> memory, step(streams, memory, last=..) -> log_probs of the
steps that are complete, memory; together they are the whole clip's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from signstream.models.ctc_path import BLANK, within
from signstream.models.mamba import BRANCHES
from signstream.models.recognition_blocks import Block, Mixing, init_weights
from signstream.models.recognition_fronts import Front, Streams

NEVER = -1e4  # log probability of what padding does not emit; finite, so that no product with it is undefined


class Emissions(NamedTuple):
    log_probs: Tensor  # [B, S', V] float32
    lengths: Tensor  # [B] steps of each clip


class Memory(NamedTuple):
    """What a stream brings to its next step."""

    front: Any
    blocks: list[Any]


class Recognizer(nn.Module):
    """`depth` may be 0 where the front has blocks over time of its own."""

    def __init__(
        self,
        front: Front,
        glosses: int,
        *,
        width: int,
        depth: int,
        mixing: Mixing | None = None,
        expand: int = 4,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        checkpointing: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        mixing = mixing or Mixing()
        self.front = front
        self.causal = front.causal and (mixing.causal or depth == 0)
        assert front.causal or not mixing.causal, "blocks that are causal stand on a front that looks ahead"
        self.drop_path, self.dropout, self.checkpointing = drop_path, dropout, checkpointing
        bridge = depth > 0 and front.width != width
        self.into = nn.Linear(front.width, width) if bridge else nn.Identity()
        self.blocks: Any = nn.ModuleList(Block(width, mixing, expand) for _ in range(depth))
        self.norm = nn.LayerNorm(width) if depth else nn.Identity()  # a front's own blocks end with theirs
        self.head = nn.Linear(width if depth else front.width, glosses)
        self.init_weights(seed)

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        init_weights(self, generator, self.front.layers + len(self.blocks))
        # Glosses begin apart: from a head near 0 CTC learns nothing but the blank for many steps more.
        self.head.weight.normal_(std=self.head.in_features**-0.5, generator=generator)

    def fit(self, streams: Streams, lengths: Tensor) -> None:
        """The front's constants, before training."""
        self.front.fit(streams, lengths)

    def steps(self, lengths: Tensor) -> Tensor:
        """[B] steps of the streams -> [B] steps of CTC, of which a target needs `steps_needed`."""
        return self.front.steps(lengths)

    def forward(self, streams: Streams, lengths: Tensor, *, draw: int | None = None) -> Emissions:
        """`draw`: seed of what training drops; of a model in evaluation, nothing is."""
        keep, generator = self._drawn(lengths, draw)
        x = self.front(streams, lengths, None if keep is None else keep[: self.front.layers])  # [B, S', D']
        lengths = self.steps(lengths)
        if len(self.blocks):
            x = self._dropped(x, generator)
        x = self.into(x).float()  # [B, S', D], the residual
        for number, block in enumerate(self.blocks, self.front.layers):
            path = None if keep is None else keep[number]
            if self.checkpointing and self.training:
                x = checkpoint(block, x, lengths, path, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x, lengths, path)
        log_probs = self._log_probs(self._dropped(self.norm(x), generator))
        return Emissions(torch.where(within(lengths, x.shape[1])[..., None], log_probs, self._blank(x)), lengths)

    def _drawn(self, lengths: Tensor, draw: int | None) -> tuple[Tensor | None, torch.Generator | None]:
        """What each branch counts, [layers, 3, B], and a generator of the host, so that every device drops the same; of
        a model that drops nothing, neither."""
        if not self.training or self.drop_path == self.dropout == 0:
            return None, None
        assert draw is not None, "a recogniser that drops anything in training needs a seed: draw"
        keep = branches_kept(self.drop_path, (self.front.layers + len(self.blocks), BRANCHES, len(lengths)), draw)
        return keep.to(lengths.device, non_blocking=True), torch.Generator().manual_seed(draw)

    def _dropped(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Dropout, of what goes into the blocks and into the head."""
        if generator is None or self.dropout == 0:
            return x
        keep = torch.rand(x.shape, generator=generator) >= self.dropout
        return x * keep.to(x.device, non_blocking=True) / (1 - self.dropout)

    def _log_probs(self, x: Tensor) -> Tensor:
        """float32, whatever autocast says: a sum of a thousand probabilities is one in it."""
        with torch.autocast(x.device.type, enabled=False):
            return self.head(x.float()).log_softmax(-1)

    def _blank(self, x: Tensor) -> Tensor:
        """[V]: nothing but the blank."""
        never = torch.full((self.head.out_features,), NEVER, device=x.device)
        return never.masked_fill(torch.arange(len(never), device=x.device) == BLANK, 0.0)

    def begin(self, clips: int = 1) -> Memory:
        assert self.causal, "only a causal recogniser can be streamed"
        return Memory(self.front.begin(clips), [None] * len(self.blocks))

    @torch.no_grad()
    def step(self, streams: Streams, memory: Memory, *, last: bool = False) -> tuple[Tensor, Memory]:
        """What is new of each stream [B, n, ..] -> log_probs [B, n', V] of the steps that are complete; `last`: of all
        that are left, n may be 0."""
        assert self.causal and not self.training, "only a causal recogniser can be streamed, and not in training"
        x, front = self.front.step(streams, memory.front, last=last)
        x, blocks, outs = self.into(x).float(), list(memory.blocks), [x.new_zeros(len(x), 0, self.head.in_features)]
        for new in x.unbind(1):
            for number, block in enumerate(self.blocks):
                new, blocks[number] = block.step(new, blocks[number])
            outs.append(self.norm(new)[:, None])
        return self._log_probs(torch.cat(outs, 1)), Memory(front, blocks)

    def depths(self) -> dict[str, int]:
        """For layer decay, by name of a parameter: 0 the front, then its blocks and these, one after another; `last`
        the head, whose learning rate is the whole. Which have no weight decay their modules say in `no_decay`."""
        depths = {f"front.{name}": depth for name, depth in self.front.depths(self.last).items()}
        for name, _ in self.named_parameters():
            kind, *rest = name.split(".")
            if kind == "into":
                depths[name] = self.front.layers
            elif kind != "front":
                depths[name] = self.front.layers + int(rest[0]) + 1 if kind == "blocks" else self.last
        return depths

    @property
    def last(self) -> int:
        return self.front.layers + len(self.blocks) + 1


def branches_kept(rate: float, shape: Sequence[int], draw: int) -> Tensor:
    """What branches count, [layers, branches, B]: 0 where one is dropped for a clip, the more often the deeper it is,
    up to `rate`; elsewhere so much that the mean is 1."""
    rates = torch.linspace(0, rate, shape[0])[:, None, None]
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(draw)) >= rates) / (1 - rates)


def steps_needed(target: Sequence[int]) -> int:
    """Steps that CTC needs for a target [U]: one a unit, and a blank between units that repeat; with fewer its loss is
    infinite."""
    return len(target) + sum(a == b for a, b in zip(target, target[1:]))
