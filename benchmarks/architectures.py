"""transformer, mlp and stgcn at one rate and about one size, on the synthetic signer and on real clips. Two tables for
docs/architectures.md.

    python -m benchmarks.architectures [--clips 300] [--epochs 5] [--seeds 3] [--only stgcn] [key.path=value ...]
    python -m benchmarks.architectures --data ROOT

All send three codes of 512 a part for every 8 frames; stgcn sees 8 such chunks together. Trained on train; measured on
the synthetic validation split and on the real test split: the error in shoulder widths from all codes, each part from
its own centre, all parts weighted as in the loss, and the hands'. Mean over seeds, and the largest distance from it.
Encoding: frames a second through encoder and quantiser. One thread.
"""

from __future__ import annotations

import json
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import torch

from benchmarks.ablation import run_loop, setup_of
from signstream import cli
from signstream.config import load_config
from signstream.config.rvq import Config
from signstream.data.synthetic.dataset import make_dataset
from signstream.training.loop import Loop

ARCHITECTURES = {
    "transformer": ["model.arch=transformer", "model.encoder_latent_dim=128"],
    "mlp": ["model.arch=mlp", "model.encoder_latent_dim=88"],
    "stgcn": ["model.arch=stgcn", "model.encoder_latent_dim=48", "data.window=8"],
}
OPTIONS = ["data.chunk_len=8", "train.clips_per_step=8", "train.eval_every=1000", "train.threads=1"]
TURNS = 5
FORMS = {"error": ".4f", "hands": ".4f", "used": ".0%", "training": ".0f", "encoding": ",.0f"}


@torch.no_grad()
def encoding_speed(loop: Loop) -> float:
    """Frames a second."""
    setup = setup_of(loop)
    assert loop.val_loader is not None
    model, batches = setup.model.eval(), [setup.chunked(clips, train=False) for clips in loop.val_loader]
    best = float("inf")
    for _ in range(TURNS):
        began = time.perf_counter()
        for batch in batches:
            model.read(batch.inputs)
        best = min(best, time.perf_counter() - began)
    return sum(int(batch.chunks.frames.sum()) for batch in batches) / best


def measured(options: list[str]) -> dict[str, float]:
    config = load_config("configs/quickstart.yaml", options, kind=Config)
    began = time.perf_counter()
    loop = run_loop(config)
    seconds = time.perf_counter() - began
    numbers = loop.validate(health=True).numbers
    hands = [numbers[f"recon/{hand}/local"] for hand in ("left_hand", "right_hand")]
    model = setup_of(loop).model
    size = sum(weight.numel() for half in (model.encoder, model.decoder) for weight in half.parameters())
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


def data_sets(args: Namespace, scratch: Path) -> dict[str, list[str]]:
    """{what a table is called: the options that say where its clips are}"""
    sets = {"synthetic, val": [f"data.root={make_dataset(scratch / 'data', args.clips, seed=0)}"]}
    if args.data is not None:
        splits = json.loads((args.data / "split_files.json").read_text(encoding="utf-8"))
        file = scratch / "test.json"
        file.write_text(json.dumps({"train": splits["train"], "val": splits["test"]}), encoding="utf-8")
        sets["real, test"] = [f"data.root={args.data}", f"data.split_file={file}"]
    return sets


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--data", type=Path, metavar="ROOT", help="real clips, with train and test")
    parser.add_argument("--clips", type=int, default=300, help="of the synthetic signer")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=ARCHITECTURES)
    args = cli.parse_with_overrides(parser, argv, "for example model.latent_dim=64")
    chosen = {arch: options for arch, options in ARCHITECTURES.items() if args.only in (None, arch)}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        shared = [*OPTIONS, f"data.cache={scratch / 'cache'}", f"train.epochs={args.epochs}"]
        for name, places in data_sets(args, scratch).items():
            print(f"| {name} | parameters | error | hands | codes used, worst | training s | encoding frames/s |")
            print("|---|---|---|---|---|---|---|")
            for arch, options in chosen.items():
                every = [*shared, *places, *options, *args.overrides]
                runs = [measured([*every, f"train.seed={number}"]) for number in range(args.seeds)]
                cells = [cell([numbers[key] for numbers in runs], form) for key, form in FORMS.items()]
                print(f"| {arch} | {runs[0]['parameters']:.2f} M | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    cli.run(main)
