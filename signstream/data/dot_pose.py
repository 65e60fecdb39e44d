""".pose files, the pose-format library's, as clips and back: COCO-WholeBody's 133 points or MediaPipe
Holistic's in, COCO-WholeBody's out.

    DotPose: <root>/{train,val,test}/<name>.pose -> Clip, poses [T, 133, 3]        write_pose(path, clip)

A point's confidence is its score; one that the file lacks scores 0. The third dimension is left out. Only
signstream.data.convert reads these: training reads what it makes of them. The library writes the bytes, and is imported
where it is used; io/dot_pose_files.py reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from signstream.config import Poses
from signstream.data.datasets import Clip, PoseData, usable_names
from signstream.data.holistic import COCO_COMPONENTS, Point, describe, table_of
from signstream.errors import UserError
from signstream.io.dot_pose_files import Component, read_head, read_points
from signstream.io.pose_files import open_clip
from signstream.io.tables import read_table
from signstream.skeleton import COCO_WHOLEBODY, NUM_JOINTS

ENDING = ".pose"
COLOURS = {
    "BODY": (135, 148, 161),
    "FACE": (0, 158, 115),
    "LEFT_HAND": (0, 114, 178),
    "RIGHT_HAND": (213, 94, 0),
}  # for the library's own pictures


class Library(NamedTuple):
    """What is used of pose-format."""

    pose: Any
    header: Any
    component: Any
    dimensions: Any
    body: Any


def open_library() -> Library:
    try:
        from pose_format import Pose, PoseHeader
        from pose_format.numpy import NumPyPoseBody
        from pose_format.pose_header import PoseHeaderComponent, PoseHeaderDimensions
    except ImportError:
        raise UserError(".pose files need the package pose-format (pip install pose-format)") from None
    return Library(Pose, PoseHeader, PoseHeaderComponent, PoseHeaderDimensions, NumPyPoseBody)


def check_skeleton(data: Poses) -> None:
    if data.num_joints != NUM_JOINTS:
        raise UserError(
            f"data.num_joints is {data.num_joints}: "
            f".pose files are converted from and to COCO-WholeBody's {NUM_JOINTS} joints only"
        )


class DotPose(PoseData):
    """Split folders of .pose files, under processed/ or at the root; with `data.split_file`, one
    folder and a list of names a split.

    `lacking` counts, over the clips that were loaded, the joints for which a file has no point: {joints: clips}."""

    def __init__(self, data: Poses) -> None:
        super().__init__(data)
        check_skeleton(data)
        self.lacking = Counter[tuple[int, ...]]()
        self.folder = self.root / "processed" if (self.root / "processed").is_dir() else self.root
        self.names = _listed(Path(data.split_file)) if data.split_file else _folders(self.folder)

    def splits(self) -> dict[str, list[str]]:
        return self.names

    def path(self, split: str, name: str) -> Path:
        return (self.root if self.data.split_file else self.folder / split) / f"{name}{ENDING}"

    def files(self, split: str, name: str) -> list[Path]:
        return [self.path(split, name)]

    def load(self, split: str, name: str) -> Clip:
        with open_clip(self.path(split, name), self.root) as file:
            head = read_head(file)
            known = joints_in(head.components)
            poses = read_points(file, head, known, rows=NUM_JOINTS)
        self.lacking[tuple(joint for joint in range(NUM_JOINTS) if joint not in known)] += 1
        return Clip(name, poses, fps=_shortest(head.fps), size=head.size if all(head.size) else None)

    def lacks(self) -> list[tuple[int, str]]:
        """(clips, what their files had no point for)."""
        return [(clips, describe(joints)) for joints, clips in self.lacking.most_common() if joints]


def _folders(folder: Path) -> dict[str, list[str]]:
    splits = [split for split in ("train", "val", "test") if (folder / split).is_dir()]
    splits += sorted(
        other.name
        for other in folder.glob("*")
        if other.is_dir() and other.name not in splits and any(other.glob(f"*{ENDING}"))
    )
    if not splits:
        raise UserError(
            f"--root {folder} has none of train/, val/, test/ with <name>{ENDING} in them; "
            'for files in one folder, --split-file FILE with {"train": [names], ...}'
        )
    return {
        split: sorted(path.name[: -len(ENDING)] for path in (folder / split).iterdir() if path.name.endswith(ENDING))
        for split in splits
    }


def _listed(path: Path) -> dict[str, list[str]]:
    names = read_table(path, 'an object {"train": [names], "val": [names], "test": [names]}')
    for fault in usable_names(list(names))[1]:
        raise UserError(f"--split-file {path}: the split {fault[0]!r} has an {fault[1]}")
    for split, listed in names.items():
        if not isinstance(listed, list):
            raise UserError(
                f"--split-file {path}: {split!r} is a {type(listed).__name__}: a list of clips' names is expected"
            )
    return names


def joints_in(components: Sequence[Component]) -> dict[int, int]:
    """{joint: the column of its point}, or the reason why these components are no skeleton's."""
    for component in components:
        if component.form[:2] != "XY" or component.form[-1] != "C":
            raise UserError(f"format {component.form[:20]!r} of {component.name[:40]!r}: XY..C is expected")
    # With the suffix it is AlphaPose's name for the same points.
    names = [component.name.removesuffix("_133") for component in components]
    table = table_of(tuple(names))
    column = _columns(names, [component.points for component in components])
    return {joint: column[point] for joint, point in enumerate(table) if point in column}


def _columns(names: list[str], points: list[tuple[str, ...]]) -> dict[Point, int]:
    """Where each of a file's points stands."""
    flat = [(name, point) for name, listed in zip(names, points) for point in listed]
    return {point: column for column, point in reversed(list(enumerate(flat)))}


def _shortest(fps: float) -> float:
    """A file's float32 as the number that somebody wrote: 23.976, not 23.97599983."""
    return float(str(np.float32(fps)))


def write_pose(path: Path, clip: Clip) -> None:
    """[T, 133, 3] as the components BODY, FACE, LEFT_HAND and RIGHT_HAND, by which pose-format knows COCO-WholeBody."""
    library = open_library()
    components = []
    start = 0
    for name, points in COCO_COMPONENTS.items():
        stop = start + len(points)
        limbs = [(a - start, b - start) for a, b in COCO_WHOLEBODY.bones if start <= min(a, b) and max(a, b) < stop]
        components.append(library.component(name, list(points), limbs, [COLOURS[name]] * len(limbs), "XYC"))
        start = stop
    width, height = clip.size or (0, 0)
    poses = clip.poses[:, None]
    body = library.body(fps=clip.fps or 0.0, data=poses[..., :2], confidence=poses[..., 2])
    with path.open("wb") as file:
        library.pose(library.header(0.2, library.dimensions(width, height), components), body).write(file)
