"""Curves in time: sums of minimum-jerk movements that may overlap, and slow noise. Seconds [T] in, [T, D] out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WHOLE = 1 << 21  # frames times movements that are summed at once; the longest clip of one sentence has a fifth
PIECE = 512  # frames of a longer curve that are


@dataclass(frozen=True)
class Keys:
    """A curve as movements: movement m goes to value[m] [D], starts at start[m] and takes length[m] seconds;
    value[0] is where it begins."""

    start: list[float]
    length: list[float]
    value: list[np.ndarray]

    @classmethod
    def at(cls, value: np.ndarray) -> Keys:
        """A curve that stays, to begin with."""
        return cls([0.0], [1.0], [value])

    def add(self, start: float, length: float, value: np.ndarray) -> None:
        self.start.append(start)
        self.length.append(max(length, 1e-3))
        self.value.append(value)

    def cut(self, share: float) -> None:
        """The last movement goes but a share of its way, in that share of its time."""
        self.length[-1] *= share
        self.value[-1] = self.value[-2] + share * (self.value[-1] - self.value[-2])

    def curve(self, seconds: np.ndarray) -> np.ndarray:
        """[T] -> [T, D]: the sum of all movements' minimum-jerk courses, so that overlapping ones blend."""
        if len(seconds) * len(self.start) > WHOLE:
            return np.concatenate([self._piece(part) for part in np.split(seconds, range(PIECE, len(seconds), PIECE))])
        value = np.asarray(self.value)
        done = (seconds[:, None] - np.asarray(self.start[1:])) / np.asarray(self.length[1:])
        return value[0] + minimum_jerk(done) @ np.diff(value, axis=0)

    def _piece(self, seconds: np.ndarray) -> np.ndarray:
        """A piece of a long curve, from the movements that it sees and the sum of those before it."""
        start, length, steps = np.asarray(self.start[1:]), np.asarray(self.length[1:]), np.diff(self.value, axis=0)
        over = start + length <= seconds[0]
        seen = ~over & (start < seconds[-1])
        done = (seconds[:, None] - start[seen]) / length[seen]
        return self.value[0] + steps[over].sum(0) + minimum_jerk(done) @ steps[seen]


def minimum_jerk(share: np.ndarray) -> np.ndarray:
    s = np.clip(share, 0.0, 1.0)
    return s * s * s * (10 + s * (6 * s - 15))


def wander(rng: np.random.Generator, seconds: np.ndarray, size: int, *, hertz: float) -> np.ndarray:
    """[T] -> [T, size] smooth noise of variance about one, with nothing much above `hertz`."""
    at = seconds * 2 * hertz
    knots = rng.standard_normal((int(at[-1]) + 3, size), dtype=np.float32)
    low = at.astype(int)
    share = minimum_jerk(at - low)[:, None]
    return knots[low] * (1 - share) + knots[low + 1] * share
