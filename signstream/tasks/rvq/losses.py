"""What training minimises. Every term is a sum over a batch and a count, so that batches, accumulation steps and ranks add up.

    L = L_rec + commitment_beta * L_vq + temporal_loss_alpha * L_tem + usage_reg * L_usage + perceptual_weight * L_perceptual + those of the user

`counts` need the data alone, so the counts of a whole step, over all ranks, are known before its first backward pass.
What is not among the first four is a Term: `perceptual`, and every class that a user registers and gives a weight in `train.losses`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from signstream import registry
from signstream.config import Config
from signstream.data.collate import ChunkBatch
from signstream.errors import UserError
from signstream.models.rvq.rvq_model import Output
from signstream.skeleton import Skeleton
from signstream.tasks.rvq.perceptual import Perceptual
from signstream.tasks.rvq.views import Target

TERMS = ("rec", "commit", "temporal", "usage")


class Term(Protocol):
    """What a loss beside the four is: what it adds up over a batch's parts, and how many things that were. It has no weights of its own to learn."""

    def counts(self, batch: ChunkBatch, targets: Sequence[Target]) -> Tensor:
        """[P], from the data alone"""

    def totals(self, output: Output, batch: ChunkBatch, targets: Sequence[Target]) -> Tensor:
        """[P], as many things as the counts say; 0 for a batch without a chunk"""


class Weighted(NamedTuple):
    term: Term
    weight: float


def terms_of(config: Config, skeleton: Skeleton) -> dict[str, Weighted]:
    """The terms that the config switches on, by the names they are logged under."""
    terms = {}
    if config.train.perceptual_weight:
        terms["perceptual"] = Weighted(Perceptual(config, skeleton), config.train.perceptual_weight)
    for name, weight in config.train.losses.items():
        if weight < 0:
            raise UserError(f"train.losses.{name} is {weight:g}: a weight from 0 is expected")
        term = registry.find("loss", name)(config, skeleton)
        if not all(callable(getattr(term, method, None)) for method in ("counts", "totals")):
            raise UserError(
                f"train.losses names {name!r}, which is {type(term).__name__}: a loss has the methods counts and totals "
                "(docs/extending.md)"
            )
        terms[name] = Weighted(term, weight)
    return terms


class Losses:
    """Totals and counts [R, P] of a batch, a row a term: the four, then `terms`."""

    def __init__(self, config: Config, parts: Sequence[str], terms: Mapping[str, Weighted] | None = None) -> None:
        rvq, given = config.model.rvq, config.train.part_weights
        missing = [part for part in parts if part not in given]
        if missing:
            raise UserError(f"train.part_weights has no weight for {', '.join(missing)}")
        if min(given[part] for part in parts) < 0 or not any(given[part] for part in parts):
            raise UserError(f"train.part_weights is {given}: weights from 0, and one above it, are expected")
        self.delta, self.terms = config.train.huber_delta, dict(terms or {})
        self.names = (*TERMS, *self.terms)
        share = torch.tensor([given[part] for part in parts])
        of_codes = torch.tensor([rvq.commitment_beta, rvq.temporal_loss_alpha, rvq.usage_reg])[:, None].expand(
            3, len(parts)
        ) / len(parts)
        of_poses = torch.tensor([1.0, *(weight for _, weight in self.terms.values())])[:, None] * (share / share.sum())
        self.weights = torch.cat((of_poses[:1], of_codes, of_poses[1:]))  # [R, P]

    def counts(self, batch: ChunkBatch, targets: Sequence[Target]) -> Tensor:
        """What each term is divided by, once summed over the step: [R, P]."""
        valid = valid_chunks(targets)
        chunks, pairs, watching = (
            valid.sum(1),
            (valid[:, 1:] & valid[:, :-1] & follows(batch)).sum(1),
            (valid & watched(batch)).sum(1),
        )
        others = [
            self._checked(name, "counts", term.counts(batch, targets), chunks.double())
            for name, (term, _) in self.terms.items()
        ]
        return torch.stack(
            [
                *(
                    row.double()
                    for row in (torch.stack([(t.weight > 0).sum() for t in targets]), chunks, pairs, watching)
                ),
                *others,
            ]
        )

    def totals(self, output: Output, batch: ChunkBatch, targets: Sequence[Target]) -> Tensor:
        """The sums over the batch: [R, P]. Without the quantiser its terms are 0."""
        valid, latents = valid_chunks(targets), output.latents.float()
        rec = torch.stack([huber(view, target, self.delta).sum() for view, target in zip(output.views, targets)])
        steps = (latents[:, 1:] - latents[:, :-1]).square().mean(-1) * (valid[:, 1:] & valid[:, :-1] & follows(batch))
        none = torch.zeros_like(rec)
        commit = usage = none
        if output.quantised is not None:
            commit, usage = ((value * valid).sum(1) for value in (output.quantised.commit, output.quantised.usage))
        others = [
            self._checked(name, "totals", term.totals(output, batch, targets), rec)
            for name, (term, _) in self.terms.items()
        ]
        return torch.stack([rec, commit, steps.sum(1), usage, *others])

    @staticmethod
    def _checked(name: str, method: str, found: Tensor, like: Tensor) -> Tensor:
        if not isinstance(found, Tensor) or found.shape != like.shape:
            raise UserError(
                f"the loss {name!r}: {method} gave {list(getattr(found, 'shape', [])) or found!r}: one number a part, "
                f"{list(like.shape)}, is expected"
            )
        return found.to(like)

    def level_costs(self, prefixes: Sequence[Tensor], targets: Sequence[Target]) -> Tensor:
        """What each chunk and part adds to the loss when decoded from its first 1 .. Q codes, a missing joint costing nothing: [N, P, Q];
        prefixes: P x [Q, N, L, J, 2], from RVQModel.decode_prefixes."""
        costs = [
            torch.stack([huber(view, t, self.delta) for view in views], -1) / t.weight[:1].numel()
            for views, t in zip(prefixes, targets)
        ]
        return torch.stack(costs, 1) * self.weights[0, :, None].to(costs[0].device)

    def value(self, totals: Tensor, counts: Tensor) -> Tensor:
        """The loss: every part's mean of every term, weighted. What has no count adds nothing."""
        return (self.weights.to(totals.device) * totals / counts.clamp(min=1).to(totals)).sum()

    def named(self, totals: Tensor, counts: Tensor, parts: Sequence[str]) -> dict[str, float]:
        """Each term by itself, unweighted, and the loss, as numbers for people; the reconstruction also part by part."""
        means = (totals.double() / counts.clamp(min=1)).cpu()
        out = {"loss": float(self.value(totals.double(), counts))}
        for row, term in enumerate(self.names):
            weight = (
                self.weights[row].double() / self.weights[row].sum()
                if self.weights[row].any()
                else torch.full_like(means[row], 1 / len(parts))
            )
            out[term] = float((means[row] * weight).sum())
        return out | {f"rec/{part}": float(mean) for part, mean in zip(parts, means[0])}


def huber(view: Tensor, target: Target, delta: float) -> Tensor:
    """[N] sums over a chunk's visible joints of the Huber losses of x and y, over delta: about the distance along them where it is far."""
    error = F.huber_loss(view.float(), target.xy, reduction="none", delta=delta).sum(-1) / delta  # [N, L, J]
    return torch.where(target.weight > 0, error, 0.0).sum((1, 2))


def valid_chunks(targets: Sequence[Target]) -> Tensor:
    """[P, N] which chunks have anything of a part."""
    return torch.stack([(t.weight > 0).any(-1).any(-1) for t in targets])


def watched(batch: ChunkBatch) -> Tensor:
    """[N] the chunks that the usage loss is worked out on: one in eight, the same ones however clips fall into batches."""
    return (batch.t + 5 * batch.clip) % 8 == 0


def follows(batch: ChunkBatch) -> Tensor:
    """[N - 1] whether a chunk is the next one of the same clip as the chunk before it."""
    return (batch.clip[1:] == batch.clip[:-1]) & (batch.t[1:] == batch.t[:-1] + 1)
