"""Signing and sentences in one space: what means the same lies near.

    B, N, M clips or sentences   K, J steps or words of one, padded (pooled: 1)
    U units of a sentence   W width of the text model   E of the space

    model = ContrastModel(encoder, text, embedding=256, temperature=0.07, match="pooled", seed=0)
    read = model.read(ids, mask)                               Embedded [B, K, W], of the frozen text model
    model(streams, lengths, read, draw=seed)                   Pair(signing, text), of Embedded [B, K, E]
    similarity(pair.signing, pair.text)                        [N, M], -1 to 1
    contrast(similarity, model.scale(), same [N, N])           [N] what each clip adds to the loss

A clip and a sentence are as near as, on average, each step and the best word for it, and each word and the best step
for it. Pooled, a clip is one vector and a sentence another, so that this is their product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from signstream.models.recognition_fronts import Streams
from signstream.models.sign_encoder import SignEncoder
from signstream.models.text_model import GROUPS, TextModel
from signstream.models.text_tokenizer import END
from signstream.models.translation import WithText, drawn

Match = Literal["pooled", "tokens"]
LARGEST_SCALE = 100.0  # of a similarity in the loss, as in CLIP
PIECE = 1 << 24  # products that are held at once
BELOW_ALL = -2.0  # a product that is never the best


class Embedded(NamedTuple):
    vectors: Tensor  # [B, K, E], 0 in the padding
    mask: Tensor  # [B, K] bool

    def to_length(self, length: int) -> Embedded:
        more = length - self.mask.shape[1]
        return Embedded(F.pad(self.vectors, (0, 0, 0, more)), F.pad(self.mask, (0, more)))

    def part(self, some: slice) -> Embedded:
        return Embedded(self.vectors[some], self.mask[some])

    def split(self, size: int) -> Iterator[Embedded]:
        return map(Embedded, self.vectors.split(size), self.mask.split(size))

    def detach(self) -> Embedded:
        return Embedded(self.vectors.detach(), self.mask)


class Pair(NamedTuple):
    signing: Embedded
    text: Embedded  # the sentence of each clip


class ContrastModel(WithText):
    def __init__(
        self,
        encoder: SignEncoder,
        text: TextModel,
        *,
        embedding: int = 256,
        temperature: float = 0.07,
        match: Match = "pooled",
        seed: int = 0,
    ) -> None:
        super().__init__(encoder, text)
        text.freeze(GROUPS)
        self.match = match
        self.heads = Heads(encoder.width, text.width, embedding=embedding, temperature=temperature, seed=seed)

    @torch.no_grad()
    def read(self, ids: Tensor, mask: Tensor) -> Embedded:
        """What there is to know of sentences [B, U]; it never changes."""
        x = self.text.read(ids, mask).float()  # [B, U, W]
        if self.match == "pooled":
            return pooled(x, mask)  # with </s> and the language, as specified
        # </s> and the language stand in every sentence: they would be some step's best word in each
        tokenizer = self.text.tokenizer
        words = mask & (ids != END) & (ids != tokenizer.languages[tokenizer.source])
        mask = torch.where(words.any(1, keepdim=True), words, mask)
        return Embedded(torch.where(mask[..., None], x, 0), mask)

    def forward(self, streams: Streams, lengths: Tensor, read: Embedded, *, draw: int | None = None) -> Pair:
        """`draw`: seed of what training drops."""
        signing = self.encoder(streams, lengths, draw=draw)
        steps = pooled(signing.x, signing.mask) if self.match == "pooled" else Embedded(signing.x, signing.mask)
        return Pair(_headed(steps, self.heads.signing), _headed(read, self.heads.text))

    def scale(self) -> Tensor:
        """What similarities are multiplied by: 1 over the temperature."""
        return self.heads.log_scale.clamp(max=math.log(LARGEST_SCALE)).exp()


class Heads(nn.Module):
    def __init__(self, width: int, text_width: int, *, embedding: int, temperature: float, seed: int = 0) -> None:
        super().__init__()
        self.signing = drawn(nn.Linear(width, embedding), seed + 1)
        self.text = drawn(nn.Linear(text_width, embedding), seed + 2)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))


def pooled(x: Tensor, mask: Tensor) -> Embedded:
    """The mean of what is no padding: [B, K, W] -> [B, 1, W]"""
    total = torch.where(mask[..., None], x, 0).sum(1, keepdim=True)
    return Embedded(total / mask.sum(1)[:, None, None].clamp(min=1), torch.ones_like(mask[:, :1]))


def _headed(steps: Embedded, head: nn.Linear) -> Embedded:
    unit = F.normalize(head(steps.vectors).float(), dim=-1)
    return Embedded(torch.where(steps.mask[..., None], unit, 0), steps.mask)


def joined(parts: Sequence[Embedded]) -> Embedded:
    longest = max(part.mask.shape[1] for part in parts)
    longer = [part.to_length(longest) for part in parts]
    return Embedded(torch.cat([part.vectors for part in longer]), torch.cat([part.mask for part in longer]))


def similarity(signing: Embedded, text: Embedded) -> Tensor:
    """[N, M]; where there are many steps and words a few pairs at a time, worked out again for the gradient."""
    products = signing.mask.shape[1] * text.mask.shape[1]  # of a pair
    texts = max(min(PIECE // products, len(text.mask)), 1)
    clips = max(PIECE // (products * texts), 1)
    several = len(signing.mask) > clips or len(text.mask) > texts
    again = several and torch.is_grad_enabled()
    rows = []
    for some in signing.split(clips):
        row = [
            checkpoint(_similarity, some, words, use_reentrant=False, preserve_rng_state=False)
            if again
            else _similarity(some, words)
            for words in text.split(texts)
        ]
        rows.append(torch.cat(row, 1))
    return torch.cat(rows)


def _similarity(signing: Embedded, text: Embedded) -> Tensor:
    products = torch.einsum("nke,mje->nmkj", signing.vectors, text.vectors)
    steps, words = signing.mask[:, None], text.mask[None]  # [N, 1, K], [1, M, J]
    best_word = products.masked_fill(~words[:, :, None], BELOW_ALL).amax(3)  # [N, M, K]
    best_step = products.masked_fill(~steps[..., None], BELOW_ALL).amax(2)  # [N, M, J]
    return (_mean(best_word, steps) + _mean(best_step, words)) / 2


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    """Over the last dimension."""
    return torch.where(mask, x, 0).sum(-1) / mask.sum(-1).clamp(min=1)


def contrast(similarity: Tensor, scale: Tensor, same: Tensor) -> Tensor:
    """[N]: half of what each clip has to pay among all sentences, and its sentence among all clips. `same` [N, N]: who
    is right for whom, either way."""
    logits = scale * similarity
    return (one_way(logits, same) + one_way(logits.T, same)) / 2


def one_way(logits: Tensor, same: Tensor) -> Tensor:
    """[n, N] -> [n]: cross entropy against even shares for all that are right, less what these leave open by
    themselves: the best is 0, however many are right."""
    right = same.sum(1).to(logits)
    return -torch.where(same, logits.log_softmax(1), 0).sum(1) / right - right.log()
