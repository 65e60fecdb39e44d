"""The config of signs as the prefix of a language model. What a key means is said in configs/prefix_lm.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from signstream.config.common import Base, Train
from signstream.config.schema import option
from signstream.config.sequences import SequenceData
from signstream.config.translation import TINY, SentenceAugment
from signstream.errors import UserError

Positions = Literal["ids", "chunks"]
TINY_ONLY = 200_000_000  # weights, beyond which a model is a published one


@dataclass(frozen=True)
class PrefixData(SequenceData):
    source: Literal["codes"] = "codes"
    tokens: str | None = "exports/{split}.jsonl"
    max_tokens: int = option(64, low=2)
    augment: SentenceAugment = field(default_factory=SentenceAugment)


@dataclass(frozen=True)
class TinyLM:
    """Of a language model that is drawn here."""

    vocabulary: int = option(1000, low=10, high=100_000)
    width: int = option(128, low=8, high=100_000)
    layers: int = option(3, low=1, high=100)
    heads: int = option(4, low=1)
    expand: int = option(4, low=1, high=100)
    positions: int = option(4096, low=16, high=1 << 20)
    dropout: float = option(0.1, low=0, high=0.9)

    def check(self) -> None:
        if self.width % self.heads or self.width // self.heads % 2:
            raise UserError(
                f"model.tiny.heads is {self.heads}: model.tiny.width {self.width} must fall into heads of an even width"
            )
        weights = (self.vocabulary + self.layers * (4 + 3 * self.expand) * self.width) * self.width
        if weights > TINY_ONLY:
            raise UserError(
                f"model.tiny.layers is {self.layers}: {weights:,} weights are no tiny model, name a published one"
            )


@dataclass(frozen=True)
class Lora:
    """Of adapters."""

    rank: int = option(8, low=1, high=4096)
    alpha: int = option(16, low=1, high=1 << 16)
    dropout: float = option(0.0, low=0, high=0.9)


@dataclass(frozen=True)
class PrefixModel:
    form: Literal["offline", "live"] = "offline"
    lm: str = TINY
    tune: Literal["all", "rows", "lora"] = "all"
    signs: Literal["vectors", "mapped", "fresh"] = "vectors"
    positions: Positions = "ids"
    target_language: str = "zh_CN"
    tiny: TinyLM = field(default_factory=TinyLM)
    lora: Lora = field(default_factory=Lora)

    def check(self) -> None:
        if self.form == "live" and self.positions == "chunks":
            raise UserError("model.positions is chunks: a live stream (model.form) has a position an id")


@dataclass(frozen=True)
class Live:
    """Of the live form."""

    chunks: int = option(60, low=1, high=1 << 20)
    words: int = option(40, low=1, high=1 << 20)
    positions: int = option(4096, low=16, high=1 << 20)
    summary: int = option(0, low=0, high=1000)
    group: int = option(10, low=1, high=1 << 20, idle={"summary": (0,)})
    reach: int = option(180, low=1, high=1 << 20, idle={"summary": (0,)})
    signs: str | None = None
    question: float = option(1.0, low=0)
    wait: int = option(2, low=0, high=1 << 20)
    delayed: float = option(0.0, low=0, high=1)
    delay: int = option(6, low=1, high=1 << 20, idle={"delayed": (0.0,)})
    moved: float = option(0.5, low=0, high=1)

    def check(self) -> None:
        late = self.wait + (self.delay if self.delayed else 0)
        if late >= self.chunks:
            raise UserError(
                f"live.wait is {self.wait} and live.delay {self.delay}, and the window has live.chunks {self.chunks}: "
                "what has left it cannot be said, so a word is held back for fewer"
            )


@dataclass(frozen=True)
class PrefixTrain(Train):
    epochs: int = option(60, low=1)
    clips_per_step: int = option(16, low=1)
    lr: float = option(1e-3, low=1e-12)
    lm_lr: float = option(1e-3, low=0)
    wd: float = option(0.05, low=0)


@dataclass(frozen=True)
class Greedy:
    max_tokens: int = option(60, low=1)


@dataclass(frozen=True)
class PrefixConfig(Base):
    task: str = option("prefix_lm", names="task")
    experiment_name: str = "prefix_lm"
    data: PrefixData = field(default_factory=PrefixData)
    model: PrefixModel = field(default_factory=PrefixModel)
    live: Live = field(default_factory=Live)
    train: PrefixTrain = field(default_factory=PrefixTrain)
    decode: Greedy = field(default_factory=Greedy)
