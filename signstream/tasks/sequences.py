"""What the tasks have in common whose clips are sequences of whatever is read: how clips come and become batches.

    class TranslationTask(SequenceTask[Setup, TranslationBatch])

A task's own Setup has what `Ground` names, and more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Generic, Protocol, TypeVar

import torch

from signstream.data.sequences import Sequences
from signstream.io.batch import StreamBatch
from signstream.io.dataloader_utils import BatchLoader, split_clips
from signstream.models.recognition import Recognizer
from signstream.models.sign_encoder import SignEncoder
from signstream.training.distributed import Ranks
from signstream.training.task import Batch, Loss, Progress, Task


class Ground(Protocol):
    """What a training stands on."""

    @property
    def config(self) -> Any:
        """With its sections `data` and `train`."""

    @property
    def sequences(self) -> Sequences: ...

    @property
    def ranks(self) -> Ranks: ...

    def batch(self, raw: StreamBatch, *, train: bool) -> Any: ...


Setup = TypeVar("Setup", bound=Ground)


class SequenceTask(Task[StreamBatch, Batch], Generic[Setup, Batch]):
    unit = "clips"
    setup: Setup

    def skipped(self) -> list[Mapping[str, Any]]:
        return [asdict(line) for line in self.setup.sequences.skipped]

    def loader(self, split: str, clips: int, train: bool) -> BatchLoader[StreamBatch] | None:
        config, ranks = self.setup.config, self.setup.ranks
        return self.setup.sequences.loader(
            split, clips, train=train, workers=config.data.workers, seed=config.train.seed, share=ranks
        )

    def begin(self) -> None:
        """Rank 0's weights are everyone's."""
        self.setup.ranks.share_(self.model.state_dict().values())

    def fit(self, reader: Recognizer | SignEncoder) -> None:
        """The constants of its front, where it has any; on rank 0."""
        sequences, ranks, steps = self.setup.sequences, self.setup.ranks, reader.front.fit_steps
        if ranks.is_main and steps:
            clips = sequences.sample("train", steps, seed=self.setup.config.train.seed)
            padded = sequences.padded(sequences.read(clips, 0).to(ranks.device), train=False)
            reader.fit(padded.streams, torch.tensor(padded.lengths, dtype=torch.int64).to(ranks.device))

    def split(self, raw: StreamBatch, most: int) -> list[StreamBatch]:
        return split_clips(raw, most)

    def largest(self, clips: int) -> StreamBatch:
        return self.setup.sequences.longest("train", clips)

    def prepare(self, raw: StreamBatch, progress: Progress, train: bool) -> Batch:
        return self.setup.batch(raw, train=train)

    def nothing(self) -> Loss:
        """Of no clip."""
        return Loss(torch.zeros_like(self.terms.weights, requires_grad=True))

    def test_splits(self) -> Sequence[str]:
        """Those by whom nothing was chosen: test, and others that are called so."""
        return [split for split in self.setup.sequences.splits if split.startswith("test")] or ["test"]
