"""What a picture network says of each clip, beside its poses: an npy file a clip, rows evenly spread over it
(features.py writes them).

    visual = Visual.open(config.data)                  <data.root>/<data.visual>/<split>/<name>.npy, [V, W] each
    visual.rows(split, name) -> [V, W] float32
    moments(V, track, whole=T)                         which rows belong to what is read of a clip of T steps
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from signstream.config import Poses
from signstream.data.datasets import PoseData, open_data
from signstream.errors import UserError
from signstream.io.pose_files import Shape, npy_shape, read_npy

MOST_ROWS, WIDEST = 10_000, 1 << 14


class Visual:
    def __init__(self, source: PoseData, folder: Path) -> None:
        self.source, self.folder = source, folder
        self.within = Path(os.path.realpath(folder))  # links may not lead out of it
        self.shape: tuple[int, ...] = ()  # [V, W] of all
        self.digests: dict[Path, bytes] = {}  # of the files that were looked at: they are gigabytes

    @classmethod
    def open(cls, data: Poses, folder: str) -> Visual:
        source = open_data(data)
        path = source.root / folder
        if not path.is_dir():
            raise UserError(
                f"data.visual: there is no folder {path}; `python -m signstream.data.features` writes one, and "
                "data.visual=null does without"
            )
        return cls(source, path)

    def path(self, split: str, name: str) -> Path:
        return self.folder / self.source.split_folder(split) / f"{name}.npy"

    def settle(self, split: str, names: Sequence[str]) -> None:
        """What most of these clips have is the shape of all: the first may be the one that is wrong."""
        counts = Counter(self._shapes([self.path(split, name) for name in names]))
        self.shape = counts.most_common(1)[0][0] if counts else ()

    def _shapes(self, paths: Sequence[Path]) -> Iterator[Shape]:
        for path in paths:
            try:
                shape = npy_shape(path)
                self._check(shape)
            except UserError:
                continue
            yield shape

    def rows(self, split: str, name: str) -> np.ndarray:
        """[V, W] float32; what is odd about the file is a UserError."""
        rows = read_npy(self.path(split, name), self._check, within=self.within).astype(np.float32, copy=False)
        if not np.isfinite(rows).all():
            raise UserError("not finite")
        return rows

    def fault(self, split: str, name: str) -> str | None:
        """Why a clip has no features."""
        if not self.path(split, name).is_file():
            return "no visual features"
        try:
            self._digest(split, name)
        except UserError as error:
            return f"faulty visual features: {error}"
        return None

    def digest(self, split: str, names: Sequence[str]) -> str:
        """Of the clips' files."""
        digest = hashlib.sha256()
        for name in names:
            digest.update(self._digest(split, name))
        return digest.hexdigest()

    def _digest(self, split: str, name: str) -> bytes:
        path = self.path(split, name)
        if path not in self.digests:
            self.digests[path] = hashlib.sha256(self.rows(split, name).data).digest()
        return self.digests[path]

    def _check(self, shape: Shape) -> None:
        if len(shape) != 2 or not 0 < shape[0] <= MOST_ROWS or not 0 < shape[1] <= WIDEST:
            raise UserError(f"shape {list(shape)}: [V, W] is expected")
        if self.shape and tuple(shape) != self.shape:
            raise UserError(f"shape {list(shape)}: {list(self.shape)} is expected, as of the others")


def moments(rows: int, track: np.ndarray, *, whole: float) -> np.ndarray:
    """Of V rows, evenly spread over the `whole` steps of a clip, which V are evenly spread over the steps that `track`
    [T] lists: a clip may be cut, and read at another speed."""
    if not len(track):
        return np.arange(rows)
    middles = (np.arange(rows) + 0.5) / rows * len(track) - 0.5
    # The first step begins, and the last one ends, half a step from its middle.
    speed = np.diff(track) if len(track) > 1 else np.ones(1)
    wider = [track[0] - speed[0], *track, track[-1] + speed[-1]]
    moment = np.interp(middles, np.arange(-1, len(track) + 1), wider) + 0.5  # of each, in steps of the clip
    return np.clip((moment / whole * rows).astype(np.int64), 0, rows - 1)
