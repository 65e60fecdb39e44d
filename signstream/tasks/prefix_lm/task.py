"""Signs as the prefix of a language model, as a task of the loop: a clip's codes to its sentence, offline.

    StreamBatch --prepare--> PrefixBatch --loss--> totals [1, 1]; validation lets the model speak of the whole split

The score is BLEU-4 of the validation split, by the likeliest unit at each step; beside it stands what the same model
says of another clip's signs, and of none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from signstream.config.prefix_lm import PrefixConfig
from signstream.errors import UserError, shown
from signstream.io.batch import StreamBatch
from signstream.io.dataloader_utils import BatchLoader
from signstream.models.prefix_lm import PrefixLM
from signstream.tasks.prefix_lm.report import findings_of
from signstream.tasks.prefix_lm.restore import Kept, restore
from signstream.tasks.prefix_lm.setup import PrefixBatch, Setup
from signstream.tasks.prefix_lm.validation import measure
from signstream.tasks.sequences import SequenceTask
from signstream.training.distributed import Ranks
from signstream.training.optim import undecayed
from signstream.training.task import Findings, Group, Loader, Loss, Progress


class PrefixTask(SequenceTask[Setup, PrefixBatch]):
    config = PrefixConfig
    model: PrefixLM

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.model = setup.model
        self.terms = setup.terms
        form = setup.config.model.form
        self.kept = Kept(setup.vocabulary, setup.sequences.tokenizer, setup.origin, form, self.model.frozen)

    @classmethod
    def open(cls, config: PrefixConfig, ranks: Ranks) -> PrefixTask:
        return cls(Setup.open(config, ranks))

    @classmethod
    def check_state(cls, config: PrefixConfig, state: Mapping[str, Any]) -> None:
        restore(config, state)

    def describe(self) -> list[str]:
        setup, data, model = self.setup, self.setup.config.data, self.setup.config.model
        trained, stay = (
            sum(p.numel() for p in self.model.parameters() if p.requires_grad is by) / 1e6 for by in (True, False)
        )
        cut = f"{setup.cut} training sentences have more than data.max_tokens {data.max_tokens} and are cut in training"
        return [
            f"data: {setup.sequences.summary()}",
            *([cut] if setup.cut else []),
            f"model: codes to {model.target_language}, language model {model.lm}, {setup.vocabulary.offset} units of "
            f"text, {len(setup.vocabulary)} sign ids ({model.signs}), {trained:.1f} M parameters"
            f"{f', beside {stay:.1f} M that stay as they are' if model.tune != 'all' else ''}",
        ]

    def groups(self) -> list[Group]:
        """Two rates: train.lm_lr for the language model's weights or adapters, train.lr for the sign ids' rows."""
        train, kept = self.setup.config.train, undecayed(self.model)
        members = [p for p in self.model.lm.parameters() if p.requires_grad]
        share = train.lm_lr / train.lr
        return [
            Group([p for name, p in self.model.named_parameters() if not name.startswith("lm.")], decay=False),
            Group([p for p in members if id(p) not in kept], share),
            Group([p for p in members if id(p) in kept], share, decay=False),
        ]

    # -- a step

    def counts(self, batch: PrefixBatch) -> Tensor:
        return self.setup.counts(batch.prompts)

    def loss(self, batch: PrefixBatch, progress: Progress) -> Loss:
        if not len(batch):
            return self.nothing()
        torch.manual_seed(batch.clips.draw)  # what transformers drops, it draws from torch's own generator
        return Loss(self.setup.totals(batch.prompts))

    # -- between epochs

    def validate(self, loader: Loader[StreamBatch], progress: Progress, health: bool) -> Findings:
        assert isinstance(loader, BatchLoader)
        return findings_of(measure(self.setup, loader))

    def state_dict(self) -> dict[str, Any]:
        return self.kept.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        kept = Kept.of(state)
        saved, own = kept.state(), self.kept.state()
        if saved["tokenizer"] != own["tokenizer"]:
            theirs, ours = shown(saved["tokenizer"]), own["tokenizer"]
            raise UserError(f"the run was saved with tokens of the tokenizer {theirs}, and data.tokens has {ours}'s")
        if saved["form"] != own["form"]:
            raise UserError(f"the run was saved with model.form {saved['form']}, and model.form is {own['form']}")
        if saved["lm"].get("name") != own["lm"].get("name"):
            theirs = shown(saved["lm"].get("name", "tiny"))
            raise UserError(f"the run was saved with the language model {theirs}, and model.lm is another")
        kept.check_frozen(self.kept.frozen)
        if saved != own:
            raise UserError(
                "the run was saved with other sentences or codes than the data's training split has now: "
                "a run goes on only on the same data"
            )
