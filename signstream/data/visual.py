"""What a picture network says of each clip, beside its poses: an npy file a clip, rows evenly spread over it
(features.py writes them).

    visual = Visual.open(config.data)                  <data.root>/<data.visual>/<split>/<name>.npy, [V, W] each
    visual.rows(split, name) -> [V, W] float32
    moments(V, track, whole=T)                         which rows belong to what is read of a clip of T steps
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from signstream.config import Poses
from signstream.data.datasets import PoseData, open_data
from signstream.errors import UserError
from signstream.io.pose_files import Shape, read_npy

MOST_ROWS, WIDEST = 10_000, 1 << 14


class Visual:
    def __init__(self, source: PoseData, folder: Path) -> None:
        self.source, self.folder = source, folder
        self.shape: tuple[int, ...] = ()  # [V, W] of the first that was read, and of all

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

    def rows(self, split: str, name: str) -> np.ndarray:
        """[V, W] float32; what is odd about the file is a UserError."""
        rows = read_npy(self.path(split, name), self._check).astype(np.float32)
        if not np.isfinite(rows).all():
            raise UserError("visual features: not finite")
        return rows

    def fault(self, split: str, name: str) -> str | None:
        """Why a clip has no features."""
        if not self.path(split, name).is_file():
            return "no visual features"
        try:
            self.rows(split, name)
        except UserError as error:
            return str(error)
        return None

    def digest(self, split: str, names: Sequence[str]) -> str:
        """Of the clips' files."""
        digest = hashlib.sha256()
        for name in names:
            digest.update(self.rows(split, name).data)
        return digest.hexdigest()

    def _check(self, shape: Shape) -> None:
        if len(shape) != 2 or not 0 < shape[0] <= MOST_ROWS or not 0 < shape[1] <= WIDEST:
            raise UserError(f"visual features: shape {list(shape)}: [V, W] is expected")
        self.shape = self.shape or tuple(shape)
        if tuple(shape) != self.shape:
            raise UserError(f"visual features: shape {list(shape)}: {list(self.shape)} is expected, as of the others")


def moments(rows: int, track: np.ndarray, *, whole: float) -> np.ndarray:
    """Of V rows, evenly spread over the `whole` steps of a clip, which V are evenly spread over the steps that `track`
    [T] lists: a clip may be cut, and read at another speed."""
    if not len(track):
        return np.arange(rows)
    middles = (np.arange(rows) + 0.5) / rows * len(track) - 0.5
    moment = np.interp(middles, np.arange(len(track)), track) + 0.5  # of each, in steps of the clip
    return np.clip((moment / whole * rows).astype(np.int64), 0, rows - 1)
