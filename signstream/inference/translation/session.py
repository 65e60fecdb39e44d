"""What every program that uses a translator begins with.

with open_translator(["checkpoints/translation"], overrides=["decode.beams=1"]) as (translator, config, ranks): ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from signstream.config import check_names, load_config
from signstream.config.translation import TranslationConfig
from signstream.inference.translation.members import FREE
from signstream.inference.translation.translator import Translator
from signstream.training.checkpoint import check_same, config_of, load
from signstream.training.distributed import Ranks, start
from signstream.training.run_folder import best_of


class Session(NamedTuple):
    translator: Translator
    config: TranslationConfig
    ranks: Ranks


@contextmanager
def open_translator(
    checkpoints: Sequence[str | Path], file: str | None = None, overrides: Sequence[str] = ()
) -> Iterator[Session]:
    """The translator of one or more checkpoints on this rank's device, under the first one's config, or the file's,
    with the command line's options on top."""
    states = [load(best_of(path)) for path in checkpoints]
    saved = config_of(states[0], TranslationConfig)
    config = load_config(file, overrides, saved, kind=TranslationConfig)
    check_names(config, ("layout",))
    check_same(config, saved, free=FREE, why="the translator was trained so")
    with start(config.train.device, config.train.threads) as ranks:
        yield Session(Translator(states, ranks.device, config.decode), config, ranks)
