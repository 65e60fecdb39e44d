"""Whether signs tell their sentence from others of the split, by how likely they make each.

    retrieval(setup, clips)      {"retrieval/recall_1": 0.6, .., "retrieval/chance/recall_1": 0.03, ..}

N clips that say different things, spread evenly over the split, and their N sentences. Every rank makes the same calls.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from signstream.models.metrics.retrieval import Ranks, by_lot, median_rank, ranks, recall
from signstream.tasks.prefix_lm.setup import Setup

MOST = 32  # clips
TOGETHER = 8  # sequences at a time, whatever a batch is: so numbers depend on none
GRID = 2.0**10  # a nat: what padding may round is far below it


@torch.no_grad()
def retrieval(setup: Setup, clips: Sequence[int]) -> dict[str, float]:
    """In evaluation mode, for which the caller cares. Of `clips`, a whole split; of less than two sentences nothing."""
    chosen = different(clips, [setup.sequences.examples[clip].text for clip in clips])
    if len(chosen) < 2:
        return {}
    rank, world, device = setup.ranks.rank, setup.ranks.world, setup.ranks.device
    likely = torch.zeros(len(chosen), len(chosen), dtype=torch.float64, device=device)
    for row in range(rank, len(chosen), world):
        likely[row] = likelihoods(setup, chosen[row], chosen)
    beyond = beyond_others(setup.ranks.sum_(likely))
    sentence = torch.arange(len(chosen))
    found, chance = ranks([beyond], sentence), by_lot(sentence)
    return numbers_of("retrieval", found) | numbers_of("retrieval/chance", chance)


def different(clips: Sequence[int], texts: Sequence[str]) -> list[int]:
    first = dict(zip(reversed(texts), reversed(clips)))
    every = sorted(first.values(), key=clips.index)
    count = min(MOST, len(every))
    return [every[i * len(every) // count] for i in range(count)]


def likelihoods(setup: Setup, clip: int, others: Sequence[int]) -> Tensor:
    """[N]: of the sentence of each, by the signs of this one."""
    codes = setup.sequences.rows(clip)
    pieces = (others[first : first + TOGETHER] for first in range(0, len(others), TOGETHER))
    return torch.cat([setup.form.likelihoods([codes] * len(some), some) for some in pieces])


def beyond_others(likely: Tensor) -> Tensor:
    """[N clips, N sentences]: nats above what all signs make of a sentence, so that neither its length counts nor how
    likely the language alone makes it. A prefix without signs is nothing that training shows, and says less of that."""
    return ((likely - likely.mean(0)) * GRID).round() / GRID


def numbers_of(name: str, found: Ranks) -> dict[str, float]:
    shares = {f"{name}/recall_{k}": recall(found, k) for k in (1, 5)}
    return shares | {f"{name}/median_rank": median_rank(found)}
