"""Do codes carry meaning? A linear probe to glosses, from codes and from what they stand for, and how much signers
agree.

    n items (clips, or gloss segments)   F numbers that describe each   C glosses

    bag_of_codes(codes, spans, size)    -> [n, F] how often each code occurs in each item
    items = choose({"codes": bag, "latents": ..}, glosses, groups, single)
    probe(items)                        -> how well a linear map tells the glosses of items that it has not seen, from
                                           each of these, and from shuffled codes
    agreement(bag, gloss, signer, clip) -> overlap of first-level codes: one gloss by two signers, two by one signer

The probe is a logistic regression (softmax where an item has one gloss, a sigmoid a gloss where it may have several),
L2-regularised. Features are centred and share one scale: a scale of its own would blow up what is rare (a tenth lower
scores on the synthetic signer, codes and latents alike). Groups of items (a clip's segments, a signer's clips) are
dealt to folds; each item is told by the map that saw only the other folds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SEEDS = (0, 1, 2)
FOLDS = 5
STRENGTH = 1e-4  # of the L2 term, for features whose rows have a mean square norm of 1
FEWEST_ITEMS = 20
MOST_CLASSES = 100
STEPS = 100  # of L-BFGS


@dataclass(frozen=True)
class Items:
    features: dict[str, Tensor]  # {what may be read: [n, F], each its own F}; codes among them
    labels: Tensor  # [n, C] bool
    groups: Tensor  # [n] what must not be parted: clips, or signers
    single: bool  # every item has exactly one gloss: the score is top-1, else the mean average precision


class LinearMap(NamedTuple):
    weight: Tensor  # [F, C]
    bias: Tensor  # [C]


def bag_of_codes(codes: Tensor, spans: Sequence[tuple[int, int]], size: int) -> Tensor:
    """codes [N, P, Q] of a codebook of `size`, spans [(first, one past the last row)] -> counts [n, P * Q * size],
    first levels first."""
    _, parts, levels = codes.shape
    columns = (torch.arange(levels) * parts + torch.arange(parts)[:, None]) * size  # [P, Q]
    out = torch.zeros(len(spans), parts * levels * size)
    for row, (first, last) in zip(out, spans):
        inside = codes[first:last]
        row += torch.bincount((inside + columns)[inside >= 0], minlength=len(row))
    return out


def choose(
    features: Mapping[str, Tensor], glosses: Sequence[Sequence[str]], *, groups: Sequence[Any], single: bool
) -> Items | None:
    """What the probe is asked: the most frequent of the glosses that two groups have, and the items that have one of
    them; None: too few."""
    groups_of: dict[str, set[Any]] = {}
    for words, group in zip(glosses, groups):
        for gloss in words:
            groups_of.setdefault(gloss, set()).add(group)
    often = Counter(gloss for words in glosses for gloss in words if len(groups_of[gloss]) > 1)
    classes = sorted(often, key=lambda gloss: (-often[gloss], gloss))[:MOST_CLASSES]
    kept = [row for row, words in enumerate(glosses) if not set(classes).isdisjoint(words)]
    if len(classes) < 2 or len(kept) < FEWEST_ITEMS:
        return None
    labels = torch.tensor([[gloss in glosses[row] for gloss in classes] for row in kept])
    chosen = {name: rows[kept] for name, rows in features.items()}
    return Items(chosen, labels, numbered([groups[row] for row in kept]), single)


def numbered(values: Sequence[Any]) -> Tensor:
    """[n] the same number for the same value."""
    numbers = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return torch.tensor([numbers[value] for value in values])


def probe(items: Items, seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """{"classes", "items", "chance", "codes": [a seed], ..., "shuffled": [..]}: scores of items that the map had not
    seen, from each of the features."""
    told = {name: coordinates(rows) for name, rows in items.features.items()}
    score = top_one if items.single else mean_precision
    count, classes = items.labels.shape
    out: dict[str, Any] = {"classes": classes, "items": count, "chance": chance(items)}
    out |= {name: [] for name in (*told, "shuffled")}
    for seed in seeds:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        for name, features in {**told, "shuffled": told["codes"][order]}.items():
            out[name].append(score(predict(features, items, seed), items.labels))
    return out


def coordinates(features: Tensor) -> Tensor:
    """[n, F] -> [n, n at most]: the rows, centred, turned into as many axes as they span. An L2-regularised linear map
    makes the same of both, and n is bounded where F is not. What occurs in one item only is left out: it tells nothing
    of another."""
    features = features[:, (features != 0).sum(0) > 1]
    features = features - features.mean(0)
    gram = (features @ features.T).double()
    values, vectors = torch.linalg.eigh(gram / gram.trace().clamp(min=1e-9) * len(gram))
    return (vectors * values.clamp(min=0).sqrt())[:, values > 1e-6].float()


def folds(groups: Tensor, seed: int) -> Tensor:
    """[n] the fold of each item: whole groups, in a seeded order, each to the fold that has the fewest items."""
    names, group, count = groups.unique(return_inverse=True, return_counts=True)
    fold, load = torch.zeros(len(names), dtype=torch.int64), torch.zeros(min(FOLDS, len(names)))
    for name in torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist():
        fold[name] = load.argmin()
        load[fold[name]] += count[name]
    return fold[group]


def predict(features: Tensor, items: Items, seed: int) -> Tensor:
    """[n, C], each row by the map of the folds that it is not in."""
    fold, out = folds(items.groups, seed), torch.zeros(items.labels.shape)
    for number in range(int(fold.max()) + 1):
        away = fold == number
        line = fit(features[~away], items.labels[~away], items.single)
        out[away] = features[away] @ line.weight + line.bias
    return out


def fit(features: Tensor, labels: Tensor, single: bool) -> LinearMap:
    """A logistic regression; it is convex, so nothing is drawn. Its gradient is written out: a third faster."""
    weight = torch.zeros(features.shape[1], labels.shape[1], requires_grad=True)
    bias = torch.zeros(labels.shape[1], requires_grad=True)
    target, count = labels.float(), len(labels)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe")

    @torch.no_grad()
    def loss() -> Tensor:
        logits = torch.addmm(bias, features, weight)  # [n, C]
        if single:
            value, told = F.cross_entropy(logits, target), logits.softmax(1)
        else:
            value = F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / count
            told = logits.sigmoid()
        off = (told - target) / count  # of the logits
        weight.grad, bias.grad = features.T @ off + STRENGTH * weight, off.sum(0)
        return value + STRENGTH / 2 * weight.square().sum()

    optimiser.step(loss)
    return LinearMap(weight.detach(), bias.detach())


def top_one(scores: Tensor, labels: Tensor) -> float:
    """The share of items whose gloss is the one with the highest score."""
    return float(labels.gather(1, scores.argmax(1, keepdim=True)).double().mean())


def mean_precision(scores: Tensor, labels: Tensor) -> float:
    """The mean over glosses of the average precision: the precision at each item that has the gloss, going down the
    scores."""
    hit = labels.gather(0, scores.argsort(dim=0, descending=True, stable=True)).double()  # [n, C]
    rank = torch.arange(1, len(hit) + 1, dtype=torch.float64)[:, None]
    return float(((hit.cumsum(0) / rank * hit).sum(0) / hit.sum(0)).mean())


def chance(items: Items) -> float:
    """What no knowledge would score: always the most frequent gloss; for the mean average precision, its mean over all
    orders of the items."""
    n, positive = len(items.labels), items.labels.sum(0).double()
    if items.single:
        return float(positive.max() / n)
    harmonic = float((1 / torch.arange(1, n + 1, dtype=torch.float64)).sum())
    return float((((positive - 1) / (n - 1) * (n - harmonic) + harmonic) / n).mean())


def agreement(
    bag: Tensor, gloss: Sequence[str], signer: Sequence[str], *, clip: Sequence[int]
) -> dict[str, float | None]:
    """bag [n, F]: the overlap (Jaccard) of the codes that two items of different clips have, mean over all such pairs;
    None: no pair."""
    has = (bag > 0).double()
    both, count = has @ has.T, has.sum(1)
    overlap = both / (count[:, None] + count - both).clamp(min=1)
    same_gloss, same_signer, same_clip = (number[:, None] == number for number in map(numbered, (gloss, signer, clip)))
    pairs = {
        "same gloss, other signer": same_gloss & ~same_signer & ~same_clip,
        "other gloss, same signer": ~same_gloss & same_signer & ~same_clip,
    }
    return {name: float(overlap[pair].mean()) if pair.any() else None for name, pair in pairs.items()}
