"""What a recogniser reads of a clip, to steps that its blocks can take; frames have a file of their own.

    B clips   S frames or chunks of a clip, padded   S' steps that come of them   D width   J joints   P parts
    Q levels   K codes of a codebook   Z width of a latent   E width of a part

    KeypointFront  "keypoints" [B, S, J, 3]: x, y in unit lengths from the frame's origin, weight (0: missing)
    LatentFront    "latents" [B, S, P, Z]
    CodeFront      "codes" [B, S, P, Q] int64, -1 where not sent

    front(streams, lengths [B]) -> [B, S', D]        front.steps(lengths) -> [B], the steps of each clip, exactly
    front.begin(clips) -> memory                     front.step(streams, memory, last=..) -> [B, n', D], memory

What stands in the padding, or where a joint is missing, changes nothing. `fit` comes before training and takes from
training clips what is constant: means, spreads, axes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signstream.models.ctc_path import within
from signstream.models.recognition_blocks import Mlp, without_padding
from signstream.models.recognition_keypoints import PartLayer, TimeConv, View, stretched_axes
from signstream.skeleton import Part
from signstream.space import local_view, only

Streams = Mapping[str, Tensor]
BESIDE = 3  # chunks that a chunk's steps are made of: itself and its neighbours
CODING = 0.1  # share of the mean variance below which a latent's axis is not stretched further: it is lost in coding


class Front(nn.Module, ABC):
    """What every front has. As it stands here a step needs nothing of the steps before it."""

    reads: tuple[str, ...]  # the streams
    layers = 0  # blocks of its own, for layer decay and drop path
    fit_steps = 0  # of training clips, about, of which `fit` takes its constants; 0: it has none

    def __init__(self, width: int, *, causal: bool = True) -> None:
        super().__init__()
        self.width = width  # of what comes out
        self.causal = causal  # whether a step knows nothing of later ones

    @abstractmethod
    def forward(self, streams: Streams, lengths: Tensor, keep: Tensor | None = None) -> Tensor:
        """keep [layers, 3, B]: what a branch of its blocks counts, by clip."""

    @abstractmethod
    def steps(self, lengths: Tensor) -> Tensor:
        """[B] of the streams -> [B] of what comes out."""

    def begin(self, clips: int) -> Any:
        return None

    def step(self, streams: Streams, memory: Any, *, last: bool) -> tuple[Tensor, Any]:
        """What is new of each stream -> the steps that are complete; with `last`, all that are left."""
        stream = streams[self.reads[0]]
        return self(streams, stream.new_full(stream.shape[:1], stream.shape[1], dtype=torch.int64)), memory

    def fit(self, streams: Streams, lengths: Tensor) -> None:
        """The same on every rank that is given the same clips."""

    def depths(self, last: int) -> dict[str, int]:
        """For layer decay, by parameter: 0 is decayed most, `last` not at all."""
        return {name: 0 for name, _ in self.named_parameters()}


class KeypointMemory(NamedTuple):
    before: Tensor  # [B, 1, J, 3] the last frame that became part of a step
    waiting: Tensor  # [B, n, J, 3] those after it: what they say is worked out once they make a step
    convs: list[Tensor]  # what each convolution still needs


class KeypointFront(Front):
    """Each part from its own centre joint, through a layer of its own; then all of them side by side, through
    convolutions over time, whose strides make CTC's steps. Of `twins` (a, b) part a goes through b's layer, in a
    mirror: a left hand as a right one."""

    reads = ("keypoints",)
    fit_steps = 20_000
    no_decay = ("absent",)
    embeddings = ("absent",)

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        width: int,
        part_width: int = 96,
        strides: Sequence[int] = (2, 2),
        kernel: int = 5,
        causal: bool = False,
        twins: Sequence[tuple[int, int]] = (),
    ) -> None:
        super().__init__(width, causal=causal)
        self.parts = tuple(parts)
        self.twins = dict(twins)
        own = [number for number in range(len(self.parts)) if number not in self.twins]
        self.layers_of: Any = nn.ModuleDict({str(number): PartLayer(len(parts[number]), part_width) for number in own})
        self.absent = nn.Parameter(torch.zeros(len(self.parts), part_width))  # no joint of the part is seen
        widths = [len(self.parts) * part_width, *[width] * len(strides)]
        self.convs: Any = nn.ModuleList(
            TimeConv(into, out, kernel=kernel, stride=stride, causal=causal)
            for into, out, stride in zip(widths, widths[1:], strides)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in strides)

    def steps(self, lengths: Tensor) -> Tensor:
        for conv in self.convs:
            lengths = conv.steps(lengths)
        return lengths

    def forward(self, streams: Streams, lengths: Tensor, keep: Tensor | None = None) -> Tensor:
        joints = without_padding(streams["keypoints"], lengths)
        x = self._embedded(joints, torch.zeros_like(joints[:, :1]))  # [B, S, P * E]
        for number, conv in enumerate(self.convs):
            x = self._between(conv(x, lengths), number)  # [B, S', D]
            lengths = conv.steps(lengths)
        return x

    def begin(self, clips: int) -> KeypointMemory:
        joints = max(part.stop for part in self.parts)
        before = self.absent.new_zeros(clips, 1, joints, 3)
        return KeypointMemory(before, before[:, :0], [conv.begin(clips) for conv in self.convs])

    def step(self, streams: Streams, memory: KeypointMemory, *, last: bool) -> tuple[Tensor, KeypointMemory]:
        joints, kept = torch.cat((memory.waiting, streams["keypoints"][:, :, : memory.before.shape[2]]), 1), []
        late = 0 if last else joints.shape[1] % math.prod(conv.stride for conv in self.convs)
        joints, waiting = joints.split((joints.shape[1] - late, late), 1)
        if not joints.shape[1] and not last:
            return joints.new_zeros(len(joints), 0, self.width), memory._replace(waiting=waiting)
        x = self._embedded(joints, memory.before)
        for number, conv in enumerate(self.convs):
            x, held = conv.step(x, memory.convs[number], last=last)
            x = self._between(x, number)
            kept.append(held)
        return x, KeypointMemory(torch.cat((memory.before, joints), 1)[:, -1:], waiting, kept)

    def _between(self, x: Tensor, number: int) -> Tensor:
        """What comes of a convolution, as the next one takes it; what comes of the last one the blocks bend."""
        x = self.norms[number](x)
        return x if number == len(self.convs) - 1 else F.gelu(x)

    def _embedded(self, joints: Tensor, before: Tensor) -> Tensor:
        """Frames [B, S, J, 3] and the one before them [B, 1, J, 3] -> [B, S, P * E]; float32, since a hand's shape is
        a small difference of large numbers."""
        outs = []
        with torch.autocast(joints.device.type, enabled=False):
            for number, view in enumerate(self._views(joints, before)):
                x = self.layers_of[str(self.twins.get(number, number))](view)
                outs.append(torch.where((view.weight > 0).any(-1, keepdim=True), x, self.absent[number]))
        return torch.cat(outs, -1)

    def _views(self, joints: Tensor, before: Tensor) -> list[View]:
        joints = torch.cat((before, joints), 1).float()
        weight = joints[..., 2].clamp(min=0)
        xy = only(joints[..., :2], weight > 0)
        views = []
        for number, part in enumerate(self.parts):
            place = local_view(xy, weight, part)  # [B, 1 + S, J_p, 2]
            if number in self.twins:
                place = torch.stack((-place[..., 0], place[..., 1]), -1)
            seen = (weight[..., part.joints] > 0)[..., None]
            change = torch.where(seen[:, 1:] & seen[:, :-1], place[:, 1:] - place[:, :-1], 0.0)
            views.append(View(place[:, 1:], change, weight[:, 1:, part.joints]))
        return views

    @torch.no_grad()
    def fit(self, streams: Streams, lengths: Tensor) -> None:
        joints = without_padding(streams["keypoints"], lengths)
        views = self._views(joints, torch.zeros_like(joints[:, :1]))
        for name, layer in self.layers_of.items():
            layer.fit([view for number, view in enumerate(views) if self.twins.get(number, number) == int(name)])


class ChunkFront(Front):
    """Each part through a layer of its own; then all of them side by side, with the chunk before and after (causal: the
    two before). Chunks are long, so each becomes `steps_a_chunk` steps."""

    def __init__(self, parts: int, latent: int, *, width: int, sizes: ChunkSizes | None = None) -> None:
        sizes = sizes or ChunkSizes()
        super().__init__(width, causal=sizes.causal)
        self.steps_a_chunk = sizes.steps_a_chunk
        self.layers_of: Any = nn.ModuleList(ChunkLayer(latent, sizes.part_width) for _ in range(parts))
        outputs = sizes.steps_a_chunk * width
        self.conv = TimeConv(parts * sizes.part_width, outputs, kernel=BESIDE, stride=1, causal=sizes.causal)

    def steps(self, lengths: Tensor) -> Tensor:
        return lengths * self.steps_a_chunk

    @abstractmethod
    def vectors(self, streams: Streams, lengths: Tensor) -> Tensor:
        """-> [B, S, P, Z]"""

    def forward(self, streams: Streams, lengths: Tensor, keep: Tensor | None = None) -> Tensor:
        x = self._side_by_side(self.vectors(streams, lengths))
        return self._steps_of(self.conv(x, lengths))

    def begin(self, clips: int) -> Tensor:
        return self.conv.begin(clips)

    def step(self, streams: Streams, memory: Tensor, *, last: bool) -> tuple[Tensor, Tensor]:
        stream = streams[self.reads[0]]
        lengths = torch.full(stream.shape[:1], stream.shape[1], device=stream.device)
        x, memory = self.conv.step(self._side_by_side(self.vectors(streams, lengths)), memory, last=last)
        return self._steps_of(x), memory

    def _side_by_side(self, x: Tensor) -> Tensor:
        """[B, S, P, Z] -> [B, S, P * E]"""
        return torch.cat([layer(part) for layer, part in zip(self.layers_of, x.unbind(2))], -1)

    def _steps_of(self, x: Tensor) -> Tensor:
        """[B, S, steps * D] -> [B, S', D]"""
        return x.reshape(len(x), x.shape[1] * self.steps_a_chunk, self.width)


class ChunkSizes(NamedTuple):
    part_width: int = 96
    steps_a_chunk: int = 2
    causal: bool = False


class ChunkLayer(nn.Module):
    """A part's vectors [.., Z] -> [.., E]"""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(latent, width)
        self.norm = nn.LayerNorm(width)
        self.mlp = Mlp(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.map(x))
        return x + self.mlp(x)


class LatentFront(ChunkFront):
    """`fit` centres each part's latents and turns them onto the axes along which training chunks differ, equally
    stretched."""

    reads = ("latents",)
    fit_steps = 20_000

    mean: Tensor  # [P, Z]
    axes: Tensor  # [P, Z, Z]

    def __init__(self, parts: int, latent: int, *, width: int, sizes: ChunkSizes | None = None) -> None:
        super().__init__(parts, latent, width=width, sizes=sizes)
        self.register_buffer("mean", torch.zeros(parts, latent))
        self.register_buffer("axes", torch.eye(latent).repeat(parts, 1, 1))

    def vectors(self, streams: Streams, lengths: Tensor) -> Tensor:
        latents = without_padding(streams["latents"].float(), lengths)
        return torch.einsum("bspz,pyz->bspy", latents - self.mean, self.axes)

    @torch.no_grad()
    def fit(self, streams: Streams, lengths: Tensor) -> None:
        latents = streams["latents"].float()
        rows = latents[within(lengths, latents.shape[1])]  # [M, P, Z]
        if len(rows):
            self.mean.copy_(rows.mean(0))
            for part, axes in zip((rows - self.mean).unbind(1), self.axes):
                axes.copy_(stretched_axes(part, len(axes), noise=CODING))


class CodeFront(ChunkFront):
    """A code is a row of its codebook: a part's rows are summed over the levels that were sent, and mapped. Rows begin
    as the codebooks' vectors [P, Q, K, Z], along the axes in which a part's differ, equally stretched, and train on
    from there; without vectors, as drawn (the control)."""

    reads = ("codes",)
    no_decay = ("rows", "absent")

    spread: Tensor  # [P, 1]

    def __init__(
        self,
        shape: Sequence[int],
        *,
        width: int,
        vectors: Tensor | None = None,
        seed: int = 0,
        sizes: ChunkSizes | None = None,
    ) -> None:
        parts, levels, _, latent = shape
        super().__init__(parts, latent, width=width, sizes=sizes)
        if vectors is None:
            generator = torch.Generator().manual_seed(seed)
            rows = torch.randn(*shape, generator=generator) / levels**0.5
        else:
            assert vectors.shape == tuple(shape), f"vectors {list(vectors.shape)}: {list(shape)} are expected"
            rows = stretched(vectors.detach().float())
        self.rows = nn.Parameter(rows)
        self.absent = nn.Parameter(torch.zeros(parts, levels, latent))  # of a level that was not sent
        # so that what is summed varies as much in each part, whatever its codebooks' size
        spread = (self.rows.detach() - self.rows.detach().mean(2, keepdim=True)).square().mean((2, 3)).sum(1).sqrt()
        self.register_buffer("spread", spread.clamp(min=1e-6)[:, None])

    def vectors(self, streams: Streams, lengths: Tensor) -> Tensor:
        codes = streams["codes"]  # [B, S, P, Q]
        parts, levels, size, _ = self.rows.shape
        table = torch.cat((self.rows.flatten(0, 2), self.absent.flatten(0, 1)))  # [P * Q * K + P * Q, Z]
        book = torch.arange(parts * levels, device=codes.device).view(parts, levels)
        row = torch.where(codes >= 0, book * size + codes, book + parts * levels * size)
        row = without_padding(row, lengths)  # a row that there is
        return F.embedding(row, table).sum(3) / self.spread


def stretched(vectors: Tensor) -> Tensor:
    """[P, Q, K, Z] -> the same along each part's own axes: as they come, what a few of them tell drowns the rest."""
    centred = (vectors - vectors.mean(2, keepdim=True)).flatten(1, 2)  # [P, Q * K, Z]
    axes = torch.stack([stretched_axes(rows, rows.shape[-1], noise=CODING) for rows in centred])  # [P, Z, Z]
    return torch.einsum("pqkz,pyz->pqky", vectors, axes)
