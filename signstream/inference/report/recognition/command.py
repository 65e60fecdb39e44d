"""The report of a recogniser's checkpoint, and its page."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from signstream.inference.recognition.clips import of_split
from signstream.inference.recognition.session import open_recogniser
from signstream.inference.report.files import publish
from signstream.inference.report.looks import open_looks
from signstream.inference.report.page import render_recognition
from signstream.inference.report.recognition.build import build
from signstream.inference.report.recognition.measure import measure
from signstream.inference.report.recognition.player import make_moments, make_player
from signstream.training.run_folder import RunFolder


def evaluate_recogniser(args: Namespace, path: Path, about: dict[str, Any]) -> None:
    """The options of inference/evaluate.py, its checkpoint, and what is known of the run."""
    with open_recogniser(path, args.config, args.overrides) as (recogniser, config, ranks):
        clips = of_split(recogniser, config.data, args.split, labelled=True, quiet=not ranks.is_main)
        measured = measure(clips, ranks)
        journal = RunFolder(path.parent).metrics
        about = {**about, "split": args.split}
        report = build(clips, measured, ranks, config=config, about=about, journal=journal)

        def finish() -> None:
            looks = open_looks(clips, config.data)
            player = make_player(clips, measured, looks, count=args.clips)
            moments = make_moments(measured, report["confusions"], looks)
            page = render_recognition(report, player, moments)
            publish(args.out or path.parent / "report", page, report)

        ranks.from_main(finish)
