"""The likeliest gloss of each step, as the steps come: what models/ctc_beam.greedy finds in a whole clip.

    path = LivePath()
    path.push(log_probs [n, V]) -> the glosses that have ended        path.finish() -> the one that is left

A gloss is told when its last step is known, and never taken back.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from signstream.models.ctc_path import BLANK


class Heard(NamedTuple):
    id: int
    steps: tuple[int, int]  # the first and the last
    confidence: float


class LivePath:
    def __init__(self) -> None:
        self.step = 0  # steps so far
        self.score = 0.0  # log-probability of the path
        self.id = BLANK  # of the last step
        self.first = 0  # where its run began
        self.total = 0.0  # of its probabilities

    def push(self, log_probs: Tensor) -> list[Heard]:
        """[n, V] float"""
        best, path = log_probs.max(1)
        heard = []
        for value, probability, gloss in zip(best.tolist(), best.exp().tolist(), path.tolist()):
            if gloss != self.id:
                heard += self._ended()
                self.id, self.first, self.total = gloss, self.step, 0.0
            self.total += probability
            self.score += value
            self.step += 1
        return heard

    def finish(self) -> list[Heard]:
        heard = self._ended()
        self.id = BLANK
        return heard

    def _ended(self) -> list[Heard]:
        if self.id == BLANK:
            return []
        return [Heard(self.id, (self.first, self.step - 1), self.total / (self.step - self.first))]
