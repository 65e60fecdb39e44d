"""Signing to glosses, from a checkpoint alone.

    recogniser = signstream.recogniser("checkpoints/recognition_quickstart")    # a checkpoint, a run's, an experiment's
    found = recogniser.recognise(poses, fps=25)        # [T, 133, 3] (x px, y px, score) -> Recognised
    found.glosses, found.signs                         # (gloss, first frame, last frame, confidence) each
    recogniser.recognise_tokens(tokens)                # of a recogniser of codes: a TokenSequence -> Recognised
    recogniser.recognise_clips(padded, frames, timing) # a batch of whatever it reads -> Recognised a clip
    stream = recogniser.stream(fps=25)                 # of a causal recogniser of keypoints
    for frame in camera:
        for sign in stream.push(frame): ...            # the same, as soon as nothing can change it

A clip's own frame rate is brought to the config's, so frames are at `found.fps`. A line is decoded as the config's
`decode` says, and cleaned by `data.clean`; a stream has the likeliest gloss of each step, as a beam of 1 has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from signstream.config.recognition import Decode, RecognitionConfig
from signstream.data.frontend import FrontEnd, Prepared, prepare
from signstream.data.sequences import Padded, pad
from signstream.errors import UserError
from signstream.inference.reader import Reader, TrainedOn
from signstream.inference.recognition.live import Heard, LivePath
from signstream.inference.recognition.spans import Cleaning, Recognised, Signed
from signstream.inference.timing import Timing
from signstream.models.ctc_beam import Hypothesis, likeliest
from signstream.models.recognition import Emissions
from signstream.tasks.recognition.restore import restore
from signstream.tokens.format import TokenSequence
from signstream.training import checkpoint
from signstream.training.distributed import pick_device
from signstream.training.run_folder import best_of


class Recogniser(Reader):
    """`decode` is the config's unless set."""

    who = "the recogniser"

    def __init__(
        self, state: Mapping[str, Any], device: str | torch.device = "cpu", decode: Decode | None = None
    ) -> None:
        self.config = checkpoint.config_of(state, RecognitionConfig)
        self.decode = decode or self.config.decode
        self.model, self.kept = restore(self.config, state)
        super().__init__(self.config.data, TrainedOn(self.kept.shape, self.kept.parts, self.kept.tokenizer), device)
        self.model.to(self.device).eval().requires_grad_(False)
        self.glosses = self.kept.glosses
        self.digest = checkpoint.digest(self.model.state_dict())

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Recogniser:
        return cls(checkpoint.load(best_of(path)), pick_device(device, 0, 1))

    def timing(self, fps: float | None = None, chunk_len: int = 1) -> Timing:
        model, data = self.config.model, self.config.data
        if self.source in ("latents", "codes"):
            return Timing(fps or data.fps, chunk_len, model.tokens.steps_a_chunk)
        strides = {
            "keypoints": math.prod(model.keypoints.strides),
            "frames": data.frames.interval * model.frames.stride,
        }
        return Timing(data.fps, strides[self.source])

    # -- clips

    def recognise(self, poses: np.ndarray | Tensor, fps: float | None = None) -> Recognised:
        """poses [T, J, 3]; `fps` None: the config's."""
        self.demand("keypoints")
        ready = prepare(self.checked(poses), self.skeleton, self.config.data, fps=fps)
        return self.recognise_prepared(ready.frames)

    def recognise_prepared(self, joints: Tensor) -> Recognised:
        """[T', J, 3] as the front end gives them."""
        padded = Padded({"keypoints": joints[None].to(self.device)}, (len(joints),))
        return self.recognise_clips(padded, [len(joints)], self.timing())[0]

    def recognise_tokens(self, tokens: TokenSequence) -> Recognised:
        codes = self.checked_tokens(tokens)
        padded = Padded({"codes": pad(codes, [len(codes)], -1).to(self.device)}, (len(codes),))
        return self.recognise_clips(padded, [tokens.num_frames], self.timing(tokens.fps, tokens.chunk_len))[0]

    def recognise_clips(self, padded: Padded, frames: Sequence[int], timing: Timing) -> list[Recognised]:
        """`frames` of each clip."""
        return self.read(self.emissions(padded), frames, timing)

    @torch.no_grad()
    def emissions(self, padded: Padded) -> Emissions:
        lengths = torch.tensor(padded.lengths, dtype=torch.int64, device=self.device)
        return self.model(padded.streams, lengths)

    def read(
        self, emissions: Emissions, frames: Sequence[int], timing: Timing, *, decode: Decode | None = None
    ) -> list[Recognised]:
        """What is said of each clip; `decode` in place of its own."""
        decode = decode or self.decode
        best = likeliest(*emissions, beam=decode.beam, skip_blank=decode.skip_blank)
        return [self._told(one, most, timing) for one, most in zip(best, frames)]

    def _told(self, found: Hypothesis, frames: int, timing: Timing) -> Recognised:
        heard = (Heard(*each) for each in zip(found.ids, found.steps, found.confidence))
        signs = Cleaning(self.config.data.clean).all(self.signed(each, frames, timing) for each in heard)
        return Recognised(signs, frames, timing.fps, found.score)

    def signed(self, heard: Heard, frames: int, timing: Timing) -> Signed:
        return Signed(self.glosses.names[heard.id - 1], *timing.span(heard.steps, frames), heard.confidence)

    # -- a stream

    def stream(self, fps: float | None = None) -> Stream:
        self.demand("keypoints")
        if not self.model.causal:
            raise UserError(
                "the recogniser is not causal, so it must see a whole clip: a stream needs one that was trained with "
                "model.causal=true; or give it a file, --input clip.npy"
            )
        return Stream(self, fps)


class Stream:
    """One live clip: `push` frames, get the glosses that are final; `finish` gives the rest. Memory does not grow."""

    def __init__(self, recogniser: Recogniser, fps: float | None = None) -> None:
        self.recogniser = recogniser
        self.timing = recogniser.timing()
        self.front = FrontEnd(recogniser.skeleton, recogniser.config.data, fps)
        self.memory = recogniser.model.begin()
        self.path = LivePath()
        self.cleaning = Cleaning(recogniser.config.data.clean)
        self.frames = 0  # prepared, so far

    def push(self, frames: np.ndarray | Tensor) -> list[Signed]:
        """[n, J, 3], or one frame [J, 3]."""
        return self._add(self.front.push(self.recogniser.checked(frames, one_frame=True)))

    def finish(self) -> list[Signed]:
        signs = self._add(self.front.finish(), last=True)
        signs += self._cleaned(self.path.finish())
        return signs + self.cleaning.finish()

    @property
    def score(self) -> float:
        """Log-probability of what was said."""
        return self.path.score

    def _add(self, ready: Prepared, last: bool = False) -> list[Signed]:
        recogniser, most = self.recogniser, self.recogniser.config.data.max_frames
        joints = ready.frames if most is None else ready.frames[: max(most - self.frames, 0)]
        self.frames += len(joints)
        streams = {"keypoints": joints[None].to(recogniser.device)}
        log_probs, self.memory = recogniser.model.step(streams, self.memory, last=last)
        return self._cleaned(self.path.push(log_probs[0]))

    def _cleaned(self, heard: Sequence[Heard]) -> list[Signed]:
        signs = (self.recogniser.signed(each, self.frames, self.timing) for each in heard)
        return [done for sign in signs for done in self.cleaning.push(sign)]
