"""Layers on the state-space scan (Mamba-2): time within a clip, and the patches of a picture.

    B clips   S steps of a clip   D width   M pictures   H x W patches, and a class token behind them
    I = expand * D channels of the heads   C channels of the convolution: those, and b and c of every group

    TemporalMixer  [B, S, D] -> [B, S, D]            both ways, or causal; causal also step by step, [B, D] -> [B, D]
    SpatialMixer   [M, H * W + 1, D] -> the same     a quarter of the heads in each of four directions

A mixer has no residual branch and no norm before it: a block puts them round it. Weights are drawn in `init_weights`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signstream.errors import UserError, shown
from signstream.models.causal_conv import CausalConv
from signstream.models.state_space import KERNELS, fused_kernel, scan, scan_step, wide

SLOWEST, FASTEST = 1e-3, 1e-1  # dt at the start, log-uniform
RATES = (1.0, 16.0)  # -a at the start, uniform
BRANCHES = 3  # residual branches of a block; what the last layer of each adds begins small


class Memory(NamedTuple):
    """What a causal mixer remembers of a stream."""

    past: Tensor  # [B, conv - 1, C] what the convolution still sees
    state: Tensor  # [B, H, N, E]


class Heads(nn.Module):
    """H state-space heads of E channels in G groups, read from what a projection and a convolution made of each step.

    channels: x [B, S, H * E], b and c [B, S, G * N]; and dt [B, S, H] -> [B, S, H * E]"""

    def __init__(self, heads: int, head: int, *, groups: int, state: int, kernel: str = "torch") -> None:
        super().__init__()
        self.kernel = known(kernel)
        self.heads, self.head, self.groups, self.state = heads, head, groups, state
        self.dt_bias = nn.Parameter(torch.empty(heads))
        self.log_rate = nn.Parameter(torch.empty(heads))  # a = -exp(log_rate)
        self.skip = nn.Parameter(torch.empty(heads))  # of x straight to y
        self.sizes = [heads * head, groups * state, groups * state]  # x, b, c

    def init_weights(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            dt = self.dt_bias.uniform_(math.log(SLOWEST), math.log(FASTEST), generator=generator).exp()
            self.dt_bias.copy_(dt + (-(-dt).expm1()).log())  # softplus, the other way
            self.log_rate.uniform_(*RATES, generator=generator).log_()
            self.skip.fill_(1)

    def forward(
        self,
        channels: Sequence[Tensor],
        dt: Tensor,
        *,
        first: Tensor | None = None,
        backward: bool = False,
    ) -> Tensor:
        x, b, c = self._shaped(channels)
        dt, a = self._dt(dt), self._a()
        y = scan(x, dt, a, b=b, c=c, skip=self.skip, first=first, backward=backward, kernel=self.kernel)
        return y.flatten(-2)

    def step(self, channels: Sequence[Tensor], dt: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step of each, state [B, H, N, E] -> [B, H * E], the next state"""
        x, b, c = self._shaped(channels)
        y, state = scan_step(x, self._dt(dt), self._a(), b=b, c=c, state=state)
        return (y + self.skip[:, None] * x).flatten(-2), state

    def _shaped(self, channels: Sequence[Tensor]) -> Iterator[Tensor]:
        """x [.., H, E], b and c [.., G, N]"""
        counts = (self.heads, self.groups, self.groups)
        return (part.unflatten(-1, (count, -1)) for part, count in zip(channels, counts))

    def _dt(self, dt: Tensor) -> Tensor:
        return F.softplus(wide(dt) + self.dt_bias)

    def _a(self) -> Tensor:
        return -self.log_rate.exp()


class Way(nn.Module):
    """One direction through time: C + H numbers a step, from a projection -> [B, S, H * E]."""

    def __init__(self, heads: Heads, conv: int, *, backward: bool = False) -> None:
        super().__init__()
        self.heads, self.backward = heads, backward
        self.conv = CausalConv(sum(heads.sizes), conv)
        self.sizes = [sum(heads.sizes), heads.heads]

    def forward(self, z: Tensor, *, own: Tensor | None, first: Tensor | None) -> Tensor:
        channels, dt = z.split(self.sizes, -1)  # [B, S, C], [B, S, H]
        channels = self.conv(channels, first=first, backward=self.backward)
        if own is not None and self.backward:  # it begins in the padding: nothing is to be written there
            channels = channels * own
        return self.heads(channels.split(self.heads.sizes, -1), dt, first=first, backward=self.backward)

    def step(self, z: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        channels, dt = z.split(self.sizes, -1)  # [B, C], [B, H]
        channels, past = self.conv.step(channels, memory.past)
        y, state = self.heads.step(channels.split(self.heads.sizes, -1), dt, memory.state)
        return y, Memory(past, state)

    def begin(self, clips: int) -> Memory:
        """Of B streams that have not begun."""
        weight, heads = self.conv.weight, self.heads
        past = weight.new_zeros(clips, len(weight) - 1, self.sizes[0])
        return Memory(past, weight.new_zeros(clips, heads.heads, heads.state, heads.head))


class TemporalMixer(nn.Module):
    """Steps of a clip hear each other: half of the heads from its start and half from its end, or all from its start.

    Padded clips come with `lengths` [B] and are 0 behind their ends; packed ones with `first` [S] or [B, S]: here a
    clip begins."""

    small = ("out",)

    def __init__(
        self,
        width: int,
        *,
        head: int = 64,
        state: int = 32,
        groups: int = 2,
        expand: float = 2,
        conv: int = 4,
        causal: bool = False,
        kernel: str = "torch",
    ) -> None:
        super().__init__()
        inner, ways = round(width * expand), 1 if causal else 2
        heads, shared = shares(inner, head, groups=groups, ways=ways)

        def way(backward: bool) -> Way:
            return Way(Heads(heads, head, groups=shared, state=state, kernel=kernel), conv, backward=backward)

        self.forth = way(False)
        self.back = None if causal else way(True)
        self.into = nn.Linear(width, ways * sum(self.forth.sizes), bias=False)
        self.norm = nn.LayerNorm(inner)
        self.out = nn.Linear(inner, width, bias=False)
        self.init_weights(torch.Generator().manual_seed(0))

    def init_weights(self, generator: torch.Generator, depth: int = 1) -> None:
        """`depth`: blocks of the network."""
        init_mixer(self, generator, depth)

    def forward(self, x: Tensor, lengths: Tensor | None = None, *, first: Tensor | None = None) -> Tensor:
        """[B, S, D] -> [B, S, D]"""
        own = None if lengths is None else (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[..., None]
        if own is not None:
            x = torch.where(own, x, 0.0)  # whatever stands in the padding; what is made of it is finite
        first = None if first is None else first.reshape(-1, x.shape[1])
        z = wide(self.into(x))
        with torch.autocast(x.device.type, enabled=False):
            if self.back is None:
                y = self.forth(z, own=own, first=first)
            else:
                forth, back = z.chunk(2, -1)
                ways = (self.forth(forth, own=own, first=first), self.back(back, own=own, first=first))
                y = torch.cat(ways, -1)  # [B, S, I]
            y = self.norm(y)
        out = self.out(y)
        return out if own is None else out * own

    def step(self, x: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """The next step of a stream: x [B, D] -> [B, D], and what to bring to the step after it."""
        assert self.back is None, "only a causal mixer can be fed step by step"
        z = wide(self.into(x))
        with torch.autocast(x.device.type, enabled=False):
            y, memory = self.forth.step(z, self.forth.begin(len(x)) if memory is None else memory)
            y = self.norm(y)
        return self.out(y), memory


class SpatialMixer(nn.Module):
    """Patches of a picture hear each other along its rows and its columns, forward and backward: a quarter of the heads
    each. The class token comes last whatever the direction, so it has read everything."""

    small = ("out",)

    def __init__(
        self,
        width: int,
        *,
        head: int = 64,
        state: int = 16,
        groups: int = 4,
        expand: float = 2,
        kernel: str = "torch",
    ) -> None:
        super().__init__()
        inner = round(width * expand)
        heads, shared = shares(inner, head, groups=groups, ways=4)
        self.heads = Heads(4 * heads, head, groups=4 * shared, state=state, kernel=kernel)
        channels = sum(self.heads.sizes)
        self.sizes = [channels, 4 * heads]
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.into = nn.Linear(width, sum(self.sizes), bias=False)
        self.norm = nn.LayerNorm(inner)
        self.out = nn.Linear(inner, width, bias=False)
        self.init_weights(torch.Generator().manual_seed(0))

    def init_weights(self, generator: torch.Generator, depth: int = 1) -> None:
        """`depth`: blocks of the network."""
        init_mixer(self, generator, depth)
        with torch.no_grad():
            self.conv.weight.uniform_(-1 / 3, 1 / 3, generator=generator)
            self.conv.get_parameter("bias").zero_()

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """[M, H * W + 1, D] -> the same; grid: H, W"""
        channels, dt = wide(self.into(x)).split(self.sizes, -1)
        with torch.autocast(x.device.type, enabled=False):
            patches = self.conv(channels[:, :-1].mT.unflatten(2, grid)).flatten(2).mT  # [M, H * W, C]
            channels = torch.cat((F.silu(patches), channels[:, -1:]), 1)
            parts = [Turn.apply(part, grid, False) for part in channels.split(self.heads.sizes, -1)]
            y = self.heads(parts, Turn.apply(dt, grid, False))  # [M, H * W + 1, I]
            mixed = self.norm(Turn.apply(y, grid, True))
        return self.out(mixed)


class Turn(torch.autograd.Function):
    """[M, H * W + 1, F], a quarter of F in the order of each direction: along the rows, from the last patch back, along
    the columns, and back; the class token last. `back`: from those orders again, which is the gradient too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: tuple[int, int], back: bool) -> Tensor:
        ctx.grid, ctx.back = grid, back
        return turned(x, grid, back)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        return Turn.apply(dy, ctx.grid, not ctx.back), None, None


def turned(x: Tensor, grid: tuple[int, int], back: bool) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    out[:, -1] = x[:, -1]
    rows, columns = grid, grid[::-1]
    for way, (old, new) in enumerate(zip(x[:, :-1].chunk(4, -1), out[:, :-1].chunk(4, -1))):
        if way % 2:
            old = old.flip(1)
        if way < 2:
            new.copy_(old)
        elif back:
            new.unflatten(1, rows).copy_(old.unflatten(1, columns).transpose(1, 2))
        else:
            new.unflatten(1, columns).copy_(old.unflatten(1, rows).transpose(1, 2))
    return out


def known(kernel: str) -> str:
    """The name of a kernel that is there."""
    if kernel not in KERNELS:
        raise UserError(f"the kernel {shown(kernel)} is none of {', '.join(KERNELS)}")
    if kernel == "mamba_ssm":
        fused_kernel()
    return kernel


def shares(inner: int, head: int, *, groups: int, ways: int) -> tuple[int, int]:
    """Heads and groups of one direction."""
    if inner % (head * ways):
        raise UserError(
            f"{inner} channels (expand * width) in {ways} directions and heads of {head}: "
            f"they have to be a multiple of {head * ways}"
        )
    heads = inner // head // ways
    if groups % ways or heads % (groups // ways):
        raise UserError(f"{groups} groups for {heads} heads in each of {ways} directions: they do not divide")
    return heads, groups // ways


def init_mixer(mixer: TemporalMixer | SpatialMixer, generator: torch.Generator, depth: int) -> None:
    for module in mixer.modules():
        if isinstance(module, Heads | CausalConv):
            module.init_weights(generator)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            with torch.no_grad():
                module.weight.uniform_(-bound, bound, generator=generator)
    with torch.no_grad():
        mixer.out.weight /= (BRANCHES * depth) ** 0.5
