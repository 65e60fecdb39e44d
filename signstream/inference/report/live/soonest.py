"""What nobody who guesses nothing can be earlier than: each word of the reference, as soon as its signs have been seen.

    run = soonest(run, meant, targets, behind=200)    -> LiveRun: behind the same chunks what could be said by then

When that is, data/live_targets.py knows: from the annotation's segments, else from each word's share of the clip. What
words stand for is learnt from the clips' own split, too: else a word that training lacks would wait for all signs.
"""

from __future__ import annotations

from collections.abc import Sequence

from signstream.data.earliest import words_in
from signstream.data.live_targets import Targets
from signstream.inference.report.live.events import LiveClip, LiveRun
from signstream.inference.report.live.meant import Meant

ROUNDED = 0.01  # frames: a chunk is whole ones, and a file's times are rounded


def soonest(run: LiveRun, meant: Meant, targets: Targets, *, behind: float) -> LiveRun:
    """`behind`: ms that the front end looks ahead."""
    clips = {name: _soonest(clip, meant, targets, behind=behind) for name, clip in run.clips.items()}
    return LiveRun("soonest", clips)


def _soonest(live: LiveClip, meant: Meant, targets: Targets, *, behind: float) -> LiveClip:
    known = meant.clips[live.name]
    clip, words = meant.cache.clips[known.number], words_in(known.text)
    heard = [update.consumed for update in live.updates if update.consumed < live.signing]
    frames = _chunk(heard, live.signing, behind) * targets.fps / 1000  # at the tokens' rate
    if abs(frames - round(frames)) < ROUNDED:
        frames = round(frames)
    after = targets.timed(clip, words, chunks=len(heard) + 1, size=frames).after
    updates = []
    for at, update in enumerate(live.updates):
        there = [word for word, chunk in zip(words, after) if chunk <= at or update is live.updates[-1]]
        updates.append(update._replace(elapsed=update.consumed, computing=0.0, committed="".join(there), thought=""))
    return LiveClip(live.name, tuple(updates), live.signing)


def _chunk(heard: Sequence[float], signing: float, behind: float) -> float:
    """ms of one, of what had been read with each. Several may be known at once."""
    if not heard:
        return signing
    first = heard.count(heard[0])
    if len(heard) > first:
        return (heard[-1] - heard[0]) / (len(heard) - first)
    return (heard[0] - behind if heard[0] > behind else heard[0]) / first
