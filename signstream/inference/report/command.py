"""What the door inference/evaluate.py does: the report of a checkpoint, or the reports of several runs in one page."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from signstream.config import load_config
from signstream.data.cache import open_cache
from signstream.errors import UserError, shown
from signstream.inference.report.build import evaluate
from signstream.inference.report.files import find_report, publish, write
from signstream.inference.report.judged import judge_of
from signstream.inference.report.measure import Subject
from signstream.inference.report.page import render, render_compare, task_of
from signstream.inference.report.player_data import make_player
from signstream.inference.report.recognition.command import evaluate_recogniser
from signstream.inference.session import open_session
from signstream.training import checkpoint
from signstream.training.run_folder import RUN_NAME, RunFolder, best_of


def run(args: Namespace) -> None:
    """The options of inference/evaluate.py."""
    if args.out is not None and args.out.is_file():
        raise UserError(f"--out {args.out} is a file: name a folder")
    if args.clips < 1:
        raise UserError(f"--clips is {args.clips}: at least 1 is expected")
    if bool(args.compare) == bool(args.checkpoint):
        raise UserError("either --checkpoint PATH or --compare RUN RUN ... is needed")
    if args.compare and args.visualize:
        raise UserError("--visualize draws one run's clips: give it with --checkpoint, and compare then")
    if args.compare and args.judge:
        raise UserError("--judge trains on one tokenizer's clips: give it with --checkpoint, and compare then")
    if args.compare:
        compare_runs(args)
    else:
        evaluate_checkpoint(args)


def evaluate_checkpoint(args: Namespace) -> None:
    path = best_of(args.checkpoint)
    state = checkpoint.load(path)
    config = checkpoint.config_of(state)
    if config.task not in REPORTS:
        raise UserError(f"{path} is of task {shown(config.task)}: what can be measured is {' or '.join(REPORTS)}")
    if args.judge and config.task != "rvq":
        raise UserError(f"--judge tells what a tokenizer's tokens cost, and {path} is of task {shown(config.task)}")
    time = f" {path.parent.name}" if RUN_NAME.fullmatch(path.parent.name) else ""
    about = {
        "name": config.experiment_name + time,
        "checkpoint": path.name,
        "step": state["step"],
        "epoch": state.get("epoch"),
    }
    REPORTS[config.task](args, path, about)


def evaluate_tokenizer(args: Namespace, path: Path, about: dict[str, Any]) -> None:
    with open_session(path, args.config, args.overrides) as session:
        tokenizer, config, ranks = session
        cache = open_cache(config.data, quiet=not ranks.is_main)
        judge = judge_of(session) if args.judge else None
        subject, journal = Subject(tokenizer, config, cache), RunFolder(path.parent).metrics
        report = evaluate(subject, args.split, ranks, about=about, journal=journal, judge=judge)

        def finish() -> None:
            player = (
                make_player(tokenizer, cache, cache.splits[args.split], count=args.clips) if args.visualize else None
            )
            publish(args.out or path.parent / "report", render(report, player), report)

        ranks.from_main(finish)


# The report of each task, of the door's options, the checkpoint's path and what is known of the run.
REPORTS: dict[str, Callable[[Namespace, Path, dict[str, Any]], None]] = {
    "rvq": evaluate_tokenizer,
    "recognition": evaluate_recogniser,
}


def compare_runs(args: Namespace) -> None:
    if args.out is None:
        raise UserError("--compare needs --out DIR, where the page goes")
    load_config(args.config, args.overrides)
    reports = [find_report(run) for run in args.compare]
    tasks = [task_of(report) for report in reports]
    if other := next((i for i, task in enumerate(tasks) if task != tasks[0]), 0):
        told = f"{args.compare[0]} is of task {shown(tasks[0])}, {args.compare[other]} of {shown(tasks[other])}"
        raise UserError(f"--compare puts runs of one task side by side: {told}")
    print(write(args.out, render_compare(reports)), flush=True)
