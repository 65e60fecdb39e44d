"""What the configs of all tasks share that read whole clips as sequences, from poses or from a tokenizer's files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from signstream.config.common import Poses
from signstream.config.schema import option
from signstream.errors import UserError, shown

SPLIT = "{split}"  # what a split's name takes the place of
NO_TOKENS = {"source": ("keypoints", "frames", "glosses")}
TOKENS = ("latents", "codes")


@dataclass(frozen=True)
class SequenceData(Poses):
    source: str = "keypoints"
    tokens: str | None = option(None, idle=NO_TOKENS)
    more_tokens: tuple[str, ...] = option((), idle=NO_TOKENS)
    clean: Literal["phoenix2014", "phoenix2014t", "none"] = "none"

    def check(self) -> None:
        super().check()
        if self.source in TOKENS and (self.tokens is None or SPLIT not in self.tokens):
            raise UserError(
                f"data.source is {self.source} and data.tokens {shown(self.tokens)}: files of tokens, one a split, are "
                "expected, such as exports/{split}.jsonl"
            )

    def tokens_of(self, split: str) -> str:
        assert self.tokens is not None
        return self.tokens.replace(SPLIT, split)


@dataclass(frozen=True)
class TokenModel:
    """How latents and codes become steps."""

    vectors: bool = True
    part_width: int = option(96, low=1)
    steps_a_chunk: int = option(2, low=1, high=100)
