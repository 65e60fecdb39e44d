"""RTMPose's pickles, as Uni-Sign keeps them, as clips and back.

    <root>/<split>/<name>.pkl     {"keypoints": T of [n, 133, 2], "scores": T of [n, 133]}, n people a frame

    RTMPose(data).load(split, name) -> Clip, poses [T, 133, 3]         write_rtmpose(path, clip)

The joints are COCO-WholeBody's. Places are shares of the picture, as Uni-Sign's are, or pixels; a list of arrays is
read, or one array. Written are shares in float64, which read back as the same float32, or pixels where the picture's
size is not known. Nothing in a pickle is run (io/pickles.py).
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from signstream.data.datasets import Clip
from signstream.data.estimates import MOST_POSES, Estimates
from signstream.errors import UserError
from signstream.io.pickle_machine import Array
from signstream.io.pickles import Pickled, read_pickle
from signstream.io.pose_files import Shape
from signstream.skeleton import NUM_JOINTS

JOINTS: dict[str, Shape] = {"keypoints": (NUM_JOINTS, 2), "scores": (NUM_JOINTS,)}  # of one person in one frame


class RTMPose(Estimates):
    ending = ".pkl"
    shape = "<name>.pkl"

    def read(self, split: str, name: str) -> Clip:
        pickled = read_pickle(self.path(split, name), self.root)
        if not isinstance(pickled.value, dict) or not {*JOINTS} <= {*pickled.value}:
            raise UserError("no table of `keypoints` and `scores`")
        places, scores = (frames_of(pickled, key) for key in JOINTS)
        if [len(people) for people in places] != [len(people) for people in scores]:
            raise UserError("`keypoints` and `scores` of other frames or people")
        return self.clip(name, [np.concatenate((xy, score[..., None]), -1) for xy, score in zip(places, scores)])


def frames_of(pickled: Pickled, key: str) -> list[np.ndarray]:
    """T of [n, *joints]; one person need not be an axis."""
    value, joints = pickled.value[key], JOINTS[key]
    if isinstance(value, Array):
        _check(key, value.shape[1:], joints)
        frames = list(pickled.array(value))
    elif isinstance(value, list) and all(isinstance(entry, Array) for entry in value):
        for entry in value:
            _check(key, entry.shape, joints)
        poses = sum(entry.shape[0] if len(entry.shape) > len(joints) else 1 for entry in value)
        if poses > MOST_POSES:
            raise UserError(f"too large: {poses} poses, {MOST_POSES} are possible")
        once = {entry.start: pickled.array(entry) for entry in {entry.start: entry for entry in value}.values()}
        frames = [once[entry.start] for entry in value]
    else:
        raise UserError(f"`{key}`: arrays of numbers are expected")
    return [frame.reshape(-1, *joints) for frame in frames]


def _check(key: str, shape: Shape, joints: Shape) -> None:
    if len(shape) > len(joints) + 1 or shape[-len(joints) :] != joints:
        raise UserError(f"`{key}`: a frame of shape {list(shape)}: [people, {', '.join(map(str, joints))}] is expected")


def write_rtmpose(path: Path, clip: Clip) -> None:
    places = clip.poses[:, None, :, :2]
    if clip.size is not None:
        places = places / np.array(clip.size, np.float64)
    with path.open("wb") as file:
        pickle.dump({"keypoints": [*places], "scores": [*clip.poses[:, None, :, 2]]}, file, protocol=4)
