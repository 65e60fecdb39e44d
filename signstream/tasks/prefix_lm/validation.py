"""One pass over a split, on all ranks: what the model says of each clip, and what it says without the clip's signs.

    score = measure(setup, loader)      # Score: by prefix (RIGHT, SHUFFLED, NONE) losses and scores; some sentences

The controls are the same model: SHUFFLED is given the signs of another clip that says something else, NONE a prefix
without a chunk. What it says then it has of the sentences alone. Every rank makes the same calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from signstream.data.earliest import words_in
from signstream.io.batch import StreamBatch
from signstream.io.dataloader_utils import BatchLoader
from signstream.models.metrics.text import TextScores
from signstream.tasks.prefix_lm.forms import Spoken
from signstream.tasks.prefix_lm.setup import Setup

RIGHT, SHUFFLED, NONE = "right", "shuffled", "none"


class Sample(NamedTuple):
    reference: str
    said: str
    shuffled: str


class Measured(NamedTuple):
    """With one kind of prefix."""

    losses: dict[str, float]
    scores: dict[str, float]  # nothing where no clip was measured; live also `early`, the share of words before the end


class Score(NamedTuple):
    by: dict[str, Measured]
    variants: dict[str, str]  # what the scores are to be quoted with
    samples: dict[str, Sample]  # by the clip's name


@torch.no_grad()
def measure(setup: Setup, loader: BatchLoader[StreamBatch]) -> Score:
    shown = set(loader.clips[: setup.config.train.sample_clips])
    sums = {kind: Sums(setup) for kind in (RIGHT, SHUFFLED, NONE)}
    others = strangers(loader.clips, [setup.sequences.examples[clip].text for clip in loader.clips])
    samples: dict[str, Sample] = {}
    setup.model.eval()
    nothing = setup.sequences.rows(loader.clips[0])[:0]
    by_heart = setup.form.spoken([nothing])
    for raw in loader:
        batch = setup.batch(raw, train=False)
        if not len(batch):
            continue
        texts, index = batch.clips.texts, batch.clips.index
        right = sums[RIGHT].add(batch.codes, index)
        sums[NONE].add([nothing] * len(batch), index, by_heart * len(batch))
        having = [i for i, clip in enumerate(index) if clip in others]
        other = [setup.sequences.rows(others[index[i]]) for i in having]
        shuffled = dict(zip(having, sums[SHUFFLED].add(other, [index[i] for i in having])))
        for i, clip in enumerate(index):
            if clip in shown:
                name = setup.sequences.examples[clip].name
                samples[name] = Sample(texts[i], right[i], shuffled.get(i, ""))
    setup.model.train()
    by = {kind: each.over_ranks() for kind, each in sums.items()}
    collected = {name: sample for part in setup.ranks.collect(samples) for name, sample in part.items()}
    return Score(by, sums[RIGHT].scores.variants(), dict(sorted(collected.items())))


class Sums:
    """What a pass adds up, batch by batch, with one kind of prefix."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        device = setup.ranks.device
        self.totals, self.counts = setup.terms.zeros(device), setup.terms.zeros(device)
        self.words = torch.zeros(2, dtype=torch.float64, device=device)  # before signing ended, and all
        self.scores = TextScores(setup.config.model.target_language, device)

    def add(self, codes: Sequence[Tensor], clips: Sequence[int], said: list[Spoken] | None = None) -> list[str]:
        """What is said of these codes, if it is not known, held against what these clips mean."""
        if not codes:
            return []
        form = self.setup.form
        prompts = form.told(codes, clips)
        self.totals += form.totals(prompts).double()
        self.counts += form.counts(prompts)
        said = form.spoken(codes) if said is None else said
        self.words += self.words.new_tensor(
            [sum(len(words_in(each.early)) for each in said), sum(len(words_in(each.text)) for each in said)]
        )
        texts = [each.text for each in said]
        self.scores.add([self.setup.sequences.examples[clip].text for clip in clips], texts)
        return texts

    def over_ranks(self) -> Measured:
        for sums in (self.totals, self.counts, self.words, self.scores.flat):
            self.setup.ranks.sum_(sums)
        scores = self.scores.result()
        if scores and self.setup.form.says_early:
            early, every = self.words.tolist()
            scores["early"] = early / max(every, 1)
        return Measured(self.setup.terms.named(self.totals, self.counts), scores)


def strangers(clips: Sequence[int], texts: Sequence[str]) -> dict[int, int]:
    """For each clip of a split one with another sentence, about half the split away; none where all say the same."""
    count, found = len(clips), {}
    for place, clip in enumerate(clips):
        for step in range(count):
            other = (place + count // 2 + step) % count
            if texts[other] != texts[place]:
                found[clip] = clips[other]
                break
    return found
