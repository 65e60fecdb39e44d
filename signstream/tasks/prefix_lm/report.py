"""A pass over a split as a person reads it: BLEU and its company, the same without the clip's signs, some sentences."""

from __future__ import annotations

from signstream.tasks.prefix_lm.validation import NONE, RIGHT, SHUFFLED, Measured, Sample, Score
from signstream.training.task import Findings

SHOWN = {"bleu_4": "BLEU-4", "bleu_1": "BLEU-1", "rouge_l": "ROUGE-L"}
FOUND = {"recall_1": "R@1", "recall_5": "R@5", "median_rank": "median rank"}
CONTROLS = {SHUFFLED: "with another clip's signs", NONE: "with no signs"}


def findings_of(score: Score) -> Findings:
    right = score.by[RIGHT]
    numbers = {**right.losses, **right.scores, **score.found}
    if right.scores and right.early is not None:
        numbers["early"] = right.early
    for kind in CONTROLS:
        numbers |= numbers_of(kind, score.by[kind])
    if not right.scores:
        return Findings(numbers, None, ["validation of no clip"])
    said = ", ".join(f"{name} {right.scores[f'text/{key}']:.2f}" for key, name in SHOWN.items())
    beside = [f"{told}: {told_beside(numbers, kind)}" for kind, told in CONTROLS.items() if f"{kind}/bleu_4" in numbers]
    lines = [
        f"validation {said}; loss {right.losses['sentence']:.4g} a unit{live_of(right)}",
        f"controls {'; '.join(beside)}",
        *found_of(score.found),
        f"BLEU as {score.variants['bleu']}, ROUGE-L as {score.variants['rouge_l']}",
        *(line for name, sample in list(score.samples.items())[:1] for line in told_of(name, sample)),
    ]
    text = "\n\n".join("\n".join(told_of(name, sample)) for name, sample in score.samples.items())
    bleu = right.scores["text/bleu_4"]
    texts = {"sentences": text} if text else {}
    return Findings(numbers, -bleu, lines, status=[f"BLEU {bleu:.1f}"], texts=texts)


def numbers_of(kind: str, control: Measured) -> dict[str, float]:
    if not control.scores:
        return {}
    numbers = {f"{kind}/{term}": value for term, value in control.losses.items() if term != "loss"}
    numbers |= {f"{kind}/{name}": control.scores[f"text/{name}"] for name in SHOWN}
    return numbers if control.anyway is None else numbers | {f"{kind}/anyway": control.anyway}


def live_of(right: Measured) -> str:
    if right.early is None:
        return ""
    return f", {right.losses['question']:.4g} a question; {right.early:.0%} of its words before signing ended"


def told_beside(numbers: dict[str, float], kind: str) -> str:
    anyway = f", {numbers[f'{kind}/anyway']:.0%} of the words anyway" if f"{kind}/anyway" in numbers else ""
    return f"BLEU-4 {numbers[f'{kind}/bleu_4']:.2f}, loss {numbers[f'{kind}/sentence']:.4g}{anyway}"


def found_of(found: dict[str, float]) -> list[str]:
    if not found:
        return []
    said = [
        f"{told} {found[f'retrieval/{name}']:.3g} (chance {found[f'retrieval/chance/{name}']:.3g})"
        for name, told in FOUND.items()
    ]
    return [f"the right sentence by the signs: {', '.join(said)}"]


def told_of(name: str, sample: Sample) -> list[str]:
    return [
        name,
        f"  meant       {sample.reference}",
        f"  said        {sample.said}",
        f"  of another  {sample.shuffled}",
    ]
