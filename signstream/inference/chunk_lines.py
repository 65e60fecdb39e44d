"""Frames in, one JSON line out as soon as a chunk is known: what the door inference/stream.py does.

writer = ChunkLines(tokenizer, fps, rle)        # prints the header
play(npy_frames(path, joints), writer)          # until the frames end, or Ctrl-C ends them
"""

from __future__ import annotations

import json
import signal
import sys
import time
from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from signstream.data.frontend import frame_rate
from signstream.errors import UserError
from signstream.inference.session import open_session
from signstream.inference.tokenizer import Chunk, Tokenizer
from signstream.io import pose_files


def stream(args: Namespace) -> None:
    """What the door was asked for: the options of inference/stream.py."""
    if args.fps is not None:
        frame_rate(args.fps, "--fps")
    if args.realtime and args.input == "-":
        raise UserError("--realtime plays a file: name it with --input")
    with open_session(args.checkpoint, overrides=args.overrides) as (tokenizer, config, _):
        joints = tokenizer.skeleton.num_joints
        frames = json_frames(sys.stdin.buffer, joints) if args.input == "-" else npy_frames(Path(args.input), joints)
        if args.realtime:
            frames = at_own_pace(frames, args.fps or config.data.fps)
        play(frames, ChunkLines(tokenizer, args.fps, config.export.enable_rle))


class BrokenFrame(UserError):
    """What came is no frame, as when a camera's program dies within a line."""


class FrameLines(ABC):
    """What frames are played to: a stream, and the lines that it gives, with the time that each took."""

    stream: Any  # push(frame) and finish() give what is final
    pushed = 0  # frames

    def push(self, frame: np.ndarray) -> None:
        self.pushed += 1
        began = time.perf_counter()
        self.write(self.stream.push(frame), _ms_since(began))

    def finish(self) -> None:
        began = time.perf_counter()
        self.write(self.stream.finish(), _ms_since(began))

    @abstractmethod
    def write(self, final: list[Any], ms: float) -> None:
        """A line for each of what took so long."""

    def behind(self, last: int) -> int:
        """Frames that came in after what has frame `last` as its own last."""
        return max(self.pushed - 1 - int(last * self.stream.front.step), 0)


def _ms_since(began: float) -> float:
    return round(1000 * (time.perf_counter() - began), 2)


class ChunkLines(FrameLines):
    """A stream that writes its chunks."""

    def __init__(self, tokenizer: Tokenizer, fps: float | None, rle: bool) -> None:
        self.parts = tokenizer.parts
        self.chunk_len = tokenizer.config.data.chunk_len
        self.rle = rle
        # The first pass of all is slow, and what no chunk can be encoded with is an error before any is read.
        warm = tokenizer.stream(fps)
        warm.push(np.zeros((self.chunk_len, tokenizer.skeleton.num_joints, 3), np.float32))
        warm.finish()
        self.stream = tokenizer.stream(fps)
        header = {
            "fps": tokenizer.config.data.fps,
            "chunk_len": self.chunk_len,
            "tokenizer": tokenizer.digest,
            "levels": dict(zip(tokenizer.parts, tokenizer.levels)),
            "codebook_size": tokenizer.config.model.rvq.codebook_size,
        }
        print_line(header)

    def write(self, final: list[Chunk], ms: float) -> None:
        for chunk in final:
            last = min((chunk.t + 1) * self.chunk_len, self.stream.frames) - 1
            entries = {
                tag: ["NC", 1] if self.rle and held else [code for code in codes if code >= 0]
                for tag, codes, held in zip(self.parts, chunk.codes.tolist(), chunk.held)
            }
            print_line({"t": chunk.t, **entries, "ms": ms, "behind_frames": self.behind(last)})


def print_line(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def npy_frames(path: Path, joints: int) -> Iterator[np.ndarray]:
    """Frame by frame from the disk; what is no array of poses is an error before the first."""
    try:
        if pose_files.npy_frames(path) is None:
            raise UserError(f"shape {list(pose_files.npy_shape(path))}")
        poses = np.load(path, mmap_mode="r", allow_pickle=False)
        if poses.shape[1] not in (joints, joints + 1) or poses.shape[2] != 3 or poses.dtype.kind not in "fiu":
            raise UserError(f"shape {list(poses.shape)} of {poses.dtype}")
    except ValueError as error:
        expected = f"[T, {joints}, 3] or, with the picture's size as first row, [T, {joints + 1}, 3] is expected"
        raise UserError(f"{path}: {error}; {expected}") from None
    return (np.array(frame[-joints:], np.float32) for frame in poses)


def json_frames(lines: BinaryIO, joints: int) -> Iterator[np.ndarray]:
    longest = 200 * joints  # bytes: a number may have 60 digits, a line without end is not read to its end
    for number, line in enumerate(iter(lambda: lines.readline(longest), b""), 1):
        try:
            frame = np.asarray(json.loads(line))
            fits = frame.shape == (joints, 3) and frame.dtype.kind in "fi"
            fault = "" if fits else f"it is {list(frame.shape)} of {frame.dtype}"
        except (ValueError, RecursionError) as error:
            fault = " ".join(str(error).split())
        if fault:
            raise BrokenFrame(f"standard input, line {number}: {fault}; a frame is {joints} lists of 3 numbers")
        with np.errstate(over="ignore"):  # beyond float32's range it is infinite, which is missing
            yield frame.astype(np.float32)


def at_own_pace(frames: Iterator[np.ndarray], fps: float) -> Iterator[np.ndarray]:
    began = time.perf_counter()
    for number, frame in enumerate(frames):
        time.sleep(max(began + number / fps - time.perf_counter(), 0))
        yield frame


class CtrlC:
    """Ends the waiting for a frame at once, and the work on one when it is done."""

    def __init__(self) -> None:
        self.working = False
        self.pressed = False

    def __call__(self, _number: int, _frame: object) -> None:
        self.pressed = True
        if not self.working:
            raise KeyboardInterrupt


def play(frames: Iterator[np.ndarray], writer: FrameLines) -> None:
    """Until the frames end, or Ctrl-C ends them."""
    ctrl_c = CtrlC()
    before = signal.signal(signal.SIGINT, ctrl_c)
    try:
        for frame in frames:
            ctrl_c.working = True
            writer.push(frame)
            ctrl_c.working = False
            if ctrl_c.pressed:
                break
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGINT, before)
    writer.finish()
