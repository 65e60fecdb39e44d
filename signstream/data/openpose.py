"""OpenPose's folders of JSON as clips and back.

    <root>/<split>/<name>/<name>_000000000000_keypoints.json        a file a frame; its number says when

    OpenPose(data).load(split, name) -> Clip, poses [T, 133, 3]         write_openpose(folder, clip)

Of BODY_25's 25 points all but the neck and the middle of the hips are joints of COCO-WholeBody, of COCO's 18 all but
the neck; of the face's 70 the pupils are none; the hands' 21 are the same. "Left" is the signer's own left in all of
them. A frame whose number lies between those that are there, and is not there itself, is one in which nobody is seen.
What is written has 25, 70 and 21 points a hand: the neck is the middle of the shoulders, as OpenPose learned it, the
hips' middle theirs, and pupils are missing. A joint that is not of finite numbers is missing: (0, 0, 0).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from signstream.data.datasets import Clip
from signstream.data.estimates import MOST_POSES, Estimates
from signstream.data.holistic import BODY_POINTS
from signstream.errors import UserError
from signstream.io import openpose_files as files
from signstream.skeleton import FACE, LEFT_HAND, LEFT_SHOULDER, NUM_JOINTS, RIGHT_HAND, RIGHT_SHOULDER

SIDES = ("right", "left")
UPPER = ("nose", "neck", *(f"{side}_{joint}" for side in SIDES for joint in ("shoulder", "elbow", "wrist")))
LEGS = tuple(f"{side}_{joint}" for side in SIDES for joint in ("hip", "knee", "ankle"))
HEAD = tuple(f"{side}_{joint}" for joint in ("eye", "ear") for side in SIDES)
FEET = tuple(f"{side}_{joint}" for side in SIDES[::-1] for joint in ("big_toe", "small_toe", "heel"))
COCO_18 = (*UPPER, *LEGS, *HEAD)
BODY_25 = (*UPPER, "mid_hip", *LEGS, *HEAD, *FEET)
BODIES = {len(names): names for names in (BODY_25, COCO_18)}
# {points: which of them are joints, and which}
PARTNERS = {
    count: (
        [names.index(name) for name in names if name in BODY_POINTS],
        [BODY_POINTS.index(name) for name in names if name in BODY_POINTS],
    )
    for count, names in BODIES.items()
}
FACE_POINTS, HAND_POINTS = 70, 21
HIPS = (BODY_POINTS.index("left_hip"), BODY_POINTS.index("right_hip"))
# {key: (joints, how many points the file has for them)}
PLACES = {
    files.FACE: (slice(FACE, LEFT_HAND), FACE_POINTS),
    files.LEFT_HAND: (slice(LEFT_HAND, RIGHT_HAND), HAND_POINTS),
    files.RIGHT_HAND: (slice(RIGHT_HAND, NUM_JOINTS), HAND_POINTS),
}
LONGEST_NAME = 255 - len("_000000000000_keypoints.json")  # bytes


class OpenPose(Estimates):
    shape = "<name>/<name>_000000000000_keypoints.json"

    def names_in(self, folder: Path) -> list[str]:
        return sorted(path.name for path in folder.glob("[!.]*") if path.is_dir())

    def read(self, split: str, name: str) -> Clip:
        paths = files.frame_files(self.path(split, name))
        first, last = min(paths), max(paths)
        if last - first >= MOST_POSES:
            raise UserError(f"too long: frames {first} to {last}, {MOST_POSES} are possible")
        frames = [np.zeros((0, NUM_JOINTS, 3))] * (last - first + 1)
        known, lost, left = np.zeros(NUM_JOINTS, bool), set[str](), MOST_POSES
        for number, path in paths.items():
            try:
                people = files.read_people(path, self.root)
                frames[number - first] = np.array([pose_of(person) for person in people]).reshape(-1, NUM_JOINTS, 3)
            except UserError as error:
                raise UserError(f"{error} (frame {number})") from None
            known = np.logical_or.reduce([known, *map(known_of, people)])
            lost = lost.union(*map(lost_of, people))
            left -= len(people)
            if left < 0:
                raise UserError(f"too large: more than {MOST_POSES} poses")
        clip = self.clip(name, frames)
        self.lacking[tuple(np.flatnonzero(~known).tolist())] += 1
        self.losing[", ".join(sorted(lost))] += 1
        return clip


def pose_of(person: dict[str, np.ndarray]) -> np.ndarray:
    """[133, 3] float64"""
    pose = np.zeros((NUM_JOINTS, 3))
    body = person[files.BODY]
    if len(body) not in (0, *BODIES):
        raise UserError(f"{files.BODY}: {len(body)} points, 25 (BODY_25) or 18 (COCO) are expected")
    if len(body):
        points, joints = PARTNERS[len(body)]
        pose[joints] = body[points]
    for key, (part, count) in PLACES.items():
        if len(person[key]) not in (0, count):
            raise UserError(f"{key}: {len(person[key])} points, {count} are expected")
        if len(person[key]):
            pose[part] = person[key][: part.stop - part.start]
    return pose


def known_of(person: dict[str, np.ndarray]) -> np.ndarray:
    """[133] bool: the joints for which there are points, seen or not."""
    known = np.zeros(NUM_JOINTS, bool)
    if count := len(person[files.BODY]):
        known[PARTNERS[count][1]] = True
    for key, (part, _) in PLACES.items():
        known[part] |= len(person[key]) > 0
    return known


def lost_of(person: dict[str, np.ndarray]) -> set[str]:
    """The points that are no joints."""
    body = BODIES.get(len(person[files.BODY]), ())
    return {name for name in body if name not in BODY_POINTS} | ({"pupils"} if len(person[files.FACE]) else set())


def write_openpose(folder: Path, clip: Clip) -> None:
    """A file a frame; a place reads back as the same float32."""
    if len(clip.name.encode()) > LONGEST_NAME:
        raise UserError(f"the name is too long: {LONGEST_NAME} bytes are possible in this layout")
    folder.mkdir()
    for number, raw in enumerate(clip.poses.astype(np.float32)):
        pose = np.where(np.isfinite(raw).all(-1, keepdims=True), raw, np.float32(0))
        people = [_person(pose.astype("U32").astype(np.float64))] if pose.any() else []  # no digits but a float32's own
        path = folder / f"{clip.name}_{number:012d}_keypoints.json"
        path.write_text(json.dumps({"version": 1.3, "people": people}), encoding="utf-8")


def _person(pose: np.ndarray) -> dict[str, Any]:
    body = np.zeros((len(BODY_25), 3))
    points, joints = PARTNERS[len(BODY_25)]
    body[points] = pose[joints]
    body[BODY_25.index("neck")] = _middle(pose[[LEFT_SHOULDER, RIGHT_SHOULDER]])
    body[BODY_25.index("mid_hip")] = _middle(pose[[*HIPS]])
    lists = {files.BODY: body}
    for key, (part, count) in PLACES.items():
        lists[key] = np.concatenate((pose[part], np.zeros((count - (part.stop - part.start), 3))))
    return {"person_id": [-1], **{key: points.ravel().tolist() for key, points in lists.items()}}


def _middle(pair: np.ndarray) -> np.ndarray:
    return np.array([*pair[:, :2].mean(0), pair[:, 2].min()]) if (pair[:, 2] > 0).all() else np.zeros(3)
