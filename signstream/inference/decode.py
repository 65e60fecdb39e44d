"""Poses back from a file of tokens: <name>.npy [T, J, 3] a clip, in unit lengths, or in the pixels of a reference."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from signstream.config import Data
from signstream.data.datasets import load_checked, open_data, usable_names
from signstream.data.frontend import FrontEnd, as_raw, prepare, sample_at
from signstream.errors import UserError
from signstream.inference.session import open_session
from signstream.inference.tokenizer import Tokenizer
from signstream.io.whole import write_whole
from signstream.tokens.format import TokenSequence, read_jsonl


def decode_file(args: Namespace) -> None:
    """What the door was asked for: the options of inference/decode_tokens.py."""
    with open_session(args.checkpoint, overrides=args.overrides) as (tokenizer, config, _):
        clips = read_tokens(args.tokens, tokenizer)
        reference = None
        if args.reference:
            reference = Reference(replace(config.data, root=args.reference), tokenizer, args.split)
        args.out.mkdir(parents=True, exist_ok=True)
        for tokens in tqdm(clips, desc="decode", unit="clip", disable=None):
            poses = reference.decode(tokens) if reference else tokenizer.decode(tokens)
            save(args.out / f"{tokens.name}.npy", poses)
        print(f"{args.out}: {len(clips)} clips, {sum(tokens.num_frames for tokens in clips)} frames")


def save(path: Path, poses: Tensor) -> None:
    write_whole(path, lambda file: np.save(file, poses.numpy()))


def read_tokens(path: Path, tokenizer: Tokenizer) -> list[TokenSequence]:
    """All clips of a file, checked: nothing is decoded from a file that is wrong anywhere."""
    clips = list(read_jsonl(path))
    for tokens in clips:
        check_tokens(tokens, tokenizer)
    for name, fault in usable_names([tokens.name for tokens in clips])[1]:
        raise UserError(f"{path}, {name!r}: {fault}; each clip becomes <video_name>.npy")
    return clips


def check_tokens(tokens: TokenSequence, tokenizer: Tokenizer) -> None:
    """They are the tokenizer's, of all of its parts or of some."""
    config = tokenizer.config
    levels = dict(zip(tokenizer.parts, tokenizer.levels))
    expected = {
        "tokenizer": tokenizer.digest,
        "fps": config.data.fps,
        "chunk_len": config.data.chunk_len,
        "codebook_size": config.model.rvq.codebook_size,
        "levels": tuple(levels.get(tag) for tag in tokens.parts),
    }
    for key, value in expected.items():
        if (given := getattr(tokens, key)) != value:
            differs = f"{tokens.name}: its {key} is {given} and the checkpoint's {value}"
            raise UserError(f"{differs}: load the checkpoint that made the tokens")


class Reference:
    """Where the clips of a data root stand."""

    def __init__(self, data: Data, tokenizer: Tokenizer, split: str | None) -> None:
        self.source = open_data(data)
        self.tokenizer = tokenizer
        splits = self.source.splits()
        if split is not None and split not in splits:
            raise UserError(f"--reference {data.root} has no split {split!r}, but {', '.join(splits)}")
        searched = splits if split is None else {split: splits[split]}
        # the first split that names a clip
        self.split_of = {str(name): split for split, names in reversed(searched.items()) for name in names}

    def decode(self, tokens: TokenSequence) -> Tensor:
        """[T, J, 3] in the clip's pixels, at its frame rate."""
        data = self.source.data
        skeleton = self.tokenizer.skeleton
        where = f"--reference {self.source.root}"
        if tokens.name not in self.split_of:
            raise UserError(f"{where} has no clip {tokens.name!r}")
        try:
            clip = load_checked(self.source, self.split_of[tokens.name], tokens.name)
        except ValueError as error:
            raise UserError(f"{where}, {tokens.name}: {error}") from None
        place = prepare(as_raw(clip.poses), skeleton, data, fps=clip.fps).place
        if len(place) != tokens.num_frames:
            lengths = f"it has {len(place)} frames at {data.fps:g} a second and the tokens {tokens.num_frames}"
            raise UserError(f"{where}, {tokens.name}: {lengths}: it is another clip")
        place[:, 2] = place[:, 2].median()
        return at_rate(self.tokenizer.decode(tokens, place), len(clip.poses), FrontEnd(skeleton, data, clip.fps).step)


def at_rate(poses: Tensor, frames: int, step: float) -> Tensor:
    """poses [T', J, 3] -> [frames, J, 3], `step` of them for each of poses'; the last is held."""
    position = (torch.arange(frames, dtype=torch.float64) / step).clamp(max=len(poses) - 1)
    low = position.floor()
    return sample_at(poses, low.long(), position - low)
