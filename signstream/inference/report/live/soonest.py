"""What nobody who guesses nothing can be earlier than: each word of the reference, as soon as its signs have been seen.

    run = soonest(run, meant, targets)    -> LiveRun("soonest", ...): behind the same chunks what could be said by then

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


def soonest(run: LiveRun, meant: Meant, targets: Targets) -> LiveRun:
    return LiveRun("soonest", {name: _soonest(clip, meant, targets) for name, clip in run.clips.items()})


def _soonest(live: LiveClip, meant: Meant, targets: Targets) -> LiveClip:
    known = meant.clips[live.name]
    clip, words = meant.cache.clips[known.number], words_in(known.text)
    heard = [update.consumed for update in live.updates if update.consumed < live.signing]
    frames = _chunk(heard, live.signing) * targets.fps / 1000  # at the tokens' rate
    if abs(frames - round(frames)) < ROUNDED:
        frames = round(frames)
    after = targets.timed(clip, words, chunks=len(heard) + 1, size=frames).after
    updates = []
    for at, update in enumerate(live.updates):
        there = [word for word, chunk in zip(words, after) if chunk <= at or update is live.updates[-1]]
        updates.append(update._replace(elapsed=update.consumed, computing=0.0, committed="".join(there), thought=""))
    return LiveClip(live.name, tuple(updates), live.signing)


def _chunk(heard: Sequence[float], signing: float) -> float:
    """ms. The first one comes later than it is long, by what the front end looks ahead."""
    if len(heard) < 2:
        return heard[0] if heard else signing
    return (heard[-1] - heard[0]) / (len(heard) - 1) or heard[0]
