"""A language model that speaks while it watches: what a prefix language model is, and it says <SEP> and <COMMIT> too.

    B sequences   S ids of each   U labels that are asked for   V units of text   D width

    model = LiveLM(lm, vocabulary, window=window, vectors=vectors)
    model.logits(hidden [.., D])                          [.., V + 2]: units, then <SEP> and <COMMIT>
    model.said(labels)                                    which of these an id of tokens/llm.py is
    model.hear(ids [B, S], layout [B, S], positions)      hidden [B, S, D] of whole sequences, as the window shows them

A stream goes through KVWindow(model.decoder, model.window), by the same rule; models/kv_window.py says what stays.
The two marks are asked for with the rows by which they are read, as units of text are. A summary's ids come after the
vocabulary's, from model.first_summary on: their rows are learnt, and they are never said.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from signstream.config.prefix_lm import PrefixModel
from signstream.errors import UserError
from signstream.models.kv_window import Layout, Window, read, window_mask
from signstream.models.prefix_lm import PLAIN, PrefixLM
from signstream.models.prefix_sources import LanguageModel
from signstream.tokens.vectors import CodeVectors
from signstream.tokens.vocabulary import SPECIALS, Vocabulary

MARKS = (SPECIALS.index("<SEP>"), SPECIALS.index("<COMMIT>"))


class LiveLM(PrefixLM):
    marks: Tensor  # [2] sign ids from 0 on

    def __init__(
        self,
        lm: LanguageModel,
        vocabulary: Vocabulary,
        *,
        window: Window,
        vectors: CodeVectors | None = None,
        seed: int = 0,
        how: PrefixModel = PLAIN,
        dim: int = 0,
    ) -> None:
        super().__init__(lm, vocabulary, vectors=vectors, seed=seed, how=how, dim=dim)
        most = int(lm.network.config.max_position_embeddings)
        if window.positions > most:
            raise UserError(f"live.positions is {window.positions}, and the language model has {most}")
        self.window = window
        self.first_summary = vocabulary.offset + len(vocabulary)
        self.register_buffer("marks", torch.tensor(MARKS), persistent=False)
        if window.summary:
            text = self.lm.get_input_embeddings().weight.detach()
            drawn = torch.randn(window.summary, text.shape[1], generator=torch.Generator().manual_seed(seed))
            self.summaries = nn.Parameter(drawn * text.std())

    @property
    def decoder(self) -> Any:
        return self.lm.model

    def embedded(self, ids: Tensor) -> Tensor:
        if not self.window.summary:
            return super().embedded(ids)
        summary = ids >= self.first_summary
        others = super().embedded(ids.masked_fill(summary, 0))
        return torch.where(summary[..., None], self.summaries[(ids - self.first_summary).clamp(min=0)], others)

    def logits(self, hidden: Tensor) -> Tensor:
        marks = hidden @ self.signs(self.marks).T
        return torch.cat((self.lm.lm_head(hidden), marks), -1)

    def said(self, labels: Tensor) -> Tensor:
        """Ids of units, of <SEP> and of <COMMIT> -> columns of logits()."""
        marks = torch.where(labels == self.offset + self.marks[0], self.offset, self.offset + 1)
        return torch.where(labels < self.offset, labels, marks)

    def hear(self, ids: Tensor, layout: Layout, positions: Tensor) -> Tensor:
        """positions [S] or [B, S]"""
        return read(self.decoder, self.embedded(ids), mask=window_mask(layout, self.window), positions=positions)
