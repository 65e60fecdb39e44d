"""Whole clips as they lie on the disk, one after another: what the reader's workers hand over.

ClipBatch      poses out of the cache
StreamBatch    whatever a clip's steps hold, by name
pack([frames [T, 1 + J, 3], ...], index) -> ClipBatch        batch.to(device), batch.pin_memory()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

Batch = TypeVar("Batch", bound="Movable")


@dataclass(frozen=True)
class Movable:
    """A batch whose tensors move and pin together."""

    def to(self: Batch, device: torch.device | str) -> Batch:
        return self.each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self: Batch) -> Batch:
        return self.each(Tensor.pin_memory)

    def each(self: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return replace(self, **{name: _changed(value, change) for name, value in values.items()})


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, dict):
        return {name: _changed(inner, change) for name, inner in value.items()}
    return change(value) if isinstance(value, Tensor) else value


@dataclass(frozen=True)
class ClipBatch(Movable):
    """B whole clips, M frames in all. Row 0 of a frame is its place (origin x, origin y, unit in pixels), rows 1..
    its joints."""

    frames: Tensor  # [M, 1 + J, 3]
    lengths: tuple[int, ...]  # B
    index: tuple[int, ...]  # B: which clips of the cache these are
    seed: int  # what this batch's augmentation is drawn with

    def part(self, start: int, stop: int, seed: int) -> ClipBatch:
        """Some of its clips, with a seed of their own."""
        return _part(self, start, stop, seed=seed)


@dataclass(frozen=True)
class StreamBatch(Movable):
    """B whole clips, M steps in all."""

    streams: dict[str, Tensor]  # name -> [M, ...]
    lengths: tuple[int, ...]  # B
    index: tuple[int, ...]  # B
    seed: int
    whole: dict[str, Tensor] = field(default_factory=dict)  # name -> [B, ...], of clips as wholes

    def part(self, start: int, stop: int, seed: int) -> StreamBatch:
        whole = {name: tensor[start:stop] for name, tensor in self.whole.items()}
        return replace(_part(replace(self, whole={}), start, stop, seed=seed), whole=whole)


Clips = TypeVar("Clips", ClipBatch, StreamBatch)


def _part(batch: Clips, start: int, stop: int, *, seed: int) -> Clips:
    first, last = sum(batch.lengths[:start]), sum(batch.lengths[:stop])
    rows = batch.each(lambda tensor: tensor[first:last])
    return replace(rows, lengths=batch.lengths[start:stop], index=batch.index[start:stop], seed=seed)


def pack(clips: Sequence[np.ndarray], index: Sequence[int], seed: int = 0, *, num_joints: int = 133) -> ClipBatch:
    """Clips as the cache holds them, [T, 1 + J, 3] each, one after another; no clip at all is a batch of no frame."""
    frames = torch.empty(sum(map(len, clips)), 1 + num_joints, 3)
    if get_worker_info() is not None:
        # Still empty: a worker then reads straight into what it shares, not there by way of its own memory.
        frames.share_memory_()
    if len(clips):
        np.concatenate(clips, out=frames.numpy())
    return ClipBatch(frames, tuple(len(clip) for clip in clips), tuple(index), seed)
