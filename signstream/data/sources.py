"""What sequences can be read from: keypoints out of the pose cache; a tokenizer's latents or codes out of its files;
pictures (frame_sequences.py).

    sequences = open_sequences(config.data)      data.source says which

Labels, signers and splits are the data set's of `data.root`, whatever the source: a token file's clips are joined to
them by their names (tokens.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from signstream.config.recognition import RecognitionData
from signstream.config.sequences import SequenceData
from signstream.data import transforms
from signstream.data.cache import open_cache
from signstream.data.datasets import open_data
from signstream.data.frame_sequences import FrameSequences
from signstream.data.sequences import Example, Means, Padded, Sequences, hide, pad, tracks, words_of
from signstream.data.tokens import TokenData, joined
from signstream.errors import UserError
from signstream.io.batch import StreamBatch
from signstream.io.cache_index import CachedClip, Skipped
from signstream.io.dataloader_utils import read_clips, step_seed
from signstream.io.pose_cache import PoseCache
from signstream.space import only

HIDDEN_FRAMES, HIDDEN_CHUNKS = 15, 3  # in which a joint, or a part, loses a stretch: half a second, a whole one


def open_sequences(data: RecognitionData, quiet: bool = False) -> Sequences:
    if data.source == "frames":
        return FrameSequences(open_data(data), data)
    cache = open_cache(data, quiet)
    if data.source == "keypoints":
        return PoseSequences(cache, data)
    tokens = open_tokens(cache, data)
    return TokenSequences(cache, data, tokens, more=open_more(data, tokens["train"]))


def example_of(clip: CachedClip, data: SequenceData, length: int) -> Example:
    return Example(clip.name, clip.split, words_of(clip.gloss, data.clean), clip.signer, length, clip.text)


class PoseSequences(Sequences):
    """A step is a frame: the joints in unit lengths from the nose, and their weights."""

    def __init__(self, cache: PoseCache, data: SequenceData, means: Means = "glosses") -> None:
        examples = [example_of(clip, data, clip.length) for clip in cache.clips]
        super().__init__(examples, list(cache.splits), cache.skipped, means=means)
        self.cache, self.data = cache, data

    def content(self, split: str) -> str:
        return self.cache.digest(split)

    def read(self, clips: Sequence[int], seed: int, train: bool = False) -> StreamBatch:
        batch = read_clips(self.cache, clips, seed)
        return StreamBatch({"poses": batch.frames}, batch.lengths, batch.index, seed)

    def were_read(self, clips: Sequence[int]) -> None:
        self.cache.checked.update(clips)

    def padded(self, raw: StreamBatch, *, train: bool) -> Padded:
        augment, poses = self.data.augment, raw.streams["poses"]
        rng = np.random.default_rng(raw.seed) if train else None
        plan = padded_plan(raw.lengths, self.tracks(raw, rng))
        joints = transforms.cut(poses, plan)[:, :, 1:]  # [B, S, J, 3]
        if rng is not None and len(plan.clip):
            clips, skeleton = len(raw.lengths), self.cache.skeleton
            joints = transforms.move(joints, plan.clip, clips, augment=augment, skeleton=skeleton, rng=rng)
            if augment.dropout_prob:
                generator = torch.Generator().manual_seed(raw.seed)
                seen = hide(joints[..., 2], augment.dropout_prob, generator, window=HIDDEN_FRAMES)
                joints = only(joints, seen > 0)
        return Padded({"keypoints": joints}, tuple(plan.inside.sum(1).tolist()))

    def tracks(self, raw: StreamBatch, rng: np.random.Generator | None) -> list[np.ndarray]:
        return tracks(raw.lengths, self.data.augment, rng, least=[self.least[clip] for clip in raw.index])

    def about(self) -> str:
        return "frames of keypoints"

    def notes(self) -> str:
        return self.cache.notes()


def padded_plan(lengths: Sequence[int], steps: Sequence[np.ndarray]) -> transforms.Plan:
    """Every clip as one chunk, as long as the longest."""
    longest = max(map(len, steps), default=0)
    position, inside = np.zeros((len(steps), longest)), np.zeros((len(steps), longest), bool)
    starts = np.cumsum([0, *lengths])
    for clip, track in enumerate(steps):
        position[clip] = starts[clip]  # past the end: any of its own frames
        position[clip, : len(track)] += track
        inside[clip, : len(track)] = True
    return transforms.Plan(position, inside, np.arange(len(steps)), np.zeros(len(steps), np.int64))


class TokenSequences(Sequences):
    """A step is a chunk: the codes of its parts, or the latents that were quantised to them."""

    def __init__(
        self,
        cache: PoseCache,
        data: SequenceData,
        tokens: Mapping[str, TokenData],
        *,
        more: Sequence[TokenData] = (),
        means: Means = "glosses",
    ) -> None:
        examples: list[Example] = []
        skipped: list[Skipped] = [line for line in cache.skipped if line.split not in tokens]
        self.numbers: list[int] = []  # of each clip's line in its split's file
        for split, file in tokens.items():
            found = joined(file, cache, split)
            examples += [example_of(each.clip, data, file.chunks(each.number)) for each in found.clips]
            self.numbers += [each.number for each in found.clips]
            skipped += found.left_out
        super().__init__(examples, list(tokens), skipped, means=means)
        self.data, self.tokens = data, dict(tokens)
        self.more = tuple(more)  # of training's clips, in other tokens
        self.contents: dict[tuple[int, ...], str] = {}
        first = tokens["train"]
        self.tokenizer, self.parts = first.digest, first.parts
        if data.source == "codes":
            self.vectors = first.vectors
            self.shape = tuple(first.vectors.shape)
        else:
            self.shape = tuple(first.latents(0).shape[1:])
        self.missing = [split for split, clips in cache.splits.items() if clips and split not in tokens]

    def content(self, split: str) -> str:
        """Of the codes: latents are held against them when their file is opened. Worked out once, for the clips that
        the split has then."""
        clips = tuple(self.splits[split])
        if clips not in self.contents:
            digest = hashlib.sha256(self.tokens[split].digest.encode())
            for clip in clips:
                name = self.examples[clip].name
                for file in (self.tokens[split], *(self.more if split == "train" else ())):
                    if name in file:
                        digest.update(file.codes(name).numpy().data)
            self.contents[clips] = digest.hexdigest()
        return self.contents[clips]

    def read(self, clips: Sequence[int], seed: int, train: bool = False) -> StreamBatch:
        rng = np.random.default_rng(step_seed(seed, 3)) if train and self.more else None  # not what augmentation draws
        rows = [self.rows(clip, rng) for clip in clips]
        some = rows or [self.rows(0)[:0]]
        lengths = tuple(len(row) for row in rows)
        return StreamBatch({self.data.source: torch.cat(some)}, lengths, tuple(clips), seed)

    def rows(self, clip: int, rng: np.random.Generator | None = None) -> Tensor:
        """[N, P, Q] or [N, P, Z]; with `rng` of one of the files that have the clip."""
        file, name = self.tokens[self.examples[clip].split], self.examples[clip].name
        if rng is not None:
            files = [file, *self.having(clip)]
            file = files[int(rng.integers(len(files)))]
        return file.codes(name) if self.data.source == "codes" else file.latents(name)

    def having(self, clip: int) -> list[TokenData]:
        """Those of the files with other tokens that have a clip, and enough of it for its words."""
        name, own = self.examples[clip].name, self.examples[clip].length
        need = min(self.least[clip], own)
        return [file for file in self.more if name in file and file.chunks(name) >= need]

    def most_steps(self, clip: int) -> int:
        name, others = self.examples[clip].name, self.more if self.examples[clip].split == "train" else ()
        return max(self.length(clip), *(file.chunks(name) for file in others if name in file), 0)

    def padded(self, raw: StreamBatch, *, train: bool) -> Padded:
        augment, rows = self.data.augment, raw.streams[self.data.source]
        steps = self.tracks(raw, np.random.default_rng(raw.seed) if train else None)
        starts = np.cumsum([0, *raw.lengths])
        nearest = [start + np.rint(track).astype(np.int64) for start, track in zip(starts, steps)]
        lengths = [len(track) for track in nearest]
        index = torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *nearest])).to(rows.device)
        empty = -1 if self.data.source == "codes" else 0
        padded = pad(rows.index_select(0, index), lengths, empty)  # [B, S, P, Q or Z]
        if train and augment.dropout_prob:
            generator = torch.Generator().manual_seed(raw.seed)
            shown = torch.ones(padded.shape[:3])
            shown = hide(shown, augment.dropout_prob, generator, window=HIDDEN_CHUNKS)
            padded = padded.masked_fill((shown == 0).to(padded.device)[..., None], empty)
        stream = padded if padded.dtype == torch.int64 else padded.float()
        return Padded({self.data.source: stream}, tuple(lengths))

    def tracks(self, raw: StreamBatch, rng: np.random.Generator | None) -> list[np.ndarray]:
        return tracks(raw.lengths, self.data.augment, rng, least=[self.least[clip] for clip in raw.index])

    def about(self) -> str:
        return f"chunks of {self.data.source}, by the tokenizer {self.tokenizer}"

    def notes(self) -> str:
        return "".join(f"; no file of tokens for {split}" for split in self.missing)


def open_tokens(cache: PoseCache, data: SequenceData) -> dict[str, TokenData]:
    """The files of the splits that have one, all of one tokenizer and of the same parts."""
    files: dict[str, TokenData] = {}
    for split, clips in cache.splits.items():
        path = Path(data.tokens_of(split))
        if clips and path.exists():
            digest = next((file.digest for file in files.values()), None)
            files[split] = TokenData.open(path, digest, latents=data.source == "latents")
    if "train" not in files:
        raise UserError(
            f"data.tokens: there is no {data.tokens_of('train')}: export_tokens writes one for each split "
            "(data.tokens=DIR/{split}.jsonl)"
        )
    for file in files.values():
        check_parts(file, files["train"])
    return files


def open_more(data: SequenceData, train: TokenData) -> list[TokenData]:
    files = [TokenData.open(path, train.digest, latents=data.source == "latents") for path in data.more_tokens]
    for file in files:
        check_parts(file, train)
    return files


def check_parts(file: TokenData, train: TokenData) -> None:
    if file.parts != train.parts:
        parts, expected = ", ".join(file.parts), ", ".join(train.parts)
        raise UserError(f"{file.path}: its tokens are of the parts {parts}, those of train of {expected}")
