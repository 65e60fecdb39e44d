"""Steps of a network as frames of a clip.

    Timing(fps, frames=4)            4 frames a step
    Timing(fps, frames=10, steps=2)  of tokens: 2 steps a chunk of 10 frames

Frames count from 0, the first and the last of a span are both its own.
"""

from __future__ import annotations

from typing import NamedTuple


class Span(NamedTuple):
    first: int
    last: int  # inclusive


class Timing(NamedTuple):
    """`steps` steps are of `frames` frames, of which there are `fps` a second."""

    fps: float
    frames: int = 1
    steps: int = 1

    def span(self, steps: tuple[int, int], most: int) -> Span:
        """The frames of steps first .. last, of a clip of `most` frames."""
        first = min(steps[0] * self.frames // self.steps, most - 1)
        last = min(-(-(steps[1] + 1) * self.frames // self.steps), most) - 1
        return Span(first, max(first, last))
