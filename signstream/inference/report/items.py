"""What the probe of meaning may be asked about: clips with glosses, and their gloss segments, as spans of chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from signstream.config import Data
from signstream.data.transforms import num_chunks
from signstream.io.pose_cache import CachedClip, PoseCache


class Item(NamedTuple):
    """A clip, or a gloss segment of one."""

    clip: int
    first: int  # chunk
    last: int  # one past the last chunk
    glosses: tuple[str, ...]


class Items(NamedTuple):
    whole: list[Item]  # clips with glosses
    segments: list[Item]

    def at_most(self, count: int) -> Items:
        """The first of either."""
        return Items(self.whole[:count], self.segments[:count])


def items_of(cache: PoseCache, clips: Sequence[int], data: Data) -> Items:
    """A clip of one gloss whose segments are not known is one segment."""
    whole: list[Item] = []
    segments: list[Item] = []
    for i in clips:
        clip = cache.clips[i]
        glosses = tuple(dict.fromkeys(clip.gloss.split()))
        all_of_it = Item(i, 0, num_chunks(clip.length, data.chunk_len), glosses)
        if glosses:
            whole.append(all_of_it)
        annotated = [
            Item(i, *chunks_within(first, last, clip, data=data), (gloss,)) for first, last, gloss in clip.segments
        ]
        segments += annotated or [all_of_it] * (len(glosses) == 1)
    return Items(whole, [item for item in segments if item.first < item.last])


def chunks_within(first: int, last: int, clip: CachedClip, *, data: Data) -> tuple[int, int]:
    """The chunks whose middle lies in the file's frames [first, last); where there is none, the chunk that holds the
    frames' middle. The first, and one past the last."""
    size = data.chunk_len * clip.fps / data.fps
    count = num_chunks(clip.length, data.chunk_len)
    inside = [t for t in range(count) if first <= (t + 0.5) * size < last]
    if inside:
        return inside[0], inside[-1] + 1
    middle = int((first + last) / 2 / size)
    return min(middle, count), min(middle + 1, count)
