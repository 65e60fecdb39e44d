"""The quantiser against its own matrix products and against vector-quantize-pytorch's ResidualVQ, all in one run.

    python -m benchmarks.quantizer [--pairs 10] [--vectors 512 4096 16384] [--codes 1024 2048]

5 parts x 3 levels, latents of 256 numbers, one thread. "products" are the distances' matrix products alone (torch.bmm, 15 of them), which any
exact search has to do. A training step is forward, backward and the update of the codebooks. Sides take turns; ratios are medians over pairs.
The library is measured where it is installed.
"""

import argparse
import statistics
import time

import torch

from signstream.models.rvq.quantizer import ResidualQuantizer

PARTS, LEVELS, DIM = 5, 3, 256


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ours(latents: torch.Tensor, codes: int) -> ResidualQuantizer:
    quantizer = ResidualQuantizer([LEVELS] * PARTS, codes, DIM, decay=0.99)
    quantizer.initialise(latents, torch.ones(latents.shape[:2], dtype=torch.bool), iterations=2)
    return quantizer


def train_ours(quantizer: ResidualQuantizer, latents: torch.Tensor) -> None:
    out = quantizer.train()(
        latents.requires_grad_(), watched=torch.arange(latents.shape[1]) % 8 == 0
    )  # as the losses choose them
    (out.quantized.sum() + out.commit.mean() + out.usage.sum()).backward()
    quantizer.update(out.statistics)


def theirs(latents: torch.Tensor, codes: int) -> list:
    from vector_quantize_pytorch import ResidualVQ

    made = [
        ResidualVQ(
            dim=DIM,
            num_quantizers=LEVELS,
            codebook_size=codes,
            decay=0.99,
            kmeans_init=True,
            kmeans_iters=2,
            threshold_ema_dead_code=1,
        )
        for _ in range(PARTS)
    ]
    for part, quantizer in enumerate(made):
        quantizer.train()(latents[part, None].detach())
    return made


def train_theirs(quantizers: list, latents: torch.Tensor) -> None:
    for part, quantizer in enumerate(quantizers):
        quantized, _, losses = quantizer.train()(latents[part, None].requires_grad_())
        (quantized.sum() + losses.mean()).backward()


@torch.no_grad()
def eval_theirs(quantizers: list, latents: torch.Tensor) -> None:
    for part, quantizer in enumerate(quantizers):
        quantizer.eval()(latents[part, None])


def sides(latents: torch.Tensor, codes: int, library: bool) -> dict:
    quantizer, books = ours(latents, codes), torch.randn(PARTS, codes, DIM)

    def evaluate():
        with torch.no_grad():
            quantizer.eval()(latents)

    out = {
        "products": lambda: [torch.bmm(latents.detach(), books.transpose(1, 2)) for _ in range(LEVELS)],
        "ours, eval": evaluate,
        "ours, encode": lambda: quantizer.encode(latents),
        "ours, train": lambda: train_ours(quantizer, latents.detach().clone()),
    }
    if library:
        made = theirs(latents, codes)
        out["library, eval"] = lambda: eval_theirs(made, latents)
        out["library, train"] = lambda: train_theirs(made, latents.detach().clone())
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--vectors", type=int, nargs="+", default=[512, 4096, 16384])
    parser.add_argument("--codes", type=int, nargs="+", default=[1024, 2048])
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        import vector_quantize_pytorch  # noqa: F401

        library = True
    except ImportError:
        library = False
        print("vector-quantize-pytorch is not installed: ours is measured alone")
    names = ("eval/products", "train/products", "library/eval", "library/train")
    print(f"{'vectors':>8}{'codes':>7}   {'products ms':>12}" + "".join(f"{name:>18}" for name in names))
    for codes in args.codes:
        for count in args.vectors:
            torch.manual_seed(0)
            todo = sides(torch.randn(PARTS, count, DIM), codes, library)
            times = {name: [] for name in todo}
            for _ in range(args.pairs):
                for name, work in todo.items():
                    times[name].append(seconds(work))

            def ratio(a: str, b: str, times=times) -> str:
                return (
                    f"{statistics.median(x / y for x, y in zip(times[a], times[b])):16.2f} x"
                    if a in times
                    else f"{'-':>18}"
                )

            pairs = (
                ("ours, eval", "products"),
                ("ours, train", "products"),
                ("library, eval", "ours, eval"),
                ("library, train", "ours, train"),
            )
            print(
                f"{count:8}{codes:7}   {statistics.median(times['products']) * 1e3:12.1f}"
                + "".join(ratio(*pair) for pair in pairs),
                flush=True,
            )


if __name__ == "__main__":
    main()
