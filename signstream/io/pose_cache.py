"""Every clip of a data root through the front end, once, into one memory map and one index.

    cache = PoseCache.open(config.data)      # builds it if it isn't there or no longer fits
    cache.splits["train"] -> [clip index]    cache.clips[i] -> CachedClip    cache.frames(i) -> [T, 1 + J, 3] float32

Row 0 of a frame is its place (origin x, origin y, unit, in pixels), rows 1.. are (x, y in unit lengths from the origin, weight).
The cache lies in <data.cache>/<root's name>-<key>/, the key being the root's path and the preprocessing; its index also holds a digest of
every file's size and time. A build happens under a lock and shows only when whole, so ranks may start together and a killed build leaves nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from signstream.config import Data
from signstream.data.datasets import Clip, PoseData, load_checked, open_data, skeleton_of, usable_names
from signstream.data.frontend import prepare
from signstream.errors import UserError
from signstream.skeleton import Skeleton

INDEX_KEYS = {"rows", "splits", "clips", "skipped"}
FORMAT = 1  # raise it when the front end's arithmetic or the index changes
SPARE_DISK = 64 << 20
CLIPS_A_TASK = 8


@dataclass(frozen=True)
class CachedClip:
    name: str
    split: str
    start: int  # first row in the memory map
    length: int  # frames after the front end
    num_frames: int  # frames of the file
    fps: float  # the file's; the config's where it does not say
    fps_known: bool
    size: tuple[float, float] | None
    text: str
    gloss: str
    signer: str
    segments: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True)
class Skipped:
    split: str
    name: str
    reason: str


class PoseCache:
    """An open cache. Safe to hand to worker processes: each opens the memory map for itself."""

    def __init__(self, folder: Path, index: dict[str, Any], skeleton: Skeleton) -> None:
        self.folder, self.skeleton = folder, skeleton
        self.path = folder / index["file"]
        self.rows = index["rows"]
        self.clips = [_cached(clip) for clip in index["clips"]]
        self.skipped = [Skipped(**line) for line in index["skipped"]]
        self.splits: dict[str, list[int]] = {split: [] for split in index["splits"]}
        for i, clip in enumerate(self.clips):
            self.splits[clip.split].append(i)
        self._map: np.ndarray | None = None

    @classmethod
    def open(cls, data: Data, workers: int | None = None, quiet: bool = False) -> PoseCache:
        """The cache of `data.root` under this preprocessing, built with `workers` processes (default: one a core) if need be."""
        source, skeleton = open_data(data), skeleton_of(data)
        root = Path(os.path.realpath(data.root))
        key = hashlib.sha256(repr((str(root), _preprocessing(data, skeleton))).encode()).hexdigest()[:12]
        folder = Path(data.cache) / f"{root.name}-{key}"
        names, skipped = _names(source)
        stamp = _fingerprint(source, names)
        index = _read_index(folder, stamp)
        if index is None:
            folder.mkdir(parents=True, exist_ok=True)
            with open(folder / "lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                index = _read_index(folder, stamp)  # another process may have built it while we waited
                if index is None:
                    index = _build(
                        folder, source, skeleton, names, skipped, stamp, workers or len(os.sched_getaffinity(0)), quiet
                    )
        cache = cls(folder, index, skeleton)
        if not cache.clips:
            raise UserError(_nothing_left(data, cache.skipped))
        return cache

    def frames(self, index: int) -> np.ndarray:
        """[T, 1 + J, 3] of one clip, a view into the memory map."""
        if self._map is None:
            self._map = np.memmap(self.path, np.float32, "r", shape=(self.rows, 1 + self.skeleton.num_joints, 3))
        clip = self.clips[index]
        return self._map[clip.start : clip.start + clip.length]

    def split(self, name: str) -> list[int]:
        if not self.splits.get(name):
            having = ", ".join(f"{split} ({len(clips)})" for split, clips in self.splits.items() if clips)
            raise UserError(f"the split {name!r} has no clip: those that have are {having}")
        return self.splits[name]

    def summary(self) -> str:
        """What is there and what was left out, in a line or two."""
        counts = ", ".join(f"{split} {len(clips)}" for split, clips in self.splits.items())
        text = f"{len(self.clips)} clips, {self.rows} frames ({counts})"
        unknown = sum(not clip.fps_known for clip in self.clips)
        if unknown:
            text += f"; {unknown} without a frame rate, taken as the config's"
        shared = [n for n, count in Counter(n for n, _ in {(c.name, c.split) for c in self.clips}).items() if count > 1]
        if shared:
            text += f"; {len(shared)} names stand in two splits, such as {shared[0]!r}"
        return text + (f"\nleft out: {_count_reasons(self.skipped)}" if self.skipped else "")

    def write_skipped(self, path: Path) -> None:
        """One JSON line for each clip that was left out, with its reason."""
        text = "".join(json.dumps(asdict(line), ensure_ascii=False) + "\n" for line in self.skipped)
        path.write_text(
            text, encoding="utf-8", errors="backslashreplace"
        )  # half a character becomes \ud800, as JSON writes it

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}


def _preprocessing(data: Data, skeleton: Skeleton) -> tuple:
    """All that the cached numbers depend on beside the files."""
    options = (
        data.layout,
        data.split_file,
        data.check_num_frames,
        data.fps,
        data.max_frames,
        data.min_score,
        data.max_gap,
        data.smooth,
        data.unit_window,
    )
    return FORMAT, options, skeleton.num_joints, skeleton.origin, skeleton.unit_pairs, skeleton.spare_units


def _names(source: PoseData) -> tuple[list[tuple[str, str]], list[Skipped]]:
    names, skipped = [], []
    for split, listed in source.splits().items():
        good, refused = usable_names(listed)
        names += [(split, name) for name in good]
        skipped += [Skipped(split, name, reason) for name, reason in refused]
    return names, skipped


def _fingerprint(source: PoseData, names: list[tuple[str, str]]) -> str:
    digest = hashlib.sha256(json.dumps(names).encode())
    for path in [*source.sources(), *(file for split, name in names for file in source.files(split, name))]:
        try:
            status = os.stat(path)
            digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        except (OSError, ValueError):
            digest.update(f"{path}\0missing\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _read_index(folder: Path, stamp: str) -> dict[str, Any] | None:
    """The index, if it describes these files and its memory map is whole."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        whole = (
            index["stamp"] == stamp
            and (folder / index["file"]).stat().st_size == index["bytes"]
            and index.keys() >= INDEX_KEYS
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return index if whole else None


def _build(
    folder: Path,
    source: PoseData,
    skeleton: Skeleton,
    names: list[tuple[str, str]],
    skipped: list[Skipped],
    stamp: str,
    workers: int,
    quiet: bool,
) -> dict[str, Any]:
    for old in folder.glob("frames-*.tmp"):
        old.unlink()  # we hold the lock, so its build was killed
    row_bytes = (1 + skeleton.num_joints) * 3 * 4
    estimate = sum(source.frames(split, name) or 0 for split, name in names) * row_bytes
    free = shutil.disk_usage(folder).free
    if not quiet:
        print(
            f"cache: preparing {len(names)} clips, about {estimate / 1e6:.0f} MB, into {folder} ({free / 1e9:.1f} GB free)",
            file=sys.stderr,
        )
    if estimate + SPARE_DISK > free:
        raise UserError(
            f"the cache of {source.root} needs {estimate / 1e6:.0f} MB and {folder} has {free / 1e6:.0f} MB free: "
            "name another place with data.cache=DIR"
        )
    file = f"frames-{uuid.uuid4().hex[:8]}.f32"
    temporary, clips, rows, skipped = folder / f"{file}.tmp", [], 0, list(skipped)
    with open(temporary, "wb") as out:
        results = _prepare_all(source, skeleton, names, workers)
        for (split, name), (note, frames) in zip(
            names, tqdm(results, total=len(names), desc="cache", unit="clip", disable=True if quiet else None)
        ):
            if frames is None:
                skipped.append(Skipped(split, name, note))
                continue
            out.write(frames.data)
            clips.append({"name": name, "split": split, "start": rows, "length": len(frames), **note})
            rows += len(frames)
        out.flush()
        os.fsync(out.fileno())
    os.replace(temporary, folder / file)
    splits = list(dict.fromkeys([split for split, _ in names] + [line.split for line in skipped]))
    index = {
        "file": file,
        "bytes": rows * row_bytes,
        "rows": rows,
        "stamp": stamp,
        "root": str(source.root),
        "splits": splits,
        "clips": clips,
        "skipped": [asdict(line) for line in skipped],
    }
    part = folder / "index.json.tmp"
    part.write_text(json.dumps(index), encoding="utf-8")
    os.replace(part, folder / "index.json")
    for old in folder.glob("frames-*.f32"):
        if old.name != file:
            old.unlink()  # a reader that has it open keeps it
    return index


def _prepare_all(
    source: PoseData, skeleton: Skeleton, names: list[tuple[str, str]], workers: int
) -> Iterator[tuple[Any, np.ndarray | None]]:
    """(what the index holds, frames) or (reason, None) for each name, in order, with a bounded number in flight."""
    if workers <= 1:
        yield from (_prepare_one(source, skeleton, split, name) for split, name in names)
        return
    tasks = deque(names[i : i + CLIPS_A_TASK] for i in range(0, len(names), CLIPS_A_TASK))
    with ProcessPoolExecutor(workers, get_context("fork"), initializer=_start_worker, initargs=(os.getpid(),)) as pool:
        running: deque = deque()
        while tasks or running:
            while tasks and len(running) < 4 * workers:
                running.append(pool.submit(_prepare_some, source, skeleton, tasks.popleft()))
            yield from running.popleft().result()


def _start_worker(parent: int) -> None:
    """A forked worker shares its parent's lock, and would hold it for ever once the parent is killed: so it ends when its parent has."""
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _prepare_some(
    source: PoseData, skeleton: Skeleton, names: list[tuple[str, str]]
) -> list[tuple[Any, np.ndarray | None]]:
    return [_prepare_one(source, skeleton, split, name) for split, name in names]


def _prepare_one(source: PoseData, skeleton: Skeleton, split: str, name: str) -> tuple[Any, np.ndarray | None]:
    try:
        clip = load_checked(source, split, name)
        note = _note(clip, source.data)
    except ValueError as error:
        return " ".join(str(error).split()), None
    except (
        Exception
    ) as error:  # a user's own reader may raise anything; the clip is left out, counted and listed, the rest goes on
        return f"{type(error).__name__}: {' '.join(str(error).split())}", None
    ready = prepare(torch.from_numpy(np.require(clip.poses, np.float32, "CW")), skeleton, source.data, clip.fps)
    frames = torch.cat((ready.place[:, None], ready.frames), 1).numpy()
    return note, frames


def _note(clip: Clip, data: Data) -> dict[str, Any]:
    """What the index holds of a clip, as JSON can hold it whatever number types a user's reader gave."""
    width, height = clip.size or (0, 0)
    return {
        "num_frames": len(clip.poses),
        "fps": clip.fps or data.fps,
        "fps_known": clip.fps is not None,
        "size": (float(width), float(height)) if clip.size else None,
        "text": str(clip.text),
        "gloss": str(clip.gloss),
        "signer": str(clip.signer),
        "segments": [(int(first), int(last), str(gloss)) for first, last, gloss in clip.segments],
    }


def _cached(line: dict[str, Any]) -> CachedClip:
    return CachedClip(
        **{**line, "size": line["size"] and tuple(line["size"]), "segments": tuple(map(tuple, line["segments"]))}
    )


def _count_reasons(skipped: list[Skipped]) -> str:
    counts = Counter(line.reason.split(":")[0].split(" [")[0] for line in skipped)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())


def _nothing_left(data: Data, skipped: list[Skipped]) -> str:
    why = "its splits name none"
    if skipped:
        why = f"{len(skipped)} were left out ({_count_reasons(skipped)}), the first: {skipped[0].name!r}, {skipped[0].reason}"
    return f"data.root {os.path.realpath(data.root)} has no usable clip in the {data.layout} layout: {why}"
