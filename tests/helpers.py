"""Tiny runs on tiny data, and what two runs have to share."""

import socket
from pathlib import Path

import torch

from signstream.config import load_config
from signstream.data.cache import open_cache
from signstream.training.distributed import Ranks
from signstream.training.loop import Loop, auto_batch
from signstream.training.seed import seed_everything

TINY_RUN = (
    "model.encoder_layer=1",
    "model.encoder_latent_dim=32",
    "model.latent_dim=16",
    "model.rvq.codebook_size=32",
    "train.device=cpu",
    "train.threads=1",
    "train.warmup_steps=2",
    "train.clips_per_step=8",
    "train.amp=fp32",
    "train.sample_clips=1",
)
# What every architecture must hold is tested with each of these; stgcn as it is meant to be, with windows of chunks.
ARCHS = {
    "mlp": ("model.arch=mlp",),
    "transformer": ("model.arch=transformer",),
    "stgcn": ("model.arch=stgcn", "data.chunk_len=4", "data.window=2", "model.encoder_latent_dim=16"),
}
# Nothing drawn at random: what is left must not depend on how clips fall into batches and ranks. Which residuals a batch offers for revival is drawn.
PLAIN = (
    "data.augment.mirror=false",
    "data.augment.time_warp=false",
    "data.augment.affine=0",
    "data.augment.dropout_prob=0",
    "data.augment.random_phase=false",
    "model.rvq.level_dropout=0",
    "model.rvq.usage_reg=0.1",
    "model.rvq.revive_below=0",
)


def tiny_options(root: Path, *more: str) -> list[str]:
    """A tiny run on that data, as the command line would say it; its cache and its runs lie beside it."""
    return [
        f"data.root={root}",
        f"data.cache={root.parent / 'cache'}",
        f"save_path={root.parent / 'runs'}",
        *TINY_RUN,
        *more,
    ]


def begin_loop(options: list[str], ranks: Ranks | None = None) -> Loop:
    """A loop before its first step."""
    ranks, config = ranks or Ranks(), load_config(None, options)
    seed_everything(config.train.seed, ranks.rank)
    cache = open_cache(config.data, workers=1, quiet=True)
    loop = Loop(config, cache, ranks, auto_batch(config, cache, ranks))
    loop.fit_constants()
    return loop


def run_steps(loop: Loop, steps: int) -> list[float]:
    """So many steps, over the ends of epochs; their losses."""
    losses = []
    while True:
        for clips in loop.loader:
            loop.train_step(clips)
            losses.append(loop.recent[-1])
            if len(losses) == steps:
                return losses


def assert_same(a, b, where="state"):
    """Bit for bit, whatever it is made of."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), where
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_same(a[key], b[key], f"{where}[{key!r}]")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b)):
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
