"""A second task, as small as one can be: the first gloss of a clip, from its chunks. It proves that the loop needs to
know no task.

    --import gloss_task task=gloss data.root=DIR
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import signstream
from signstream.config import Base, Data, option
from signstream.data.cache import open_cache
from signstream.data.collate import ChunkBatch, make_chunks
from signstream.io.batch import ClipBatch
from signstream.io.dataloader_utils import ClipLoader, longest_clips, split_clips
from signstream.io.pose_cache import PoseCache
from signstream.training.distributed import Ranks
from signstream.training.optim import groups_of
from signstream.training.task import Findings, Group, Loss, Progress, Task, Terms


@dataclass(frozen=True)
class GlossModel:
    width: int = option(32, low=1)


@dataclass(frozen=True)
class GlossConfig(Base):
    task: str = "gloss"
    data: Data = field(default_factory=Data)
    model: GlossModel = field(default_factory=GlossModel)


@dataclass(frozen=True)
class GlossBatch:
    chunks: ChunkBatch
    owner: Tensor  # [N] which of the batch's clips a chunk is of
    glosses: Tensor  # [B]

    def __len__(self) -> int:
        return len(self.chunks)


class GlossNet(nn.Module):
    def __init__(self, inputs: int, width: int, glosses: int) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(inputs, width), nn.Linear(width, glosses)
        self.seldom = nn.Parameter(torch.zeros(glosses))  # used only where a batch has a clip

    def forward(self, batch: GlossBatch) -> Tensor:
        joints = torch.cat((batch.chunks.xy / 10, batch.chunks.weight[..., None]), -1).flatten(1)  # [N, L * J * 3]
        chunks = self.into(joints).tanh()  # [N, D]
        clips = chunks.new_zeros(len(batch.glosses), chunks.shape[1]).index_add(0, batch.owner, chunks)  # [B, D]
        logits = self.out(clips / batch.owner.bincount(minlength=len(clips)).clamp(min=1)[:, None])  # [B, V]
        return logits + self.seldom if len(logits) else logits


@signstream.register("task", "gloss")
class GlossTask(Task[ClipBatch, GlossBatch]):
    config = GlossConfig

    def __init__(self, config: GlossConfig, cache: PoseCache, ranks: Ranks) -> None:
        self.given, self.cache, self.ranks = config, cache, ranks
        names = sorted({cache.clips[i].gloss.split()[0] for i in range(len(cache.clips))})
        self.ids = {name: i for i, name in enumerate(names)}
        inputs = config.data.chunk_len * cache.skeleton.num_joints * 3
        self.model = GlossNet(inputs, config.model.width, len(names)).to(ranks.device)
        self.terms = Terms(("ce",), ("all",), torch.ones(1, 1))

    @classmethod
    def open(cls, config: GlossConfig, ranks: Ranks) -> GlossTask:
        torch.manual_seed(config.train.seed)
        return cls(config, open_cache(config.data, quiet=True), ranks)

    def describe(self) -> list[str]:
        return [f"data: {self.cache.summary()}", f"model: {len(self.ids)} glosses"]

    def loader(self, split: str, clips: int, train: bool) -> ClipLoader | None:
        if not self.cache.splits.get(split):
            return None
        options = {"seed": self.given.train.seed, "rank": self.ranks.rank, "world": self.ranks.world}
        return ClipLoader(self.cache, split, self.given.data, batch_size=clips, train=train, **options)

    def groups(self) -> list[Group]:
        return groups_of(self.model)

    def split(self, raw: ClipBatch, most: int) -> list[ClipBatch]:
        return split_clips(raw, most)

    def largest(self, clips: int) -> ClipBatch:
        return longest_clips(self.cache, "train", clips)

    def prepare(self, raw: ClipBatch, progress: Progress, train: bool) -> GlossBatch:
        chunks = make_chunks(raw.to(self.ranks.device), self.cache.skeleton, self.given.data, train=train)
        number = {clip: i for i, clip in enumerate(raw.index)}
        glosses = [self.ids[self.cache.clips[clip].gloss.split()[0]] for clip in number]
        owner = torch.tensor([number[clip] for clip in chunks.clip.tolist()], dtype=torch.int64)
        return GlossBatch(
            chunks, owner.to(chunks.xy.device), torch.tensor(glosses, dtype=torch.int64).to(chunks.xy.device)
        )

    def counts(self, batch: GlossBatch) -> Tensor:
        return torch.full((1, 1), float(len(batch.glosses)), dtype=torch.float64, device=batch.glosses.device)

    def loss(self, batch: GlossBatch, progress: Progress) -> Loss:
        return Loss(F.cross_entropy(self.model(batch), batch.glosses, reduction="sum").view(1, 1))

    @torch.no_grad()
    def validate(self, loader: ClipLoader, progress: Progress, health: bool) -> Findings:
        sums = torch.zeros(3, dtype=torch.float64)  # loss, wrong, clips
        for raw in loader:
            batch = self.prepare(raw, progress, train=False)
            logits = self.model(batch)
            loss = F.cross_entropy(logits, batch.glosses, reduction="sum")
            wrong = (logits.argmax(1) != batch.glosses).sum()
            sums += torch.tensor((float(loss), float(wrong), len(logits)), dtype=torch.float64)
        loss, wrong, clips = self.ranks.sum_(sums).tolist()
        numbers = {"loss": loss / clips, "wrong": wrong / clips}
        return Findings(numbers, numbers["loss"], [f"validation loss {numbers['loss']:.4g}"])

    def state_dict(self) -> dict[str, Any]:
        return {"glosses": list(self.ids)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert state["glosses"] == list(self.ids)
