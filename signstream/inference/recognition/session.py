"""What every program that uses a recogniser begins with.

with open_recogniser("checkpoints/recognition", overrides=["decode.beam=1"]) as (recogniser, config, ranks): ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from signstream.config import check_names, load_config
from signstream.config.recognition import RecognitionConfig
from signstream.inference.recognition.recogniser import Recogniser
from signstream.training.checkpoint import check_same, config_of, load
from signstream.training.distributed import Ranks, start
from signstream.training.run_folder import best_of

# of the data's keys: they change nothing of what is read of a clip
FREE = (
    *("root", "layout", "split_file", "meta_dir", "keypoints", "gloss_dict", "check_num_frames", "tokens"),
    *("more_tokens", "cache", "workers", "augment"),
)


class Session(NamedTuple):
    recogniser: Recogniser
    config: RecognitionConfig
    ranks: Ranks


@contextmanager
def open_recogniser(
    checkpoint: str | Path, file: str | None = None, overrides: Sequence[str] = ()
) -> Iterator[Session]:
    """A checkpoint's recogniser on this rank's device, under the checkpoint's config, or the file's, with the command
    line's options on top."""
    state = load(best_of(checkpoint))
    saved = config_of(state, RecognitionConfig)
    config = load_config(file, overrides, saved, kind=RecognitionConfig)
    check_names(config, ("layout",))
    check_same(config, saved, free=FREE, why="the recogniser was trained so")
    config = replace(config, data=replace(config.data, more_tokens=()))  # training's alone
    with start(config.train.device, config.train.threads) as ranks:
        yield Session(Recogniser(state, ranks.device, config.decode), config, ranks)
