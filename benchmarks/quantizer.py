"""The quantiser against its own matrix products and against vector-quantize-pytorch's ResidualVQ, all in one run.

    python -m benchmarks.quantizer [--pairs 10] [--vectors 512 4096 16384] [--codes 1024 2048]

5 parts x 3 levels, latents of 256 numbers, one thread. "products" are the distances' matrix products alone (torch.bmm,
15 of them), which any exact search has to do. A training step is forward, backward and the update of the codebooks.
Sides take turns; ratios are medians over pairs. The library is measured where it is installed.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.pairs import PAIRS, Row, Times, Work, in_turn, over
from signstream import cli
from signstream.models.rvq.quantizer import ResidualQuantizer

PARTS, LEVELS, DIM = 5, 3, 256
VECTORS, CODES = (512, 4096, 16384), (1024, 2048)
# what is divided by what
RATIOS = {
    "eval/products": ("this, eval", "products"),
    "train/products": ("this, train", "products"),
    "library/eval": ("library, eval", "this, eval"),
    "library/train": ("library, train", "this, train"),
}


def make_quantizer(latents: Tensor, codes: int) -> ResidualQuantizer:
    quantizer = ResidualQuantizer([LEVELS] * PARTS, codes, DIM, decay=0.99)
    quantizer.initialise(latents, torch.ones(latents.shape[:2], dtype=torch.bool), iterations=2)
    return quantizer


def train(quantizer: ResidualQuantizer, latents: Tensor) -> None:
    watched = torch.arange(0, latents.shape[1], 8)  # as the losses choose them
    out = quantizer.train()(latents.requires_grad_(), watched=watched)
    (out.quantized.sum() + out.commit.mean() + out.usage.sum()).backward()
    assert out.statistics is not None
    quantizer.update(out.statistics)


@torch.no_grad()
def evaluate(quantizer: ResidualQuantizer, latents: Tensor) -> None:
    quantizer.eval()(latents)


def make_library(latents: Tensor, codes: int) -> list[Any]:
    """One of the library's quantisers a part."""
    from vector_quantize_pytorch import ResidualVQ

    sizes = {"dim": DIM, "num_quantizers": LEVELS, "codebook_size": codes}
    ways = {"decay": 0.99, "kmeans_init": True, "kmeans_iters": 2, "threshold_ema_dead_code": 1}
    made = [ResidualVQ(**sizes, **ways) for _ in range(PARTS)]
    for part, quantizer in enumerate(made):
        quantizer.train()(latents[part, None].detach())
    return made


def train_library(quantizers: Sequence[Any], latents: Tensor) -> None:
    for part, quantizer in enumerate(quantizers):
        quantized, _, losses = quantizer.train()(latents[part, None].requires_grad_())
        (quantized.sum() + losses.mean()).backward()


@torch.no_grad()
def evaluate_library(quantizers: Sequence[Any], latents: Tensor) -> None:
    for part, quantizer in enumerate(quantizers):
        quantizer.eval()(latents[part, None])


def sides(latents: Tensor, codes: int, library: bool) -> dict[str, Work]:
    quantizer, books = make_quantizer(latents, codes), torch.randn(PARTS, codes, DIM)
    out: dict[str, Work] = {
        "products": lambda: [torch.bmm(latents.detach(), books.transpose(1, 2)) for _ in range(LEVELS)],
        "this, eval": lambda: evaluate(quantizer, latents),
        "this, encode": lambda: quantizer.encode(latents),
        "this, train": lambda: train(quantizer, latents.detach().clone()),
    }
    if library:
        made = make_library(latents, codes)
        out["library, eval"] = lambda: evaluate_library(made, latents)
        out["library, train"] = lambda: train_library(made, latents.detach().clone())
    return out


def ratio(times: Times, slow: str, fast: str) -> str:
    return f"{over(times, slow, fast):16.2f} x" if slow in times else f"{'-':>18}"


def sides_of(count: int, codes: int, library: bool) -> dict[str, Work]:
    torch.manual_seed(0)
    return sides(torch.randn(PARTS, count, DIM), codes, library)


def rows() -> Iterator[Row]:
    for codes in CODES:
        for count in VECTORS:
            jobs = sides_of(count, codes, library=False)
            times = in_turn({name: jobs[name] for name in ("this, eval", "products")}, PAIRS)
            what = f"quantiser, {count} vectors, {PARTS} parts x {LEVELS} levels x {codes} codes"
            yield Row.of(what, times, ours="this, eval", against="products", at_most=1.10)


def has_library() -> bool:
    try:
        import vector_quantize_pytorch  # noqa: F401
    except ImportError:
        print("vector-quantize-pytorch is not installed: this one is measured alone")
        return False
    return True


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--vectors", type=int, nargs="+", default=VECTORS)
    parser.add_argument("--codes", type=int, nargs="+", default=CODES)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    library = has_library()
    print(f"{'vectors':>8}{'codes':>7}   {'products ms':>12}" + "".join(f"{name:>18}" for name in RATIOS))
    for codes in args.codes:
        for count in args.vectors:
            times = in_turn(sides_of(count, codes, library), args.pairs)
            cells = "".join(ratio(times, *pair) for pair in RATIOS.values())
            print(f"{count:8}{codes:7}   {statistics.median(times['products']) * 1e3:12.1f}{cells}", flush=True)


if __name__ == "__main__":
    cli.run(main)
