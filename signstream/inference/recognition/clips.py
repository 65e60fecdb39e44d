"""The clips that a recogniser is to read, whatever they come from, a few at a time.

clips = of_split(recogniser, config.data, "val")           a split of the data set
clips = of_tokens(recogniser, path, labels)                a file of tokens; labels: what a data set's clips are
clips = of_poses(recogniser, path, fps)                    one file of poses
clips.all                                                  Clip each: name, frames, signer, and its words, if known
for numbers, padded in clips.batches(range(..)): ...       as recogniser.recognise_clips takes them
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from signstream.config.recognition import RecognitionData
from signstream.data.cache import open_cache
from signstream.data.frame_sequences import FrameSequences
from signstream.data.frontend import as_raw, prepare
from signstream.data.sequences import Example, Padded, Sequences, line_fault, pad, words_of
from signstream.data.sources import TokenSequences, open_sequences
from signstream.data.tokens import TokenData
from signstream.errors import UserError, shown
from signstream.inference.recognition.recogniser import Recogniser
from signstream.inference.recognition.spans import Timing
from signstream.io.pose_files import Shape, read_npy

STEPS = {"frames": 256, "keypoints": 4096, "latents": 4096, "codes": 4096}  # of a stream, that are read at once


class Clip(NamedTuple):
    name: str
    frames: int
    steps: int  # of its streams
    words: tuple[str, ...] | None  # what is signed, cleaned; None: nobody says
    signer: str = ""


class Clips(ABC):
    def __init__(self, recogniser: Recogniser, timing: Timing, clips: Sequence[Clip]) -> None:
        self.recogniser, self.timing, self.all = recogniser, timing, list(clips)

    @abstractmethod
    def padded(self, numbers: Sequence[int]) -> Padded:
        """The streams of some clips, on the recogniser's device."""

    def batches(self, numbers: Sequence[int]) -> Iterator[tuple[list[int], Padded]]:
        """In their order, so many at a time that their steps are no more than STEPS, or one."""
        group: list[int] = []
        size = 0
        for number in numbers:
            steps = self.all[number].steps
            if group and size + steps > STEPS[self.recogniser.source]:
                yield group, self.padded(group)
                group, size = [], 0
            group.append(number)
            size += steps
        if group:
            yield group, self.padded(group)


def known(words: tuple[str, ...]) -> tuple[str, ...] | None:
    """A line that something can be held against."""
    return None if line_fault(words) else words


# -- a split


class SplitClips(Clips):
    def __init__(self, recogniser: Recogniser, sequences: Sequences, numbers: Sequence[int]) -> None:
        self.sequences, self.numbers = sequences, list(numbers)
        timing = recogniser.timing()
        if isinstance(sequences, TokenSequences):
            first = next(iter(sequences.tokens.values()))
            timing = recogniser.timing(first.fps, first.chunk_len)
        super().__init__(recogniser, timing, [_clip(sequences, number) for number in numbers])

    def padded(self, numbers: Sequence[int]) -> Padded:
        raw = self.sequences.read([self.numbers[number] for number in numbers], 0).to(self.recogniser.device)
        return self.sequences.padded(raw, train=False)


def of_split(
    recogniser: Recogniser, data: RecognitionData, split: str, *, labelled: bool = False, quiet: bool = False
) -> SplitClips:
    """All clips of a split that can be read; `labelled`: those that validation reads."""
    sequences = open_sequences(data, quiet)
    kept = recogniser.kept
    if sequences.tokenizer != kept.tokenizer:
        raise UserError(
            f"data.tokens: its tokens are of the tokenizer {shown(sequences.tokenizer)}, and the recogniser was "
            f"trained on those of {shown(kept.tokenizer)}"
        )
    if sequences.shape != kept.shape:
        raise UserError(
            f"data.tokens: its {data.source} are {list(sequences.shape)}, and the recogniser was trained on "
            f"{list(kept.shape)}"
        )
    recogniser.check_parts(sequences.parts)
    numbers: Sequence[int] = [i for i, example in enumerate(sequences.examples) if example.split == split]
    if labelled or not numbers:
        numbers = sequences.clips_of(split)  # or an error that says which splits there are
    return SplitClips(recogniser, sequences, numbers)


def _clip(sequences: Sequences, number: int) -> Clip:
    example = sequences.examples[number]
    frames = _frames(sequences, number, example)
    return Clip(example.name, frames, example.length, known(example.words), example.signer)


def _frames(sequences: Sequences, number: int, example: Example) -> int:
    if isinstance(sequences, TokenSequences):
        return sequences.tokens[example.split].num_frames[sequences.numbers[number]]
    if isinstance(sequences, FrameSequences):
        return len(sequences.files[number].paths)
    return example.length


# -- a file of tokens


class Label(NamedTuple):
    """What a data set says of a clip."""

    words: tuple[str, ...]
    signer: str


class TokenClips(Clips):
    def __init__(self, recogniser: Recogniser, data: TokenData, labels: Mapping[str, Label]) -> None:
        self.data = data
        none = Label((), "")
        clips = []
        for number, (name, frames) in enumerate(zip(data.names, data.num_frames)):
            label = labels.get(name, none)
            clips.append(Clip(name, frames, data.chunks(number), known(label.words), label.signer))
        super().__init__(recogniser, recogniser.timing(data.fps, data.chunk_len), clips)

    def rows(self, number: int) -> Tensor:
        """[N, P, Q] or [N, P, Z]"""
        return self.data.codes(number) if self.recogniser.source == "codes" else self.data.latents(number)

    def padded(self, numbers: Sequence[int]) -> Padded:
        rows = [self.rows(number) for number in numbers]
        lengths = [len(row) for row in rows]
        codes = self.recogniser.source == "codes"
        stream = pad(torch.cat(rows), lengths, -1 if codes else 0).to(self.recogniser.device)
        return Padded({self.recogniser.source: stream if codes else stream.float()}, tuple(lengths))


def of_tokens(recogniser: Recogniser, path: Path, labels: Mapping[str, Label] | None = None) -> TokenClips:
    recogniser.demand("codes", "latents")
    latents = recogniser.source == "latents"
    data = TokenData.open(path, recogniser.kept.tokenizer, latents=latents)
    if latents:
        if (given := tuple(data.latents(0).shape[1:])) != recogniser.kept.shape:
            trained = f"the recogniser was trained on {list(recogniser.kept.shape)}"
            raise UserError(f"{path}: its latents are {list(given)} a chunk, and {trained}")
    else:
        recogniser.checked_codes(data.codes(0), data.codebook_size)
    recogniser.check_parts(data.parts)
    return TokenClips(recogniser, data, labels or {})


def labels_of(data: RecognitionData, split: str) -> dict[str, Label]:
    """Of the clips of a split, by their names."""
    cache = open_cache(data)
    clips = [cache.clips[i] for i in cache.split(split)]
    return {clip.name: Label(words_of(clip.gloss, data.clean), clip.signer) for clip in clips}


# -- a file of poses


class PoseClips(Clips):
    def __init__(self, recogniser: Recogniser, name: str, joints: Tensor) -> None:
        """joints [T', J, 3] as the front end gives them."""
        self.joints = joints
        super().__init__(recogniser, recogniser.timing(), [Clip(name, len(joints), len(joints), None)])

    def padded(self, numbers: Sequence[int]) -> Padded:
        return Padded({"keypoints": self.joints[None].to(self.recogniser.device)}, (len(self.joints),))


def of_poses(recogniser: Recogniser, path: Path, fps: float | None = None) -> PoseClips:
    recogniser.demand("keypoints")
    joints = recogniser.skeleton.num_joints

    def accept(shape: Shape) -> None:
        if len(shape) != 3 or shape[0] == 0 or shape[1] not in (joints, joints + 1) or shape[2] != 3:
            raise UserError(f"shape {list(shape)}")

    try:
        poses = read_npy(path, accept)
    except ValueError as error:
        expected = f"[T, {joints}, 3] or, with the picture's size as first row, [T, {joints + 1}, 3] is expected"
        raise UserError(f"{path}: {error}; {expected}") from None
    raw = as_raw(poses[:, -joints:])
    return PoseClips(recogniser, path.stem, prepare(raw, recogniser.skeleton, recogniser.config.data, fps=fps).frames)
