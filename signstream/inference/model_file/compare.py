"""Does a file do what the tokenizer does? Codes are counted, poses measured, ties set aside.

check(exported, tokenizer, real) -> Verdict: whether it holds, and lines that say how well
speeds(exported, tokenizer) -> lines: milliseconds a chunk beside PyTorch's
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from signstream.inference.model_file.file import Exported
from signstream.inference.model_file.network import as_chunks, one_clip
from signstream.inference.model_file.samples import random_codes, random_poses
from signstream.inference.tokenizer import Tokenizer
from signstream.models.rvq.fsq import SPREAD, FiniteScalarQuantizer
from signstream.models.rvq.rvq_model import Reading
from signstream.tasks.rvq.losses import valid_chunks

RANDOM_CHUNKS = 200
SAME_CODES = {"fp32": 0.999, "fp16": 0.99}
SAME_POSES = {"fp32": 1e-4, "fp16": 0.1}  # unit lengths
TIE = 1e-5
BATCH = 64  # chunks, for the second of the speeds
ROUNDS = 20
WARM_UP = 3  # rounds


class Codes(NamedTuple):
    """How many codes were asked for, how many of them are PyTorch's, and how many ties were set aside."""

    asked: int
    same: int
    ties: int

    @property
    def share(self) -> float:
        return self.same / max(self.asked, 1)


class Apart(NamedTuple):
    """How far poses are from PyTorch's, in unit lengths."""

    most: float
    mean: float


class Verdict(NamedTuple):
    holds: bool
    lines: list[str]


class Code(NamedTuple):
    """One code of one chunk, as PyTorch and a file have it."""

    part: int
    level: int
    right: int
    given: int


def encode(tokenizer: Tokenizer, poses: Tensor) -> Reading:
    """What PyTorch makes of prepared frames [N, L, J, 3]: latents [P, N, Z], and every code [N, P, Q]."""
    inputs, targets = tokenizer.views.of(as_chunks(tokenizer, poses))
    latents, codes = tokenizer.model.read(inputs, one_clip(poses))
    return Reading(latents, torch.where(valid_chunks(targets).T[..., None], codes, -1))


def compare_codes(tokenizer: Tokenizer, poses: Tensor, given: Tensor) -> Codes:
    """given [N, P, Q]: what a file made of poses [N, L, J, 3]."""
    latents, codes = encode(tokenizer, poses)
    asked, aside = (codes >= 0) | (given >= 0), torch.zeros_like(codes, dtype=torch.bool)
    for level in range(codes.shape[-1]):
        agreed = (given[..., :level] == codes[..., :level]).all(-1)  # [N, P]
        differ = agreed & (given[..., level] != codes[..., level]) & (given[..., level] >= 0) & (codes[..., level] >= 0)
        for n, p in differ.nonzero().tolist():
            before = tokenizer.model.quantizer.decode_codes(codes[n : n + 1, :, :level])[p, 0]
            code = Code(p, level, right=int(codes[n, p, level]), given=int(given[n, p, level]))
            aside[n, p, level:] |= is_tie(tokenizer, latents[p, n] - before, code)
    counted = asked & ~aside
    same = counted & (given == codes)
    return Codes(int(counted.sum()), int(same.sum()), int((aside & asked).sum()))


def is_tie(tokenizer: Tokenizer, residual: Tensor, code: Code) -> bool:
    """Whether a residual [Z] is as near to one code as to the other."""
    quantizer, residual = tokenizer.model.quantizer, residual.double()
    pair = torch.tensor([code.right, code.given])
    if isinstance(quantizer, FiniteScalarQuantizer):
        digits, steps = quantizer.digits(pair), quantizer.steps  # [2, d] and [d]
        at = torch.sigmoid(SPREAD * residual @ quantizer.into[code.part, code.level].double()) * steps
        beside = ((digits[0] - digits[1]).abs() == 1) & ((at - digits.amax(0)).abs() < TIE * steps)
        return bool((beside | (digits[0] == digits[1])).all())
    both = quantizer.codebook[code.part, code.level, pair].double()
    near, far = (both - residual).square().sum(-1).sort().values.tolist()
    return far - near <= TIE * far


def compare_poses(tokenizer: Tokenizer, codes: Tensor, given: Tensor) -> Apart:
    """given [N, L, J, 3]: what a file made of codes [N, P, Q]."""
    poses = tokenizer.decode_codes(codes).view_as(given)
    if not bool((poses[..., 2] == given[..., 2]).all()):
        return Apart(float("inf"), float("inf"))  # it draws other joints
    off = (poses[..., :2] - given[..., :2]).abs()
    return Apart(float(off.max()), float(off.mean()))


@torch.no_grad()
def check(exported: Exported, tokenizer: Tokenizer, real: Sequence[Tensor]) -> Verdict:
    """real: clips of prepared frames [N, L, J, 3], which may be none."""
    drawn = random_poses(tokenizer, -(-RANDOM_CHUNKS // tokenizer.config.data.window))
    if exported.kind == "encoder":
        verdicts = [_check_codes(exported, tokenizer, real, name="real")] if real else []
        verdicts.append(_check_codes(exported, tokenizer, [drawn], name="random"))
    else:
        codes = [encode(tokenizer, poses).codes for poses in real]
        verdicts = [_check_poses(exported, tokenizer, codes, name="real")] if real else []
        verdicts.append(_check_poses(exported, tokenizer, [random_codes(tokenizer, len(drawn))], name="random"))
    return Verdict(all(verdict.holds for verdict in verdicts), [line for verdict in verdicts for line in verdict.lines])


def _check_codes(exported: Exported, tokenizer: Tokenizer, clips: Sequence[Tensor], *, name: str) -> Verdict:
    each = [compare_codes(tokenizer, poses, exported.run(poses)) for poses in clips]
    codes = Codes(*map(sum, zip(*each)))
    line = f"{name} chunks: {codes.same} of {codes.asked} codes are PyTorch's, {codes.share:.3%}"
    holds = codes.share >= SAME_CODES[exported.description["precision"]]
    return Verdict(holds, [f"{line}; {codes.ties} set aside as ties"])


def _check_poses(exported: Exported, tokenizer: Tokenizer, clips: Sequence[Tensor], *, name: str) -> Verdict:
    each = [compare_poses(tokenizer, codes, exported.run(codes)) for codes in clips]
    most, mean = max(apart.most for apart in each), max(apart.mean for apart in each)
    line = f"{name} chunks: poses differ from PyTorch's by {most:.1e} unit lengths at most, {mean:.1e} on average"
    return Verdict(most <= SAME_POSES[exported.description["precision"]], [line])


@torch.no_grad()
def speeds(exported: Exported, tokenizer: Tokenizer) -> list[str]:
    """Milliseconds a chunk of the file and of PyTorch, in turns, on this process's threads."""
    encodes = exported.kind == "encoder"
    draw = random_poses if encodes else random_codes
    by_torch = partial(encode, tokenizer) if encodes else tokenizer.decode_codes
    lines = []
    for windows in (1, max(BATCH // tokenizer.config.data.window, 1)):
        inputs = draw(tokenizer, windows)
        seconds = in_turns([partial(exported.run, inputs), partial(by_torch, inputs)], ROUNDS)
        file, eager = (1e3 * each / len(inputs) for each in seconds)
        both = f"{file:.3f} ms a chunk, PyTorch {eager:.3f} ms ({eager / file:.2f} times as long)"
        lines.append(f"{len(inputs)} at a time: {both}")
    return lines


def in_turns(jobs: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """The median seconds of each job, one after the other in every round; the first rounds warm up."""
    spent: list[list[float]] = [[] for _ in jobs]
    for turn in range(rounds + WARM_UP):
        for job, seconds in zip(jobs, spent):
            began = time.perf_counter()
            job()
            if turn >= WARM_UP:
                seconds.append(time.perf_counter() - began)
    return [statistics.median(seconds) for seconds in spent]
