"""How long a live chunk takes to compute, on one thread, and how far behind the signer it comes.

    python -m benchmarks.latency [--config configs/default.yaml] [--frames 3000] [key.path=value ...]

A model of the config's size with codebooks made from its own latents; its weights are not trained, which costs the
same. It is fed frame by frame. Printed: milliseconds of the pushes that finish a chunk and of the others (half of
them, 95 and 99 of 100 are faster), and the lookahead.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.pairs import Row, shown_seconds
from signstream import cli
from signstream.config import load_config
from signstream.config.rvq import Config
from signstream.data.datasets import open_data
from signstream.data.synthetic.dataset import make_dataset
from signstream.inference.tokenizer import Tokenizer
from signstream.io.pose_cache import PoseCache
from signstream.tasks.rvq.head_start import initialise_codebooks
from signstream.tasks.rvq.task import RvqTask
from signstream.training.distributed import Ranks
from signstream.training.loop import Loop

CONFIG, CLIPS_MADE, FRAMES = "configs/default.yaml", 60, 3000
CLIPS = 16  # encoded at once
LIMIT = 0.010  # seconds, of 99 chunks in 100


class Untrained(NamedTuple):
    """A tokenizer of the config's size, synthetic clips for it, and its checkpoint's state."""

    tokenizer: Tokenizer
    cache: PoseCache
    state: dict[str, object]


def untrained(config_file: str, overrides: list[str], scratch: Path, *, clips: int) -> Untrained:
    root = make_dataset(scratch / "data", clips, seed=0)
    places = [f"data.root={root}", f"data.cache={scratch / 'cache'}"]
    config = load_config(config_file, [*places, *overrides], kind=Config)
    task = RvqTask.open(config, Ranks())
    loop = Loop(task, config, Ranks(), clips=CLIPS)
    task.begin()
    initialise_codebooks(task.setup, config.data, micro=CLIPS, clips_a_step=CLIPS)
    loop.validate(health=False)
    state = loop.state_dict()
    return Untrained(Tokenizer(state), task.setup.cache, state)


class Spent(NamedTuple):
    """Seconds of each push, without the first ones, which warm up."""

    finishing: list[float]  # a chunk
    others: list[float]


def streamed(tokenizer: Tokenizer, cache: PoseCache, frames: int) -> Spent:
    source = open_data(tokenizer.config.data)
    poses = np.concatenate([source.load("train", cache.clips[i].name).poses for i in cache.split("train")])
    stream = tokenizer.stream()
    finishing: list[float] = []
    others: list[float] = []
    for frame in np.resize(poses, (frames, *poses.shape[1:])):
        began = time.perf_counter()
        chunks = stream.push(frame)
        (finishing if chunks else others).append(time.perf_counter() - began)
    return Spent(finishing[3:], others[3:])


def rows() -> Iterator[Row]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer, cache, _ = untrained(CONFIG, [], Path(scratch), clips=CLIPS_MADE)
        half, nearly = np.quantile(streamed(tokenizer, cache, FRAMES).finishing, (0.5, 0.99))
    ours = f"{shown_seconds(nearly)} (half of them {shown_seconds(half)})"
    yield Row("a chunk of a stream, 99 of 100", ours, "limit", shown_seconds(LIMIT), nearly / LIMIT, at_most=1)


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--config", default=CONFIG)
    parser.add_argument("--frames", type=int, default=FRAMES)
    args = cli.parse_with_overrides(parser, argv, "for example model.arch=mlp")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer, cache, _ = untrained(args.config, args.overrides, Path(scratch), clips=CLIPS_MADE)
        finishing, others = streamed(tokenizer, cache, args.frames)
    for name, spent in (("a chunk", finishing), ("a frame between", others)):
        half, most, nearly = 1e3 * np.quantile(spent, (0.5, 0.95, 0.99))
        print(f"{name:16} p50 {half:7.2f} ms   p95 {most:7.2f} ms   p99 {nearly:7.2f} ms   ({len(spent)} of them)")
    data = tokenizer.config.data
    lasts = f"a chunk lasts {1e3 * data.chunk_len / data.fps:.0f} ms; the lookahead is {data.lookahead} frames"
    print(f"{lasts}; codes a chunk: {tokenizer.codes_per_chunk}")


if __name__ == "__main__":
    cli.run(main)
