"""How clips become what a language model reads, what it is asked for, and how it speaks: whole, or live.

    form = Offline(basis)                              or LiveForm(basis), of live_form.py; makes the network
    told = form.told(codes, clips, rng=None)           PromptBatch or LiveBatch, on the device; rng: as training has it
    form.counts(told), form.totals(told)               [R, 1]
    form.likelihoods(codes, clips)                     [B] of each clip's sentence
    form.spoken(codes)                                 [Spoken(text, words, ..), ..]
    form.said_anyway(codes, spoken)                    how many of these words would be said with other signs, too

R terms: of the sentence's units with their end, and live also of the question whether to speak. clips: whose sentence
goes with the codes, which may be another's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from signstream.config.prefix_lm import PrefixConfig
from signstream.data.sentences import leave_out_too_long
from signstream.data.sources import TokenSequences
from signstream.errors import UserError
from signstream.io.pose_cache import PoseCache
from signstream.models.policies import Words
from signstream.models.prefix_lm import PrefixLM, PromptBatch, Prompts
from signstream.models.prefix_sources import LanguageModel
from signstream.models.whole_words import words_of
from signstream.tokens.vectors import CodeVectors
from signstream.tokens.vocabulary import Vocabulary
from signstream.training.task import Terms

BESIDE_CODES = 3  # ids of a prefix: <SIGN>, </SIGN>, <SEP>

Told = TypeVar("Told", bound=tuple[Any, ...])


class Basis(NamedTuple):
    config: PrefixConfig
    sequences: TokenSequences
    cache: PoseCache
    lm: LanguageModel
    device: torch.device

    @property
    def vocabulary(self) -> Vocabulary:
        tokens = self.sequences.tokens["train"]
        offset = self.lm.network.config.vocab_size
        return Vocabulary(tokens.parts, tokens.levels, tokens.codebook_size, offset=offset)

    @property
    def vectors(self) -> CodeVectors | None:
        return None if self.config.model.signs == "fresh" else self.sequences.tokens["train"].code_vectors

    def no_room(self, positions: int, beside: str) -> UserError:
        chunk = sum(self.vocabulary.levels)
        return UserError(
            f"the language model has {positions} positions: no chunk of {chunk} codes has room in them beside {beside}"
        )


class Spoken(NamedTuple):
    text: str
    words: Words
    after: list[int]  # of each word, the chunk behind which it was said; at the end: how many there were
    early: int  # words that were said behind a chunk, before the end was told


class Answers(NamedTuple):
    logits: Tensor  # [U, V]
    asked: Tensor  # [U] columns
    clip: Tensor  # [U] of the batch


class Form(ABC, Generic[Told]):
    terms: Terms
    model: PrefixLM
    says_early = False  # whether it may speak before signing ends

    def __init__(self, basis: Basis) -> None:
        self.basis, self.config, self.vocabulary = basis, basis.config, basis.vocabulary
        self.sequences, self.units = basis.sequences, basis.lm.units

    def told(self, codes: Sequence[Tensor], clips: Sequence[int], rng: np.random.Generator | None = None) -> Told:
        return self.on_device(self.tell(codes, clips, rng))

    @abstractmethod
    def tell(self, codes: Sequence[Tensor], clips: Sequence[int], rng: np.random.Generator | None) -> Told: ...

    @abstractmethod
    def asked(self, told: Told) -> list[int]:
        """R: how often each term is asked for."""

    @abstractmethod
    def answers(self, told: Told) -> Answers:
        """To all that is asked for."""

    @abstractmethod
    def totals(self, told: Told) -> Tensor:
        """Cross entropies."""

    @abstractmethod
    def retold(self, codes: Sequence[Tensor], spoken: Sequence[Spoken]) -> Told:
        """What was said, asked for where it was, with other codes."""

    @abstractmethod
    def spoken(self, codes: Sequence[Tensor]) -> list[Spoken]:
        """In evaluation mode, for which the caller cares."""

    def likelihoods(self, codes: Sequence[Tensor], clips: Sequence[int]) -> Tensor:
        """[B] float64: their logarithms."""
        told = self.told(codes, clips)
        units = self.asked(told)[0]  # the others are the question's
        logits, asked, clip = (column[:units] for column in self.answers(told))
        each = F.cross_entropy(logits, asked, reduction="none").double()
        return each.new_zeros(len(clips)).index_add(0, clip, -each)

    def said_anyway(self, codes: Sequence[Tensor], spoken: Sequence[Spoken]) -> int:
        """Words whose every unit is the likeliest with these codes, behind the words that were said before."""
        logits, asked, _ = self.answers(self.on_device(self.retold(codes, spoken)))
        logits[:, self.model.offset : self.model.offset + 1] = -torch.inf  # a live model is not let say <SEP> there
        same = (logits.argmax(-1) == asked)[asked < self.model.offset]
        lengths = [len(word) for each in spoken for word in each.words]
        return sum(bool(word.all()) for word in same.cpu().split(lengths))

    def counts(self, told: Told) -> Tensor:
        count = torch.tensor(self.asked(told), dtype=torch.float64)[:, None]
        return count.to(self.basis.device, non_blocking=True)

    def on_device(self, told: Told) -> Told:
        made: Any = type(told)
        device = self.basis.device
        return made(*(each.to(device, non_blocking=True) if isinstance(each, Tensor) else each for each in told))


class Offline(Form[PromptBatch]):
    def __init__(self, basis: Basis) -> None:
        super().__init__(basis)
        config, data, most = self.config, self.config.data, basis.lm.network.config.max_position_embeddings
        room = most - max(data.max_tokens, config.decode.max_tokens) - BESIDE_CODES
        a_chunk = sum(self.vocabulary.levels) if config.model.positions == "ids" else 1
        if room < a_chunk:
            raise basis.no_room(most, "a sentence of data.max_tokens or decode.max_tokens")
        leave_out_too_long(self.sequences, lambda chunks: chunks * a_chunk, most=room, augment=data.augment)
        seed, how, positions = config.train.seed, config.model, config.model.positions
        self.model = PrefixLM(basis.lm, self.vocabulary, vectors=basis.vectors, seed=seed, how=how)
        self.prompts = Prompts(self.vocabulary, self.units, most=data.max_tokens, positions=positions)
        self.terms = Terms(("sentence",), ("all",), torch.ones(1, 1).to(basis.device))

    def tell(self, codes: Sequence[Tensor], clips: Sequence[int], rng: np.random.Generator | None) -> PromptBatch:
        return self.prompts.batch(codes, [self.sequences.examples[clip].text for clip in clips])

    def asked(self, told: PromptBatch) -> list[int]:
        return [len(told.targets)]

    def answers(self, told: PromptBatch) -> Answers:
        logits = self.model(told.ids, told.places).float()  # [U, V]
        return Answers(logits, told.targets, told.places // told.ids.shape[1])

    def totals(self, told: PromptBatch) -> Tensor:
        logits, asked, _ = self.answers(told)
        return F.cross_entropy(logits, asked, reduction="sum").view(1, 1)

    def retold(self, codes: Sequence[Tensor], spoken: Sequence[Spoken]) -> PromptBatch:
        units = ([unit for word in each.words for unit in word] for each in spoken)
        return self.prompts.collated([self.prompts.behind(*each) for each in zip(codes, units)])

    def spoken(self, codes: Sequence[Tensor]) -> list[Spoken]:
        told = self.on_device(self.prompts.batch(codes))
        rows = self.model.generate(told.ids, told.lengths, most=self.config.decode.max_tokens)
        words = [words_of(self.units, row, before=[], ended=True) for row in rows]
        return [
            Spoken(self.units.text(row), said, [len(heard)] * len(said), 0)
            for row, said, heard in zip(rows, words, codes)
        ]
