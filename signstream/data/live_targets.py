"""When each word of a clip may be said at the earliest, for whoever writes what a language model that speaks while
signing goes on is trained on: export, and training itself.

    targets = Targets.of(cache, data, signs, source=open_data(data))       signs: a file of inference/recognize.py's
    targets = targets.later(2)                            a word waits so many chunks more, at the latest to the end
    targets.timed(clip, words, chunks=N, size=10) -> Timed(by, after)
    ids_of_words(words, text_ids)                         the ids of each word

It is known (earliest.py) from the clip's gloss segments where it has them, else from where a recogniser saw its
glosses, else from its share of the clip: `by` says which. What words stand for is learnt from the training split. Of a
recording of many sentences (recordings.py) each is a clip of its own: no word waits for another sentence's signs.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

from signstream.config.common import Poses
from signstream.data.datasets import PoseData
from signstream.data.earliest import Needs, earliest, seen, words_in
from signstream.data.recordings import Signed, recording_of
from signstream.errors import UserError, refusal, shown
from signstream.io.cache_index import CachedClip
from signstream.io.pose_cache import PoseCache
from signstream.text_files import read_text

ROUNDED = 1.0  # ms
LARGEST = 1 << 30  # bytes of a recogniser's file; a clip takes about 500

TextIds = Callable[[str], list[int]]


class Spans(NamedTuple):
    """Where glosses were signed."""

    glosses: tuple[str, ...]
    stops: tuple[int, ...]  # one past the last frame of each
    fps: float

    def within(self, sentence: Signed) -> Spans:
        ends = [1000 * stop / self.fps for stop in self.stops]
        some = [i for i, end in enumerate(ends) if sentence.begins < end <= sentence.ends + ROUNDED]
        return Spans(tuple(self.glosses[i] for i in some), tuple(self.stops[i] for i in some), self.fps)


class Timed(NamedTuple):
    by: str  # segments, recogniser or share
    after: list[int]  # of each word, the chunk behind which it may be said; as many as there are: at the end


class Targets(NamedTuple):
    needs: Needs
    spans: Mapping[str, Spans]  # as a recogniser saw them, by the clips' names
    fps: float  # of the tokens
    check: int  # of all that a clip's line depends on besides the clip
    source: PoseData | None = None  # of the annotations; None: no clip is known to be of many sentences
    wait: int = 0  # chunks

    @classmethod
    def of(
        cls,
        cache: PoseCache,
        data: Poses,
        signs: Path | None,
        *,
        source: PoseData | None = None,
        option: str = "--signs",
        splits: Sequence[str] = ("train",),
    ) -> Targets:
        """`option`: which the file was named by; `splits`: of which it is learnt what words stand for."""
        text = "" if signs is None else _read(signs, option)
        spans = {} if signs is None else dict(_spans(text, f"{option} {signs}"))
        clips = [cache.clips[i] for split in dict.fromkeys(splits) for i in cache.splits.get(split, [])]
        needs = Needs.of(line for clip in clips for line in _lines(clip, source))
        return cls(needs, spans, data.fps, zlib.crc32(text.encode()), source)

    def later(self, wait: int) -> Targets:
        return self._replace(wait=wait, check=zlib.crc32(str(wait).encode(), self.check))

    def timed(self, clip: CachedClip, words: Sequence[str], *, chunks: int, size: float) -> Timed:
        """`size`: frames of a chunk, at the tokens' rate. Of a clip that is read at another speed, which has other
        `chunks` than its frames make, it is how many of its own frames one of them holds on the mean."""
        by, spans = "segments", _segments(clip)
        if not clip.segments:
            by, spans = "recogniser", self.spans.get(clip.name, Spans((), (), self.fps))
        told = self._told(words, spans, chunks=chunks, size=size)
        if (sentences := _sentences(clip, self.source)) and chunks:
            told = self._by_sentence(_parted(words, sentences), spans, chunks=chunks, size=size) or told
        after = [min(chunk + self.wait, chunks) for chunk in told.after]
        return Timed(by if told.known else "share", after)

    def _told(self, words: Sequence[str], spans: Spans, *, chunks: int, size: float) -> _Told:
        known = any(self.needs.gloss(word, spans.glosses) is not None for word in words)
        if not chunks:
            return _Told(known, [0] * len(words))
        size = size * spans.fps / self.fps
        signs = seen(spans.glosses, spans.stops, size=size, chunks=chunks) if known else ()
        return _Told(known, earliest(words, chunks, signs=signs, needs=self.needs))

    def _by_sentence(self, parts: Sequence[_Part], spans: Spans, *, chunks: int, size: float) -> _Told | None:
        """None: there are no parts."""
        chunk_ms = 1000 * size / self.fps
        known, after = False, [0]
        for sentence, words in parts:
            told = self._told(words, spans.within(sentence), chunks=chunks, size=size)
            if not told.known:
                last = min(ceil(sentence.ends / chunk_ms) - 1, chunks - 1)
                first = min(int(sentence.begins / chunk_ms), last)
                told = _Told(False, [first + chunk for chunk in earliest(words, last - first + 1)])
            known |= told.known
            after += [max(after[-1], chunk) for chunk in told.after]
        return _Told(known, after[1:]) if parts else None


class _Told(NamedTuple):
    known: bool  # by signs
    after: list[int]


class _Part(NamedTuple):
    sentence: Signed
    words: Sequence[str]


def _sentences(clip: CachedClip, source: PoseData | None) -> tuple[Signed, ...]:
    return () if source is None else recording_of(source, clip.split, clip).sentences


def _parted(words: Sequence[str], sentences: Sequence[Signed]) -> list[_Part]:
    """Nothing, where the words are not the sentences'."""
    parts, begun = [], 0
    for sentence in sentences:
        own = words_in(sentence.text)
        parts.append(_Part(sentence, words[begun : begun + len(own)]))
        begun += len(own)
        if [word.strip() for word in parts[-1].words] != [word.strip() for word in own]:
            return []
    return parts if begun == len(words) else []


def _lines(clip: CachedClip, source: PoseData | None) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """The words and glosses of a clip, or of each of its sentences."""
    words = words_in(clip.text)
    parts = _parted(words, _sentences(clip, source)) if clip.segments else []
    for sentence, said in parts:
        yield said, _segments(clip).within(sentence).glosses
    if not parts:
        yield words, _glosses(clip)


def _segments(clip: CachedClip) -> Spans:
    return Spans(_glosses(clip), tuple(stop for _, stop, _ in clip.segments), clip.fps)


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
