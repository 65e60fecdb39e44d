"""What BLEU a split gives to who has not seen its signing: a translator that is worth something is far above all three.

shuffled   each translation held against the sentence of another clip
silent     the same clips with nothing in them, as long as they are
prior      one training sentence, said of every clip: the one that scores best against training's own sentences
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from signstream.data.sequences import Padded, Sequences, text_fault
from signstream.inference.translation.written import Result, scored
from signstream.models.metrics.text import TextScores

SAMPLE = 300  # training sentences that the prior is chosen from, and against: ten seconds
BLEU = "text/bleu_4"


class Controls(NamedTuple):
    """BLEU-4 each; None: of no clip, or of one that has no other."""

    shuffled: float | None
    silent: float | None
    prior: float | None
    said: str  # the prior's sentence


def controls_of(language: str, results: Sequence[Result], silent: Sequence[Result], *, prior: str) -> Controls:
    """`silent`: the same clips' results with nothing in them. Clips without a sentence do not count."""
    texts = [result.clip.text for result in results]
    known = [number for number, text in enumerate(texts) if text is not None]
    references = [text for text in texts if text is not None]
    partners = deranged(references, seed=0)
    said = [results[number].best[0].text for number in known]
    return Controls(
        bleu(language, references, [said[partner] for partner in partners]) if len(known) > 1 else None,
        bleu(language, references, [silent[number].best[0].text for number in known]),
        bleu(language, references, [prior] * len(known)),
        prior,
    )


def bleu(language: str, references: Sequence[str], said: Sequence[str]) -> float | None:
    return scored(language, references, said).result().get(BLEU)


def deranged(sentences: Sequence[str], *, seed: int) -> list[int]:
    """The partner of each, drawn by the seed, nobody twice: never itself where there are two, and one with another
    sentence as long as no sentence is that of more than half. Those of one sentence stand side by side on a ring, and
    each one's partner is as far away as the commonest sentence is wide."""
    order = torch.randperm(len(sentences), generator=torch.Generator().manual_seed(seed)).tolist()
    groups: dict[str, list[int]] = {}
    for number in order:
        groups.setdefault(sentences[number], []).append(number)
    ring = [number for group in groups.values() for number in group]
    widest = max(map(len, groups.values()), default=0)
    far = widest if widest < len(ring) else 1
    partners = [0] * len(ring)
    for place, number in enumerate(ring):
        partners[number] = ring[(place + far) % len(ring)]
    return partners


def silenced(padded: Padded, glosses: int) -> Padded:
    """The same steps, with nothing in them. `glosses`: how many a gloss's id tells apart; the last is none of them."""
    empty = {"codes": -1, "glosses": glosses - 1}
    streams = {name: torch.full_like(stream, empty.get(name, 0)) for name, stream in padded.streams.items()}
    return Padded(streams, padded.lengths)


def prior_of(language: str, sequences: Sequences) -> str:
    """Of a data set's training sentences, the one that scores best where it is said of all of them; of a sample where
    they are many."""
    texts = [example.text for example in sequences.examples if example.split == "train"]
    return likeliest(language, [text for text in texts if not text_fault(text)])


def likeliest(language: str, sentences: Sequence[str], *, seed: int = 0) -> str:
    order = torch.randperm(len(sentences), generator=torch.Generator().manual_seed(seed)).tolist()
    sample = [sentences[number] for number in sorted(order[:SAMPLE])]
    scorer = TextScores(language).scorers.bleu
    best, most = "", -1.0
    for candidate in dict.fromkeys(sample):
        score = scorer.of_counts(scorer.counts(sample, [candidate] * len(sample)))
        if score > most:
            best, most = candidate, score
    return best
