"""One pass over a split, on all ranks: what is recognised, held against what was signed; by the weights that are
trained and by their average.

    scores = measure(setup, loader, average)      # a Score for each set of weights, by its name

Every number is a sum over the split, added up over ranks once; every rank makes the same calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import NamedTuple

import torch

from signstream.data.sequences import SequenceBatch
from signstream.io.batch import StreamBatch
from signstream.io.dataloader_utils import BatchLoader
from signstream.models.ctc_beam import likeliest
from signstream.models.metrics import wer
from signstream.models.recognition import Emissions
from signstream.tasks.recognition.setup import Setup
from signstream.training.average import Average

LIVE, AVERAGE = "live", "average"  # the weights that are trained, and their average


class Sample(NamedTuple):
    """What a clip's words are, and what was recognised."""

    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]


class Score(NamedTuple):
    losses: dict[str, float]
    errors: wer.Counts
    samples: dict[str, Sample]  # by the clip's name


@torch.no_grad()
def measure(setup: Setup, loader: BatchLoader[StreamBatch], average: Average | None) -> dict[str, Score]:
    """A batch is read once, for both."""
    shown = set(loader.clips[: setup.config.train.sample_clips])
    sums = {name: Sums(setup, shown) for name in ((LIVE, AVERAGE) if average is not None else (LIVE,))}
    setup.model.eval()
    for raw in loader:
        batch = setup.batch(raw, train=False)
        sums[LIVE].add(batch)
        if average is not None:
            with average.inside(setup.model):
                sums[AVERAGE].add(batch)
    setup.model.train()
    return {name: each.over_ranks() for name, each in sums.items()}


class Sums:
    """What a pass adds up, batch by batch."""

    def __init__(self, setup: Setup, shown: Set[int]) -> None:
        self.setup, self.shown = setup, shown
        self.totals = setup.losses.terms.zeros(setup.ranks.device)
        self.counts = setup.losses.terms.zeros(setup.ranks.device)
        self.errors = wer.Counts()
        self.samples: dict[str, Sample] = {}

    def add(self, batch: SequenceBatch) -> None:
        setup = self.setup
        if not len(batch):
            return
        emissions = setup.model(batch.streams, batch.lengths)
        steps = setup.steps(batch)
        self.totals += setup.losses.totals(emissions, batch, steps).double()
        self.counts += setup.losses.counts(batch, steps)
        for clip, reference, ids in zip(batch.index, batch.references, recognised(setup, emissions)):
            hypothesis = setup.cleaned(setup.glosses.words(ids))
            self.errors += wer.count(reference, hypothesis)
            if clip in self.shown:
                self.samples[setup.sequences.examples[clip].name] = Sample(reference, hypothesis)

    def over_ranks(self) -> Score:
        ranks, terms = self.setup.ranks, self.setup.losses.terms
        pieces = [self.totals.flatten(), self.counts.flatten(), self.errors.state().to(self.totals.device)]
        totals, counts, errors = ranks.sum_(torch.cat(pieces)).split([piece.numel() for piece in pieces])
        losses = terms.named(totals.view_as(self.totals), counts.view_as(self.counts))
        samples = {name: sample for part in ranks.collect(self.samples) for name, sample in part.items()}
        return Score(losses, wer.Counts.of(errors.tolist()), dict(sorted(samples.items())))


def recognised(setup: Setup, emissions: Emissions) -> list[list[int]]:
    """The best hypothesis of each clip, as ids."""
    decode = setup.config.decode
    found = likeliest(*emissions, beam=decode.beam, skip_blank=decode.skip_blank)
    return [list(each.ids) for each in found]


def better(scores: Mapping[str, Score]) -> str:
    """Whose weights make fewer errors; of equals those that are trained."""
    return min(scores, key=lambda name: scores[name].errors.errors)
