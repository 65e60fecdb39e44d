"""Poses back from tokens alone: <name>.npy [T, 133, 3] a clip, in the folder --out.

    python -m signstream.inference.decode_tokens --checkpoint checkpoints/quickstart --tokens exports/tokens.jsonl --out poses
    python -m signstream.inference.decode_tokens --checkpoint PATH --tokens exports/tokens.jsonl --out poses --reference CSL-Daily --split test

Without a reference: x and y in unit lengths from the nose, at the tokens' frame rate. With one (a data root in the layout that data.layout names):
in its clip's pixels, at its frame rate and for as many frames. Of that clip only the nose's track and the first frame's unit length are used.
The third number is 1 where a part that was sent tells the joint. Files of the same names are replaced, others in the folder stay.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from signstream import cli
from signstream.errors import UserError
from signstream.inference.session import open_session

if TYPE_CHECKING:
    from torch import Tensor

    from signstream.config import Data
    from signstream.data.datasets import PoseData
    from signstream.inference.tokenizer import Tokenizer
    from signstream.tokens.format import TokenSequence


def read_tokens(path: Path, tokenizer: Tokenizer) -> list[TokenSequence]:
    """All clips of a file, checked: nothing is decoded from a file that is wrong anywhere."""
    from signstream.data.datasets import usable_names
    from signstream.tokens.format import read_jsonl

    clips = [widen(tokens, tokenizer) for tokens in read_jsonl(path)]
    for name, fault in usable_names([tokens.name for tokens in clips])[1]:
        raise UserError(f"{path}, {name!r}: {fault}; each clip becomes <video_name>.npy")
    return clips


def widen(tokens: TokenSequence, tokenizer: Tokenizer) -> TokenSequence:
    """Tokens of all of the tokenizer's parts; of a part that they leave out nothing was sent."""
    config, levels = tokenizer.config, dict(zip(tokenizer.parts, tokenizer.levels))
    expected = {
        "tokenizer": tokenizer.digest,
        "fps": config.data.fps,
        "chunk_len": config.data.chunk_len,
        "codebook_size": config.model.rvq.codebook_size,
        "levels": tuple(levels.get(tag) for tag in tokens.parts),
    }
    for key, ours in expected.items():
        if (theirs := getattr(tokens, key)) != ours:
            raise UserError(
                f"{tokens.name}: its {key} is {theirs} and the checkpoint's {ours}: load the checkpoint that made the tokens"
            )
    codes = tokens.codes.new_full((len(tokens.codes), len(levels), max(levels.values())), -1)
    codes[:, [tokenizer.parts.index(tag) for tag in tokens.parts], : tokens.codes.shape[2]] = tokens.codes
    return tokenizer.sequence(codes, tokens.num_frames, tokens.name)


class Reference:
    """Where the clips of a data root stand."""

    def __init__(self, data: Data, tokenizer: Tokenizer, split: str | None) -> None:
        from signstream.data.datasets import open_data

        self.source: PoseData = open_data(data)
        self.tokenizer, splits = tokenizer, self.source.splits()
        if split is not None and split not in splits:
            raise UserError(f"--reference {data.root} has no split {split!r}, but {', '.join(splits)}")
        asked = splits if split is None else {split: splits[split]}
        self.split_of = {
            str(name): split for split, names in reversed(asked.items()) for name in names
        }  # the first that names it

    def decode(self, tokens: TokenSequence) -> Tensor:
        """[T, J, 3] in the clip's pixels, at its frame rate."""
        import numpy as np
        import torch

        from signstream.data.datasets import load_checked
        from signstream.data.frontend import FrontEnd, prepare

        data, skeleton, root = self.source.data, self.tokenizer.skeleton, self.source.root
        if tokens.name not in self.split_of:
            raise UserError(f"--reference {root} has no clip {tokens.name!r}")
        try:
            clip = load_checked(self.source, self.split_of[tokens.name], tokens.name)
        except ValueError as error:
            raise UserError(f"--reference {root}, {tokens.name}: {error}") from None
        place = prepare(torch.from_numpy(np.require(clip.poses, np.float32, "CW")), skeleton, data, clip.fps).place
        if len(place) != tokens.num_frames:
            raise UserError(
                f"--reference {root}, {tokens.name}: it has {len(place)} frames at {data.fps:g} a second and the tokens "
                f"{tokens.num_frames}: it is another clip"
            )
        place[:, 2] = place[0, 2]
        return at_rate(self.tokenizer.decode(tokens, place), len(clip.poses), FrontEnd(skeleton, data, clip.fps).step)


def at_rate(poses: Tensor, frames: int, step: float) -> Tensor:
    """poses [T', J, 3] -> [frames, J, 3], `step` of them for each of poses'; the last is held."""
    import torch

    from signstream.data.frontend import sample_at

    position = (torch.arange(frames, dtype=torch.float64) / step).clamp(max=len(poses) - 1)
    low = position.floor()
    return sample_at(poses, low.long(), position - low)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m signstream.inference.decode_tokens",
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
        "--tokens", type=Path, required=True, metavar="FILE", help="what export_tokens wrote, in any format and layout"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--reference", metavar="ROOT", help="a data root with the clips' poses")
    parser.add_argument("--split", help="of the reference; without it, the first split that names the clip")
    args = cli.parse_with_overrides(parser, argv, "how the reference is read, for example data.layout=npz")
    with open_session(args.checkpoint, overrides=args.overrides) as (tokenizer, config, _):
        import numpy as np
        from tqdm import tqdm

        from signstream.io.whole import write_whole

        clips = read_tokens(args.tokens, tokenizer)
        reference = (
            Reference(replace(config.data, root=args.reference), tokenizer, args.split) if args.reference else None
        )
        args.out.mkdir(parents=True, exist_ok=True)
        for tokens in tqdm(clips, desc="decode", unit="clip", disable=None):
            poses = (reference.decode(tokens) if reference else tokenizer.decode(tokens)).numpy()
            write_whole(args.out / f"{tokens.name}.npy", lambda file, poses=poses: np.save(file, poses))
        print(f"{args.out}: {len(clips)} clips, {sum(tokens.num_frames for tokens in clips)} frames")


if __name__ == "__main__":
    cli.run(main)
