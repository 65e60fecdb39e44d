"""Text that appears while somebody signs: a LiveLM that hears a stream chunk by chunk, and what a policy lets it say.

    speaker = Speaker(model, vocabulary, units=units, policy=policy_of("own:0.5:2"))
    speaker.hear(ids of a chunk) -> Heard(words: said now, and they stay; thought: what may follow, grey)
    speaker.end() -> Heard               what is left to be said
    speaker.stream.written               the sequence so far, as tokens/llm.live makes it of these chunks and words

To think is to write <SEP> and the likeliest units until <COMMIT>, and to take it back: nothing of it stays. What is
said is heard again as part of the stream. Whole words are said, and none of them changes by what comes later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from signstream.models.kv_window import SUMMARY, KVWindow, Layout
from signstream.models.live_lm import LiveLM
from signstream.models.live_prompts import most_words
from signstream.models.policies import Moment, Policy, Thought, Words
from signstream.models.prefix_sources import Units
from signstream.models.whole_words import joins, words_of
from signstream.tokens.llm import WORD, LiveStream
from signstream.tokens.vocabulary import Vocabulary

MOST_AT_END = 256  # units of what is left, of a model that does not stop


class Heard(NamedTuple):
    words: Words
    thought: list[int]


class Speaker:
    """One stream. The model is in evaluation mode, for which the caller cares."""

    def __init__(self, model: LiveLM, vocabulary: Vocabulary, *, units: Units, policy: Policy) -> None:
        self.model, self.units, self.policy = model, units, policy
        self.stream = LiveStream(vocabulary)
        self.kept = KVWindow(model.decoder, model.window)
        self.most = most_words(model.window, vocabulary)  # units behind a chunk
        self.separator, self.commit = vocabulary.special("<SEP>"), model.offset + 1  # an id, a column
        self.read = 0  # of what is written
        self.said = 0  # words
        self.last: list[int] = []  # the ids of the last word
        self._read()

    def hear(self, ids: Sequence[int]) -> Heard:
        self._sum_up()
        self.stream.hear(ids)
        logits = self._read()
        speak, silent = logits[self.model.offset :].float()
        moment = Moment(
            heard=self.stream.chunk + 1,
            said=self.said,
            wish=float(torch.sigmoid(speak - silent)),
            think=self._thought,
        )
        words: Words = []
        if count := self.policy(moment):
            words = moment.thought.words[:count]
            self.stream.speak()
            self._say(words)  # and is read with the next chunk: what is shown does not wait for it
        grey = moment.thought.ids[sum(map(len, words)) :] if "thought" in vars(moment) else []
        return Heard(words, grey)

    def end(self) -> Heard:
        self.stream.end()
        logits = self._read()
        # no chunk follows, and no summary: what is left may take all positions
        window = self.kept.window
        rest = window.positions - window.sinks
        self.kept.window = replace(window, chunks=1, entries=rest, group=1, summary=0, reach=0)
        words = self._written(logits, min(MOST_AT_END, window.positions - self.kept.next)).words
        self._say(words)
        return Heard(words, [])

    def _say(self, words: Words) -> None:
        self.stream.say([unit for word in words for unit in word])
        self.stream.commit()
        self.said += len(words)
        self.last = words[-1] if words else self.last

    # -- the model

    def _read(self) -> Tensor:
        """What was written since, which stays -> logits [V + 2]"""
        ids, _, kind, chunk = (column[self.read :] for column in self.stream.written)
        self.read += len(ids)
        logits = self._step(ids, Layout(torch.tensor(kind), torch.tensor(chunk)))
        self.kept.commit()
        return logits

    def _sum_up(self) -> None:
        """Behind the last chunk of a group and its words, before the next chunk."""
        window, last = self.model.window, self.stream.chunk
        if not window.summary or last < 0 or (last + 1) % window.group:
            return
        if self.read < len(self.stream.written.input_ids):
            self._read()
        kind = torch.full((window.summary,), SUMMARY)
        first = self.model.first_summary
        self._step(range(first, first + window.summary), Layout(kind, torch.full_like(kind, last)))

    @torch.inference_mode()
    def _step(self, ids: Sequence[int], layout: Layout) -> Tensor:
        device = self.model.marks.device
        hidden = self.kept.step(self.model.embedded(torch.tensor([[*ids]], device=device)), layout)  # [1, S, D]
        return self.model.logits(hidden[0, -1])

    def _word(self, unit: int) -> Tensor:
        return self._step([unit], Layout(torch.tensor([WORD]), torch.tensor([self.stream.chunk])))

    def _thought(self) -> Thought:
        return Thought([], []) if self.most < 1 else self._written(self._word(self.separator), self.most)

    def _written(self, logits: Tensor, most: int) -> Thought:
        """The likeliest units, and they are taken back."""
        ids: list[int] = []
        while (unit := self._likeliest(logits, ids)) is not None and len(ids) < most:
            ids.append(unit)
            logits = self._word(unit)
        self.kept.roll_back()
        return Thought(ids, words_of(self.units, ids, before=self.last, ended=unit is None))

    def _likeliest(self, logits: Tensor, ids: list[int]) -> int | None:
        """None: nothing more. A unit that would go on with a word that was said is passed over."""
        logits = logits.clone()
        logits[self.model.offset] = -torch.inf  # <SEP>
        while (unit := int(logits.argmax())) not in (self.commit, self.model.end):
            if not joins(self.units, [*ids, unit], before=self.last):
                return unit
            logits[unit] = -torch.inf
        return None
