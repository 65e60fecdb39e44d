"""One pass over a split, on all ranks: whether a clip finds its sentence among all of the split, and back.

    measured = measure(setup, loader)

The loss is that of the whole split as one step, so that it depends on no batches; with more clips to be told apart it
is larger, as chance is smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from signstream.io.batch import StreamBatch
from signstream.io.dataloader_utils import BatchLoader
from signstream.models.contrast import Embedded, Pair, joined, one_way, similarity
from signstream.models.metrics.retrieval import retrieval_by, unit
from signstream.tasks.contrast.losses import meanings, over_ranks
from signstream.tasks.contrast.setup import Setup

ROWS = 128
GRID = 2.0**30  # what a mean over steps rounds is far below it


class Sample(NamedTuple):
    """What a clip means, and the sentence that lies nearest."""

    reference: str
    found: str


class Measured(NamedTuple):
    numbers: dict[str, float]
    samples: dict[str, Sample]  # by the clip's name


@torch.no_grad()
def measure(setup: Setup, loader: BatchLoader[StreamBatch]) -> Measured:
    setup.model.eval()
    pairs: list[Pair] = []
    clips: list[int] = []
    for raw in loader:
        batch = setup.batch(raw, train=False)
        pairs.append(setup.embedded(batch))
        clips += batch.signs.index
    setup.model.train()
    whole = Pair(*(over_ranks(joined(sides), setup.ranks) for sides in zip(*pairs)))
    read = setup.ranks.gather(torch.tensor(clips, dtype=torch.int64))
    order = read.argsort()
    whole = Pair(*(on_grid(side, order, what) for side, what in zip(whole, ("signing", "text"))))
    index = read[order].tolist()
    return Measured(found_in(setup, whole, setup.sentences.numbers(index)), samples_of(setup, whole, index))


def on_grid(side: Embedded, order: Tensor, what: str) -> Embedded:
    order = order.to(side.mask.device)
    return Embedded(unit(side.vectors[order], what), side.mask[order])


def found_in(setup: Setup, whole: Pair, sentence: Tensor) -> dict[str, float]:
    scale = float(setup.model.scale())
    meaning = meanings(sentence, setup.config.loss.positives).to(whole.text.mask.device)
    to_text, to_signing = (Direction(whole, meaning, scale, back=back) for back in (False, True))
    numbers = retrieval_by(to_text, to_signing, sentence)
    loss = (to_text.loss + to_signing.loss) / (2 * len(sentence))
    return {"loss": float(loss), **numbers, "temperature": 1 / scale}


class Direction:
    """The similarities of clips to all sentences, or `back`, some at a time; it adds up the loss as it goes."""

    def __init__(self, whole: Pair, meaning: Tensor, scale: float, *, back: bool) -> None:
        """`meaning` [N] as losses.py has it."""
        self.whole, self.meaning, self.scale, self.back = whole, meaning, scale, back
        self.loss = torch.zeros((), dtype=torch.float64, device=meaning.device)

    def __iter__(self) -> Iterator[Tensor]:
        for first in range(0, len(self.meaning), ROWS):
            some = slice(first, first + ROWS)
            rows = similarities(self.whole, some, back=self.back)
            same = self.meaning[some, None] == self.meaning
            self.loss += one_way(self.scale * rows, same).sum()
            yield rows


def similarities(whole: Pair, some: slice, *, back: bool = False) -> Tensor:
    """[n, N]: equal where they are equal but for how sums were rounded."""
    signing, text = whole
    rows = similarity(signing, text.part(some)).T if back else similarity(signing.part(some), text)
    pooled = signing.mask.shape[1] == text.mask.shape[1] == 1  # then nothing was rounded
    return rows if pooled else (rows * GRID).round() / GRID


def samples_of(setup: Setup, whole: Pair, index: list[int]) -> dict[str, Sample]:
    some = slice(0, setup.config.train.sample_clips)
    nearest = similarities(whole, some).argmax(1).tolist() if some.stop else []
    examples = setup.sequences.examples
    return {
        examples[clip].name: Sample(examples[clip].text, examples[index[near]].text)
        for clip, near in zip(index, nearest)
    }
