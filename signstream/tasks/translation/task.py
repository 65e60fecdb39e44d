"""Translation, phase 2, as a task of the loop: a clip's steps to its sentence, by an encoder and an mBART.

    StreamBatch --prepare--> TranslationBatch --loss--> totals [R, 1]; validation translates the whole split

The score is BLEU-4 of the validation split, by beam search. `model.init_from` takes the encoder of a phase 1 run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from signstream.config.translation import TranslationConfig
from signstream.errors import UserError
from signstream.io.batch import StreamBatch
from signstream.io.dataloader_utils import BatchLoader
from signstream.models.text_model import decoder_inputs
from signstream.models.translation import SignTranslator
from signstream.tasks.sequences import SequenceTask
from signstream.tasks.translation.batch import TranslationBatch
from signstream.tasks.translation.report import findings_of
from signstream.tasks.translation.restore import kept_of, restore
from signstream.tasks.translation.setup import Setup
from signstream.tasks.translation.start import take_encoder
from signstream.tasks.translation.validation import measure
from signstream.training.distributed import Ranks
from signstream.training.optim import undecayed
from signstream.training.task import Findings, Group, Loader, Loss, Progress


class TranslationTask(SequenceTask[Setup, TranslationBatch]):
    config = TranslationConfig
    model: SignTranslator

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.model = setup.model
        self.terms = setup.losses.terms

    @classmethod
    def open(cls, config: TranslationConfig, ranks: Ranks) -> TranslationTask:
        return cls(Setup.open(config, ranks))

    @classmethod
    def check_state(cls, config: TranslationConfig, state: Mapping[str, Any]) -> None:
        restore(config, state)

    def describe(self) -> list[str]:
        setup, data = self.setup, self.setup.config.data
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in self.model.parameters() if not p.requires_grad)
        model = setup.config.model
        text = f"text model {model.text}, {self.model.text.tokenizer.size} tokens"
        cut = f"{setup.cut} training sentences have more than data.max_tokens {data.max_tokens} and are cut in training"
        return [
            f"data: {setup.sequences.summary()}",
            *([cut] if setup.cut else []),
            f"model: {data.source} to {model.target_language}, {text}, {trained / 1e6:.1f} M parameters are trained, "
            f"{frozen / 1e6:.1f} M are frozen ({', '.join(self.model.text.frozen) or 'none'})",
        ]

    def groups(self) -> list[Group]:
        """Two rates: train.text_lr for the text model's, train.lr for all else."""
        train, kept = self.setup.config.train, undecayed(self.model)
        text = {id(p) for p in self.model.text.parameters()}
        trained = [p for p in self.model.parameters() if p.requires_grad]
        return [
            Group([p for p in trained if (id(p) in text, id(p) not in kept) == (is_text, decay)], rate, decay)
            for is_text, rate in ((False, 1.0), (True, train.text_lr / train.lr))
            for decay in (True, False)
        ]

    def begin(self) -> None:
        """The front's constants, or a whole encoder of phase 1."""
        setup, encoder = self.setup, self.model.encoder
        start = setup.config.model.init_from
        if start is not None:
            setup.ranks.from_main(lambda: take_encoder(encoder, setup.reads, Path(start)))
        else:
            self.fit(encoder)
        super().begin()

    # -- a step

    def counts(self, batch: TranslationBatch) -> Tensor:
        return self.setup.losses.counts(batch)

    def loss(self, batch: TranslationBatch, progress: Progress) -> Loss:
        losses, clips = self.setup.losses, batch.clips
        if not len(batch):
            return self.nothing()
        torch.manual_seed(clips.draw)  # what mBART drops, it draws from torch's own generator
        said = self.model(clips.streams, clips.lengths, decoder_inputs(batch.labels), draw=clips.draw)
        return Loss(losses.totals(said, batch, smoothing=losses.smoothing))

    # -- between epochs

    def validate(self, loader: Loader[StreamBatch], progress: Progress, health: bool) -> Findings:
        assert isinstance(loader, BatchLoader)
        return findings_of(measure(self.setup, loader))

    def state_dict(self) -> dict[str, Any]:
        setup = self.setup
        return {
            "reads": setup.reads.state(),
            "text": self.model.text.plain(),
            "frozen": setup.frozen,
            "glosses": setup.glosses.state() if setup.glosses is not None else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        kept, own = kept_of(state, self.setup.config), self.state_dict()
        if kept.text != own["text"] or state.get("glosses") != own["glosses"]:
            raise UserError(
                "the run was saved with other sentences than the data's training split has now: "
                "a run goes on only on the same data"
            )
        self.model.text.check_digest(kept.frozen)
