"""One pass over a split, on all ranks: what the model says of each clip, and what it says without the clip's signs.

    score = measure(setup, loader)      # Score: by prefix (RIGHT, SHUFFLED, NONE) losses and scores; some sentences

The controls are the same model: SHUFFLED is given the signs of another clip that says something else, NONE a prefix
without a chunk. What it says then it has of the sentences alone. Which of the words that are
said with RIGHT it would say with these, too, is asked behind the same words. Whether the signs find their sentence is
retrieval.py's. Every rank makes the same calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from signstream.io.batch import StreamBatch
from signstream.io.dataloader_utils import BatchLoader
from signstream.models.metrics.text import TextScores
from signstream.tasks.prefix_lm.forms import Spoken
from signstream.tasks.prefix_lm.retrieval import retrieval
from signstream.tasks.prefix_lm.setup import Setup

RIGHT, SHUFFLED, NONE = "right", "shuffled", "none"


class Sample(NamedTuple):
    reference: str
    said: str
    shuffled: str


class Measured(NamedTuple):
    """With one kind of prefix."""

    losses: dict[str, float]
    scores: dict[str, float]  # nothing where no clip was measured
    early: float | None  # live: the share of words before the end was told
    anyway: float | None  # of a control: the share of RIGHT's words that are said with it, too


class Score(NamedTuple):
    by: dict[str, Measured]
    found: dict[str, float]  # retrieval.py
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
        sums[NONE].add([nothing] * len(batch), index, by_heart * len(batch), own=right)
        having = [i for i, clip in enumerate(index) if clip in others]
        other = [setup.sequences.rows(others[index[i]]) for i in having]
        own = [right[i] for i in having]
        shuffled = dict(zip(having, sums[SHUFFLED].add(other, [index[i] for i in having], own=own)))
        for i, clip in enumerate(index):
            if clip in shown:
                name = setup.sequences.examples[clip].name
                samples[name] = Sample(texts[i], right[i].text, shuffled[i].text if i in shuffled else "")
    found = retrieval(setup, loader.clips)
    setup.model.train()
    by = {kind: each.over_ranks() for kind, each in sums.items()}
    collected = {name: sample for part in setup.ranks.collect(samples) for name, sample in part.items()}
    return Score(by, found, sums[RIGHT].scores.variants(), dict(sorted(collected.items())))


class Sums:
    """What a pass adds up, batch by batch, with one kind of prefix."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        device = setup.ranks.device
        self.totals, self.counts = setup.terms.zeros(device), setup.terms.zeros(device)
        self.words = torch.zeros(4, dtype=torch.float64, device=device)  # early, of all; said anyway, of RIGHT's
        self.scores = TextScores(setup.config.model.target_language, device)

    def add(
        self,
        codes: Sequence[Tensor],
        clips: Sequence[int],
        said: list[Spoken] | None = None,
        *,
        own: Sequence[Spoken] = (),
    ) -> list[Spoken]:
        """What is said of these codes, if it is not known, held against what these clips mean. Of a control, `own` is
        what is said with their own signs."""
        if not codes:
            return []
        form = self.setup.form
        prompts = form.told(codes, clips)
        self.totals += form.totals(prompts).double()
        self.counts += form.counts(prompts)
        said = form.spoken(codes) if said is None else said
        early, anyway = sum(each.early for each in said), form.said_anyway(codes, own) if own else 0
        every, right = (sum(len(each.words) for each in of) for of in (said, own))
        self.words += self.words.new_tensor([early, every, anyway, right])
        texts = [self.setup.sequences.examples[clip].text for clip in clips]
        self.scores.add(texts, [each.text for each in said])
        return said

    def over_ranks(self) -> Measured:
        for sums in (self.totals, self.counts, self.words, self.scores.flat):
            self.setup.ranks.sum_(sums)
        early, every, anyway, right = self.words.tolist()
        return Measured(
            self.setup.terms.named(self.totals, self.counts),
            self.scores.result(),
            early / max(every, 1) if self.setup.form.says_early else None,
            anyway / right if right else None,
        )


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
