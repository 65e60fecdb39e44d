"""What training minimises. Every term is a sum over a batch and a count, so that batches, accumulation steps and ranks add up.

    L = L_rec + commitment_beta * L_vq + temporal_loss_alpha * L_tem + usage_reg * L_usage

`counts` need the data alone, so the counts of a whole step, over all ranks, are known before its first backward pass.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from signstream.config import Config
from signstream.data.collate import ChunkBatch
from signstream.models.rvq.rvq_model import Output
from signstream.views import Target

InfoNCE = Callable[[Output, ChunkBatch], Tensor]
TERMS = ("rec", "commit", "temporal", "usage", "info_nce")


class Losses:
    """Totals and counts [5, P] of a batch, a row a term. `info_nce` is a hook, (output, batch) -> a loss a chunk and part [P, N]; none by default."""

    def __init__(self, config: Config, parts: Sequence[str], info_nce: InfoNCE | None = None, info_nce_weight: float = 0.1) -> None:
        rvq, given = config.model.rvq, config.train.part_weights
        missing = [part for part in parts if part not in given]
        if missing:
            raise ValueError(f"train.part_weights has no weight for {', '.join(missing)}")
        if min(given[part] for part in parts) < 0 or not any(given[part] for part in parts):
            raise ValueError(f"train.part_weights is {given}: weights from 0, and one above it, are expected")
        self.delta, self.info_nce = config.train.huber_delta, info_nce
        share = torch.tensor([given[part] for part in parts])
        scale = torch.tensor([1.0, rvq.commitment_beta, rvq.temporal_loss_alpha, rvq.usage_reg, info_nce_weight if info_nce else 0.0])
        self.weights = scale[:, None] / len(parts) * torch.ones(5, len(parts))  # [5, P]
        self.weights[0] = share / share.sum()

    def counts(self, batch: ChunkBatch, targets: Sequence[Target]) -> Tensor:
        """What each term is divided by, once summed over the step: [5, P]."""
        valid = valid_chunks(targets)
        chunks, pairs, watching = valid.sum(1), (valid[:, 1:] & valid[:, :-1] & follows(batch)).sum(1), (valid & watched(batch)).sum(1)
        return torch.stack([torch.stack([(t.weight > 0).sum() for t in targets]), chunks, pairs, watching, chunks]).double()

    def totals(self, output: Output, batch: ChunkBatch, targets: Sequence[Target]) -> Tensor:
        """The sums over the batch: [5, P]. Without the quantiser its terms are 0."""
        valid, latents = valid_chunks(targets), output.latents.float()
        rec = torch.stack([huber(view, target, self.delta).sum() for view, target in zip(output.views, targets)])
        steps = (latents[:, 1:] - latents[:, :-1]).square().mean(-1) * (valid[:, 1:] & valid[:, :-1] & follows(batch))
        none = torch.zeros_like(rec)
        commit = usage = contrast = none
        if output.quantised is not None:
            commit, usage = ((value * valid).sum(1) for value in (output.quantised.commit, output.quantised.usage))
        if self.info_nce is not None:
            contrast = (self.info_nce(output, batch) * valid).sum(1)
        return torch.stack([rec, commit, steps.sum(1), usage, contrast])

    def level_costs(self, prefixes: Sequence[Tensor], targets: Sequence[Target]) -> Tensor:
        """What each chunk and part adds to the loss when decoded from its first 1 .. Q codes, a missing joint costing nothing: [N, P, Q];
        prefixes: P x [Q, N, L, J, 2], from RVQModel.decode_prefixes."""
        costs = [torch.stack([huber(view, t, self.delta) for view in views], -1) / t.weight[:1].numel() for views, t in zip(prefixes, targets)]
        return torch.stack(costs, 1) * self.weights[0, :, None].to(costs[0].device)

    def value(self, totals: Tensor, counts: Tensor) -> Tensor:
        """The loss: every part's mean of every term, weighted. What has no count adds nothing."""
        return (self.weights.to(totals.device) * totals / counts.clamp(min=1).to(totals)).sum()

    def named(self, totals: Tensor, counts: Tensor, parts: Sequence[str]) -> dict[str, float]:
        """Each term by itself, unweighted, and the loss, as numbers for people; the reconstruction also part by part."""
        means = (totals.double() / counts.clamp(min=1)).cpu()
        out = {"loss": float(self.value(totals.double(), counts))}
        for row, term in enumerate(TERMS[: 5 if self.info_nce else 4]):
            weight = self.weights[row].double() / self.weights[row].sum() if self.weights[row].any() else torch.full_like(means[row], 1 / len(parts))
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
