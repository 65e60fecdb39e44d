"""A clip of a split beside what its tokens, as they are written, decode to: what the door inference/visualizer.py
shows.
"""

from __future__ import annotations

import logging
from argparse import Namespace

import torch

from signstream.data.cache import open_cache
from signstream.errors import UserError
from signstream.inference.session import open_session
from signstream.inference.tokenizer import Tokenizer
from signstream.io.pose_cache import PoseCache
from signstream.pictures.animation import Scene, animate, check_path
from signstream.space import in_pixels


def show_sample(args: Namespace) -> None:
    """What the door was asked for: the options of inference/visualizer.py."""
    if args.frames < 1:
        raise UserError(f"--frames is {args.frames}: at least 1 is expected")
    check_path(args.out)
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it would tell of every font that has no bold
    with open_session(args.checkpoint, overrides=args.overrides) as (tokenizer, config, _):
        cache = open_cache(config.data, quiet=True)
        clips = cache.split(args.split)
        if args.sample is not None:
            clips = cache.find(args.split, [args.sample], "--sample")
        scene = scene_of(tokenizer, cache, clips[0], fps=config.data.fps)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        whole = len(scene.original)
        shown = min(args.frames, whole)
        animate(scene.first(shown), args.out)
        cut = f" of {whole} (--frames)" if shown < whole else ""
        print(f"{args.out}: {scene.name}, {shown} frames{cut}")


def scene_of(tokenizer: Tokenizer, cache: PoseCache, index: int, *, fps: float) -> Scene:
    """A clip of the cache as the front end prepares it and what its tokens decode to in its place, both in pixels."""
    prepared = cache.frames(index).copy()
    name = cache.clips[index].name
    (tokens,) = tokenizer.encode_prepared([prepared], [name])
    place, joints = torch.from_numpy(prepared[:, 0]), torch.from_numpy(prepared[:, 1:])
    original = in_pixels(joints, place).numpy()
    return Scene(original, tokenizer.decode(tokens, place).numpy(), tokenizer.skeleton, fps, name, tokens)
