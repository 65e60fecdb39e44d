"""What the door inference/evaluate.py does: the report of a checkpoint, or the reports of several runs in one page."""

from __future__ import annotations

from argparse import Namespace

from signstream.config import load_config
from signstream.data.cache import open_cache
from signstream.errors import UserError
from signstream.inference.report.build import evaluate
from signstream.inference.report.files import find_report, write
from signstream.inference.report.measure import Subject
from signstream.inference.report.page import render, render_compare
from signstream.inference.report.player_data import make_player
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
    if args.compare:
        compare_runs(args)
    else:
        evaluate_checkpoint(args)


def evaluate_checkpoint(args: Namespace) -> None:
    path = best_of(args.checkpoint)
    state = checkpoint.load(path)
    folder = RunFolder(path.parent)
    with open_session(path, args.config, args.overrides) as (tokenizer, config, ranks):
        cache = open_cache(config.data, quiet=not ranks.is_main)
        time = f" {path.parent.name}" if RUN_NAME.fullmatch(path.parent.name) else ""
        about = {
            "name": config.experiment_name + time,
            "checkpoint": path.name,
            "step": state["step"],
            "epoch": state.get("epoch"),
        }
        subject = Subject(tokenizer, config, cache)
        report = evaluate(subject, args.split, ranks, about=about, journal=folder.metrics)

        def finish() -> None:
            player = (
                make_player(tokenizer, cache, cache.splits[args.split], count=args.clips) if args.visualize else None
            )
            page = write(args.out or path.parent / "report", render(report, player), report)
            for line in report["verdict"]:
                print(f"{line['grade']}: {line['text']}" + (f" {line['advice']}" if line["advice"] else ""))
            print(page, flush=True)

        ranks.from_main(finish)


def compare_runs(args: Namespace) -> None:
    if args.out is None:
        raise UserError("--compare needs --out DIR, where the page goes")
    load_config(args.config, args.overrides)
    print(write(args.out, render_compare([find_report(run) for run in args.compare])), flush=True)
