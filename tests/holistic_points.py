"""MediaPipe Holistic's points, as its documentation names and numbers them."""

POSE_LANDMARKS = (
    "NOSE LEFT_EYE_INNER LEFT_EYE LEFT_EYE_OUTER RIGHT_EYE_INNER RIGHT_EYE RIGHT_EYE_OUTER LEFT_EAR RIGHT_EAR "
    "MOUTH_LEFT MOUTH_RIGHT LEFT_SHOULDER RIGHT_SHOULDER LEFT_ELBOW RIGHT_ELBOW LEFT_WRIST RIGHT_WRIST LEFT_PINKY "
    "RIGHT_PINKY LEFT_INDEX RIGHT_INDEX LEFT_THUMB RIGHT_THUMB LEFT_HIP RIGHT_HIP LEFT_KNEE RIGHT_KNEE LEFT_ANKLE "
    "RIGHT_ANKLE LEFT_HEEL RIGHT_HEEL LEFT_FOOT_INDEX RIGHT_FOOT_INDEX"
)
HAND_LANDMARKS = (
    "WRIST THUMB_CMC THUMB_MCP THUMB_IP THUMB_TIP INDEX_FINGER_MCP INDEX_FINGER_PIP INDEX_FINGER_DIP INDEX_FINGER_TIP "
    "MIDDLE_FINGER_MCP MIDDLE_FINGER_PIP MIDDLE_FINGER_DIP MIDDLE_FINGER_TIP RING_FINGER_MCP RING_FINGER_PIP "
    "RING_FINGER_DIP RING_FINGER_TIP PINKY_MCP PINKY_PIP PINKY_DIP PINKY_TIP"
)
HOLISTIC_COMPONENTS = {
    "POSE_LANDMARKS": POSE_LANDMARKS.split(),
    "FACE_LANDMARKS": [str(i) for i in range(468)],
    "LEFT_HAND_LANDMARKS": HAND_LANDMARKS.split(),
    "RIGHT_HAND_LANDMARKS": HAND_LANDMARKS.split(),
    "POSE_WORLD_LANDMARKS": POSE_LANDMARKS.split(),
}
# Vertices of the face mesh that mirror each other, the signer's right first.
MESH_PAIRS = tuple(
    zip(
        (
            127,
            234,
            93,
            132,
            58,
            136,
            150,
            176,
            70,
            63,
            105,
            66,
            107,
            98,
            97,
            33,
            160,
            158,
            133,
            153,
            144,
            61,
            40,
            37,
            84,
            91,
            78,
            82,
            87,
        ),
        (
            356,
            454,
            323,
            361,
            288,
            365,
            379,
            400,
            300,
            293,
            334,
            296,
            336,
            327,
            326,
            263,
            387,
            385,
            362,
            380,
            373,
            291,
            270,
            267,
            314,
            321,
            308,
            312,
            317,
        ),
    )
)
# And those on the middle line, which mirror themselves.
MESH_MIDDLE = (152, 168, 197, 5, 1, 2, 0, 17, 13, 14)
