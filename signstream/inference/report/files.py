"""A report's files: written as report.json and index.html, found by the name of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from signstream.errors import UserError
from signstream.inference.report.build import FORMAT
from signstream.io.whole import write_whole
from signstream.training.run_folder import best_of


def write(out: Path, page: str, report: dict[str, Any] | None = None) -> Path:
    """index.html, and report.json where there is one; the page's path."""
    out.mkdir(parents=True, exist_ok=True)
    if report is not None:
        text = json.dumps(report, allow_nan=False, indent=1)
        write_whole(out / "report.json", lambda file: file.write(text.encode()))
    write_whole(out / "index.html", lambda file: file.write(page.encode("utf-8", "backslashreplace")))
    return out / "index.html"


def find_report(run: str) -> dict[str, Any]:
    """The report of a run: its report.json, or a folder that has one, a run's or an experiment's (its newest run)."""
    path = Path(run)
    candidates = [path] if path.is_file() else [path / "report.json", path / "report" / "report.json"]
    if path.is_dir() and not any(file.exists() for file in candidates):
        candidates = [best_of(path).parent / "report" / "report.json"]
    file = next((file for file in candidates if file.exists()), None)
    if file is None:
        make = f"python -m signstream.inference.evaluate --checkpoint {run}"
        raise UserError(f"{run} has no report.json: make it first, {make}")
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is no report: {error}") from None
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise UserError(f"{file} is no report of this version: make it anew with evaluate --checkpoint")
    return report
