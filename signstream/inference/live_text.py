"""Text that appears while somebody signs, from a checkpoint: frames or chunks in, an Event a chunk out.

    live = LiveText.open("checkpoints/live", policy="own:0.5:2", tokenizer="checkpoints/quickstart")
    clip = live.begin("clip", fps=25)
    for frames in camera:
        for event in clip.frames(frames): ...       # [n, J, 3] or [J, 3]; pieces of any size give the same text
    for event in clip.end(): ...                    # the last one says so

    live = LiveText.open("checkpoints/live")        # of tokens that are there already
    clip = live.begin("clip", chunk_ms=1000 / 3, behind=200, signing=4100)
    event = clip.chunk(codes [P, Q], or ids)

    {"video_name": "clip", "chunk": 3, "consumed": 1333.3, "elapsed": 1340.1, "computing": 6.8, "committed": " sun",
     "thought": " shines"}                          a line of JSON; the last one of a clip has "signing" and "end", too

The text so far is all lines' `committed`, one behind the other, which no later line can change. All times are
milliseconds. A chunk is there when its last frame was signed and those that the front end looks ahead; computing begins
then, or when that of the chunk before is done (models/metrics/latency.py).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from signstream.config.prefix_lm import PrefixConfig
from signstream.data.tokens import TokenData
from signstream.errors import UserError, shown
from signstream.inference.tokenizer import Stream, Tokenizer
from signstream.models.live_lm import LiveLM
from signstream.models.live_text import Heard, Speaker
from signstream.models.policies import POLICY, policy_of
from signstream.models.whole_words import text_after
from signstream.tasks.prefix_lm.restore import Restored, restore
from signstream.training.checkpoint import config_of, load
from signstream.training.distributed import pick_device
from signstream.training.run_folder import best_of


class Event(NamedTuple):
    video_name: str
    chunk: int  # that was heard; at the end: how many there were
    consumed: float  # of the signing, so far
    elapsed: float  # when this stood there, from the first frame on
    computing: float
    committed: str  # by this, with the blank before it; what was committed earlier stays
    thought: str  # what may follow, with the blank before it
    signing: float | None = None  # in all; in the last event alone

    @property
    def line(self) -> str:
        told = {key: round(x, 2) if isinstance(x, float) else x for key, x in self._asdict().items() if x is not None}
        return json.dumps(told if self.signing is None else {**told, "end": True}, ensure_ascii=False)


class LiveText:
    """A model, on its device and in evaluation mode, that listens to clips."""

    def __init__(self, restored: Restored, policy: str, tokenizer: Tokenizer | None = None) -> None:
        if not isinstance(restored.model, LiveLM):
            raise UserError("the model was trained offline: text while signing goes on is of one with model.form=live")
        policy_of(policy)
        self.model, self.vocabulary, self.units = restored.model, restored.vocabulary, restored.units
        self.policy, self.tokenizer, self.digest = policy, tokenizer, restored.kept.tokenizer
        if tokenizer is not None and tokenizer.digest != self.digest:
            raise UserError(f"the tokenizer is {tokenizer.digest}, and the model reads the codes of {self.digest}")
        self._warm()

    @classmethod
    def open(
        cls,
        checkpoint: str | Path,
        *,
        policy: str = POLICY,
        tokenizer: str | Path | Tokenizer | None = None,
        device: str = "auto",
    ) -> LiveText:
        state = load(best_of(checkpoint))
        restored = restore(config_of(state, PrefixConfig), state)
        restored.model.to(pick_device(device, 0, 1)).eval().requires_grad_(False)
        if isinstance(tokenizer, (str, Path)):
            tokenizer = Tokenizer.load(tokenizer, device)
        return cls(restored, policy, tokenizer)

    def begin(
        self,
        name: str = "stream",
        *,
        fps: float | None = None,
        chunk_ms: float | None = None,
        behind: float = 0,
        signing: float | None = None,
    ) -> LiveClip:
        """`fps`: of frames; `chunk_ms`, `behind`, `signing`: of a chunk, of what the front end looks ahead and of all,
        where no tokenizer says it."""
        return LiveClip(self, name, fps=fps, chunk_ms=chunk_ms, behind=behind, signing=signing)

    def check_shape(self, data: TokenData) -> None:
        """That a file's codes are of the parts that the model reads."""
        theirs, ours = ((x.parts, x.levels, x.codebook_size) for x in (data, self.vocabulary))
        if theirs != ours:
            raise UserError(f"{data.path}: its codes are of parts, levels and codes {theirs}, the model's of {ours}")

    def _warm(self) -> None:
        """The first pass of all is slow."""
        clip = self.begin(chunk_ms=1)
        clip.chunk([self.vocabulary.special("<NONE>")])
        if self.tokenizer is not None:
            data = self.tokenizer.config.data
            clip.frames(np.zeros((data.chunk_len * data.window, self.tokenizer.skeleton.num_joints, 3), np.float32))
        clip.end()


class LiveClip:
    """One clip, as it comes."""

    def __init__(
        self,
        live: LiveText,
        name: str,
        *,
        fps: float | None,
        chunk_ms: float | None,
        behind: float,
        signing: float | None,
    ) -> None:
        self.live, self.name, self.signing, self.behind = live, name, signing, behind
        self.stream: Stream | None = None
        self.together = 1  # chunks that are known at once
        if live.tokenizer is not None:
            data = live.tokenizer.config.data
            self.stream, self.together = live.tokenizer.stream(fps), data.window
            self.frame_ms = 1000 / data.fps
            chunk_ms, self.behind = self.frame_ms * data.chunk_len, self.frame_ms * data.lookahead
        assert chunk_ms is not None, "how long is a chunk? say chunk_ms, or give a tokenizer"
        self.chunk_ms = chunk_ms
        self.speaker = Speaker(live.model, live.vocabulary, units=live.units, policy=policy_of(live.policy))
        self.before: Tensor | None = None  # the codes [P, Q] of the chunk before
        self.count = 0  # of chunks
        self.there = 0.0  # of the signing, with the last event
        self.done = 0.0  # when it stood there
        self.spent = 0.0  # ms, on frames that made no chunk whole

    def chunk(self, told: Tensor | Sequence[int]) -> Event:
        """Codes [P, Q], or ids as Vocabulary.chunks gives them with longest=1."""
        began = time.perf_counter()
        ids = self._known(self._ids(told) if isinstance(told, Tensor) else list(told))
        last = self.speaker.last
        heard = self.speaker.hear(ids)
        self.count += 1
        windows = math.ceil(self.count / self.together)
        consumed = min(windows * self.together * self.chunk_ms + self.behind, self.signing or math.inf)
        return self._event(self.count - 1, heard, last=last, consumed=consumed, began=began)

    def frames(self, frames: np.ndarray | Tensor) -> list[Event]:
        """[n, J, 3], or one [J, 3]."""
        assert self.stream is not None, "frames need a tokenizer: give it to open()"
        began = time.perf_counter()
        chunks = self.stream.push(frames)
        self.spent += _ms_since(began)
        return [self.chunk(chunk.codes) for chunk in chunks]

    def end(self) -> list[Event]:
        events: list[Event] = []
        if self.stream is not None:
            began = time.perf_counter()
            chunks = self.stream.finish()
            self.spent += _ms_since(began)
            if self.stream.frames:
                self.signing = self.stream.frames * self.frame_ms
            events = [self.chunk(chunk.codes) for chunk in chunks]
        began, last = time.perf_counter(), self.speaker.last
        heard = self.speaker.end()
        signing = max(self.there, self.count * self.chunk_ms if self.signing is None else self.signing)
        event = self._event(self.count, heard, last=last, consumed=signing, began=began)
        return [*events, event._replace(signing=signing)]

    def _event(self, chunk: int, heard: Heard, *, last: list[int], consumed: float, began: float) -> Event:
        """`last`: the word that was the last one before."""
        units = self.live.units
        said = [unit for word in heard.words for unit in word]
        committed = text_after(units, last, said)
        thought = text_after(units, self.speaker.last, heard.thought)
        computing = self.spent + _ms_since(began)
        self.there, self.done = consumed, max(self.done, consumed) + computing
        self.spent = 0.0
        return Event(self.name, chunk, consumed, self.done, computing, committed, thought)

    def _ids(self, codes: Tensor) -> list[int]:
        both = codes[None] if self.before is None else torch.stack((self.before, codes))
        self.before = codes
        return self.live.vocabulary.chunks(both, longest=1)[-1]

    def _known(self, ids: list[int]) -> list[int]:
        vocabulary = self.live.vocabulary
        if not ids or not all(0 <= i - vocabulary.offset < len(vocabulary) for i in ids):
            expected = f"ids from {vocabulary.offset} to {vocabulary.offset + len(vocabulary) - 1}"
            raise UserError(f"chunk {self.count} is {shown(ids)}: {expected} are signs to this model")
        return ids


def _ms_since(began: float) -> float:
    return 1000 * (time.perf_counter() - began)
