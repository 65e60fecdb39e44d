"""What the translator is trained on: clips, and their sentences as units."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from signstream.data.sentences import SentenceBatch


@dataclass(frozen=True)
class TranslationBatch:
    clips: SentenceBatch
    labels: Tensor  # [B, U] int64, -100 past a sentence's end
    units: int  # of all sentences
    steps: Tensor  # [B] int64 of the encoder, on the CPU
    targets: Tensor  # [sum G] int64 glosses as ids, one clip after another; none without an auxiliary CTC
    glosses: tuple[int, ...]  # B: G; 0 where a gloss has no id, or they do not fit

    def __len__(self) -> int:
        return len(self.clips)
