""".pose files, the pose-format library's, as clips and back: COCO-WholeBody's 133 points or MediaPipe
Holistic's in, COCO-WholeBody's out.

    DotPose: <root>/{train,val,test}/<name>.pose -> Clip, poses [T, 133, 3]        write_pose(path, clip)

A point's confidence is its score; one that the file lacks scores 0. The third dimension is left out. The library writes
the bytes, and is imported where it is used; io/dot_pose_files.py reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from signstream.data.datasets import Clip
from signstream.data.estimates import Estimates
from signstream.data.holistic import COCO_COMPONENTS, Point, table_of
from signstream.errors import UserError
from signstream.io.dot_pose_files import Component, read_head, read_points
from signstream.io.pose_files import open_clip
from signstream.skeleton import COCO_WHOLEBODY, NUM_JOINTS

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


class DotPose(Estimates):
    ending = ".pose"
    shape = "<name>.pose"

    def found(self) -> dict[str, list[str]]:
        names = super().found()
        if not self.split_folders:
            raise UserError(
                f"--root {self.folder} has none of train/, val/, test/ with <name>{self.ending} in them; "
                'for files in one folder, --split-file FILE with {"train": [names], ...}'
            )
        return names

    def read(self, split: str, name: str) -> Clip:
        with open_clip(self.path(split, name), self.root) as file:
            head = read_head(file)
            known = joints_in(head.components)
            poses = read_points(file, head, known, rows=NUM_JOINTS)
        self.lacking[tuple(joint for joint in range(NUM_JOINTS) if joint not in known)] += 1
        return Clip(name, poses, fps=_shortest(head.fps), size=head.size if all(head.size) else None)


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
