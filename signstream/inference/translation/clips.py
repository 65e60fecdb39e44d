"""The clips that a translator is to read: of a split here, of files in inference/clips.py; and which cannot be read.

Where a split has a sentence for a clip, it is `clip.text`: what the data set says, lower-cased only if `data.lower` is.
"""

from __future__ import annotations

from signstream.config.translation import SentenceData
from signstream.data.sentences import WithVisual, open_sentences
from signstream.inference.clips import Clips, Label, SplitClips, labels_of
from signstream.inference.translation.translator import Translator


def of_split(translator: Translator, data: SentenceData, split: str, *, quiet: bool = False) -> SplitClips[Translator]:
    """All clips of a split, those without a sentence too."""
    sequences = open_sentences(data, quiet)
    translator.check_sequences(sequences)
    numbers = [i for i, example in enumerate(sequences.examples) if example.split == split]
    return SplitClips(translator, sequences, numbers or sequences.clips_of(split))


def meanings(data: SentenceData, split: str) -> dict[str, Label]:
    """Of the clips of a split, by their names."""
    labels = labels_of(data, split)
    if not data.lower:
        return labels
    return {name: label._replace(text=label.text.lower()) for name, label in labels.items()}


def faults(clips: Clips[Translator]) -> dict[int, str]:
    """The numbers of clips that cannot be read, and why."""
    found = {number: _fault(clips, number) for number in range(len(clips.all))}
    return {number: fault for number, fault in found.items() if fault is not None}


def _fault(clips: Clips[Translator], number: int) -> str | None:
    clip = clips.all[number]
    if isinstance(clips, SplitClips) and isinstance(clips.sequences, WithVisual):
        split = clips.sequences.examples[clips.numbers[number]].split
        if fault := clips.sequences.visual.fault(split, clip.name):
            return fault
    return clips.reader.too_long(clip.steps)
