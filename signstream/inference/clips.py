"""The clips that a trained network is to read, whatever they come from, a few at a time.

clips = SplitClips(reader, sequences, numbers)             of a data set
clips = of_tokens(reader, path, labels)                    a file of tokens; labels: what a data set's clips are
clips = of_poses(reader, path, fps)                        one file of poses
clips.all                                                  Clip each: name, frames, signer, and what it means, if known
for numbers, padded in clips.batches(range(..)): ...       streams as the reader's network takes them
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from signstream.config.sequences import SequenceData
from signstream.data.cache import open_cache
from signstream.data.frame_sequences import FrameSequences
from signstream.data.frontend import as_raw, prepare
from signstream.data.sentences import WithVisual
from signstream.data.sequences import Padded, Sequences, line_fault, pad, text_fault, words_of
from signstream.data.sources import TokenSequences
from signstream.data.tokens import TokenData
from signstream.errors import UserError
from signstream.inference.reader import Reader
from signstream.inference.timing import Timing
from signstream.io.pose_files import Shape, read_npy

STEPS, FRAMES = 4096, 256  # of a stream, of pictures, that are read at once
R = TypeVar("R", bound=Reader)


class Clip(NamedTuple):
    name: str
    frames: int
    steps: int  # of its streams
    words: tuple[str, ...] | None = None  # what is signed, cleaned; None: nobody says
    signer: str = ""
    text: str | None = None  # the sentence; None: nobody says


class Clips(ABC, Generic[R]):
    def __init__(self, reader: R, timing: Timing, clips: Sequence[Clip]) -> None:
        self.reader, self.timing, self.all = reader, timing, list(clips)

    @abstractmethod
    def padded(self, numbers: Sequence[int]) -> Padded:
        """The streams of some clips, on the reader's device."""

    def batches(self, numbers: Sequence[int], *, most: int | None = None) -> Iterator[tuple[list[int], Padded]]:
        """In their order, so many at a time that their steps are no more than STEPS, or one; at most `most`."""
        room = FRAMES if self.reader.source == "frames" else STEPS
        group: list[int] = []
        size = 0
        for number in numbers:
            steps = self.all[number].steps
            if group and (size + steps > room or len(group) == most):
                yield group, self.padded(group)
                group, size = [], 0
            group.append(number)
            size += steps
        if group:
            yield group, self.padded(group)


def known(words: tuple[str, ...]) -> tuple[str, ...] | None:
    """A line that something can be held against."""
    return None if line_fault(words) else words


def sentence(text: str) -> str | None:
    """Likewise."""
    return None if text_fault(text) else text


# -- a split


class SplitClips(Clips[R]):
    def __init__(self, reader: R, sequences: Sequences, numbers: Sequence[int]) -> None:
        self.sequences, self.numbers = sequences, list(numbers)
        timing = reader.timing()
        if isinstance(sequences, TokenSequences):
            first = next(iter(sequences.tokens.values()))
            timing = reader.timing(first.fps, first.chunk_len)
        super().__init__(reader, timing, [_clip(sequences, number) for number in numbers])

    def padded(self, numbers: Sequence[int]) -> Padded:
        raw = self.sequences.read([self.numbers[number] for number in numbers], 0).to(self.reader.device)
        return self.sequences.padded(raw, train=False)


def _clip(sequences: Sequences, number: int) -> Clip:
    example = sequences.examples[number]
    frames = _frames(sequences, number)
    words, text = known(example.words), sentence(example.text)
    return Clip(example.name, frames, example.length, words, signer=example.signer, text=text)


def _frames(sequences: Sequences, number: int) -> int:
    if isinstance(sequences, WithVisual):
        return _frames(sequences.inner, number)
    example = sequences.examples[number]
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
    text: str = ""


class TokenClips(Clips[R]):
    def __init__(self, reader: R, data: TokenData, labels: Mapping[str, Label]) -> None:
        self.data = data
        none = Label((), "")
        clips = []
        for number, (name, frames) in enumerate(zip(data.names, data.num_frames)):
            label = labels.get(name, none)
            words, text = known(label.words), sentence(label.text)
            clips.append(Clip(name, frames, data.chunks(number), words, signer=label.signer, text=text))
        super().__init__(reader, reader.timing(data.fps, data.chunk_len), clips)

    def rows(self, number: int) -> Tensor:
        """[N, P, Q] or [N, P, Z]"""
        return self.data.codes(number) if self.reader.source == "codes" else self.data.latents(number)

    def padded(self, numbers: Sequence[int]) -> Padded:
        rows = [self.rows(number) for number in numbers]
        lengths = [len(row) for row in rows]
        codes = self.reader.source == "codes"
        stream = pad(torch.cat(rows), lengths, -1 if codes else 0).to(self.reader.device)
        return Padded({self.reader.source: stream if codes else stream.float()}, tuple(lengths))


def of_tokens(reader: R, path: Path, labels: Mapping[str, Label] | None = None) -> TokenClips[R]:
    reader.demand("codes", "latents")
    latents = reader.source == "latents"
    data = TokenData.open(path, reader.trained_on.tokenizer, latents=latents)
    if latents:
        if (given := tuple(data.latents(0).shape[1:])) != reader.trained_on.shape:
            trained = f"{reader.who} was trained on {list(reader.trained_on.shape)}"
            raise UserError(f"{path}: its latents are {list(given)} a chunk, and {trained}")
    else:
        reader.checked_codes(data.codes(0), data.codebook_size)
    reader.check_parts(data.parts)
    return TokenClips(reader, data, labels or {})


def labels_of(data: SequenceData, split: str) -> dict[str, Label]:
    """Of the clips of a split, by their names."""
    cache = open_cache(data)
    clips = [cache.clips[i] for i in cache.split(split)]
    return {clip.name: Label(words_of(clip.gloss, data.clean), clip.signer, clip.text) for clip in clips}


# -- a file of poses


class PoseClips(Clips[R]):
    def __init__(self, reader: R, name: str, joints: Tensor) -> None:
        """joints [T', J, 3] as the front end gives them."""
        self.joints = joints
        super().__init__(reader, reader.timing(), [Clip(name, len(joints), len(joints))])

    def padded(self, numbers: Sequence[int]) -> Padded:
        return Padded({"keypoints": self.reader.view(self.joints)[None].to(self.reader.device)}, (len(self.joints),))


def of_poses(reader: R, path: Path, fps: float | None = None) -> PoseClips[R]:
    reader.demand("keypoints")
    joints = reader.skeleton.num_joints

    def accept(shape: Shape) -> None:
        if len(shape) != 3 or shape[0] == 0 or shape[1] not in (joints, joints + 1) or shape[2] != 3:
            raise UserError(f"shape {list(shape)}")

    try:
        poses = read_npy(path, accept)
    except ValueError as error:
        expected = f"[T, {joints}, 3] or, with the picture's size as first row, [T, {joints + 1}, 3] is expected"
        raise UserError(f"{path}: {error}; {expected}") from None
    raw = as_raw(poses[:, -joints:])
    return PoseClips(reader, path.stem, prepare(raw, reader.skeleton, reader.data, fps=fps).frames)
