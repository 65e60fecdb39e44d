"""What the translator's training stands on: its clips, its text model, the network; and how clips become batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from signstream.config.translation import TranslationConfig
from signstream.data.sentences import leave_out_too_long, open_sentences, sentence_batch
from signstream.data.sequences import Sequences, line_fault
from signstream.data.text import UNKNOWN, Glosses
from signstream.errors import UserError
from signstream.io.batch import StreamBatch
from signstream.models.metrics.text import TextScores
from signstream.models.recognition import steps_needed
from signstream.models.sign_encoder import Reads, sign_encoder
from signstream.models.text_sources import text_of
from signstream.models.translation import SignTranslator
from signstream.tasks.translation.batch import TranslationBatch
from signstream.tasks.translation.losses import Losses
from signstream.training.distributed import Ranks


class Setup:
    def __init__(self, config: TranslationConfig, sequences: Sequences, ranks: Ranks) -> None:
        self.config, self.sequences, self.ranks = config, sequences, ranks
        self.reads = Reads.of(config.data.source, sequences)
        encoder = sign_encoder(config.model.encoder, self.reads, config.train.seed)
        TextScores(config.model.target_language)  # what cannot be scored is said now, not after an epoch
        sentences = [sequences.examples[clip].text for clip in sequences.clips_of("train")]
        scale = config.model.scale_inputs
        text = text_of(config.model, sentences, seed=config.train.seed, scale_inputs=scale)
        check_room(config, text.positions)
        text.freeze(config.model.frozen)
        leave_out_too_long(sequences, encoder.steps, most=text.positions, augment=config.data.augment)
        train = [sequences.examples[clip] for clip in sequences.clips_of("train")]
        self.glosses = glosses_of(example.words for example in train) if config.loss.ctc else None
        known = len(self.glosses) if self.glosses is not None else 0
        self.model = SignTranslator(encoder, text, glosses=known, seed=config.train.seed).to(ranks.device).train()
        self.frozen = text.frozen_digest()
        self.losses = Losses(config.loss, ranks.device)
        self.cut = text.tokenizer.labels([example.text for example in train], most=config.data.max_tokens).cut

    @classmethod
    def open(cls, config: TranslationConfig, ranks: Ranks) -> Setup:
        return cls(config, open_sentences(config.data, quiet=not ranks.is_main), ranks)

    def batch(self, raw: StreamBatch, *, train: bool) -> TranslationBatch:
        """On the device, augmented if it is to be trained on."""
        clips = sentence_batch(self.sequences, raw.to(self.ranks.device), train=train)
        labels = self.model.text.tokenizer.labels(clips.texts, most=self.config.data.max_tokens)
        steps = self.model.encoder.steps(torch.tensor(clips.steps, dtype=torch.int64))
        targets = self._targets(clips.words, steps)
        ids = torch.tensor([i for target in targets for i in target], dtype=torch.int64)
        return TranslationBatch(
            clips,
            labels.ids.to(self.ranks.device, non_blocking=True),
            units=int(labels.mask.sum()),
            steps=steps,
            targets=ids.to(self.ranks.device, non_blocking=True),
            glosses=tuple(map(len, targets)),
        )

    def _targets(self, lines: tuple[tuple[str, ...], ...], steps: torch.Tensor) -> list[list[int]]:
        """Of each clip, its glosses' ids; none where one has no id, or they do not fit."""
        if self.glosses is None:
            return [[] for _ in lines]
        targets = [self.glosses.ids(line) for line in lines]
        return [
            [] if UNKNOWN in target or steps_needed(target) > count else target
            for target, count in zip(targets, steps.tolist())
        ]


def check_room(config: TranslationConfig, positions: int) -> None:
    """Now, not at the first long sentence."""
    for name, most in (("data.max_tokens", config.data.max_tokens), ("decode.max_tokens", config.decode.max_tokens)):
        if most > positions:
            raise UserError(f"{name} is {most}: the text model has positions for {positions} units of a sentence")


def glosses_of(lines: Iterable[Sequence[str]]) -> Glosses:
    """Of lines that an auxiliary CTC can learn from: no other fault keeps a clip from being translated."""
    glosses = Glosses.of(line for line in lines if line_fault(line) is None)
    if not glosses.names:
        raise UserError("loss.ctc is not 0, and no clip of the training split has glosses: set loss.ctc=0")
    return glosses
