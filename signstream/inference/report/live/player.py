"""What the page of a live run shows: recordings, and under each the text at the time it was said.

    make_player(measured, meant.cache, fps, scores=scores)    -> {"clips": [...], "fps": ..., "parts": [...]}, for JSON

Clips are taken evenly from the worst to the best by chrF, so many that each may have STRETCH seconds and all together
MOST_FRAMES frames: 4.3 MB of positions, packed as in player_data.py. Of a longer recording the stretch is shown that
begins with a sentence and whose sentences, by chrF, are nearest to all of the recording's. Where text still comes when
signing is over, the last pose is held, for TAIL seconds at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any, NamedTuple

import torch

from signstream.inference.report.live.measure import Measured, MeasuredClip, text_of
from signstream.inference.report.player_data import packed, parts_of, shares
from signstream.io.pose_cache import PoseCache
from signstream.models.metrics import wer
from signstream.models.metrics.text import TextScores
from signstream.pictures.figure import frame_limits
from signstream.space import in_pixels

MOST_FRAMES = 6000  # of all clips together
STRETCH = 90  # seconds of a recording
FEWEST, MOST = 2, 10  # clips
LEAD = 500  # ms before the sentence that a stretch begins with
TAIL = 6000  # ms
MOST_UPDATES = 3000  # of a clip
EARLIER = 300  # characters of what was said before


class Stretch(NamedTuple):
    first: int  # frame
    stop: int
    end: float  # ms from the clip's first frame: where its text ends, too


def make_player(measured: Measured, cache: PoseCache, fps: float, *, scores: TextScores) -> dict[str, Any]:
    shown = chosen(measured.clips, cache, fps)
    lengths = [min(_frames(clip, cache), round(STRETCH * fps)) for clip in shown]
    return {
        "fps": fps,
        "joints": cache.skeleton.num_joints,
        "parts": parts_of(cache.skeleton),
        "blank": "" if scores.by_character else " ",
        "clips": [
            _clip(clip, cache, fps, most=most, scores=scores) for clip, most in zip(shown, shares(lengths, MOST_FRAMES))
        ],
    }


def chosen(clips: Sequence[MeasuredClip], cache: PoseCache, fps: float) -> list[MeasuredClip]:
    ordered = sorted(clips, key=lambda clip: clip.chrf or 0)
    usual = sum(min(_frames(clip, cache), STRETCH * fps) for clip in clips) / len(clips)
    count = min(max(int(MOST_FRAMES / usual), FEWEST), MOST, len(ordered))
    return [ordered[i * (len(ordered) - 1) // max(count - 1, 1)] for i in range(count)]


def _frames(clip: MeasuredClip, cache: PoseCache) -> int:
    return cache.clips[clip.meant.number].length


def _clip(clip: MeasuredClip, cache: PoseCache, fps: float, *, most: int, scores: TextScores) -> dict[str, Any]:
    about = cache.clips[clip.meant.number]
    stretch = stretch_of(clip, about.length, fps, most=most, scores=scores)
    rows = torch.from_numpy(cache.frames(clip.meant.number)[stretch.first : stretch.stop].copy())
    poses = in_pixels(rows[:, 1:], rows[:, 0]).numpy()
    limits = frame_limits(poses)
    box = (limits.left, limits.top, limits.right, limits.bottom)
    begins = 1000 * stretch.first / fps
    return {
        "name": about.name,
        "signer": about.signer,
        "chrf": clip.chrf,
        "posed": stretch.stop - stretch.first,
        "frames": max(ceil((stretch.end - begins) * fps / 1000), stretch.stop - stretch.first),
        "begins": begins,
        "signing": clip.live.signing,
        "cut": stretch.stop - stretch.first < about.length,
        "box": [round(side, 2) for side in box],
        "original": packed(poses, box),
        "recording": bool(clip.meant.recording.sentences),
        "sentences": list(_sentences(clip, begins, stretch.end, scores=scores)),
        "between": [
            list(span) for span in clip.meant.recording.between if span.ends > begins and span.begins < stretch.end
        ],
        **texts_of(clip, begins, stretch.end, apart=scores.by_character),
    }


def stretch_of(clip: MeasuredClip, frames: int, fps: float, *, most: int, scores: TextScores) -> Stretch:
    first = 0
    if frames > most and clip.meant.recording.sentences:
        first = min(max(int((_typical(clip, 1000 * most / fps, scores) - LEAD) * fps / 1000), 0), frames - most)
    stop = min(first + most, frames)
    end = 1000 * stop / fps
    if stop == frames:
        changes = [update.elapsed for update in _changed(clip)]
        end = max(end, min(max(changes, default=0.0) + 500, end + TAIL))
    return Stretch(first, stop, end)


def _typical(clip: MeasuredClip, span: float, scores: TextScores) -> float:
    """Where, in ms, the sentence begins from which on the sentences of `span` ms are the most usual."""
    rated = [(one.begins, scores.chrf_of(one.meant, text_of(one.said.units, scores))) for one in clip.sentences]
    usual = sum(score for _, score in rated) / len(rated)
    last = max(begins for begins, _ in rated)

    def far(begins: float) -> float:
        some = [score for at, score in rated if begins <= at < begins + span]
        return abs(sum(some) / len(some) - usual)

    return min((begins for begins, _ in rated if begins + span <= last or begins == rated[0][0]), key=far)


def _sentences(clip: MeasuredClip, begins: float, end: float, *, scores: TextScores) -> Iterator[dict[str, Any]]:
    """Those that lie in the stretch, or whose text comes in it; times from the clip's first frame."""
    for one in clip.sentences:
        stop = one.begins + one.said.signing
        said = [one.begins + unit.elapsed for unit in one.said.units]
        if one.begins < end and max([stop, *said]) > begins:
            units = [unit.text for unit in one.said.units]
            yield {
                "begins": round(one.begins),
                "ends": round(stop),
                "said": [round(at) for at in said],
                "pairs": [list(pair) for pair in wer.align(scores.units(one.meant), units)],
            }


class _Change(NamedTuple):
    elapsed: float
    committed: str
    thought: str

    @property
    def shown(self) -> str:
        return self.committed + self.thought


def _changed(clip: MeasuredClip) -> list[_Change]:
    """The updates that changed what stands there."""
    out = [_Change(0.0, "", "")]
    for update in clip.live.updates:
        if (update.committed, update.thought) != out[-1][1:]:
            out.append(_Change(max(update.elapsed, update.consumed), update.committed, update.thought))
    return out[1:]


def texts_of(clip: MeasuredClip, begins: float, end: float, *, apart: bool) -> dict[str, Any]:
    """`earlier`: the end of what was committed before. An update is [ms, committed since the one before, thought, where
    the text before was left, what of it was taken back]; places are characters, from where the text begins that is
    shown."""
    changes = _changed(clip)
    before = [change for change in changes if change.elapsed < begins]
    last = before[-1] if before else _Change(begins, "", "")
    hidden = max(len(last.committed) - EARLIER, 0)
    updates: list[list[Any]] = []
    earlier = last
    for change in [change for change in changes if begins <= change.elapsed < end][:MOST_UPDATES]:
        kept = kept_of(last.shown, change.shown, apart=apart)
        taken = last.shown[kept:]
        added = change.committed[len(last.committed) :]
        updates.append([round(change.elapsed), added, change.thought, max(kept - hidden, 0), taken])
        last = change
    return {"earlier": earlier.committed[hidden:], "guess": earlier.thought, "more": hidden > 0, "updates": updates}


def kept_of(before: str, after: str, *, apart: bool = False) -> int:
    """Characters of `before` that still stand: in whole words, unless the last one goes on or words are characters."""
    same = next((i for i, (old, new) in enumerate(zip(before, after)) if old != new), min(len(before), len(after)))
    if apart or same == len(before) or (same == len(after) and before[same].isspace()):
        return same
    while same and not before[same - 1].isspace():
        same -= 1
    return same
