"""Signing as a sequence for a text model: a front that knows the source, then the fusion encoder.

B clips   S steps of the source, padded   S' steps that come out   D width   V rows of W visual features

reads = Reads("keypoints", (75,), visual=768)          or latents (P, Z), codes (P, Q, K, Z), glosses (V,)
encoder = sign_encoder(config.model.encoder, reads, seed)
encoder.fit(streams, lengths)                          constants, once, of training clips
KeptEncoder.from_state(checkpoint)                     what a checkpoint has of one: reads, weights
encoder(streams, lengths [B], draw=seed) -> Signing(x [B, S', D], lengths [B]); 0 in the padding
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signstream.config.translation import EncoderModel
from signstream.errors import UserError, shown
from signstream.models.ctc_path import within
from signstream.models.fusion import FusionEncoder
from signstream.models.recognition_blocks import init_weights, without_padding
from signstream.models.recognition_fronts import ChunkSizes, CodeFront, Front, LatentFront, Streams

SHAPES = {"keypoints": ("n",), "latents": ("P", "Z"), "codes": ("P", "Q", "K", "Z"), "glosses": ("V",)}
LARGEST = 1 << 24  # of a number in a shape
ENCODER = "encoder."  # where its weights stand in the model of either phase


class Readable(Protocol):
    """What a data set says of what it has to read."""

    shape: tuple[int, ...]
    visual_width: int | None
    parts: tuple[str, ...]
    tokenizer: str
    vectors: Tensor | None


class Reads(NamedTuple):
    """What there is to read."""

    source: str
    shape: tuple[int, ...]
    visual: int | None = None  # W
    parts: tuple[str, ...] = ()  # of latents or codes, by their tags
    tokenizer: str = ""  # the digest of whose these are
    vectors: Tensor | None = None  # [P, Q, K, Z] what codes begin as; without them, as drawn

    @classmethod
    def of(cls, source: str, data: Readable) -> Reads:
        return cls(source, data.shape, data.visual_width, data.parts, data.tokenizer, vectors=data.vectors)

    def state(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        plain = {"source": self.source, "shape": list(self.shape), "visual": self.visual}
        return {**plain, "parts": list(self.parts), "tokenizer": self.tokenizer}

    @classmethod
    def from_state(cls, state: Any) -> Reads:
        """Out of a checkpoint, which may be anybody's."""
        known = state if isinstance(state, dict) else {}
        source, shape, parts = known.get("source"), known.get("shape"), known.get("parts")
        letters = SHAPES.get(source) if isinstance(source, str) else None
        if letters is None or not isinstance(shape, list) or len(shape) != len(letters) or not all(map(_size, shape)):
            raise UserError(f"the checkpoint is odd: it does not say what it reads ({shown(source)}, {shown(shape)})")
        count = shape[0] if letters[0] == "P" else 0
        tags = isinstance(parts, list) and len(parts) == count and all(type(tag) is str for tag in parts)
        visual, tokenizer = known.get("visual"), known.get("tokenizer")
        if not tags or type(tokenizer) is not str or not (visual is None or _size(visual)):
            raise UserError(f"the checkpoint is odd: it does not say of what its {source} are")
        return cls(str(source), tuple(shape), visual, tuple(parts or ()), tokenizer)


def _size(value: Any) -> bool:
    return type(value) is int and 0 < value <= LARGEST


class KeptEncoder(NamedTuple):
    """An encoder as a checkpoint has it."""

    reads: Reads
    weights: dict[str, Tensor]  # of a SignEncoder, by their names in it

    def state(self) -> dict[str, Any]:
        """As it stands in a checkpoint of either phase, whose other weights stand beside it."""
        named = {ENCODER + name: tensor for name, tensor in self.weights.items()}
        return {"model": named, "task": {"reads": self.reads.state()}}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> KeptEncoder:
        """Out of a checkpoint of either phase, or what state() gives, which may be anybody's. Whether the weights are
        an encoder's is for whoever loads them to check (training/bounds.py)."""
        task, weights = state.get("task"), state.get("model")
        own = {str(name): value for name, value in weights.items()} if isinstance(weights, dict) else {}
        own = {name.removeprefix(ENCODER): value for name, value in own.items() if name.startswith(ENCODER)}
        if not isinstance(task, dict) or not own or not all(isinstance(value, Tensor) for value in own.values()):
            raise UserError("the checkpoint has no encoder of signing: one of the task contrast or translation has")
        return cls(Reads.from_state(task.get("reads")), own)


class Signing(NamedTuple):
    x: Tensor  # [B, S', D]
    lengths: Tensor  # [B]

    @property
    def mask(self) -> Tensor:
        """[B, S'] bool"""
        return within(self.lengths, self.x.shape[1])


class PointFront(Front):
    """The numbers of a frame's points side by side, each by its own mean and spread over training; 0 where missing.
    `together` frames become a step."""

    reads = ("keypoints",)
    fit_steps = 20_000

    mean: Tensor  # [n, 2]
    spread: Tensor  # [n, 2]

    def __init__(self, points: int, *, together: int = 1) -> None:
        super().__init__(3 * points * together)
        self.together = together
        self.register_buffer("mean", torch.zeros(points, 2))
        self.register_buffer("spread", torch.ones(points, 2))

    def forward(self, streams: Streams, lengths: Tensor, keep: Tensor | None = None) -> Tensor:
        points = without_padding(streams["keypoints"], lengths)  # [B, S, n, 3]
        weight = points[..., 2:]
        xy = torch.where(weight > 0, (points[..., :2] - self.mean) / self.spread, 0)
        frames = torch.cat((xy, weight), -1).flatten(2)  # [B, S, 3 n]
        return F.pad(frames, (0, 0, 0, -frames.shape[1] % self.together)).unflatten(1, (-1, self.together)).flatten(2)

    def steps(self, lengths: Tensor) -> Tensor:
        return -(-lengths // self.together)

    @torch.no_grad()
    def fit(self, streams: Streams, lengths: Tensor) -> None:
        points = streams["keypoints"]
        rows = points[within(lengths, points.shape[1])].double()  # [M, n, 3]
        seen = (rows[..., 2:] > 0).double()
        count = seen.sum(0).clamp(min=1)
        mean = torch.where(seen > 0, rows[..., :2], 0).sum(0) / count
        spread = (torch.where(seen > 0, rows[..., :2] - mean, 0).square().sum(0) / count).sqrt()
        self.mean.copy_(mean)
        self.spread.copy_(torch.where(spread > 1e-3, spread, 1))


class GlossFront(Front):
    reads = ("glosses",)
    no_decay = ("table",)

    def __init__(self, glosses: int, width: int, *, generator: torch.Generator) -> None:
        super().__init__(width)
        self.table = nn.Parameter(torch.randn(glosses, width, generator=generator))

    def forward(self, streams: Streams, lengths: Tensor, keep: Tensor | None = None) -> Tensor:
        return F.embedding(without_padding(streams["glosses"], lengths), self.table)

    def steps(self, lengths: Tensor) -> Tensor:
        return lengths


class SignEncoder(nn.Module):
    def __init__(self, front: Front, fusion: FusionEncoder) -> None:
        super().__init__()
        self.front, self.fusion = front, fusion
        self.width = fusion.width

    def forward(self, streams: Streams, lengths: Tensor, *, draw: int | Sequence[int] | None = None) -> Signing:
        steps = self.front.steps(lengths)
        read = {"keypoints": self.front(streams, lengths).float()}
        if self.fusion.visual is not None:
            read["visual"] = streams["visual"]
        return Signing(self.fusion(read, steps, draw=draw), steps)

    def steps(self, lengths: Tensor) -> Tensor:
        """[B] of the source -> [B] of what comes out."""
        return self.front.steps(lengths)

    def fit(self, streams: Streams, lengths: Tensor) -> None:
        self.front.fit(streams, lengths)


def sign_encoder(config: EncoderModel, reads: Reads, seed: int) -> SignEncoder:
    front = _front(config, reads, seed)
    fusion = FusionEncoder(
        keypoints=front.width,
        visual=reads.visual,
        width=config.width,
        depth=config.depth,
        heads=config.heads,
        expand=config.expand,
        visual_layers=config.visual_layers,
        dropout=config.dropout,
        drop_path=config.drop_path,
        squeeze=config.squeeze,
        seed=seed,
    )
    return SignEncoder(front, fusion)


def _front(config: EncoderModel, reads: Reads, seed: int) -> Front:
    assert len(reads.shape) == len(SHAPES[reads.source]), f"{reads.source} of shape {reads.shape}"
    if reads.source == "keypoints":
        return PointFront(reads.shape[0], together=config.frames_a_step)
    sizes = ChunkSizes(config.tokens.part_width, config.tokens.steps_a_chunk)
    generator = torch.Generator().manual_seed(seed)
    if reads.source == "codes":
        vectors = reads.vectors if config.tokens.vectors else None
        front: Front = CodeFront(reads.shape, width=config.width, vectors=vectors, seed=seed, sizes=sizes)
    elif reads.source == "latents":
        front = LatentFront(reads.shape[0], reads.shape[1], width=config.width, sizes=sizes)
    else:
        front = GlossFront(reads.shape[0], config.width, generator=generator)
    init_weights(front, generator, config.depth)
    return front
