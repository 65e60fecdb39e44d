"""From a recogniser's emissions to lines of glosses: CTC prefix beam search, and the best path alone.

    B clips   S steps   V glosses, the blank first   K beams   M glosses that a step may add   N hypotheses of a clip

    beam_search(log_probs, lengths, beam=5, best=1)           # for each clip its hypotheses, the most probable first
    greedy(log_probs, lengths)                                # for each clip one: the best gloss of each step
    likeliest(log_probs, lengths, beam=5, skip_blank=0.95)    # for each clip one: greedy's for a beam of 1

log_probs [B, S, V] are log-probabilities, on any device; all clips and beams advance together, so there is one Python
loop, over steps. A beam is a prefix of glosses with the probabilities of all paths that spell it, kept in two sums:
paths that end in a blank, and paths that end in its last gloss. Two beams never hold the same prefix: a prefix is told
by a fingerprint of 64 bits. Of a step's glosses only the K + 1 likeliest can matter: each of them, save the beam's own
last gloss, makes a prefix at least as likely as any less likely gloss would, so the cost hardly grows with V.

A step whose blank is likelier than `skip_blank` counts as a blank for sure: no path leaves its prefix there, and two
signs of the same gloss before and behind it stay two. 1 (or None) skips nothing; from 0.5 on no step is skipped where a
gloss is the likeliest. What lies behind a clip's end changes nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from signstream.models.ctc_path import BLANK, NEVER, best_path, spans, within

EMPTY, NOBODY = 1, -1  # fingerprints: of the empty prefix, and of what is before it
MIX = -0x61C8864680B583EB, -0x40A7B892E31B1A47  # odd numbers whose bits look drawn


class Hypothesis(NamedTuple):
    ids: tuple[int, ...]
    score: float  # log-probability: of all paths that spell it, in the beams; of its one path, by greedy
    steps: tuple[tuple[int, int], ...]  # of each gloss the first and the last step, inclusive, on the best path
    confidence: tuple[float, ...]  # of each gloss, its mean probability over these steps


class Kept(NamedTuple):
    """The S' steps that are searched, one after another; behind a clip's last one a blank for sure."""

    log_probs: Tensor  # [B, S', V]
    after_gap: Tensor  # [B, S'] bool: steps that were skipped lie before it
    skipped: Tensor  # [B, 1] log-probability of all steps that were skipped


class Beams(NamedTuple):
    """[B, K] each, the likeliest first."""

    in_blank: Tensor  # log-probability of the paths that end in a blank
    in_gloss: Tensor  # and of those that end in the last gloss
    last: Tensor  # the last gloss; the blank of the empty prefix
    prefix: Tensor  # int64, its fingerprint
    parent: Tensor  # and that of the prefix without its last gloss

    @property
    def score(self) -> Tensor:
        return torch.logaddexp(self.in_blank, self.in_gloss)


class Origin(NamedTuple):
    """Where the beams after a step come from, [B, K] each."""

    beam: Tensor
    added: Tensor  # the gloss that was added; the blank: none


@torch.no_grad()
def beam_search(
    log_probs: Tensor, lengths: Tensor, *, beam: int = 5, skip_blank: float | None = 0.95, best: int = 1
) -> list[list[Hypothesis]]:
    """lengths [B]. A clip has fewer than `best` hypotheses where fewer have a path, and one at least."""
    assert log_probs.shape[2] > 1 <= best <= beam, "a gloss beside the blank, and as many beams as hypotheses"
    lengths = lengths.to(log_probs.device)
    certain = _with_certain_blanks(_precise(log_probs), lengths, 1.0 if skip_blank is None else skip_blank)
    kept = _keep(certain)
    likeliest, glosses = kept.log_probs[..., 1:].topk(min(beam + 1, log_probs.shape[2] - 1))  # [B, S', M]
    beams, origins = _first_beams(kept.log_probs, beam), []
    steps = (each.unbind(1) for each in (kept.log_probs, kept.after_gap[..., None], likeliest, glosses + 1))
    for now, after_gap, their, added in zip(*steps):
        beams, origin = _advance(_rested(beams, after_gap), now, likeliest=their, glosses=added)
        origins.append(origin)
    units = _packed(_written(origins, beams.last[:, :best]).flatten(0, 1))  # [B * N, U]
    scores = (beams.score + kept.skipped)[:, :best].flatten()
    again = certain.repeat_interleave(best, 0), lengths.repeat_interleave(best)
    found = _hypotheses(again[0], units, best_path(*again, units), scores=scores)
    clips = (found[first : first + best] for first in range(0, len(found), best))
    return [[one for n, one in enumerate(clip) if n == 0 or one.score > NEVER] for clip in clips]


@torch.no_grad()
def greedy(log_probs: Tensor, lengths: Tensor) -> list[Hypothesis]:
    """The likeliest gloss of each step, what is repeated as one; one hypothesis a clip."""
    certain = _with_certain_blanks(_precise(log_probs), lengths.to(log_probs.device), 1.0)
    best, path = certain.max(2)  # [B, S]
    begins = (path != BLANK) & (path != F.pad(path, (1, 0))[:, :-1])
    owner = torch.where(path == BLANK, -1, begins.cumsum(1) - 1)
    return _hypotheses(certain, _packed(path * begins), owner, scores=best.sum(1))


def likeliest(log_probs: Tensor, lengths: Tensor, *, beam: int, skip_blank: float | None) -> list[Hypothesis]:
    if beam == 1:
        return greedy(log_probs, lengths)
    return [best for best, *_ in beam_search(log_probs, lengths, beam=beam, skip_blank=skip_blank)]


def _precise(log_probs: Tensor) -> Tensor:
    return log_probs if log_probs.dtype == torch.float64 else log_probs.float()


def _with_certain_blanks(log_probs: Tensor, lengths: Tensor, skip_blank: float) -> Tensor:
    """[B, S, V] where no gloss can be at a step that is likelier a blank than that, or behind the end; there a blank
    costs nothing."""
    inside = within(lengths, log_probs.shape[1])
    blank = torch.where(inside, log_probs[..., BLANK], 0.0)
    sure = ~inside | (blank > math.log(skip_blank))
    return torch.cat((blank[..., None], log_probs[..., 1:].masked_fill(sure[..., None], NEVER)), 2)


def _keep(certain: Tensor) -> Kept:
    """Leaves out the steps that can be nothing but a blank."""
    keep = certain[..., 1:].amax(2) > NEVER  # [B, S]
    count = keep.sum(1, keepdim=True)
    order = (~keep).byte().argsort(dim=1, stable=True)[:, : int(count.max()) if len(count) else 0]  # [B, S']
    real = torch.arange(order.shape[1], device=order.device) < count
    after_gap = real & (order != F.pad(order + 1, (1, 0))[:, :-1])
    blank = torch.where(real, certain[..., BLANK].gather(1, order), 0.0)
    glosses = certain[..., 1:].gather(1, order[..., None].expand(-1, -1, certain.shape[2] - 1))
    log_probs = torch.cat((blank[..., None], glosses.masked_fill(~real[..., None], NEVER)), 2)
    return Kept(log_probs, after_gap, torch.where(keep, 0.0, certain[..., BLANK]).sum(1, keepdim=True))


def _first_beams(log_probs: Tensor, beam: int) -> Beams:
    """The empty prefix, and nothing in the other beams."""
    never = log_probs.new_full((len(log_probs), beam), NEVER)
    in_blank = never.clone()
    in_blank[:, 0] = 0.0
    number = torch.zeros_like(never, dtype=torch.int64)
    return Beams(in_blank, never, number, number + EMPTY, number + NOBODY)


def _rested(beams: Beams, after_gap: Tensor) -> Beams:
    """After a blank for sure, in the clips [B, 1] where one was."""
    in_blank = torch.where(after_gap, beams.score, beams.in_blank)
    return beams._replace(in_blank=in_blank, in_gloss=beams.in_gloss.masked_fill(after_gap, NEVER))


def _advance(beams: Beams, now: Tensor, *, likeliest: Tensor, glosses: Tensor) -> tuple[Beams, Origin]:
    """now [B, V]; likeliest, glosses [B, M]: the log-probabilities of the step's likeliest glosses, and their ids."""
    score, width, most = beams.score, beams.last.shape[1], glosses.shape[1]
    again = now.gather(1, beams.last)  # [B, K] the last gloss once more
    same = beams.last[:, :, None] == beams.last[:, None]  # [B, K, K]: the beam's last gloss would be added to it
    leads = beams.prefix[:, :, None] == beams.parent[:, None]  # beam i, with beam j's last gloss added, is beam j
    leads = leads & (score > NEVER)[:, None]
    joining = torch.where(same, beams.in_blank[:, :, None], score[:, :, None]).masked_fill(~leads, NEVER).amax(1)
    in_blank = score + now[:, :1]
    in_gloss = torch.logaddexp(beams.in_gloss, joining) + again
    # A gloss may follow itself only after a blank.
    from_where = torch.where(glosses[:, None] == beams.last[..., None], beams.in_blank[..., None], score[..., None])
    is_beam = (leads[..., None] & (beams.last[:, None, :, None] == glosses[:, None, None])).any(2)  # [B, K, M]
    longer = (from_where + likeliest[:, None]).masked_fill(is_beam, NEVER)
    best, choice = torch.cat((torch.logaddexp(in_blank, in_gloss), longer.flatten(1)), 1).topk(width)
    grown = choice >= width
    origin = torch.where(grown, (choice - width) // most, choice)
    added = torch.where(grown, glosses.gather(1, (choice - width).clamp(min=0) % most), BLANK)
    before = beams.prefix.gather(1, origin)
    beams = Beams(
        in_blank.gather(1, origin).masked_fill(grown, NEVER),
        torch.where(grown, best, in_gloss.gather(1, origin)),
        torch.where(grown, added, beams.last.gather(1, origin)),
        torch.where(grown, _fingerprint(before, added), before),
        torch.where(grown, before, beams.parent.gather(1, origin)),
    )
    return beams, Origin(origin, added)


def _fingerprint(prefix: Tensor, gloss: Tensor) -> Tensor:
    """Of a prefix with a gloss added: products and sums wrap round, which mixes their bits."""
    mixed = (prefix ^ (gloss * MIX[0])) * MIX[1]
    return mixed ^ (mixed >> 29)


def _written(origins: list[Origin], like: Tensor) -> Tensor:
    """The glosses that the first N beams took on their way, each at its step: [B, N, S'], the blank where none."""
    beam = torch.arange(like.shape[1], device=like.device).expand_as(like)
    taken = []
    for origin in reversed(origins):
        taken.append(origin.added.gather(1, beam))
        beam = origin.beam.gather(1, beam)
    return torch.stack(taken[::-1], 2) if taken else like[..., None][..., :0]


def _packed(taken: Tensor) -> Tensor:
    """[B, S] with blanks between -> units [B, U] with none between."""
    count = int((taken != BLANK).sum(1).max()) if len(taken) else 0
    order = (taken == BLANK).byte().argsort(dim=1, stable=True)
    return taken.gather(1, order)[:, :count]


def _hypotheses(log_probs: Tensor, units: Tensor, owner: Tensor, *, scores: Tensor) -> list[Hypothesis]:
    """A line of units [B, U], whose steps owner [B, S] tells, each."""
    first, last, confidence = (each.tolist() for each in spans(log_probs, units, owner))
    counts = (units != BLANK).sum(1).tolist()
    return [
        Hypothesis(tuple(ids[:n]), score, tuple(zip(first[row], last[row]))[:n], tuple(confidence[row][:n]))
        for row, (ids, score, n) in enumerate(zip(units.tolist(), scores.tolist(), counts))
    ]
