"""The report's plots as PNG files, and a clip's tokens among them: what the door inference/viz.py does."""

from __future__ import annotations

import difflib
import logging
from argparse import Namespace
from pathlib import Path

from signstream.errors import UserError, one_line
from signstream.inference.report.files import find_report
from signstream.inference.report.plots import drawn
from signstream.pictures.figure import Lettering, heading, save_figure
from signstream.tokens.format import TokenSequence, read_jsonl


def draw_plots(args: Namespace) -> None:
    """The options of inference/viz.py."""
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out} is a file: the name of a folder is expected")
    if args.clip is not None and args.tokens is None:
        raise UserError("--clip needs --tokens FILE, where the clip's tokens are")
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it would tell of every font that has no bold
    letters = Lettering()
    report = find_report(args.report)
    tokens = None if args.tokens is None else find_tokens(args.tokens, args.clip)
    args.out.mkdir(parents=True, exist_ok=True)
    about = report.get("run") or {}
    for name, figure in drawn(report, tokens):
        strong, rest = one_line(str(about.get("name", ""))), f"{about.get('split', '')}, {about.get('clips', 0)} clips"
        if tokens is not None and name == "token_timeline":
            strong, rest = one_line(tokens.name), tokens.tokenizer
        width = round(12 * figure.get_size_inches()[0])
        heading(figure, letters, (0.1, 0.24), strong=strong, rest=rest, width=width)
        save_figure(figure, args.out / f"{name}.png")
        print(args.out / f"{name}.png")


def find_tokens(path: Path, clip: str | None) -> TokenSequence:
    """The clip of that name, the file's first by default; or an error that names the nearest."""
    names = []
    for tokens in read_jsonl(path):
        if clip is None or tokens.name == clip:
            return tokens
        names.append(tokens.name)
    near = [f"did you mean {name!r}?" for name in difflib.get_close_matches(clip or "", names, n=1)]
    raise UserError(f"{path} has no clip {clip!r}; {(near or [f'its first is {names[0]!r}'])[0]}")
