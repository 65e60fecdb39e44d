"""A pass over a split as a person reads it: WER and what it is made of, and what some clips became."""

from __future__ import annotations

from collections.abc import Mapping

from signstream.data.text import UNKNOWN
from signstream.models.metrics import wer
from signstream.tasks.recognition.setup import Setup
from signstream.tasks.recognition.validation import AVERAGE, LIVE, Sample, Score
from signstream.training.task import Findings

NAMES = {LIVE: "the weights themselves", AVERAGE: "their average"}


def unknown_words(setup: Setup) -> list[str]:
    """A line a split that has words which training has not."""
    lines = []
    for split in setup.sequences.splits:
        words = setup.words(split)
        unknown = setup.glosses.ids(words).count(UNKNOWN)
        if unknown:
            lines.append(f"{split}: {unknown} of {len(words)} words are not in training, so they will count as errors")
    return lines


def findings_of(scores: Mapping[str, Score], chosen: str) -> Findings:
    """`chosen`: the weights by which the split is judged."""
    score = scores[chosen]
    numbers = {**score.losses, **errors_in(score.errors)}
    for name, other in scores.items():
        numbers[f"{name}/wer"], numbers[f"{name}/ctc"] = percent(other.errors), other.losses["ctc"]
    if len(scores) > 1:
        numbers["by_average"] = float(chosen == AVERAGE)
    rate = f"WER {numbers['wer']:.1f} %"
    lines = [f"validation {rate}, {wer.parts_of(score.errors)}{both(scores, chosen)}; loss {numbers['loss']:.4g}"]
    lines += [line for name, sample in list(score.samples.items())[:1] for line in told(name, sample)]
    text = "\n\n".join("\n".join(told(name, sample)) for name, sample in score.samples.items())
    return Findings(numbers, numbers["wer"], lines, status=[rate], texts={"glosses": text} if text else {})


def percent(errors: wer.Counts) -> float:
    return 100 * errors.rate


def errors_in(errors: wer.Counts) -> dict[str, float]:
    """Per cent of the words."""
    words = max(errors.words, 1)
    kinds = {"substitutions": errors.substitutions, "deletions": errors.deletions, "insertions": errors.insertions}
    return {"wer": percent(errors), **{name: 100 * count / words for name, count in kinds.items()}}


def both(scores: Mapping[str, Score], chosen: str) -> str:
    """Which weights these are, where there are two sets."""
    others = [f"{NAMES[name]}: {percent(score.errors):.1f} %" for name, score in scores.items() if name != chosen]
    return f" by {NAMES[chosen]} ({', '.join(others)})" if others else ""


def told(name: str, sample: Sample) -> list[str]:
    return [name, f"  signed      {' '.join(sample.reference)}", f"  recognised  {' '.join(sample.hypothesis)}"]
