"""OpenPose's JSON, a file a frame, read as files that may be anything.

    frame_files(folder) -> {number of the frame: file}          read_people(file) -> [{key: points [k, 3]}, ...]

A name ends in `_<number>_keypoints.json`. Points are x, y and score, float64, as many as there are; of what is seen of
nobody none. Whatever is wrong is a UserError whose text is a short reason, without a byte of what is in the file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from signstream.errors import UserError
from signstream.io.pose_files import open_clip

BODY, FACE, LEFT_HAND, RIGHT_HAND = (
    f"{part}_keypoints_2d" for part in ("pose", "face", "hand_left", "hand_right")
)  # fmt: skip
KEYS = (BODY, FACE, LEFT_HAND, RIGHT_HAND)
NAME = re.compile(r".*_(\d{1,18})_keypoints\.json", re.ASCII | re.DOTALL)
LARGEST_FRAME = 1 << 20  # bytes; a person takes 5,000
MOST_PEOPLE = 500  # of a frame


def frame_files(folder: Path) -> dict[int, Path]:
    """In the order of their numbers."""
    if not folder.is_dir():
        raise UserError("not a folder" if folder.exists() else "missing folder")
    files: dict[int, Path] = {}
    for path in folder.iterdir():
        match = NAME.fullmatch(path.name)
        if match and files.setdefault(int(match[1]), path) != path:
            raise UserError(f"two files of one frame (number {int(match[1])})")
    if not files:
        raise UserError("empty folder: no <name>_<number>_keypoints.json is in it")
    return dict(sorted(files.items()))


def read_people(path: Path, within: Path | None = None) -> list[dict[str, np.ndarray]]:
    """`within`: the folder that links may not lead out of."""
    with open_clip(path, within) as file:
        content = file.read(LARGEST_FRAME + 1)
    if len(content) > LARGEST_FRAME:
        raise UserError(f"too large: a frame of more than {LARGEST_FRAME} bytes")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise UserError("not JSON that can be read") from None
    people = value.get("people") if isinstance(value, dict) else None
    if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
        raise UserError("no list of `people`")
    if len(people) > MOST_PEOPLE:
        raise UserError(f"too large: {len(people)} people in a frame")
    return [{key: _points(person.get(key), key) for key in KEYS} for person in people]


def _points(value: Any, key: str) -> np.ndarray:
    numbers = [] if value is None else value
    if not isinstance(numbers, list) or len(numbers) % 3 or not {*map(type, numbers)} <= {int, float}:
        raise UserError(f"{key}: a list of x, y, score, x, y, score ... is expected")
    try:
        return np.array(numbers, np.float64).reshape(-1, 3)
    except OverflowError:
        raise UserError(f"{key}: a number that is too large") from None
