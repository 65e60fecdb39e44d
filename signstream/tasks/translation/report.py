"""A pass over a split as a person reads it: BLEU and its company, and what some clips became."""

from __future__ import annotations

import math

from signstream.tasks.translation.validation import Sample, Score
from signstream.training.task import Findings

SHOWN = {"bleu_4": "BLEU-4", "bleu_1": "BLEU-1", "chrf": "chrF", "rouge_l": "ROUGE-L"}


def findings_of(score: Score) -> Findings:
    numbers = {**score.losses, **score.scores}
    if not score.scores:
        return Findings(numbers, None, ["validation of no clip"])
    said = ", ".join(f"{name} {score.scores[f'text/{key}']:.2f}" for key, name in SHOWN.items())
    empty = score.scores["text/empty"]
    lines = [
        f"validation {said}{f', {empty:.0f} % empty' if empty else ''}; perplexity "
        f"{math.exp(min(score.losses['sentence'], 700.0)):.3g} a unit",
        f"BLEU as {score.variants['bleu']}, chrF as {score.variants['chrf']}, ROUGE-L as {score.variants['rouge_l']}",
        *(line for name, sample in list(score.samples.items())[:1] for line in told(name, sample)),
    ]
    text = "\n\n".join("\n".join(told(name, sample)) for name, sample in score.samples.items())
    bleu = score.scores["text/bleu_4"]
    texts = {"sentences": text} if text else {}
    return Findings(numbers, -bleu, lines, status=[f"BLEU {bleu:.1f}"], texts=texts)


def told(name: str, sample: Sample) -> list[str]:
    return [name, f"  meant       {sample.reference}", f"  translated  {sample.translation}"]
