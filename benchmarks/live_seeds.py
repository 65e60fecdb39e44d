"""What live text is worth over seeds: reports of inference/live_report.py, one a seed, as one table and one plot.

    python -m benchmarks.live_seeds --of "wait 2" A/report.json B/report.json C/report.json --of "wait 3" ... \
        [--mark offline=68.3] [--plot frontier.png]

A line a policy that all reports of a model have: the mean over the seeds, and the largest distance of one from it. In
the plot a point is that mean, its bar goes from the worst seed to the best, and a mark is a dotted line; controls are
in the table alone. Recordings are measured by sentence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from benchmarks.architectures import cell
from signstream import cli
from signstream.errors import UserError, shown
from signstream.inference.report.live.build import as_png
from signstream.inference.report.live.frontier import Point, frontier
from signstream.pictures.figure import figure_pixels

BLEU, LATER = "text/bleu_4", "latency/beyond_seen"
COLUMNS = {  # what a number is called, and how it is written
    BLEU: ("BLEU-4", ".1f"),
    LATER: ("later than who says each word as soon as its signs were seen, ms", ".0f"),
    "latency/first_beyond_seen": ("the first word, likewise, ms", ".0f"),
    "erasure/shown": ("taken back a word", ".2f"),
}
HEAD = ["", "seeds", *(name for name, _ in COLUMNS.values())]

Values = dict[str, list[float]]  # of a policy: of each seed


class Row(NamedTuple):
    model: str
    policy: str
    control: bool
    values: Values

    @property
    def line(self) -> str:
        known = ((self.values.get(key), form) for key, (_, form) in COLUMNS.items())
        cells = ("" if values is None else cell(values, form) for values, form in known)
        return line_of([f"{self.model}, {self.policy}", str(len(self.values[BLEU])), *cells])

    @property
    def point(self) -> Point:
        seeds = self.values[BLEU]
        return Point(
            f"{self.model}, {self.policy}", fmean(self.values[LATER]) / 1000, fmean(seeds), (min(seeds), max(seeds))
        )


def line_of(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def rows_of(model: str, files: Sequence[Path]) -> Iterator[Row]:
    """In the order of the first report."""
    if not files:
        raise UserError(f"--of {shown(model)}: whose reports? a report.json of each seed is expected")
    reports = [runs_in(file) for file in files]
    for name, run in reports[0].items():
        if not all(name in report for report in reports):
            continue
        seeds = [numbers_of(report[name]["numbers"]) for report in reports]
        values = {key: [numbers[key] for numbers in seeds] for key in COLUMNS if all(key in each for each in seeds)}
        if BLEU in values:
            yield Row(model, name, run["control"], values)


def runs_in(file: Path) -> dict[str, Any]:
    try:
        runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
        named = {run["name"]: run for run in runs}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is no report of live_report: {shown(str(error))}") from None
    if len(named) < len(runs):
        raise UserError(f"{file}: two of its runs have one name")
    return named


def numbers_of(numbers: Mapping[str, float | None]) -> dict[str, float]:
    """Those that are known; text and latency by sentence, where there are sentences."""
    prefix = "sentences/" if f"sentences/{BLEU}" in numbers else ""
    named = {key: numbers.get(key if key.startswith("erasure") else prefix + key) for key in COLUMNS}
    return {key: value for key, value in named.items() if value is not None}


def mark_of(text: str) -> tuple[str, float]:
    name, _, bleu = text.partition("=")
    try:
        return name, float(bleu)
    except ValueError:
        raise UserError(f"--mark {shown(text)}: NAME=BLEU is expected, such as offline=68.3") from None


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--of", nargs="+", action="append", required=True, metavar=("NAME", "REPORT"))
    parser.add_argument("--mark", action="append", default=[], metavar="NAME=BLEU")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    marks = dict(map(mark_of, args.mark))
    rows = [row for name, *files in args.of for row in rows_of(name, [Path(file) for file in files])]
    print(line_of(HEAD), line_of(["---"] * len(HEAD)), *(row.line for row in rows), sep="\n")
    if args.plot is not None:
        points = [row.point for row in rows if not row.control and LATER in row.values]
        figure = frontier(points, floors=marks, lag="beyond what must be seen")
        args.plot.write_bytes(as_png(figure_pixels(figure)))


if __name__ == "__main__":
    cli.run(main)
