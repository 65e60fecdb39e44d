"""What a live language model says of a clip that comes chunk by chunk, where nobody tells it when to speak.

    speech = spoken(model, vocabulary, codes [N, P, Q], most=40)      Speech(early, late, written)

Behind each chunk the likelier of <SEP> and <COMMIT>; if it speaks, the likeliest units, to the first <COMMIT>, and
once signing has ended likewise what is left. `most` units behind one chunk, and of the last one at the end too.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from signstream.models.kv_window import SUMMARY, KVWindow, Layout
from signstream.models.live_lm import LiveLM
from signstream.tokens.llm import LiveStream, LLMSequence
from signstream.tokens.vocabulary import Vocabulary


class Speech(NamedTuple):
    early: list[int]  # units that were said before signing ended
    late: list[int]
    written: LLMSequence


class Ear:
    """Hears what a stream has written since it last listened."""

    def __init__(self, model: LiveLM, stream: LiveStream) -> None:
        self.model, self.stream, self.kept = model, stream, KVWindow(model.decoder, model.window)
        self.heard = 0

    def listen(self) -> Tensor:
        """[V + 2] of what comes next"""
        ids, _, kind, chunk = (column[self.heard :] for column in self.stream.written)
        self.heard += len(ids)
        self.kept.commit()
        return self.model.logits(self._step(ids, Layout(torch.tensor(kind), torch.tensor(chunk)))[0, -1])

    def sum_up(self) -> None:
        """Behind the last chunk of a group, before the next chunk."""
        window, last = self.model.window, self.stream.chunk
        if window.summary and last >= 0 and (last + 1) % window.group == 0:
            if self.heard < len(self.stream.written.input_ids):
                self.listen()  # to the <COMMIT> that ended its words
            self.kept.commit()
            first = self.model.first_summary
            kind = torch.full((window.summary,), SUMMARY)
            self._step(list(range(first, first + window.summary)), Layout(kind, torch.full_like(kind, last)))

    def _step(self, ids: list[int], layout: Layout) -> Tensor:
        given = torch.tensor([ids]).to(self.model.marks.device)
        return self.kept.step(self.model.embedded(given), layout)


@torch.no_grad()
def spoken(model: LiveLM, vocabulary: Vocabulary, codes: Tensor, *, most: int) -> Speech:
    """In evaluation mode, for which the caller cares."""
    stream = LiveStream(vocabulary)
    ear = Ear(model, stream)
    early: list[int] = []
    left = most
    for ids in vocabulary.chunks(codes, longest=1):
        ear.sum_up()
        stream.hear(ids)
        separator, commit = ear.listen()[-2:].tolist()
        left = most
        if separator > commit:
            stream.speak()
            said = say(ear, left)
            early += said
            left -= len(said)
    stream.end()
    return Speech(early, say(ear, left), stream.written)


def say(ear: Ear, most: int) -> list[int]:
    """Units up to <COMMIT>, which is then written."""
    said: list[int] = []
    logits = ear.listen()
    while len(said) < most:
        unit = int(logits.argmax())
        if unit >= ear.model.offset:
            break
        ear.stream.say([unit])
        said.append(unit)
        logits = ear.listen()
    ear.stream.commit()
    return said
