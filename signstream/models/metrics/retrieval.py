"""Whether signing finds its sentence among all of a split, and a sentence its signing.

    N clips   Z width of an embedding

    signing [N, Z], text [N, Z], sentence [N] (the same number: the same sentence) --retrieval--> {
        "retrieval/sign_to_text/recall_1": 0.31, ..., "retrieval/text_to_sign/...", "retrieval/chance/..."}

    recall_k      the share of queries that find a right one among their k nearest by the cosine
    median_rank   the k at which that share is one half; between two ranks where it is one half from one to the next
    chance        the same of an order drawn by lot; it is one for both directions

    retrieval_by(rows of signing, rows of text, sentence)      the same of similarities of another kind

A sentence that was signed several times has several right ones, of which the nearest counts. Equals stand in an order
drawn by lot: what is counted of them is the probability of each rank, so that a model that gives everything the same
embedding gets chance, neither the first place nor the last. A split without clips has no numbers.

Embeddings of a split lie in memory, the N x N cosines do not: they are made `rows` queries at a time. So that equals
are equal whatever the pieces, the device and its order of adding up, unit vectors are rounded to 2^-25: their products
are then whole numbers of 2^-50, which float64 adds without rounding.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from signstream.errors import UserError

RECALLS = (1, 5, 10)
ROWS = 256
GRID = 2.0**25
NEAR = 1e-9  # what rounding leaves of a share


class Ranks(NamedTuple):
    """Of each query, [N] float64: how many wrong ones are nearer than the nearest right one, how many are as near, and
    how many right ones are."""

    nearer: Tensor
    wrong: Tensor
    right: Tensor


def retrieval(signing: Tensor, text: Tensor, sentence: Tensor, *, rows: int = ROWS) -> dict[str, float]:
    """`sentence` [N] int64; all of a split, over ranks too."""
    signing, text = unit(signing, "signing"), unit(text, "text")
    return retrieval_by(_cosines(signing, text, rows), _cosines(text, signing, rows), sentence)


def retrieval_by(signing: Iterable[Tensor], text: Iterable[Tensor], sentence: Tensor) -> dict[str, float]:
    """`signing`: the similarities of each clip, in the order of `sentence` [N], to all sentences, as pieces [n, N];
    `text`: of each sentence to all clips. What counts as equal must be so to the last bit."""
    if not len(sentence):
        return {}
    found = {
        "sign_to_text": ranks(signing, sentence),
        "text_to_sign": ranks(text, sentence),
        "chance": by_lot(sentence),
    }
    return {f"retrieval/{way}/{name}": value for way, r in found.items() for name, value in _numbers(r).items()}


def unit(embeddings: Tensor, what: str) -> Tensor:
    """[.., Z] float64, of length 1 and on the grid; N is the first dimension."""
    unit = F.normalize(embeddings.detach().double(), dim=-1)
    if broken := int((~unit.isfinite()).flatten(1).any(-1).sum()):
        raise UserError(f"{broken} of {len(unit)} embeddings of {what} are not finite: the model has diverged")
    return (unit * GRID).round() / GRID


def _cosines(queries: Tensor, items: Tensor, rows: int) -> Iterator[Tensor]:
    for query in queries.split(rows):
        yield query @ items.T


def ranks(pieces: Iterable[Tensor], sentence: Tensor) -> Ranks:
    """Query and item i are of sentence i."""
    counts, first = [], 0
    for similarity in pieces:  # [n, N]
        sentence = sentence.to(similarity.device)
        same = sentence[first : first + len(similarity), None] == sentence
        first += len(similarity)
        nearest = similarity.masked_fill(~same, -torch.inf).amax(1, keepdim=True)
        equal = similarity == nearest
        counted = ((similarity > nearest).sum(1), (equal & ~same).sum(1), (equal & same).sum(1))
        counts.append(torch.stack(counted).double().cpu())
    return Ranks(*torch.cat(counts, 1))


def by_lot(sentence: Tensor) -> Ranks:
    """Where all are equals."""
    _, number, count = sentence.cpu().unique(return_inverse=True, return_counts=True)
    right = count[number].double()
    return Ranks(torch.zeros_like(right), len(right) - right, right)


def _numbers(found: Ranks) -> dict[str, float]:
    recalls = {f"recall_{k}": recall(found, k) for k in RECALLS}
    return recalls | {"median_rank": median_rank(found)}


def recall(found: Ranks, k: int) -> float:
    """The share of queries whose nearest right one is among the first k. Of w wrong and r right equals, t are among
    them: it is none of the right ones with probability C(w, t) / C(w + r, t)."""
    nearer, wrong, right = found
    equals = wrong + right
    taken = (k - nearer).clamp(min=0)
    t = taken.minimum(wrong)
    missed = (_log_factorial(wrong) - _log_factorial(wrong - t)) + (
        _log_factorial(equals - t) - _log_factorial(equals)
    )  # in this order, t = 0 leaves exactly 0
    return float(torch.where(taken > wrong, 1.0, -torch.expm1(missed)).mean())


def _log_factorial(count: Tensor) -> Tensor:
    return torch.lgamma(count + 1)


def median_rank(found: Ranks) -> float:
    """Without equals, what is called the median everywhere: the mean of the middle two where their number is even."""
    k = range(1, len(found.nearer) + 1)
    first = bisect_left(k, 0.5 - NEAR, key=lambda k: recall(found, k))
    last = bisect_right(k, 0.5 + NEAR, key=lambda k: recall(found, k))
    return (k[first] + k[last]) / 2
