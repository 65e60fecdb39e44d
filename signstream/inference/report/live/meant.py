"""What the clips of a live run mean: their text, and of long recordings each sentence with its times.

meant = meant_in(config.data, "test", names)    -> Meant(cache, clips), clips by their names
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from signstream.config.common import Poses
from signstream.data.cache import open_cache
from signstream.data.datasets import open_data
from signstream.data.recordings import Recording, recording_of
from signstream.io.pose_cache import PoseCache


class MeantClip(NamedTuple):
    number: int  # in the cache
    text: str  # "": nobody says
    recording: Recording  # without sentences: it is one


class Meant(NamedTuple):
    cache: PoseCache
    clips: dict[str, MeantClip]


def meant_in(data: Poses, split: str, names: Sequence[str], *, file: Path) -> Meant:
    """`file`: where the names stand."""
    cache, source = open_cache(data), open_data(data)
    lower = getattr(data, "lower", False)  # of a translator's data
    clips = {}
    for number in cache.find(split, names, str(file)):
        clip = cache.clips[number]
        recording = recording_of(source, split, clip)
        if lower:
            sentences = (sentence._replace(text=sentence.text.lower()) for sentence in recording.sentences)
            recording = recording._replace(sentences=tuple(sentences))
        text = (clip.text.lower() if lower else clip.text).strip()
        clips[clip.name] = MeantClip(number, text, recording)
    return Meant(cache, clips)
