"""The tokenizer as a task of the loop: an encoder, residual codebooks and a decoder for five parts of the body.

    ClipBatch --prepare--> RvqBatch --loss--> totals [R, P] and the codebooks' statistics --after_step--> the
    codebooks' update

The network trains alone for `train.warmup_steps`; then k-means on its latents makes the codebooks, and codes begin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor

from signstream.config import Config, Data
from signstream.io.batch import ClipBatch
from signstream.io.dataloader_utils import ClipLoader, longest_clips, split_clips, step_seed
from signstream.models.rvq.budget import Budget
from signstream.models.rvq.quantizer import Statistics
from signstream.models.rvq.rvq_model import RVQModel
from signstream.tasks.rvq.head_start import fit_constants, initialise_codebooks
from signstream.tasks.rvq.report import findings_of
from signstream.tasks.rvq.restore import constants_of, restore
from signstream.tasks.rvq.setup import RvqBatch, Setup
from signstream.tasks.rvq.validation import validate
from signstream.training.distributed import Ranks
from signstream.training.optim import groups_of
from signstream.training.task import Findings, Group, Loader, Loss, Progress, Task

QUICK = 2.0  # share of the learning rate
SETTLED = 0.8  # of the steps, after which latents that are taught no longer leave the codes that they began with


class RvqTask(Task[ClipBatch, RvqBatch]):
    config = Config
    model: RVQModel

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.model = setup.model
        self.terms = setup.losses.terms
        self.budget: Budget | None = None  # of the last validation
        self.quantise = True  # whether this step trains the codebooks too
        self.draw = 0  # what this step draws donors with

    @classmethod
    def open(cls, config: Config, ranks: Ranks) -> RvqTask:
        return cls(Setup.open(config, ranks))

    @classmethod
    def check_state(cls, config: Config, state: Mapping[str, Any]) -> None:
        restore(config, state)

    def describe(self) -> list[str]:
        millions = sum(p.numel() for p in self.model.parameters()) / 1e6
        arch = self.setup.config.model.arch
        taught = self.setup.taught
        return [
            f"data: {self.setup.cache.summary()}",
            *([] if taught is None else [taught.describe()]),
            f"model: {arch}, {millions:.1f} M parameters",
        ]

    def skipped(self) -> list[Mapping[str, Any]]:
        return [asdict(line) for line in self.setup.cache.skipped]

    def loader(self, split: str, clips: int, train: bool) -> ClipLoader | None:
        config, ranks = self.setup.config, self.setup.ranks
        if not train and not self.setup.cache.splits.get(split):
            return None
        return ClipLoader(
            self.setup.cache,
            split,
            config.data,
            batch_size=clips,
            seed=config.train.seed,
            train=train,
            rank=ranks.rank,
            world=ranks.world,
            pin=ranks.device.type == "cuda",
        )

    def groups(self) -> list[Group]:
        """What is taught of meaning learns faster: it begins from nothing, and drawing from a PCA."""
        taught = self.setup.taught
        parts = [] if taught is None else [taught.lesson, taught.look_back]
        quick = {id(weight) for part in parts for weight in part.parameters()}
        groups = []
        for group in groups_of(self.model):
            for rate, hurries in ((group.rate, False), (QUICK, True)):
                mine = [weight for weight in group.parameters if (id(weight) in quick) is hurries]
                groups += [Group(mine, rate, group.decay)] if mine or not hurries else []
        return groups

    def begin(self) -> None:
        fit_constants(self.setup)

    # -- a step

    def split(self, raw: ClipBatch, most: int) -> list[ClipBatch]:
        return split_clips(raw, most)

    def largest(self, clips: int) -> ClipBatch:
        return longest_clips(self.setup.cache, "train", clips)

    def prepare(self, raw: ClipBatch, progress: Progress, train: bool) -> RvqBatch:
        return self.setup.chunked(raw, self.data(progress), train=train)

    def data(self, progress: Progress) -> Data:
        """In the calm epochs at the end clips are neither mirrored nor stretched."""
        data = self.setup.config.data
        if progress.epoch < progress.epochs * (1 - data.augment.calm):
            return data
        return replace(data, augment=replace(data.augment, mirror=False, affine=0.0))

    def before_step(self, batches: Sequence[RvqBatch], progress: Progress) -> bool:
        """Codebooks begin in the step after the warm-up, which takes half of a run that is shorter than twice that.
        Those of latents that are taught begin anew once these have settled: codes that followed them lie worse."""
        warmup = min(self.setup.config.train.warmup_steps, progress.total_steps // 2)
        begun = self.setup.quantising
        self.quantise = begun or progress.step >= warmup
        if self.quantise and not begun:
            self._initialise(progress)
        elif self.setup.taught is not None and progress.step == int(SETTLED * progress.total_steps):
            self._initialise(progress, only=self.model.carrier)
        self.draw = self.model.quantizer.next_draw()
        return self.quantise and not begun

    def _initialise(self, progress: Progress, only: int | None = None) -> None:
        clips = self.micro * self.accumulate * self.setup.ranks.world
        initialise_codebooks(self.setup, self.data(progress), micro=self.micro, clips_a_step=clips, only=only)

    def counts(self, batch: RvqBatch) -> Tensor:
        return self.setup.counts(batch)

    def loss(self, batch: RvqBatch, progress: Progress) -> Loss:
        output = self.model(
            batch.inputs,
            batch.valid,
            sent=batch.sent if self.quantise else None,
            earlier=batch.earlier,
            watched=batch.watched,
            draw=self.draw,
            quantise=self.quantise,
        )
        totals = self.setup.totals(output, batch, step_seed(self.setup.config.train.seed, progress.step))
        return Loss(totals, output.quantised.statistics if output.quantised is not None else None)

    def after_step(self, after: Statistics | None, progress: Progress) -> dict[str, float]:
        if not self.quantise:
            return {"revived": 0}
        ranks = self.setup.ranks
        return {"revived": self.model.quantizer.update(after, ranks.sum_, rank=ranks.rank, world=ranks.world)}

    # -- between epochs

    def validate(self, loader: Loader[ClipBatch], progress: Progress, health: bool) -> Findings:
        assert isinstance(loader, ClipLoader)
        measured = validate(self.setup, loader, health)
        self.budget = measured.budget
        return findings_of(self.setup, measured, health)

    def state_dict(self) -> dict[str, Any]:
        budget = self.budget.state_dict() if self.budget else None
        taught = {} if self.setup.taught is None else {"taught": self.setup.taught.state()}
        return {"space": self.setup.views.space.state_dict(), "budget": budget, **taught}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        space, self.budget = constants_of(state, self.setup.skeleton)
        if self.setup.taught is not None:
            self.setup.taught.check(state.get("taught"))
        self.setup.use_space(space)
