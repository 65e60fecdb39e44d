"""Whether pictures come as fast as a recogniser takes them: reading, cutting, augmenting, and a training step beside.

    python -m benchmarks.frames [--data ROOT] [--frames 128] [--step-frames 8] [--repeats 5] [--threads 2]

ROOT is a data set in PHOENIX-2014's layout; without one, a clip of soft pictures with noise is drawn, 256 x 256. Every
figure is frames a second, the median of the repeats, the sides taking turns in one run. The step is forward and
backward of the default size in configs/recognition.yaml, on so many frames of 224 x 224, in fp32 on a CPU and bf16 on
a GPU.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from signstream import cli
from signstream.config.frames import Frames
from signstream.config.recognition import RecognitionConfig
from signstream.data.datasets import open_data
from signstream.data.frames import frame_streams
from signstream.io.frame_files import read_frames
from signstream.skeleton import NUM_JOINTS
from signstream.tasks.recognition.build import front_of, model_of

GLOSSES = 1296
SIDE = 256


def soft_pictures(folder: Path, count: int) -> list[Path]:
    """Pictures that pack about as a camera's do."""
    from PIL import Image

    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        soft = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        grain = rng.normal(0, 2, (SIDE, SIDE, 3))
        picture = Image.fromarray((np.asarray(soft) + grain).clip(0, 255).astype(np.uint8))
        paths.append(folder / f"{number:06d}.png")
        picture.save(paths[-1])
    return paths


def paths_of(root: str, count: int) -> list[Path]:
    """As many frames as are asked for, of the first clips."""
    config = RecognitionConfig()
    source = open_data(replace(config.data, root=root, layout="phoenix2014"))
    paths: list[Path] = []
    for name in source.splits()["train"]:
        paths += source.frame_files("train", name).paths
        if len(paths) >= count:
            break
    return paths[:count]


def training_step(device: torch.device, frames: int) -> Callable[[], object]:
    config = RecognitionConfig()
    config = replace(config, data=replace(config.data, source="frames"))
    model = model_of(config, front_of(config, ()), GLOSSES).to(device).train()
    pictures = torch.randn(1, frames, 3, config.data.frames.size, config.data.frames.size, device=device)
    lengths = torch.tensor([frames], device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            out = model({"frames": pictures}, lengths, draw=0)
        out.log_probs[..., 0].sum().backward()
        model.zero_grad()

    return step


def sides(paths: list[Path], device: torch.device, step_frames: int) -> dict[str, tuple[Callable[[], object], int]]:
    """What is measured, and how many frames it goes through."""
    pictures = torch.from_numpy(read_frames(paths)).to(device)
    rng = torch.Generator().manual_seed(0)
    joints = torch.rand(len(paths), NUM_JOINTS, 3, generator=rng) * torch.tensor([SIDE, SIDE, 1.0])
    joints = joints.to(device)

    def shown(heat: bool, train: bool) -> Callable[[], Tensor]:
        options = Frames(heat=heat)
        return lambda: frame_streams(pictures, options, keypoints=joints, generator=rng if train else None).frames

    count = len(paths)
    return {
        "read, one process": (lambda: read_frames(paths), count),
        "cut": (shown(False, False), count),
        "cut, with heat maps": (shown(True, False), count),
        "augmented": (shown(False, True), count),
        "augmented, with heat maps": (shown(True, True), count),
        "training step": (training_step(device, step_frames), step_frames),
    }


def seconds(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--data", metavar="ROOT")
    parser.add_argument("--frames", type=int, default=128, help="(default: %(default)s)")
    parser.add_argument("--step-frames", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(default: %(default)s)")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        paths = paths_of(args.data, args.frames) if args.data else soft_pictures(Path(folder), args.frames)
        works = sides(paths, device, args.step_frames)
        size = sum(path.stat().st_size for path in paths) / len(paths)
        taken: dict[str, list[float]] = {name: [] for name in works}
        for turn in range(args.repeats + 1):
            for name, (work, count) in works.items():
                rate = count / seconds(work, device)
                if turn:  # the first warms up
                    taken[name].append(rate)
    rates = {name: statistics.median(values) for name, values in taken.items()}
    print(f"{len(paths)} frames of {size / 1000:.0f} kB, {device.type}, {args.threads} threads")
    for name, rate in rates.items():
        print(f"{rate:>10,.1f} frames/s  {name}")
    both = 1 / (1 / rates["read, one process"] + 1 / rates["augmented, with heat maps"])
    print(f"reading and augmenting, one after the other, are {both / rates['training step']:.1f} x the training step")


if __name__ == "__main__":
    cli.run(main)
