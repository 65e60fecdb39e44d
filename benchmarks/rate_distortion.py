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
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure

from benchmarks.pca_kmeans import reference
from benchmarks.reconstruction import priced, tokens_of
from benchmarks.scoring import Clips, Encode, save_both, scored
from signstream import cli
from signstream.config import Data, from_dict, load_config
from signstream.config.rvq import Config
from signstream.inference.tokenizer import Tokenizer
from signstream.tokens.format import TokenSequence
from signstream.training import checkpoint

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


def of_levels(tokenizer: Tokenizer, clips: Clips, count: int) -> Encode:
    """The first codes of every part."""

    def encode(clip: int) -> TokenSequence:
        tokens = tokens_of(tokenizer, clips, clip)
        codes = tokens.codes.clone()
        codes[..., count:] = -1
        return replace(tokens, codes=codes)

    return encode


def tokenizer_rows(tokenizer: Tokenizer, clips: Clips, scratch: Path) -> Iterator[Row]:
    def row(series: str, name: str, encode: Encode) -> Row:
        folder = Path(tempfile.mkdtemp(dir=scratch))
        lengths = save_both(clips, encode, tokenizer.decode, folder, rle=tokenizer.hold > 0)
        return Row.of(series, name, scored(clips, folder), lengths=lengths)

    tokenizer.codes_per_chunk, tokenizer.hold = "full", 0.0
    for count in range(1, max(tokenizer.levels) + 1):
        yield row("every part alike", f"{count} levels", of_levels(tokenizer, clips, count))
    for hold in HOLDS:
        for rate in RATES:
            tokenizer.codes_per_chunk, tokenizer.hold = rate, hold
            series = f"budget, holding at {hold:g}" if hold else "budget"
            yield row(series, f"{rate} codes", partial(tokens_of, tokenizer, clips))


def reference_rows(data: Data, clips: Clips, scratch: Path) -> Iterator[Row]:
    for codes in (256, 1024):
        for levels in (1, 2, 3):
            folder = Path(tempfile.mkdtemp(dir=scratch))
            report = reference(data, clips, folder, levels=levels, codes=codes)
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
    parser.add_argument("--out", type=Path, help="a picture")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        state = checkpoint.load(args.checkpoint)
        saved = from_dict(state["config"], kind=Config)
        places = [f"data.root={args.data}", f"data.cache={scratch / 'cache'}", "data.split_file=null"]
        config = load_config(None, places, saved, kind=Config)
        clips = Clips.open(config.data, args.data)
        tokenizer = priced(state, clips, "val")
        rows: list[Row] = []
        print(f"{'':34}{'':12}{'bits/s':>8}{'+ lengths':>11}{'mean_local':>12}{'hands_local':>13}")
        for row in chain(reference_rows(config.data, clips, scratch), tokenizer_rows(tokenizer, clips, scratch)):
            rows.append(row)
            errors = f"{row.mean_local:12.4f}{row.hands_local:13.4f}"
            print(f"{row.series:34}{row.name:12}{row.bits:8.0f}{row.with_lengths:11.0f}{errors}", flush=True)
    if args.out:
        plot(rows, args.out)
        print(args.out)


if __name__ == "__main__":
    cli.run(main)
