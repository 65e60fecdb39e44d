"""Error against bits a second on real clips: ours at every number of levels and at several budgets, with and without holding, and PCA + k-means.

    python -m benchmarks.reconstruction --keep real.pt                # trains on train; half an hour
    python -m benchmarks.rate_distortion --checkpoint real.pt [--out rate_distortion.png]

Scored on test by a program that knows neither (see benchmarks/reconstruction.py). Bits are symbols times log2(codes + 1), as that program counts
them; a run is one symbol. "lengths" is what it takes besides to say how many codes a part has or how long a run is: their entropy. Prices are
those of the validation split.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.reconstruction import cost, from_codes, priced, reconstruct, scored, spoken
from signstream.config import from_dict, load_config
from signstream.data.cache import open_cache
from signstream.inference.tokenizer import Tokenizer
from signstream.training import checkpoint
from signstream.training.distributed import Ranks
from signstream.training.loop import Loop

RATES, HOLDS = (4, 5, 6, 8, 10, 12, 16, 20), (0.0, 0.01, 0.04)


def ours(loop: Loop, tokenizer: Tokenizer, data: Path, bench: Path, scratch: Path):
    """Yields (series, name, bits/s, bits/s with lengths, mean_local, hands_local)."""

    def measured(series: str, name: str, codes_of):
        folder = Path(tempfile.mkdtemp(dir=scratch))
        tokens = folder / "tokens.jsonl"
        lengths = cost(loop, codes_of, tokens, rle=tokenizer.hold > 0)
        found = scored(bench, data, reconstruct(loop, data, folder / "poses", from_codes(loop, codes_of)), tokens)
        bits = found["tokens"]["bits_per_s"]
        return series, name, bits, bits + lengths, found["mean_local"], found["hands_local"]

    for count in range(1, max(tokenizer.levels) + 1):
        yield measured(
            "every part alike",
            f"{count} levels",
            lambda batch, n=count: loop.model.tokenise(loop.views.of(batch)[0])[..., :n],
        )
    for hold in HOLDS:
        for rate in RATES:
            tokenizer.codes_per_chunk, tokenizer.hold = rate, hold
            yield measured(
                "budget" + (f", holding at {hold:g}" if hold else ""), f"{rate} codes", spoken(loop, tokenizer)
            )


def theirs(data: Path, bench: Path, scratch: Path):
    for codes in (256, 1024):
        for levels in (1, 2, 3):
            folder = Path(tempfile.mkdtemp(dir=scratch))
            subprocess.run(
                [
                    sys.executable,
                    str(bench / "baseline_pca_rvq.py"),
                    "--data",
                    str(data),
                    "--split",
                    "test",
                    "--out",
                    str(folder),
                    "--levels",
                    str(levels),
                    "--codes",
                    str(codes),
                ],
                check=True,
            )
            found = scored(bench, data, folder, folder / "tokens.jsonl")
            bits = found["tokens"]["bits_per_s"]
            yield (
                f"PCA + k-means, {codes} codes",
                f"{levels} levels",
                bits,
                bits,
                found["mean_local"],
                found["hands_local"],
            )


def plot(rows: list[tuple], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for series in dict.fromkeys(row[0] for row in rows):
        points = sorted((row[3], row[4]) for row in rows if row[0] == series)
        axes.plot(*zip(*points), "s--" if "PCA" in series else "o-", markersize=4, label=series)
    axes.set(
        xlabel="bits a second, lengths included",
        ylabel="mean error of the parts, shoulder widths",
        xlim=(0, None),
        ylim=(0, None),
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/realsign"))
    parser.add_argument("--bench", type=Path, default=Path("../shared/bench"))
    parser.add_argument("--out", type=Path, help="a picture")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        scratch, state = Path(scratch), checkpoint.load(args.checkpoint)
        config = load_config(
            None, [f"data.root={args.data}", f"data.cache={scratch / 'cache'}"], from_dict(state["config"])
        )
        loop = Loop(config, open_cache(config.data, quiet=True), Ranks(), config.train.clips_per_step)
        loop.load_state(state)
        rows = []
        print(f"{'':34}{'':12}{'bits/s':>8}{'+ lengths':>11}{'mean_local':>12}{'hands_local':>13}")
        for row in (
            *theirs(args.data, args.bench, scratch),
            *ours(loop, priced(loop, "val"), args.data, args.bench, scratch),
        ):
            rows.append(row)
            print(f"{row[0]:34}{row[1]:12}{row[2]:8.0f}{row[3]:11.0f}{row[4]:12.4f}{row[5]:13.4f}", flush=True)
        if args.out:
            plot(rows, args.out)
            print(args.out)


if __name__ == "__main__":
    main()
