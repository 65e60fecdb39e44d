"""What the door inference/translate.py does with --live: text while signing goes on, a JSON line a chunk
(inference/live_text.py), of a split, of a file of tokens, of one of poses or of standard input."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from signstream.config import load_config
from signstream.config.prefix_lm import PrefixConfig
from signstream.data.frontend import frame_rate
from signstream.data.tokens import TokenData
from signstream.errors import UserError
from signstream.inference.chunk_lines import FrameLines, json_frames, npy_frames, play
from signstream.inference.live_text import Event, LiveClip, LiveText
from signstream.inference.translation.written import as_bytes
from signstream.io.whole import write_whole
from signstream.models.policies import POLICY, policy_of
from signstream.training.checkpoint import check_same, config_of, load
from signstream.training.distributed import start
from signstream.training.run_folder import best_of

STDIN, NAME = "-", "stream"
FREE = ("root", "layout", "split_file", "meta_dir", "keypoints", "tokens", "cache", "workers")  # of the data's keys
Tell = Callable[[str], object]  # a line


def speak(args: Namespace) -> None:
    """What the door was asked for: its options."""
    check(args)
    (checkpoint,) = args.checkpoint
    saved = config_of(load(best_of(checkpoint)), PrefixConfig)
    config = load_config(args.config, args.overrides, saved, kind=PrefixConfig)
    check_same(config, saved, free=FREE, why="the model was trained so")
    device = config.train.device
    with start(device, config.train.threads) as ranks:
        if ranks.world > 1:
            raise UserError("text while signing goes on is said by one process: start it without torchrun")
        live = LiveText.open(checkpoint, policy=args.policy or POLICY, tokenizer=args.tokenizer, device=device)

        def listen(tell: Tell) -> None:
            if args.input is not None:
                of_frames(live, args, tell)
            else:
                of_tokens(live, args.tokens or tokens_of(config, args.split), tell)

        if args.out is None:
            listen(lambda line: print(as_bytes(line).decode(), flush=True))
        else:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            write_whole(args.out, lambda file: listen(lambda line: file.write(as_bytes(f"{line}\n"))))
            print(args.out, flush=True)


def check(args: Namespace) -> None:
    """That the options fit each other, before anything is opened."""
    given = [option for option in ("split", "tokens", "input") if getattr(args, option) is not None]
    if len(given) != 1:
        raise UserError("what is heard live? one of --split NAME, --tokens FILE, --input clip.npy or --input -")
    others = {"n_best": args.n_best != 1, "controls": args.controls, "page": args.page, "report": args.report}
    if odd := next((option for option, stands in others.items() if stands), None):
        raise UserError(f"--{odd} is of whole sentences: leave it out with --live")
    if len(args.checkpoint) > 1:
        raise UserError("--live is one model: name one checkpoint")
    if (args.input is None) != (args.tokenizer is None):
        raise UserError("--input and --tokenizer go together: frames become the codes of that run")
    if args.fps is not None:
        frame_rate(args.fps, "--fps")
        if args.input is None:
            raise UserError("--fps is the frame rate of --input: tokens have their own")
    policy_of(args.policy or POLICY)


def tokens_of(config: PrefixConfig, split: str) -> Path:
    path = Path(config.data.tokens_of(split))
    if not path.exists():
        raise UserError(f"data.tokens: there is no {path}: export_tokens writes one (data.tokens=DIR/{{split}}.jsonl)")
    return path


def header(live: LiveText) -> str:
    return json.dumps({"header": True, "policy": live.policy})


def of_tokens(live: LiveText, path: Path, tell: Tell) -> None:
    data = TokenData.open(path, live.digest)
    live.check_shape(data)
    tell(header(live))
    frame_ms = 1000 / data.fps
    for name, frames in zip(tqdm(data.names, desc="live", unit="clip", disable=None), data.num_frames):
        clip = live.begin(name, chunk_ms=frame_ms * data.chunk_len, signing=frame_ms * frames)
        for codes in data.codes(name):
            tell(clip.chunk(codes).line)
        for event in clip.end():
            tell(event.line)


def of_frames(live: LiveText, args: Namespace, tell: Tell) -> None:
    assert live.tokenizer is not None
    joints = live.tokenizer.skeleton.num_joints
    frames = json_frames(sys.stdin.buffer, joints) if args.input == STDIN else npy_frames(Path(args.input), joints)
    tell(header(live))
    play(frames, EventLines(live.begin(NAME if args.input == STDIN else Path(args.input).stem, fps=args.fps), tell))


class EventLines(FrameLines):
    def __init__(self, clip: LiveClip, tell: Tell) -> None:
        self.clip, self.tell = clip, tell

    def push(self, frame: np.ndarray) -> None:
        self.write(self.clip.frames(frame))

    def finish(self) -> None:
        self.write(self.clip.end())

    def write(self, final: list[Event], ms: float = 0) -> None:
        for event in final:
            self.tell(event.line)
