"""The clips of a split that a recogniser is to read (inference/clips.py has those of files)."""

from __future__ import annotations

from collections.abc import Sequence

from signstream.config.recognition import RecognitionData
from signstream.data.sources import open_sequences
from signstream.inference import clips
from signstream.inference.recognition.recogniser import Recogniser

SplitClips = clips.SplitClips[Recogniser]


def of_split(
    recogniser: Recogniser, data: RecognitionData, split: str, *, labelled: bool = False, quiet: bool = False
) -> SplitClips:
    """All clips of a split that can be read; `labelled`: those that validation reads."""
    sequences = open_sequences(data, quiet)
    recogniser.check_sequences(sequences)
    numbers: Sequence[int] = [i for i, example in enumerate(sequences.examples) if example.split == split]
    if labelled or not numbers:
        numbers = sequences.clips_of(split)  # or an error that says which splits there are
    return SplitClips(recogniser, sequences, numbers)
