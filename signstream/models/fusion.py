"""The fusion encoder of translation: keypoints and what a picture network says of frames, to one sequence.

    B clips   T frames, padded   F numbers of a frame's keypoints (75 joints, x y z)   D width
    V rows of the visual side, evenly spaced over each clip (180), of W numbers (768)

    model = FusionEncoder(keypoints=225, visual=768, width=384, seed=0)
    model({"keypoints": [B, T, F], "visual": [B, V, W]}, lengths [B], draw=seed)
        -> [B, T, D] float32, 0 in the padding; T of the keypoints, or without them of the longest clip

A side whose size is None is absent, and the gate with it. The V rows of a clip are stretched to its own frames, never
to the padding's, so that row and frame are of one moment in any company. Then a gate says of each number which side it
comes from, sinusoidal positions are added, and the Squeezeformer (squeezeformer.py, which explains draws) reads it.

The blocks of the visual side are the recognisers' (recognition_blocks.py), not torch's TransformerEncoderLayer: of the
same weights, but normalised before, and rows know how far they are apart. The public code's layers have no positions,
so to them a clip is a set of pictures. torch's layers also draw their dropout from no seed of ours; here what goes into
the visual blocks is dropped, as in a recogniser.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from signstream.models.recognition_blocks import BASE, Block, Mixing, head_of, init_weights, without_padding
from signstream.models.recognition_fronts import Streams
from signstream.models.squeezeformer import Squeezeformer, dropped, seeds_from, seeds_of_clips, stays

VISUAL_HEADS = 4


class VisualSide(nn.Module):
    """[B, V, W] -> [B, V, D]"""

    def __init__(self, inputs: int, width: int, *, layers: int = 2, expand: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.into = nn.Linear(inputs, width)
        mixing = Mixing("transformer", head=head_of(width, width // VISUAL_HEADS, of=2))
        self.blocks = nn.ModuleList(Block(width, mixing, expand) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, visual: Tensor, seeds: list[int] | None = None) -> Tensor:
        x = self.into(visual).float()
        if seeds is not None and self.dropout:
            x = dropped(x, stays(self.dropout, x.shape, seeds).to(x.device, non_blocking=True), self.dropout)
        whole = torch.full((len(x),), x.shape[1], device=x.device)
        for block in self.blocks:
            x = block(x, whole)
        return self.norm(x)


class Gate(nn.Module):
    """Of each number of a frame, how much comes of either side: 2 x [B, T, D] -> [B, T, D]"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * width, width)
        self.out = nn.Linear(width, width)

    def forward(self, keypoints: Tensor, visual: Tensor) -> Tensor:
        share = self.out(self.hidden(torch.cat((keypoints, visual), -1)).tanh()).float().sigmoid()
        return share * keypoints + (1 - share) * visual


class FusionEncoder(nn.Module):
    def __init__(
        self,
        *,
        keypoints: int | None = 225,
        visual: int | None = 768,
        width: int = 384,
        depth: int = 4,
        heads: int = 4,
        expand: int = 4,
        visual_layers: int = 2,
        dropout: float = 0.3,
        drop_path: float = 0.1,
        squeeze: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        assert keypoints or visual, "an encoder without keypoints and without a visual side reads nothing"
        self.width, self.drops = width, bool(dropout or drop_path)
        self.keypoints = nn.Linear(keypoints, width) if keypoints else None
        self.visual = (
            VisualSide(visual, width, layers=visual_layers, expand=expand, dropout=dropout) if visual else None
        )
        self.gate = Gate(width) if keypoints and visual else None
        self.blocks = Squeezeformer(
            width, depth=depth, heads=heads, expand=expand, dropout=dropout, drop_path=drop_path, squeeze=squeeze
        )
        self.norm = nn.LayerNorm(width)
        init_weights(self, torch.Generator().manual_seed(seed), depth)

    def forward(self, streams: Streams, lengths: Tensor, *, draw: int | Sequence[int] | None = None) -> Tensor:
        """`draw`: seed of what training drops, or a seed of each clip; of a model in evaluation, nothing is."""
        first = second = None  # [B] seeds of the visual side, of the blocks
        if self.training and self.drops:
            assert draw is not None, "an encoder that drops anything in training needs a seed: draw"
            pairs = [seeds_from(seed, 2) for seed in seeds_of_clips(draw, len(lengths))]
            first, second = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        x = self._fused(streams, lengths, first)  # [B, T, D]
        x = self.blocks(x + positions(x.shape[1], like=x), lengths, draw=second)
        return without_padding(self.norm(x).float(), lengths)

    def _fused(self, streams: Streams, lengths: Tensor, seeds: list[int] | None) -> Tensor:
        sides = []
        if self.keypoints is not None:
            sides.append(self.keypoints(without_padding(streams["keypoints"], lengths)).float())
        if self.visual is not None:
            steps = sides[0].shape[1] if sides else int(lengths.max()) if len(lengths) else 0
            sides.append(stretched(self.visual(streams["visual"], seeds), lengths, steps))
        return sides[0] if self.gate is None else self.gate(*sides)


def stretched(rows: Tensor, lengths: Tensor, steps: int) -> Tensor:
    """Rows of whole clips [B, V, D], linearly between their middles, to each clip's own frames: [B, T, D] float32.
    A product with weights, since its gradient is a product too, the same in every run."""
    count = rows.shape[1]
    frame = torch.arange(steps, device=rows.device) + 0.5
    place = frame * (count / lengths.clamp(min=1).float())[:, None] - 0.5  # [B, T] in rows
    away = place.clamp(0, count - 1)[..., None] - torch.arange(count, device=rows.device)  # [B, T, V]
    with torch.autocast(rows.device.type, enabled=False):
        return (1 - away.abs()).clamp(min=0) @ rows.float()


def positions(steps: int, *, like: Tensor) -> Tensor:
    """[T, D]: sines, then cosines, of the frame's number, from a turn in 6 frames to one in 60 thousand."""
    half = like.shape[-1] // 2
    rate = BASE ** (-torch.arange(half, device=like.device) / half)
    angle = torch.arange(steps, device=like.device)[:, None].float() * rate
    return torch.cat((angle.sin(), angle.cos()), -1)
