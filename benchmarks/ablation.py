"""What each of the larger choices is worth: each switched off once, on the synthetic signer, over several seeds. A line
each for docs/training.md.

    python -m benchmarks.ablation [--clips 400] [--epochs 20] [--seeds 3] [--only "no revival"] [key.path=value ...]

The model is quickstart's. Validation split: error in shoulder widths, all parts weighted as in the loss, from all codes
and from the first of each part alone; of the codebook with the least entropy the share of codes in use and the
perplexity. Mean over seeds, and the largest distance from it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from signstream import cli
from signstream.config import load_config
from signstream.config.rvq import Config
from signstream.data.synthetic.dataset import make_dataset
from signstream.models.metrics.recon import Reconstruction, shoulder_widths
from signstream.tasks.rvq.setup import Setup
from signstream.tasks.rvq.task import RvqTask
from signstream.training import seed
from signstream.training.distributed import start
from signstream.training.loop import Loop

VARIANTS = {
    "as it is": [],
    "no k-means: codes begin as latents drawn at random": ["model.rvq.kmeans=0"],
    "no revival": ["model.rvq.revive_below=0"],
    "no k-means, no revival": ["model.rvq.kmeans=0", "model.rvq.revive_below=0"],
    "no level dropout": ["model.rvq.level_dropout=0"],
    "hands do not share": ["model.share_hands=false"],
    "no temporal loss": ["model.rvq.temporal_loss_alpha=0"],
    "no usage loss": ["model.rvq.usage_reg=0"],
    "fsq instead of codebooks": ["model.rvq.kind=fsq"],
}
FORMS = {"error": ".4f", "first code": ".4f", "used": ".1%", "perplexity": ".0f"}


def run_loop(
    config: Config,
    kind: type[RvqTask] = RvqTask,
    after_epoch: Callable[[Loop, int], None] | None = None,
    state: dict[str, Any] | None = None,
) -> Loop:
    """A run from its first step, or from a checkpoint's `state`, to its last, without a folder; `after_epoch` is called
    with the epochs that are done."""
    with start(config.train.device, config.train.threads) as ranks:
        seed.seed_everything(config.train.seed)
        task = kind.open(config, ranks)
        loop = Loop(task, config, ranks, clips=config.train.clips_per_step)
        if state is None:
            task.begin()
        else:
            loop.load_state_dict(state)
            seed.restore_generators(state["generators"][0])
        while loop.loader.epoch < config.train.epochs:
            for clips in loop.loader:
                loop.step(clips)
            if after_epoch is not None:
                after_epoch(loop, loop.loader.epoch)
        return loop


def setup_of(loop: Loop) -> Setup:
    """What the tokenizer's training stands on: cache, model, views, losses."""
    assert isinstance(loop.task, RvqTask)
    return loop.task.setup


def run(config: Config) -> dict[str, float]:
    loop = run_loop(config)
    numbers = loop.validate(health=True).numbers
    return {
        "error": numbers["recon/weighted/local"],
        "first code": first_code(loop),
        "used": numbers["codes/worst/used"],
        "perplexity": numbers["codes/worst/perplexity"],
    }


@torch.no_grad()
def first_code(loop: Loop) -> float:
    """The error when each part is decoded from its first code alone."""
    setup = setup_of(loop)
    assert loop.val_loader is not None
    recon = Reconstruction(
        setup.skeleton,
        setup.config.loss.part_weights,
        setup.views.space.scale,
        widths=shoulder_widths(setup.cache, loop.val_loader.clips),
        chunk_len=setup.config.data.chunk_len,
    )
    model = setup.model.eval()
    for clips in loop.val_loader:
        batch = setup.chunked(clips, train=False)
        codes = model.read(batch.inputs, batch.earlier).codes
        restored = setup.views.restore(model.detokenise(codes[..., :1]))
        restored = setup.views.put_together(restored, model.told, sent=batch.valid.T)
        views = {part.name: batch.chunks.local(part) for part in setup.skeleton.parts}
        xy = {name: view.xy for name, view in views.items()}
        weight = {name: view.weight for name, view in views.items()}
        recon.add(xy, restored, weight, place=batch.chunks.place, clip=batch.chunks.clip)
    return recon.result()["weighted/local"]


def cells(runs: list[dict[str, float]]) -> list[str]:
    """The mean of each number over the seeds, and the largest distance from it."""
    texts = []
    for name, form in FORMS.items():
        values = torch.tensor([numbers[name] for numbers in runs])
        mean = values.mean().item()
        spread = (values - values.mean()).abs().max().item()
        texts.append(f"{mean:{form}} ± {spread:{form}}")
    return texts


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=VARIANTS, metavar="NAME", help="one of the variants, by its name")
    args = cli.parse_with_overrides(parser, argv, "an option of the config, for example model.arch=mlp")
    with tempfile.TemporaryDirectory() as scratch:
        root = make_dataset(Path(scratch) / "data", args.clips, seed=0)
        places = [f"data.root={root}", f"data.cache={scratch}/cache", f"train.epochs={args.epochs}"]
        print("| | error | from the first code | codes used | perplexity | seconds |\n|---|---|---|---|---|---|")
        for name in [args.only] if args.only else VARIANTS:
            began = time.perf_counter()
            options = [*places, *VARIANTS[name], *args.overrides]
            configs = [
                load_config("configs/quickstart.yaml", [*options, f"train.seed={number}"])
                for number in range(args.seeds)
            ]
            texts = cells([run(config) for config in configs])
            print(f"| {name} | {' | '.join(texts)} | {(time.perf_counter() - began) / args.seeds:.0f} |", flush=True)


if __name__ == "__main__":
    cli.run(main)
