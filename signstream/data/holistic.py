"""COCO-WholeBody's 133 points by the names that .pose files give them, and which of MediaPipe
Holistic's points stands for each.

Both tables are [133] of (component, point). COCO has the names under which .pose files hold COCO-WholeBody;
HOLISTIC has None where MediaPipe has no such point: the small toes. "Left" is the signer's own left in both.
Two things are near rather than equal: MediaPipe's foot index stands for the big toe, and the face's 68 points
are the vertices of the face mesh nearest to iBUG's 68: the jaw in nearly equal steps along the mesh's
outline, brows, lids and lips on their contours. Points go by name, since a file may hold only some of
Holistic's: the face's contours without the nose, say.
"""

from __future__ import annotations

from signstream.errors import UserError

Point = tuple[str, str]  # component, point

BODY_POINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
    "left_big_toe",
    "left_small_toe",
    "left_heel",
    "right_big_toe",
    "right_small_toe",
    "right_heel",
)
COCO_COMPONENTS: dict[str, tuple[str, ...]] = {
    "BODY": BODY_POINTS,
    "FACE": tuple(f"face-{i}" for i in range(68)),
    "LEFT_HAND": tuple(f"hand_{i}" for i in range(21)),
    "RIGHT_HAND": tuple(f"hand_{i}" for i in range(21)),
}
COCO: tuple[Point, ...] = tuple((component, point) for component, points in COCO_COMPONENTS.items() for point in points)

FACE_MESH = (
    *(
        127,
        234,
        93,
        132,
        58,
        136,
        150,
        176,
        152,
        400,
        379,
        365,
        288,
        361,
        323,
        454,
        356,
    ),  # jaw, from the signer's right
    *(70, 63, 105, 66, 107),  # right brow, outer end first
    *(336, 296, 334, 293, 300),  # left brow, inner end first
    *(168, 197, 5, 1),  # bridge of the nose, down to its tip
    *(98, 97, 2, 326, 327),  # under the nose, from the right
    *(33, 160, 158, 133, 153, 144),  # right eye: outer corner, upper lid, inner corner, lower lid
    *(362, 385, 387, 263, 373, 380),  # left eye: inner corner, upper lid, outer corner, lower lid
    *(61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91),  # outer lips: right corner, upper, left corner, lower
    *(78, 82, 13, 312, 308, 317, 14, 87),  # inner lips, the same way round
)
FINGERS = ("INDEX_FINGER", "MIDDLE_FINGER", "RING_FINGER", "PINKY")
HAND_LANDMARKS = (
    "WRIST",
    "THUMB_CMC",
    "THUMB_MCP",
    "THUMB_IP",
    "THUMB_TIP",
    *(f"{finger}_{joint}" for finger in FINGERS for joint in ("MCP", "PIP", "DIP", "TIP")),
)


def _landmark(point: str) -> Point | None:
    """Holistic's landmark for one of BODY_POINTS."""
    if point.endswith("small_toe"):
        return None
    return "POSE_LANDMARKS", point.replace("big_toe", "foot_index").upper()


HOLISTIC: tuple[Point | None, ...] = (
    *(_landmark(point) for point in BODY_POINTS),
    *(("FACE_LANDMARKS", str(vertex)) for vertex in FACE_MESH),
    *(("LEFT_HAND_LANDMARKS", landmark) for landmark in HAND_LANDMARKS),
    *(("RIGHT_HAND_LANDMARKS", landmark) for landmark in HAND_LANDMARKS),
)


def table_of(components: tuple[str, ...]) -> tuple[Point | None, ...]:
    """The table that a file's components ask for, or a ValueError that says what it holds instead."""
    for table in (HOLISTIC, COCO):
        if {point[0] for point in table if point} & set(components):
            return table
    raise UserError(f"components {', '.join(components)[:80]}: MediaPipe Holistic's or COCO-WholeBody's are expected")


def describe(joints: tuple[int, ...]) -> str:
    """Joints, counted from 0, by name; of a component that lacks many only how many."""
    words = []
    for component, points in COCO_COMPONENTS.items():
        lacking = [COCO[joint][1] for joint in joints if COCO[joint][0] == component]
        if lacking:
            words.append(
                f"{component} " + (", ".join(lacking) if len(lacking) <= 9 else f"({len(lacking)} of {len(points)})")
            )
    return "; ".join(words)
