"""Frames in, one JSON line out as soon as a gloss is final."""

from __future__ import annotations

import sys

import numpy as np

from signstream.inference.chunk_lines import FrameLines, json_frames, play, print_line
from signstream.inference.clips import Clip
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


class GlossLines(FrameLines):
    """A stream that writes its glosses."""

    def __init__(self, recogniser: Recogniser, fps: float | None = None) -> None:
        warm = recogniser.stream(fps)  # the first pass of all is slow
        warm.push(np.zeros((8, recogniser.skeleton.num_joints, 3), np.float32))
        warm.finish()
        self.stream = recogniser.stream(fps)
        self.signs: list[Signed] = []
        header = {"fps": recogniser.config.data.fps, "recogniser": recogniser.digest}
        print_line({**header, "glosses": len(recogniser.glosses) - 1})

    def write(self, final: list[Signed], ms: float) -> None:
        for sign in final:
            print_line({**sign_line(sign), "ms": ms, "behind_frames": self.behind(sign.last)})
        self.signs += final
