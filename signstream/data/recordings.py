"""What a long recording holds: its sentences, and what lies between them, each with its frames.

    recording_of(source, "test", clip) -> Recording(sentences, between)       clip: of the cache

They are the annotation's keys `sentences` and `between` (docs/synthetic.md), frames as the file has them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

from signstream.data.datasets import PoseData, Segment, segments_of
from signstream.data.sequences import text_fault
from signstream.errors import UserError, shown
from signstream.io.cache_index import CachedClip


class Signed(NamedTuple):
    """One sentence; times in milliseconds from the recording's first frame."""

    begins: float
    ends: float
    text: str


class Recording(NamedTuple):
    sentences: tuple[Signed, ...] = ()
    between: tuple[Signed, ...] = ()  # the text says what: a pause, ..


def recording_of(source: PoseData, split: str, clip: CachedClip) -> Recording:
    """Nothing, where the annotation has no sentences."""
    note = source.note(split, clip.name)
    if not isinstance(note, dict) or note.get("sentences") is None:
        return Recording()
    spans = [_span(item, clip.num_frames) for item in _list(note["sentences"])]
    whole = [span for span in spans if span is not None and not text_fault(span[2])]
    if not spans or len(whole) < len(spans) or any(second[0] < first[1] for first, second in pairwise(whole)):
        raise UserError(
            f"{source.root}: the sentences of {shown(clip.name)} are a list of {{start, end, text}}, one after the "
            f"other and within its {clip.num_frames} frames; they are {shown(note['sentences'])}"
        )
    between = segments_of(note.get("between"), clip.num_frames)
    return Recording(tuple(_timed(span, clip.fps) for span in whole), tuple(_timed(span, clip.fps) for span in between))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _span(item: Any, frames: int) -> Segment | None:
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        return None
    (span,) = segments_of([[item.get("start"), item.get("end"), item["text"]]], frames) or (None,)
    return span


def _timed(span: Segment, fps: float) -> Signed:
    return Signed(1000 * span[0] / fps, 1000 * span[1] / fps, span[2])
