"""Signing to sentences, from checkpoints alone.

    translator = signstream.translator("checkpoints/translation")    # a checkpoint, a run's, an experiment's; several
    best, *others = translator.translate(poses, fps=25, n_best=3)    # [T, 133, 3] (x px, y px, score)
    best.text, best.score
    translator.translate_tokens(tokens)                # of a translator of codes: a TokenSequence
    translator.translate_clips(padded, n_best=1)       # a batch of whatever it reads -> its translations, a clip
    translator.say(padded, n_best=1)                   # the same, with the units of the best
    translator.attention(padded, units)                # where the decoder looked when it said them

A clip is read as a whole, so there is no stream of sentences. `decode` is the config's unless it is set.

Of several checkpoints each has its own encoder and adapter and reads the clip by itself; at every step of the beam
search the log-softmax of the mean of their logits decides. They must read the same and have the same tokens. The first
one's config is the translator's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from signstream.config.sequences import TOKENS
from signstream.config.translation import Beams
from signstream.data.frontend import prepare
from signstream.data.sentences import points_seen
from signstream.data.sequences import Padded, Sequences, pad
from signstream.errors import UserError
from signstream.inference.reader import Reader, TrainedOn
from signstream.inference.timing import Timing
from signstream.inference.translation.members import Member, check_alike
from signstream.models.text_tokenizer import END, PAD
from signstream.tokens.format import TokenSequence
from signstream.training import checkpoint
from signstream.training.distributed import pick_device
from signstream.training.run_folder import best_of

NO_BEAM = -1e8  # transformers scores a beam that is none with -1e9


class Translation(NamedTuple):
    text: str
    score: float  # sum of the log-probabilities of its units / units ** length_penalty


Best = tuple[Translation, ...]  # of one clip: the best first, no text twice, so sometimes fewer than were asked for


class Found(NamedTuple):
    """Of one clip."""

    best: Best
    units: tuple[int, ...]  # of the best, without </s>


NOTHING = Found((Translation("", 0.0),), ())  # what a clip without a step is


class Translator(Reader):
    who = "the translator"

    def __init__(
        self, states: Sequence[Mapping[str, Any]], device: str | torch.device = "cpu", decode: Beams | None = None
    ) -> None:
        """`states`: of one or more checkpoints."""
        members = [Member.restored(state, number, len(states)) for number, state in enumerate(states, 1)]
        check_alike(members)
        self.config, self.kept = members[0].config, members[0].kept
        self.reads = self.kept.reads
        trained_on = TrainedOn(self.reads.shape, self.reads.parts, self.reads.tokenizer)
        super().__init__(self.config.data, trained_on, device)
        self.decode = decode or self.config.decode
        self.models = [member.model.to(self.device).eval().requires_grad_(False) for member in members]
        self.tokenizer = self.models[0].text.tokenizer

    @classmethod
    def load(cls, *paths: str | Path, device: str = "auto") -> Translator:
        return cls([checkpoint.load(best_of(path)) for path in paths], pick_device(device, 0, 1))

    @property
    def language(self) -> str:
        return self.config.model.target_language

    def timing(self, fps: float | None = None, chunk_len: int = 1) -> Timing:
        if self.source in TOKENS:
            return Timing(fps or self.data.fps, chunk_len, self.config.model.encoder.tokens.steps_a_chunk)
        return Timing(self.data.fps, self.config.model.encoder.frames_a_step if self.source == "keypoints" else 1)

    def view(self, joints: Tensor) -> Tensor:
        """[T, n, 3]"""
        return points_seen(joints, self.skeleton, self.config.data.points)

    def demand(self, *sources: str) -> None:
        super().demand(*sources)
        if self.reads.visual is not None:
            raise UserError(
                f"the translator reads visual features beside its {self.source}, which no clip's file has: "
                "give it a data set that has them: --split"
            )

    def check_sequences(self, sequences: Sequences) -> None:
        super().check_sequences(sequences)
        if sequences.visual_width != self.reads.visual:
            raise UserError(
                f"data.visual: its features are {sequences.visual_width or 0} wide, and the translator was trained on "
                f"{self.reads.visual or 0}"
            )

    def too_long(self, steps: int) -> str | None:
        """Why no sentence can be said of so many steps."""
        for model in self.models:
            count, most = int(model.encoder.steps(torch.tensor([steps]))), model.text.positions
            if count > most:
                return f"too long: {count} steps, and the text model reads {most}"
        return None

    # -- clips

    def translate(self, poses: np.ndarray | Tensor, fps: float | None = None, *, n_best: int = 1) -> Best:
        """poses [T, J, 3]; `fps` None: the config's."""
        self.demand("keypoints")
        ready = prepare(self.checked(poses), self.skeleton, self.data, fps=fps)
        return self.translate_prepared(ready.frames, n_best=n_best)

    def translate_prepared(self, joints: Tensor, *, n_best: int = 1) -> Best:
        """[T', J, 3] as the front end gives them."""
        return self._alone("keypoints", self.view(joints), n_best)

    def translate_tokens(self, tokens: TokenSequence, *, n_best: int = 1) -> Best:
        codes = self.checked_tokens(tokens)
        return self._alone("codes", pad(codes, [len(codes)], -1)[0], n_best)

    def _alone(self, source: str, rows: Tensor, n_best: int) -> Best:
        if fault := self.too_long(len(rows)):
            raise UserError(f"the clip is {fault}")
        return self.translate_clips(Padded({source: rows[None].to(self.device)}, (len(rows),)), n_best=n_best)[0]

    def translate_clips(self, padded: Padded, *, n_best: int = 1) -> list[Best]:
        return [found.best for found in self.say(padded, n_best=n_best)]

    @torch.no_grad()
    def say(self, padded: Padded, *, n_best: int = 1) -> list[Found]:
        lengths = torch.tensor(padded.lengths, dtype=torch.int64)
        some = lengths.nonzero()[:, 0]
        found = [NOTHING] * len(lengths)
        if not len(some):
            return found
        chosen = some.to(self.device)
        first, *others = self.models
        said = first.generate(
            {name: stream.index_select(0, chosen) for name, stream in padded.streams.items()},
            lengths[some].to(self.device),
            others=others,
            beams=self.decode.beams,
            max_new_tokens=self.decode.max_tokens,
            length_penalty=self.decode.length_penalty,
            n_best=n_best,
        )
        for clip, ids, scores in zip(some.tolist(), said.ids, said.scores.tolist()):
            found[clip] = Found(self._told(ids, scores), tuple(before_end(ids[0].tolist())))
        return found

    @torch.no_grad()
    def attention(self, padded: Padded, units: Sequence[Sequence[int]]) -> list[Tensor]:
        """Of clips that have a step, and what was said of each: [U, S'], a row a unit, over the encoder's steps
        (timing() has their frames). The mean over layers and heads, of the first checkpoint's model."""
        model, lengths = self.models[0], torch.tensor(padded.lengths, dtype=torch.int64)
        rows = [torch.tensor([self.tokenizer.target_id, *said[:-1]]) for said in units]
        ids = pad_sequence(rows, batch_first=True, padding_value=PAD).to(self.device)
        weights = model.attention(padded.streams, lengths.to(self.device), ids).cpu()
        steps = model.encoder.steps(lengths).tolist()
        return [clip[: len(said), :count] for clip, said, count in zip(weights, units, steps)]

    def _told(self, ids: Tensor, scores: Sequence[float]) -> Best:
        """ids [n, U]"""
        best: dict[str, float] = {}
        for text, score in zip(self.tokenizer.texts(ids), scores):
            if score > NO_BEAM or not best:
                best.setdefault(text, score)
        return tuple(Translation(text, score) for text, score in best.items())


def before_end(row: Sequence[int]) -> Sequence[int]:
    """Of units, those that come before </s>."""
    return row[: row.index(END)] if END in row else row
