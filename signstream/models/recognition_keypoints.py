"""Layers for keypoints: what a part's joints say in a frame, and convolutions over time that can be streamed.

B clips   S frames of a clip, padded   S' steps that come of them   J_p joints of a part   E width of a part

PartLayer  View: where joints are, how they move [B, S, J_p, 2], their weight [B, S, J_p]  ->  [B, S, E]
TimeConv   [B, S, F], lengths [B]  ->  [B, S', F']
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signstream.models.recognition_blocks import Mlp, without_padding
from signstream.space import only

NOISE = 1e-2  # share of the mean variance below which an axis is not stretched any further


class TimeConv(nn.Module):
    """A convolution over time, padded with zeros: step t is made of steps t * stride .. (t + 1) * stride - 1 and of
    their neighbours, on both sides or (causal) before them."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, causal: bool) -> None:
        super().__init__()
        assert kernel >= stride, f"a kernel of {kernel} steps leaves some out at a stride of {stride}"
        self.stride = stride
        self.before = (kernel - stride) if causal else (kernel - stride) // 2
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride)

    def steps(self, lengths: Tensor) -> Tensor:
        return (lengths + self.stride - 1) // self.stride

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """[B, S, F] -> [B, S', F']"""
        steps = -(-x.shape[1] // self.stride)
        if not steps:
            return x.new_zeros(len(x), 0, self.conv.out_channels)
        seen = (steps - 1) * self.stride + self.conv.kernel_size[0]
        x = F.pad(without_padding(x, lengths), (0, 0, self.before, seen - self.before - x.shape[1]))
        return self.conv(x.transpose(1, 2)).transpose(1, 2)

    def begin(self, clips: int) -> Tensor:
        return self.conv.weight.new_zeros(clips, self.before, self.conv.in_channels)

    def step(self, x: Tensor, memory: Tensor, *, last: bool) -> tuple[Tensor, Tensor]:
        """[B, n, F], after what was kept [B, n', F] -> [B, steps, F'], what is kept now"""
        x = torch.cat((memory.to(x.dtype), x), 1)
        new = x.shape[1] - self.before
        if last:
            x = F.pad(x, (0, 0, 0, -new % self.stride))
        count = (x.shape[1] - self.before) // self.stride
        kept = x[:, count * self.stride :]
        if not count:
            return x.new_zeros(len(x), 0, self.conv.out_channels), kept
        y = self.conv(x[:, : self.before + count * self.stride].transpose(1, 2))
        return y.transpose(1, 2), kept


class View(NamedTuple):
    """A part seen from its centre."""

    place: Tensor  # [B, S, J_p, 2] 0 where missing
    change: Tensor  # [B, S, J_p, 2] since the frame before; 0 where missing, or missing there
    weight: Tensor  # [B, S, J_p]


class PartLayer(nn.Module):
    """Where a part's joints are and how they move, as E numbers.

    `fit` centres the joints, brings them to one size, and begins the first layer with the axes along which frames
    differ, equally stretched: as they come, a hand's shape is lost behind where the hand points."""

    mean: Tensor  # [J_p, 2]
    spread: Tensor  # [2] of places, of changes

    def __init__(self, joints: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(5 * joints, width)  # x, y, their changes, weight
        self.norm = nn.LayerNorm(width)
        self.mlp = Mlp(width, 2)
        self.register_buffer("mean", torch.zeros(joints, 2))
        self.register_buffer("spread", torch.ones(2))

    def forward(self, view: View) -> Tensor:
        """-> [B, S, E]"""
        place, change = self._centred(view) / self.spread[0], view.change / self.spread[1]
        joints = torch.cat((place.flatten(2), change.flatten(2), view.weight), -1)
        x = self.norm(self.embed(joints))
        return x + self.mlp(x)

    def _centred(self, view: View) -> Tensor:
        return only(view.place - self.mean, view.weight > 0)

    @torch.no_grad()
    def fit(self, views: Sequence[View]) -> None:
        """From views of training frames, whatever their B and S; frames that show most of the part."""
        view = View(*(torch.cat([kind.flatten(0, 1) for kind in kinds]) for kinds in zip(*views)))  # [M, J_p, ..]
        shown = view.weight > 0
        self.mean.copy_(view.place.sum(0) / shown.sum(0).clamp(min=1)[:, None])
        whole = shown.float().mean(1) > 0.5  # [M]
        rows = [kind[whole].flatten(1) for kind in (self._centred(view), view.change)]  # 2 x [M', J_p * 2]
        count = 2 * shown[whole].sum().clamp(min=1)
        self.spread.copy_(torch.stack([(kind.square().sum() / count).sqrt() for kind in rows]).clamp(min=1e-3))
        first, column = 0, 0
        for kind, size in zip(rows, self.spread):
            axes = stretched_axes(kind / size, len(self.embed.weight) // 2)  # [n, J_p * 2]
            self.embed.weight[first : first + len(axes)] = 0
            self.embed.weight[first : first + len(axes), column : column + kind.shape[1]] = axes
            first, column = first + len(axes), column + kind.shape[1]


def stretched_axes(rows: Tensor, most: int, noise: float = NOISE) -> Tensor:
    """rows [M, F] -> [n, F]: principal axes, the largest first, each over its spread, so that a row's coordinates along
    them vary alike; what is little more than noise stays small."""
    if not len(rows):
        return rows.new_zeros(0, rows.shape[1])
    rows = rows.double()
    variance, axes = torch.linalg.eigh(rows.T @ rows / len(rows))  # the smallest first
    variance, axes = variance.flip(0)[:most].clamp(min=0), axes.flip(1)[:, :most].T
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()  # an axis has no sign of its own
    return (axes / (variance + noise * variance.mean() + 1e-9).sqrt()[:, None]).float()
