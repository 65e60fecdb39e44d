"""How fast data become chunks: building the cache, reading raw files, the cached path, and the usual way beside it.

    python -m benchmarks.data_path [--data ROOT] [--clips 1500] [--repeats 3]

Without --data it makes the synthetic signer in a temporary folder. Every figure is frames of the data set a second, the
median of the repeats, all in one run; the sides take turns, all augmentation is on. "per item" is what most public code
does: a Dataset whose worker opens the raw .npy of one clip and does all of its processing there, once an epoch.
  same processing: this repository's own front end and chunking, clip by clip
  plain numpy:     less than that (gaps of any length are closed, one unit a clip, no stand-ins for a missing centre),
                   whole arrays at a time
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.pairs import PAIRS, Row, in_turn, over, seconds
from benchmarks.train_step import ours
from signstream import cli
from signstream.config import Data, load_config
from signstream.config.rvq import Config
from signstream.data.cache import open_cache
from signstream.data.collate import make_chunks
from signstream.data.csl_daily import CSLDaily
from signstream.data.datasets import load_checked, skeleton_of
from signstream.data.frontend import prepare
from signstream.data.synthetic.dataset import make_dataset
from signstream.io.batch import pack
from signstream.io.dataloader_utils import ClipLoader
from signstream.io.pose_cache import PoseCache
from signstream.skeleton import COCO_FLIP, COCO_WHOLEBODY

BATCH = 16
WORKERS = (0, 2)
CLIPS, CHUNKS = 200, 512  # of a turn of rows()


class SameProcessing(Dataset):
    """One clip an item: the front end and the chunks that the cached side has, from the raw file."""

    def __init__(self, source: CSLDaily, names: list[str], data: Data) -> None:
        self.source = source
        self.names = names
        self.data = data
        self.skeleton = skeleton_of(data)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, item: int) -> list[torch.Tensor]:
        clip = load_checked(self.source, "train", self.names[item])
        ready = prepare(torch.tensor(clip.poses), self.skeleton, self.data, fps=clip.fps)
        frames = ready.rows().numpy()
        seed = int(torch.randint(2**31, ()))
        chunks = make_chunks(pack([frames], [item], seed), self.skeleton, self.data, train=True)
        return [chunks.xy, chunks.weight, chunks.seen, chunks.place, chunks.frames, chunks.clip, chunks.t]


class PlainNumpy(Dataset):
    """One clip an item, all of its processing in the worker."""

    def __init__(self, source: CSLDaily, names: list[str], data: Data) -> None:
        self.source = source
        self.names = names
        self.data = data

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng()
        frames = np.load(self.source.path(self.names[item]))[:, 1:].astype(np.float32)
        xy, score = interpolate(frames[..., :2], frames[..., 2], self.data)
        if rng.random() < 0.5:
            flip = list(COCO_FLIP)
            xy = xy[:, flip] * (-1, 1)
            score = score[:, flip]
        position = np.arange(0, len(xy) - 1e-6, rng.uniform(1 / 1.2, 1.2)).clip(max=len(xy) - 1)
        xy = resample(xy, position)
        score = score[position.astype(int)]
        eyes = [np.linalg.norm(xy[:, a] - xy[:, b], axis=-1) for a, b in COCO_WHOLEBODY.unit_pairs]
        xy = xy / np.median(np.mean(eyes, 0))
        score = np.where(rng.random(score.shape) < self.data.augment.dropout_prob, 0, score)
        pad = -len(xy) % self.data.chunk_len
        xy, score = (np.concatenate((a, np.repeat(a[-1:], pad, 0))) for a in (xy, score))
        out = {}
        for part in COCO_WHOLEBODY.parts:
            view = (xy[:, part.joints] - xy[:, part.centre, None]).reshape(-1, self.data.chunk_len, len(part), 2)
            weight = score[:, part.joints].reshape(-1, self.data.chunk_len, len(part))
            out[part.name] = torch.from_numpy(np.concatenate((view, weight[..., None]), -1).astype(np.float32))
        return out


def interpolate(xy: np.ndarray, score: np.ndarray, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Missing joints by np.interp, joint by joint, then a short moving filter along time."""
    out = xy.copy()
    t = np.arange(len(xy))
    for joint in range(xy.shape[1]):
        seen = score[:, joint] > data.min_score
        if seen.any() and not seen.all():
            for axis in range(2):
                out[:, joint, axis] = np.interp(t, t[seen], xy[seen, joint, axis])
    if len(out) > 4:
        taps = np.array([-3, 12, 17, 12, -3], np.float32) / 35
        out[2:-2] = sum(tap * out[k : len(out) - 4 + k] for k, tap in enumerate(taps))
    return out, score


def resample(xy: np.ndarray, position: np.ndarray) -> np.ndarray:
    low = position.astype(int)
    share = (position - low)[:, None, None]
    return xy[low] * (1 - share) + xy[np.minimum(low + 1, len(xy) - 1)] * share


def join_batch(items: list[list[torch.Tensor]]) -> list[torch.Tensor]:
    return [torch.cat(field) for field in zip(*items)]


def pad_batch(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {
        name: torch.nn.utils.rnn.pad_sequence([item[name] for item in items], batch_first=True) for name in items[0]
    }


def read_raw(source: CSLDaily, names: list[str]) -> None:
    for name in names:
        np.load(source.path(name))


def per_item(clips: Dataset[Any], collate: Callable[[list[Any]], Any], workers: int) -> None:
    for _ in DataLoader(clips, BATCH, shuffle=True, num_workers=workers, collate_fn=collate):
        pass


def cached(cache: PoseCache, data: Data, device: str) -> None:
    for batch in ClipLoader(cache, "train", data, batch_size=BATCH, train=True, pin=device != "cpu"):
        make_chunks(batch.to(device), cache.skeleton, data, train=True)
    if device != "cpu":
        torch.cuda.synchronize()


class Work(NamedTuple):
    """What the sides go through: the data set's training split."""

    source: CSLDaily
    cache: PoseCache
    data: Data

    @property
    def names(self) -> list[str]:
        return [self.cache.clips[i].name for i in self.cache.split("train")]

    @property
    def frames(self) -> int:
        return sum(self.cache.clips[i].length for i in self.cache.split("train"))


def sides_of(work: Work, device: str) -> dict[str, Callable[[], None]]:
    """Each side's epoch, under the name that is printed."""
    source, cache, data = work
    sides: dict[str, Callable[[], None]] = {"raw .npy, read alone": partial(read_raw, source, work.names)}
    for workers in WORKERS:
        own_front_end = SameProcessing(source, work.names, data)
        plain = PlainNumpy(source, work.names, data)
        with_workers = replace(data, workers=workers)
        sides[f"per item, same processing, {workers} workers"] = partial(per_item, own_front_end, join_batch, workers)
        sides[f"per item, plain numpy, {workers} workers"] = partial(per_item, plain, pad_batch, workers)
        sides[f"cached chunks on {device}, {workers} workers"] = partial(cached, cache, with_workers, device)
    return sides


def rows() -> Iterator[Row]:
    """The loader beside the fastest step there is, both on one thread and by that thread's own time."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    loader, step = "the loader, all augmentation", "a step of quickstart.yaml"
    with tempfile.TemporaryDirectory() as scratch:
        root = make_dataset(f"{scratch}/signer", clips=CLIPS)
        places = [f"data.root={root}", f"data.cache={scratch}/cache"]
        config = load_config("configs/quickstart.yaml", places, kind=Config)
        work = Work(CSLDaily(config.data), open_cache(config.data, quiet=True), replace(config.data, workers=0))
        epoch = partial(cached, work.cache, work.data, "cpu")
        times = in_turn({loader: epoch, step: ours(config, CHUNKS, "cpu").step}, PAIRS, clock=time.process_time)
        frames = {loader: work.frames, step: CHUNKS * config.data.chunk_len}
    a_frame = {name: [spent / frames[name] for spent in values] for name, values in times.items()}
    rates = [f"{1 / statistics.median(a_frame[name]):,.0f} frames/s" for name in (loader, step)]
    yield Row(loader, rates[0], step, rates[1], over(a_frame, step, loader), at_least=5)


def print_ratios(rate: dict[str, float], device: str) -> None:
    for kind in ("same processing", "plain numpy"):
        chunked = [rate[f"cached chunks on {device}, {workers} workers"] for workers in WORKERS]
        per_clip = [rate[f"per item, {kind}, {workers} workers"] for workers in WORKERS]
        for workers, quick, slow in zip(WORKERS, chunked, per_clip):
            print(f"cached / per item, {kind}, {workers} workers: {quick / slow:.1f} x")
        ratio = max(chunked) / max(per_clip)
        print(f"cached / per item, {kind}, each with the workers that suit it: {ratio:.1f} x")


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--data", help="a root in CSL-Daily's layout")
    parser.add_argument("--clips", type=int, default=1500, help="clips of the synthetic signer that stands in for it")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as scratch:
        root = args.data or f"{scratch}/signer"
        made = None
        if args.data is None:
            cores = len(os.sched_getaffinity(0))
            made = seconds(lambda: make_dataset(root, clips=args.clips, seed=0, workers=cores))
        data = load_config(None, [f"data.root={root}", f"data.cache={scratch}/cache"]).data
        built = seconds(lambda: open_cache(data, quiet=True))
        work = Work(CSLDaily(data), open_cache(data, quiet=True), data)
        times = in_turn(sides_of(work, device), args.repeats)
        frames, all_frames = work.frames, work.cache.rows
    if made is not None:
        print(f"{'synthetic signer, all cores':44s} {all_frames / made:10,.0f} frames/s")
    print(f"{'cache build, all cores':44s} {all_frames / built:10,.0f} frames/s")
    rate = {name: frames / statistics.median(spent) for name, spent in times.items()}
    for name, value in rate.items():
        print(f"{name:44s} {value:10,.0f} frames/s")
    print_ratios(rate, device)


if __name__ == "__main__":
    cli.run(main)
