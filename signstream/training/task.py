"""The contract between the loop and what is trained. The loop knows nothing else of a task; a task knows nothing of
the loop.

    R terms of the loss   G groups that each is summed over (the parts of a body, say; one, if nothing else)

A step is `split` into micro-batches, each is `prepare`d, and `before_step` sees them all. `counts` of all
micro-batches and ranks are summed once; then, one micro-batch after another, `loss` gives sums, whose value over those
counts is driven backward. So a task gives sums and counts, never a mean, and neither accumulation nor ranks change
what a step does. Whatever a task draws at random comes from a batch's seed and `Progress`.

Methods marked C make collectives: every rank calls them, in the same order, whatever its share of the clips.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from signstream.config import Base
from signstream.training.distributed import Ranks

Raw = TypeVar("Raw")
Raw_co = TypeVar("Raw_co", covariant=True)
Batch = TypeVar("Batch")


class Progress(NamedTuple):
    """How far a run is; all that depends on when."""

    step: int  # optimiser steps that are done
    total_steps: int
    epoch: int  # epochs that are done
    epochs: int


class Group(NamedTuple):
    """Parameters that the optimiser treats alike."""

    parameters: list[nn.Parameter]
    rate: float = 1.0  # share of the learning rate
    decay: bool = True  # whether train.wd is for them


class Loss(NamedTuple):
    """What a micro-batch adds to the step."""

    totals: Tensor  # [R, G] with their gradient
    after: Any = None  # what `after_step` needs of it; adds up with +


@dataclass(frozen=True)
class Findings:
    """What a validation gives, the same on every rank but for what is shown, which rank 0 alone needs."""

    numbers: dict[str, float]  # metrics.jsonl, and TensorBoard under val/
    score: float | None  # the lowest is the best checkpoint's; None: not to be compared yet
    lines: list[str]  # for people; the first begins with "validation"
    status: list[str] = field(default_factory=list)  # what every line of progress repeats until the next of these
    texts: dict[str, str] = field(default_factory=dict)  # samples/<name>_epoch_0005.txt
    figures: dict[str, Any] = field(default_factory=dict)  # matplotlib's; samples/<name>_0000120.png
    animations: dict[str, bytes] = field(default_factory=dict)  # samples/<name>_0000120.gif
    histograms: dict[str, Tensor] = field(default_factory=dict)


class Loader(Protocol[Raw_co]):
    """Batches of one split as they lie on disk. Its order and its position in it are its state."""

    @property
    def clips(self) -> Sequence[int]:
        """Those of the split."""

    @property
    def epoch(self) -> int:
        """Epochs that are done."""

    @property
    def epoch_done(self) -> bool:
        """Whether the last step of the epoch that is going on was handed out."""

    def __iter__(self) -> Iterator[Raw_co]:
        """The rest of the epoch; after its end the next one is going on."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Terms:
    """The loss as a weighted sum of means: weights [R, G] of totals / counts."""

    def __init__(self, names: Sequence[str], groups: Sequence[str], weights: Tensor) -> None:
        assert weights.shape == (len(names), len(groups))
        self.names = tuple(names)
        self.groups = tuple(groups)
        self.weights = weights
        even = torch.full((len(groups),), 1 / len(groups), dtype=torch.float64)
        self._shares = [row.double() / row.sum() if row.any() else even for row in weights.cpu()]  # R x [G]

    def zeros(self, device: torch.device) -> Tensor:
        """[R, G] in float64, to add up in."""
        return torch.zeros(self.weights.shape, dtype=torch.float64, device=device)

    def value(self, totals: Tensor, counts: Tensor) -> Tensor:
        """The loss. What has no count adds nothing."""
        return (self.weights.to(totals.device) * totals / counts.clamp(min=1).to(totals)).sum()

    def named(self, totals: Tensor, counts: Tensor) -> dict[str, float]:
        """The loss and each of its terms, unweighted, as numbers for people; the first term also group by group."""
        totals = totals.double()
        means = (totals / counts.clamp(min=1)).cpu()  # [R, G]
        out = {"loss": float(self.value(totals, counts))}
        out |= {name: float((mean * share).sum()) for name, mean, share in zip(self.names, means, self._shares)}
        if len(self.groups) > 1:
            out |= {f"{self.names[0]}/{group}": float(mean) for group, mean in zip(self.groups, means[0])}
        return out


class Task(ABC, Generic[Raw, Batch]):
    """What is trained: a model, its data, its loss and its measures."""

    config: type[Base]  # the class of its configs
    unit = "chunks"  # what len(batch) counts

    model: nn.Module
    terms: Terms
    micro: int  # clips that this process reads at once, and
    accumulate: int  # micro-batches of a step: set by the loop

    @classmethod
    @abstractmethod
    def open(cls, config: Any, ranks: Ranks) -> Task:
        """Its data and its model, which is on the ranks' device. C"""

    @classmethod
    def check_state(cls, config: Any, state: Mapping[str, Any]) -> None:
        """That a checkpoint, which may be anybody's, is of its config: a UserError before anything of it is built."""

    @abstractmethod
    def describe(self) -> list[str]:
        """Lines at the start of a run: the data, what was left out of them, and last the model."""

    def skipped(self) -> list[Mapping[str, Any]]:
        """Every clip that was left out, with its reason."""
        return []

    @abstractmethod
    def loader(self, split: str, clips: int, train: bool) -> Loader[Raw] | None:
        """Of `clips` at a time, on this rank; None: the split has no clip."""

    @abstractmethod
    def groups(self) -> list[Group]:
        """All that is trained."""

    def begin(self) -> None:
        """Before the first step of a new run: constants, a head start. C"""

    @abstractmethod
    def split(self, raw: Raw, most: int) -> list[Raw]:
        """A step's clips as micro-batches of at most so many, one at least, each with a seed of its own."""

    @abstractmethod
    def largest(self, clips: int) -> Raw:
        """The training clips that need the most memory, for batch_size: auto."""

    @abstractmethod
    def prepare(self, raw: Raw, progress: Progress, train: bool) -> Batch:
        """On the device; augmented, if it is to be trained on. len() of it counts its `unit`."""

    def before_step(self, batches: Sequence[Batch], progress: Progress) -> bool:
        """Sees the whole step. True: from here on the loss means something else, and is not held against what it was.
        C"""
        return False

    @abstractmethod
    def counts(self, batch: Batch) -> Tensor:
        """[R, G] in float64: what each total will be divided by, from the data alone."""

    @abstractmethod
    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """Forward, under autocast where the config wants it."""

    def after_step(self, after: Any, progress: Progress) -> dict[str, float]:
        """After the optimiser's step; numbers to log. C"""
        return {}

    @abstractmethod
    def validate(self, loader: Loader[Raw], progress: Progress, health: bool) -> Findings:
        """A pass over the validation split, which the model comes out of as it went in. `health`: at full length. C"""

    def test_splits(self) -> Sequence[str]:
        """Those that train.test_best measures."""
        return ("test",)

    def test(self, loader: Loader[Raw], progress: Progress) -> Findings:
        """A pass over another split, by which nothing is chosen: what `validate` chose stands. C"""
        return self.validate(loader, progress, health=True)

    def beside_best(self) -> dict[str, dict[str, Any]]:
        """Files that lie beside best.pt for whoever needs a part of it: by name, what they hold beside step and
        config."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What lasts beside the model's own state: plain values and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...
