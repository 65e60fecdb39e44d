"""Standard input as one clip: a translator reads a whole clip, so nothing is said before the frames end."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

from signstream.data.frontend import FrontEnd, Prepared
from signstream.errors import UserError
from signstream.inference.chunk_lines import FrameLines, json_frames, play
from signstream.inference.clips import PoseClips
from signstream.inference.translation.translator import Translator

NAME = "stream"


def of_stdin(translator: Translator, fps: float | None = None) -> PoseClips[Translator]:
    """All frames until it ends, or Ctrl-C ends it."""
    translator.demand("keypoints")
    whole = WholeClip(translator, fps)
    play(json_frames(sys.stdin.buffer, translator.skeleton.num_joints), whole)
    return PoseClips(translator, NAME, whole.joints())


class WholeClip(FrameLines):
    """Keeps what the front end makes of the frames, no more than `data.max_frames` or the text model can read."""

    def __init__(self, translator: Translator, fps: float | None = None) -> None:
        self.translator, self.most = translator, translator.data.max_frames
        self.stream = FrontEnd(translator.skeleton, translator.data, fps)
        self.kept: list[Tensor] = []
        self.frames = 0

    def push(self, frame: np.ndarray) -> None:
        self._keep(self.stream.push(self.translator.checked(frame, one_frame=True)))

    def finish(self) -> None:
        self._keep(self.stream.finish())

    def write(self, final: list[Any], ms: float) -> None:
        """There is no line before the end."""

    def joints(self) -> Tensor:
        """[T', J, 3]"""
        none = torch.zeros(0, self.translator.skeleton.num_joints, 3)
        return torch.cat([none, *self.kept])

    def _keep(self, ready: Prepared) -> None:
        frames = ready.frames if self.most is None else ready.frames[: max(self.most - self.frames, 0)]
        self.frames += len(frames)
        if fault := self.translator.too_long(self.frames):
            raise UserError(f"standard input is {fault}")
        if len(frames):
            self.kept.append(frames)
