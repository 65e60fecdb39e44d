"""What the language model's training stands on: clips of one tokenizer's files, the network; and how clips become
prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from signstream.config.prefix_lm import PrefixConfig
from signstream.data.cache import open_cache
from signstream.data.sentences import SentenceBatch, sentence_batch
from signstream.data.sources import TokenSequences, open_more, open_tokens
from signstream.io.batch import StreamBatch
from signstream.io.dataloader_utils import step_seed
from signstream.io.pose_cache import PoseCache
from signstream.models.metrics.text import TextScores
from signstream.models.prefix_sources import lm_of
from signstream.tasks.prefix_lm.forms import Basis, Form, Offline
from signstream.tasks.prefix_lm.live_form import LiveForm
from signstream.training.distributed import Ranks

FORMS: dict[str, type[Form[Any]]] = {"offline": Offline, "live": LiveForm}


@dataclass(frozen=True)
class PrefixBatch:
    clips: SentenceBatch  # on the CPU
    prompts: Any  # of the form, on the device

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def codes(self) -> list[Tensor]:
        """B: [N, P, Q]"""
        return codes_of(self.clips)


class Setup:
    def __init__(self, config: PrefixConfig, sequences: TokenSequences, ranks: Ranks, *, cache: PoseCache) -> None:
        self.config, self.sequences, self.ranks = config, sequences, ranks
        TextScores(config.model.target_language)  # what cannot be scored is said now, not after an epoch
        lm = lm_of(config.model, self.sentences(), seed=config.train.seed)
        self.form = FORMS[config.model.form](Basis(config, sequences, cache, lm, ranks.device))
        self.vocabulary, self.terms = self.form.vocabulary, self.form.terms
        self.model = self.form.model.to(ranks.device).train()
        self.units, self.origin = lm.units, lm.origin
        most = config.data.max_tokens
        self.cut = sum(len(lm.units.ids(sentence)) > most for sentence in self.sentences())

    @classmethod
    def open(cls, config: PrefixConfig, ranks: Ranks) -> Setup:
        cache = open_cache(config.data, not ranks.is_main)
        tokens = open_tokens(cache, config.data)
        more = open_more(config.data, tokens["train"])
        sequences = TokenSequences(cache, config.data, tokens, more=more, means="text")
        return cls(config, sequences, ranks, cache=cache)

    def sentences(self) -> list[str]:
        """Of training."""
        return [self.sequences.examples[clip].text for clip in self.sequences.clips_of("train")]

    def batch(self, raw: StreamBatch, *, train: bool) -> PrefixBatch:
        """`train`: augmented."""
        clips = sentence_batch(self.sequences, raw, train=train)
        rng = np.random.default_rng(step_seed(raw.seed, 4)) if train else None  # not what draws elsewhere
        return PrefixBatch(clips, self.form.told(codes_of(clips), clips.index, rng))

    def counts(self, prompts: Any) -> Tensor:
        """[R, 1]"""
        return self.form.counts(prompts)

    def totals(self, prompts: Any) -> Tensor:
        """[R, 1]: cross entropies of what is asked for."""
        return self.form.totals(prompts)

    def said(self, codes: Sequence[Tensor]) -> list[str]:
        """What the model says of clips. In evaluation mode, for which the caller cares."""
        return [each.text for each in self.form.spoken(codes)]


def codes_of(clips: SentenceBatch) -> list[Tensor]:
    """B: [N, P, Q]"""
    return [codes[:steps] for codes, steps in zip(clips.streams["codes"], clips.steps)]
