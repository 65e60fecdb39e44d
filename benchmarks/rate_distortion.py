"""Error against bits a second on real clips: ours at every number of levels and at several budgets, with and without
holding, and PCA + k-means.

    python -m benchmarks.reconstruction --keep real.pt                # trains on train; half an hour
    python -m benchmarks.rate_distortion --checkpoint real.pt [--out rate_distortion.png]

Scored on test as benchmarks/score.py counts (see benchmarks/reconstruction.py). Bits are symbols times log2(codes +
1), as that program counts them; a run is one symbol. "lengths" is what it takes besides to say how many codes a part
has or how long a run is: their entropy. Prices are those of the validation split.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.ablation import setup_of
from benchmarks.reconstruction import (
    Encode,
    cost,
    encoder,
    from_codes,
    priced,
    read_loop,
    reconstruct,
    reference,
    scored,
)
from signstream import cli
from signstream.config import from_dict, load_config
from signstream.config.rvq import Config
from signstream.data.collate import ChunkBatch
from signstream.training import checkpoint
from signstream.training.loop import Loop

RATES = (4, 5, 6, 8, 10, 12, 16, 20)
HOLDS = (0.0, 0.01, 0.04)


class Row(NamedTuple):
    series: str
    name: str
    bits: float  # a second
    with_lengths: float
    mean_local: float
    hands_local: float

    @classmethod
    def of(cls, series: str, name: str, report: dict[str, Any], *, lengths: float = 0.0) -> Row:
        bits = report["tokens"]["bits_per_s"]
        return cls(series, name, bits, bits + lengths, report["mean_local"], report["hands_local"])


def of_levels(loop: Loop, count: int) -> Encode:
    """The first codes of every part."""
    setup = setup_of(loop)

    def codes_of(batch: ChunkBatch) -> Tensor:
        return setup.model.tokenise(setup.views.of(batch)[0])[..., :count]

    return codes_of


def tokenizer_rows(loop: Loop, data: Path, scratch: Path) -> Iterator[Row]:
    tokenizer = priced(loop, "val")

    def row(series: str, name: str, codes_of: Encode) -> Row:
        folder = Path(tempfile.mkdtemp(dir=scratch))
        lengths = cost(loop, codes_of, folder / "tokens.jsonl", rle=tokenizer.hold > 0)
        made = reconstruct(loop, data, folder / "poses", draw=from_codes(loop, codes_of))
        return Row.of(series, name, scored(data, made, folder / "tokens.jsonl"), lengths=lengths)

    for count in range(1, max(tokenizer.levels) + 1):
        yield row("every part alike", f"{count} levels", of_levels(loop, count))
    for hold in HOLDS:
        for rate in RATES:
            tokenizer.codes_per_chunk, tokenizer.hold = rate, hold
            series = f"budget, holding at {hold:g}" if hold else "budget"
            yield row(series, f"{rate} codes", encoder(loop, tokenizer))


def reference_rows(bench: Path, data: Path, scratch: Path) -> Iterator[Row]:
    for codes in (256, 1024):
        for levels in (1, 2, 3):
            folder = Path(tempfile.mkdtemp(dir=scratch))
            report = reference(bench, data, folder, "--levels", str(levels), "--codes", str(codes))
            yield Row.of(f"PCA + k-means, {codes} codes", f"{levels} levels", report)


def plot(rows: list[Row], path: Path) -> None:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for series in dict.fromkeys(row.series for row in rows):
        points = sorted((row.with_lengths, row.mean_local) for row in rows if row.series == series)
        axes.plot(*zip(*points), "s--" if "PCA" in series else "o-", markersize=4, label=series)
    axes.set(xlabel="bits a second, lengths included", ylabel="mean error of the parts, shoulder widths")
    axes.set(xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/realsign"))
    parser.add_argument("--bench", type=Path, default=Path("../shared/bench"))
    parser.add_argument("--out", type=Path, help="a picture")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        saved = from_dict(checkpoint.load(args.checkpoint)["config"], kind=Config)
        places = [f"data.root={args.data}", f"data.cache={scratch / 'cache'}"]
        loop = read_loop(args.checkpoint, load_config(None, places, saved, kind=Config))
        rows = []
        print(f"{'':34}{'':12}{'bits/s':>8}{'+ lengths':>11}{'mean_local':>12}{'hands_local':>13}")
        for row in chain(reference_rows(args.bench, args.data, scratch), tokenizer_rows(loop, args.data, scratch)):
            rows.append(row)
            errors = f"{row.mean_local:12.4f}{row.hands_local:13.4f}"
            print(f"{row.series:34}{row.name:12}{row.bits:8.0f}{row.with_lengths:11.0f}{errors}", flush=True)
    if args.out:
        plot(rows, args.out)
        print(args.out)


if __name__ == "__main__":
    cli.run(main)
