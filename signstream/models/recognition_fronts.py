"""What a recogniser reads of a clip, to steps that its blocks can take; frames have a file of their own.

    B clips   S frames or chunks of a clip, padded   S' steps that come of them   D width   J joints   P parts
    Q levels   K codes of a codebook   Z width of a latent

    KeypointFront  "keypoints" [B, S, J, 3]: x, y in unit lengths from the frame's origin, weight (0: missing)
    LatentFront    "latents" [B, S, P, Z]
    CodeFront      "codes" [B, S, P, Q] int64, -1 where not sent

    front(streams, lengths [B]) -> [B, S', D]        front.steps(lengths) -> [B], the steps of each clip, exactly
    front.begin(clips) -> memory                     front.step(streams, memory, last=..) -> [B, n', D], memory

What stands in the padding, or where a joint is missing, changes nothing. `fit` comes before training and takes from
training clips what is constant: means, spreads, axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signstream.models.recognition_blocks import inside, without_padding
from signstream.skeleton import Part
from signstream.space import local_view

Streams = Mapping[str, Tensor]
NOISE = 1e-2  # share of the mean variance below which an axis is not stretched any further


class Front(nn.Module):
    """What every front has; alone, one without memory."""

    layers = 0  # blocks of its own, for layer decay and drop path

    def __init__(self, width: int, *, causal: bool = True) -> None:
        super().__init__()
        self.width = width  # of what comes out
        self.causal = causal  # whether a step knows nothing of later ones

    def forward(self, streams: Streams, lengths: Tensor, keep: Tensor | None = None) -> Tensor:
        """keep [layers, 3, B]: what a branch of its blocks counts, by clip."""
        raise NotImplementedError

    def steps(self, lengths: Tensor) -> Tensor:
        raise NotImplementedError

    def begin(self, clips: int) -> Any:
        return None

    def step(self, streams: Streams, memory: Any, *, last: bool) -> tuple[Tensor, Any]:
        """What is new of each stream -> the steps that are complete; with `last`, all that are left."""
        some = next(iter(streams.values()))
        return self(streams, some.new_full(some.shape[:1], some.shape[1], dtype=torch.int64)), memory

    def fit(self, streams: Streams, lengths: Tensor) -> None:
        """The same on every rank that is given the same clips."""

    def depths(self, last: int) -> dict[str, int]:
        """For layer decay, by parameter: 0 is decayed most, `last` not at all."""
        return {name: 0 for name, _ in self.named_parameters()}


class TimeConv(nn.Module):
    """A convolution over time, padded with zeros: step t is made of steps t * stride .. (t + 1) * stride - 1 and of
    their neighbours, on both sides or (causal) before them."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, causal: bool) -> None:
        super().__init__()
        assert kernel >= stride, f"a kernel of {kernel} steps leaves some out at a stride of {stride}"
        self.stride = stride
        self.before = (kernel - stride) if causal else (kernel - stride) // 2
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride)

    def steps(self, lengths: Tensor) -> Tensor:
        return (lengths + self.stride - 1) // self.stride

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """[B, S, F] -> [B, S', F']"""
        steps = -(-x.shape[1] // self.stride)
        seen = (steps - 1) * self.stride + self.conv.kernel_size[0]
        x = F.pad(without_padding(x, lengths), (0, 0, self.before, seen - self.before - x.shape[1]))
        return self.conv(x.transpose(1, 2)).transpose(1, 2)

    def begin(self, clips: int) -> Tensor:
        return self.conv.weight.new_zeros(clips, self.before, self.conv.in_channels)

    def step(self, x: Tensor, memory: Tensor, *, last: bool) -> tuple[Tensor, Tensor]:
        """[B, n, F], after what was kept [B, n', F] -> [B, steps, F'], what is kept now"""
        x = torch.cat((memory.to(x.dtype), x), 1)
        new = x.shape[1] - self.before
        if last:
            x = F.pad(x, (0, 0, 0, -new % self.stride))
        count = (x.shape[1] - self.before) // self.stride
        kept = x[:, count * self.stride :]
        if not count:
            return x.new_zeros(len(x), 0, self.conv.out_channels), kept
        y = self.conv(x[:, : self.before + count * self.stride].transpose(1, 2))
        return y.transpose(1, 2), kept


class KeypointMemory(NamedTuple):
    before: Tensor  # [B, 1, J, 3] the last frame
    convs: list[Tensor]  # what each convolution still needs


class KeypointFront(Front):
    """Each part seen from its own centre joint, where its joints are and how they moved since the frame before, through
    a layer of its own; then all parts together, through convolutions over time whose strides make CTC's steps.

    `fit` centres the parts, brings them to one size, and begins their layers with principal axes of equal spread: as
    they come, a hand's shape is lost behind where its fingertips point."""

    no_decay = ("absent",)
    embeddings = ("absent",)

    spread: Tensor  # [P, 2] of places, of changes

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        width: int,
        part_width: int = 96,
        strides: Sequence[int] = (2, 2),
        kernel: int = 5,
        causal: bool = False,
    ) -> None:
        super().__init__(width, causal=causal)
        self.parts = tuple(parts)
        inputs = [5 * len(part) for part in self.parts]  # x, y, their change, weight
        self.embed: Any = nn.ModuleList(nn.Linear(size, part_width) for size in inputs)
        self.norms = nn.ModuleList(nn.LayerNorm(part_width) for _ in self.parts)
        self.absent = nn.Parameter(torch.zeros(len(self.parts), part_width))  # no joint of the part is seen
        widths = [len(self.parts) * part_width, *[width] * len(strides)]
        self.convs: Any = nn.ModuleList(
            TimeConv(into, out, kernel=kernel, stride=stride, causal=causal)
            for into, out, stride in zip(widths, widths[1:], strides)
        )
        self.conv_norms = nn.ModuleList(nn.LayerNorm(width) for _ in strides)
        self.register_buffer("spread", torch.ones(len(self.parts), 2))
        for number, part in enumerate(self.parts):
            self.register_buffer(f"mean_{number}", torch.zeros(len(part), 2))

    def steps(self, lengths: Tensor) -> Tensor:
        for conv in self.convs:
            lengths = conv.steps(lengths)
        return lengths

    def forward(self, streams: Streams, lengths: Tensor, keep: Tensor | None = None) -> Tensor:
        joints = without_padding(streams["keypoints"], lengths)
        x = self._embedded(joints, torch.zeros_like(joints[:, :1]))  # [B, S, P * E]
        for conv, norm in zip(self.convs, self.conv_norms):
            x = F.gelu(norm(conv(x, lengths)))  # [B, S', D]
            lengths = conv.steps(lengths)
        return x

    def begin(self, clips: int) -> KeypointMemory:
        joints = max(part.stop for part in self.parts)
        before = self.absent.new_zeros(clips, 1, joints, 3)
        return KeypointMemory(before, [conv.begin(clips) for conv in self.convs])

    def step(self, streams: Streams, memory: KeypointMemory, *, last: bool) -> tuple[Tensor, KeypointMemory]:
        joints, kept = streams["keypoints"][:, :, : memory.before.shape[2]], []
        x = self._embedded(joints, memory.before)
        for conv, norm, held in zip(self.convs, self.conv_norms, memory.convs):
            x, held = conv.step(x, held, last=last)
            x = F.gelu(norm(x))
            kept.append(held)
        return x, KeypointMemory(torch.cat((memory.before, joints), 1)[:, -1:], kept)

    def _embedded(self, joints: Tensor, before: Tensor) -> Tensor:
        """Frames [B, S, J, 3] and the one before them [B, 1, J, 3] -> [B, S, P * E]"""
        weight = torch.cat((before, joints), 1)[..., 2].clamp(min=0)
        outs = []
        for number, views in enumerate(self._views(joints, before)):
            place, change = (view / self.spread[number, kind] for kind, view in enumerate(views))
            shown = weight[:, 1:, self.parts[number].joints]  # [B, S, J_p]
            x = self.embed[number](torch.cat((place.flatten(2), change.flatten(2), shown), -1))
            x = torch.where((shown > 0).any(-1, keepdim=True), x, self.absent[number].to(x.dtype))
            outs.append(F.gelu(self.norms[number](x)))
        return torch.cat(outs, -1)

    def _views(self, joints: Tensor, before: Tensor) -> list[tuple[Tensor, Tensor]]:
        """A part's joints from its centre and from their mean place, and how that changed: P x 2 x [B, S, J_p, 2]; 0
        where missing, or missing before."""
        joints = torch.cat((before, joints), 1)
        xy, weight = joints[..., :2], joints[..., 2]
        xy = torch.where(weight[..., None] > 0, xy, 0.0)
        views = []
        for number, part in enumerate(self.parts):
            view = local_view(xy, weight, part)  # [B, 1 + S, J_p, 2]
            seen = (weight[..., part.joints] > 0)[..., None]
            place = torch.where(seen, view - self.get_buffer(f"mean_{number}"), 0.0)
            change = torch.where(seen[:, 1:] & seen[:, :-1], view[:, 1:] - view[:, :-1], 0.0)
            views.append((place[:, 1:], change))
        return views

    @torch.no_grad()
    def fit(self, streams: Streams, lengths: Tensor) -> None:
        joints = without_padding(streams["keypoints"], lengths)
        before = torch.zeros_like(joints[:, :1])
        for number, part in enumerate(self.parts):
            self.get_buffer(f"mean_{number}").zero_()
            place, _ = self._views(joints, before)[number]
            seen = joints[:, :, part.joints, 2:] > 0  # [B, S, J_p, 1]
            self.get_buffer(f"mean_{number}").copy_(place.sum((0, 1)) / seen.sum((0, 1)).clamp(min=1))
        for number, views in enumerate(self._views(joints, before)):
            shown = joints[:, :, self.parts[number].joints, 2] > 0  # [B, S, J_p]
            whole = shown.float().mean(-1) > 0.5  # [B, S] frames that show most of the part
            count = shown[whole].sum().clamp(min=1)
            rows = [view[whole].flatten(1) for view in views]  # 2 x [M, J_p * 2]
            spread = torch.stack([(part.square().sum() / (2 * count)).sqrt() for part in rows])
            self.spread[number] = spread.clamp(min=1e-3)
            self._begin_with_axes(number, [part / size for part, size in zip(rows, self.spread[number])])

    def _begin_with_axes(self, number: int, kinds: Sequence[Tensor]) -> None:
        """The first rows of a part's layer become the axes along which its training frames differ most, half of them of
        places and half of changes; the others stay as they are."""
        weight = self.embed[number].weight
        start, row = 0, 0
        for part in kinds:
            size = part.shape[1]
            axes = stretched_axes(part, weight.shape[0] // 2)  # [n, J_p * 2]
            weight[row : row + len(axes)] = 0
            weight[row : row + len(axes), start : start + size] = axes
            start, row = start + size, row + len(axes)


def stretched_axes(rows: Tensor, most: int) -> Tensor:
    """rows [M, F] -> [n, F]: principal axes, the largest first, each over its spread, so that a row's coordinates along
    them vary alike; what is little more than noise stays small."""
    if not len(rows):
        return rows.new_zeros(0, rows.shape[1])
    rows = rows.double()
    variance, axes = torch.linalg.eigh(rows.T @ rows / len(rows))  # the smallest first
    variance, axes = variance.flip(0)[:most].clamp(min=0), axes.flip(1)[:, :most].T
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()  # an axis has no sign of its own
    return (axes / (variance + NOISE * variance.mean() + 1e-9).sqrt()[:, None]).float()


class ChunkFront(Front):
    """Chunks are long, so each becomes `steps_a_chunk` steps: by one layer, whose weights for a part are its map."""

    def __init__(self, inputs: int, width: int, steps_a_chunk: int) -> None:
        super().__init__(width)
        self.steps_a_chunk = steps_a_chunk
        self.map = nn.Linear(inputs, steps_a_chunk * width)

    def steps(self, lengths: Tensor) -> Tensor:
        return lengths * self.steps_a_chunk

    def _mapped(self, x: Tensor) -> Tensor:
        """[B, S, P, Z] -> [B, S', D]"""
        steps = self.map(x.flatten(2))
        return steps.view(len(x), x.shape[1] * self.steps_a_chunk, self.width)


class LatentFront(ChunkFront):
    """`fit` centres each part's latents and brings them to one size."""

    mean: Tensor  # [P, Z]
    spread: Tensor  # [P, 1]

    def __init__(self, parts: int, latent: int, *, width: int, steps_a_chunk: int = 2) -> None:
        super().__init__(parts * latent, width, steps_a_chunk)
        self.register_buffer("mean", torch.zeros(parts, latent))
        self.register_buffer("spread", torch.ones(parts, 1))

    def forward(self, streams: Streams, lengths: Tensor, keep: Tensor | None = None) -> Tensor:
        latents = without_padding(streams["latents"].float(), lengths)
        return self._mapped((latents - self.mean) / self.spread)

    @torch.no_grad()
    def fit(self, streams: Streams, lengths: Tensor) -> None:
        latents = streams["latents"].float()
        rows = latents[inside(lengths, latents.shape[1])]  # [M, P, Z]
        if len(rows):
            self.mean.copy_(rows.mean(0))
            self.spread.copy_((rows - self.mean).square().mean((0, 2))[:, None].sqrt().clamp(min=1e-6))


class CodeFront(ChunkFront):
    """A code is a row of its codebook: a part's rows are summed over the levels that were sent, and mapped. Rows begin
    as the codebooks' vectors [P, Q, K, Z] and train on from there; without vectors, as drawn (the control)."""

    no_decay = ("rows", "absent")

    spread: Tensor  # [P, 1]

    def __init__(
        self,
        shape: Sequence[int],
        *,
        width: int,
        vectors: Tensor | None = None,
        seed: int = 0,
        steps_a_chunk: int = 2,
    ) -> None:
        parts, levels, _, latent = shape
        super().__init__(parts * latent, width, steps_a_chunk)
        if vectors is None:
            generator = torch.Generator().manual_seed(seed)
            vectors = torch.randn(*shape, generator=generator) / levels**0.5
        assert vectors.shape == tuple(shape), f"vectors {list(vectors.shape)}: {list(shape)} are expected"
        self.rows = nn.Parameter(vectors.detach().float().clone())
        self.absent = nn.Parameter(torch.zeros(parts, levels, latent))  # of a level that was not sent
        # so that what is summed varies as much in each part, whatever its codebooks' size
        spread = (self.rows.detach() - self.rows.detach().mean(2, keepdim=True)).square().mean((2, 3)).sum(1).sqrt()
        self.register_buffer("spread", spread.clamp(min=1e-6)[:, None])

    def forward(self, streams: Streams, lengths: Tensor, keep: Tensor | None = None) -> Tensor:
        codes = streams["codes"]  # [B, S, P, Q]
        parts, levels, size, _ = self.rows.shape
        table = torch.cat((self.rows.flatten(0, 2), self.absent.flatten(0, 1)))  # [P * Q * K + P * Q, Z]
        book = torch.arange(parts * levels, device=codes.device).view(parts, levels)
        row = torch.where(codes >= 0, book * size + codes, book + parts * levels * size)
        row = without_padding(row, lengths)  # a row that there is
        vectors = F.embedding(row, table).sum(3)  # [B, S, P, Z]
        return self._mapped(vectors / self.spread)
