"""Clips of a cache, as many at a time as are encoded at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from signstream.io.pose_cache import PoseCache

BATCH_FRAMES = 4096  # encoded at once


def groups(cache: PoseCache, clips: Sequence[int]) -> Iterator[list[int]]:
    """The clips in their order, about BATCH_FRAMES at a time."""
    group: list[int] = []
    size = 0
    for i in clips:
        if group and size + cache.clips[i].length > BATCH_FRAMES:
            yield group
            group = []
            size = 0
        group.append(i)
        size += cache.clips[i].length
    if group:
        yield group
