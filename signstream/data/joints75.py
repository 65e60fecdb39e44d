"""PHOENIX-2014-T's 75 keypoints, once: which of COCO-WholeBody's 133 joints they are.

    coco_joints(points [..., 75, C]) -> [..., 133, C]         points_of(poses [..., 133, C]) -> [..., 75, C]

The 75 are MediaPipe Holistic's without its face mesh: body 0-32, left hand 33-53, right hand 54-74; "left" is the
signer's own left, as in COCO. 63 have a partner by holistic.py's names, and the body's corners of eyes and mouth have
one in the face's 68 points. The body's own guesses of three knuckles a hand have none, as the hands say them better; of
the 133, the other 62 points of the face and the small toes have none. What has no partner is 0 in all of its channels,
the score among them, which says that it is missing. numpy only.
"""

from __future__ import annotations

import numpy as np

from signstream.data.holistic import HAND_LANDMARKS, HOLISTIC
from signstream.skeleton import FACE, LEFT_EYE_CORNERS, NUM_JOINTS, RIGHT_EYE_CORNERS

BODY_LANDMARKS = (
    "NOSE",
    *(f"{side}_EYE{place}" for side in ("LEFT", "RIGHT") for place in ("_INNER", "", "_OUTER")),
    *("LEFT_EAR", "RIGHT_EAR", "MOUTH_LEFT", "MOUTH_RIGHT"),
    *(
        f"{side}_{joint}"
        for joint in ("SHOULDER", "ELBOW", "WRIST", "PINKY", "INDEX", "THUMB")
        for side in ("LEFT", "RIGHT")
    ),
    *(
        f"{side}_{joint}"
        for joint in ("HIP", "KNEE", "ANKLE", "HEEL", "FOOT_INDEX")
        for side in ("LEFT", "RIGHT")
    ),
)  # fmt: skip
POINTS = (
    *(("POSE_LANDMARKS", landmark) for landmark in BODY_LANDMARKS),
    *(("LEFT_HAND_LANDMARKS", landmark) for landmark in HAND_LANDMARKS),
    *(("RIGHT_HAND_LANDMARKS", landmark) for landmark in HAND_LANDMARKS),
)
NUM_POINTS = len(POINTS)
LEFT_SHOULDER, RIGHT_SHOULDER = BODY_LANDMARKS.index("LEFT_SHOULDER"), BODY_LANDMARKS.index("RIGHT_SHOULDER")
LEFT_HIP, RIGHT_HIP = BODY_LANDMARKS.index("LEFT_HIP"), BODY_LANDMARKS.index("RIGHT_HIP")
# Of the face's 68 points.
CORNERS = {
    "RIGHT_EYE_OUTER": RIGHT_EYE_CORNERS[0],
    "RIGHT_EYE_INNER": RIGHT_EYE_CORNERS[1],
    "LEFT_EYE_INNER": LEFT_EYE_CORNERS[0],
    "LEFT_EYE_OUTER": LEFT_EYE_CORNERS[1],
    "MOUTH_RIGHT": FACE + 48,
    "MOUTH_LEFT": FACE + 54,
}
# {point of the 75: joint of the 133}
PARTNERS = {
    number: CORNERS[point[1]] if point[1] in CORNERS else HOLISTIC.index(point)
    for number, point in enumerate(POINTS)
    if point[1] in CORNERS or point in HOLISTIC
}
SHARED_POINTS, SHARED_JOINTS = tuple(PARTNERS), tuple(PARTNERS.values())


def coco_joints(points: np.ndarray) -> np.ndarray:
    """[..., 75, C] -> [..., 133, C]"""
    poses = np.zeros((*points.shape[:-2], NUM_JOINTS, points.shape[-1]), points.dtype)
    poses[..., SHARED_JOINTS, :] = points[..., SHARED_POINTS, :]
    return poses


def points_of(poses: np.ndarray) -> np.ndarray:
    """[..., 133, C] -> [..., 75, C]"""
    points = np.zeros((*poses.shape[:-2], NUM_POINTS, poses.shape[-1]), poses.dtype)
    points[..., SHARED_POINTS, :] = poses[..., SHARED_JOINTS, :]
    return points
