"""Says whether the newest run of an experiment is as good as it has to be, from its report.json; if not, exits with 1.

    python scripts/gate.py checkpoints/quickstart

The bounds are for the quickstart (configs/quickstart.yaml, 1,000 clips of seed 0, validation split). They lie between
what chance moves and what a fault costs: docs/training.md has both, each choice switched off once. The comment above a
bound begins with the value of 2026-11-26, torch 2.13.0. The standard library alone, so that any Python can run it.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Report = dict[str, Any]
SEEDS = 3  # of a probe, at least
SPLIT = "val"
COST = "Tokens keep"  # how the line of the verdict begins that may warn, since it has a bound of its own below


class Bound(NamedTuple):
    name: str
    value: Callable[[Report], float]
    limit: float
    at_least: bool  # else: at most


def worst_level(name: str) -> Callable[[Report], float]:
    """The lowest of a number over all parts and levels."""
    return lambda report: min(level[name] for levels in report["codes"].values() for level in levels)


def probe(name: str) -> Callable[[Report], float]:
    def value(report: Report) -> float:
        codes = report["meaning"][name]["codes"]
        return sum(codes) / len(codes) if len(codes) >= SEEDS else math.nan

    return value


def over_chance(report: Report) -> float:
    """The probe on gloss segments over the better of chance and codes that were shuffled."""
    result = report["meaning"]["segments"]
    shuffled = sum(result["shuffled"]) / len(result["shuffled"])
    return probe("segments")(report) / max(result["chance"], shuffled)


def kept(report: Report) -> float:
    """Of what the probe reads beyond chance in keypoints or latents, the share that it reads in the tokens sent."""
    result = report["meaning"]["segments"]
    tokens, *sources = (sum(result[name]) / len(result[name]) for name in ("tokens", "keypoints", "latents"))
    return (tokens - result["chance"]) / (max(sources) - result["chance"])


BOUNDS = (
    # 0.0420. Seeds move it by 0.3 %, the number of threads by as much; codebooks that begin badly cost 10 %.
    Bound(
        "error, weighted over parts, shoulder widths",
        lambda report: report["recon"]["weighted"]["local"],
        0.0440,
        False,
    ),
    # 0.0529, the budget of codes as it is exported; it moves as the error does.
    Bound("error of the codes that are sent", lambda report: report["rate"]["hold_error"]["with"], 0.0560, False),
    # 59 % of 512 codes. Seeds move it by 4 % of itself, codebooks that begin badly cost 22 %.
    Bound("codes used, worst level, share", worst_level("used"), 0.50, True),
    # 227. Seeds move it by 4 %, codebooks that begin badly cost 38 %.
    Bound("perplexity, worst level, codes", worst_level("perplexity"), 195.0, True),
    # 52 % of 375 segments, by signers whom the probe has not seen; chance is 5 %. Two standard errors are 5 points.
    Bound("gloss segments told by the codes, share", probe("segments"), 0.45, True),
    # 10 times.
    Bound("the same over chance and shuffled codes, times", over_chance, 6.0, True),
    # 96 % (73 of 76 %), 92 % on the test split. Two standard errors are 6 points.
    Bound("what tokens keep of it, share", kept, 0.80, True),
    # 65 %, mean average precision over 80 clips; chance is 12 %.
    Bound("glosses of clips told by the codes, share", probe("clips"), 0.50, True),
)


def faults(report: Report) -> list[str]:
    """What falls short, a line each; none: the report passes. A number that is missing falls short."""
    headline, *rows = report.get("verdict") or [{"grade": "bad", "text": "the report has no verdict"}]
    short = [row for row in rows if row["grade"] != "good"]
    excused = headline["grade"] == "warn" and [row["text"].startswith(COST) for row in short] == [True]
    lines = [f"not healthy: {headline['text']}"] if headline["grade"] != "good" and not excused else []
    lines += [f"verdict: {row['text']}" for row in rows if row["grade"] == "bad"]
    if (split := (report.get("run") or {}).get("split")) != SPLIT:
        lines.append(
            f"the report is of the split {split}, the bounds are for {SPLIT}: evaluate it with --split {SPLIT}"
        )
    for bound in BOUNDS:
        value = measured(bound, report)
        passes = value >= bound.limit if bound.at_least else value <= bound.limit  # neither holds for NaN
        if not passes:
            lines.append(
                f"{bound.name}: {value:.4g}, {'at least' if bound.at_least else 'at most'} {bound.limit:g} is asked for"
            )
    return lines


def measured(bound: Bound, report: Report) -> float:
    try:
        return float(bound.value(report))
    except (LookupError, AttributeError, TypeError, ValueError, ZeroDivisionError):  # missing, null, nothing to count
        return math.nan


def newest_report(experiment: Path) -> Path:
    """Of the run that began last: an older run's report says nothing of it."""
    runs = sorted(folder for folder in experiment.glob("*") if (folder / "config.yaml").is_file())
    if not runs:
        sys.exit(f"gate: {experiment} holds no run")
    return runs[-1] / "report" / "report.json"


def main(argv: list[str]) -> int:
    if len(argv) != 1 or argv[0].startswith("-"):
        print(__doc__)
        return 0 if argv in (["-h"], ["--help"]) else 2
    path = newest_report(Path(argv[0]))
    try:
        report = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        sys.exit(f"gate: {path} cannot be read: {error}")
    short = faults(report)
    for bound in BOUNDS:
        sign = ">=" if bound.at_least else "<="
        print(f"gate: {bound.name}: {measured(bound, report):.4g} ({sign} {bound.limit:g})")
    for line in short:
        print(f"gate: FAILS: {line}", file=sys.stderr)
    print(f"gate: {path}: {f'{len(short)} faults' if short else 'passed'}")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
