"""Named clips' frames in one memory map with one index, built once from whatever source it is handed.

    cache = PoseCache.open(folder, source, workers)   # builds it if need be; source: see data/cache.py
    cache.splits["train"] -> [clip index]    cache.clips[i] -> CachedClip    cache.frames(i) -> [T, 1 + J, 3] float32

Row 0 of a frame is its place (origin x, origin y, unit, in pixels), rows 1.. are (x, y in unit lengths from the
origin, weight). The index also holds a digest of every file's size and times, and a checksum of each clip, which its
frames are held against when they are first read. A build happens under a lock and shows only when whole, so ranks may
start together and a killed build leaves nothing.
"""

from __future__ import annotations

import difflib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import threading
import time
import uuid
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from signstream.errors import UserError, shown
from signstream.io.cache_index import CachedClip, Index, Skipped, digest_of, discard, read_index, write_index
from signstream.io.whole import remove_parts, whole_file
from signstream.skeleton import Skeleton

SPARE_DISK = 64 << 20
CLIPS_A_TASK = 8


class Entry(NamedTuple):
    """One clip as it goes in, or a reason why it does not."""

    frames: np.ndarray | None  # [T, 1 + J, 3] float32
    note: Mapping[str, Any]  # CachedClip's fields from num_frames to poses_crc
    reason: str = ""


class Name(NamedTuple):
    split: str
    name: str


@dataclass(frozen=True)
class Source:
    """What a cache is built from. `prepare` runs in worker processes too, so it must pickle."""

    root: Path
    skeleton: Skeleton
    names: Sequence[Name]
    refused: Sequence[Skipped]  # names that cannot be a clip's
    files: Sequence[Path]  # it is built anew when one of them changes
    frames: Callable[[str, str], int | None]  # split, name -> T, if that is cheap to know
    prepare: Callable[[str, str], Entry]  # split, name

    @property
    def row_bytes(self) -> int:
        return (1 + self.skeleton.num_joints) * 3 * 4

    def stamp(self) -> str:
        """A digest of the names and of the files' sizes and times. Who changes a file can set back when it was
        modified, but not when the system last saw it change."""
        digest = hashlib.sha256(json.dumps(self.names).encode())
        for path in self.files:
            try:
                status = os.stat(path)
                line = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\n"
            except (OSError, ValueError):
                line = f"{path}\0missing\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


class PoseCache:
    """An open cache. Safe to hand to worker processes: each opens the memory map for itself."""

    def __init__(self, folder: Path, index: Index, skeleton: Skeleton) -> None:
        self.folder = folder
        self.index = index
        self.skeleton = skeleton
        self.path = folder / index.file
        self.rows = index.rows
        self.clips = list(index.clips)
        self.skipped = list(index.skipped)
        self.checked = set[int]()  # clips whose frames are known to be those that were written
        self.splits: dict[str, list[int]] = {split: [] for split in index.splits}
        for i, clip in enumerate(self.clips):
            self.splits[clip.split].append(i)
        self._map: np.ndarray | None = None

    @classmethod
    def open(cls, folder: Path, source: Source, workers: int, *, quiet: bool = False) -> PoseCache:
        """The cache of `source` in `folder`, built with `workers` processes if need be."""
        stamp = source.stamp()
        index, _ = read_index(folder, stamp, source.row_bytes)
        if index is None:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                # Another process may have built it while we waited.
                index, why = read_index(folder, stamp, source.row_bytes)
                if index is None:
                    if why and not quiet:
                        print(f"cache: {folder} is built anew: {why}", file=sys.stderr)
                    index = _build(folder, source, stamp, workers=workers, quiet=quiet)
        return cls(folder, index, source.skeleton)

    def frames(self, index: int) -> np.ndarray:
        """[T, 1 + J, 3] of one clip, a view into the memory map; the first time, held against its checksum."""
        if self._map is None:
            self._map = np.memmap(self.path, np.float32, "r", shape=(self.rows, 1 + self.skeleton.num_joints, 3))
        clip = self.clips[index]
        frames = self._map[clip.start : clip.start + clip.length]
        if index not in self.checked:
            if zlib.crc32(frames.data) != clip.frames_crc:
                discard(self.folder, self.index)
                raise UserError(
                    f"the cache {self.path} no longer holds what was written for the clip {shown(clip.name)}: "
                    "start again, and it is built anew; if this happens twice, look at the disk"
                )
            self.checked.add(index)
        return frames

    def digest(self, split: str) -> str:
        """Of the poses of a split as they were read; equal for the same clips in another place or layout."""
        return digest_of([self.clips[i] for i in self.splits[split]])

    def split(self, name: str) -> list[int]:
        if not self.splits.get(name):
            having = ", ".join(f"{split} ({len(clips)})" for split, clips in self.splits.items() if clips)
            raise UserError(f"the split {name!r} has no clip: those that have are {having}")
        return self.splits[name]

    def find(self, split: str, names: Sequence[str], option: str = "--names") -> list[int]:
        """The clips of those names, or an error that says where such a clip is, or why it was left out, or what is
        called nearly so."""
        members = {self.clips[i].name: i for i in self.split(split)}
        for name in (name for name in names if name not in members):
            refused = (line.reason for line in self.skipped if (line.split, line.name) == (split, name))
            hints = [
                *(f"it was left out: {reason}" for reason in refused),
                *(f"it is in {clip.split}" for clip in self.clips if clip.name == name),
                *(f"did you mean {other!r}?" for other in difflib.get_close_matches(name, members, n=1)),
                f"its first is {next(iter(members))!r}",
            ]
            raise UserError(f"{option}: the split {split!r} has no clip {name!r}; {hints[0]}")
        return [members[name] for name in names]

    def summary(self) -> str:
        """What is there and what was left out, in a line or two."""
        counts = ", ".join(f"{split} {len(clips)}" for split, clips in self.splits.items())
        text = f"{len(self.clips)} clips, {self.rows} frames ({counts}){self.notes()}"
        return text + (f"\nleft out: {count_reasons(self.skipped)}" if self.skipped else "")

    def notes(self) -> str:
        """What else there is to say of the clips, each behind a semicolon."""
        text = ""
        unknown = sum(not clip.fps_known for clip in self.clips)
        if unknown:
            text += f"; {unknown} without a frame rate, taken as the config's"
        shared = [n for n, count in Counter(n for n, _ in {(c.name, c.split) for c in self.clips}).items() if count > 1]
        if shared:
            text += f"; {len(shared)} names stand in two splits, such as {shared[0]!r}"
        return text

    def write_skipped(self, path: Path) -> None:
        """One JSON line for each clip that was left out, with its reason."""
        text = "".join(json.dumps(asdict(line), ensure_ascii=False) + "\n" for line in self.skipped)
        # Half a character becomes \ud800, as JSON writes it.
        path.write_text(text, encoding="utf-8", errors="backslashreplace")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None, "checked": set()}


def count_reasons(skipped: Iterable[Skipped]) -> str:
    counts = Counter(line.reason.split(":")[0].split(" [")[0] for line in skipped)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())


def _build(folder: Path, source: Source, stamp: str, *, workers: int, quiet: bool) -> Index:
    """Writes the memory map and the index; the caller holds the lock."""
    remove_parts(folder)
    for older in folder.glob("*.tmp"):  # what a killed build was called before
        older.unlink()
    _check_room(folder, source, quiet)
    results = _prepare_all(source, workers)
    shown = tqdm(results, total=len(source.names), desc="cache", unit="clip", disable=True if quiet else None)
    file = f"frames-{uuid.uuid4().hex[:8]}.f32"
    rows = 0
    clips: list[CachedClip] = []
    skipped = list(source.refused)
    with whole_file(folder / file) as part, part.open("xb") as out:
        for (split, name), ready in zip(source.names, shown):
            if ready.frames is None:
                skipped.append(Skipped(split, name, ready.reason))
                continue
            out.write(ready.frames.data)
            length, crc = len(ready.frames), zlib.crc32(ready.frames.data)
            clips.append(CachedClip(name, split, rows, length, **ready.note, frames_crc=crc))
            rows += length
    splits = dict.fromkeys([split for split, _ in source.names] + [line.split for line in skipped])
    index = Index(file, stamp, tuple(splits), tuple(clips), tuple(skipped))
    write_index(folder, index, source.root)
    for old in folder.glob("frames-*.f32"):
        if old.name != file:
            old.unlink()  # a reader that has it open keeps it
    return index


def _check_room(folder: Path, source: Source, quiet: bool) -> None:
    """Says what will be built; an error where the disk cannot hold it."""
    estimate = sum(source.frames(split, name) or 0 for split, name in source.names) * source.row_bytes
    free = shutil.disk_usage(folder).free
    if not quiet:
        size = f"about {estimate / 1e6:.0f} MB, into {folder} ({free / 1e9:.1f} GB free)"
        print(f"cache: preparing {len(source.names)} clips, {size}", file=sys.stderr)
    if estimate + SPARE_DISK > free:
        raise UserError(
            f"the cache of {source.root} needs {estimate / 1e6:.0f} MB and {SPARE_DISK / 1e6:.0f} MB to spare, "
            f"and {folder} has {free / 1e6:.0f} MB free: name another place with data.cache=DIR"
        )


def _prepare_all(source: Source, workers: int) -> Iterator[Entry]:
    """What becomes of each name, in order, with a bounded number in flight."""
    names, prepare = source.names, source.prepare
    if workers <= 1:
        yield from (prepare(split, name) for split, name in names)
        return
    tasks = deque(names[i : i + CLIPS_A_TASK] for i in range(0, len(names), CLIPS_A_TASK))
    with ProcessPoolExecutor(workers, get_context("fork"), initializer=_start_worker, initargs=(os.getpid(),)) as pool:
        running: deque = deque()
        while tasks or running:
            while tasks and len(running) < 4 * workers:
                running.append(pool.submit(_prepare_some, prepare, tasks.popleft()))
            yield from running.popleft().result()


def _prepare_some(prepare: Callable[[str, str], Entry], names: Sequence[Name]) -> list[Entry]:
    return [prepare(split, name) for split, name in names]


def _start_worker(parent: int) -> None:
    """A forked worker shares its parent's lock, and would hold it for ever once the parent is killed: so it ends when
    its parent has."""
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
