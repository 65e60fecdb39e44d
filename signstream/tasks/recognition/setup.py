"""What the recogniser's training stands on: its clips, its glosses, its model; and how clips become batches.

A clip that no alignment of its glosses fits is left out before training: at each step CTC gives one gloss or the blank,
and between two that are the same it needs a blank. Validation keeps such a clip, since its words count as errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from signstream.config.recognition import RecognitionConfig, RecognitionData
from signstream.data.phoenix2014 import read_gloss_dict
from signstream.data.sequences import SequenceBatch, Sequences
from signstream.data.sources import open_sequences
from signstream.data.text import UNKNOWN, Glosses
from signstream.errors import shown
from signstream.glosses import clean
from signstream.io.batch import StreamBatch
from signstream.models.recognition import Recognizer, steps_needed
from signstream.models.recognition_fronts import Front
from signstream.tasks.recognition.build import front_of, model_of
from signstream.tasks.recognition.losses import Losses
from signstream.training.distributed import Ranks


class Setup:
    def __init__(self, config: RecognitionConfig, sequences: Sequences, ranks: Ranks) -> None:
        self.config, self.sequences, self.ranks = config, sequences, ranks
        front = front_of(config, sequences.shape, sequences.vectors if config.model.tokens.vectors else None)
        leave_out_too_short(sequences, front)
        self.glosses = glosses_of(sequences, config.data)
        self.targets = [self._target(i) for i in range(len(sequences.examples))]
        self.model: Recognizer = model_of(config, front, len(self.glosses)).to(ranks.device)
        self.losses = Losses(config.loss, ranks.device)

    @classmethod
    def open(cls, config: RecognitionConfig, ranks: Ranks) -> Setup:
        return cls(config, open_sequences(config.data, quiet=not ranks.is_main), ranks)

    def _target(self, clip: int) -> list[int]:
        """Its words' ids; none where a word has no id, or they do not fit."""
        example = self.sequences.examples[clip]
        ids = self.glosses.ids(example.words)
        return [] if UNKNOWN in ids or self.sequences.least[clip] > example.length else ids

    def words(self, split: str) -> list[str]:
        return [word for clip in self.sequences.splits[split] for word in self.sequences.examples[clip].words]

    def batch(self, raw: StreamBatch, *, train: bool) -> SequenceBatch:
        """On the device, augmented if it is to be trained on."""
        padded = self.sequences.padded(raw.to(self.ranks.device), train=train)
        references = [self.sequences.examples[clip].words for clip in raw.index]
        return SequenceBatch.of(padded, [self.targets[clip] for clip in raw.index], references, raw=raw)

    def cleaned(self, words: Sequence[str]) -> tuple[str, ...]:
        """What was recognised, as it counts."""
        return tuple(clean(words, self.config.data.clean))

    def steps(self, batch: SequenceBatch) -> Tensor:
        """[B] of the emissions, on the CPU."""
        return self.model.steps(torch.tensor(batch.steps, dtype=torch.int64))


def glosses_of(sequences: Sequences, data: RecognitionData) -> Glosses:
    """Those of the training split; or of a dictionary, and then a training clip with another one leaves its split."""
    if data.gloss_dict is None:
        return Glosses.of(sequences.examples[i].words for i in sequences.clips_of("train"))
    glosses = Glosses.of(clean([word], data.clean) for word in read_gloss_dict(Path(data.gloss_dict)))
    for clip in list(sequences.clips_of("train")):
        words = sequences.examples[clip].words
        if UNKNOWN in (ids := glosses.ids(words)):
            sequences.leave_out(clip, f"gloss not in data.gloss_dict: {shown(words[ids.index(UNKNOWN)])}")
    sequences.clips_of("train")
    return glosses


def leave_out_too_short(sequences: Sequences, front: Front) -> None:
    """Training clips that cannot be aligned leave their split; of the others no warp makes clips that cannot be."""
    lines = [example.words for example in sequences.examples]
    needed = [steps_needed(Glosses.of([line]).ids(line)) for line in lines]
    longest = max(example.length for example in sequences.examples)
    steps = front.steps(torch.arange(longest + 1))  # what so many steps give
    sequences.least = torch.searchsorted(steps, torch.tensor(needed)).tolist()
    for clip in list(sequences.splits.get("train", ())):
        example = sequences.examples[clip]
        if sequences.least[clip] > example.length:
            got = int(steps[example.length])
            sequences.leave_out(
                clip, f"cannot be aligned: {example.length} steps give {got}, {needed[clip]} are needed"
            )
