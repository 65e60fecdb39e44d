"""Tiny data sets on disk, in the CSL-Daily and npz layouts, and what a cache makes of them."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from clips import moving_clip
from signstream.config import Data, from_dict
from signstream.data.cache import open_cache
from signstream.data.synthetic.dataset import make_dataset
from signstream.io.pose_cache import PoseCache


def whole_clip(frames: int = 12, seed: int = 0) -> np.ndarray:
    """[T, 133, 3] float32 of whole pixels and scores 1: every number type holds it exactly."""
    poses = moving_clip(frames, seed).round()
    poses[..., 2] = 1
    return poses


def with_size(poses: np.ndarray, size: tuple[int, int] = (512, 512)) -> np.ndarray:
    """[T, 134, 3]: the picture's size as row 0."""
    return np.concatenate((np.full((len(poses), 1, 3), (*size, 1), poses.dtype), poses), 1)


def note(poses: np.ndarray, **more: object) -> dict:
    return {"text": "你好", "gloss": "HELLO", "num_frames": len(poses), "signer": 3, **more}


def write_csl(root: Path, clips: dict[str, np.ndarray], splits: dict | None = None, notes: dict | None = None) -> Path:
    """A CSL-Daily root of `clips`, all in train unless `splits` says otherwise; `notes` adds
    or replaces annotations."""
    (root / "frames_512x512").mkdir(parents=True, exist_ok=True)
    for name, poses in clips.items():
        np.save(root / "frames_512x512" / f"{name}.npy", poses)
    annotations = {name: note(poses) for name, poses in clips.items()} | (notes or {})
    (root / "annotations.json").write_text(json.dumps(annotations), encoding="utf-8")
    (root / "split_files.json").write_text(
        json.dumps({"train": list(clips)} if splits is None else splits), encoding="utf-8"
    )
    return root


def write_npz(root: Path, clips: dict[str, dict], split: str = "train") -> Path:
    (root / "processed" / split).mkdir(parents=True, exist_ok=True)
    for name, arrays in clips.items():
        np.savez(root / "processed" / split / f"{name}.npz", **arrays)
    return root


def data_config(root: Path, **options: object) -> Data:
    """The data section for a root, with a cache beside it."""
    return from_dict({"data": {"root": str(root), "cache": str(root.parent / "cache"), **options}}).data


def cache_of(root: Path, workers: int = 1, **options: object) -> PoseCache:
    """Built by so many processes: as many as there are threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(workers)
    try:
        return open_cache(data_config(root, **options), quiet=True)
    finally:
        torch.set_num_threads(threads)


def content(cache: PoseCache) -> dict[tuple[str, str], tuple]:
    """{(split, name): (all that the index says but the place in the memory map, the frames' bytes)}."""
    return {
        (clip.split, clip.name): (replace(clip, start=0), cache.frames(i).tobytes())
        for i, clip in enumerate(cache.clips)
    }


def reasons(cache: PoseCache) -> dict[str, str]:
    """{name: reason} of the clips left out; a name may be left out once."""
    assert len({line.name for line in cache.skipped}) == len(cache.skipped)
    return {line.name: line.reason for line in cache.skipped}


def npy_header(shape: str, descr: str = "'<f4'", payload: bytes = b"") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode("latin1")
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + payload


def npy_bytes(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


GOOD = {"a": whole_clip(12, 1), "b": whole_clip(9, 2)}
GOOD_FILE = npy_bytes(GOOD["a"])
TINY = {
    "num_joints": 4,
    "body_parts": {"body": [1, 4]},
    "centers": {"body": 1},
    "unit_joints": [[2, 3]],
    "augment": {"mirror": False},
}
FORMS = {
    "rows 134": with_size,
    "float16": lambda p: p.astype(np.float16),
    "float64": lambda p: p.astype(np.float64),
    "integers": lambda p: p.astype(np.int32),
    "unsigned": lambda p: with_size(p).astype(np.uint16),
    "big-endian": lambda p: p.astype(">f4"),
    "big-endian float16, 134 rows": lambda p: with_size(p).astype(">f2"),
    "Fortran order": np.asfortranarray,
    "Fortran order, float64, 134 rows": lambda p: np.asfortranarray(with_size(p).astype(np.float64)),
}


def signer_root(folder: Path, clips: int = 24, splits: dict | None = None, frames: int | None = None) -> Path:
    """A data root of the synthetic signer; `splits` {split: (first, last)} says which clips are in a
    split instead of its own; of each clip the first so many `frames`, where that is enough."""
    root = make_dataset(folder / "data", clips, seed=1, signers=3, glosses=30)
    if frames is not None:
        cut_clips(root, frames)
    if splits is not None:
        names = sorted(path.stem for path in (root / "frames_512x512").glob("*.npy"))
        (root / "split_files.json").write_text(
            json.dumps({split: names[a:b] for split, (a, b) in splits.items()}), encoding="utf-8"
        )
    return root


def cut_clips(root: Path, frames: int) -> None:
    """Every clip of a CSL-Daily root to its first frames, and what its annotation says of them."""
    notes = json.loads((root / "annotations.json").read_text(encoding="utf-8"))
    for name, note in notes.items():
        path = root / "frames_512x512" / f"{name}.npy"
        poses = np.load(path)[:frames]
        np.save(path, poses)
        segments = [
            [start, min(end, len(poses)), gloss] for start, end, gloss in note["segments"] if start < len(poses)
        ]
        note.update(num_frames=len(poses), segments=segments)
    (root / "annotations.json").write_text(json.dumps(notes), encoding="utf-8")
