"""Clips as a language model is trained on them that speaks while it watches.

    B clips   S ids of a sequence, padded at its end   U labels, those of words first, then those of the question

    prompts = LivePrompts(vocabulary, window, first_summary=id)
    prompts.of(codes [N, P, Q], words, after=after)       LLMSequence: tokens/llm.live, summaries where a group ends
    prompts.of(codes, words, after=late, due=after)       the same of words that are held back
    prompts.batch(sequences, begins=begins, asked=asked)  LiveBatch

The question is whether to speak: behind each chunk <SEP>, or <COMMIT>, which is then not written. Who is held back is
to answer <SEP> as long as a word is due, though nothing is said. All else that is asked for are words, and the <COMMIT>
that ends them.

What follows the prompt begins at a position of its own, as in a stream that was moved back or soon will be
(kv_window.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from signstream.config.prefix_lm import Live
from signstream.models.kv_window import SUMMARY, Layout, Window
from signstream.tokens.llm import NOT_ASKED, SIGN, SINK, LLMSequence, live
from signstream.tokens.vocabulary import Vocabulary

SINKS = 1  # <SIGN>
MARKS = 5  # beside codes and words, of one chunk: <SEP> and <COMMIT>, and of the last also </SIGN>, <SEP>, <COMMIT>


class LiveBatch(NamedTuple):
    ids: Tensor  # [B, S] int64, 0 in the padding
    kind: Tensor  # [B, S] int64, of kv_window.Layout; in the padding SIGN
    chunk: Tensor  # [B, S] int64; 0
    positions: Tensor  # [B, S] int64
    places: Tensor  # [U] int64 in the flat B * S: after which id something is asked for
    targets: Tensor  # [U] int64, which id
    words: int  # of U are not the question's

    @property
    def layout(self) -> Layout:
        return Layout(self.kind, self.chunk)


def window_of(live: Live, vocabulary: Vocabulary) -> Window:
    """Behind a chunk it has room for all codes of one and live.words units, and most_words() asks it back."""
    return Window(
        sinks=SINKS,
        chunks=live.chunks,
        entries=sum(vocabulary.levels) + live.words + MARKS,
        positions=live.positions,
        group=live.group if live.summary else 1,
        summary=live.summary,
        reach=live.reach if live.summary else 0,
    )


def most_words(window: Window, vocabulary: Vocabulary) -> int:
    """The most units behind a chunk, whatever codes it brought. At the end no chunk follows: there positions are the
    bound."""
    return window.entries - sum(vocabulary.levels) - MARKS


class LivePrompts:
    def __init__(self, vocabulary: Vocabulary, window: Window, *, first_summary: int) -> None:
        self.vocabulary, self.window = vocabulary, window
        self.summary = list(range(first_summary, first_summary + window.summary))
        self.separator, self.commit = vocabulary.special("<SEP>"), vocabulary.special("<COMMIT>")

    def of(
        self, codes: Tensor, words: Sequence[Sequence[int]], *, after: Sequence[int], due: Sequence[int] | None = None
    ) -> LLMSequence:
        """after: of each word the chunk behind which it is said, N: the end; due: behind which it could have been."""
        sequence = live(self.vocabulary, self.vocabulary.chunks(codes, longest=1), words, after=after)
        if due is not None:
            self._ask_for(sequence, [when for *when, ids in zip(due, after, words) if ids])
        return self.summed_up(sequence) if self.summary else sequence

    def _ask_for(self, sequence: LLMSequence, words: Sequence[Sequence[int]]) -> None:
        """Of each word that has ids, when it is due and when it is said. Without ids it is in a later one's, or cut."""
        for at in range(1, len(sequence.labels)):
            heard = sequence.chunk[at - 1]
            if self.is_question(sequence, at) and any(due <= heard < said for due, said in words):
                sequence.labels[at] = self.separator

    def summed_up(self, sequence: LLMSequence) -> LLMSequence:
        """With a summary before the first chunk behind each group. What is asked for behind the group's last sign still
        is."""
        out, heard = LLMSequence([], [], [], []), -1
        for i, label, kind, chunk in zip(*sequence):
            if chunk > heard >= 0 and (heard + 1) % self.window.group == 0:
                out.add(self.summary, [label, *[NOT_ASKED] * (len(self.summary) - 1)], kind=SUMMARY, chunk=heard)
                label = NOT_ASKED
            out.add([i], [label], kind=kind, chunk=chunk)
            heard = chunk
        return out

    def batch(self, made: Sequence[LLMSequence], *, begins: Sequence[int], asked: Sequence[bool]) -> LiveBatch:
        """begins: at which position each stream begins behind its prompt; asked: whether the question is."""
        longest = max((len(each.input_ids) for each in made), default=0)
        words: list[tuple[int, int]] = []
        question: list[tuple[int, int]] = []
        for row, each in enumerate(made):
            for at, label in enumerate(each.labels):
                if label == NOT_ASKED:
                    continue
                if not self.is_question(each, at):
                    words.append((row * longest + at - 1, label))
                elif asked[row]:
                    question.append((row * longest + at - 1, label))
        places, targets = torch.tensor([*words, *question], dtype=torch.int64).view(-1, 2).unbind(1)
        return LiveBatch(
            padded([each.input_ids for each in made], longest),
            padded([each.kind for each in made], longest, fill=SIGN),
            padded([each.chunk for each in made], longest),
            positions_of([each.kind for each in made], longest, begins=begins),
            places,
            targets,
            len(words),
        )

    def is_question(self, sequence: LLMSequence, at: int) -> bool:
        """Whether what is asked for there is <SEP>, or the <COMMIT> that is not written."""
        label = sequence.labels[at]
        return label == self.separator or (label == self.commit and sequence.input_ids[at] != self.commit)


def padded(rows: Sequence[Sequence[int]], longest: int, *, fill: int = 0) -> Tensor:
    """[B, S] int64"""
    whole = [[*row, *[fill] * (longest - len(row))] for row in rows]
    return torch.tensor(whole, dtype=torch.int64).view(len(rows), longest)


def positions_of(kinds: Sequence[Sequence[int]], longest: int, *, begins: Sequence[int]) -> Tensor:
    """[B, S]: of the prompt from 0 on, of what follows from so much later on."""
    sinks = torch.tensor([list(kind).count(SINK) for kind in kinds], dtype=torch.int64)
    place = torch.arange(longest)
    later = torch.tensor(begins, dtype=torch.int64)[:, None] * (place >= sinks[:, None])
    return place + later
