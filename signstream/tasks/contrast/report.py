"""A pass over a split as a person reads it: how many clips find their sentence, and what some of them find."""

from __future__ import annotations

from statistics import mean

from signstream.models.metrics.retrieval import RECALLS
from signstream.tasks.contrast.validation import Measured, Sample
from signstream.training.task import Findings

WAYS = ("sign_to_text", "text_to_sign")


def findings_of(measured: Measured) -> Findings:
    numbers = measured.numbers
    score = -mean(numbers[f"retrieval/{way}/recall_{k}"] for way in WAYS for k in RECALLS)
    recalls = ", ".join(f"R@{k} {both(numbers, k)}" for k in RECALLS)
    ranks = " / ".join(f"{numbers[f'retrieval/{way}/median_rank']:g}" for way in (*WAYS, "chance"))
    line = f"validation {recalls}; median rank {ranks} (sign to text / text to sign / chance)"
    lines = [f"{line}; loss {numbers['loss']:.4g}, temperature {numbers['temperature']:.3g}"]
    lines += [line for name, sample in list(measured.samples.items())[:1] for line in told(name, sample)]
    text = "\n\n".join("\n".join(told(name, sample)) for name, sample in measured.samples.items())
    return Findings(
        numbers, score, lines, status=[f"R@1 {both(numbers, 1)}"], texts={"sentences": text} if text else {}
    )


def both(numbers: dict[str, float], k: int) -> str:
    """Per cent of the clips, and of the sentences."""
    there, back, chance = (100 * numbers[f"retrieval/{way}/recall_{k}"] for way in (*WAYS, "chance"))
    return f"{there:.1f} / {back:.1f} % (chance {chance:.1f})"


def told(name: str, sample: Sample) -> list[str]:
    return [name, f"  signed   {sample.reference}", f"  nearest  {sample.found}"]
