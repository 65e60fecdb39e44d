"""What a run's codes are taught of meaning (models/rvq/lesson.py), and by which annotations. Nobody asks for these once
training is over: tokens are of poses alone.

    taught = Taught.of(config, cache, model)                None where model.rvq.semantic is off
    taught.counts(layout), taught.totals(output, layout)    [1, P]: `reading`, in the carrier's column
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from signstream.config import Config
from signstream.data.text import UNKNOWN, Glosses
from signstream.errors import UserError
from signstream.io.pose_cache import PoseCache
from signstream.models.recognition import steps_needed
from signstream.models.rvq.lesson import STEPS, Asked, Gloss, Lesson, Next, Text
from signstream.models.rvq.rvq_model import Output, RVQModel


class Layout(NamedTuple):
    """Which whole clips chunks are of, in order; on the host."""

    clips: tuple[int, ...]  # B, of the cache
    lengths: tuple[int, ...]  # B chunks of each
    draw: int | None = None  # the seed of what is not looked at; None: all is


class Taught:
    def __init__(self, kind: str, cache: PoseCache, model: RVQModel) -> None:
        assert model.look_back is not None, "a model that is taught looks back"
        self.kind, self.model, self.look_back = kind, model, model.look_back
        train = cache.splits.get("train", ())
        self.lines = {i: line for i in range(len(cache.clips)) if (line := words_of(kind, cache, i))}
        self.words = Glosses.of(self.lines[i] for i in train if i in self.lines)
        self.clips, self.annotated = len(train), sum(i in self.lines for i in train)
        if kind != "next" and not self.annotated:
            what = "glosses" if kind == "gloss" else "a sentence"
            raise UserError(f"model.rvq.semantic is {kind}, and no training clip has {what}: next needs none")
        self.numbers: dict[tuple[str, ...], int] = {}  # of the sentences, training's first
        for i in (*train, *self.lines):
            if any(word != UNKNOWN for word in self.words.ids(self.lines.get(i, ()))):
                self.numbers.setdefault(self.lines[i], len(self.numbers))
        self.lesson = self._lesson(len({self.lines[i] for i in train if i in self.lines}))

    @classmethod
    def of(cls, config: Config, cache: PoseCache, model: RVQModel) -> Taught | None:
        kind = config.model.rvq.semantic
        return None if kind == "off" else cls(kind, cache, model)

    def _lesson(self, known: int) -> Lesson:
        parts, latent = len(self.model.shapes), self.model.latent
        if self.kind == "gloss":
            return Gloss(latent, len(self.words))
        if self.kind == "text":
            return Text(latent, self._sentences(), known=known, words=len(self.words))
        return Next(parts, latent)

    def _sentences(self) -> list[list[int]]:
        """The known words of each."""
        return [[word for word in self.words.ids(line) if word != UNKNOWN] for line in self.numbers]

    def describe(self) -> str:
        if self.kind == "next":
            return "meaning: codes are taught to foresee what is signed next, without annotations"
        less = self.clips - self.annotated
        left = f"; {less} of {self.clips} training clips have none and teach nothing" if less else ""
        return f"meaning: codes are taught by {self.kind}, {len(self.words) - 1} words{left}"

    # -- a step

    def counts(self, layout: Layout, device: torch.device) -> Tensor:
        """[1, P]"""
        count = torch.tensor([self.lesson.counts(self._asked(layout, torch.zeros(0)))], dtype=torch.float64)
        return self._in_its_place(count.to(device, non_blocking=True))

    def totals(self, output: Output, layout: Layout, *, draw: int) -> Tensor:
        """[1, P]"""
        assert output.alone is not None
        meant = output.latents[self.model.carrier].float()
        with torch.autocast(meant.device.type, enabled=False):
            return self._in_its_place(self.lesson.reading(meant, self._asked(layout, output.alone, draw))[None])

    def weights(self, weight: float) -> Tensor:
        """[1, P]"""
        return self._in_its_place(torch.full((1,), weight))

    def _asked(self, layout: Layout, latents: Tensor, draw: int = 0) -> Asked:
        return Asked(layout.lengths, [self._units(*clip) for clip in zip(layout.clips, layout.lengths)], latents, draw)

    def _units(self, clip: int, length: int) -> Sequence[int]:
        line = self.lines.get(clip)
        if line is None or self.kind == "next":
            return ()
        if self.kind == "text":
            return (self.numbers[line],) if line in self.numbers else ()
        ids = self.words.ids(line)
        return ids if UNKNOWN not in ids and steps_needed(ids) <= STEPS * length else ()

    def _in_its_place(self, number: Tensor) -> Tensor:
        """[1] -> [1, P], 0 for all parts but the carrier"""
        return F.pad(number, (self.model.carrier, len(self.model.shapes) - 1 - self.model.carrier))[None]

    # -- all that lasts

    def state(self) -> dict[str, Any]:
        return {"kind": self.kind, "words": self.words.state()}

    def check(self, state: Any) -> None:
        """That what was saved is what is taught."""
        if not isinstance(state, Mapping) or state.get("kind") != self.kind or state.get("words") != self.words.state():
            raise UserError(
                "the run was saved with other words than the data's training split has now: a run goes on only on the "
                "same data"
            )


def words_of(kind: str, cache: PoseCache, clip: int) -> tuple[str, ...]:
    """Its glosses; or its sentence's words, and where it is written without spaces its characters."""
    if kind == "gloss":
        return tuple(cache.clips[clip].gloss.split())
    words = cache.clips[clip].text.split() if kind == "text" else []
    return tuple(words[0]) if len(words) == 1 else tuple(words)
