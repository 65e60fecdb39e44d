"""Our tokenizer beside PCA + k-means on real clips: trained on train alone, scored on test by a program that knows neither.

    python -m benchmarks.reconstruction [--data ../shared/data/realsign] [--bench ../shared/bench] [--epochs 160] [--without dgs_] [--keep real.pt]
    python -m benchmarks.reconstruction --alone 40          # the network without codes, beside a PCA with as many numbers

The reference spends 3 codes of 1024 on each of 4 parts in every chunk of ten frames. Ours may spend no more: one price of a code decides how many of
up to eight codes of 256 a part gets in a chunk, and a hand that is not there gets none. The price is the one at which the scored clips cost what
the reference spends on them, what it takes to say how many codes there are included (the entropy of their number). The full body's codes are left
out. Each clip's place and one unit length come from the original for both. --without PREFIX trains both without the clips whose names begin so,
and scores those: strangers. Prints errors in shoulder widths (local: each part from its own centre), ratios, bits a second, and how many codes are in
use. --keep saves the trained model; where the file is there already, it is scored without training.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from signstream.config import Config, load_config
from signstream.data.cache import open_cache
from signstream.data.collate import ChunkBatch, make_chunks
from signstream.inference.decode_tokens import at_rate
from signstream.inference.tokenizer import Tokenizer
from signstream.io.batch import pack
from signstream.io.pose_cache import PoseCache
from signstream.models.metrics.codebook import CodebookUse
from signstream.models.rvq.budget import Budget, worth
from signstream.space import assemble, follows_on, join_chunks, to_pixels
from signstream.tasks.rvq.losses import Losses, valid_chunks
from signstream.tasks.rvq.validation import validate
from signstream.tokens.rle import compress
from signstream.training import checkpoint
from signstream.training.distributed import Ranks, start
from signstream.training.loop import Loop

PARTS = ("face", "left_hand", "right_hand", "body")
CODES = (
    13.6  # of 8 bits, a chunk on average: the reference's 12 of 10 bits less what it takes to say how many there are
)
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
WORTH = "loss.part_weights={face: 3.5, left_hand: 1, right_hand: 1, body: 4}"  # what errors cost when codes are bought
Draw = Callable[[ChunkBatch], list[Tensor]]  # what the parts' views become, P x [N, L, J, 2] in signing space


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


class Alone(Loop):
    """The network without codes."""

    quantise = False


def trained(config: Config, cache: PoseCache, kind: type[Loop] = Loop) -> Loop:
    with start(config.train.device, config.train.threads) as ranks:
        torch.manual_seed(config.train.seed)
        loop = kind(config, cache, ranks, config.train.clips_per_step)
        loop.fit_constants()
        began = time.perf_counter()
        while loop.epoch < config.train.epochs:
            for clips in loop.loader:
                loop.step(clips)
            if loop.epoch % max(config.train.epochs // 10, 1) == 0:
                minutes = (time.perf_counter() - began) / 60
                print(
                    f"  epoch {loop.epoch}: rec {loop.take_window()['rec']:.3f}, {minutes:.1f} minutes on {ranks.threads} threads",
                    flush=True,
                )
        loop.budget = validate(loop, False).budget
        return loop


def kept(path: Path | None, config: Config, cache: PoseCache) -> Loop:
    """A trained loop, from the file if it is there."""
    if path is None or not path.exists():
        loop = trained(config, cache)
        if path is not None:
            checkpoint.save({**loop.state_dict(), "generators": []}, path)
        return loop
    loop = Loop(config, cache, Ranks(), config.train.clips_per_step)
    loop.load_state(checkpoint.load(path))
    return loop


def chunks_of(loop: Loop, clip: int) -> ChunkBatch:
    return make_chunks(pack([loop.task.setup.cache.frames(clip)], [clip]), loop.task.setup.cache.skeleton, loop.config.data)


def pca(loop: Loop) -> Draw:
    """Each part's PCA with as many numbers as a latent has, fitted on train."""
    views = [loop.task.setup.views.of(chunks_of(loop, clip))[0] for clip in loop.task.setup.cache.split("train")]
    fitted = []
    for part in range(len(views[0])):
        view = torch.cat([v[part] for v in views])  # [N, L, J, 3]
        seen = (view[..., 2:] > 0).float()
        mean = (view[..., :2] * seen).sum((0, 1)) / seen.sum((0, 1)).clamp(min=1)
        rows = ((view[..., :2] - mean) * seen)[seen.mean((1, 2, 3)) > 0.5].flatten(1)
        fitted.append((mean, torch.pca_lowrank(rows, q=loop.config.model.latent_dim, center=False, niter=8)[2]))

    def draw(batch: ChunkBatch) -> list[Tensor]:
        out = []
        for view, (mean, axes) in zip(loop.task.setup.views.of(batch)[0], fitted):
            rows = ((view[..., :2] - mean) * (view[..., 2:] > 0)).flatten(1)
            out.append((rows @ axes @ axes.T).view_as(view[..., :2]) + mean)
        return out

    return draw


@torch.no_grad()
def reconstruct(loop: Loop, data: Path, out: Path, draw: Draw) -> Path:
    """<name>.npy [T, 133, 3] at each clip's own frame rate."""
    cache, config = loop.task.setup.cache, loop.config
    loop.task.model.eval()
    out.mkdir()
    for index in cache.split("test"):
        clip, batch = cache.clips[index], chunks_of(loop, index)
        views = loop.task.setup.views.restore(draw(batch))
        poses = assemble(
            {name: batch.split(view)[index] for name, view in views.items()}, cache.skeleton, loop.task.setup.views.space
        )
        original = np.load(data / "frames_512x512" / f"{clip.name}.npy")[:, -133:]
        np.save(out / f"{clip.name}.npy", in_pixels(poses, cache.frames(index), original, clip.fps / config.data.fps))
    return out


def in_pixels(poses: Tensor, cached: np.ndarray, original: np.ndarray, step: float) -> np.ndarray:
    """poses [T', J, 3] in unit lengths at the config's rate -> [T, 133, 3] pixels at the clip's own, in its place and with one unit length."""
    place = torch.from_numpy(cached[:, 0].copy())
    place[:, 2] = place[:, 2].median()
    pixels = torch.cat((to_pixels(poses[..., :2], place), poses[..., 2:]), -1)
    return at_rate(pixels, len(original), 1.0 if abs(step - 1) < 0.01 else step).numpy()


def from_codes(loop: Loop, codes_of: Callable[[ChunkBatch], Tensor]) -> Draw:
    def draw(batch: ChunkBatch) -> list[Tensor]:
        codes = codes_of(batch)
        follows = follows_on(codes[..., 0] >= 0)
        return [join_chunks(view, follows[:, p]) for p, view in enumerate(loop.task.model.detokenise(codes))]

    return draw


@torch.no_grad()
def priced(loop: Loop, split: str) -> Tokenizer:
    """A tokenizer that never holds and whose prices are those of a split."""
    tokenizer, worths, visible = Tokenizer(loop.state_dict()), [], []
    tokenizer.losses = Losses(load_config(None, [WORTH], loop.config), loop.parts)
    for clip in loop.task.setup.cache.split(split):
        inputs, targets = loop.task.setup.views.of(chunks_of(loop, clip))
        worths.append(
            worth(tokenizer.losses.level_costs(loop.task.model.decode_prefixes(loop.task.model.tokenise(inputs)), targets))
        )
        visible.append(valid_chunks(targets).T)
    tokenizer.budget = Budget.fit(torch.cat(worths), loop.task.model.quantizer.levels, torch.cat(visible))
    tokenizer.hold = 0.0
    return tokenizer


def spoken(loop: Loop, tokenizer: Tokenizer) -> Callable[[ChunkBatch], Tensor]:
    return lambda batch: tokenizer.encode_prepared([loop.task.setup.cache.frames(int(batch.clip[0]))], ["clip"])[0].codes


def cost(loop: Loop, codes_of: Callable[[ChunkBatch], Tensor], tokens: Path, rle: bool = False) -> float:
    """Writes what the scorer counts; what it takes besides to say how many codes there are, or how long a run is, in bits a second."""
    data, tags, seconds = loop.config.data, [part.tag for part in loop.task.setup.cache.skeleton.parts], 0.0
    said: dict[str, Counter] = {tag: Counter() for tag in tags}
    with open(tokens, "w", encoding="utf-8") as out:
        for index in loop.task.setup.cache.split("test"):
            clip, codes = loop.task.setup.cache.clips[index], codes_of(chunks_of(loop, index))
            rows = compress(codes, tags, rle)
            for tag, entry in ((tag, row[tag]) for row in rows for tag in tags if tag in row):
                said[tag][tuple(entry) if entry[:1] == ["NC"] else len(entry)] += 1
            seconds += clip.length / data.fps
            out.write(
                json.dumps(
                    {
                        "video_name": clip.name,
                        "fps": data.fps,
                        "chunk_len": data.chunk_len,
                        "num_frames": clip.length,
                        "tokens": rows,
                        "meta": {"codebook_size": loop.config.model.rvq.codebook_size},
                    }
                )
                + "\n"
            )
    return (
        sum(-count * math.log2(count / found.total()) for found in said.values() for count in found.values()) / seconds
    )


def scored(bench: Path, data: Path, out: Path, tokens: Path | None = None) -> dict:
    command = [
        sys.executable,
        str(bench / "score_reconstruction.py"),
        "--reference",
        str(data),
        "--split",
        "test",
        "--reconstructed",
        str(out),
        *(["--tokens", str(tokens)] if tokens else []),
    ]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


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
    model = loop.task.model.eval()
    counter = CodebookUse(loop.parts, model.quantizer.levels.tolist(), loop.config.model.rvq.codebook_size)
    for index in (*loop.task.setup.cache.split("train"), *loop.task.setup.cache.split("val")):
        inputs, targets = loop.task.setup.views.of(chunks_of(loop, index))
        counter.add(model.tokenise(inputs), valid_chunks(targets).T)
    return counter.result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/realsign"))
    parser.add_argument("--bench", type=Path, default=Path("../shared/bench"))
    parser.add_argument("--epochs", type=int, default=160)
    parser.add_argument("--without", metavar="PREFIX", help="strangers: train without these clips, score them")
    parser.add_argument(
        "--alone", type=int, metavar="EPOCHS", help="only the network, without codes, for so many epochs"
    )
    parser.add_argument("--keep", type=Path, metavar="FILE", help="where to keep the trained model")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    args = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        data = without(args.data, args.without, scratch / "data") if args.without else args.data
        epochs = args.alone or args.epochs
        paths = [f"data.root={data}", f"data.cache={scratch / 'cache'}", f"train.epochs={epochs}"]
        config = load_config(None, [*OPTIONS, *paths, *args.overrides])
        cache = open_cache(config.data, quiet=True)
        if args.alone:
            loop = trained(config, cache, Alone)
            draws = {
                "network": lambda batch: loop.task.model.decode(loop.task.model.encode(loop.task.setup.views.of(batch)[0])),
                "PCA": pca(loop),
            }
            columns = {
                name: scored(args.bench, data, reconstruct(loop, data, scratch / name, draw))
                for name, draw in draws.items()
            }
            print(f"{config.model.latent_dim} numbers a part and chunk, no codes\n{table(columns)}")
            return
        subprocess.run(
            [
                sys.executable,
                str(args.bench / "baseline_pca_rvq.py"),
                "--data",
                str(data),
                "--split",
                "test",
                "--out",
                str(scratch / "reference"),
            ],
            check=True,
        )
        reference = scored(args.bench, data, scratch / "reference", scratch / "reference" / "tokens.jsonl")
        loop = kept(args.keep, config, cache)
        tokenizer = priced(loop, "test")
        tokenizer.codes_per_chunk = CODES
        codes_of = spoken(loop, tokenizer)
        lengths = cost(loop, codes_of, scratch / "ours.jsonl")
        ours = scored(
            args.bench,
            data,
            reconstruct(loop, data, scratch / "ours", from_codes(loop, codes_of)),
            scratch / "ours.jsonl",
        )
        print(table({"ours": ours, "reference": reference}))
        bits, theirs = ours["tokens"]["bits_per_s"], reference["tokens"]["bits_per_s"]
        print(
            f"bits/s: ours {bits:.0f}, and {lengths:.0f} for how many there are: {bits + lengths:.0f}; the reference {theirs:.0f}"
        )
        health = use(loop)
        for level in range(config.model.rvq.levels):
            shares = ", ".join(f"{part} {health[f'codes/{part}/{level}/used']:.1%}" for part in PARTS)
            print(f"codes in use on train and val, level {level}: {shares}")


if __name__ == "__main__":
    main()
