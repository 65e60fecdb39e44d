"""MediaPipe's 75 joints as clips: Holistic's body, left hand and right hand, without its face.

    <root>/<split>/<name>.npy     [T, 75, 3]: x, y in shares of the picture or pixels, and depth or visibility

    MediaPipe75(data).load(split, name) -> Clip, poses [T, 133, 3]

Which joints they are is in joints75.py. The third number is a score where it says of the body what a visibility can:
nothing below 0 or above 1, and not 0 alone; MediaPipe has none for hands, so one whose are all 0 scores 1, as does
everything where the third number is depth. A joint at (0, 0) was not seen, nor is one outside of a picture whose size
is known: MediaPipe says where it thinks that legs are. Nothing writes these files: of 133 joints they hold 69.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from signstream.data.datasets import Clip
from signstream.data.estimates import Estimates
from signstream.data.joints75 import BODY_LANDMARKS, NUM_POINTS, SHARED_JOINTS, SHARED_POINTS, coco_joints
from signstream.errors import UserError
from signstream.io.pose_files import Shape, read_npy
from signstream.skeleton import NUM_JOINTS

HAND = (NUM_POINTS - len(BODY_LANDMARKS)) // 2
BODY, *HANDS = (
    slice(start, start + count)
    for start, count in ((0, len(BODY_LANDMARKS)), (len(BODY_LANDMARKS), HAND), (NUM_POINTS - HAND, HAND))
)
LACKING = tuple(joint for joint in range(NUM_JOINTS) if joint not in SHARED_JOINTS)
KNUCKLES = f"the body's own guesses of knuckles ({NUM_POINTS - len(SHARED_POINTS)} of {NUM_POINTS} points)"


class MediaPipe75(Estimates):
    ending = ".npy"
    shape = "<name>.npy"

    def read(self, split: str, name: str) -> Clip:
        points = read_npy(self.path(split, name), _check, within=self.root)
        shown = np.isfinite(points[..., :2]).all(-1) & points[..., :2].any(-1)
        visible = says_visibility(points[:, BODY, 2], shown[:, BODY])
        for part in (BODY, *HANDS):
            if not (visible and says_visibility(points[:, part, 2], shown[:, part])):
                points[:, part, 2] = 1
        points[~shown] = 0
        clip = self.clip(name, [*coco_joints(points)[:, None]])
        self.lacking[LACKING] += 1
        self.losing[KNUCKLES if visible else f"depth, and {KNUCKLES}"] += 1
        return clip if clip.size is None else replace(clip, poses=within(clip.poses, clip.size))


def _check(shape: Shape) -> None:
    if len(shape) != 3 or shape[1:] != (NUM_POINTS, 3):
        raise UserError(f"shape {list(shape)}: [T, {NUM_POINTS}, 3] is expected")


def says_visibility(third: np.ndarray, shown: np.ndarray) -> bool:
    said = third[shown]
    return bool(said.any() and ((said >= 0) & (said <= 1)).all())


def within(poses: np.ndarray, size: tuple[float, float]) -> np.ndarray:
    """The same, what lies outside of the picture missing."""
    inside = ((poses[..., :2] >= 0) & (poses[..., :2] <= size)).all(-1, keepdims=True)
    return np.where(inside, poses, np.float32(0))
