"""What pose estimators write, clip by clip: where it lies, what is known of it, and one person out of several.

    class Output(Estimates): ending = ".pkl"; read(split, name) -> Clip, poses [T, 133, 3]

    <root>/<split>/<name><ending>       or, with data.split_file, <root>/<name><ending>
    <root>/annotations.json             text, gloss, fps, size ..., as in CSL-Daily's layout, if it is there

Only signstream.data.convert reads these: training reads what it makes of them. What a file lacks of the 133 joints, and
what it has and they have no place for, is counted in clips.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from signstream.config import Poses
from signstream.data.datasets import Clip, PoseData, annotate, usable_names
from signstream.data.holistic import describe
from signstream.data.one_person import choose
from signstream.errors import UserError
from signstream.io.pose_files import LARGEST
from signstream.io.tables import read_table
from signstream.skeleton import NUM_JOINTS

TABLE = "annotations.json"
USUAL = ("train", "val", "test")
Size = tuple[float, float]  # of the picture: width, height
MOST_POSES = LARGEST // (NUM_JOINTS * 12)  # of all people of a clip
SHARES = 2.0  # where half of all x and y are smaller, their unit is no pixel but the picture
MOST_OUTSIDE = 0.25  # of x and y that are shares, below 0: shares of what is seen are not


def check_skeleton(data: Poses) -> None:
    if data.num_joints != NUM_JOINTS:
        raise UserError(
            f"data.num_joints is {data.num_joints}: "
            f"estimators' files are converted from and to COCO-WholeBody's {NUM_JOINTS} joints only"
        )


class Estimates(PoseData, ABC):
    """A data set of an estimator's files, a file or a folder a clip: a subclass reads one."""

    ending = ""
    shape = ""  # of a clip's path, for who finds none

    def __init__(self, data: Poses, size: Size | None = None) -> None:
        super().__init__(data)
        check_skeleton(data)
        self.size = size  # of all pictures of which nothing else says it
        self.lacking = Counter[tuple[int, ...]]()  # {joints: clips}
        self.losing = Counter[str]()  # {what: clips}
        self.folder = self.root / "processed" if (self.root / "processed").is_dir() else self.root
        self.split_folders = not data.split_file
        self.names = listed(Path(data.split_file)) if data.split_file else self.found()
        table = self.root / TABLE
        expected = "an object {name: {text, gloss, signer}}"
        self.notes = read_table(table, expected, within=self.root) if table.exists() else {}

    @abstractmethod
    def read(self, split: str, name: str) -> Clip:
        """The clip as its own file has it, or a ValueError whose text is the reason why there is none."""

    def splits(self) -> dict[str, list[str]]:
        return self.names

    def load(self, split: str, name: str) -> Clip:
        return annotate(self.read(split, name), self.notes.get(name))

    def path(self, split: str, name: str) -> Path:
        folder = self.root if self.data.split_file else self.folder
        return (folder / split if self.split_folders else folder) / f"{name}{self.ending}"

    def files(self, split: str, name: str) -> list[Path]:
        return [self.path(split, name)]

    def found(self) -> dict[str, list[str]]:
        """The clips of each split's folder; where there is none, those at the root are all `train`."""
        splits = [split for split in USUAL if (self.folder / split).is_dir()]
        splits += sorted(
            other.name
            for other in self.folder.glob("[!.]*")
            if other.is_dir() and other.name not in splits and self.names_in(other)
        )
        if splits:
            return {split: self.names_in(self.folder / split) for split in splits}
        self.split_folders = False
        if names := self.names_in(self.folder):
            return {"train": names}
        raise UserError(f"--root {self.folder} has no {self.shape}, nor train/, val/, test/ with such in them")

    def names_in(self, folder: Path) -> list[str]:
        ending = self.ending
        return sorted(path.name[: -len(ending)] for path in folder.iterdir() if path.name.endswith(ending))

    def lacks(self) -> list[tuple[int, str]]:
        """(clips, what their files had no point for)."""
        return [(clips, describe(joints)) for joints, clips in self.lacking.most_common() if joints]

    def loses(self) -> list[tuple[int, str]]:
        """(clips, what their files had and the 133 joints have no place for)."""
        return [(clips, what) for what, clips in self.losing.most_common() if what and clips]

    def size_of(self, name: str) -> Size | None:
        nobody = Clip(name, np.zeros((0, NUM_JOINTS, 3), np.float32), size=self.size)
        return annotate(nobody, self.notes.get(name)).size

    def clip(self, name: str, frames: Sequence[np.ndarray]) -> Clip:
        """The one who signs of T frames [n, 133, 3], in pixels or in shares of the picture."""
        size = self.size_of(name)
        counts = [len(people) for people in frames]
        if max(sum(counts), len(counts)) > MOST_POSES:
            raise UserError(f"too large: {sum(counts)} poses in {len(counts)} frames, {MOST_POSES} are possible")
        unit = np.array([*unit_of(frames, size), 1.0])
        with np.errstate(over="ignore", invalid="ignore"):  # what is too far away is missing
            people = [(poses * unit).astype(np.float32) for poses in frames]
        self.losing["other people"] += max(counts, default=0) > 1
        return Clip(name, choose(people, min_score=self.data.min_score), size=size)


def listed(path: Path) -> dict[str, list[str]]:
    """The splits of a --split-file."""
    names = read_table(path, 'an object {"train": [names], "val": [names], "test": [names]}')
    for fault in usable_names(list(names))[1]:
        raise UserError(f"--split-file {path}: the split {fault[0]!r} has an {fault[1]}")
    for split, clips in names.items():
        if not isinstance(clips, list):
            raise UserError(
                f"--split-file {path}: {split!r} is a {type(clips).__name__}: a list of clips' names is expected"
            )
    return names


def unit_of(frames: Sequence[np.ndarray], size: Size | None) -> Size:
    """In what x and y of T frames [n, 133, 3] are counted, in pixels; a thousand frames tell it of a long clip."""
    some = [poses.reshape(-1, 3).astype(np.float64) for poses in frames[:: len(frames) // 1000 + 1]]
    joints = np.concatenate([np.zeros((0, 3)), *some])
    seen = joints[(joints[:, 2] > 0) & np.isfinite(joints).all(-1), :2]
    if not len(seen) or np.median(np.abs(seen)) >= SHARES:
        return 1.0, 1.0
    if (seen < 0).mean() > MOST_OUTSIDE:
        raise UserError("places from -1 to 1: pixels, or shares of the picture from 0 to 1, are expected")
    if size is None:
        raise UserError(
            "in shares of a picture whose size is not known: give --size W H, or `size` [W, H] in annotations.json"
        )
    return size
