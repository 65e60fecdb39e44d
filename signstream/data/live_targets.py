"""When each word of a clip may be said at the earliest, for whoever writes what a language model that speaks while
signing goes on is trained on: export, and training itself.

    targets = Targets.of(cache, data, signs)              signs: a file as inference/recognize.py writes it, or none
    targets.timed(clip, words, chunks=N, size=10) -> Timed(by, after)
    ids_of_words(words, text_ids)                         the ids of each word

It is known (earliest.py) from the clip's gloss segments where it has them, else from where a recogniser saw its
glosses, else from its share of the clip: `by` says which. What words stand for is learnt from the training split.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from signstream.config.common import Poses
from signstream.data.earliest import Needs, Sign, earliest, seen, words_in
from signstream.errors import UserError, refusal, shown
from signstream.io.cache_index import CachedClip
from signstream.io.pose_cache import PoseCache
from signstream.text_files import read_text

LARGEST = 1 << 30  # bytes of a recogniser's file; a clip takes about 500

TextIds = Callable[[str], list[int]]


class Spans(NamedTuple):
    """Where glosses were signed."""

    glosses: tuple[str, ...]
    stops: tuple[int, ...]  # one past the last frame of each
    fps: float


class Timed(NamedTuple):
    by: str  # segments, recogniser or share
    after: list[int]  # of each word, the chunk behind which it may be said; of a clip without a chunk the end, 0


class Targets(NamedTuple):
    needs: Needs
    spans: Mapping[str, Spans]  # as a recogniser saw them, by the clips' names
    fps: float  # of the tokens
    check: int  # of all that a clip's line depends on besides the clip

    @classmethod
    def of(cls, cache: PoseCache, data: Poses, signs: Path | None, *, option: str = "--signs") -> Targets:
        """`option`: which the file was named by."""
        text = "" if signs is None else _read(signs, option)
        spans = {} if signs is None else dict(_spans(text, f"{option} {signs}"))
        train = [cache.clips[i] for i in cache.splits.get("train", [])]
        needs = Needs.of((words_in(clip.text), _glosses(clip)) for clip in train)
        return cls(needs, spans, data.fps, zlib.crc32(text.encode()))

    def timed(self, clip: CachedClip, words: Sequence[str], *, chunks: int, size: float) -> Timed:
        """`size`: frames of a chunk, at the tokens' rate. Of a clip that is read at another speed, which has other
        `chunks` than its frames make, it is how many of its own frames one of them holds on the mean."""
        by, spans = "segments", Spans(_glosses(clip), tuple(stop for _, stop, _ in clip.segments), clip.fps)
        if not clip.segments:
            by, spans = "recogniser", self.spans.get(clip.name, Spans((), (), self.fps))
        signs: tuple[Sign, ...] = ()
        if all(self.needs.gloss(word, spans.glosses) is None for word in words):
            by = "share"
        else:
            signs = seen(spans.glosses, spans.stops, size=size * spans.fps / self.fps, chunks=chunks)
        return Timed(by, earliest(words, chunks, signs=signs, needs=self.needs) if chunks else [0] * len(words))


def ids_of_words(words: Sequence[str], text_ids: TextIds) -> list[list[int]]:
    """The ids of the whole text, shared out: a word has those that make it and the words before it up. Where a
    tokenizer joins two words, the second has the ids of both."""
    whole = text_ids("".join(words))
    out: list[list[int]] = []
    begun, text = 0, ""
    for word in words:
        text += word
        ids = whole if len(out) == len(words) - 1 else text_ids(text)
        end = len(ids) if whole[: len(ids)] == ids else begun
        out.append(whole[begun:end])
        begun = max(begun, end)
    return out


def _glosses(clip: CachedClip) -> tuple[str, ...]:
    return tuple(gloss for _, _, gloss in clip.segments) or tuple(clip.gloss.split())


def _read(path: Path, option: str) -> str:
    try:
        return read_text(path, most=LARGEST)
    except OSError as error:
        raise UserError(f"{option} {path}: {refusal(error)}") from None
    except UnicodeDecodeError:
        raise UserError(f"{option} {path}: it is no text") from None


def _spans(text: str, named: str) -> Iterator[tuple[str, Spans]]:
    for number, line in enumerate(text.splitlines(), 1):
        try:
            clip = json.loads(line)
            pairs = [(sign["gloss"], sign["last"] + 1) for sign in clip["signs"]]
            glosses, stops = tuple(gloss for gloss, _ in pairs), tuple(stop for _, stop in pairs)
            fits = all(isinstance(gloss, str) for gloss in glosses) and all(type(stop) is int for stop in stops)
            if not fits or not isinstance(clip["name"], str) or not 0 < float(clip["fps"]) < 1e6:
                raise ValueError
        except (ValueError, TypeError, KeyError, RecursionError):
            what = f"{shown(line)} is none of recognize's lines: a JSON object with name, signs and fps is"
            raise UserError(f"{named}, line {number}: {what}") from None
        yield clip["name"], Spans(glosses, stops, float(clip["fps"]))
