"""What training minimises. Every term is a sum over a batch and a count, so that batches, accumulation steps and ranks
add up.

    L = L_rec + commitment_beta * L_vq + temporal_loss_alpha * L_tem + usage_reg * L_usage + perceptual_weight *
    L_perceptual + those of the user

`counts` need the data alone, so the counts of a whole step, over all ranks, are known before its first backward pass.
Within a part's L_rec joints may weigh more or less (`loss.joint_weights`); a part's share of it stays what it is.
What is not among the first four is a Term: `perceptual`, and every class that a user registers and gives a weight in
`loss.terms`.
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
from signstream.skeleton import JOINT_GROUPS, NUM_JOINTS, Skeleton
from signstream.tasks.rvq.perceptual import Perceptual
from signstream.tasks.rvq.views import Target
from signstream.training.task import Terms

TERMS = ("rec", "commit", "temporal", "usage")
TAUGHT = "reading"  # where codes are taught what they mean: the last row, in the carrier's column


class Term(Protocol):
    """What a loss beside the four is: what it adds up over a batch's parts, and how many things that were. It learns
    no weights of its own."""

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
    if config.loss.perceptual_weight:
        terms["perceptual"] = Weighted(Perceptual(config, skeleton), config.loss.perceptual_weight)
    for name, weight in config.loss.terms.items():
        if weight < 0:
            raise UserError(f"loss.terms.{name} is {weight:g}: a weight from 0 is expected")
        term = registry.find("loss", name)(config, skeleton)
        if not all(callable(getattr(term, method, None)) for method in ("counts", "totals")):
            raise UserError(
                f"loss.terms names {name!r}, which is {type(term).__name__}: a loss has the methods counts and totals "
                "(docs/extending.md)"
            )
        terms[name] = Weighted(term, weight)
    return terms


class Losses:
    """Totals and counts [R, P] of a batch, a row a term: the four, then `extra`."""

    def __init__(
        self,
        config: Config,
        parts: Sequence[str],
        extra: Mapping[str, Weighted] | None = None,
        *,
        taught: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.delta = config.loss.huber_delta
        self.joints = [each if each is None else each.to(device) for each in joint_weights(config, parts)]
        self.extra = dict(extra or {})
        share = part_shares(config.loss.part_weights, parts)
        rvq = config.model.rvq
        of_codes = torch.tensor([rvq.commitment_beta, rvq.temporal_loss_alpha, rvq.usage_reg])[:, None]
        of_poses = torch.tensor([1.0, *(weight for _, weight in self.extra.values())])[:, None] * share
        rows = [of_poses[:1], of_codes.expand(3, len(parts)) / len(parts), of_poses[1:]]
        names = [*TERMS, *self.extra]
        if taught is not None:
            of_drawn = (taught.sum(0) == 0).float()  # [P] 0 for the carrier, which may change from chunk to chunk
            rows[1] = rows[1] * torch.stack((torch.ones_like(of_drawn), of_drawn, torch.ones_like(of_drawn)))
            rows.append(taught)
            names.append(TAUGHT)
        self.terms = Terms(names, parts, torch.cat(rows).to(device))

    def counts(self, batch: ChunkBatch, targets: Sequence[Target]) -> Tensor:
        """What each term is divided by, once summed over the step: [R, P]."""
        valid = valid_chunks(targets)
        joints = torch.stack([visible_joints(target, weights) for target, weights in zip(targets, self.joints)])
        pairs = (valid[:, 1:] & valid[:, :-1] & follows(batch)).sum(1)
        watching = (valid & watched(batch)).sum(1)
        rows = [row.double() for row in (joints, valid.sum(1), pairs, watching)]
        for name, (term, _) in self.extra.items():
            rows.append(_checked(term.counts(batch, targets), rows[0], f"the loss {name!r}: counts"))
        return torch.stack(rows)

    def totals(self, output: Output, batch: ChunkBatch, targets: Sequence[Target]) -> Tensor:
        """The sums over the batch: [R, P]. Without the quantiser its terms are 0."""
        valid = valid_chunks(targets)
        latents = output.latents.float()
        parts = zip(output.views, targets, self.joints)
        rec = torch.stack([huber(view, target, self.delta, joints=joints).sum() for view, target, joints in parts])
        pairs = valid[:, 1:] & valid[:, :-1] & follows(batch)
        steps = (latents[:, 1:] - latents[:, :-1]).square().mean(-1) * pairs
        commit = usage = torch.zeros_like(rec)
        if output.quantised is not None:
            commit = (output.quantised.commit * valid).sum(1)
            usage = (output.quantised.usage * valid).sum(1)
        rows = [rec, commit, steps.sum(1), usage]
        for name, (term, _) in self.extra.items():
            rows.append(_checked(term.totals(output, batch, targets), rec, f"the loss {name!r}: totals"))
        return torch.stack(rows)

    def level_costs(self, prefixes: Sequence[Tensor], targets: Sequence[Target]) -> Tensor:
        """What each chunk and part adds to the loss when decoded from its first 1 .. Q codes, a missing joint costing
        nothing: [N, P, Q]; prefixes: P x [Q, N, L, J, 2], from RVQModel.decode_prefixes."""
        costs = [
            torch.stack([huber(view, target, self.delta, joints=joints) for view in views], -1)
            / target.weight[:1].numel()
            for views, target, joints in zip(prefixes, targets, self.joints)
        ]
        return torch.stack(costs, 1) * self.terms.weights[0, :, None].to(costs[0].device)


def part_shares(weights: Mapping[str, float], parts: Sequence[str]) -> Tensor:
    """[P], 1 in all."""
    missing = [part for part in parts if part not in weights]
    if missing:
        raise UserError(f"loss.part_weights has no weight for {', '.join(missing)}")
    if min(weights[part] for part in parts) < 0 or not any(weights[part] for part in parts):
        raise UserError(f"loss.part_weights is {weights}: weights from 0, and one above it, are expected")
    share = torch.tensor([weights[part] for part in parts])
    return share / share.sum()


def joint_weights(config: Config, parts: Sequence[str]) -> list[Tensor | None]:
    """P x [J], 1 on average, so that a code's worth keeps its scale; None where all weigh the same by default."""
    if not config.loss.joint_weights:
        return [None] * len(parts)
    weights = torch.ones(NUM_JOINTS, dtype=torch.float64)
    for group, weight in config.loss.joint_weights.items():
        weights[list(JOINT_GROUPS[group])] = weight
    ranges = [config.data.body_parts[part] for part in parts]  # from 1, both ends in
    return [_one_on_average(weights[first - 1 : last], part) for part, (first, last) in zip(parts, ranges)]


def _one_on_average(weights: Tensor, part: str) -> Tensor:
    if not weights.any():
        raise UserError(
            f"loss.joint_weights leaves no joint of {part} a weight above 0: give it one, or leave the part out of "
            "data.body_parts"
        )
    weights = weights / weights.max()  # now none is too large to be added up
    return (weights * (len(weights) / weights.sum())).float()


def _checked(result: Tensor, like: Tensor, what: str) -> Tensor:
    """What a user's loss gives, if it is one number a part."""
    if not isinstance(result, Tensor) or result.shape != like.shape:
        raise UserError(
            f"{what} gave {list(getattr(result, 'shape', [])) or result!r}: one number a part, "
            f"{list(like.shape)}, is expected"
        )
    return result.to(like)


def huber(view: Tensor, target: Target, delta: float, *, joints: Tensor | None = None) -> Tensor:
    """[N] sums over a chunk's visible joints of the Huber losses of x and y, over delta: about the distance along them
    where it is far. `joints` [J]: what each weighs."""
    error = F.huber_loss(view.float(), target.xy, reduction="none", delta=delta).sum(-1) / delta  # [N, L, J]
    if joints is not None:
        error = error * joints.to(error)
    return torch.where(target.weight > 0, error, 0.0).sum((1, 2))


def visible_joints(target: Target, joints: Tensor | None = None) -> Tensor:
    """How many there are in all chunks, or what they weigh together."""
    seen = (target.weight > 0).sum((0, 1))  # [J]
    return seen.sum() if joints is None else (seen * joints.to(seen.device).double()).sum()


def valid_chunks(targets: Sequence[Target]) -> Tensor:
    """[P, N] which chunks have anything of a part."""
    return torch.stack([(t.weight > 0).any(-1).any(-1) for t in targets])


def watched(batch: ChunkBatch) -> Tensor:
    """[N] the chunks that the usage loss is worked out on: one in eight, the same ones however clips fall into
    batches."""
    return (batch.t + 5 * batch.clip) % 8 == 0


def chunks_before(batch: ChunkBatch) -> Tensor:
    """[N] how many chunks of the same clip lie directly before each one."""
    place = torch.arange(len(batch), device=batch.clip.device)
    first = torch.cat((place[:1] == 0, ~follows(batch)))  # [N]
    return place - torch.where(first, place, 0).cummax(0).values if len(place) else place


def follows(batch: ChunkBatch) -> Tensor:
    """[N - 1] whether a chunk is the next one of the same clip as the chunk before it."""
    return (batch.clip[1:] == batch.clip[:-1]) & (batch.t[1:] == batch.t[:-1] + 1)
