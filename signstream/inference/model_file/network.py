"""The two networks that files hold: poses to codes, and codes to poses, all that the tokenizer does to a chunk in them.

    encoder  poses [N, L, J, 3] -> codes [N, P, Q]        decoder  codes [N, P, Q] -> poses [N, L, J, 3]

They are the tokenizer's own functions, so that nothing is said twice; only the nearest code is looked for otherwise,
part by part, since a file should hold each codebook once.
"""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signstream.data.collate import ChunkBatch
from signstream.inference.tokenizer import Tokenizer
from signstream.models.rvq.codebook import descend
from signstream.models.rvq.quantizer import ResidualQuantizer
from signstream.models.rvq.rvq_model import Earlier, RVQModel
from signstream.space import assemble
from signstream.tasks.rvq.losses import valid_chunks


def make_network(tokenizer: Tokenizer, kind: str) -> nn.Module:
    """What a file of this kind holds."""
    return {"encoder": EncoderNetwork, "decoder": DecoderNetwork}[kind](tokenizer).eval()


class EncoderNetwork(nn.Module):
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        quantizer = tokenizer.model.quantizer
        self.tokenizer = tokenizer
        self.model = only(tokenizer.model, "encoder")
        self.quantizer = Nearest(quantizer) if isinstance(quantizer, ResidualQuantizer) else quantizer

    def forward(self, poses: Tensor) -> Tensor:
        """[N, L, J, 3] -> [N, P, Q]"""
        inputs, targets = self.tokenizer.views.of(as_chunks(self.tokenizer, poses))
        codes = self.quantizer.encode(self.model.encode(inputs, one_clip(poses)))
        return torch.where(valid_chunks(targets).T[..., None], codes, -1)


class DecoderNetwork(nn.Module):
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.model = only(tokenizer.model, "decoder")
        self.quantizer = tokenizer.model.quantizer

    def forward(self, codes: Tensor) -> Tensor:
        """[N, P, Q] -> [N, L, J, 3]"""
        sent = codes[..., 0] >= 0  # [N, P]
        views = self.tokenizer.joined(self.model.decode(self.quantizer.decode_codes(codes)), sent)
        sent_frames = {name: part[:, None] for name, part in zip(views, sent.unbind(1))}  # [N, 1], alike in all frames
        drawn = self.tokenizer.views.drawn(views, self.tokenizer.model.told)
        return assemble(drawn, self.tokenizer.skeleton, self.tokenizer.views.space, sent=sent_frames)


class PartBook(NamedTuple):
    """The codebook of a part and level."""

    codes: Tensor  # [K, Z]
    half: Tensor  # [K] less half of each code's square

    def nearest(self, vectors: Tensor) -> Tensor:
        """[N, Z] -> [N]; the nearest has the largest product, less half its square."""
        return F.linear(vectors, self.codes, self.half).argmax(-1)

    def look_up(self, index: Tensor) -> Tensor:
        return F.embedding(index, self.codes)


class Nearest(nn.Module):
    """ResidualQuantizer.encode with a codebook a part and level, so that a file holds each once, for the product and
    for the look-up."""

    def __init__(self, quantizer: ResidualQuantizer) -> None:
        super().__init__()
        self.depth = quantizer.depth
        self.levels = quantizer.levels.tolist()
        places = [(part, level) for part, levels in enumerate(self.levels) for level in range(levels)]
        books = [quantizer.codebook[part, level].clone() for part, level in places]
        halves = [book.square().sum(-1) / -2 for book in books]
        self.books = nn.ParameterList(nn.Parameter(book, requires_grad=False) for book in books)  # [K, Z] each
        self.halves = nn.ParameterList(nn.Parameter(half, requires_grad=False) for half in halves)  # [K] each

    def encode(self, latents: Tensor) -> Tensor:
        """[P, N, Z] -> [N, P, Q]"""
        rows, books = [], map(PartBook, self.books, self.halves)
        for part, levels in zip(latents.unbind(), self.levels):
            codes = [choice.code for choice in descend(part, [next(books) for _ in range(levels)])]  # [N] each
            none = torch.full_like(codes[0], -1)
            rows.append(torch.stack(codes + [none] * (self.depth - levels), -1))
        return torch.stack(rows, 1)


def only(model: RVQModel, half: str) -> RVQModel:
    """The model without its quantiser and without its other half."""
    model = deepcopy(model)
    for name in {"encoder", "decoder", "quantizer"} - {half}:
        delattr(model, name)
    return model


def one_clip(poses: Tensor) -> Earlier:
    """Chunks [N, L, J, 3] are of one clip, in order: where codes look back, they look back on these."""
    return Earlier(torch.arange(poses.shape[0], device=poses.device))


def as_chunks(tokenizer: Tokenizer, poses: Tensor) -> ChunkBatch:
    """Prepared frames [N, L, J, 3] as the model's views are made of them; clips and places are of no account."""
    none, weight = poses.new_zeros(poses.shape[0]), poses[..., 2]
    return ChunkBatch(
        xy=poses[..., :2],
        weight=weight,
        seen=weight,
        place=poses[:, :, 0],
        frames=none,
        clip=none,
        t=none,
        skeleton=tokenizer.skeleton,
        centred=tokenizer.config.data.normalize.center_parts,
    )
