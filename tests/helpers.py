"""Tiny runs on tiny data, and what two runs have to share."""

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn

from signstream import registry
from signstream.config import load_config
from signstream.training.distributed import Ranks
from signstream.training.loop import Loop, auto_batch
from signstream.training.seed import seed_everything
from token_files import drawn_tokens

ROOT = Path(__file__).parents[1]
TINY_TRAINING = (
    "train.device=cpu",
    "train.threads=1",
    "train.warmup_steps=2",
    "train.clips_per_step=8",
    "train.amp=fp32",
    "train.sample_clips=0",  # drawing them takes most of a validation; who tests pictures asks for one
)
TINY_RUN = (
    "model.encoder_layer=1",
    "model.encoder_latent_dim=32",
    "model.latent_dim=16",
    "model.rvq.codebook_size=32",
    *TINY_TRAINING,
)
# What every architecture must hold is tested with each of these; stgcn as it is meant to be, with windows of chunks.
ARCHS = {
    "mlp": ("model.arch=mlp",),
    "transformer": ("model.arch=transformer",),
    "stgcn": ("model.arch=stgcn", "data.chunk_len=4", "data.window=2", "model.encoder_latent_dim=16"),
}
# Nothing drawn at random: what is left must not depend on how clips fall into batches and ranks. Which residuals a
# batch offers for revival is drawn.
PLAIN_DATA = (
    "data.augment.mirror=false",
    "data.augment.time_warp=false",
    "data.augment.dropout_prob=0",
    "data.augment.random_phase=false",
)
PLAIN_CODES = ("model.rvq.level_dropout=0",)
PLAIN = (*PLAIN_DATA, *PLAIN_CODES, "model.rvq.usage_reg=0.1", "model.rvq.revive_below=0")
TINY_RECOGNITION = (
    "task=recognition",
    "experiment_name=default",
    "data.layout=csl_daily",
    "data.source=keypoints",
    "data.clean=none",
    "data.fps=30",
    "data.body_parts={right_hand: [113, 133], body: [1, 17]}",
    "model.width=32",
    "model.depth=1",
    "model.head=16",
    "model.state=8",
    "model.keypoints.part_width=16",
    "model.keypoints.strides=[4, 2]",
    "train.average=0.9",
    "train.lr=1e-3",
)
TINY_SENTENCES = (
    "experiment_name=default",
    "data.layout=csl_daily",
    "data.clean=none",
    "data.fps=30",
    "data.visual=null",
    "data.points=133",
    "model.source_language=en_XX",
    "model.target_language=en_XX",
    "model.encoder.width=32",
    "model.encoder.depth=1",
    "model.encoder.heads=2",
    "model.tiny={vocabulary: 100, width: 16, layers: 1, heads: 2, dropout: 0}",
    "train.lr=1e-3",
    "train.wd=0.01",
)
PLAIN_SENTENCES = (*PLAIN_DATA[1:3], "model.encoder.dropout=0", "model.encoder.drop_path=0")
TINY_CONTRAST = ("task=contrast", *TINY_SENTENCES, "model.embedding=32")
TINY_TRANSLATION = (
    *("task=translation", *TINY_SENTENCES, "model.freeze=[embedding, positions, encoder]"),
    *("train.text_lr=5e-4", "loss.ctc=0.1", "decode.beams=2", "decode.max_tokens=12"),
)
TINY_PREFIX = (
    *("task=prefix_lm", "experiment_name=default", "data.fps=30", "model.target_language=en_XX", "train.lr=1e-3"),
    "model.tiny={vocabulary: 100, width: 16, layers: 1, heads: 2, positions: 512}",
    *("train.lm_lr=5e-4", "decode.max_tokens=12"),
)
PLAIN_PREFIX = (*PLAIN_DATA[1:3], "model.tiny.dropout=0")
TINY_LIVE = (
    *TINY_PREFIX,
    "model.form=live",
    "live={chunks: 8, words: 12, positions: 400, summary: 1, group: 2, reach: 10, wait: 0, delayed: 0.5}",
)
PLAIN_LIVE = (*PLAIN_PREFIX, "live.delayed=0", "live.moved=0")
PLAIN_RECOGNITION = (*PLAIN_DATA[:3], "model.dropout=0", "model.drop_path=0")


def slow_but(names: Iterable[str], *quick: str) -> list:
    """Parameters of a test: what is quick, and the others as .ci/run runs them."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


class Case(NamedTuple):
    """A task, architecture and quantiser for which all of tests/test_tasks.py holds."""

    options: tuple[str, ...]
    plain: tuple[str, ...]  # and with nothing drawn at random
    rounding: float = 1e-5  # what another order of adding up may change after a few steps
    double: bool = False  # whether batches are compared in double


CASES = {
    "mlp": Case((*TINY_RUN, *ARCHS["mlp"]), PLAIN),
    "transformer": Case((*TINY_RUN, *ARCHS["transformer"]), PLAIN),
    # Clips of a second, as a step of the graphs takes ten times another's; of two where what is alike to rounding
    # must choose the same codes.
    "stgcn": Case((*TINY_RUN, *ARCHS["stgcn"], "data.max_frames=32"), (*PLAIN, "data.max_frames=64")),
    # Its first axes are an SVD's, whose last digits a latent's last digits move more than they do a mean.
    "fsq": Case((*TINY_RUN, *ARCHS["mlp"], "model.rvq.kind=fsq"), (*PLAIN_DATA, *PLAIN_CODES), rounding=1e-4),
    "taught": Case((*TINY_RUN, *ARCHS["mlp"], "model.rvq.semantic=gloss"), PLAIN),
    "gloss": Case((*TINY_TRAINING, "imports=[gloss_task]", "task=gloss", "train.lr=1e-3"), PLAIN_DATA),
    "recognition": Case((*TINY_TRAINING, *TINY_RECOGNITION), PLAIN_RECOGNITION),
    "contrast": Case((*TINY_TRAINING, *TINY_CONTRAST), PLAIN_SENTENCES),
    "translation": Case((*TINY_TRAINING, *TINY_TRANSLATION), PLAIN_SENTENCES, double=True),
    "prefix_lm": Case((*TINY_TRAINING, *TINY_PREFIX), PLAIN_PREFIX),
    "prefix_lm_live": Case((*TINY_TRAINING, *TINY_LIVE), PLAIN_LIVE),
}


def tiny_options(root: Path, *more: str) -> list[str]:
    """A tiny run on that data, as the command line would say it; its cache and its runs lie beside it."""
    return [*places(root), *TINY_RUN, *more]


def case_options(root: Path, case: str, *more: str, plain: bool = False) -> list[str]:
    """Likewise, of a case; `plain`: with nothing drawn at random."""
    options = [*places(root), *CASES[case].options, *(CASES[case].plain if plain else ()), *more]
    return [*options, f"data.tokens={drawn_tokens(options)}"] if case.startswith("prefix_lm") else options


def places(root: Path) -> list[str]:
    return [f"data.root={root}", f"data.cache={root.parent / 'cache'}", f"save_path={root.parent / 'runs'}"]


def begin_loop(options: list[str], ranks: Ranks | None = None) -> Loop:
    """A loop before its first step."""
    ranks, config = ranks or Ranks(), load_config(None, options)
    seed_everything(config.train.seed, ranks.rank)
    task = registry.find("task", config.task).open(config, ranks)
    loop = Loop(task, config, ranks, clips=auto_batch(task, config, ranks))
    task.begin()
    return loop


def run_steps(loop: Loop, steps: int) -> list[float]:
    """So many steps, over the ends of epochs; their losses."""
    losses: list[float] = []
    while True:
        for raw in loop.loader:
            loop.step(raw)
            losses.append(loop.watch.recent[-1])
            if len(losses) == steps:
                return losses


def in_double(model: nn.Module) -> None:
    """So that a sum of gradients which cancel out is not what a processor's order of adding them makes of it."""

    def as_double(x):
        if isinstance(x, dict):
            return {key: as_double(value) for key, value in x.items()}
        return x.double() if isinstance(x, torch.Tensor) and x.dtype == torch.float32 else x

    def doubled(module, given, named):
        return tuple(map(as_double, given)), as_double(named)

    for module in model.double().modules():
        module.register_forward_pre_hook(doubled, with_kwargs=True)


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
