"""How long a live chunk takes to compute, on one thread, and how far behind the signer it comes.

    python -m benchmarks.latency [--config configs/default.yaml] [--frames 3000] [key.path=value ...]

A model of the config's size with codebooks made from its own latents; its weights are not trained, which costs the same. It is fed frame by frame.
Printed: milliseconds of the pushes that finish a chunk and of the others (half of them, 95 and 99 of 100 are faster), and the lookahead.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from signstream.config import load_config
from signstream.data.cache import open_cache
from signstream.data.datasets import open_data
from signstream.data.synthetic.dataset import make_dataset
from signstream.inference.tokenizer import Tokenizer
from signstream.io.pose_cache import PoseCache
from signstream.tasks.rvq.validation import validate
from signstream.training.distributed import Ranks
from signstream.training.loop import Loop


def untrained(config_file: str, overrides: list[str], scratch: Path, clips: int) -> tuple[Tokenizer, PoseCache]:
    """A tokenizer of the config's size, and synthetic clips for it."""
    root = make_dataset(scratch / "data", clips, seed=0)
    config = load_config(config_file, [f"data.root={root}", f"data.cache={scratch / 'cache'}", *overrides])
    cache = open_cache(config.data, quiet=True)
    loop = Loop(config, cache, Ranks(), 16)
    loop.fit_constants()
    loop.initialise_codebooks()
    loop.budget = validate(loop, False).budget
    return Tokenizer(loop.state()), cache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/default.yaml")
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    args = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer, cache = untrained(args.config, args.overrides, Path(scratch), 60)
        source = open_data(tokenizer.config.data)
        poses = np.concatenate([source.load("train", cache.clips[i].name).poses for i in cache.split("train")])
        poses = np.resize(poses, (args.frames, *poses.shape[1:]))
        stream, finishing, others = tokenizer.stream(), [], []
        for frame in poses:
            began = time.perf_counter()
            chunks = stream.push(frame)
            (finishing if chunks else others).append((time.perf_counter() - began) * 1e3)
    for name, spent in (("a chunk", finishing[3:]), ("a frame between", others[3:])):
        half, most, nearly = np.quantile(spent, (0.5, 0.95, 0.99))
        print(f"{name:16} p50 {half:7.2f} ms   p95 {most:7.2f} ms   p99 {nearly:7.2f} ms   ({len(spent)} of them)")
    data = tokenizer.config.data
    print(
        f"a chunk lasts {1e3 * data.chunk_len / data.fps:.0f} ms; the lookahead is {data.lookahead} frames; "
        f"codes a chunk: {tokenizer.codes_per_chunk}"
    )


if __name__ == "__main__":
    main()
