"""What the door inference/live_report.py does: files of events to a report, a plot and a page."""

from __future__ import annotations

import json
import logging
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from signstream.config import load_config
from signstream.data.datasets import open_data
from signstream.data.live_targets import Targets
from signstream.errors import UserError, shown
from signstream.inference.report.live.build import Run, as_uri, build, frontier_of
from signstream.inference.report.live.events import LiveRun, read_events
from signstream.inference.report.live.meant import Meant, meant_in
from signstream.inference.report.live.measure import Numbers, beyond, measure
from signstream.inference.report.live.player import make_player
from signstream.inference.report.live.soonest import soonest
from signstream.inference.report.page import render_live
from signstream.io.whole import write_together
from signstream.models.metrics.text import TextScores
from signstream.training import checkpoint
from signstream.training.run_folder import best_of

PLOT = "frontier.png"


def report_live(args: Namespace) -> None:
    """The options of inference/live_report.py."""
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out} is a file: name a folder")
    config = config_of(args)
    scores = TextScores(language_of(config))
    shown, *others = ((None, path) for path in args.events)
    named = [shown, *beside_of(args.beside), *others]
    files = [(name, path, read_events(path)) for name, path in named]
    first = files[0][2]
    for _, path, run in files[1:]:
        check_same_clips(path, run, args.events[0], other=first)
    meant = meant_in(config.data, args.split, list(first.clips), file=args.events[0])
    signs = getattr(getattr(config, "live", None), "signs", None)
    signs = None if signs is None else Path(signs)
    targets = Targets.of(
        meant.cache,
        config.data,
        signs,
        source=open_data(config.data),
        option="live.signs",
        splits=("train", args.split),
    )
    behind = 1000 * config.data.lookahead / config.data.fps
    least = measure(soonest(first, meant, targets, behind=behind), meant.clips, language_of(config))
    runs = []
    for name, path, run in files:
        measured = measure(run, meant.clips, language_of(config))
        measured.numbers.update(beyond(measured, least))
        runs.append(Run(name or run.name, path.name, name is not None, measured))
    write(args.out, runs, meant, config=config, split=args.split, scores=scores)
    print("\n".join(lines_of(runs)))
    print(args.out / "index.html", flush=True)


def config_of(args: Namespace) -> Any:
    if args.checkpoint is None and args.config is None:
        raise UserError("whose clips are these? --checkpoint PATH, the run that was live, or --config FILE")
    saved = None if args.checkpoint is None else checkpoint.config_of(checkpoint.load(best_of(args.checkpoint)))
    return load_config(args.config, args.overrides, saved)


def language_of(config: Any) -> str:
    language = getattr(getattr(config, "model", None), "target_language", None)
    if not isinstance(language, str):
        raise UserError(f"the config's task is {shown(config.task)}, which says no sentences: name that of a live run")
    return language


def beside_of(values: Sequence[str]) -> list[tuple[str, Path]]:
    out = []
    for value in values:
        name, _, path = value.partition("=")
        if not name or not path:
            raise UserError(f"--beside {shown(value)}: NAME=FILE is expected, such as shuffled=shuffled.jsonl")
        out.append((name, Path(path)))
    return out


def check_same_clips(path: Path, run: LiveRun, beside: Path, *, other: LiveRun) -> None:
    for has, lacks, some, others in ((path, beside, run, other), (beside, path, other, run)):
        lone = next((name for name in some.clips if name not in others.clips), None)
        if lone is not None:
            raise UserError(
                f"{has} has the clip {shown(lone)} and {lacks} has not: files of the same clips go together"
            )


def write(out: Path, runs: Sequence[Run], meant: Meant, *, config: Any, split: str, scores: TextScores) -> None:
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it would tell of every font that has no bold
    report = build(runs, split=split, language=language_of(config))
    player = make_player(runs[0].measured, meant.cache, config.data.fps, scores=scores)
    plot = frontier_of(runs)
    page = render_live(report, player, as_uri(plot) if plot is not None else None)
    contents = {
        out / "index.html": page.encode("utf-8", "backslashreplace"),
        out / "report.json": json.dumps(report, allow_nan=False, indent=1).encode(),
    }
    if plot is not None:
        contents[out / PLOT] = plot
    out.mkdir(parents=True, exist_ok=True)
    write_together(contents)


def lines_of(runs: Sequence[Run]) -> list[str]:
    width = max(len(run.name) for run in runs)
    return [f"{run.name:{width}}  {_summary(run.measured.numbers)}" for run in runs]


def _summary(numbers: Numbers) -> str:
    where = "sentences/" if "sentences/text/bleu_4" in numbers else ""
    values = {
        "BLEU-4": (numbers.get(f"{where}text/bleu_4"), ""),
        "StreamLAAL" if where else "LAAL": (numbers.get(f"{where}latency/consumed/laal"), " ms"),
        "beyond what must be seen": (numbers.get(f"{where}latency/beyond_seen"), " ms"),
        "first word beyond its signs": (numbers.get(f"{where}latency/first_beyond_seen"), " ms"),
        "erasure": (numbers["erasure/shown"], ""),
        "real-time factor": (numbers["real_time_factor"], ""),
    }
    told = (f"{name} {'-' if value is None else f'{value:.4g}'}{unit}" for name, (value, unit) in values.items())
    return ", ".join(told)
