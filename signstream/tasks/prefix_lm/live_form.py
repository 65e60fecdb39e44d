"""The live form: chunk by chunk, and between them what can be said by then (data/live_targets.py).

With live.delayed some of training's sequences say their words late, for policies that hold the model back: every so
many chunks all that could be said since, or everything at the end. To be silent there is no lesson: the question's
answer is to speak as long as something is due. So the wish is how likely something is due, and who has waited wishes it
the more.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from signstream.data.datasets import open_data
from signstream.data.earliest import words_in
from signstream.data.live_targets import Targets, ids_of_words
from signstream.data.sentences import leave_out_too_long
from signstream.models.live_lm import LiveLM
from signstream.models.live_prompts import LiveBatch, LivePrompts, window_of
from signstream.models.live_text import Speaker
from signstream.models.policies import POLICY, policy_of
from signstream.tasks.prefix_lm.forms import Answers, Basis, Form, Spoken
from signstream.training.task import Terms

AROUND = 4  # ids of a sequence beside its chunks and words: <SIGN>, </SIGN>, <SEP>, <COMMIT>
A_TIME = 2  # and of each time that something is said: <SEP>, <COMMIT>
ALL_AT_THE_END = 0.25  # of the sequences that say their words late


class Line(NamedTuple):
    """What is said of a clip."""

    words: list[str]
    ids: list[list[int]]


class LiveForm(Form[LiveBatch]):
    model: LiveLM
    says_early = True

    def __init__(self, basis: Basis) -> None:
        super().__init__(basis)
        config, live = self.config, self.config.live
        window, seed, how = window_of(live, self.vocabulary), config.train.seed, config.model
        self.model = LiveLM(basis.lm, self.vocabulary, window=window, vectors=basis.vectors, seed=seed, how=how)
        self.prompts = LivePrompts(self.vocabulary, window, first_summary=self.model.first_summary)
        self._leave_out()
        signs = None if live.signs is None else Path(live.signs)
        source = open_data(config.data)
        earliest = Targets.of(basis.cache, config.data, signs, source=source, option="live.signs")
        self.targets = earliest.later(live.wait)
        self.clips = {(clip.split, clip.name): clip for clip in basis.cache.clips}
        self.lines: dict[int, Line] = {}
        weights = torch.tensor([[1.0], [live.question]])
        self.terms = Terms(("sentence", "question"), ("all",), weights.to(basis.device))

    def _leave_out(self) -> None:
        data, window = self.config.data, self.model.window
        room = window.positions - data.max_tokens - AROUND
        a_chunk = sum(self.vocabulary.levels) + A_TIME
        if room < a_chunk:
            raise self.basis.no_room(window.positions, "a sentence of data.max_tokens")
        leave_out_too_long(
            self.sequences,
            lambda chunks: chunks * a_chunk + chunks // window.group * window.summary,
            most=room,
            augment=data.augment,
        )

    def tell(self, codes: Sequence[Tensor], clips: Sequence[int], rng: np.random.Generator | None) -> LiveBatch:
        made, begins = [], []
        for rows, clip in zip(codes, clips):
            after = self.due(clip, len(rows))
            late = self.late(after, len(rows), rng)
            made.append(self.prompts.of(rows, self.line(clip).ids, after=after if late is None else late, due=after))
            begins.append(self._begin(len(made[-1].input_ids), rng))
        return self.prompts.batch(made, begins=begins, asked=[True] * len(made))

    def line(self, clip: int) -> Line:
        """Its units are the sentence's, but for the end, cut likewise."""
        if clip not in self.lines:
            words = words_in(self.sequences.examples[clip].text)
            left, ids = self.config.data.max_tokens - 1, []
            for word in ids_of_words(words, lambda text: self.units.ids(text)[:-1]):
                ids.append(word[:left])
                left -= len(ids[-1])
            self.lines[clip] = Line(words, ids)
        return self.lines[clip]

    def due(self, clip: int, chunks: int) -> list[int]:
        """The chunks may be the clip's at another speed, or another clip's: its signs are then taken to lie at the same
        share of them."""
        example = self.sequences.examples[clip]
        size = self.sequences.tokens[example.split].chunk_len * max(example.length, 1) / max(chunks, 1)
        known = self.clips[example.split, example.name]
        return self.targets.timed(known, self.line(clip).words, chunks=chunks, size=size).after

    def late(self, after: Sequence[int], chunks: int, rng: np.random.Generator | None) -> list[int] | None:
        """When the words are said that are held back, in a share of training's sequences. Never so late that their
        signs have left the window."""
        live = self.config.live
        if rng is None or rng.random() >= live.delayed:
            return None
        if rng.random() < ALL_AT_THE_END and chunks <= self.model.window.chunks:
            return [chunks] * len(after)
        every = int(rng.integers(2, live.delay + 2))
        phase = int(rng.integers(every))
        return [min(chunk + (phase - chunk) % every, chunks) for chunk in after]

    def _begin(self, length: int, rng: np.random.Generator | None) -> int:
        """By how many positions a stream begins later than right behind its prompt."""
        if rng is None or rng.random() >= self.config.live.moved:
            return 0
        return int(rng.integers(max(self.model.window.positions - length, 0) + 1))

    def asked(self, told: LiveBatch) -> list[int]:
        return [told.words, len(told.targets) - told.words]

    def answers(self, told: LiveBatch) -> Answers:
        hidden = self.model.hear(told.ids, told.layout, told.positions)  # [B, S, D]
        logits = self.model.logits(hidden.flatten(0, 1)[told.places]).float()  # [U, V + 2]
        return Answers(logits, self.model.said(told.targets), told.places // told.ids.shape[1])

    def totals(self, told: LiveBatch) -> Tensor:
        logits, asked, _ = self.answers(told)
        losses = F.cross_entropy(logits, asked, reduction="none")
        return torch.stack((losses[: told.words].sum(), losses[told.words :].sum())).view(2, 1)

    def retold(self, codes: Sequence[Tensor], spoken: Sequence[Spoken]) -> LiveBatch:
        """Where there are fewer chunks, at their end."""
        made = [
            self.prompts.of(rows, said.words, after=[min(chunk, len(rows)) for chunk in said.after])
            for rows, said in zip(codes, spoken)
        ]
        return self.prompts.batch(made, begins=[0] * len(made), asked=[False] * len(made))

    def spoken(self, codes: Sequence[Tensor]) -> list[Spoken]:
        return [self._spoken(rows) for rows in codes]

    def _spoken(self, codes: Tensor) -> Spoken:
        speaker = Speaker(self.model, self.vocabulary, units=self.units, policy=policy_of(POLICY))
        chunks = self.vocabulary.chunks(codes, longest=1)
        heard = [speaker.hear(ids).words for ids in chunks]
        early, words = sum(map(len, heard)), [word for said in [*heard, speaker.end().words] for word in said]
        after = [chunk for chunk, said in enumerate(heard) for _ in said]
        after += [len(chunks)] * (len(words) - early)
        return Spoken(self.units.text([unit for word in words for unit in word]), words, after, early)
