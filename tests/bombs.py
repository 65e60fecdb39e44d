"""Small files that ask for much: archives that unpack to gigabytes, sparse arrays, endless lists.

write(root, names) writes them; `python bombs.py ROOT NAME...` says what reading each takes: a process of its own has a
peak of its own."""

from __future__ import annotations

import json
import pickle
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from data_sets import GOOD, data_config, npy_bytes, npy_header

MB = 1 << 20


def endless(head: bytes, count: int) -> tuple[bytes, int, int]:
    """(deflated, its checksum, its size) of a head and `count` MB of zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = bytes(MB)
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    crc = zlib.crc32(head)
    for _ in range(count):
        crc = zlib.crc32(zeros, crc)
    return first + block * count + packer.flush(), crc, len(head) + count * MB


def archive(path: Path, members: dict[str, tuple[bytes, int, int]], entries: int = 0) -> None:
    """An npz file of deflated members, whose directory has so many more entries."""
    out, listed = b"", b""
    for key, (packed, crc, size) in members.items():
        name = f"{key}.npy".encode()
        sizes = struct.pack("<HHHIII", 8, 0, 33, crc, len(packed), size) + struct.pack("<HH", len(name), 0)
        listed += b"PK\1\2" + struct.pack("<HHH", 20, 20, 0) + sizes + struct.pack("<HHHII", 0, 0, 0, 0, len(out))
        listed += name
        out += b"PK\3\4" + struct.pack("<HH", 20, 0) + sizes + name + packed
    listed += (b"PK\1\2" + bytes(24) + struct.pack("<H", 4) + bytes(16) + b"ABCD") * entries
    count = min(len(members) + entries, 0xFFFF)
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(listed), len(out), 0)
    path.write_bytes(out + listed + b"PK\5\6" + end)


def plain(content: bytes) -> tuple[bytes, int, int]:
    return endless(content, 0)


def sparse(path: Path, head: bytes, size: int) -> None:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)


def frames(folder: Path, contents: dict[int, bytes]) -> None:
    """An OpenPose folder."""
    folder.mkdir()
    for number, content in contents.items():
        (folder / f"x_{number}_keypoints.json").write_bytes(content)


def pose_head(components: int, people: int = 1, frames: int = 1) -> bytes:
    """Of a .pose file whose components have 65,535 limbs each."""
    limbs = struct.pack("<HHHHH", 0, 0, 0, 65535, 0) + bytes(65535 * 4)
    return struct.pack("<fHHHH", 0.2, 640, 480, 0, components) + limbs * components


COCO_HEAD = struct.pack("<fHHHH", 0.2, 640, 480, 0, 1) + b"\4\0BODY\3\0XYC" + struct.pack("<HHH", 133, 0, 0)
COCO_HEAD += b"\4\0nose" * 133
GOOD_NPY = npy_bytes(GOOD["a"])
# Layout, how the file is written, and what the reason begins with.
BOMBS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "1 GB of uint8": (
        "npz",
        lambda path: archive(path, {"poses": endless(npy_header("(2688000, 133, 3)", "'|u1'"), 1023)}),
        "too large: ",
    ),
    "a mask of half a billion": (
        "npz",
        lambda path: archive(
            path, {"poses": plain(GOOD_NPY), "mask": endless(npy_header("(536870912,)", "'|b1'"), 512)}
        ),
        "too large: ",
    ),
    "a mask as long as may be": (
        "npz",
        lambda path: archive(path, {"poses": plain(GOOD_NPY), "mask": endless(npy_header("(67108864,)", "'|b1'"), 64)}),
        "mask [67108864]: ",
    ),
    "frame rates without end": (
        "npz",
        lambda path: archive(path, {"poses": plain(GOOD_NPY), "fps": endless(npy_header("(33554432,)", "'<f8'"), 256)}),
        "fps [33554432]: ",
    ),
    "poses before half a GB": (
        "npz",
        lambda path: archive(path, {"poses": endless(GOOD_NPY, 512)}),
        "`poses`: 536890192 bytes, its shape needs 19280",
    ),
    "an archive of a million names": ("npz", lambda path: archive(path, {}, 1_000_000), "too large: its list"),
    "a sparse GB": (
        "csl_daily",
        lambda path: sparse(path, npy_header("(672000, 133, 3)"), 1 << 30),
        "too large: ",
    ),
    "a sparse GB of float64": (
        "csl_daily",
        lambda path: sparse(path, npy_header("(336000, 133, 3)", "'<f8'"), 1 << 30),
        "too large: ",
    ),
    "a frame a second": (
        "csl_daily",
        lambda path: path.write_bytes(npy_header("(6000, 133, 3)", "'<f4'", GOOD_NPY[128:] * 500)),
        "too long: 6000 frames at 1 a second are 180000 at 30; ",
    ),
    "sixty million limbs": ("pose", lambda path: path.write_bytes(pose_head(100)), "not a whole .pose file (it lists"),
    "a .pose file of a sparse GB": (
        "pose",
        lambda path: sparse(path, COCO_HEAD + struct.pack("<fIH", 25, 670_000, 1), 1 << 30),
        "too large: 670000 frames",
    ),
    "four billion frames": (
        "pose",
        lambda path: path.write_bytes(COCO_HEAD + struct.pack("<fIH", 25, 2**32 - 1, 1) + bytes(MB)),
        "not a whole .pose file (6854767802820 bytes are promised",
    ),
    "a frame number without end": ("openpose", lambda path: frames(path, {0: b"{}", 10**17: b"{}"}), "too long: "),
    "a frame of a megabyte": ("openpose", lambda path: frames(path, {0: b"[" + bytes(MB)}), "too large: "),
    "a million people": (
        "openpose",
        lambda path: frames(path, {0: b'{"people":[' + b"{}," * 340_000 + b"{}]}"}),
        "too large: 340001 people",
    ),
    "one array again and again": (
        "rtmpose",
        lambda path: path.write_bytes(pickle.dumps(dict.fromkeys(("keypoints", "scores"), [GOOD["a"]] * 240_000))),
        "`keypoints`: a frame of shape [12, 133, 3]",
    ),
    "a day of 75 joints": (
        "mediapipe75",
        lambda path: sparse(path, npy_header("(2592000, 75, 3)", "'<f4'"), 2592000 * 900 + 200),
        "too large: ",
    ),
}
FOLDERS = {
    "csl_daily": "csl/frames_512x512",
    "npz": "npz/processed/train",
    "pose": "pose/train",
    "openpose": "openpose/train",
    "rtmpose": "rtmpose/train",
    "mediapipe75": "mediapipe75/train",
}
ENDINGS = {
    "csl_daily": ".npy",
    "npz": ".npz",
    "pose": ".pose",
    "openpose": "",
    "rtmpose": ".pkl",
    "mediapipe75": ".npy",
}


def write(root: Path, names: list[str]) -> None:
    for folder in FOLDERS.values():
        (root / folder).mkdir(parents=True)
    notes = {name: {"fps": 1 if name == "a frame a second" else 30} for name in names}
    (root / "csl" / "annotations.json").write_text(json.dumps(notes))
    (root / "csl" / "split_files.json").write_text('{"train": []}')
    for name in names:
        layout, write_file, _ = BOMBS[name]
        write_file(root / FOLDERS[layout] / f"{name}{ENDINGS[layout]}")


def read(root: Path, names: list[str]) -> None:
    """Prints {name: [reason, MB by which the peak grew, seconds]}."""
    from signstream.data.cache import prepare_clip
    from signstream.data.conversion import LAYOUTS
    from signstream.data.datasets import skeleton_of

    sources = {layout: kind(data_config(root / FOLDERS[layout].split("/")[0])) for layout, kind in LAYOUTS.items()}
    skeleton = skeleton_of(sources["npz"].data)
    results = {}
    for name in names:
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        source = sources[BOMBS[name][0]]
        source.frames("train", name)
        entry = prepare_clip("train", name, data_set=source, skeleton=skeleton)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        results[name] = [entry.reason, grown, time.perf_counter() - began]
    print(json.dumps(results))


if __name__ == "__main__":
    read(Path(sys.argv[1]), sys.argv[2:])
