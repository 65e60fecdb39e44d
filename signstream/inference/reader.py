"""What stands on a trained network that reads whole clips: what it reads, and a line where it is given something else.

A Recogniser is one, and a Translator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from signstream.config.sequences import TOKENS, SequenceData
from signstream.data.datasets import skeleton_of
from signstream.data.sequences import Sequences
from signstream.errors import UserError, shown
from signstream.inference.inputs import checked_poses
from signstream.inference.timing import Timing
from signstream.tokens.format import TokenSequence

INSTEAD = {
    "keypoints": "give it poses: --input clip.npy, or --split",
    "latents": "give it what export_tokens --latents wrote: --tokens tokens.jsonl, or --split",
    "codes": "give it what export_tokens wrote: --tokens tokens.jsonl, or --split",
    "frames": "give it a data set's pictures: --split",
    "glosses": "give it a data set's glosses: --split",
}


class TrainedOn(NamedTuple):
    """What a checkpoint keeps of it."""

    shape: tuple[int, ...]
    parts: tuple[str, ...]  # of latents or codes
    tokenizer: str  # the digest of whose these are


class Reader(ABC):
    who: str  # as it is called in a line

    def __init__(self, data: SequenceData, trained_on: TrainedOn, device: str | torch.device) -> None:
        self.data, self.trained_on = data, trained_on
        self.device = torch.device(device)
        self.source = data.source
        self.skeleton = skeleton_of(data)

    @abstractmethod
    def timing(self, fps: float | None = None, chunk_len: int = 1) -> Timing:
        """Steps as frames; of tokens, their frame rate and their chunks' length are the file's."""

    def view(self, joints: Tensor) -> Tensor:
        """joints [T, J, 3] of the front end as the network reads them."""
        return joints

    # -- what it is given

    def demand(self, *sources: str) -> None:
        """That it reads one of these."""
        if self.source not in sources:
            raise UserError(f"{self.who} reads {self.source}: {INSTEAD[self.source]}")

    def checked(self, poses: Any, one_frame: bool = False) -> Tensor:
        """float32 [T, J, 3], or an error that says what is expected."""
        return checked_poses(poses, self.skeleton.num_joints, one_frame=one_frame)

    def checked_tokens(self, tokens: TokenSequence) -> Tensor:
        """Its codes [N, P, Q]."""
        self.demand("codes")
        if tokens.tokenizer != self.trained_on.tokenizer:
            raise UserError(
                f"{shown(tokens.name)}: its tokens are of the tokenizer {shown(tokens.tokenizer)}, and {self.who} "
                f"was trained on those of {shown(self.trained_on.tokenizer)}"
            )
        codes = self.checked_codes(tokens.codes, tokens.codebook_size)
        self.check_parts(tokens.parts)
        return codes

    def checked_codes(self, codes: Tensor, size: int) -> Tensor:
        """codes [N, P, Q] of codebooks of `size`, or an error that says which it was trained on."""
        parts, levels, expected, _ = self.trained_on.shape
        if codes.shape[1:] != (parts, levels) or size != expected:
            given, trained = f"{codes.shape[1]} x {codes.shape[2]} codes of {size}", f"{parts} x {levels} of {expected}"
            raise UserError(f"a chunk has {given} and {self.who} was trained on {trained} (parts x levels)")
        return codes

    def check_parts(self, parts: Sequence[str]) -> None:
        """That tokens are of the parts it was trained on, in their order: as many others would be read as these."""
        if tuple(parts) != self.trained_on.parts:
            raise UserError(
                f"the tokens are of the parts {', '.join(parts)}, and {self.who} was trained on "
                f"{', '.join(self.trained_on.parts)}"
            )

    def check_sequences(self, sequences: Sequences) -> None:
        """That a data set is of what it was trained on."""
        trained = self.trained_on
        if sequences.tokenizer != trained.tokenizer:
            raise UserError(
                f"data.tokens: its tokens are of the tokenizer {shown(sequences.tokenizer)}, and {self.who} was "
                f"trained on those of {shown(trained.tokenizer)}"
            )
        if sequences.shape != trained.shape:
            where = "data.tokens" if self.source in TOKENS else "data.root"
            raise UserError(
                f"{where}: its {self.source} are {list(sequences.shape)}, and {self.who} was trained on "
                f"{list(trained.shape)}"
            )
        self.check_parts(sequences.parts)
