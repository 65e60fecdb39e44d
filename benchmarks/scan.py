"""The state-space scan against a loop over its steps, what a frame costs in short and long clips, and a streamed step.

    python -m benchmarks.scan [--steps 200] [--clips 1 8] [--chunks 32 48 64] [--long 100 ... 5000] [--pairs 7]

One direction of the temporal layer at the default width: 8 heads of 64 channels, 32 numbers a channel. "loop" is the
formula at the top of models/state_space.py, written once a frame; "step" is the scan_step of a stream, likewise. The
streamed step is that of the whole causal layer at a width of 512, its projections included. One thread, and that
thread's own time, so that other programs count for less; sides take turns in one run, times are medians, ratios medians
over pairs. "train" is forward and backward.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.pairs import PAIRS, Row, Work, in_turn, over
from signstream import cli
from signstream.models.mamba import TemporalMixer
from signstream.models.state_space import CHUNK, scan, scan_step

HEADS, CHANNELS, STATE, WIDTH = 8, 64, 32, 512
RATIOS = ("loop/scan", "step/scan")
STREAM = 300  # frames of a stream that is timed


class Given(NamedTuple):
    """What a scan reads, as a layer that has just begun makes it."""

    x: Tensor
    dt: Tensor
    a: Tensor
    b: Tensor
    c: Tensor


def given(clips: int, steps: int) -> Given:
    shared = (clips, steps, 1, STATE)
    dt = torch.empty(clips, steps, HEADS).uniform_(-6.9, -2.3).exp()
    rows = (torch.randn(clips, steps, HEADS, CHANNELS), dt, -torch.empty(HEADS).uniform_(1, 16))
    return Given(*(t.requires_grad_() for t in (*rows, torch.randn(shared), torch.randn(shared))))


def by_loop(row: Given) -> Tensor:
    x, dt, a, b, c = row
    state, out = x.new_zeros(len(x), HEADS, STATE, CHANNELS), []
    for t in range(x.shape[1]):
        written = b[:, t, :, :, None] * (dt[:, t, :, None] * x[:, t])[:, :, None]
        state = (dt[:, t] * a).exp()[..., None, None] * state + written
        out.append((c[:, t, :, :, None] * state).sum(-2))
    return torch.stack(out, 1)


def by_step(row: Given) -> Tensor:
    x, dt, a, b, c = row
    state, out = x.new_zeros(len(x), HEADS, STATE, CHANNELS), []
    for t in range(x.shape[1]):
        y, state = scan_step(x[:, t], dt[:, t], a, b=b[:, t], c=c[:, t], state=state)
        out.append(y)
    return torch.stack(out, 1)


def by_scan(row: Given, chunk: int = CHUNK) -> Tensor:
    return scan(row.x, row.dt, row.a, b=row.b, c=row.c, chunk=chunk)


def sides(row: Given, chunk: int) -> dict[str, Work]:
    """Each way to go over `row`, forward alone and with its gradient."""

    def train(go: Callable[[], Tensor]) -> None:
        torch.autograd.grad(go().sum(), row)

    def forward(go: Callable[[], Tensor]) -> None:
        with torch.no_grad():
            go()

    ways: dict[str, Callable[[], Tensor]] = {
        "loop": lambda: by_loop(row),
        "step": lambda: by_step(row),
        "scan": lambda: by_scan(row, chunk),
    }
    return {
        f"{name}, {kind.__name__}": lambda kind=kind, go=go: kind(go)  # type: ignore[misc]
        for name, go in ways.items()
        for kind in (forward, train)
    }


def turns(jobs: dict[str, Work], pairs: int) -> dict[str, list[float]]:
    return in_turn(jobs, pairs, clock=time.process_time)


def against_loop(clips: int, steps: int, *, chunks: Sequence[int], pairs: int) -> None:
    for chunk in chunks:
        times = turns(sides(given(clips, steps), chunk), pairs)
        cells = []
        for kind in ("forward", "train"):
            ms = statistics.median(times[f"scan, {kind}"]) * 1e3
            ratios = [over(times, f"{side}, {kind}", f"scan, {kind}") for side in ("loop", "step")]
            cells.append(f"{ms:12.2f}" + "".join(f"{ratio:10.1f} x" for ratio in ratios))
        print(f"{clips:8}{steps:8}{chunk:8}{''.join(cells)}", flush=True)


def products(row: Given) -> list[Work]:
    """The matrix products of a scan and of its gradient alone, in pieces of its own size."""
    clips, steps = row.dt.shape[:2]
    pieces = -(-steps // CHUNK)
    length = -(-steps // pieces)
    read = torch.randn(clips * pieces, length, STATE)  # of one group: b, c
    pairs = torch.randn(clips * pieces * HEADS, length, length)
    x = torch.randn(clips * pieces * HEADS, length, CHANNELS)
    by_head = torch.randn(clips * pieces * HEADS, length, STATE)
    state = torch.randn(clips * pieces * HEADS, STATE, CHANNELS)
    forward: list[Work] = [
        lambda: read @ read.transpose(1, 2),  # which step reads how much of which
        lambda: pairs @ x,
        lambda: by_head.transpose(1, 2) @ x,  # what a piece leaves
        lambda: by_head @ state,
    ]
    gradient: list[Work] = [
        lambda: [read.transpose(1, 2) @ pairs[: len(read)] for _ in range(2)],
        lambda: (x @ x.transpose(1, 2), pairs.transpose(1, 2) @ x),
        lambda: (by_head @ state, x @ state.transpose(1, 2)),
        lambda: (x @ state.transpose(1, 2), by_head.transpose(1, 2) @ x),
    ]
    return [*forward, *gradient]


def rows() -> Iterator[Row]:
    torch.manual_seed(0)
    for clips in (1, 8):
        row = given(clips, 200)
        both, alone = sides(row, CHUNK), products(row)
        jobs: dict[str, Work] = {"scan": both["scan, train"], "a loop over steps": both["loop, train"]}
        jobs["its products"] = lambda alone=alone: [product() for product in alone]
        times = turns(jobs, PAIRS)
        what = f"scan and its gradient, {clips} x 200 steps"
        yield Row.of(what, times, ours="scan", against="a loop over steps", at_least=20)
        yield Row.of(what, times, ours="scan", against="its products", at_most=2)


def by_length(lengths: Sequence[int], pairs: int) -> None:
    """Microseconds a frame, of one clip."""
    jobs: dict[str, Work] = {}
    for steps in lengths:
        both = sides(given(1, steps), CHUNK)
        jobs |= {f"{steps}, {kind}": both[f"scan, {kind}"] for kind in ("forward", "train")}
    times = turns(jobs, pairs)
    for steps in lengths:
        cells = []
        for kind in ("forward", "train"):
            share = lengths[0] / steps * over(times, f"{steps}, {kind}", f"{lengths[0]}, {kind}")
            us = statistics.median(times[f"{steps}, {kind}"]) / steps * 1e6
            cells.append(f"{us:12.2f}{share:10.2f} x")
        print(f"{1:8}{steps:8}{CHUNK:8}{''.join(cells)}", flush=True)


@torch.no_grad()
def stream() -> float:
    """Milliseconds of the median step."""
    mixer, frames, memory = TemporalMixer(WIDTH, causal=True).eval(), torch.randn(STREAM, 1, WIDTH), None
    times = []
    for frame in frames:
        start = time.process_time()
        _, memory = mixer.step(frame, memory)
        times.append(time.process_time() - start)
    return statistics.median(times[STREAM // 10 :]) * 1e3


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--clips", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--chunks", type=int, nargs="+", default=[CHUNK], metavar="STEPS")
    parser.add_argument("--long", type=int, nargs="+", default=[100, 200, 500, 1000, 2000, 5000], metavar="STEPS")
    parser.add_argument("--pairs", type=int, default=7)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    head = f"{'clips':>8}{'steps':>8}{'chunk':>8}"
    print(head + "".join(f"{name:>12}" for kind in ("forward", "train") for name in (f"{kind} ms", *RATIOS)))
    for clips in args.clips:
        against_loop(clips, args.steps, chunks=args.chunks, pairs=args.pairs)
    first = f"to {args.long[0]}"
    print(f"\n{head}{'forward us':>12}{first:>12}{'train us':>12}{first:>12}     a frame")
    by_length(args.long, args.pairs)
    print(f"\na streamed step of the causal layer, width {WIDTH}: {stream():.3f} ms")


if __name__ == "__main__":
    cli.run(main)
