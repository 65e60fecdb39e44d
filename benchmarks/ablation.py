"""What each of the larger choices is worth: each switched off once, on the synthetic signer, over several seeds. A line each for docs/training.md.

    python -m benchmarks.ablation [--clips 400] [--epochs 20] [--seeds 3] [--only "no revival"] [key.path=value ...]

The model is quickstart's. Validation split: error in shoulder widths, all parts weighted as in the loss, from all codes and from the first of each
part alone; of the codebook with the least entropy the share of codes in use and the perplexity. Mean over seeds, and the largest distance from it.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from signstream.config import Config, load_config
from signstream.data.cache import open_cache
from signstream.data.synthetic.dataset import make_dataset
from signstream.io.pose_cache import PoseCache
from signstream.models.metrics.recon import Reconstruction, shoulder_widths
from signstream.tasks.rvq.validation import validate
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


def run_loop(config: Config, cache: PoseCache) -> Loop:
    """A run from its first step to its last, without a folder."""
    with start(config.train.device, config.train.threads) as ranks:
        seed.seed_everything(config.train.seed, 0)
        loop = Loop(config, cache, ranks, config.train.clips_per_step)
        loop.fit_constants()
        while loop.epoch < config.train.epochs:
            for clips in loop.loader:
                loop.step(clips)
        return loop


def run(config: Config, cache: PoseCache) -> dict[str, float]:
    loop = run_loop(config, cache)
    numbers = validate(loop, health=True).numbers
    return {
        "error": numbers["recon/weighted/local"],
        "first code": first_code(loop),
        "used": numbers["codes/worst/used"],
        "perplexity": numbers["codes/worst/perplexity"],
    }


@torch.no_grad()
def first_code(loop: Loop) -> float:
    """The error when each part is decoded from its first code alone."""
    skeleton, loss, widths = loop.task.setup.cache.skeleton, loop.config.loss, shoulder_widths(loop.task.setup.cache, loop.val_loader.clips)
    recon = Reconstruction(
        skeleton, loss.part_weights, loop.task.setup.views.space.scale, widths=widths, chunk_len=loop.config.data.chunk_len
    )
    model = loop.task.model.eval()
    for batch_of_clips in loop.val_loader:
        batch, inputs, _ = loop.chunks(batch_of_clips, train=False)
        restored = loop.task.setup.views.restore(model.detokenise(model.tokenise(inputs)[..., :1]))
        local = {part.name: batch.local(part) for part in skeleton.parts}
        recon.add(
            {n: v.xy for n, v in local.items()},
            restored,
            {n: v.weight for n, v in local.items()},
            place=batch.place,
            clip=batch.clip,
        )
    return recon.result()["weighted/local"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help="one of the variants, by its name")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    args = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = make_dataset(Path(scratch) / "data", args.clips, seed=0)
        names = ("error", "first code", "used", "perplexity")
        print("| | error | from the first code | codes used | perplexity | seconds |\n|---|---|---|---|---|---|")
        for name, options in VARIANTS.items():
            if args.only not in (None, name):
                continue
            found, began = [], time.perf_counter()
            for number in range(args.seeds):
                config = load_config(
                    "configs/quickstart.yaml",
                    [
                        f"data.root={root}",
                        f"data.cache={scratch}/cache",
                        f"train.epochs={args.epochs}",
                        f"train.seed={number}",
                        *options,
                        *args.overrides,
                    ],
                )
                found.append(run(config, open_cache(config.data, quiet=True)))
            cells = []
            for key in names:
                values = torch.tensor([numbers[key] for numbers in found])
                mean, spread = values.mean().item(), (values - values.mean()).abs().max().item()
                form = {"used": ".1%", "perplexity": ".0f"}.get(key, ".4f")
                cells.append(f"{mean:{form}} ± {spread:{form}}")
            print(f"| {name} | {' | '.join(cells)} | {(time.perf_counter() - began) / args.seeds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
