"""Measures a tokenizer or a recogniser on a split: report.json, every number with its definition, and index.html, the
same to look at.

    python -m signstream.inference.evaluate --checkpoint checkpoints/quickstart [--split val] [--out DIR] [--visualize]
    python -m signstream.inference.evaluate --checkpoint checkpoints/quickstart --judge
    python -m signstream.inference.evaluate --compare RUN_A RUN_B --out DIR
    torchrun --nproc_per_node=4 -m signstream.inference.evaluate --checkpoint PATH

Without --out: <run folder>/report. --visualize adds a player of some clips and their reconstructions; a recogniser's
page has one without it. --judge adds what a tokenizer's tokens cost in words. Without --config: the checkpoint's own
config. Numbers are sums over the split and do not depend on batches or ranks, but for the judge's, which are of a
training. docs/metrics.md says what each one of a tokenizer is, docs/recognition.md of a recogniser.
"""

from __future__ import annotations

from pathlib import Path

from signstream import cli


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="a checkpoint, a run's folder, or an experiment's: its newest run"
    )
    parser.add_argument("--split", default="test", help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="(default: report/ in the run's folder)")
    parser.add_argument(
        "--visualize", action="store_true", help="a player of some clips and their reconstructions in the page"
    )
    parser.add_argument("--clips", type=int, default=10, metavar="N", help="how many of them (default: %(default)s)")
    parser.add_argument(
        "--judge",
        action="store_true",
        help="of a tokenizer: train three small recognisers, of keypoints, tokens and chance, to tell what the tokens "
        "cost in words; it takes tens of minutes on two cores",
    )
    parser.add_argument("--compare", nargs="+", metavar="RUN", help="runs whose reports are put side by side instead")
    args = cli.parse_with_config(parser, argv)

    from signstream.inference.report.command import run

    run(args)


if __name__ == "__main__":
    cli.run(main)
