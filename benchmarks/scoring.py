"""What the benchmarks on real clips share: clips of a root, tokens and poses that are made of them, their score.

clips = Clips.open(config.data, root)             the split `test` of a root in CSL-Daily's layout
lengths = save_tokens(clips, encode, folder)      folder/tokens.jsonl
save_poses(clips, poses_of, folder)               folder/poses/<name>.npy, in pixels, at each clip's own frame rate
report = scored(clips, folder)                    as benchmarks/score.py and benchmarks/signs.py count
print(table({"ours": report, "reference": ..}))   a column a report
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks import score, signs
from signstream.config import Data
from signstream.data.cache import open_cache
from signstream.data.collate import ChunkBatch, make_chunks
from signstream.data.datasets import skeleton_of
from signstream.data.transforms import varied
from signstream.inference.decode import at_rate
from signstream.io.dataloader_utils import read_clips
from signstream.io.pose_cache import PoseCache
from signstream.models.metrics import signing
from signstream.space import in_pixels
from signstream.tokens.format import TokenSequence, write_line

PARTS = ("face", "left_hand", "right_hand", "body")
# A row of the table -> where a report has its number.
ROWS = {"mean_local": ("mean_local",), "hands_local": ("hands_local",), **{part: (part, "local") for part in PARTS}}
ROWS |= {
    f"{group}/{number}": ("signs", group, number)
    for group, numbers in signing.NUMBERS.items()
    if group not in PARTS
    for number in numbers
}
SAME_RATE = 0.01  # a clip's frame rate over the config's that is off by less is the same
SAY_EVERY = 20.0  # seconds
BEGAN = time.perf_counter()

# A clip's index in the cache -> its tokens; its tokens -> poses [T', J, 3] in unit lengths.
Encode = Callable[[int], TokenSequence]
Decode = Callable[[TokenSequence], Tensor]


class Clips(NamedTuple):
    """Clips of one root, prepared."""

    root: Path
    data: Data
    cache: PoseCache

    @classmethod
    def open(cls, data: Data, root: Path) -> Clips:
        data = replace(data, root=str(root))
        return cls(root, data, open_cache(data))

    def chunks(self, clip: int, augment: int | None = None) -> ChunkBatch:
        """`augment`: of the clip as training may see it, drawn from this seed."""
        batch, skeleton = read_clips(self.cache, [clip], 0), skeleton_of(self.data)
        if augment is not None:
            frames = varied(batch.frames, self.data, skeleton, seed=(augment, clip))
            batch = replace(batch, frames=frames, lengths=(len(frames),))
        return make_chunks(batch, skeleton, self.data)

    def test(self, what: str) -> Iterator[int]:
        """The clips that are scored; says now and then how many are done."""
        clips = self.cache.split("test")
        said = time.perf_counter()
        for done, clip in enumerate(clips):
            if time.perf_counter() - said > SAY_EVERY:
                said = time.perf_counter()
                say(f"{what}: {done} of {len(clips)} clips")
            yield clip


def say(text: str) -> None:
    """A line of progress on the standard error, with the minutes since the program began."""
    print(f"[{(time.perf_counter() - BEGAN) / 60:5.1f} min] {text}", file=sys.stderr, flush=True)


def save_tokens(clips: Clips, encode: Encode, folder: Path, *, rle: bool = False) -> float:
    """Writes folder/tokens.jsonl. Given back: what it takes besides to say how many codes there are, or how long a run
    is, in bits a second."""
    folder.mkdir(parents=True, exist_ok=True)
    lengths: dict[str, Counter] = {}
    seconds = 0.0
    with (folder / "tokens.jsonl").open("w", encoding="utf-8") as file:
        for clip in clips.test("encoded"):
            tokens = encode(clip)
            line = write_line(tokens, rle=rle)
            file.write(line)
            seconds += tokens.num_frames / tokens.fps
            for tag, entry in (item for row in json.loads(line)["tokens"] for item in row.items() if item[0] != "t"):
                length = tuple(entry) if entry[:1] == ["NC"] else len(entry)
                lengths.setdefault(tag, Counter())[length] += 1
    return sum(map(entropy_bits, lengths.values())) / seconds


def entropy_bits(counts: Counter) -> float:
    """Bits of all that was counted, as rare as each is."""
    return sum(-count * math.log2(count / counts.total()) for count in counts.values())


@torch.no_grad()
def save_poses(clips: Clips, poses_of: Callable[[int], Tensor], folder: Path) -> None:
    """Writes folder/poses/<name>.npy [T, 133, 3]; poses_of gives a clip's [T', J, 3] in unit lengths."""
    (folder / "poses").mkdir(parents=True, exist_ok=True)
    for index in clips.test("decoded"):
        clip = clips.cache.clips[index]
        frames = len(np.load(clips.root / "frames_512x512" / f"{clip.name}.npy", mmap_mode="r"))
        place = torch.from_numpy(clips.cache.frames(index)[:, 0].copy())
        pixels = at_clip_rate(poses_of(index), place, clip.fps / clips.data.fps, frames=frames)
        np.save(folder / "poses" / f"{clip.name}.npy", pixels)


def at_clip_rate(poses: Tensor, place: Tensor, step: float, *, frames: int) -> np.ndarray:
    """poses [T', J, 3] in unit lengths and places [T', 3] at the config's rate -> [frames, J, 3] pixels at the clip's
    own, with one unit length."""
    place[:, 2] = place[:, 2].median()
    return at_rate(in_pixels(poses, place), frames, 1.0 if abs(step - 1) < SAME_RATE else step).numpy()


def save_both(clips: Clips, encode: Encode, decode: Decode, folder: Path, *, rle: bool = False) -> float:
    """Tokens, and the poses that they alone become; what save_tokens gives."""
    tokens: dict[int, TokenSequence] = {}

    def keep(clip: int) -> TokenSequence:
        tokens[clip] = encode(clip)
        return tokens[clip]

    lengths = save_tokens(clips, keep, folder, rle=rle)
    save_poses(clips, lambda clip: decode(tokens[clip]), folder)
    return lengths


def scored(clips: Clips, folder: Path) -> dict[str, Any]:
    """The scorer's report, and its "signs"; with "tokens", where the folder has them."""
    names = [clips.cache.clips[index].name for index in clips.cache.split("test")]
    folders = clips.root / "frames_512x512", folder / "poses"
    report = score.score(*folders, names) | {"signs": signs.measured(*folders, names)}
    tokens = folder / "tokens.jsonl"
    return report | ({"tokens": score.cost(tokens)} if tokens.exists() else {})


def table(columns: dict[str, dict]) -> str:
    """A row a number of each column; the ratio of the first to the last. Below the errors of parts, what signs are made
    of."""

    def value(column: Any, path: tuple[str, ...]) -> float:
        for name in path:
            column = column.get(name, {})
        return column if isinstance(column, float) else math.nan

    lines = [" " * 26 + "".join(f"{name:>15}" for name in (*columns, "first / last"))]
    for name, path in ROWS.items():
        row = [value(column, path) for column in columns.values()]
        errors = "".join(f"{error:15.4f}" for error in row)
        lines.append(f"{name:26}{errors}{row[0] / row[-1] if row[-1] else math.nan:15.2f}")
    return "\n".join(lines)
