"""Live: frames in, one JSON line out as soon as a chunk is known.

    python -m signstream.inference.stream --checkpoint checkpoints/quickstart --input clip.npy [--realtime] [--fps 25]
    camera | python -m signstream.inference.stream --checkpoint PATH --input -

`-` is standard input, one frame a line: 133 lists of x px, y px and score. The first line out is a header, then come rows as in a token file,
{"t": 0, "F": [12, 7], "LH": ["NC", 1], ..., "ms": 6.1, "behind_frames": 6}: the time that the chunk's last step took, and how many frames had
come in after the chunk's own. Runs are written chunk by chunk. The last chunk comes when the input ends or Ctrl-C ends it. Memory does not grow.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from signstream import cli
from signstream.errors import UserError
from signstream.inference.session import open_session

if TYPE_CHECKING:
    import numpy as np

    from signstream.inference.tokenizer import Chunk, Tokenizer


class Live:
    """A stream that writes its chunks."""

    def __init__(self, tokenizer: Tokenizer, fps: float | None, rle: bool) -> None:
        import numpy as np

        self.parts, self.chunk_len, self.rle = tokenizer.parts, tokenizer.config.data.chunk_len, rle
        warm = tokenizer.stream(
            fps
        )  # the first pass of all is slow, and what no chunk can be encoded with is an error before any is read
        warm.push(np.zeros((self.chunk_len, tokenizer.skeleton.num_joints, 3), np.float32))
        warm.finish()
        self.stream, self.pushed = tokenizer.stream(fps), 0
        say(
            {
                "fps": tokenizer.config.data.fps,
                "chunk_len": self.chunk_len,
                "tokenizer": tokenizer.digest,
                "levels": dict(zip(tokenizer.parts, tokenizer.levels)),
                "codebook_size": tokenizer.config.model.rvq.codebook_size,
            }
        )

    def push(self, frame: np.ndarray) -> None:
        self.pushed += 1
        began = time.perf_counter()
        self._write(self.stream.push(frame), began)

    def finish(self) -> None:
        began = time.perf_counter()
        self._write(self.stream.finish(), began)

    def _write(self, chunks: list[Chunk], began: float) -> None:
        ms = round(1000 * (time.perf_counter() - began), 2)
        for chunk in chunks:
            last = min((chunk.t + 1) * self.chunk_len, self.stream.frames) - 1
            behind = self.pushed - 1 - int(last * self.stream.front.step)
            entries = {
                tag: ["NC", 1] if self.rle and held else [code for code in codes if code >= 0]
                for tag, codes, held in zip(self.parts, chunk.codes.tolist(), chunk.held)
            }
            say({"t": chunk.t, **entries, "ms": ms, "behind_frames": max(behind, 0)})


def say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def npy_frames(path: Path, joints: int) -> Iterator[np.ndarray]:
    """Frame by frame from the disk; what is no array of poses is an error before the first."""
    import numpy as np

    from signstream.io import pose_files

    try:
        if pose_files.npy_frames(path) is None:
            raise UserError(f"shape {list(pose_files.read_npy(path).shape)}")
        poses = np.load(path, mmap_mode="r", allow_pickle=False)
        if poses.shape[1] not in (joints, joints + 1) or poses.shape[2] != 3 or poses.dtype.kind not in "fiu":
            raise UserError(f"shape {list(poses.shape)} of {poses.dtype}")
    except ValueError as error:
        raise UserError(
            f"{path}: {error}; [T, {joints}, 3] or, with the picture's size as first row, [T, {joints + 1}, 3] is expected"
        ) from None
    return (np.array(frame[-joints:], np.float32) for frame in poses)


def json_frames(lines: BinaryIO, joints: int) -> Iterator[np.ndarray]:
    import numpy as np

    longest = 200 * joints  # bytes: a number may have 60 digits, a line without end is not read to its end
    for number, line in enumerate(iter(lambda: lines.readline(longest), b""), 1):
        try:
            frame = np.asarray(json.loads(line))
            fault = (
                ""
                if frame.shape == (joints, 3) and frame.dtype.kind in "fi"
                else f"it is {list(frame.shape)} of {frame.dtype}"
            )
        except (ValueError, RecursionError) as error:
            fault = " ".join(str(error).split())
        if fault:
            raise UserError(f"standard input, line {number}: {fault}; a frame is {joints} lists of 3 numbers")
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
        self.working = self.asked = False

    def __call__(self, _number: int, _frame: object) -> None:
        self.asked = True
        if not self.working:
            raise KeyboardInterrupt


def play(frames: Iterator[np.ndarray], live: Live) -> None:
    """Until the frames end, or Ctrl-C ends them."""
    ctrl_c = CtrlC()
    before = signal.signal(signal.SIGINT, ctrl_c)
    try:
        for frame in frames:
            ctrl_c.working = True
            live.push(frame)
            ctrl_c.working = False
            if ctrl_c.asked:
                break
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGINT, before)
    live.finish()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m signstream.inference.stream",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="PATH",
        help="a checkpoint, a run's folder or an experiment's: its newest run",
    )
    parser.add_argument(
        "--input",
        default="-",
        metavar="FILE",
        help="clip.npy [T, 133 or 134, 3], or - for standard input (default: %(default)s)",
    )
    parser.add_argument("--fps", type=float, help="of the input; the config's unless it says so")
    parser.add_argument("--realtime", action="store_true", help="play a file at its own pace")
    args = cli.parse_with_overrides(parser, argv, "for example export.codes_per_chunk=8")
    if args.fps is not None and not 1 <= args.fps <= 1000:
        raise UserError(f"--fps is {args.fps:g}: 1 to 1000 frames a second are expected")
    if args.realtime and args.input == "-":
        raise UserError("--realtime plays a file: name it with --input")
    with open_session(args.checkpoint, overrides=args.overrides) as (tokenizer, config, _):
        joints = tokenizer.skeleton.num_joints
        frames = json_frames(sys.stdin.buffer, joints) if args.input == "-" else npy_frames(Path(args.input), joints)
        if args.realtime:
            frames = at_own_pace(frames, args.fps or config.data.fps)
        play(frames, Live(tokenizer, args.fps, config.export.enable_rle))


if __name__ == "__main__":
    cli.run(main)
