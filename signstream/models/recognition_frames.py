"""Pictures to steps: convolutions to patches of 16 x 16, then blocks in which the patches of a frame hear each other,
and each patch hears itself in other frames.

    B clips   S frames of a clip, padded   F = frames of all clips, packed   S' steps (S over the stride)
    h x w pixels   H x W patches   D width   a frame's tokens: its H * W patches, then the class token

    FrameFront  "frames" [B, S, 3, h, w], normalised (and "heat" [B, S, 1, h, w], 0 .. 1, as a fourth channel)
                -> [B, S', 2 * D]: the mean of the patches, and the class token

With `axes` the class token begins as what the picture is as a whole: few clips tell that sooner than they teach
convolutions where to look.

What acts on one frame works on packed frames, so padding costs nothing there. The residual is float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from signstream.errors import UserError
from signstream.models.ctc_path import within
from signstream.models.mamba import SpatialMixer
from signstream.models.recognition_blocks import Mixing, Mlp, added, head_of, mixer_of
from signstream.models.recognition_fronts import Front, Streams
from signstream.models.recognition_keypoints import stretched_axes

PIECE = 32  # frames whose stem is computed again at a time, where it is
FIT_FRAMES = 2000  # of training clips, of which axes are found; of 224 x 224 they take 4 GB for a moment
SIDE = 24  # points across a picture that is seen as a whole: an arm is two or three of them wide


class StemBlock(nn.Module):
    """A convolution a channel, then a perceptron a place; normalised before, added after."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """[F, H, W, D]"""
        x = x + convolved(self.conv, self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Stem(nn.Module):
    """[F, C, h, w] -> [F, H, W, D]"""

    def __init__(self, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        widths = (width // 4, width // 2, width)
        self.first = nn.Conv2d(channels, widths[0], 7, stride=4, padding=3)
        self.stages = nn.ModuleList(nn.Sequential(*(StemBlock(size) for _ in range(blocks))) for size in widths[:2])
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in widths[:2])
        self.halve = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(widths, widths[1:]))

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator, depth: int) -> None:
        for name, weight in self.named_parameters():
            if weight.ndim > 1:
                spread = weight[0].numel() ** -0.5 if weight.ndim == 4 else 0.02  # convolutions, linear layers
                weight.normal_(std=spread, generator=generator)
            elif name.endswith("bias"):
                weight.zero_()

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.first(pictures).permute(0, 2, 3, 1)  # [F, h / 4, w / 4, D / 4]
        for stage, norm, halve in zip(self.stages, self.norms, self.halve):
            x = convolved(halve, norm(stage(x)))
        return x


def convolved(conv: nn.Module, x: Tensor) -> Tensor:
    """A convolution of pictures whose channels come last, as norms and linear layers want them."""
    return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Whole(nn.Module):
    """Pictures shrunk to SIDE x SIDE points, along A axes in which training's differ, equally stretched. `fit` finds
    them."""

    mean: Tensor  # [C * SIDE * SIDE]
    axes: Tensor  # [A, C * SIDE * SIDE]

    def __init__(self, channels: int, axes: int, *, width: int, stride: int) -> None:
        super().__init__()
        points = channels * SIDE * SIDE
        self.register_buffer("mean", torch.zeros(points))
        self.register_buffer("axes", torch.zeros(axes, points))
        self.embed = nn.Linear(stride * axes, width)
        self.norm = nn.LayerNorm(width)
        self.mlp = Mlp(width, 2)

    def forward(self, pictures: Tensor) -> Tensor:
        """[F, C, h, w] -> [F, 1, 1, A], as patches lie; float32, since signs are small differences of large pictures"""
        with torch.autocast(pictures.device.type, enabled=False):
            return ((shrunk(pictures) - self.mean) @ self.axes.T)[:, None, None]

    def token(self, along: Tensor) -> Tensor:
        """What is seen in a step, along the axes [F, 1, 1, stride * A] -> [F, 1, D]"""
        x = self.norm(self.embed(along.flatten(1)))
        return (x + self.mlp(x))[:, None]

    @torch.no_grad()
    def fit(self, pictures: Tensor) -> None:
        rows = shrunk(pictures)
        self.mean.copy_(rows.mean(0))
        self.axes.copy_(stretched_axes(rows - self.mean, len(self.axes)))


def shrunk(pictures: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(pictures.float(), SIDE).flatten(1)


class Packing:
    """Where the steps of padded clips [B, S] are among packed ones [F]."""

    def __init__(self, lengths: Tensor, steps: int) -> None:
        self.lengths, self.shape = lengths, (len(lengths), steps)
        self.place = within(lengths, steps).flatten().nonzero()[:, 0]  # [F]
        self.clip = self.place.div(max(steps, 1), rounding_mode="floor")  # [F]

    def packed(self, x: Tensor) -> Tensor:
        return x.flatten(0, 1)[self.place]

    def padded(self, x: Tensor) -> Tensor:
        out = x.new_zeros(self.shape[0] * self.shape[1], *x.shape[1:])
        return out.index_copy(0, self.place, x).view(*self.shape, *x.shape[1:])


class SpatialAttention(nn.Module):
    """Every token of a frame over all of them."""

    small = ("out",)

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.heads = width // head
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # 3 x [F, heads, n, E]
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class SpatialSizes(NamedTuple):
    attention: Sequence[int] = (4,)  # blocks that attend to all patches instead of scanning them
    head: int = 64
    state: int = 16
    groups: int = 4
    kernel: str = "torch"  # what computes the scan, state_space.KERNELS
    expand: int = 4  # width of the perceptron, over that of the block


class VideoBlock(nn.Module):
    """Patches of a frame, then each patch in time (without `mixing`, not at all), then the perceptron."""

    def __init__(self, width: int, mixing: Mixing | None, spatial: SpatialSizes, *, attention: bool) -> None:
        super().__init__()
        self.norm1, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm2 = None if mixing is None else nn.LayerNorm(width)
        if attention:
            self.spatial: Any = SpatialAttention(width, head_of(width, spatial.head))
        else:
            head = head_of(width // 2, spatial.head)  # a quarter of twice the width, in each direction
            sizes = {"state": spatial.state, "groups": spatial.groups}
            self.spatial = SpatialMixer(width, head=head, kernel=spatial.kernel, **sizes)
        self.temporal: Any = None if mixing is None else mixer_of(width, mixing)
        self.mlp = Mlp(width, spatial.expand)

    def forward(self, x: Tensor, grid: tuple[int, int], packing: Packing, keep: Tensor | None = None) -> Tensor:
        """x [F, H * W + 1, D], keep [3, B] what each branch counts, by clip"""
        paths = [None] * 3 if keep is None else keep[:, packing.clip]
        x = added(x, self.spatial(self.norm1(x), grid), paths[0])
        if self.temporal is not None and self.norm2 is not None:
            x = added(x, self._in_time(self.norm2(x), packing), paths[1])
        return added(x, self.mlp(self.norm3(x)), paths[2])

    def _in_time(self, x: Tensor, packing: Packing) -> Tensor:
        tokens = x.shape[1]
        rows = packing.padded(x).transpose(1, 2).flatten(0, 1)  # [B * n, S', D]
        heard = self.temporal(rows, packing.lengths.repeat_interleave(tokens))
        return packing.packed(heard.unflatten(0, (-1, tokens)).transpose(1, 2))

    def step(self, x: Tensor, grid: tuple[int, int], memory: Any) -> tuple[Tensor, Any]:
        """The next frame of each clip: [B, H * W + 1, D]"""
        x = added(x, self.spatial(self.norm1(x), grid), None)
        if self.temporal is not None and self.norm2 is not None:
            heard, memory = self.temporal.step(self.norm2(x).flatten(0, 1), memory)
            x = added(x, heard.view(x.shape), None)
        return added(x, self.mlp(self.norm3(x)), None), memory


class Seen(NamedTuple):
    """Of frames, packed [F, ..] or of each clip [B, S, ..]."""

    patches: Tensor  # [.., H, W, D]
    whole: Tensor | None  # [.., 1, 1, A]

    def each(self, change: Callable[[Tensor], Tensor]) -> Seen:
        return Seen(change(self.patches), None if self.whole is None else change(self.whole))

    def after(self, before: Seen | None) -> Seen:
        if before is None:
            return self
        whole = None if self.whole is None or before.whole is None else torch.cat((before.whole, self.whole), 1)
        return Seen(torch.cat((before.patches, self.patches), 1), whole)

    def step(self, number: int) -> Seen:
        return self.each(lambda x: x[:, number])


class FrameMemory(NamedTuple):
    held: Seen | None = None  # [B, n, ..] frames that do not make a step yet
    blocks: Sequence[Any] = ()  # what each block's mixer over time remembers


class FrameFront(Front):
    """`stride` frames become a step before the blocks. A block has its mixer over time (`mixing`) or, for a recogniser
    whose blocks over time come after all of these, none."""

    no_decay = ("token",)
    embeddings = ("token",)

    def __init__(
        self,
        *,
        width: int = 512,
        layers: int = 12,
        stem_blocks: int = 3,
        heat: bool = False,
        stride: int = 1,
        axes: int = 0,
        mixing: Mixing | None = None,
        spatial: SpatialSizes | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(2 * width, causal=mixing is None or mixing.causal)
        if width % 4:
            raise UserError(f"a width of {width}: frames begin at a quarter of it, so a multiple of 4 is expected")
        sizes = spatial or SpatialSizes()
        self.reads = ("frames", "heat") if heat else ("frames",)
        self.layers, self.heat, self.stride, self.checkpointing = layers, heat, stride, checkpointing
        self.stem = Stem(3 + heat, width, stem_blocks)
        self.whole = Whole(3 + heat, axes, width=width, stride=stride) if axes else None
        self.fit_steps = FIT_FRAMES if axes else 0
        self.merge: Any = nn.Linear(stride * width, width) if stride > 1 else None
        self.token = nn.Parameter(torch.zeros(1, width))
        self.blocks: Any = nn.ModuleList(
            VideoBlock(width, mixing, sizes, attention=number in sizes.attention) for number in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def steps(self, lengths: Tensor) -> Tensor:
        return (lengths + self.stride - 1) // self.stride

    def forward(self, streams: Streams, lengths: Tensor, keep: Tensor | None = None) -> Tensor:
        pictures = self._pictures(streams)  # [B, S, C, h, w]
        packing = Packing(lengths, pictures.shape[1])
        seen = self._seen(packing.packed(pictures))  # [F, ..]
        grid = (seen.patches.shape[1], seen.patches.shape[2])
        if self.stride > 1:
            beside = seen.each(packing.padded).each(self._beside)
            packing = Packing(self.steps(lengths), beside.patches.shape[1])
            seen = beside.each(packing.packed)
        x = self._tokens(seen)
        for number, block in enumerate(self.blocks):
            path = None if keep is None else keep[number]
            if self.checkpointing and self.training:
                x = checkpoint(block, x, grid, packing, path, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x, grid, packing, path)
        return packing.padded(self._pooled(x))

    def begin(self, clips: int) -> FrameMemory:
        return FrameMemory()

    def step(self, streams: Streams, memory: FrameMemory, *, last: bool) -> tuple[Tensor, FrameMemory]:
        pictures = self._pictures(streams)  # [B, n, C, h, w]
        clips, frames = pictures.shape[:2]
        seen = self._seen(pictures.flatten(0, 1)).each(lambda x: x.unflatten(0, (clips, frames)))  # [B, n, ..]
        grid = (seen.patches.shape[2], seen.patches.shape[3])
        held = seen.after(memory.held)
        waiting = held.patches.shape[1]
        count = -(-waiting // self.stride) if last else waiting // self.stride
        now = held.each(lambda x: self._beside(x[:, : count * self.stride]))
        held = held.each(lambda x: x[:, count * self.stride :])
        blocks = list(memory.blocks or [None] * self.layers)
        outs = [self.norm.weight.new_zeros(clips, 0, self.width)]
        for step in range(count):
            x = self._tokens(now.step(step))
            for number, block in enumerate(self.blocks):
                x, blocks[number] = block.step(x, grid, blocks[number])
            outs.append(self._pooled(x)[:, None])
        return torch.cat(outs, 1), FrameMemory(held, blocks)

    def fit(self, streams: Streams, lengths: Tensor) -> None:
        if self.whole is not None:
            pictures = self._pictures(streams)
            self.whole.fit(Packing(lengths, pictures.shape[1]).packed(pictures))

    def _seen(self, pictures: Tensor) -> Seen:
        """[F, C, h, w]"""
        return Seen(self._patches(pictures), None if self.whole is None else self.whole(pictures))

    def _patches(self, pictures: Tensor) -> Tensor:
        """[F, C, h, w] -> [F, H, W, D]. At full size a frame's activations take 90 MB, so they are not kept either."""
        if not (self.checkpointing and self.training):
            return self.stem(pictures)
        pieces = pictures.split(PIECE)
        return torch.cat([checkpoint(self.stem, p, use_reentrant=False, preserve_rng_state=False) for p in pieces])

    def _pictures(self, streams: Streams) -> Tensor:
        """The heat map is a channel like the others."""
        return torch.cat((streams["frames"], streams["heat"]), 2) if self.heat else streams["frames"]

    def _beside(self, x: Tensor) -> Tensor:
        """`stride` frames side by side, 0 past the clip's end: [B, S, H, W, D] -> [B, S', H, W, stride * D]"""
        x = F.pad(x, (0,) * 7 + (-x.shape[1] % self.stride,))
        return x.unflatten(1, (-1, self.stride)).movedim(2, 4).flatten(4)

    def _tokens(self, seen: Seen) -> Tensor:
        """Of steps -> [F, H * W + 1, D], the residual, float32"""
        x = seen.patches if self.merge is None else self.merge(seen.patches)
        x = x.flatten(1, 2).float()
        token = self.token.float().expand(len(x), 1, -1)
        if self.whole is not None and seen.whole is not None:
            token = token + self.whole.token(seen.whole).float()
        return torch.cat((x, token), 1)

    def _pooled(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return torch.cat((x[:, :-1].mean(1), x[:, -1]), -1)  # [F, 2 * D]

    def depths(self, last: int) -> dict[str, int]:
        """The stem 0, what block i does within a frame i + 1; what it does in time, what is told of whole pictures, how
        frames become steps, and the last norm, is not decayed: a stem and blocks may begin as those of a network that
        has seen pictures, but no video."""
        depths = {}
        for name, _ in self.named_parameters():
            kind, *rest = name.split(".")
            if kind == "blocks" and rest[1] not in ("temporal", "norm2"):
                depths[name] = int(rest[0]) + 1
            else:
                depths[name] = 0 if kind in ("stem", "token") else last
        return depths
