"""PHOENIX-2014's keypoints, once: which of COCO-WholeBody's 133 joints its 121 are, and under which key a clip's lie.

    coco_joints(keypoints [..., 121, C]) -> [..., 133, C]         phoenix_joints(poses [..., 133, C]) -> [..., 121, C]
    keypoints_key("dev", "05May_2010_Wednesday_heute_default-3")

The 121 are COCO-WholeBody's own, in its order, without legs and feet: body 0-10 (nose, eyes, ears, shoulders, elbows,
wrists; left before right), face 11-58 (iBUG's 68 without the mouth), mouth 59-78, left hand 79-99, right hand 100-120.
"Left" is the signer's own left. numpy only.
"""

from __future__ import annotations

import numpy as np

from signstream.skeleton import FACE, NUM_JOINTS, RIGHT_WRIST

COCO_JOINTS = (*range(RIGHT_WRIST + 1), *range(FACE, NUM_JOINTS))  # joint of the 121 -> joint of the 133
NUM_PHOENIX = len(COCO_JOINTS)
PHOENIX_MOUTH = slice(59, 79)
PHOENIX_LEFT_HAND, PHOENIX_RIGHT_HAND = slice(79, 100), slice(100, 121)


def coco_joints(keypoints: np.ndarray) -> np.ndarray:
    """[..., 121, C] -> [..., 133, C]; legs and feet, which these keypoints do not have, are 0."""
    poses = np.zeros((*keypoints.shape[:-2], NUM_JOINTS, keypoints.shape[-1]), keypoints.dtype)
    poses[..., COCO_JOINTS, :] = keypoints
    return poses


def phoenix_joints(poses: np.ndarray) -> np.ndarray:
    """[..., 133, C] -> [..., 121, C]."""
    return poses[..., COCO_JOINTS, :]


def keypoints_key(split: str, fileid: str) -> str:
    """The key of a clip in the keypoint pickle."""
    return f"fullFrame-210x260px/{split}/{fileid}/1/{recording_of(fileid)}"


def recording_of(fileid: str) -> str:
    """The recording that a clip was cut from."""
    return fileid.split("_default-")[0]
