"""The report's section `judge`: the short form of the judge (inference/judge.py), in words of the clips.

    judge = judge_of(session)        # a refusal where the clips' words cannot judge, before any work
    judge(tokenizer)                 # minutes: {"rows": {what is read: {"wer": {split: ..}, "seconds": ..}}, ...}

A line an epoch goes to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from signstream.errors import UserError
from signstream.inference.judge import RECIPE, judged_splits, recipe, short_form
from signstream.inference.session import Session
from signstream.inference.tokenizer import Tokenizer
from signstream.training.distributed import Ranks


def judge_of(session: Session) -> Callable[[Tokenizer], dict[str, Any]]:
    """What makes the section, of the session's tokenizer or a copy of it that sends otherwise."""
    judged_splits(session.config.data)
    train, ranks = recipe(session.config.data).train, session.ranks

    def judge(tokenizer: Tokenizer) -> dict[str, Any]:
        with scratch(ranks) as folder:
            told = say if ranks.is_main else None
            rows = short_form(session._replace(tokenizer=tokenizer), folder, tell=told)
        return {
            "rows": {name: row._asdict() for name, row in rows.items()},
            "codes_per_chunk": tokenizer.codes_per_chunk,
            "hold": tokenizer.hold,
            "recipe": RECIPE.as_posix(),
            "epochs": train.epochs,
            "seed": train.seed,
            "seeds": 1,
        }

    return judge


def say(line: str) -> None:
    print(f"judge: {line}", file=sys.stderr, flush=True)


@contextmanager
def scratch(ranks: Ranks) -> Iterator[Path]:
    """A fresh folder that all ranks see, for as long as this lasts."""
    with ExitStack() as stack:
        made = ranks.from_main(lambda: stack.enter_context(TemporaryDirectory(prefix="signstream-judge-")))
        if not all(ranks.collect(Path(made).is_dir())):
            where = f"{gettempdir()} is not one folder for all processes"
            raise UserError(f"--judge: {where}: set TMPDIR to one that every machine sees")
        yield Path(made)
