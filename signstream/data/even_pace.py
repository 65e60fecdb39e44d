"""Frames at irregular times onto a regular grid, as they come.

    pace = EvenPace(fps)
    pace.add(seconds, frame [J, 3]) -> the grid's frames that are now known, in order
    pace.end()                      -> the rest

The grid begins at the first frame. A frame that comes nearly when the grid wants one is taken as it is. Between two
frames a joint that both have lies on a straight line; one that the nearer frame alone has is taken from it, and where
the nearer lacks it, it is missing. Between frames that lie far apart nothing is known: all joints are missing there.
"""

from __future__ import annotations

import math

import numpy as np

from signstream.errors import UserError

NEAR = 0.05  # of a step, the grid's or the frames': containers round their time stamps
FAR = 0.5  # seconds between two frames over which no straight line leads
LONGEST_GAP = 600.0  # seconds; what is longer is no pause but a broken clock


class EvenPace:
    def __init__(self, fps: float) -> None:
        self.fps = fps
        self.start = self.before = 0.0  # seconds: of the first frame, of the latest
        self.step = 0.0  # between the latest two, at most the grid's
        self.frame: np.ndarray | None = None  # the latest
        self.made = 0  # frames of the grid

    def add(self, seconds: float, frame: np.ndarray) -> list[np.ndarray]:
        """`frame` is kept until the next one came."""
        if self.frame is None:
            self.start, self.before, self.frame, self.made = seconds, seconds, frame, 1
            return [frame]
        gap = seconds - self.before
        if not 0 < gap <= LONGEST_GAP:
            raise UserError(f"broken time stamps: a frame at {self.before:.3f} s, the next at {seconds:.3f} s")
        self.step = min(gap, 1 / self.fps)
        known = math.floor((seconds + NEAR * self.step - self.start) * self.fps) + 1
        made = [self._between(self.start + index / self.fps, seconds, frame) for index in range(self.made, known)]
        self.before, self.frame, self.made = seconds, frame, max(self.made, known)
        return made

    def end(self) -> list[np.ndarray]:
        """The last frame once more, if the grid wants one before a next frame would be nearer."""
        if self.frame is None:
            return []
        until = math.ceil((self.before + (0.5 - NEAR) * self.step - self.start) * self.fps)
        return [self.frame] * (until - self.made)

    def _between(self, wanted: float, seconds: float, after: np.ndarray) -> np.ndarray:
        """The joints at the time that is wanted, which lies between the frame before and the one that just came."""
        assert self.frame is not None
        near, gap = NEAR * self.step, seconds - self.before
        if wanted <= self.before + near:
            return self.frame
        if wanted >= seconds - near:
            return after
        if gap > FAR:
            return np.zeros_like(after)
        share = np.float32((wanted - self.before) / gap)
        both = (self.frame[:, 2:] > 0) & (after[:, 2:] > 0)
        return np.where(both, self.frame + share * (after - self.frame), after if share >= 0.5 else self.frame)
