"""Squeezeformer blocks over the steps of padded sequences: half a perceptron, attention, a convolution, the other half.

    B clips   S steps, padded   S' of the middle blocks (half of them, where it squeezes)   D width

    model = Squeezeformer(384, depth=4, heads=4, dropout=0.3, drop_path=0.1)
    init_weights(model, generator, 4)                              # recognition_blocks
    model(x [B, S, D], lengths [B], draw=seed) -> [B, S, D] float32, 0 in the padding

What stands in the padding changes nothing, NaN included, and no clip knows its company, in training neither. Therefore
the norm inside the convolution is a LayerNorm. The specification names none; the public code has BatchNorm there, whose
means in training are those of the company, with the padding among them and of one rank alone: masked, it would still
need a sum over all ranks in every block. Attention knows how far steps are apart (rotary), as Squeezeformer's does.

What is dropped in training follows from `draw`: one seed, or one of each clip. A clip of one seed drops the same
branches (drop path) and the same numbers (dropout) in any batch and however long the padding.

`squeeze` gives the middle blocks half the steps: two become one by a convolution, and what comes of one is added to
both. Off by default: the public code, of that name, has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signstream.errors import UserError
from signstream.models.recognition import branches_kept
from signstream.models.recognition_blocks import AttentionMixer, added, without_padding
from signstream.models.recognition_keypoints import TimeConv

SHARES = (0.5, 1.0, 1.0, 0.5)  # what a block adds of each of its branches
LEVELS = 256  # values of a byte; a rate of dropout is a whole number of them


class Drop(NamedTuple):
    """What a block drops."""

    branches: Tensor  # [4, B] what each branch counts, by clip; 0 where it is dropped
    seeds: list[int]  # [B] of dropout


class FeedForward(nn.Module):
    small = ("down",)

    def __init__(self, width: int, *, expand: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout, self.places = dropout, (expand * width, width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, expand * width)
        self.down = nn.Linear(expand * width, width)

    def forward(self, x: Tensor, lengths: Tensor, stay: Sequence[Tensor | None]) -> Tensor:
        x = dropped(F.silu(self.up(self.norm(x))), stay[0], self.dropout)  # [B, S, expand * D]
        return dropped(self.down(x), stay[1], self.dropout)


class Attention(nn.Module):
    """Its weights are not dropped: what fused kernels draw follows from no seed of ours."""

    def __init__(self, width: int, *, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout, self.places = dropout, (width,)
        self.norm = nn.LayerNorm(width)
        self.mixer = AttentionMixer(width, head=width // heads)

    def forward(self, x: Tensor, lengths: Tensor, stay: Sequence[Tensor | None]) -> Tensor:
        return dropped(self.mixer(self.norm(x), lengths), stay[0], self.dropout)


class Convolution(nn.Module):
    small = ("down",)

    def __init__(self, width: int, *, kernel: int = 15, dropout: float = 0.0) -> None:
        super().__init__()
        assert kernel % 2, f"a kernel of {kernel} steps has no middle"
        self.dropout, self.places = dropout, (width,)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.down = nn.Linear(width, width)

    def forward(self, x: Tensor, lengths: Tensor, stay: Sequence[Tensor | None]) -> Tensor:
        if 0 in x.shape:
            return x  # shorter than the kernel, with its padding too
        x = without_padding(F.glu(self.up(self.norm1(x))), lengths)  # [B, S, D]
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return dropped(self.down(F.silu(self.norm2(x))), stay[0], self.dropout)


Branch = FeedForward | Attention | Convolution


class SqueezeformerBlock(nn.Module):
    """Each branch normalised before and added after, to a residual that stays float32; a norm at the end."""

    def __init__(self, width: int, *, heads: int, expand: int = 4, kernel: int = 15, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.first = FeedForward(width, expand=expand, dropout=dropout)
        self.attention = Attention(width, heads=heads, dropout=dropout)
        self.convolution = Convolution(width, kernel=kernel, dropout=dropout)
        self.second = FeedForward(width, expand=expand, dropout=dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop | None = None) -> Tensor:
        """[B, S, D]"""
        x = without_padding(x, lengths).float()
        branches: Sequence[Branch] = (self.first, self.attention, self.convolution, self.second)
        places = [width for branch in branches for width in branch.places]
        stay: list[Tensor | None] = [None] * len(places)
        if drop is not None and self.dropout:
            drawn = stays(self.dropout, (*x.shape[:2], sum(places)), drop.seeds)
            stay = [*drawn.to(x.device, non_blocking=True).split(places, -1)]
        for number, branch in enumerate(branches):
            mine, stay = stay[: len(branch.places)], stay[len(branch.places) :]
            heard = SHARES[number] * branch(x, lengths, mine)
            x = added(x, heard, None if drop is None else drop.branches[number])
        return without_padding(self.norm(x).float(), lengths)


class Squeezeformer(nn.Module):
    def __init__(
        self,
        width: int,
        *,
        depth: int = 4,
        heads: int = 4,
        expand: int = 4,
        kernel: int = 15,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        squeeze: bool = False,
    ) -> None:
        super().__init__()
        if width % heads or width // heads % 2:
            raise UserError(f"a width of {width} cannot be shared by {heads} heads of an even width: change one")
        if squeeze and depth < 3:
            raise UserError(f"a squeeze in the middle of {depth} blocks has no block to squeeze: it takes 3 or more")
        self.dropout, self.drop_path, self.squeeze = dropout, drop_path, squeeze
        sizes: Any = {"heads": heads, "expand": expand, "kernel": kernel, "dropout": dropout}
        self.blocks = nn.ModuleList(SqueezeformerBlock(width, **sizes) for _ in range(depth))
        self.small = ("back",) if squeeze else ()
        if squeeze:
            self.two = TimeConv(width, width, kernel=3, stride=2, causal=False)
            self.back = nn.Linear(width, width)

    def forward(self, x: Tensor, lengths: Tensor, *, draw: int | Sequence[int] | None = None) -> Tensor:
        """`draw`: seed of what training drops, or a seed of each clip; of a model in evaluation, nothing is."""
        drops = self._drops(lengths, draw)
        if not self.squeeze:
            return self._through(x, lengths, range(len(self.blocks)), drops=drops)
        last = len(self.blocks) - 1
        x = self._through(x, lengths, range(1), drops=drops)
        half = self.two.steps(lengths)  # [B]
        middle = self._through(self.two(x, lengths), half, range(1, last), drops=drops)  # [B, S', D]
        x = x + self.back(middle).float().repeat_interleave(2, 1)[:, : x.shape[1]]
        return self._through(x, lengths, range(last, last + 1), drops=drops)

    def _through(self, x: Tensor, lengths: Tensor, blocks: range, *, drops: list[Drop] | None) -> Tensor:
        for number in blocks:
            x = self.blocks[number](x, lengths, None if drops is None else drops[number])
        return x

    def _drops(self, lengths: Tensor, draw: int | Sequence[int] | None) -> list[Drop] | None:
        """Of each block; of a model that drops nothing, None."""
        if not self.training or self.drop_path == self.dropout == 0 or not len(lengths):
            return None
        assert draw is not None, "a model that drops anything in training needs a seed: draw"
        depth = len(self.blocks)
        seeds = [seeds_from(seed, 1 + depth) for seed in seeds_of_clips(draw, len(lengths))]  # [B][1 + depth]
        kept = [branches_kept(self.drop_path, (depth, len(SHARES), 1), clip[0]) for clip in seeds]
        branches = torch.cat(kept, -1).to(lengths.device, non_blocking=True)  # [depth, 4, B]
        return [Drop(mine, [clip[1 + number] for clip in seeds]) for number, mine in enumerate(branches)]


def dropped(x: Tensor, stay: Tensor | None, rate: float) -> Tensor:
    """x, 0 where it does not stay, the rest so much larger that the mean is the same."""
    return x if stay is None else x * stay * (LEVELS / (LEVELS - round(LEVELS * rate)))


def stays(rate: float, shape: Sequence[int], seeds: Sequence[int]) -> Tensor:
    """What dropout leaves, [B, S, n] bool, of each clip by its seed; more steps change none of the first. Drawn on the
    host, so that every device drops the same; a byte a number, eight bytes at a time."""
    clips, steps, width = shape
    assert 0 <= round(LEVELS * rate) < LEVELS, f"a dropout of {rate} leaves nothing"
    words = torch.empty(clips, -(-steps * width // 8), dtype=torch.int64)
    for clip, seed in zip(words, seeds):
        clip.random_(-(2**63), None, generator=torch.Generator().manual_seed(seed))
    levels = words.view(torch.uint8)[:, : steps * width].reshape(clips, steps, width)
    return levels >= round(LEVELS * rate)


def seeds_of_clips(draw: int | Sequence[int], clips: int) -> list[int]:
    if isinstance(draw, int):
        return seeds_from(draw, clips)
    assert len(draw) == clips, f"{len(draw)} seeds for {clips} clips"
    return [int(seed) for seed in draw]


def seeds_from(seed: int, count: int) -> list[int]:
    """Seeds that follow from one, the first the same however many."""
    return torch.randint(2**62, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
