"""A report's files: written as report.json and index.html, found by the name of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from signstream.config.schema import check_size
from signstream.errors import UserError, refusal
from signstream.inference.report.build import FORMAT
from signstream.io.whole import write_together
from signstream.text_files import read_text
from signstream.training.run_folder import best_of

LARGEST = 1 << 26  # bytes of report.json; a usual one has 200,000


def write(out: Path, page: str, report: dict[str, Any] | None = None) -> Path:
    """index.html, and report.json where there is one; the page's path."""
    out.mkdir(parents=True, exist_ok=True)
    contents = {out / "index.html": page.encode("utf-8", "backslashreplace")}
    if report is not None:
        contents[out / "report.json"] = json.dumps(report, allow_nan=False, indent=1).encode()
    write_together(contents)
    return out / "index.html"


def publish(out: Path, page: str, report: dict[str, Any]) -> None:
    """Both, and on the screen what they say."""
    written = write(out, page, report)
    for line in report["verdict"]:
        print(f"{line['grade']}: {line['text']}" + (f" {line['advice']}" if line["advice"] else ""))
    print(written, flush=True)


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
        report = json.loads(read_text(file, most=LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        reason = refusal(error) if isinstance(error, OSError) else str(error)
        raise UserError(f"{file} is no report: {reason}") from None
    check_size(report, str(file), LARGEST)
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise UserError(f"{file} is no report of this version: make it anew with evaluate --checkpoint")
    return report
