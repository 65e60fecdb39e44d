"""The reference without a network: PCA + residual k-means over whole chunks, part by part. A tokenizer must beat it.

    python -m benchmarks.pca_kmeans --out DIR [--data ROOT] [--test-data ROOT] [--levels 3] [--codes 1024]

Fitted on train, scored on test, of --test-data where that is given. It sees the same prepared frames as our tokenizer,
at 25 a second, and spends `levels` codes on each of 4 parts in every chunk of ten frames, in view or not.
Writes DIR/tokens.jsonl and DIR/poses/<name>.npy, and prints what benchmarks/score.py says of them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.scoring import Clips, save_both, say, scored
from signstream import cli
from signstream.config import Data, load_config
from signstream.data.collate import ChunkBatch, View
from signstream.data.datasets import skeleton_of
from signstream.models.rvq.codebook import LevelBook, descend, kmeans
from signstream.space import assemble
from signstream.tokens.format import TokenSequence

NUMBERS = 64  # of a part and chunk, that k-means works on
ITERATIONS = 25
WHOLE = 0.5  # of a chunk's joints are visible where PCA is fitted on it
OPTIONS = [
    "data.body_parts={face: [24, 91], left_hand: [92, 112], right_hand: [113, 133], body: [1, 17]}",
    "data.fps=25",
    "data.smooth=0",
]


class Axes(NamedTuple):
    """A part's PCA: chunks [N, L, J, 2] in unit lengths <-> [N, Z]."""

    mean: Tensor  # [J, 2]
    axes: Tensor  # [L * J * 2, Z]

    @classmethod
    def fit(cls, views: Sequence[View], numbers: int) -> Axes:
        xy, weight = (torch.cat(values) for values in zip(*((view.xy, view.weight) for view in views)))
        seen = (weight > 0)[..., None]
        mean = torch.where(seen, xy, 0.0).sum((0, 1)) / seen.sum((0, 1)).clamp(min=1)
        rows = torch.where(seen, xy - mean, 0.0)[seen.float().mean((1, 2, 3)) > WHOLE].flatten(1)
        return cls(mean, torch.pca_lowrank(rows, q=min(numbers, *rows.shape), center=False, niter=8)[2])

    def into(self, view: View) -> Tensor:
        return torch.where((view.weight > 0)[..., None], view.xy - self.mean, 0.0).flatten(1) @ self.axes

    def back(self, latents: Tensor) -> Tensor:
        joints = len(self.mean)
        return (latents @ self.axes.T).view(len(latents), -1, joints, 2) + self.mean


class PcaKmeans:
    """Fitted on a root's split `train`."""

    def __init__(self, clips: Clips, *, levels: int = 3, codes: int = 1024, numbers: int = NUMBERS) -> None:
        self.data, self.skeleton = clips.data, skeleton_of(clips.data)
        batches = [clips.chunks(clip) for clip in clips.cache.split("train")]
        parts = [[batch.local(part) for batch in batches] for part in self.skeleton.parts]
        torch.manual_seed(0)
        self.axes = [Axes.fit(views, numbers) for views in parts]
        if not levels:
            return
        latents = torch.stack([axes.into(joined(views)) for axes, views in zip(self.axes, parts)])  # [P, N, Z]
        valid = torch.stack([(joined(views).weight > 0).flatten(1).any(1) for views in parts])  # [P, N]
        self.codebook = residual_kmeans(latents, valid, levels=levels, codes=codes)

    def restore(self, batch: ChunkBatch) -> Tensor:
        """What the axes alone make of chunks, without codes: [N * L, J, 3] in unit lengths."""
        parts = zip(self.skeleton.parts, self.axes)
        return self._drawn({part.name: axes.back(axes.into(batch.local(part))) for part, axes in parts})

    def encode(self, batch: ChunkBatch, name: str) -> TokenSequence:
        views = [batch.local(part) for part in self.skeleton.parts]
        latents = torch.stack([axes.into(view) for axes, view in zip(self.axes, views)])
        count, levels, codes = len(views), *self.codebook.shape[1:3]
        chosen = torch.stack([choice.code for choice in descend(latents, self._books())], -1)  # [P, N, Q]
        return TokenSequence(
            name=name,
            fps=self.data.fps,
            chunk_len=self.data.chunk_len,
            num_frames=int(batch.frames.sum()),
            codes=chosen.transpose(0, 1).contiguous(),
            parts=tuple(part.tag for part in self.skeleton.parts),
            levels=(levels,) * count,
            codebook_size=codes,
            tokenizer="pca-and-k-means",
        )

    def decode(self, tokens: TokenSequence) -> Tensor:
        """[T', J, 3] in unit lengths."""
        codes = tokens.codes.permute(1, 2, 0)  # [P, Q, N]
        latents = torch.stack([book.look_up(codes[:, book.level]) for book in self._books()]).sum(0)  # [P, N, Z]
        views = {part.name: axes.back(z) for part, axes, z in zip(self.skeleton.parts, self.axes, latents)}
        return self._drawn(views)[: tokens.num_frames]

    def _books(self) -> list[LevelBook]:
        return [LevelBook(self.codebook, level) for level in range(self.codebook.shape[1])]

    def _drawn(self, views: dict[str, Tensor]) -> Tensor:
        return assemble({name: view.flatten(0, 1) for name, view in views.items()}, self.skeleton)


def joined(views: Sequence[View]) -> View:
    return View(*(torch.cat(values) for values in zip(*views)))


def residual_kmeans(latents: Tensor, valid: Tensor, *, levels: int, codes: int) -> Tensor:
    """latents [P, N, Z], valid [P, N] -> [P, Q, K, Z]: each level is made from what the levels before leave over."""
    books: list[Tensor] = []
    for level in range(levels):
        generator = torch.Generator().manual_seed(level)
        books.append(kmeans(latents, valid, codes, iterations=ITERATIONS, generator=generator).centres)
        book = LevelBook(books[-1][:, None], 0)
        latents = latents - book.look_up(book.nearest(latents))
        say(f"PCA + k-means: level {level + 1} of {levels} is made")
    return torch.stack(books, 1)


def reference(data: Data, clips: Clips, folder: Path, *, levels: int = 3, codes: int = 1024) -> dict:
    """Fitted on the train split of `data`, scored on `clips`: the scorer's report."""
    fitted = PcaKmeans(Clips.open(data, Path(data.root)), levels=levels, codes=codes)

    def encode(clip: int) -> TokenSequence:
        return fitted.encode(clips.chunks(clip), clips.cache.clips[clip].name)

    save_both(clips, encode, fitted.decode, folder)
    return scored(clips, folder)


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/realsign"), metavar="ROOT")
    parser.add_argument("--test-data", type=Path, metavar="ROOT", help="score the split test of this one")
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--codes", type=int, default=1024)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        data = load_config(None, [*OPTIONS, f"data.root={args.data}", f"data.cache={scratch}"]).data
        clips = Clips.open(data, args.test_data or args.data)
        print(json.dumps(reference(data, clips, args.out, levels=args.levels, codes=args.codes), indent=1))


if __name__ == "__main__":
    cli.run(main)
