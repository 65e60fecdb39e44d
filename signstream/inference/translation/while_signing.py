"""What the door inference/translate.py does with --live: text while signing goes on, a JSON line a chunk
(inference/live_text.py), of a split, of a file of tokens, of one of poses or of standard input; and beside it what the
same model says of the signs of others, and of none."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from tqdm import tqdm

from signstream.config import load_config
from signstream.config.prefix_lm import PrefixConfig
from signstream.data.frontend import frame_rate
from signstream.data.tokens import TokenData
from signstream.errors import UserError
from signstream.inference.chunk_lines import BrokenFrame, FrameLines, json_frames, npy_frames, play
from signstream.inference.clips import labels_of
from signstream.inference.live_text import Event, LiveClip, LiveText
from signstream.inference.translation.live_controls import Hears, beside, shuffled, silent
from signstream.inference.translation.written import as_bytes
from signstream.io.whole import write_whole
from signstream.models.policies import POLICY, policy_of
from signstream.tasks.prefix_lm.validation import NONE, SHUFFLED
from signstream.training.checkpoint import check_same, config_of, load
from signstream.training.distributed import start
from signstream.training.run_folder import best_of

STDIN, NAME = "-", "stream"
FREE = ("root", "layout", "split_file", "meta_dir", "keypoints", "tokens", "cache", "workers")  # of the data's keys
Tell = Callable[[str], object]  # a line
Run = Callable[[Tell], None]


def speak(args: Namespace) -> None:
    """What the door was asked for: its options."""
    check(args)
    (checkpoint,) = args.checkpoint
    saved = config_of(load(best_of(checkpoint)), PrefixConfig)
    config = load_config(args.config, args.overrides, saved, kind=PrefixConfig)
    check_same(config, saved, free=FREE, why="the model was trained so", sections=("data", "model", "live"))
    device = config.train.device
    with start(device, config.train.threads) as ranks:
        if ranks.world > 1:
            raise UserError("text while signing goes on is said by one process: start it without torchrun")
        live = LiveText.open(checkpoint, policy=args.policy or POLICY, tokenizer=args.tokenizer, device=device)
        for out, run in runs_of(live, args, config).items():
            write(out, run)


def check(args: Namespace) -> None:
    """That the options fit each other, before anything is opened."""
    given = [option for option in ("split", "tokens", "input") if getattr(args, option) is not None]
    if len(given) != 1:
        raise UserError("what is heard live? one of --split NAME, --tokens FILE, --input clip.npy or --input -")
    others = {"n_best": args.n_best != 1, "page": args.page, "report": args.report}
    if odd := next((option for option, stands in others.items() if stands), None):
        raise UserError(f"--{odd} is of whole sentences: leave it out with --live")
    if len(args.checkpoint) > 1:
        raise UserError("--live is one model: name one checkpoint")
    if (args.input is None) != (args.tokenizer is None):
        raise UserError("--input and --tokenizer go together: frames become the codes of that run")
    if args.controls and (args.out is None or args.input is not None):
        raise UserError("--controls are files beside --out FILE, of the clips of --split or --tokens")
    if args.fps is not None:
        frame_rate(args.fps, "--fps")
        if args.input is None:
            raise UserError("--fps is the frame rate of --input: tokens have their own")
    policy_of(args.policy or POLICY)


def runs_of(live: LiveText, args: Namespace, config: PrefixConfig) -> dict[Path | None, Run]:
    """And where their lines go; None: they are printed."""
    if args.input is not None:
        return {args.out: partial(of_frames, live, args)}
    data = TokenData.open(args.tokens or tokens_of(config, args.split), live.digest)
    live.check_shape(data)
    of = partial(of_tokens, live, data, lookahead=config.data.lookahead)
    runs: dict[Path | None, Run] = {args.out: partial(of, hears=data.codes)}
    if args.controls:
        labels = {} if args.split is None else labels_of(config.data, args.split)
        other = shuffled(data, {name: label.text for name, label in labels.items()})
        for control, hears in ((SHUFFLED, other), (NONE, silent(data))):
            runs[beside(args.out, control)] = partial(of, hears=hears)
    return runs


def write(out: Path | None, run: Run) -> None:
    if out is None:
        run(lambda line: print(as_bytes(line).decode(), flush=True))
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    broken = []

    def tell_all(file: IO[bytes]) -> None:
        try:
            run(lambda line: file.write(as_bytes(f"{line}\n")))
        except BrokenFrame as error:  # what was said before it stays
            broken.append(error)

    write_whole(out, tell_all)
    print(out, flush=True)
    if broken:
        raise broken[0]


def tokens_of(config: PrefixConfig, split: str) -> Path:
    path = Path(config.data.tokens_of(split))
    if not path.exists():
        raise UserError(f"data.tokens: there is no {path}: export_tokens writes one (data.tokens=DIR/{{split}}.jsonl)")
    return path


def header(live: LiveText) -> str:
    return json.dumps({"header": True, "policy": live.policy})


def of_tokens(live: LiveText, data: TokenData, tell: Tell, *, hears: Hears, lookahead: int) -> None:
    """`lookahead`: frames that the tokenizer's front end waited for; the run's own data keys say it."""
    tell(header(live))
    frame_ms = 1000 / data.fps
    for number, name in enumerate(tqdm(data.names, desc="live", unit="clip", disable=None)):
        signing = frame_ms * data.num_frames[number]
        clip = live.begin(name, chunk_ms=frame_ms * data.chunk_len, behind=frame_ms * lookahead, signing=signing)
        for codes in hears(number):
            tell(clip.chunk(codes).line)
        for event in clip.end():
            tell(event.line)


def of_frames(live: LiveText, args: Namespace, tell: Tell) -> None:
    assert live.tokenizer is not None
    joints = live.tokenizer.skeleton.num_joints
    frames = json_frames(sys.stdin.buffer, joints) if args.input == STDIN else npy_frames(Path(args.input), joints)
    tell(header(live))
    lines = EventLines(live.begin(NAME if args.input == STDIN else Path(args.input).stem, fps=args.fps), tell)
    try:
        play(frames, lines)
    except BrokenFrame as error:
        if not lines.clip.count:
            raise UserError(str(error)) from None
        lines.finish()  # an hour of text may lie before it
        raise


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
