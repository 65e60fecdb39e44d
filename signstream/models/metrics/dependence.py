"""What codes say of each other: between parts (mutual information, entropy) and from a chunk to the next (stay).

    N chunks   P parts   Q levels

A code of -1 was not sent, or its part shows nothing: such chunks do not count. From few chunks the plain estimate I of
the mutual information of two large codebooks is mostly bias: what it gives after a shuffle, which leaves nothing in
common. With E the mean over SHUFFLES and H the smaller entropy, (I - E) / (H - E) * H takes its place (the adjusted
mutual information, in bits): 0 for strangers, H where one part says all of the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHUFFLES = 8
LEAST_ROOM = 0.02  # between a shuffle's value and the most there can be, of the latter


def mutual_information(codes: Tensor, seed: int = 0) -> Tensor:
    """codes [N, P], in an order that does not depend on batches or ranks -> [P, P] bits, 0 at least; the diagonal is
    the entropy. NaN: no chunk."""
    codes = codes.cpu()
    parts = codes.shape[1]
    out = torch.full((parts, parts), torch.nan, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    for p in range(parts):
        out[p, p] = entropy(codes[codes[:, p] >= 0, p])
        for q in range(p):
            both = codes[(codes[:, p] >= 0) & (codes[:, q] >= 0)]
            if len(both):
                out[p, q] = out[q, p] = _shared(both[:, p], both[:, q], generator)
    return out


def _shared(a: Tensor, b: Tensor, generator: torch.Generator) -> float:
    """NaN where so few chunks say nothing, since hardly any two pairs of codes are the same."""
    pair = a * (int(b.max()) + 1)  # with b added, a number for each pair of codes
    entropies = entropy(a), entropy(b)
    plain = sum(entropies) - entropy(pair + b)
    joint = [entropy(pair + b[torch.randperm(len(b), generator=generator)]) for _ in range(SHUFFLES)]
    shuffled = sum(entropies) - sum(joint) / SHUFFLES
    most, room = min(entropies), min(entropies) - shuffled
    if most == 0:
        return 0.0
    return max((plain - shuffled) / room, 0.0) * most if room > LEAST_ROOM * most else float("nan")


def entropy(values: Tensor) -> float:
    """Of the values' shares, in bits; NaN of no value."""
    share = values.unique(return_counts=True)[1].double() / max(len(values), 1)
    return max(0.0, -float((share * share.log2()).sum())) if len(values) else float("nan")


def stay(codes: Tensor, clip: Tensor, t: Tensor) -> Tensor:
    """codes [N, P, Q], clip and t [N] in the order of time -> [P, Q] the share of chunks whose code is the one before;
    NaN: nothing to compare."""
    follows = (clip[1:] == clip[:-1]) & (t[1:] == t[:-1] + 1)
    both = (codes[1:] >= 0) & (codes[:-1] >= 0) & follows[:, None, None]
    return ((codes[1:] == codes[:-1]) & both).sum(0).double() / both.sum(0)
