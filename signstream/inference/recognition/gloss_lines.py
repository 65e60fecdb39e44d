"""Frames in, one JSON line out as soon as a gloss is final."""

from __future__ import annotations

import sys
import time

import numpy as np

from signstream.inference.chunk_lines import json_frames, play, print_line
from signstream.inference.recognition.clips import Clip
from signstream.inference.recognition.recogniser import Recogniser
from signstream.inference.recognition.spans import Recognised, Signed
from signstream.inference.recognition.written import Result, sign_line

NAME = "stream"


def live(recogniser: Recogniser, fps: float | None = None) -> Result:
    """Standard input until it ends, or Ctrl-C ends it."""
    writer = GlossLines(recogniser, fps)
    play(json_frames(sys.stdin.buffer, recogniser.skeleton.num_joints), writer)
    stream = writer.stream
    found = Recognised(tuple(writer.signs), stream.frames, stream.timing.fps, stream.score)
    return Result(Clip(NAME, stream.frames, stream.frames, None), found)


class GlossLines:
    """A stream that writes its glosses."""

    def __init__(self, recogniser: Recogniser, fps: float | None = None) -> None:
        warm = recogniser.stream(fps)  # the first pass of all is slow
        warm.push(np.zeros((8, recogniser.skeleton.num_joints, 3), np.float32))
        warm.finish()
        self.stream = recogniser.stream(fps)
        self.signs: list[Signed] = []
        self.pushed = 0
        header = {"fps": recogniser.config.data.fps, "recogniser": recogniser.digest}
        print_line({**header, "glosses": len(recogniser.glosses) - 1})

    def push(self, frame: np.ndarray) -> None:
        self.pushed += 1
        began = time.perf_counter()
        self._write(self.stream.push(frame), began)

    def finish(self) -> None:
        began = time.perf_counter()
        self._write(self.stream.finish(), began)

    def _write(self, signs: list[Signed], began: float) -> None:
        ms = round(1000 * (time.perf_counter() - began), 2)
        for sign in signs:
            behind = self.pushed - 1 - int(sign.last * self.stream.front.step)
            print_line({**sign_line(sign), "ms": ms, "behind_frames": max(behind, 0)})
        self.signs += signs
