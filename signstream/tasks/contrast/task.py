"""Signing against sentences as a task of the loop, the first phase of translation: a clip learns to lie near what it
means, by a text model that does not change.

    StreamBatch --prepare--> ContrastBatch --before_step: of all micro-batches and ranks--> loss --> totals [1, 1]

The score is minus the mean of R@1, 5 and 10 in both directions over the validation split. What the second phase needs
of it, the encoder, lies beside best.pt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from signstream.config.translation import ContrastConfig
from signstream.errors import UserError
from signstream.io.batch import StreamBatch
from signstream.io.dataloader_utils import BatchLoader
from signstream.models.contrast import ContrastModel
from signstream.models.sign_encoder import KeptEncoder
from signstream.tasks.contrast.losses import Losses
from signstream.tasks.contrast.report import findings_of
from signstream.tasks.contrast.restore import restore
from signstream.tasks.contrast.setup import ContrastBatch, Setup
from signstream.tasks.contrast.validation import measure
from signstream.tasks.sequences import SequenceTask
from signstream.training.distributed import Ranks
from signstream.training.optim import groups_of
from signstream.training.task import Findings, Group, Loader, Loss, Progress

BEST_ENCODER = "vlp_best_encoder.pt"  # by the name that the public code gave it


class ContrastTask(SequenceTask[Setup, ContrastBatch]):
    config = ContrastConfig
    model: ContrastModel

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.model = setup.model
        self.losses = Losses(setup)
        self.terms = self.losses.terms

    @classmethod
    def open(cls, config: ContrastConfig, ranks: Ranks) -> ContrastTask:
        return cls(Setup.open(config, ranks))

    @classmethod
    def check_state(cls, config: ContrastConfig, state: Mapping[str, Any]) -> None:
        restore(config, state)

    def describe(self) -> list[str]:
        setup, sentences = self.setup, self.setup.sentences
        parameters = list(self.model.parameters())
        trained, frozen = (sum(p.numel() for p in parameters if p.requires_grad is by) / 1e6 for by in (True, False))
        cut, data = sentences.encoded.cut, setup.config.data
        longer = f"; {cut} have more units than data.max_tokens {data.max_tokens}, and are cut" if cut else ""
        return [
            f"data: {setup.sequences.summary()}",
            f"sentences: {len(sentences.texts)} different ones{longer}",
            f"model: {data.source}, {trained:.1f} M parameters, beside {setup.config.model.text}'s {frozen:.1f} M "
            "that stay as they are",
        ]

    def groups(self) -> list[Group]:
        return groups_of(self.model)

    def begin(self) -> None:
        self.fit(self.model.encoder)
        super().begin()

    # -- a step

    def before_step(self, batches: Sequence[ContrastBatch], progress: Progress) -> bool:
        self.losses.before(batches)
        return False

    def counts(self, batch: ContrastBatch) -> Tensor:
        return self.losses.counts(batch)

    def loss(self, batch: ContrastBatch, progress: Progress) -> Loss:
        return Loss(self.losses.totals(batch))

    # -- between epochs

    def validate(self, loader: Loader[StreamBatch], progress: Progress, health: bool) -> Findings:
        assert isinstance(loader, BatchLoader)
        return findings_of(measure(self.setup, loader))

    def state_dict(self) -> dict[str, Any]:
        text = {"text": self.model.text.plain(), "text_digest": self.setup.text_digest}
        return {"reads": self.setup.reads.state(), **text}

    def beside_best(self) -> dict[str, dict[str, Any]]:
        return {BEST_ENCODER: KeptEncoder(self.setup.reads, self.model.encoder.state_dict()).state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing of it changes in training; it must be what is here."""
        if state.get("text") != self.model.text.plain():
            raise UserError(
                "the run was saved with another text model, or another tokenizer of it, than the data's training "
                "split makes now: a run goes on only on the same data"
            )
        if state.get("text_digest") != self.setup.text_digest:
            self.model.text.check_digest(str(state.get("text_digest")))
