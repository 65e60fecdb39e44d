"""The evaluation report's plots as PNG files, for a paper or a slide.

    python -m signstream.inference.viz --report checkpoints/quickstart --out pictures/plots
    python -m signstream.inference.viz --report DIR --out pictures/plots --tokens exports/tokens.jsonl [--clip NAME]

Each plot is a function of the report (what `evaluate` wrote), or of a clip's tokens, and gives a matplotlib Figure
(report/plots.py). A section that was not measured is left out and named.
"""

from __future__ import annotations

from pathlib import Path

from signstream import cli


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument(
        "--report",
        required=True,
        metavar="PATH",
        help="a report.json, or a run's folder or an experiment's that has one",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the plots go; made if need be")
    parser.add_argument(
        "--tokens", type=Path, metavar="FILE", help="what export_tokens wrote, for the timeline of a clip"
    )
    parser.add_argument("--clip", metavar="NAME", help="the clip (default: the file's first)")
    args = parser.parse_args(argv)

    from signstream.inference.report.plot_files import draw_plots

    draw_plots(args)


if __name__ == "__main__":
    cli.run(main)
