"""How near translations are to what was meant, over a whole split: BLEU-1 to 4 and chrF as sacrebleu counts them, and
ROUGE-L of our own.

    references, hypotheses: sentences --add--> sums --result--> {"text/bleu_4": 21.3, ...}, each from 0 to 100
                                                --variants--> {"bleu": "nrefs:1|case:mixed|...", ...}, how each counts

    bleu_n    n-grams of words (sacrebleu's 13a) in German and English, of characters in Chinese; of all sentences
              together, unsmoothed save where an order has no match (exp), so bleu_4 is what `sacrebleu` prints
    chrf      n-grams of 1 to 6 characters, F with beta 2, of all sentences together, as `sacrebleu -m chrf` prints it
    rouge_l   the longest words (Chinese: characters) that both sentences have in one order, as a share of either, and
              of the two shares F with beta 1.2, as COCO's captions are scored; the mean over sentences. Words are what
              blanks part
    empty     the share of hypotheses that say nothing, in percent

Text counts as it is: in its case, with its punctuation, whole. Chinese is counted by `char`, not by `zh`, which leaves
Latin words and numbers whole: one rule then holds for every character, in BLEU and ROUGE-L alike. An empty hypothesis
matches nothing and its reference still counts; where both are empty, ROUGE-L is 100. A split without sentences has no
numbers. All sums are whole numbers (ROUGE-L's of steps of 2^-32): ranks, batches and their order change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from signstream.errors import UserError, shown
from signstream.models.metrics.sums import Sums

TOKENIZERS = {"de": "13a", "en": "13a", "zh": "char"}  # sacrebleu's names
ORDERS = 4  # of BLEU
BLEU_COUNTS = 2 + 2 * ORDERS  # tokens of the hypotheses and references, then matches and n-grams of each order
CHRF_COUNTS = 3 * 6  # of each order: n-grams of the hypotheses, of the references, matches
BETA = 1.2  # of ROUGE-L: recall weighs more
STEPS = 2**32  # of ROUGE-L's sum in one sentence: a million sentences still add up exactly in float64
OLDEST = (2, 2)  # of sacrebleu: 1 has no counts, 2.0 and 2.1 refuse empty references
GIVES = ("_extract_corpus_statistics", "_compute_score_from_stats")
INSTALL = "pip install 'sacrebleu>=2.2,<3'"


class Scorers(NamedTuple):
    """sacrebleu's own: each with counts(references, hypotheses) of all sentences together."""

    bleu: Any
    chrf: Any


def open_scorers(tokenizer: str) -> Scorers:
    try:
        from sacrebleu import BLEU, CHRF, __version__
    except ImportError as error:
        raise UserError(f"BLEU and chrF need the package sacrebleu ({error}): {INSTALL}") from None
    old = tuple(int(number) for number in __version__.split(".")[:2]) < OLDEST
    if old or not all(hasattr(metric, name) for metric in (BLEU, CHRF) for name in GIVES):
        raise UserError(f"sacrebleu {__version__} does not give its counts: {INSTALL}")

    class Counting:
        """What sacrebleu keeps for those who build on its metrics: sums can then be taken over batches and ranks."""

        _extract_corpus_statistics: Any
        _compute_score_from_stats: Any

        def counts(self, references: Sequence[str], hypotheses: Sequence[str]) -> torch.Tensor:
            lines = self._extract_corpus_statistics(list(hypotheses), [list(references)])
            return torch.tensor(lines, dtype=torch.float64).sum(0)

        def of_counts(self, counts: torch.Tensor) -> float:
            return float(self._compute_score_from_stats([round(count) for count in counts.tolist()]).score)

    class CountingBLEU(Counting, BLEU):
        pass

    class CountingCHRF(Counting, CHRF):
        pass

    # force: sentences that end in " ." are how PHOENIX writes them, and no reason for a warning.
    scorers = Scorers(CountingBLEU(tokenize=tokenizer, force=True), CountingCHRF())
    for scorer in scorers:
        scorer.counts([""], [""])  # a signature says how many references a sentence has, known from the first one on
    return scorers


class TextScores(Sums):
    """`language` is that of the sentences, as de, en, zh or one of them with its country (de_DE)."""

    def __init__(self, language: str, device: torch.device | str = "cpu") -> None:
        shapes = {"sentences": (), "empty": (), "bleu": (BLEU_COUNTS,), "chrf": (CHRF_COUNTS,), "rouge_l": ()}
        super().__init__(shapes, device)
        tokenizer = TOKENIZERS.get(language.replace("-", "_").split("_")[0])
        if tokenizer is None:
            raise UserError(f"the language is {shown(language)}: translations are scored in {', '.join(TOKENIZERS)}")
        self.by_character = tokenizer == "char"
        self.scorers = open_scorers(tokenizer)

    def add(self, references: Sequence[str], hypotheses: Sequence[str]) -> None:
        """One reference a hypothesis, in the same order."""
        pairs = list(zip(references, hypotheses, strict=True))
        if not pairs:
            return
        steps = [round(rouge_l(self.units(r), self.units(h)) * STEPS) for r, h in pairs]
        self.count("sentences", torch.tensor(len(pairs)))
        self.count("empty", torch.tensor(sum(not h.strip() for h in hypotheses)))
        self.count("rouge_l", torch.tensor(sum(steps) / STEPS, dtype=torch.float64))
        self.count("bleu", self.scorers.bleu.counts(references, hypotheses))
        self.count("chrf", self.scorers.chrf.counts(references, hypotheses))

    def units(self, sentence: str) -> list[str]:
        """What ROUGE-L compares."""
        words = sentence.split()
        return list("".join(words)) if self.by_character else words

    def result(self) -> dict[str, float]:
        totals = self.totals()
        sentences = float(totals["sentences"])
        if not sentences:
            return {}
        out = {f"text/bleu_{order}": self._bleu(totals["bleu"], order) for order in range(1, ORDERS + 1)}
        out["text/chrf"] = self.scorers.chrf.of_counts(totals["chrf"])
        out["text/rouge_l"] = 100 * float(totals["rouge_l"]) / sentences
        out["text/empty"] = 100 * float(totals["empty"]) / sentences
        return out

    def chrf_of(self, reference: str, hypothesis: str) -> float:
        """Of one sentence: it is no 0 where a short one has no four words in a row, as BLEU is."""
        chrf = self.scorers.chrf
        return float(chrf.of_counts(chrf.counts([reference], [hypothesis])))

    def _bleu(self, counts: torch.Tensor, order: int) -> float:
        """Of n-grams up to `order`, with the same penalty for short hypotheses."""
        whole = [round(count) for count in counts.tolist()]
        matches, grams = whole[2 : 2 + order], whole[2 + ORDERS : 2 + ORDERS + order]
        scorer = self.scorers.bleu
        options = {"smooth_method": scorer.smooth_method, "max_ngram_order": order}
        return float(scorer.compute_bleu(matches, grams, *whole[:2], **options).score)

    def variants(self) -> dict[str, str]:
        """What a number has to be quoted with: sacrebleu's signatures, of BLEU-4 and chrF, and ROUGE-L's in its way."""
        unit = "char" if self.by_character else "words"
        signatures = {name: str(scorer.get_signature()) for name, scorer in self.scorers._asdict().items()}
        return signatures | {"rouge_l": f"nrefs:1|case:mixed|tok:{unit}|F:beta{BETA}|mean:sentences"}


def rouge_l(reference: Sequence[str], hypothesis: Sequence[str]) -> float:
    """Of one sentence, from 0 to 1."""
    if not reference or not hypothesis:
        return float(not reference and not hypothesis)
    common = in_common(reference, hypothesis)
    # F of the precision common / len(hypothesis) and the recall common / len(reference), as one fraction.
    return (1 + BETA**2) * common / (len(hypothesis) + BETA**2 * len(reference)) if common else 0.0


def in_common(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence. A row of the usual table grows by 0 or 1 from place to place, so it
    is kept as one number, whose bits are 0 where it grows; each word of `second` turns it into the next row."""
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(first)) - 1
    row = full
    for word in second:
        met = row & places.get(word, 0)
        row = (row + met | row - met) & full
    return len(first) - row.bit_count()
