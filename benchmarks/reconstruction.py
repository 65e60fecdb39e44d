"""Our tokenizer beside PCA + k-means on real clips: trained on train alone, scored on test by a program that knows
neither.

    python -m benchmarks.reconstruction [--data DIR] [--bench DIR] [--epochs 160] [--without dgs_] [--keep real.pt]
    python -m benchmarks.reconstruction --alone 40   # the network without codes, beside a PCA with as many numbers

The reference (baseline_pca_rvq.py of the folder --bench) spends 3 codes of 1024 on each of 4 parts in every chunk of
ten frames. Ours may spend no more: one price of a code decides how many of up to eight codes of 256 a part gets in a
chunk, and a hand that is not there gets none. The price is the one at which the scored clips cost what the reference
spends on them, what it takes to say how many codes there are included (the entropy of their number). The full body's
codes are left out. Each clip's place and one unit length come from the original for both. --without PREFIX trains both
without the clips whose names begin so, and scores those: strangers. Printed, as benchmarks/score.py counts them: errors
in shoulder widths (local: each part from its own centre), ratios, bits a second, and how many codes are in use. --keep
saves the trained model; where the file is there already, it is scored without training.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import score
from benchmarks.ablation import run_loop, setup_of
from signstream import cli
from signstream.config import load_config
from signstream.config.rvq import Config
from signstream.data.collate import ChunkBatch, make_chunks
from signstream.inference.decode import at_rate
from signstream.inference.tokenizer import Tokenizer
from signstream.models.metrics.codebook import CodebookUse
from signstream.models.rvq.budget import Budget
from signstream.space import assemble, follows_on, in_pixels, join_chunks
from signstream.tasks.rvq.losses import Losses, valid_chunks
from signstream.tasks.rvq.setup import RvqBatch
from signstream.tasks.rvq.task import RvqTask
from signstream.tokens.rle import compress
from signstream.training import checkpoint
from signstream.training.distributed import Ranks
from signstream.training.loop import Loop
from signstream.training.task import Loss, Progress

PARTS = ("face", "left_hand", "right_hand", "body")
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
]
# What errors cost when codes are bought.
WORTH = "loss.part_weights={face: 3.5, left_hand: 1, right_hand: 1, body: 4}"
# What the parts' views become, P x [N, L, J, 2] in signing space; and the codes [N, P, Q] of chunks.
Draw = Callable[[ChunkBatch], list[Tensor]]
Encode = Callable[[ChunkBatch], Tensor]


def without(root: Path, prefix: str, folder: Path) -> Path:
    """A root whose train lacks the clips that begin with `prefix` and whose test is them; the files are linked."""
    splits = json.loads((root / "split_files.json").read_text(encoding="utf-8"))
    names = [name for listed in splits.values() for name in listed]
    folder.mkdir()
    for name in ("frames_512x512", "annotations.json"):
        (folder / name).symlink_to((root / name).resolve())
    parted = {
        "train": [n for n in splits["train"] if not n.startswith(prefix)],
        "val": [n for n in splits["val"] if not n.startswith(prefix)],
        "test": [n for n in names if n.startswith(prefix)],
    }
    (folder / "split_files.json").write_text(json.dumps(parted), encoding="utf-8")
    return folder


class Alone(RvqTask):
    """The network without codes: its warm-up never ends."""

    def before_step(self, batches: Sequence[RvqBatch], progress: Progress) -> bool:
        return False

    def loss(self, batch: RvqBatch, progress: Progress) -> Loss:
        return super().loss(batch, progress._replace(step=-1))


def trained(config: Config, kind: type[RvqTask] = RvqTask) -> Loop:
    began = time.perf_counter()

    def tell(loop: Loop, epoch: int) -> None:
        if epoch % max(config.train.epochs // 10, 1) == 0:
            minutes = (time.perf_counter() - began) / 60
            rec = loop.take_window()["rec"]
            print(f"  epoch {epoch}: rec {rec:.3f}, {minutes:.1f} minutes on {loop.ranks.threads} threads", flush=True)

    loop = run_loop(config, kind, tell)
    loop.validate(health=False)  # makes the budget
    return loop


def read_loop(path: Path, config: Config) -> Loop:
    task = RvqTask.open(config, Ranks())
    loop = Loop(task, config, Ranks(), clips=config.train.clips_per_step)
    loop.load_state_dict(checkpoint.load(path))
    return loop


def kept(path: Path | None, config: Config) -> Loop:
    """A trained loop, from the file if it is there."""
    if path is not None and path.exists():
        return read_loop(path, config)
    loop = trained(config)
    if path is not None:
        checkpoint.save({**loop.state_dict(), "generators": []}, path)
    return loop


def chunks_of(loop: Loop, clip: int) -> ChunkBatch:
    setup = setup_of(loop)
    return make_chunks(setup.clips([clip]), setup.skeleton, setup.config.data)


def pca(loop: Loop) -> Draw:
    """Each part's PCA with as many numbers as a latent has, fitted on train."""
    setup = setup_of(loop)
    inputs = [setup.views.of(chunks_of(loop, clip))[0] for clip in setup.cache.split("train")]
    fitted = []
    for part in range(len(inputs[0])):
        view = torch.cat([views[part] for views in inputs])  # [N, L, J, 3]
        seen = (view[..., 2:] > 0).float()
        mean = (view[..., :2] * seen).sum((0, 1)) / seen.sum((0, 1)).clamp(min=1)
        rows = ((view[..., :2] - mean) * seen)[seen.mean((1, 2, 3)) > 0.5].flatten(1)
        axes = torch.pca_lowrank(rows, q=setup.config.model.latent_dim, center=False, niter=8)[2]
        fitted.append((mean, axes))

    def draw(batch: ChunkBatch) -> list[Tensor]:
        drawn = []
        for view, (mean, axes) in zip(setup.views.of(batch)[0], fitted):
            rows = ((view[..., :2] - mean) * (view[..., 2:] > 0)).flatten(1)
            drawn.append((rows @ axes @ axes.T).view_as(view[..., :2]) + mean)
        return drawn

    return draw


@torch.no_grad()
def reconstruct(loop: Loop, data: Path, folder: Path, *, draw: Draw) -> Path:
    """The folder, with <name>.npy [T, 133, 3] at each clip's own frame rate."""
    setup = setup_of(loop)
    setup.model.eval()
    folder.mkdir()
    for index in setup.cache.split("test"):
        clip, batch = setup.cache.clips[index], chunks_of(loop, index)
        views = {name: batch.split(view)[index] for name, view in setup.views.restore(draw(batch)).items()}
        poses = assemble(views, setup.skeleton, setup.views.space)
        frames = len(np.load(data / "frames_512x512" / f"{clip.name}.npy"))
        place = torch.from_numpy(setup.cache.frames(index)[:, 0].copy())
        pixels = at_clip_rate(poses, place, clip.fps / setup.config.data.fps, frames=frames)
        np.save(folder / f"{clip.name}.npy", pixels)
    return folder


def at_clip_rate(poses: Tensor, place: Tensor, step: float, *, frames: int) -> np.ndarray:
    """poses [T', J, 3] in unit lengths and places [T', 3] at the config's rate -> [frames, J, 3] pixels at the clip's
    own, with one unit length."""
    place[:, 2] = place[:, 2].median()
    return at_rate(in_pixels(poses, place), frames, 1.0 if abs(step - 1) < 0.01 else step).numpy()


def from_codes(loop: Loop, codes_of: Encode) -> Draw:
    def draw(batch: ChunkBatch) -> list[Tensor]:
        codes = codes_of(batch)
        follows = follows_on(codes[..., 0] >= 0)
        views = setup_of(loop).model.detokenise(codes)
        return [join_chunks(view, follows[:, part]) for part, view in enumerate(views)]

    return draw


@torch.no_grad()
def priced(loop: Loop, split: str) -> Tokenizer:
    """A tokenizer that never holds and whose prices are those of a split."""
    setup, tokenizer = setup_of(loop), Tokenizer(loop.state_dict())
    tokenizer.losses = Losses(load_config(None, [WORTH], setup.config), setup.parts)
    worths, visible = [], []
    for clip in setup.cache.split(split):
        inputs, targets = setup.views.of(chunks_of(loop, clip))
        prefixes = setup.model.decode_prefixes(setup.model.tokenise(inputs))
        worths.append(tokenizer.worth_of(prefixes, targets))
        visible.append(valid_chunks(targets).T)
    tokenizer.budget = Budget.fit(torch.cat(worths), setup.model.quantizer.levels, torch.cat(visible))
    tokenizer.hold = 0.0
    return tokenizer


def encoder(loop: Loop, tokenizer: Tokenizer) -> Encode:
    """The tokenizer's codes of one clip's chunks."""
    cache = setup_of(loop).cache
    return lambda batch: tokenizer.encode_prepared([cache.frames(int(batch.clip[0]))], ["clip"])[0].codes


def cost(loop: Loop, codes_of: Encode, file: Path, *, rle: bool = False) -> float:
    """Writes what the scorer counts. Given back: what it takes besides to say how many codes there are, or how long a
    run is, in bits a second."""
    setup = setup_of(loop)
    data, tags = setup.config.data, [part.tag for part in setup.skeleton.parts]
    seconds = 0.0
    lengths: dict[str, Counter] = {tag: Counter() for tag in tags}
    lines = []
    for index in setup.cache.split("test"):
        clip, rows = setup.cache.clips[index], compress(codes_of(chunks_of(loop, index)), tags, rle)
        for tag, entry in ((tag, row[tag]) for row in rows for tag in tags if tag in row):
            lengths[tag][tuple(entry) if entry[:1] == ["NC"] else len(entry)] += 1
        seconds += clip.length / data.fps
        record = {"video_name": clip.name, "fps": data.fps, "chunk_len": data.chunk_len, "num_frames": clip.length}
        meta = {"codebook_size": setup.config.model.rvq.codebook_size}
        lines.append(json.dumps(record | {"tokens": rows, "meta": meta}) + "\n")
    file.write_text("".join(lines), encoding="utf-8")
    return sum(map(entropy_bits, lengths.values())) / seconds


def entropy_bits(counts: Counter) -> float:
    """Bits of all that was counted, as rare as each is."""
    return sum(-count * math.log2(count / counts.total()) for count in counts.values())


def scored(data: Path, reconstructions: Path, tokens: Path | None = None) -> dict[str, Any]:
    """The scorer's report on the test split."""
    names = json.loads((data / "split_files.json").read_text(encoding="utf-8"))["test"]
    report = score.score(data / "frames_512x512", reconstructions, names)
    return report | ({"tokens": score.cost(tokens)} if tokens else {})


def reference(bench: Path, data: Path, folder: Path, *options: str) -> dict[str, Any]:
    """The scorer's report on PCA + k-means, which a program of the folder `bench` makes."""
    command = [sys.executable, str(bench / "baseline_pca_rvq.py"), "--data", str(data), "--split", "test"]
    subprocess.run([*command, "--out", str(folder), *options], check=True)
    return scored(data, folder, folder / "tokens.jsonl")


def table(columns: dict[str, dict]) -> str:
    """Errors of each column; the ratio of the first to the last."""

    def values(name: str) -> list[float]:
        return [
            column[name] if name in column else column[name.split("/")[0]].get("local", float("nan"))
            for column in columns.values()
        ]

    lines = [" " * 12 + "".join(f"{name:>15}" for name in (*columns, "first / last"))]
    for name in ("mean_local", "hands_local", *(f"{part}/local" for part in PARTS)):
        row = values(name)
        lines.append(
            f"{name.split('/')[0]:12}" + "".join(f"{value:15.4f}" for value in row) + f"{row[0] / row[-1]:15.2f}"
        )
    return "\n".join(lines)


@torch.no_grad()
def use(loop: Loop) -> dict[str, float]:
    """The codes of train and val encoded together."""
    setup = setup_of(loop)
    model = setup.model.eval()
    counter = CodebookUse(setup.parts, model.quantizer.levels.tolist(), setup.config.model.rvq.codebook_size)
    for index in (*setup.cache.split("train"), *setup.cache.split("val")):
        inputs, targets = setup.views.of(chunks_of(loop, index))
        counter.add(model.tokenise(inputs), valid_chunks(targets).T)
    return counter.result()


def compare_networks(config: Config, data: Path, scratch: Path) -> None:
    """The network without codes, and a PCA with as many numbers."""
    loop = trained(config, Alone)
    setup = setup_of(loop)
    draws: dict[str, Draw] = {
        "network": lambda batch: setup.model.decode(setup.model.encode(setup.views.of(batch)[0])),
        "PCA": pca(loop),
    }
    folders = {name: reconstruct(loop, data, scratch / name, draw=draw) for name, draw in draws.items()}
    columns = {name: scored(data, folder) for name, folder in folders.items()}
    print(f"{config.model.latent_dim} numbers a part and chunk, no codes\n{table(columns)}")


def compare_tokenizers(config: Config, data: Path, scratch: Path, *, args: Namespace) -> None:
    baseline = reference(args.bench, data, scratch / "reference")
    loop = kept(args.keep, config)
    tokenizer = priced(loop, "test")
    tokenizer.codes_per_chunk = CODES
    codes_of = encoder(loop, tokenizer)
    tokens = scratch / "ours.jsonl"
    lengths = cost(loop, codes_of, tokens)
    ours = scored(data, reconstruct(loop, data, scratch / "ours", draw=from_codes(loop, codes_of)), tokens)
    print(table({"ours": ours, "reference": baseline}))
    bits, baseline_bits = ours["tokens"]["bits_per_s"], baseline["tokens"]["bits_per_s"]
    whole = f"ours {bits:.0f}, and {lengths:.0f} for how many there are: {bits + lengths:.0f}"
    print(f"bits/s: {whole}; the reference {baseline_bits:.0f}")
    health = use(loop)
    for level in range(max(tokenizer.levels)):
        shares = ", ".join(f"{part} {health[f'codes/{part}/{level}/used']:.1%}" for part in PARTS)
        print(f"codes in use on train and val, level {level}: {shares}")


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/realsign"))
    parser.add_argument("--bench", type=Path, default=Path("../shared/bench"))
    parser.add_argument("--epochs", type=int, default=160)
    parser.add_argument("--without", metavar="PREFIX", help="strangers: train without these clips, score them")
    parser.add_argument("--alone", type=int, metavar="EPOCHS", help="the network alone, without codes, for so long")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="where to keep the trained model")
    args = cli.parse_with_overrides(parser, argv, "an option of the config, for example train.threads=1")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        data = without(args.data, args.without, scratch / "data") if args.without else args.data
        places = [f"data.root={data}", f"data.cache={scratch / 'cache'}", f"train.epochs={args.alone or args.epochs}"]
        config = load_config(None, [*OPTIONS, *places, *args.overrides])
        if args.alone:
            compare_networks(config, data, scratch)
        else:
            compare_tokenizers(config, data, scratch, args=args)


if __name__ == "__main__":
    cli.run(main)
