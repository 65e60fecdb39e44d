"""What is read of a signer who goes on signing: frames at any times in, and out come tokens, the skeleton that they
tell, glosses and text.

    session = Session(Readers(tokenizer, recogniser, text))         # each of them may be None
    for news in session.see(seconds, frame): ...                    # frame [J, 3] (x px, y px, score)
    news = session.end()                                            # what is left of the clip

Frames are brought to an even pace (data/even_pace.py). A clip ends where no frame came for more than GAP seconds; the
next one begins anew. Its tokens are those that Tokenizer.encode makes of the frames in `news.frames`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from signstream.data.even_pace import EvenPace
from signstream.errors import UserError
from signstream.inference.live_text import Event, LiveText
from signstream.inference.recognition.recogniser import Recogniser
from signstream.inference.recognition.spans import Signed
from signstream.inference.tokenizer import Chunk, Tokenizer
from signstream.models.policies import POLICY
from signstream.skeleton import NUM_JOINTS

GAP = 1.0  # seconds
USUAL_FPS = 30.0  # where nobody reads


class Readers(NamedTuple):
    tokenizer: Tokenizer | None = None
    recogniser: Recogniser | None = None
    text: LiveText | None = None  # which has the tokenizer, too

    @property
    def fps(self) -> float:
        """The pace at which frames are read."""
        reader = self.tokenizer or self.recogniser
        return USUAL_FPS if reader is None else float(reader.config.data.fps)


def open_readers(
    tokenizer: str | None, recogniser: str | None, text: str | None, *, policy: str = POLICY, device: str = "auto"
) -> Readers:
    """From runs; None: there is none. The first pass of all, which is slow, is done."""
    if text is not None and tokenizer is None:
        raise UserError("a language model reads tokens: name their tokenizer with --checkpoint")
    tokens = None if tokenizer is None else Tokenizer.load(tokenizer, device)
    glosses = None if recogniser is None else Recogniser.load(recogniser, device)
    lm = None if text is None else LiveText.open(text, policy=policy, tokenizer=tokens, device=device)
    readers = Readers(tokens, glosses, lm)
    for reader in (tokens, glosses):
        if reader is not None and reader.skeleton.num_joints != NUM_JOINTS:
            raise UserError(f"a signer here has {NUM_JOINTS} joints, and the run reads {reader.skeleton.num_joints}")
    warm = SignedClip(readers, 0)
    warm.see(0.0, np.zeros((NUM_JOINTS, 3), np.float32))
    warm.end()
    return readers


class Decoded(NamedTuple):
    """A chunk, and the skeleton that its codes tell, where the signer stood."""

    chunk: Chunk
    poses: Tensor  # [n, J, 3] pixels, the third number 1 where the tokens tell the joint
    waited: float  # ms from its last frame to the one that made it known


class News(NamedTuple):
    """What one look at the signer brought."""

    clip: int
    first: int  # the number, in its clip, of the first of the frames
    frames: list[np.ndarray]  # [J, 3] at an even pace
    decoded: list[Decoded]
    glosses: list[Signed]
    said: list[Event]
    spent: dict[str, float]  # ms a stage
    over: bool = False  # whether the clip is


class Session:
    def __init__(self, readers: Readers) -> None:
        self.readers = readers
        self.clip: SignedClip | None = None
        self.clips = 0  # begun, so far

    def see(self, seconds: float, frame: np.ndarray) -> list[News]:
        """News of the clip; where it ended before this frame, of its end and of the next one."""
        ended = []
        if self.clip is not None and seconds - self.clip.newest > GAP:
            ended = self.end()
        if self.clip is None:
            self.clip = SignedClip(self.readers, self.clips)
            self.clips += 1
        return [*ended, self.clip.see(seconds, frame)]

    def end(self) -> list[News]:
        """Of the clip that goes on, if there is one."""
        clip, self.clip = self.clip, None
        return [] if clip is None else [clip.end()]


class SignedClip:
    def __init__(self, readers: Readers, number: int) -> None:
        self.readers, self.number = readers, number
        self.pace = EvenPace(readers.fps)
        self.frames = 0  # of the even pace, so far
        self.began = self.newest = 0.0  # seconds: of the first frame and the latest
        self.tokens = None if readers.tokenizer is None else readers.tokenizer.stream()
        self.signs = None if readers.recogniser is None else readers.recogniser.stream(readers.fps)
        self.text = None if readers.text is None else readers.text.begin()
        self.window: list[Chunk] = []  # the latest chunks, whose decoded ends the next ones are joined to

    def see(self, seconds: float, frame: np.ndarray) -> News:
        if not self.frames:
            self.began = seconds
        self.newest = seconds
        return self._read(self.pace.add(seconds, frame), last=False)

    def end(self) -> News:
        return self._read(self.pace.end(), last=True)

    def _read(self, frames: list[np.ndarray], *, last: bool) -> News:
        spent: dict[str, float] = {}
        first, self.frames = self.frames, self.frames + len(frames)
        with taking(spent, "tokens"):
            chunks = self._chunks(frames, last)
        with taking(spent, "text"):
            said = self._said(chunks, last)
        with taking(spent, "glosses"):
            glosses = self._glosses(frames, last)
        with taking(spent, "reconstruction"):
            decoded = self._decoded(chunks)
        return News(self.number, first, frames, decoded, glosses, said, spent, over=last)

    def _chunks(self, frames: list[np.ndarray], last: bool) -> list[Chunk]:
        if self.tokens is None:
            return []
        chunks = self.tokens.push(np.stack(frames)) if frames else []
        return chunks + (self.tokens.finish() if last else [])

    def _glosses(self, frames: list[np.ndarray], last: bool) -> list[Signed]:
        if self.signs is None:
            return []
        glosses = self.signs.push(np.stack(frames)) if frames else []
        return glosses + (self.signs.finish() if last else [])

    def _said(self, chunks: list[Chunk], last: bool) -> list[Event]:
        if self.text is None:
            return []
        said = [self.text.chunk(chunk.codes) for chunk in chunks]
        return said + (self.text.end() if last else [])

    def _decoded(self, chunks: list[Chunk]) -> list[Decoded]:
        """Whole windows are decoded with the one before them."""
        tokenizer = self.readers.tokenizer
        if tokenizer is None or not chunks:
            return []
        together = [*self.window, *chunks]
        place = torch.cat([chunk.place for chunk in together])
        codes = torch.stack([chunk.codes for chunk in together])
        poses = tokenizer.decode(tokenizer.sequence(codes, len(place), "live"), place)
        pieces = poses.split([len(chunk.place) for chunk in together])[len(self.window) :]
        self.window = chunks[-tokenizer.config.data.window :]
        return [Decoded(chunk, piece, self._waited(chunk)) for chunk, piece in zip(chunks, pieces)]

    def _waited(self, chunk: Chunk) -> float:
        assert self.readers.tokenizer is not None
        last = chunk.t * self.readers.tokenizer.config.data.chunk_len + len(chunk.place) - 1
        return 1000 * (self.newest - self.began - last / self.readers.fps)


@contextmanager
def taking(spent: dict[str, float], stage: str) -> Iterator[None]:
    """Adds the block's time to the stage's, in ms."""
    began = time.perf_counter()
    yield
    spent[stage] = spent.get(stage, 0.0) + 1000 * (time.perf_counter() - began)
