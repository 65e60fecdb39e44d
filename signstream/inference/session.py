"""What every program that uses a checkpoint begins with.

with open_session("checkpoints/quickstart", overrides=["export.codes_per_chunk=8"]) as (tokenizer, config, ranks): ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from signstream.config import check_names, load_config
from signstream.config.rvq import Config
from signstream.inference.tokenizer import Tokenizer
from signstream.training.checkpoint import check_same, config_of, load
from signstream.training.distributed import Ranks, start
from signstream.training.run_folder import best_of

# of the data's keys: they change no clip's codes
FREE = (
    *("root", "layout", "split_file", "meta_dir", "keypoints", "check_num_frames"),
    *("cache", "workers", "chunk_stride", "augment"),
)


class Session(NamedTuple):
    tokenizer: Tokenizer
    config: Config
    ranks: Ranks


@contextmanager
def open_session(checkpoint: str | Path, file: str | None = None, overrides: Sequence[str] = ()) -> Iterator[Session]:
    """A checkpoint's tokenizer on this rank's device, under the checkpoint's config, or the file's, with the command
    line's options on top."""
    state = load(best_of(checkpoint))
    saved = config_of(state, Config)
    config = load_config(file, overrides, saved, kind=Config)
    check_names(config, ("arch", "layout"))
    check_same(config, saved, free=FREE, why="the tokens are those of the checkpoint's model")
    with start(config.train.device, config.train.threads) as ranks:
        yield Session(Tokenizer(state, ranks.device, config.export), config, ranks)
