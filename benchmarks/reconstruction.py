"""Our tokenizer beside PCA + k-means on real clips: trained on train alone, scored on test by a program that knows
neither.

    python -m benchmarks.reconstruction [--data DIR] [--epochs 320] [--keep real.pt]
    python -m benchmarks.reconstruction --without dgs_               # strangers: train without these clips, score them
    python -m benchmarks.reconstruction --keep real.pt --test-data DIR                 # strangers of another data root
    python -m benchmarks.reconstruction --alone 40   # the network without codes, beside a PCA with as many numbers

The reference (benchmarks/pca_kmeans.py, or with --bench FOLDER the baseline_pca_rvq.py there) spends 3 codes of 1024 on
each of 4 parts in every chunk of ten frames. Ours may spend no more: one price of a code decides how many of up to
eight codes of 256 a part gets in a chunk, and a hand that is not there gets none. The price is the one at which the
scored clips cost what the reference spends on them, what it takes to say how many codes there are included (the entropy
of their number). The full body's codes are left out. Each clip's place and one unit length come from the original for
both. Printed, as benchmarks/score.py counts them: errors in shoulder widths (local: each part from its own centre),
ratios, bits a second, and how many codes are in use. --keep FILE holds the model as it is trained: interrupted, the
same command goes on from there; trained, it is only scored. Tokens and poses lie in the folder beside it, FILE.out.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.ablation import run_loop, setup_of
from benchmarks.pca_kmeans import PcaKmeans, reference
from benchmarks.scoring import PARTS, Clips, save_both, save_poses, say, scored, table
from signstream import cli
from signstream.config import Data, load_config, to_dict
from signstream.config.rvq import Config
from signstream.errors import UserError
from signstream.inference.tokenizer import Tokenizer
from signstream.io.pose_cache import PoseCache
from signstream.models.metrics.codebook import CodebookUse
from signstream.models.rvq.budget import Budget
from signstream.space import assemble
from signstream.tasks.rvq.losses import Losses, valid_chunks
from signstream.tasks.rvq.setup import RvqBatch
from signstream.tasks.rvq.task import RvqTask
from signstream.tokens.format import TokenSequence
from signstream.training import checkpoint, seed
from signstream.training.loop import Loop
from signstream.training.task import Loss, Progress

# Of 8 bits, a chunk on average: the reference's 12 of 10 bits less what it takes to say how many there are.
CODES = 13.6
OPTIONS = [
    "data.body_parts={face: [24, 91], left_hand: [92, 112], right_hand: [113, 133], body: [1, 17]}",
    "data.fps=25",
    "data.smooth=0",
    "data.augment.affine=0.1",
    "data.augment.calm=0.25",
    "model.arch=mlp",
    "model.encoder_latent_dim=512",
    "model.latent_dim=64",
    "model.rvq.codebook_size=256",
    "model.rvq.levels=8",
    "model.rvq.level_dropout=0.5",
    "model.rvq.temporal_loss_alpha=0",
    "model.rvq.usage_reg=0.05",
    "train.amp=fp32",
    "train.lr=0.001",
    "train.clips_per_step=64",
    "train.warmup_steps=400",
    "loss.part_weights={face: 3, left_hand: 1, right_hand: 1, body: 2.5}",
    "loss.joint_weights={wrists: 3, mouth: 2}",
]
# What errors cost when codes are bought.
WORTH = "loss.part_weights={face: 2.5, left_hand: 1, right_hand: 1, body: 3}"
# What a kept model may be scored under another value of.
FREE = ("data.root", "data.split_file", "data.cache", "data.workers", "train.threads", "train.device")


def without(root: Path, prefix: str, folder: Path) -> Path:
    """A split file whose train lacks the clips that begin with `prefix` and whose test is them."""
    splits = json.loads((root / "split_files.json").read_text(encoding="utf-8"))
    names = [name for listed in splits.values() for name in listed]
    parted = {
        "train": [n for n in splits["train"] if not n.startswith(prefix)],
        "val": [n for n in splits["val"] if not n.startswith(prefix)],
        "test": [n for n in names if n.startswith(prefix)],
    }
    if not all(parted.values()):
        raise UserError(f"--without {prefix}: it leaves {', '.join(f'{k} {len(v)}' for k, v in parted.items())} clips")
    file = folder / "split_files.json"
    file.write_text(json.dumps(parted), encoding="utf-8")
    return file


class Alone(RvqTask):
    """The network without codes: its warm-up never ends."""

    def before_step(self, batches: Sequence[RvqBatch], progress: Progress) -> bool:
        return False

    def loss(self, batch: RvqBatch, progress: Progress) -> Loss:
        return super().loss(batch, progress._replace(step=-1))


def trained(config: Config, kind: type[RvqTask] = RvqTask, keep: Path | None = None) -> Loop:
    """A trained loop, from the file and into it, if one is named."""
    epochs = config.train.epochs

    def save(loop: Loop) -> None:
        if keep is not None:
            state = {**loop.state_dict(), "generators": [seed.generator_states()]}
            checkpoint.save({**state, "clips": trained_on(setup_of(loop).cache)}, keep)

    def tell(loop: Loop, epoch: int) -> None:
        if epoch % max(epochs // 20, 1) == 0:
            rec = loop.take_window()["rec"]
            say(f"epoch {epoch} of {epochs}: rec {rec:.3f}, on {loop.ranks.threads} threads")
            save(loop)

    state = kept(keep, config) if keep is not None and keep.exists() else None
    loop = run_loop(config, kind, tell, state)
    loop.validate(health=False)  # makes the budget
    save(loop)
    return loop


def trained_on(cache: PoseCache, prefix: str = "") -> str:
    """A name for the clips that are trained on, less those that begin with `prefix`, if one is given."""
    names = [cache.clips[i].name for i in cache.split("train")]
    names = [name for name in names if not (prefix and name.startswith(prefix))]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]


def kept(file: Path, config: Config) -> dict[str, Any]:
    """The state of a kept model, if it is one of this config."""
    state = checkpoint.load(file)
    if "clips" not in state:
        raise UserError(f"{file} was not kept by this program: name another --keep")
    mine, other = dict(leaves(to_dict(config))), dict(leaves(state["config"]))
    for key, value in mine.items():
        if key not in FREE and other.get(key) != value:
            differs = f"{key} is {value}, and {other.get(key)} in {file}"
            raise UserError(f"{differs}: give it the same options, or name another --keep")
    if state["clips"] != trained_on(Clips.open(config.data, Path(config.data.root)).cache):
        raise UserError(f"{file} is a model of other clips: name another --keep")
    say(f"{file}: {state['epoch']} of {config.train.epochs} epochs are done")
    return state


def leaves(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """(key.path, value) of a config."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


@torch.no_grad()
def priced(state: Mapping[str, Any], clips: Clips, split: str = "test") -> Tokenizer:
    """A checkpoint's tokenizer that never holds and whose prices are those of some clips."""
    tokenizer = Tokenizer(state)
    names = [part.name for part in tokenizer.skeleton.parts]
    tokenizer.losses = Losses(load_config(None, [WORTH], tokenizer.config), names)
    worths: list[Tensor] = []
    visible: list[Tensor] = []
    for clip in clips.cache.split(split):
        reading = tokenizer.read([clips.cache.frames(clip)], [clip])
        visible.append(valid_chunks(reading.targets).T)
        prefixes = tokenizer.prefixes_of(reading.latents, visible[-1])
        worths.append(tokenizer.worth_of(tokenizer.model.decode_prefixes(prefixes), reading.targets))
    tokenizer.budget = Budget.fit(torch.cat(worths), tokenizer.model.quantizer.levels, torch.cat(visible))
    tokenizer.hold = 0.0
    return tokenizer


def tokens_of(tokenizer: Tokenizer, clips: Clips, clip: int) -> TokenSequence:
    return tokenizer.encode_prepared([clips.cache.frames(clip)], [clips.cache.clips[clip].name])[0]


@torch.no_grad()
def use(tokenizer: Tokenizer, clips: Clips) -> dict[str, float]:
    """The codes of train and val encoded together."""
    names = [part.name for part in tokenizer.skeleton.parts]
    counter = CodebookUse(names, tokenizer.levels, tokenizer.config.model.rvq.codebook_size)
    for clip in (*clips.cache.split("train"), *clips.cache.split("val")):
        counter.add(tokenizer.read([clips.cache.frames(clip)], [clip]).codes)
    return counter.result()


def compare_networks(config: Config, clips: Clips, folder: Path) -> None:
    """The network without codes, and a PCA with as many numbers."""
    loop = trained(config, Alone)
    setup = setup_of(loop)
    setup.model.eval()
    numbers = config.model.latent_dim
    pca = PcaKmeans(Clips.open(config.data, Path(config.data.root)), levels=0, numbers=numbers)

    def by_network(clip: int) -> Tensor:
        batch = clips.chunks(clip)
        views = setup.views.restore(setup.model.decode(setup.model.encode(setup.views.of(batch)[0])))
        drawn = {name: batch.split(view)[clip] for name, view in views.items()}
        return assemble(drawn, setup.skeleton, setup.views.space)

    def by_pca(clip: int) -> Tensor:
        batch = clips.chunks(clip)
        return pca.restore(batch)[: int(batch.frames.sum())]

    columns = {}
    for name, poses_of in {"network": by_network, "PCA": by_pca}.items():
        save_poses(clips, poses_of, folder / name)
        columns[name] = scored(clips, folder / name)
    print(f"{numbers} numbers a part and chunk, no codes\n{table(columns)}")


def of_bench(bench: Path, data: Data, clips: Clips, folder: Path) -> dict[str, Any]:
    """The scorer's report on what another program makes, which looks for its splits in the data root."""
    say(f"{bench / 'baseline_pca_rvq.py'} runs")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "frames_512x512").symlink_to(Path(data.root, "frames_512x512").resolve())
        shutil.copy(data.split_file or Path(data.root, "split_files.json"), root / "split_files.json")
        command = [sys.executable, str(bench / "baseline_pca_rvq.py"), "--data", str(root), "--split", "test"]
        command += [] if clips.root == Path(data.root) else ["--test-data", str(clips.root)]
        subprocess.run([*command, "--out", str(folder / "poses")], check=True)
    (folder / "poses" / "tokens.jsonl").rename(folder / "tokens.jsonl")
    return scored(clips, folder)


def compare_tokenizers(config: Config, clips: Clips, folder: Path, *, args: Namespace) -> None:
    loop = trained(config, keep=args.keep)
    if args.bench is not None:
        baseline = of_bench(args.bench, config.data, clips, folder / "reference")
    else:
        baseline = reference(config.data, clips, folder / "reference")
    say("prices")
    tokenizer = priced(loop.state_dict(), clips)
    tokenizer.codes_per_chunk = CODES
    lengths = save_both(clips, lambda clip: tokens_of(tokenizer, clips, clip), tokenizer.decode, folder / "ours")
    ours = scored(clips, folder / "ours")
    print(table({"ours": ours, "reference": baseline}))
    bits, baseline_bits = ours["tokens"]["bits_per_s"], baseline["tokens"]["bits_per_s"]
    whole = f"ours {bits:.0f}, and {lengths:.0f} for how many there are: {bits + lengths:.0f}"
    print(f"bits/s: {whole}; the reference {baseline_bits:.0f}")
    health = use(tokenizer, Clips.open(config.data, Path(config.data.root)))
    for level in range(max(tokenizer.levels)):
        shares = ", ".join(f"{part} {health[f'codes/{part}/{level}/used']:.1%}" for part in PARTS)
        print(f"codes in use on train and val, level {level}: {shares}")
    if args.keep is not None:
        print(f"tokens and poses: {folder / 'ours'}")


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/realsign"), metavar="DIR")
    parser.add_argument("--bench", type=Path, metavar="FOLDER", help="another program's reference instead of our own")
    parser.add_argument("--epochs", type=int, default=320)
    strangers = parser.add_mutually_exclusive_group()
    strangers.add_argument("--without", metavar="PREFIX", help="train without these clips, score them")
    strangers.add_argument("--test-data", type=Path, metavar="DIR", help="score the split test of this root")
    once = parser.add_mutually_exclusive_group()
    once.add_argument("--alone", type=int, metavar="EPOCHS", help="the network alone, without codes, for so long")
    once.add_argument("--keep", type=Path, metavar="FILE", help="where to keep the model, and FILE.out what it makes")
    args = cli.parse_with_overrides(parser, argv, "an option of the config, for example train.threads=1")
    with tempfile.TemporaryDirectory() as scratch:
        places = [f"data.root={args.data}", f"data.cache={scratch}/cache", f"train.epochs={args.alone or args.epochs}"]
        if args.without:
            places.append(f"data.split_file={without(args.data, args.without, Path(scratch))}")
        config = load_config(None, [*OPTIONS, *places, *args.overrides], kind=Config)
        scored_data = replace(config.data, split_file=None) if args.test_data else config.data
        clips = Clips.open(scored_data, args.test_data or args.data)
        folder = Path(scratch, "out") if args.keep is None else args.keep.with_name(f"{args.keep.name}.out")
        if args.alone:
            compare_networks(config, clips, folder)
        else:
            compare_tokenizers(config, clips, folder, args=args)


if __name__ == "__main__":
    cli.run(main)
