"""transformer, mlp and stgcn at one rate and about one size, on the synthetic signer and on real clips. Two tables for docs/architectures.md.

    python -m benchmarks.architectures [--data ../shared/data/realsign] [--clips 300] [--epochs 5] [--seeds 3] [--only stgcn] [key.path=value ...]

All send three codes of 512 a part for every 8 frames; stgcn sees 8 such chunks together. Trained on train; measured on the synthetic validation split
and on the real test split: the error in shoulder widths from all codes, each part from its own centre, all parts weighted as in the loss, and the
hands'. Mean over seeds, and the largest distance from it. Encoding: frames a second through encoder and quantiser. One thread.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.ablation import run_loop
from signstream.config import load_config
from signstream.data.cache import open_cache
from signstream.data.synthetic.dataset import make_dataset
from signstream.tasks.rvq.validation import validate
from signstream.training.loop import Loop

ARCHITECTURES = {
    "transformer": ["model.arch=transformer", "model.encoder_latent_dim=128"],
    "mlp": ["model.arch=mlp", "model.encoder_latent_dim=88"],
    "stgcn": ["model.arch=stgcn", "model.encoder_latent_dim=48", "data.window=8"],
}
OPTIONS = ["data.chunk_len=8", "train.clips_per_step=8", "train.eval_every=1000", "train.threads=1"]
TURNS = 5


@torch.no_grad()
def encoding_speed(loop: Loop) -> float:
    """Frames a second."""
    model, batches = loop.model.eval(), [loop.chunks(clips, train=False) for clips in loop.val_loader]
    best = float("inf")
    for _ in range(TURNS):
        began = time.perf_counter()
        for _, inputs, _ in batches:
            model.read(inputs)
        best = min(best, time.perf_counter() - began)
    return sum(int(batch.frames.sum()) for batch, _, _ in batches) / best


def measured(options: list[str]) -> dict[str, float]:
    config = load_config("configs/quickstart.yaml", options)
    began = time.perf_counter()
    loop = run_loop(config, open_cache(config.data, quiet=True))
    seconds = time.perf_counter() - began
    numbers = validate(loop, health=True).numbers
    hands = [numbers[f"recon/{hand}/local"] for hand in ("left_hand", "right_hand")]
    size = sum(weight.numel() for half in (loop.model.encoder, loop.model.decoder) for weight in half.parameters())
    return {
        "parameters": size / 1e6,
        "error": numbers["recon/weighted/local"],
        "hands": sum(hands) / 2,
        "used": numbers["codes/worst/used"],
        "training": seconds,
        "encoding": encoding_speed(loop),
    }


def cell(values: list[float], form: str) -> str:
    mean = sum(values) / len(values)
    return f"{mean:{form}} ± {max(abs(value - mean) for value in values):{form}}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/realsign"))
    parser.add_argument("--clips", type=int, default=300, help="of the synthetic signer")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=ARCHITECTURES)
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    args = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        sets = {"synthetic, val": [f"data.root={make_dataset(scratch / 'data', args.clips, seed=0)}"]}
        if args.data.is_dir():
            splits = json.loads((args.data / "split_files.json").read_text(encoding="utf-8"))
            (scratch / "test.json").write_text(
                json.dumps({"train": splits["train"], "val": splits["test"]}), encoding="utf-8"
            )
            sets["real, test"] = [f"data.root={args.data}", f"data.split_file={scratch / 'test.json'}"]
        for name, root in sets.items():
            print(
                f"| {name} | parameters | error | hands | codes used, worst | training s | encoding frames/s |\n|---|---|---|---|---|---|---|"
            )
            for arch, options in ARCHITECTURES.items():
                if args.only not in (None, arch):
                    continue
                shared = [
                    *OPTIONS,
                    *root,
                    f"data.cache={scratch / 'cache'}",
                    f"train.epochs={args.epochs}",
                    *options,
                    *args.overrides,
                ]
                found = [measured([*shared, f"train.seed={number}"]) for number in range(args.seeds)]
                column = {key: [numbers[key] for numbers in found] for key in found[0]}
                cells = [
                    cell(column["error"], ".4f"),
                    cell(column["hands"], ".4f"),
                    cell(column["used"], ".0%"),
                    cell(column["training"], ".0f"),
                    cell(column["encoding"], ",.0f"),
                ]
                print(f"| {arch} | {column['parameters'][0]:.2f} M | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
