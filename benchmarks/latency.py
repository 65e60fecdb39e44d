"""How long a live chunk takes to compute, on one thread, and how far behind the signer it comes.

    python -m benchmarks.latency [--config configs/default.yaml] [--frames 3000] [key.path=value ...]

A model of the config's size with codebooks made from its own latents; its weights are not trained, which costs the
same. It is fed frame by frame. Printed: milliseconds of the pushes that finish a chunk and of the others (half of
them, 95 and 99 of 100 are faster), and the lookahead.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

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

CLIPS = 16  # encoded at once


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


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--config", default="configs/default.yaml")
    parser.add_argument("--frames", type=int, default=3000)
    args = cli.parse_with_overrides(parser, argv, "for example model.arch=mlp")
    torch.set_num_threads(1)
    finishing: list[float] = []
    others: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer, cache, _ = untrained(args.config, args.overrides, Path(scratch), clips=60)
        source = open_data(tokenizer.config.data)
        poses = np.concatenate([source.load("train", cache.clips[i].name).poses for i in cache.split("train")])
        poses = np.resize(poses, (args.frames, *poses.shape[1:]))
        stream = tokenizer.stream()
        for frame in poses:
            began = time.perf_counter()
            chunks = stream.push(frame)
            (finishing if chunks else others).append((time.perf_counter() - began) * 1e3)
    for name, spent in (("a chunk", finishing[3:]), ("a frame between", others[3:])):
        half, most, nearly = np.quantile(spent, (0.5, 0.95, 0.99))
        print(f"{name:16} p50 {half:7.2f} ms   p95 {most:7.2f} ms   p99 {nearly:7.2f} ms   ({len(spent)} of them)")
    data = tokenizer.config.data
    lasts = f"a chunk lasts {1e3 * data.chunk_len / data.fps:.0f} ms; the lookahead is {data.lookahead} frames"
    print(f"{lasts}; codes a chunk: {tokenizer.codes_per_chunk}")


if __name__ == "__main__":
    cli.run(main)
