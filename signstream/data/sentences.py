"""Clips with their sentences, as both phases of translation read them.

    sequences = open_sentences(config.data)                  as sequences.py has them
    raw = sequences.read([3, 8], seed)                       in a worker
    sentence_batch(sequences, raw.to(device), train=True)    SentenceBatch

    B clips   S steps of the source, padded   n points   V rows of W visual features   P Q K Z as of tokens

Streams: keypoints [B, S, n, 3] (points_seen says what they are), or latents, codes, glosses [B, S] int64 (-1 past the
end); beside any of them visual [B, V, W].
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from signstream.config import PoseAugment
from signstream.config.translation import SentenceData
from signstream.data.cache import open_cache
from signstream.data.datasets import skeleton_of
from signstream.data.joints75 import NUM_POINTS, SHARED_JOINTS, SHARED_POINTS
from signstream.data.sequences import Padded, Sequences, pad
from signstream.data.sources import PoseSequences, TokenSequences, example_of, open_more, open_tokens
from signstream.data.text import UNKNOWN, Glosses
from signstream.data.visual import Visual, moments
from signstream.errors import UserError
from signstream.io.batch import Movable, StreamBatch
from signstream.io.cache_index import CachedClip
from signstream.io.dataloader_utils import step_seed
from signstream.io.pose_cache import PoseCache
from signstream.skeleton import Part, Skeleton
from signstream.space import local_view


@dataclass(frozen=True)
class SentenceBatch(Movable):
    """B clips with the sentences that they mean."""

    streams: dict[str, Tensor]  # name -> [B, S, ...]; visual [B, V, W]
    lengths: Tensor  # [B] int64
    steps: tuple[int, ...]  # B: the lengths
    texts: tuple[str, ...]  # B
    words: tuple[tuple[str, ...], ...]  # B: glosses
    index: tuple[int, ...]  # B
    draw: int  # the seed of what a network drops

    def __len__(self) -> int:
        return len(self.index)


def sentence_batch(sequences: Sequences, raw: StreamBatch, *, train: bool) -> SentenceBatch:
    """`raw` lies on the device. `train`: augmented."""
    padded = sequences.padded(raw, train=train)
    device = next(iter(padded.streams.values())).device
    examples = [sequences.examples[clip] for clip in raw.index]
    return SentenceBatch(
        padded.streams,
        torch.tensor(padded.lengths, dtype=torch.int64).to(device, non_blocking=True),
        steps=padded.lengths,
        texts=tuple(example.text for example in examples),
        words=tuple(example.words for example in examples),
        index=raw.index,
        draw=step_seed(raw.seed, 2),  # not what augmentation draws
    )


def open_sentences(data: SentenceData, quiet: bool = False) -> Sequences:
    cache = open_cache(data, quiet)
    sequences = _source(cache, data)
    if data.lower:
        sequences.examples = [example._replace(text=example.text.lower()) for example in sequences.examples]
    if data.visual is None:
        return sequences
    return WithVisual(
        sequences, Visual.open(data, data.visual), shares={(c.split, c.name): share(c, data) for c in cache.clips}
    )


def leave_out_too_long(
    sequences: Sequences, steps: Callable[[Tensor], Tensor], *, most: int, augment: PoseAugment
) -> None:
    """Clips that a text model has no room for, at the slowest that is drawn in training, leave their split. `steps`:
    [N] of clips -> [N] of what the text model reads."""
    slower = 1 + augment.time_warp_range * augment.time_warp
    for split, clips in sequences.splits.items():
        lengths = torch.tensor([sequences.most_steps(clip) for clip in clips], dtype=torch.float64)
        longest = steps((lengths * (slower if split == "train" else 1)).ceil().long())
        for clip, count in zip(list(clips), longest.tolist()):
            if count > most:
                reason = f"too long: {count} steps, and the text model reads {most}; data.max_frames cuts clips"
                sequences.leave_out(clip, reason)


def _source(cache: PoseCache, data: SentenceData) -> Sequences:
    if data.source == "keypoints":
        return PointSequences(cache, data)
    if data.source == "glosses":
        return GlossSequences(cache, data)
    tokens = open_tokens(cache, data)
    return TokenSequences(cache, data, tokens, more=open_more(data, tokens["train"]), means="text")


def share(clip: CachedClip, data: SentenceData) -> float:
    """Of a file's frames, how many data.max_frames leaves."""
    if data.max_frames is None or clip.length < data.max_frames:
        return 1.0
    whole = round(clip.num_frames * data.fps / clip.fps)  # as the front end has it
    return min(1.0, clip.length / max(whole, 1))


class PointSequences(PoseSequences):
    """A step is a frame."""

    def __init__(self, cache: PoseCache, data: SentenceData) -> None:
        super().__init__(cache, data, "text")
        self.points, self.shape = data.points, (data.points,)
        self.body: Skeleton = skeleton_of(data)

    def padded(self, raw: StreamBatch, *, train: bool) -> Padded:
        streams, lengths = super().padded(raw, train=train)
        return Padded({"keypoints": points_seen(streams["keypoints"], self.body, self.points)}, lengths)


def points_seen(joints: Tensor, skeleton: Skeleton, points: int) -> Tensor:
    """joints [.., J, 3] (x, y from the nose, weight) -> [.., n, 3]: a part with a partner on the other side, as a hand,
    from its centre, and that centre from the nose. `points` J: all joints; else MediaPipe's 75, 0 where COCO-WholeBody
    has none."""
    seen = joints.clone()
    for part in skeleton.parts:
        partner = skeleton.mirror_image(part)
        if partner is not None and partner.joints != part.joints:
            seen[..., part.joints, :2] = from_centre(joints, part)
    if points == joints.shape[-2]:
        return seen
    out = seen.new_zeros(*seen.shape[:-2], NUM_POINTS, 3)
    out[..., list(SHARED_POINTS), :] = seen[..., list(SHARED_JOINTS), :]
    return out


def from_centre(joints: Tensor, part: Part) -> Tensor:
    """[.., J_p, 2]; the part's own centre joint stays from where it was."""
    xy = local_view(joints[..., :2], joints[..., 2], part)
    centre = part.centre - part.joints.start
    if 0 <= centre < xy.shape[-2]:
        xy[..., centre, :] = joints[..., part.centre, :2]
    return xy


class GlossSequences(Sequences):
    """A step is a gloss, by its number in training; one that training has not is the last. What a recogniser without
    errors would hand over: an upper bound of translation."""

    def __init__(self, cache: PoseCache, data: SentenceData) -> None:
        examples = [example_of(clip, data, 0) for clip in cache.clips]
        examples = [example._replace(length=len(example.words)) for example in examples]
        super().__init__(examples, list(cache.splits), cache.skipped, means="text")
        for clip, example in enumerate(self.examples):
            if not example.words and clip in self.splits[example.split]:
                self.leave_out(clip, "no gloss")
        self.glosses = Glosses.of(self.examples[clip].words for clip in self.clips_of("train"))
        self.shape = (len(self.glosses) + 1,)
        self.tokenizer = hashlib.sha256("\n".join(self.glosses.names).encode()).hexdigest()[:16]  # a number's meaning

    def content(self, split: str) -> str:
        return "\n".join(" ".join(self.examples[clip].words) for clip in self.splits[split])

    def read(self, clips: Sequence[int], seed: int, train: bool = False) -> StreamBatch:
        rows = [self.glosses.ids(self.examples[clip].words) for clip in clips]
        ids = torch.tensor([i for row in rows for i in row], dtype=torch.int64)
        ids = torch.where(ids == UNKNOWN, len(self.glosses), ids)
        return StreamBatch({"glosses": ids}, tuple(map(len, rows)), tuple(clips), seed)

    def padded(self, raw: StreamBatch, *, train: bool) -> Padded:
        return Padded({"glosses": pad(raw.streams["glosses"], raw.lengths, -1)}, raw.lengths)

    def about(self) -> str:
        return "glosses"


class WithVisual(Sequences):
    """Any of these, and features of each clip's pictures beside its steps."""

    def __init__(self, inner: Sequences, visual: Visual, *, shares: Mapping[tuple[str, str], float]) -> None:
        self.inner, self.visual, self.shares, self.means = inner, visual, shares, inner.means
        self.examples, self.splits, self.skipped, self.least = inner.examples, inner.splits, inner.skipped, inner.least
        self.shape, self.vectors, self.parts, self.tokenizer = inner.shape, inner.vectors, inner.parts, inner.tokenizer
        visual.settle("train", [self.examples[clip].name for clip in self.splits.get("train", ())])
        for split, clips in self.splits.items():
            for clip in list(clips):
                if fault := visual.fault(split, self.examples[clip].name):
                    self.leave_out(clip, fault)
        if not self.splits.get("train"):
            why = next(line.reason for line in reversed(self.skipped) if line.split == "train")
            raise UserError(f"data.visual: no clip of train is left beside {visual.folder}, the last: {why}")
        self.visual_width = visual.shape[1]

    def content(self, split: str) -> str:
        names = [self.examples[clip].name for clip in self.splits[split]]
        return f"{self.inner.content(split)} {self.visual.digest(split, names)}"

    def read(self, clips: Sequence[int], seed: int, train: bool = False) -> StreamBatch:
        raw = self.inner.read(clips, seed, train)
        rows = [self.rows(clip) for clip in clips]
        beside = np.stack(rows) if rows else np.zeros((0, *self.visual.shape), np.float32)
        return replace(raw, whole={"visual": torch.from_numpy(beside)})

    def rows(self, clip: int) -> np.ndarray:
        split, name = self.examples[clip].split, self.examples[clip].name
        try:
            return self.visual.rows(split, name)
        except UserError as error:
            raise UserError(f"{self.visual.path(split, name)}: {error}") from None

    def most_steps(self, clip: int) -> int:
        return self.inner.most_steps(clip)

    def were_read(self, clips: Sequence[int]) -> None:
        self.inner.were_read(clips)

    def tracks(self, raw: StreamBatch, rng: np.random.Generator | None) -> list[np.ndarray]:
        return self.inner.tracks(raw, rng)

    def padded(self, raw: StreamBatch, *, train: bool) -> Padded:
        rows = raw.whole["visual"]  # [B, V, W]
        tracks = self.tracks(raw, np.random.default_rng(raw.seed) if train else None)
        chosen = [
            moments(rows.shape[1], track, whole=length / self.share(clip))
            for clip, length, track in zip(raw.index, raw.lengths, tracks)
        ]
        order = torch.from_numpy(np.stack(chosen) if chosen else np.zeros((0, rows.shape[1]), np.int64))
        order = order.to(rows.device, non_blocking=True)[..., None].expand_as(rows)
        streams, lengths = self.inner.padded(raw, train=train)
        return Padded({**streams, "visual": rows.gather(1, order)}, lengths)

    def share(self, clip: int) -> float:
        example = self.examples[clip]
        return self.shares[example.split, example.name]

    def about(self) -> str:
        return self.inner.about()

    def notes(self) -> str:
        return f"{self.inner.notes()}; visual features beside them, {list(self.visual.shape)} a clip"
