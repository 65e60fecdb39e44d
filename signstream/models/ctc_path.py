"""When each gloss of a line was signed: the best of the CTC paths that spell the line; and what all of them cost.

    B clips   S steps   V glosses, the blank first   U units of a line
    E states of a path: a blank, a unit, a blank, ..., a unit, a blank

    owner = best_path(log_probs, lengths, units)     # [B, S] which unit a step belongs to, -1 for none
    spans(log_probs, units, owner)                   # Spans: of each unit its first and last step, and a confidence

log_probs [B, S, V]; units [B, U] int64, the blank behind a line's end. What lies behind a clip's end changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BLANK = 0
NEVER = float("-inf")


class Spans(NamedTuple):
    first: Tensor  # [B, U] steps; S of a unit that owns none
    last: Tensor  # [B, U] inclusive; -1 of a unit that owns none
    confidence: Tensor  # [B, U] the mean probability of the unit over its steps


def within(lengths: Tensor, steps: int) -> Tensor:
    """lengths [B] -> [B, S] bool: which steps are the clip's."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


def ctc_cost(log_probs: Tensor, targets: Tensor, *, steps: Tensor, units: Sequence[int]) -> Tensor:
    """The sum over clips that have a target; targets [sum U], steps [B] on the CPU, units [B]: U. One that could not be
    aligned would make it infinite: such a clip is to have 0 units."""
    counts = torch.tensor(units, dtype=torch.int64)
    costs = F.ctc_loss(log_probs.transpose(0, 1), targets, steps, counts, blank=BLANK, reduction="none")  # [B]
    return torch.where((counts > 0).to(costs.device, non_blocking=True), costs, 0.0).sum()


@torch.no_grad()
def best_path(log_probs: Tensor, lengths: Tensor, units: Tensor) -> Tensor:
    """[B, S]. A line that has no path through its clip gets steps that mean nothing."""
    states = F.pad(F.pad(units[..., None], (1, 0)).flatten(1), (0, 1))  # [B, E]
    leaps = (states != BLANK) & (states != F.pad(states, (2, 0))[:, :-2])  # [B, E] over the blank between two units
    heard = log_probs.gather(2, states[:, None].expand(-1, log_probs.shape[1], -1))  # [B, S, E]
    inside = within(lengths, log_probs.shape[1])
    score = torch.full_like(states, NEVER, dtype=log_probs.dtype)
    score[:, 0] = 0.0  # before the first step
    moves = []
    for now, here in zip(heard.unbind(1), inside[..., None].unbind(1)):
        before = F.pad(score, (2, 0), value=NEVER)
        ways = torch.stack((score, before[:, 1:-1], before[:, :-2].masked_fill(~leaps, NEVER)))  # [3, B, E]
        best, move = ways.max(0)
        score = torch.where(here, best + now, score)
        moves.append(move * here)
    end = 2 * (units != BLANK).sum(1, keepdim=True)  # [B, 1] the blank behind the last unit, or that unit
    unit = (end - 1).clamp(min=0)
    path = _walk_back(moves, torch.where(score.gather(1, unit) > score.gather(1, end), unit, end))
    return torch.where(inside & (path % 2 == 1), path // 2, -1)


def _walk_back(moves: list[Tensor], end: Tensor) -> Tensor:
    """moves: for each step [B, E] from how many states below each was reached; end [B, 1] -> states [B, S]."""
    path, state = [], end
    for move in reversed(moves):
        path.append(state)
        state = (state - move.gather(1, state)).clamp(min=0)
    return torch.cat(path[::-1], 1) if path else end[:, :0]


@torch.no_grad()
def spans(log_probs: Tensor, units: Tensor, owner: Tensor) -> Spans:
    """owner [B, S], the steps of a unit one after another."""
    clips, steps = owner.shape
    count = units.shape[1]
    slot = torch.where(owner < 0, count, owner)  # what is nobody's goes to a column of its own, which is cut off
    step = torch.arange(steps, device=owner.device).expand(clips, -1)
    first = slot.new_full((clips, count + 1), steps).scatter_reduce(1, slot, step, "amin")
    last = slot.new_full((clips, count + 1), -1).scatter_reduce(1, slot, step, "amax")
    sure = log_probs.gather(2, F.pad(units, (0, 1)).gather(1, slot)[..., None])[..., 0].exp()  # [B, S]
    total = sure.new_zeros(clips, count + 1).scatter_add(1, slot, sure)
    confidence = total / (last - first + 1).clamp(min=1)
    return Spans(first[:, :-1], last[:, :-1], confidence[:, :-1])
