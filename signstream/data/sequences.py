"""Whole clips as padded sequences with what is signed in them: what a recogniser reads.

    sequences = open_sequences(config.data)                  their clips, words, splits; what was left out
    raw = sequences.read([3, 8], seed)                       StreamBatch: packed, as it lies on the disk; in a worker
    sequences.padded(raw.to(device), train=True)             Padded: {"keypoints": [B, S, J, 3]}, lengths [B]
    SequenceBatch                                            the targets beside the streams

    B clips   S steps (frames or chunks), padded   J joints   P parts   Q levels   Z latent width   U units of a target

Streams by name: keypoints [B, S, J, 3] (x, y in unit lengths from the nose, weight), latents [B, S, P, Z], codes
[B, S, P, Q] int64, frames [B, S, 3, h, w] and heat [B, S, 1, h, w]. Past a clip's end all of them are 0, codes -1.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from signstream.config import PoseAugment
from signstream.data.transforms import hide_joints, warped_track
from signstream.errors import UserError, odd_character
from signstream.glosses import clean
from signstream.io.batch import Movable, StreamBatch
from signstream.io.cache_index import Skipped
from signstream.io.dataloader_utils import BatchLoader, step_seed
from signstream.io.pose_cache import count_reasons

LONGEST_LINE = 1000  # glosses of a clip: an hour of signing has more, and no alignment of it is learnt
LONGEST_TEXT = 10_000  # characters of a clip's sentence


class Example(NamedTuple):
    """A clip and what is signed in it."""

    name: str
    split: str
    words: tuple[str, ...]  # glosses, cleaned, as they count
    signer: str
    length: int  # steps
    text: str = ""  # the sentence


Means = Literal["glosses", "text"]


class Padded(NamedTuple):
    streams: dict[str, Tensor]  # name -> [B, S, ...]
    lengths: tuple[int, ...]  # B


@dataclass(frozen=True)
class SequenceBatch(Movable):
    """B clips. One without a target (a word of it has no id, or it is too short for its words) has 0 units. Lengths and
    units stand here as numbers too, so that nobody waits for the device to know them."""

    streams: dict[str, Tensor]  # name -> [B, S, ...]
    lengths: Tensor  # [B] int64
    targets: Tensor  # [sum U] int64 ids, one clip after another
    steps: tuple[int, ...]  # B: the lengths
    units: tuple[int, ...]  # B: U
    references: tuple[tuple[str, ...], ...]  # B: the words
    index: tuple[int, ...]  # B
    draw: int  # the seed of what a network drops

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def of(
        cls, padded: Padded, targets: Sequence[Sequence[int]], references: Sequence[Sequence[str]], *, raw: StreamBatch
    ) -> SequenceBatch:
        """Of the clips of `raw`."""
        device = next(iter(padded.streams.values())).device
        ids = torch.tensor([i for target in targets for i in target], dtype=torch.int64)
        lengths = torch.tensor(padded.lengths, dtype=torch.int64)
        return cls(
            padded.streams,
            lengths.to(device, non_blocking=True),
            ids.to(device, non_blocking=True),
            steps=padded.lengths,
            units=tuple(map(len, targets)),
            references=tuple(map(tuple, references)),
            index=raw.index,
            draw=step_seed(raw.seed, 2),  # not what augmentation draws
        )


class Share(Protocol):
    """Which of how many processes this is, and where it computes."""

    @property
    def rank(self) -> int: ...

    @property
    def world(self) -> int: ...

    @property
    def device(self) -> torch.device: ...


class Sequences(ABC):
    """A data set's clips, from one kind of source. What is left out leaves its split and is listed."""

    shape: tuple[int, ...] = ()  # of what a tokenizer's files hold: (P, Z) of latents, (P, Q, K, Z) of codes' vectors
    vectors: Tensor | None = None  # [P, Q, K, Z] what codes stand for
    parts: tuple[str, ...] = ()  # whose, by their tags
    tokenizer = ""  # its digest
    visual_width: int | None = None  # of features of pictures, where there are any
    what = "clips or words"

    def __init__(
        self,
        examples: Sequence[Example],
        splits: Sequence[str],
        skipped: Sequence[Skipped],
        *,
        means: Means = "glosses",
    ) -> None:
        """`means`: what a clip is read for."""
        self.means = means
        self.examples = list(examples)
        self.splits: dict[str, list[int]] = {split: [] for split in splits}
        self.skipped = list(skipped)
        self.least = [0] * len(self.examples)  # steps that a clip's words need: training leaves it as many, if it has
        for i, example in enumerate(self.examples):
            self.splits.setdefault(example.split, []).append(i)
        for i, example in enumerate(self.examples):
            if reason := text_fault(example.text) if means == "text" else line_fault(example.words):
                self.leave_out(i, reason)

    def leave_out(self, clip: int, reason: str) -> None:
        example = self.examples[clip]
        self.splits[example.split].remove(clip)
        self.skipped.append(Skipped(example.split, example.name, reason))

    def clips_of(self, split: str) -> Sequence[int]:
        if not self.splits.get(split):
            having = ", ".join(f"{name} ({len(clips)})" for name, clips in self.splits.items() if clips)
            raise UserError(f"the split {split!r} has no clip that can be used: those that have are {having or 'none'}")
        return self.splits[split]

    def length(self, clip: int) -> int:
        return self.examples[clip].length

    def most_steps(self, clip: int) -> int:
        """Where a clip is read from one of several files, of the longest."""
        return self.length(clip)

    def sample(self, split: str, steps: int, *, seed: int) -> list[int]:
        """Clips drawn of a split, of about so many steps."""
        clips = self.clips_of(split)
        drawn: list[int] = []
        for position in torch.randperm(len(clips), generator=torch.Generator().manual_seed(seed)).tolist():
            if steps <= 0:
                break
            drawn.append(clips[position])
            steps -= self.length(drawn[-1])
        return sorted(drawn)

    def longest(self, split: str, count: int) -> StreamBatch:
        """The longest clips of a split, from the first again where it has fewer."""
        longest_first = sorted(self.clips_of(split), key=lambda i: -self.length(i))
        return self.read([longest_first[i % len(longest_first)] for i in range(count)], 0)

    def loader(
        self, split: str, clips: int, *, train: bool, workers: int, seed: int, share: Share
    ) -> BatchLoader[StreamBatch] | None:
        """Of `clips` at a time, a process's share of them; None: the split has no clip, and nobody trains on it."""
        if not train and not self.splits.get(split):
            return None
        return BatchLoader(
            self,
            split,
            batch_size=clips,
            workers=workers,
            seed=seed,
            train=train,
            rank=share.rank,
            world=share.world,
            pin=share.device.type == "cuda",
        )

    def digest(self, split: str) -> str:
        """Of what is read and of what it means."""
        examples = [self.examples[i] for i in self.splits[split]]
        lines = [(each.name, each.text if self.means == "text" else each.words) for each in examples]
        return hashlib.sha256(json.dumps([self.content(split), lines]).encode()).hexdigest()

    @abstractmethod
    def content(self, split: str) -> str:
        """A digest of what is read of a split."""

    @abstractmethod
    def read(self, clips: Sequence[int], seed: int, train: bool = False) -> StreamBatch: ...

    def tracks(self, raw: StreamBatch, rng: np.random.Generator | None) -> list[np.ndarray]:
        """Where each clip's steps lie in it, as `padded` reads them: with `rng`, what it draws first."""
        return [np.arange(length, dtype=np.float64) for length in raw.lengths]

    def were_read(self, clips: Sequence[int]) -> None:
        """By a worker, of whose memory nothing remains."""
        return

    @abstractmethod
    def padded(self, raw: StreamBatch, *, train: bool) -> Padded:
        """On the batch's device; `train`: augmented."""

    def summary(self) -> str:
        """What is there and what was left out, in a line or two."""
        used = [clip for clips in self.splits.values() for clip in clips]
        counts = ", ".join(f"{split} {len(clips)}" for split, clips in self.splits.items())
        text = f"{len(used)} clips, {sum(map(self.length, used))} {self.about()} ({counts}){self.notes()}"
        return text + (f"\nleft out: {count_reasons(self.skipped)}" if self.skipped else "")

    @abstractmethod
    def about(self) -> str:
        """What a step is, of several."""

    def notes(self) -> str:
        """What else there is to say, each behind a semicolon."""
        return ""


def words_of(gloss: str, rules: str) -> tuple[str, ...]:
    return tuple(clean(gloss.split(), rules))


def line_fault(words: Sequence[str]) -> str | None:
    """Why nothing can be learnt of a line of glosses, nor held against it."""
    if not words:
        return "no gloss"
    if len(words) > LONGEST_LINE:
        return f"too many glosses: {len(words)}"
    odd = next((character for word in words if (character := odd_character(word))), None)
    return f"gloss with an odd character: {odd}" if odd else None


def text_fault(text: str) -> str | None:
    """Likewise of a sentence."""
    if not text.strip():
        return "no sentence"
    if len(text) > LONGEST_TEXT:
        return f"too long a sentence: {len(text)} characters"
    odd = odd_character(text)
    return f"a sentence with an odd character: {odd}" if odd else None


def pad(rows: Tensor, lengths: Sequence[int], fill: float = 0) -> Tensor:
    """[M, ...], clip after clip -> [B, S, ...]"""
    if not lengths:
        return rows.new_zeros(0, 0, *rows.shape[1:])
    return pad_sequence(rows.split(list(lengths)), batch_first=True, padding_value=fill)


def tracks(
    lengths: Sequence[int], augment: PoseAugment, rng: np.random.Generator | None, *, least: Sequence[int]
) -> list[np.ndarray]:
    """Where each clip's steps lie in it: each in its place, or with `rng` at a speed that is drawn, as long as that
    leaves as many as `least` says."""
    plain = [np.arange(length, dtype=np.float64) for length in lengths]
    if rng is None:
        return plain
    warped = [warped_track(length, augment, rng) if length else track for length, track in zip(lengths, plain)]
    return [new if len(new) >= min(need, len(old)) else old for new, old, need in zip(warped, plain, least)]


def hide(weight: Tensor, share: float, generator: torch.Generator, *, window: int) -> Tensor:
    """weight [B, S, J] -> the same with zeros: in every `window` steps about `share` of the joints lose a stretch."""
    clips, steps, joints = weight.shape
    whole = -(-steps // window) * window
    padded = torch.zeros(clips, whole, joints, dtype=weight.dtype, device=weight.device)
    padded[:, :steps] = weight
    return hide_joints(padded.view(-1, window, joints), share, generator).view(clips, whole, joints)[:, :steps]
