"""Continuous sign language recognition as a task of the loop: a clip's steps to its glosses, by CTC.

    StreamBatch --prepare--> SequenceBatch --loss--> totals [R, 1]; after_step: the running average of the weights

The score is the word error rate of the validation split, by the better of the two sets of weights: those that are
trained, and their average.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from signstream.config.recognition import RecognitionConfig
from signstream.data.sequences import SequenceBatch
from signstream.errors import UserError
from signstream.io.batch import StreamBatch
from signstream.io.dataloader_utils import BatchLoader
from signstream.models.recognition import Recognizer
from signstream.tasks.recognition.report import findings_of, unknown_words
from signstream.tasks.recognition.restore import kept_of, restore
from signstream.tasks.recognition.setup import Setup
from signstream.tasks.recognition.validation import LIVE, better, measure
from signstream.tasks.sequences import SequenceTask
from signstream.training.average import Average
from signstream.training.distributed import Ranks
from signstream.training.optim import undecayed
from signstream.training.task import Findings, Group, Loader, Loss, Progress


class RecognitionTask(SequenceTask[Setup, SequenceBatch]):
    config = RecognitionConfig
    model: Recognizer

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.model = setup.model
        self.terms = setup.losses.terms
        self.average = self._new_average()
        self.chosen = LIVE  # the weights that were better at the last validation

    @classmethod
    def open(cls, config: RecognitionConfig, ranks: Ranks) -> RecognitionTask:
        return cls(Setup.open(config, ranks))

    @classmethod
    def check_state(cls, config: RecognitionConfig, state: Mapping[str, Any]) -> None:
        restore(config, state)

    def _new_average(self) -> Average | None:
        decay = self.setup.config.train.average
        return Average(self.model, decay) if decay else None

    def describe(self) -> list[str]:
        setup = self.setup
        millions = sum(p.numel() for p in self.model.parameters()) / 1e6
        reads = f"{setup.config.data.source} by {setup.config.model.mixer}"
        model = f"model: {reads}, {len(setup.glosses) - 1} glosses, {millions:.1f} M parameters"
        return [f"data: {setup.sequences.summary()}", *unknown_words(setup), model]

    def groups(self) -> list[Group]:
        """The deeper a layer lies, the less of the learning rate it gets, if the config says so."""
        share, last = self.setup.config.train.layer_decay, self.model.last
        depths, kept = self.model.depths(), undecayed(self.model)
        members: dict[tuple[int, bool], list[torch.nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                depth = depths[name] if share < 1 else last
                members.setdefault((depth, id(parameter) not in kept), []).append(parameter)
        return [
            Group(members[depth, decay], share ** (last - depth), decay)
            for depth, decay in sorted(members, reverse=True)
        ]

    def begin(self) -> None:
        self.fit(self.model)
        super().begin()
        self.average = self._new_average()

    # -- a step

    def counts(self, batch: SequenceBatch) -> Tensor:
        return self.setup.losses.counts(batch, self.setup.steps(batch))

    def loss(self, batch: SequenceBatch, progress: Progress) -> Loss:
        if not len(batch):
            return self.nothing()
        emissions = self.model(batch.streams, batch.lengths, draw=batch.draw)
        return Loss(self.setup.losses.totals(emissions, batch, self.setup.steps(batch)))

    def after_step(self, after: None, progress: Progress) -> dict[str, float]:
        if self.average is not None:
            self.average.update(self.model)
        return {}

    # -- between epochs

    def validate(self, loader: Loader[StreamBatch], progress: Progress, health: bool) -> Findings:
        assert isinstance(loader, BatchLoader)
        scores = measure(self.setup, loader, self.average)
        self.chosen = better(scores)
        return findings_of(scores, self.chosen)

    def test(self, loader: Loader[StreamBatch], progress: Progress) -> Findings:
        assert isinstance(loader, BatchLoader)
        scores = measure(self.setup, loader, self.average)
        return findings_of(scores, self.chosen)

    def state_dict(self) -> dict[str, Any]:
        sequences = self.setup.sequences
        return {
            "glosses": self.setup.glosses.state(),
            "shape": list(sequences.shape),
            "parts": list(sequences.parts),
            "tokenizer": sequences.tokenizer,
            "chosen": self.chosen,
            "average": self.average.state_dict() if self.average is not None else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        kept = kept_of(state, self.setup.config.data.source)
        if kept.glosses != self.setup.glosses:
            raise UserError(
                "the run was saved with other glosses than the data's training split has now: "
                "a run goes on only on the same data"
            )
        self.chosen = kept.chosen if self.average is not None else LIVE
        if self.average is not None and kept.average is not None:
            self.average.load_state_dict(kept.average)
        else:  # the run goes on with one from now on, or without
            self.average = self._new_average()
