"""What every program that uses a checkpoint begins with: its tokenizer on this rank's device, and the config with the command line's options on top.

with open_session("checkpoints/quickstart", overrides=["export.codes_per_chunk=8"]) as (tokenizer, config, ranks): ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from signstream import registry
from signstream.config import Config, from_dict, load_config

if TYPE_CHECKING:
    from signstream.inference.tokenizer import Tokenizer
    from signstream.training.distributed import Ranks

FREE_TO_CHANGE = (
    "root",
    "layout",
    "split_file",
    "check_num_frames",
    "cache",
    "workers",
    "chunk_stride",
    "augment",
)  # they change no clip's codes


class Session(NamedTuple):
    tokenizer: Tokenizer
    config: Config
    ranks: Ranks


@contextmanager
def open_session(checkpoint: str | Path, file: str | None = None, overrides: Sequence[str] = ()) -> Iterator[Session]:
    """A checkpoint's tokenizer on this rank's device, under the checkpoint's config, or the file's, with the command line's options on top."""
    from signstream.inference.tokenizer import Tokenizer
    from signstream.training import checkpoint as files
    from signstream.training.distributed import start

    state = files.load(files.best_of(checkpoint))
    saved = from_dict(state["config"])
    config = load_config(file, overrides, saved)
    registry.check(config, ("arch", "layout"))
    files.check_same(config, saved, FREE_TO_CHANGE, "the tokens are those of the checkpoint's model")
    with start(config.train.device, config.train.threads) as ranks:
        yield Session(Tokenizer(state, ranks.device, config.export), config, ranks)
