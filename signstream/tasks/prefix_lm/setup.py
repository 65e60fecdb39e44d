"""What the language model's training stands on: clips of one tokenizer's files, the network; and how clips become
prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from signstream.config.prefix_lm import PrefixConfig
from signstream.data.cache import open_cache
from signstream.data.sentences import SentenceBatch, leave_out_too_long, sentence_batch
from signstream.data.sources import TokenSequences, open_more, open_tokens
from signstream.errors import UserError
from signstream.io.batch import StreamBatch
from signstream.models.metrics.text import TextScores
from signstream.models.prefix_lm import PrefixLM, PromptBatch, Prompts
from signstream.models.prefix_sources import lm_of
from signstream.tokens.vocabulary import Vocabulary
from signstream.training.distributed import Ranks
from signstream.training.task import Terms

BESIDE_CODES = 3  # ids of a prefix: <SIGN>, </SIGN>, <SEP>


@dataclass(frozen=True)
class PrefixBatch:
    clips: SentenceBatch  # on the CPU
    prompts: PromptBatch  # on the device

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def codes(self) -> list[Tensor]:
        """B: [N, P, Q]"""
        return [codes[:steps] for codes, steps in zip(self.clips.streams["codes"], self.clips.steps)]


class Setup:
    def __init__(self, config: PrefixConfig, sequences: TokenSequences, ranks: Ranks) -> None:
        self.config, self.sequences, self.ranks = config, sequences, ranks
        TextScores(config.model.target_language)  # what cannot be scored is said now, not after an epoch
        tokens, data = sequences.tokens["train"], config.data
        lm = lm_of(config.model, self.sentences(), seed=config.train.seed)
        settings = lm.network.config
        self.vocabulary = Vocabulary(tokens.parts, tokens.levels, tokens.codebook_size, offset=settings.vocab_size)
        room = settings.max_position_embeddings - max(data.max_tokens, config.decode.max_tokens) - BESIDE_CODES
        codes = sum(tokens.levels)
        a_chunk = codes if config.model.positions == "ids" else 1
        if room < a_chunk:
            raise UserError(
                f"the language model has {settings.max_position_embeddings} positions: no chunk of {codes} codes has "
                "room in them beside a sentence of data.max_tokens or decode.max_tokens"
            )
        leave_out_too_long(sequences, lambda chunks: chunks * a_chunk, most=room, augment=data.augment)
        vectors = None if config.model.signs == "fresh" else tokens.code_vectors
        model = PrefixLM(lm, self.vocabulary, vectors=vectors, seed=config.train.seed, how=config.model)
        self.model = model.to(ranks.device).train()
        self.units, self.origin = lm.units, lm.origin
        self.prompts = Prompts(self.vocabulary, lm.units, most=data.max_tokens, positions=config.model.positions)
        self.cut = sum(len(lm.units.ids(sentence)) > data.max_tokens for sentence in self.sentences())
        self.terms = Terms(("sentence",), ("all",), torch.ones(1, 1).to(ranks.device))

    @classmethod
    def open(cls, config: PrefixConfig, ranks: Ranks) -> Setup:
        cache = open_cache(config.data, not ranks.is_main)
        tokens = open_tokens(cache, config.data)
        more = open_more(config.data, tokens["train"])
        return cls(config, TokenSequences(cache, config.data, tokens, more=more, means="text"), ranks)

    def sentences(self) -> list[str]:
        """Of training."""
        return [self.sequences.examples[clip].text for clip in self.sequences.clips_of("train")]

    def batch(self, raw: StreamBatch, *, train: bool) -> PrefixBatch:
        """`train`: augmented."""
        clips = sentence_batch(self.sequences, raw, train=train)
        codes = [codes[:steps] for codes, steps in zip(clips.streams["codes"], clips.steps)]
        return PrefixBatch(clips, self.told(codes, clips.texts))

    def told(self, codes: Sequence[Tensor], texts: Sequence[str] | None = None) -> PromptBatch:
        """On the device."""
        prompts = self.prompts.batch(codes, texts)
        return PromptBatch(*(each.to(self.ranks.device, non_blocking=True) for each in prompts))

    def counts(self, prompts: PromptBatch) -> Tensor:
        """[1, 1]"""
        count = torch.full((1, 1), float(len(prompts.targets)), dtype=torch.float64)
        return count.to(self.ranks.device, non_blocking=True)

    def totals(self, prompts: PromptBatch) -> Tensor:
        """[1, 1]: of units of sentences and their ends, the cross entropy."""
        logits = self.model(prompts.ids, prompts.places).float()  # [U, V]
        return F.cross_entropy(logits, prompts.targets, reduction="sum").view(1, 1)

    def said(self, codes: Sequence[Tensor]) -> list[str]:
        """What the model says of clips. In evaluation mode, for which the caller cares."""
        prompts = self.told(codes)
        rows = self.model.generate(prompts.ids, prompts.lengths, most=self.config.decode.max_tokens)
        return [self.units.text(row) for row in rows]
