"""The contrast of a whole step, whose clips are never all in memory: they come as micro-batches, on several ranks.

    Losses.before(batches) -> what each micro-batch has to give, as a Given

    n clips of this rank   N of the step   K steps or words   E width of the space

Each clip is held against all sentences of the step, so a micro-batch alone does not know its loss. All are embedded
without a gradient first and gathered; the gradient of the step's loss by each embedding is worked out of these alone.
Then a micro-batch that is embedded again, now with a gradient, gives the sum of its embeddings weighted by that: its
gradient by the weights is the step's. A rank works out the similarities of its own clips to all sentences, and what
other ranks' similarities have to do with its sentences it is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from signstream.models.contrast import ContrastModel, Embedded, Pair, contrast, joined, similarity
from signstream.tasks.contrast.setup import ContrastBatch, Setup
from signstream.training.distributed import Ranks
from signstream.training.precision import autocast
from signstream.training.task import Terms

Positives = Literal["sentence", "clip"]


class Given(NamedTuple):
    """Of a micro-batch."""

    batch: ContrastBatch
    value: Tensor  # [] its share of the loss, as a sum over clips
    by_signing: Tensor  # [B, K, E] the gradient of the step's sum by its embeddings
    by_text: Tensor  # [B, K, E]
    by_scale: Tensor  # [] its share of the gradient by the logarithm of the scale
    pair: Pair | None  # its embeddings with their graph, of a step that is one micro-batch


class Gradients(NamedTuple):
    """Of a rank's clips."""

    shares: Tensor  # [n]
    by_signing: Tensor  # [n, K, E]
    by_text: Tensor  # [n, K, E]
    by_scale: Tensor  # [] of one clip of N


class Losses:
    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.terms = Terms(("contrast",), ("all",), torch.ones(1, 1, device=setup.ranks.device))
        self.given: list[Given] = []  # of the micro-batches whose loss is not asked for yet

    def counts(self, batch: ContrastBatch) -> Tensor:
        """[1, 1]"""
        return torch.tensor([[len(batch)]], dtype=torch.float64).to(self.setup.ranks.device, non_blocking=True)

    def before(self, batches: Sequence[ContrastBatch]) -> None:
        self.given = self._given(batches, self.setup.ranks)

    def totals(self, batch: ContrastBatch) -> Tensor:
        """[1, 1]. A batch that no step was told of is a step of its own."""
        place = next((place for place, given in enumerate(self.given) if given.batch is batch), None)
        given = (
            self._given([batch], Ranks(device=self.setup.ranks.device))[0] if place is None else self.given.pop(place)
        )
        if not len(batch):
            return torch.zeros(1, 1, device=given.value.device, requires_grad=True)
        signing, text = given.pair or self.setup.embedded(batch)
        surrogate = (given.by_signing * signing.vectors).sum() + (given.by_text * text.vectors).sum()
        surrogate = surrogate + given.by_scale * self.setup.model.heads.log_scale
        return (given.value + surrogate - surrogate.detach()).view(1, 1)

    def _given(self, batches: Sequence[ContrastBatch], ranks: Ranks) -> list[Given]:
        setup, alone = self.setup, len(batches) == 1
        with torch.set_grad_enabled(alone), autocast(setup.config.train.amp, ranks.device):
            pairs = [setup.embedded(batch) for batch in batches]
        own = Pair(*(joined([side.detach() for side in sides]) for sides in zip(*pairs)))
        sentence = torch.cat([batch.sentence for batch in batches])
        made = gradients(setup.model, own, sentence, ranks=ranks, positives=setup.config.loss.positives)
        given, first = [], 0
        for batch, pair in zip(batches, pairs):
            some = slice(first, first := first + len(batch))
            by_signing = made.by_signing[some, : pair.signing.mask.shape[1]]
            by_text = made.by_text[some, : pair.text.mask.shape[1]]
            value, by_scale = made.shares[some].sum(), made.by_scale * len(batch)
            given.append(Given(batch, value, by_signing, by_text, by_scale=by_scale, pair=pair if alone else None))
        return given


def gradients(model: ContrastModel, own: Pair, sentence: Tensor, *, ranks: Ranks, positives: Positives) -> Gradients:
    """Of the sum over all clips of all ranks, which all call it. `own`: without a graph; `sentence` [n] on the CPU."""
    counts = ranks.gather(torch.tensor([len(sentence)])).tolist()
    first = sum(counts[: ranks.rank])
    here = slice(first, first + len(sentence))
    texts = over_ranks(own.text, ranks)  # [N, K, E]
    with torch.enable_grad():
        signing = Embedded(own.signing.vectors.requires_grad_(), own.signing.mask)
        texts = Embedded(texts.vectors.requires_grad_(), texts.mask)
        rows = similarity(signing, texts)  # [n, N]
        whole = ranks.gather(rows).requires_grad_()  # [N, N]
        meaning = meanings(ranks.gather(sentence), positives).to(whole.device, non_blocking=True)
        shares = contrast(whole, model.scale(), meaning[:, None] == meaning)
        by_rows, by_scale = torch.autograd.grad(shares.sum(), (whole, model.heads.log_scale))
        by_signing, by_text = torch.autograd.grad(rows, (signing.vectors, texts.vectors), by_rows[here])
    ranks.sum_(by_text)
    longest = own.text.mask.shape[1]
    by_text = by_text[here, :longest]
    return Gradients(shares.detach()[here], by_signing, by_text, by_scale / sum(counts))


def meanings(sentence: Tensor, positives: Positives) -> Tensor:
    """[N] a number of each clip: where it is the same, one's sentence is right for the other."""
    return sentence if positives == "sentence" else torch.arange(len(sentence))


def over_ranks(own: Embedded, ranks: Ranks) -> Embedded:
    """All ranks' rows, padded alike."""
    longest = int(ranks.gather(torch.tensor([own.mask.shape[1]])).max())
    own = own.to_length(longest)
    return Embedded(ranks.gather(own.vectors), ranks.gather(own.mask))
