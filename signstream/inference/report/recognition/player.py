"""What the page of a recogniser shows beside its numbers: clips with how likely each gloss is at each step, and what
the glosses that are confused look like.

    make_player(clips, measured, looks, count=10)   -> {"clips": [...], "fps": ..., "parts": [...]}, for JSON
    make_moments(measured, confusions, looks)       -> for each pair the mistake, and both glosses where they are right

Clips are chosen evenly over their lines from the one with the most errors a word to the best. Probabilities are bytes
in base64, [rows, S'], 255 for certainty.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from signstream.data.sources import PoseSequences
from signstream.inference.recognition.clips import SplitClips
from signstream.inference.report.looks import Looks
from signstream.inference.report.player_data import shares
from signstream.inference.report.recognition.measure import Line, Measured, Place, places_of

MOST_ROWS = 12  # glosses whose probabilities are shown
LIKELY = 0.1  # a gloss that was neither signed nor recognised is shown from here on
MOST_MOMENTS = 12  # pairs that are looked at


def make_player(clips: SplitClips, measured: Measured, looks: Looks, *, count: int) -> dict[str, Any]:
    worst_first = sorted(measured.lines, key=lambda line: -line.errors.rate)
    count = min(count, len(worst_first))
    shown = [worst_first[i * (len(worst_first) - 1) // max(count - 1, 1)] for i in range(count)]
    lengths = shares([line.clip.frames for line in shown], looks.most_frames)
    return {
        "fps": clips.timing.fps,
        "joints": clips.reader.skeleton.num_joints,
        "parts": looks.parts(),
        "frames_per_step": clips.timing.frames / clips.timing.steps,
        "clips": [_clip(clips, line, looks, frames=frames) for line, frames in zip(shown, lengths)],
    }


def _clip(clips: SplitClips, line: Line, looks: Looks, *, frames: int) -> dict[str, Any]:
    return {
        "name": line.clip.name,
        "signer": line.clip.signer,
        "frames": frames,
        "cut": frames < line.clip.frames,
        "pairs": [list(pair) for pair in line.pairs],
        "signs": [[*sign[:3], round(sign.confidence, 3)] for sign in line.found.signs if sign.first < frames],
        "segments": _segments(clips, line.number, frames),
        **_likely(clips, line, frames),
        **looks.whole(line.number, frames),
    }


def _likely(clips: SplitClips, line: Line, frames: int) -> dict[str, Any]:
    """The rows of probabilities, in the order in which their glosses are likeliest."""
    (_, padded), *_ = clips.batches([line.number])
    log_probs = clips.reader.emissions(padded).log_probs[0].float().cpu()  # [S', V]
    steps = [s for s in range(len(log_probs)) if clips.timing.span((s, s), line.clip.frames).first < frames]
    probs = log_probs[: len(steps)].exp()
    rows = _rows(probs, clips.reader.glosses.ids([*line.found.glosses, *line.words]))
    values = (255 * probs[:, rows].T).round().to(torch.uint8).numpy()
    names = clips.reader.glosses.words(rows)
    return {"rows": names, "steps": len(steps), "likely": base64.b64encode(values.tobytes()).decode()}


def _rows(probs: Tensor, named: Sequence[int]) -> list[int]:
    """Ids: first those that were recognised or signed, then others that were ever likely."""
    if not len(probs):
        return []
    most, when = probs.max(0)
    others = [i for i in most.argsort(descending=True).tolist() if i > 0 and most[i] > LIKELY]
    chosen = list(dict.fromkeys([*(i for i in named if i > 0), *others]))[:MOST_ROWS]
    return sorted(chosen, key=lambda i: int(when[i]))


def _segments(clips: SplitClips, number: int, frames: int) -> list[list[Any]]:
    """Where the annotation says that each gloss is signed, [first, last, gloss], if it says so."""
    if not isinstance(clips.sequences, PoseSequences):
        return []
    clip = clips.sequences.cache.clips[clips.numbers[number]]
    rate = clips.timing.fps / clip.fps
    spans = [(int(first * rate), int((stop - 1) * rate), gloss) for first, stop, gloss in clip.segments]
    return [[first, min(last, frames - 1), gloss] for first, last, gloss in spans if first < frames]


def make_moments(
    measured: Measured, confusions: Sequence[Mapping[str, Any]], looks: Looks
) -> list[dict[str, Any] | None]:
    """One a pair, as far as they are looked at."""
    places = places_of(measured.lines)
    moments: list[dict[str, Any] | None] = []
    for number, pair in enumerate(confusions):
        reference, hypothesis = pair["reference"], pair["hypothesis"]
        if number >= MOST_MOMENTS:
            moments.append(None)
            continue
        there = {
            "taken": places.taken[reference, hypothesis][0],
            "reference": places.right.get(reference),
            "hypothesis": places.right.get(hypothesis),
        }
        moments.append({name: place and _moment(place, looks) for name, place in there.items()})
    return moments


def _moment(place: Place, looks: Looks) -> dict[str, Any]:
    line, sign = place.line, place.line.found.signs[place.sign]
    about = {"clip": line.clip.name, "signer": line.clip.signer, "first": sign.first, "last": sign.last}
    return {**about, "confidence": round(sign.confidence, 3), **looks.moment(line.number, sign)}
