"""How fast data become chunks: building the cache, reading raw files, the cached path, and the way of most repositories beside it.

    python -m benchmarks.data_path [--data ROOT] [--clips 1500] [--repeats 3]

Without --data it makes the synthetic signer in a temporary folder. Every figure is frames of the data set a second, the median of the
repeats, all in one run; the sides take turns, all augmentation is on. "per item" is what most public code does: a Dataset whose worker
opens the raw .npy of one clip and does all of its processing there, once an epoch.
  same processing: this repository's own front end and chunking, clip by clip
  plain numpy:     less than that (gaps of any length are closed, one unit a clip, no stand-ins for a missing centre), whole arrays at a time
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from signstream.config import Data, load_config
from signstream.data.cache import open_cache
from signstream.data.collate import make_chunks
from signstream.data.csl_daily import CSLDaily
from signstream.data.datasets import load_checked, skeleton_of
from signstream.data.frontend import prepare
from signstream.io.batch import pack
from signstream.io.dataloader_utils import ClipLoader
from signstream.io.pose_cache import PoseCache
from signstream.skeleton import COCO_WHOLEBODY

BATCH = 16


class SameProcessing(Dataset):
    """One clip an item: the front end and the chunks that the cached side has, from the raw file."""

    def __init__(self, source: CSLDaily, names: list[str], data: Data) -> None:
        self.source, self.names, self.data, self.skeleton = source, names, data, skeleton_of(data)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, item: int) -> list[torch.Tensor]:
        clip = load_checked(self.source, "train", self.names[item])
        ready = prepare(torch.tensor(clip.poses), self.skeleton, self.data, fps=clip.fps)
        frames = torch.cat((ready.place[:, None], ready.frames), 1).numpy()
        seed = int(torch.randint(2**31, ()))
        chunks = make_chunks(pack([frames], [item], seed), self.skeleton, self.data, train=True)
        return [chunks.xy, chunks.weight, chunks.seen, chunks.place, chunks.frames, chunks.clip, chunks.t]


class PlainNumpy(Dataset):
    """One clip an item, all of its processing in the worker."""

    def __init__(self, source: CSLDaily, names: list[str], data: Data) -> None:
        self.source, self.names, self.data = source, names, data

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng()
        frames = np.load(self.source.path(self.names[item]))[:, 1:].astype(np.float32)
        xy, score = interpolate(frames[..., :2], frames[..., 2], self.data)
        if rng.random() < 0.5:
            flip = list(COCO_WHOLEBODY.flip)
            xy, score = xy[:, flip] * (-1, 1), score[:, flip]
        position = np.arange(0, len(xy) - 1e-6, rng.uniform(1 / 1.2, 1.2)).clip(max=len(xy) - 1)
        xy, score = resample(xy, position), score[position.astype(int)]
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
    out, t = xy.copy(), np.arange(len(xy))
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


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def read_raw(source: CSLDaily, names: list[str]) -> None:
    for name in names:
        np.load(source.path(name))


def per_item(clips: Dataset, collate, workers: int) -> None:
    for _ in DataLoader(clips, BATCH, shuffle=True, num_workers=workers, collate_fn=collate):
        pass


def cached(cache: PoseCache, data: Data, device: str) -> None:
    for batch in ClipLoader(cache, "train", data, batch_size=BATCH, train=True, pin=device != "cpu"):
        make_chunks(batch.to(device), cache.skeleton, data, train=True)
    if device != "cpu":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a root in CSL-Daily's layout")
    parser.add_argument("--clips", type=int, default=1500, help="clips of the synthetic signer that stands in for it")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if args.data is None:
            from signstream.data.synthetic.dataset import make_dataset

            args.data = str(scratch / "signer")
            made = seconds(
                lambda: make_dataset(args.data, clips=args.clips, seed=0, workers=len(os.sched_getaffinity(0)))
            )
        data = load_config(None, [f"data.root={args.data}", f"data.cache={scratch / 'cache'}"]).data
        built = seconds(lambda: open_cache(data, quiet=True))
        cache, source = open_cache(data, quiet=True), CSLDaily(data)
        names = [cache.clips[i].name for i in cache.split("train")]
        frames = sum(cache.clips[i].length for i in cache.split("train"))
        sides = {"raw .npy, read alone": lambda: read_raw(source, names)}
        for workers in (0, 2):
            sides[f"per item, same processing, {workers} workers"] = lambda w=workers: per_item(
                SameProcessing(source, names, data), join_batch, w
            )
            sides[f"per item, plain numpy, {workers} workers"] = lambda w=workers: per_item(
                PlainNumpy(source, names, data), pad_batch, w
            )
            sides[f"cached chunks on {device}, {workers} workers"] = lambda w=workers: cached(
                cache, replace(data, workers=w), device
            )
        times = {name: [] for name in sides}
        for _ in range(args.repeats):
            for name, work in sides.items():
                times[name].append(seconds(work))
    if "made" in locals():
        print(f"{'synthetic signer, all cores':44s} {cache.rows / made:10,.0f} frames/s")
    print(f"{'cache build, all cores':44s} {cache.rows / built:10,.0f} frames/s")
    rate = {name: frames / statistics.median(spent) for name, spent in times.items()}
    for name, value in rate.items():
        print(f"{name:44s} {value:10,.0f} frames/s")
    for kind in ("same processing", "plain numpy"):
        for workers in (0, 2):
            ratio = rate[f"cached chunks on {device}, {workers} workers"] / rate[f"per item, {kind}, {workers} workers"]
            print(f"cached / per item, {kind}, {workers} workers: {ratio:.1f} x")
        best = [
            max(rate[f"{side}, {workers} workers"] for workers in (0, 2))
            for side in (f"cached chunks on {device}", f"per item, {kind}")
        ]
        print(f"cached / per item, {kind}, each with the workers that suit it: {best[0] / best[1]:.1f} x")


if __name__ == "__main__":
    main()
