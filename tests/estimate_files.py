"""Small files as OpenPose, RTMPose and MediaPipe's users write them, and how they are read."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from data_sets import data_config
from signstream.data import convert
from signstream.data.conversion import open_source
from signstream.data.datasets import Clip, load_checked

T = 6
KEYS = ("pose_keypoints_2d", "face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d")


def go(origin: str, target: str, root: Path, out: Path, *options: str) -> int:
    return convert.main(["--from", origin, "--to", target, "--root", str(root), "--out", str(out), *options])


def clip_of(root: Path, layout: str, name: str = "a", split: str = "train", **options: object) -> Clip:
    return load_checked(open_source(layout, data_config(root), **options), split, name)


def reason(root: Path, layout: str, name: str = "a", **options: object) -> str:
    with pytest.raises(ValueError) as refused:
        clip_of(root, layout, name, **options)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400
    return str(refused.value)


def numbered(start: int, count: int) -> list[float]:
    return [number for k in range(start, start + count) for number in (100 + k, 900 - k, 0.5 + k / 1000)]


def somebody(body: int = 25, face: int = 70) -> dict:
    """Point k of all lists together stands at (100 + k, 900 - k)."""
    counts = (body, face, 21, 21)
    return {key: numbered(sum(counts[:i]), count) for i, (key, count) in enumerate(zip(KEYS, counts))}


def write_frames(folder: Path, frames: dict[int, object], name: str = "video") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in frames.items():
        text = content if isinstance(content, str) else json.dumps({"version": 1.3, "people": content})
        (folder / f"{name}_{number:012d}_keypoints.json").write_text(text)


def write_pickle(path: Path, poses: np.ndarray, size: tuple[float, float] = (1, 1)) -> None:
    """[T, n, 133, 3] as Uni-Sign's extraction writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {"keypoints": [frame[..., :2] / np.array(size) for frame in poses], "scores": [*poses[..., 2]]}
    path.write_bytes(pickle.dumps(table))


def points75(third: float) -> np.ndarray:
    """[T, 75, 3]: point k at the shares k / 100, k / 200 of a picture."""
    k = np.arange(75) / 100
    return np.tile(np.stack((k, k / 2, np.full(75, third)), -1), (T, 1, 1))
