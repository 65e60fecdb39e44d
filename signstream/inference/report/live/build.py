"""The report of live runs: what report.json holds, and the figure and page of it.

report = build(runs, split="test", language="en_XX")     runs: the one that the page shows, its controls, others
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from datetime import date
from typing import Any, NamedTuple

from signstream.inference.report.live.definitions import DEFINITIONS
from signstream.inference.report.live.frontier import Point, frontier
from signstream.inference.report.live.measure import Measured
from signstream.io.tables import finite
from signstream.pictures.figure import figure_pixels

TASK = "live"


class Run(NamedTuple):
    name: str
    file: str
    control: bool  # it has not seen the signing
    measured: Measured


def build(runs: Sequence[Run], *, split: str, language: str) -> dict[str, Any]:
    clips = runs[0].measured.clips
    report = {
        "task": TASK,
        "split": split,
        "language": language,
        "date": date.today().isoformat(),
        "clips": len(clips),
        "sentences": sum(len(clip.meant.recording.sentences) for clip in clips),
        "unknown": sum(not clip.meant.text for clip in clips),
        "seconds": sum(clip.live.signing for clip in clips) / 1000,
        "variants": runs[0].measured.variants,
        "definitions": {key: definition._asdict() for key, definition in DEFINITIONS.items()},
        "runs": [
            {"name": run.name, "file": run.file, "control": run.control, "numbers": run.measured.numbers}
            for run in runs
        ],
    }
    return finite(report)


def frontier_of(runs: Sequence[Run]) -> bytes | None:
    """A PNG; None: there are no two runs of which both numbers are known."""
    points, floors = points_of(runs)
    if len(points) < 2:
        return None
    return as_png(figure_pixels(frontier(points, floors=floors, lag="StreamLAAL" if _by_sentence(runs) else "LAAL")))


def points_of(runs: Sequence[Run]) -> tuple[list[Point], dict[str, float]]:
    """Of runs, and BLEU of controls; by sentence, where recordings have them."""
    prefix = "sentences/" if _by_sentence(runs) else ""
    points, floors = [], {}
    for run in runs:
        lag, bleu = (run.measured.numbers.get(prefix + key) for key in ("latency/consumed/laal", "text/bleu_4"))
        if run.control and bleu is not None:
            floors[run.name] = bleu
        elif lag is not None and bleu is not None:
            points.append(Point(run.name, lag / 1000, bleu))
    return points, floors


def _by_sentence(runs: Sequence[Run]) -> bool:
    return any(clip.meant.recording.sentences for clip in runs[0].measured.clips)


def as_png(pixels: Any) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", optimize=True)
    return out.getvalue()


def as_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
