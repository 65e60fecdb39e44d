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

NEAR = 0.05  # of a step of the grid: containers round their time stamps
FAR = 0.5  # seconds between two frames over which no straight line leads
LONGEST_GAP = 600.0  # seconds; what is longer is no pause but a broken clock


class EvenPace:
    def __init__(self, fps: float) -> None:
        self.fps = fps
        self.start = self.before = 0.0  # seconds: of the first frame, of the latest
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
        known = math.floor((seconds - self.start) * self.fps + NEAR) + 1
        made = [self._between(self._share(index, gap), frame, gap) for index in range(self.made, known)]
        self.before, self.frame, self.made = seconds, frame, max(self.made, known)
        return made

    def end(self) -> list[np.ndarray]:
        """The last frame is shown for as long as half a step."""
        if self.frame is None:
            return []
        until = math.ceil((self.before - self.start) * self.fps + 0.5 - NEAR)
        return [self.frame] * (until - self.made)

    def _share(self, index: int, gap: float) -> float:
        """How far a place of the grid lies from the frame before to the next one, 0 to 1; next to one it is there."""
        share = (self.start + index / self.fps - self.before) / gap
        near = NEAR / self.fps / gap
        return 0.0 if share <= near else 1.0 if share >= 1 - near else share

    def _between(self, share: float, after: np.ndarray, gap: float) -> np.ndarray:
        assert self.frame is not None
        if share in (0.0, 1.0):
            return after if share else self.frame
        if gap > FAR:
            return np.zeros_like(after)
        nearer = after if share >= 0.5 else self.frame
        both = (self.frame[:, 2:] > 0) & (after[:, 2:] > 0)
        line = (self.frame + np.float32(share) * (after - self.frame)).astype(after.dtype)
        return np.where(both, line, nearer)
