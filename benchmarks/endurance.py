"""What a long job takes of memory and of the disk.

    python -m benchmarks.endurance [--only export,evaluate,stream,board] [--clips 20000] [--frames 40] [--hours 10]
                                   [--epochs 200] [--checkpoint checkpoints/quickstart]

export, evaluate: the doors over so many clips of the synthetic signer (1,000 different ones, cut to so many frames and
linked under new names).
stream: the door, fed so many hours of frames as from a camera, but as fast as it takes them. board: a run of so many
epochs with what configs/default.yaml says of samples and figures; the size of its TensorBoard files.

Printed of each: its own memory (what the kernel calls anonymous: maps of the cache's file do not count) at a fifth, two
fifths, ... of the job, and its peak; flat is good.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

JOBS = ("export", "evaluate", "stream", "board")
DIFFERENT = 1000  # clips that are made
FPS = 30
MEGABYTE = 1e6


def many_clips(folder: Path, clips: int, frames: int, *, different: int = DIFFERENT) -> Path:
    """A data root of so many, all of them in "test"."""
    root = folder / f"clips{clips}"
    made = min(clips, different)
    call("signstream.data.synthetic", "--out", root, "--clips", made, "--seed", 0)
    notes = json.loads((root / "annotations.json").read_text(encoding="utf-8"))
    names = sorted(notes)
    for name in names:
        path = root / "frames_512x512" / f"{name}.npy"
        poses = np.load(path)
        cut = poses[: frames + len(poses) - notes[name]["num_frames"]]  # the picture's size may stand before the first
        np.save(path, cut)
        notes[name] = {
            "text": notes[name]["text"],
            "gloss": notes[name]["gloss"],
            "num_frames": min(frames, notes[name]["num_frames"]),
        }
    for i in range(made, clips):
        name, new = names[i % made], f"again{i // made:03d}_{names[i % made]}"
        os.link(root / "frames_512x512" / f"{name}.npy", root / "frames_512x512" / f"{new}.npy")
        notes[new] = notes[name]
    (root / "annotations.json").write_text(json.dumps(notes), encoding="utf-8")
    splits = {"train": names[:10], "val": names[:10], "test": list(notes)}
    (root / "split_files.json").write_text(json.dumps(splits), encoding="utf-8")
    return root


def call(module: str, *arguments: object) -> None:
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def own_memory(process: int) -> float:
    """Megabytes that are the process's own."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * 1024 / MEGABYTE


def memory_of(command: Sequence[object], feed: Sequence[bytes] = (), times: int = 0) -> list[float]:
    """Runs it, its standard input `feed` so many times over; its own megabytes, five times a second."""
    memory = list[float]()
    pipe = subprocess.PIPE if feed else subprocess.DEVNULL
    run = subprocess.Popen(list(map(str, command)), stdin=pipe, stdout=subprocess.DEVNULL)

    def write() -> None:
        assert run.stdin is not None
        for _ in range(times):
            run.stdin.writelines(feed)
        run.stdin.close()

    writer = threading.Thread(target=write, daemon=True)
    if feed:
        writer.start()
    while run.poll() is None:
        with suppress(OSError, StopIteration):  # it is just ending
            memory.append(own_memory(run.pid))
        time.sleep(0.2)
    if run.returncode:
        sys.exit(f"{command[2]} ended with status {run.returncode}")
    return memory


def watched(command: Sequence[object], feed: Sequence[bytes] = (), times: int = 0) -> str:
    """What it took."""
    began = time.monotonic()
    memory = memory_of(command, feed, times)
    fifths = [f"{memory[len(memory) * part // 5 - 1]:.0f}" for part in range(1, 6)]
    minutes = (time.monotonic() - began) / 60
    return f"{', '.join(fifths)} MB; peak {max(memory):.0f} MB; {minutes:.1f} minutes"


def door(name: str, *arguments: object) -> list[object]:
    return [sys.executable, "-m", f"signstream.inference.{name}", *arguments]


def camera() -> list[bytes]:
    """A hundred seconds of frames as lines."""
    noise = np.random.default_rng(0).normal(0, 2, (100 * FPS, 133, 2)).cumsum(0) % 40
    start = np.random.default_rng(1).uniform(100, 400, (133, 2))
    rows = np.concatenate((start + noise, np.ones((100 * FPS, 133, 1))), -1).round(1)
    return [json.dumps(row.tolist()).encode() + b"\n" for row in rows]


def say(job: str, what: str) -> None:
    print(f"{job:10}{what}", flush=True)


def board(folder: Path, epochs: int) -> str:
    root = folder / "board_data"
    call("signstream.data.synthetic", "--out", root, "--clips", 64, "--seed", 0)
    options = [f"data.root={root}", f"data.cache={folder / 'cache'}", f"save_path={folder / 'runs'}"]
    options += [f"train.epochs={epochs}", "train.eval_every=1", "train.health_every=5", "train.log_every=1"]
    quick = ["--config", "configs/quickstart.yaml", "train.warmup_steps=20", "train.clips_per_step=16"]
    said = watched([sys.executable, "-m", "signstream.training.train", *quick, *options])
    files = [path for path in (folder / "runs").rglob("*") if path.is_file() and "tensorboard" in path.parts]
    return f"{sum(path.stat().st_size for path in files) / MEGABYTE:.1f} MB of TensorBoard; {said}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(JOBS), metavar="JOB,...")
    parser.add_argument("--clips", type=int, default=20000)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--hours", type=float, default=10)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/quickstart"))
    args = parser.parse_args()
    if unknown := [name for name in args.only if name not in JOBS]:
        parser.error(f"--only names {unknown[0]!r}: the jobs are {', '.join(JOBS)}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        trained: list[object] = ["--checkpoint", args.checkpoint]
        if {"export", "evaluate"} & set(args.only):
            data: list[object] = [
                f"data.root={many_clips(folder, args.clips, args.frames)}",
                f"data.cache={folder / 'cache'}",
            ]
            if "export" in args.only:
                out = folder / "tokens.jsonl"
                say("export", watched(door("export_tokens", *trained, "--split", "test", "--out", out, *data)))
            if "evaluate" in args.only:
                out = folder / "report"
                say("evaluate", watched(door("evaluate", *trained, "--split", "test", "--out", out, *data)))
        if "stream" in args.only:
            frames = camera()
            times = round(args.hours * 3600 * FPS / len(frames))
            say("stream", watched(door("stream", *trained, "--input", "-"), frames, times))
        if "board" in args.only:
            say("board", board(folder, args.epochs))


if __name__ == "__main__":
    main()
