"""Our tokenizer beside PCA + k-means on real clips: trained on train alone, scored on test by a program that knows neither.

    python -m benchmarks.reconstruction [--data ../shared/data/realsign] [--bench ../shared/bench] [--epochs 300] [--without dgs_]

Both spend 4 parts x 3 levels x 1024 codes a chunk of ten frames; the full body's codes are left out. Each clip's place and one unit length come
from the original for both. --without PREFIX trains both without the clips whose names begin so, and scores those: strangers. Prints errors in
shoulder widths (local: each part from its own centre), their ratios, bits a second, and what the network errs without its quantiser.
"""
import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from signstream.config import Config, load_config
from signstream.data.collate import make_chunks, pack
from signstream.data.frontend import sample_at
from signstream.data.transforms import assemble, to_pixels
from signstream.io.pose_cache import PoseCache
from signstream.training.distributed import start
from signstream.training.loop import Loop

PARTS = "{face: [24, 91], left_hand: [92, 112], right_hand: [113, 133], body: [1, 17]}"
OPTIONS = [
    f"data.body_parts={PARTS}", "data.fps=25", "data.smooth=0", "data.augment.affine=0.1",
    "model.arch=mlp", "model.encoder_latent_dim=512", "model.latent_dim=64", "model.rvq.codebook_size=1024",
    "train.amp=fp32", "train.lr=0.001", "train.clips_per_step=64", "train.warmup_steps=200",
    "train.part_weights={face: 1, left_hand: 1, right_hand: 1, body: 1}",
]


def without(root: Path, prefix: str, folder: Path) -> Path:
    """A root whose train lacks the clips that begin with `prefix` and whose test is them; the files are linked."""
    splits = json.loads((root / "split_files.json").read_text(encoding="utf-8"))
    names = [name for listed in splits.values() for name in listed]
    folder.mkdir()
    for name in ("frames_512x512", "annotations.json"):
        (folder / name).symlink_to((root / name).resolve())
    parted = {"train": [n for n in splits["train"] if not n.startswith(prefix)], "val": [n for n in splits["val"] if not n.startswith(prefix)],
              "test": [n for n in names if n.startswith(prefix)]}
    (folder / "split_files.json").write_text(json.dumps(parted), encoding="utf-8")
    return folder


def trained(config: Config, cache: PoseCache) -> Loop:
    with start(config.train.device, config.train.threads) as ranks:
        torch.manual_seed(config.train.seed)
        loop = Loop(config, cache, ranks, config.train.clips_per_step)
        loop.fit_constants()
        began = time.perf_counter()
        while loop.epoch < config.train.epochs:
            for clips in loop.loader:
                loop.train_step(clips)
            if loop.epoch % max(config.train.epochs // 10, 1) == 0:
                minutes = (time.perf_counter() - began) / 60
                print(f"  epoch {loop.epoch}: rec {loop.take_window()['rec']:.3f}, {minutes:.1f} minutes on {ranks.threads} threads", flush=True)
        return loop


@torch.no_grad()
def reconstruct(loop: Loop, data: Path, out: Path, quantise: bool) -> None:
    """<name>.npy [T, 133, 3] at each clip's own frame rate, and tokens.jsonl."""
    cache, config, model = loop.cache, loop.config, loop.model.eval()
    out.mkdir()
    with open(out / "tokens.jsonl", "w", encoding="utf-8") as tokens:
        for index in cache.split("test"):
            clip = cache.clips[index]
            batch = make_chunks(pack([cache.frames(index)], [index]), cache.skeleton, config.data)
            latents = model.encode(loop.views.of(batch)[0])
            codes = model.quantizer.encode(latents)
            views = loop.views.restore(model.decode(model.quantizer.decode_codes(codes) if quantise else latents))
            poses = assemble({name: batch.split(view)[index] for name, view in views.items()}, cache.skeleton, loop.views.space)
            original = np.load(data / "frames_512x512" / f"{clip.name}.npy")[:, -133:]
            np.save(out / f"{clip.name}.npy", in_pixels(poses, cache.frames(index), original, clip.fps / config.data.fps))
            rows = [{"t": t} | {p.tag: c for p, c in zip(cache.skeleton.parts, chunk)} for t, chunk in enumerate(codes.tolist())]
            tokens.write(json.dumps({"video_name": clip.name, "fps": config.data.fps, "chunk_len": config.data.chunk_len, "num_frames": clip.length,
                                     "tokens": rows, "meta": {"codebook_size": config.model.rvq.codebook_size}}) + "\n")


def in_pixels(poses: torch.Tensor, cached: np.ndarray, original: np.ndarray, step: float) -> np.ndarray:
    """poses [T', J, 3] in unit lengths at the config's rate -> [T, 133, 3] pixels at the clip's own, in its place and with one unit length."""
    place = torch.from_numpy(cached[:, 0].copy())
    place[:, 2] = place[:, 2].median()
    pixels = torch.cat((to_pixels(poses[..., :2], place), poses[..., 2:]), -1)
    if abs(step - 1) < 0.01:
        step = 1.0
    position = (torch.arange(len(original), dtype=torch.float64) / step).clamp(max=len(pixels) - 1)
    low = position.floor()
    return sample_at(pixels, low.long(), position - low).numpy()


def scored(bench: Path, data: Path, out: Path) -> dict:
    command = [sys.executable, str(bench / "score_reconstruction.py"), "--reference", str(data), "--split", "test", "--reconstructed", str(out),
               "--tokens", str(out / "tokens.jsonl")]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def table(ours: dict, theirs: dict) -> str:
    lines = [f"{'':12}{'ours':>10}{'reference':>12}{'ratio':>8}"]
    for name in ("mean_local", "hands_local"):
        lines.append(f"{name:12}{ours[name]:10.4f}{theirs[name]:12.4f}{ours[name] / theirs[name]:8.2f}")
    for part in ("face", "left_hand", "right_hand", "body"):
        if "local" in ours[part]:
            lines.append(f"{part:12}{ours[part]['local']:10.4f}{theirs[part]['local']:12.4f}{ours[part]['local'] / theirs[part]['local']:8.2f}")
    lines.append(f"{'bits/s':12}{ours['tokens']['bits_per_s']:10.0f}{theirs['tokens']['bits_per_s']:12.0f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/realsign"))
    parser.add_argument("--bench", type=Path, default=Path("../shared/bench"))
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--without", metavar="PREFIX", help="strangers: train without these clips, score them")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    args = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        data = without(args.data, args.without, scratch / "data") if args.without else args.data
        reference = subprocess.Popen([sys.executable, str(args.bench / "baseline_pca_rvq.py"), "--data", str(data), "--split", "test",
                                      "--out", str(scratch / "reference")])
        if reference.wait():
            raise ValueError(f"the reference in {args.bench} failed")
        config = load_config(None, [*OPTIONS, f"data.root={data}", f"data.cache={scratch / 'cache'}", f"train.epochs={args.epochs}", *args.overrides])
        loop = trained(config, PoseCache.open(config.data, quiet=True))
        reconstruct(loop, data, scratch / "ours", quantise=True)
        reconstruct(loop, data, scratch / "network", quantise=False)
        ours, network, theirs = (scored(args.bench, data, scratch / name) for name in ("ours", "network", "reference"))
        print(table(ours, theirs))
        print(f"the network without its quantiser: mean_local {network['mean_local']:.4f}, hands_local {network['hands_local']:.4f}")


if __name__ == "__main__":
    main()
