"""Blocks over the steps of a sequence: a mixer, which lets steps hear each other, then a perceptron a step.

    B clips   S steps, padded   D width   H heads   E width of a head

    mixer(x [B, S, D], lengths [B]) -> [B, S, D]     what stands in the padding changes nothing, and comes out as 0
    step(x [B, D], memory) -> y [B, D], memory       of a causal mixer: one step of each clip, the same numbers as the
                                                     whole gives; memory None: the first one

Three kinds of like size (4 to 4.4 D^2 weights): `mamba` (models/mamba.py); `transformer`, whose steps know how far
they are from each other (rotary); `bilstm`. Each may be causal: mamba and the LSTM then run forward only, and the
transformer sees `past` steps back, so that a stream's memory has an end.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from signstream.errors import UserError
from signstream.models.ctc_path import within
from signstream.models.mamba import BRANCHES, TemporalMixer

MIXERS = ("mamba", "transformer", "bilstm")
BASE = 10_000.0  # steps of the slowest turn, about, of a rotary position


class Mixing(NamedTuple):
    """Which mixer, and its sizes."""

    kind: str = "mamba"
    causal: bool = False
    head: int = 64  # width of a head, at most
    state: int = 32  # mamba: numbers that a channel remembers
    groups: int = 2  # mamba: of heads that read and write alike
    past: int = 128  # transformer, causal: steps that it sees back
    kernel: str = "torch"  # mamba: what computes the scan, state_space.KERNELS


def without_padding(x: Tensor, lengths: Tensor) -> Tensor:
    """x [B, S, ...] with 0 past each clip's end, whatever stood there."""
    past = ~within(lengths, x.shape[1])
    return x.masked_fill(past.view(*past.shape, *(1,) * (x.ndim - 2)), 0)


def head_of(width: int, most: int, *, of: int = 1) -> int:
    """The widest head that shares a width evenly, and is a multiple of `of`."""
    heads = [head for head in range(of, max(min(most, width), of) + 1, of) if width % head == 0]
    if not heads:
        raise UserError(f"a width of {width} cannot be shared by heads whose width is a multiple of {of}: change it")
    return heads[-1]


def mixer_of(width: int, mixing: Mixing) -> Any:
    if mixing.kind == "mamba":
        sizes = {"head": head_of(width, mixing.head), "state": mixing.state, "groups": mixing.groups}
        return TemporalMixer(width, causal=mixing.causal, kernel=mixing.kernel, **sizes)
    if mixing.kind == "transformer":  # pairs of a head's numbers are turned
        return AttentionMixer(
            width, head=head_of(width, mixing.head, of=2), past=mixing.past if mixing.causal else None
        )
    assert mixing.kind == "bilstm", f"the mixer {mixing.kind!r} is none of {MIXERS}"
    return LstmMixer(width, causal=mixing.causal)


class AttentionMixer(nn.Module):
    """Attention over a clip's steps; `past`: over that many before each step, and itself."""

    small = ("out",)

    def __init__(self, width: int, *, head: int = 64, past: int | None = None) -> None:
        super().__init__()
        assert width % head == head % 2 == 0, f"heads of {head} do not share a width of {width} in pairs"
        self.heads, self.past = width // head, past
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        q, k, v = self._heads(without_padding(x, lengths))  # 3 x [B, H, S, E]
        place = torch.arange(x.shape[1], device=x.device)
        seen = self._seen(place, lengths)  # [B or 1, 1, S or 1, S]
        heard = F.scaled_dot_product_attention(turned(q, place), turned(k, place), v, attn_mask=seen)
        return without_padding(self.out(heard.transpose(1, 2).flatten(2)), lengths)

    def _heads(self, x: Tensor) -> Tensor:
        """[B, S, D] -> [3, B, H, S, E]"""
        return self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def _seen(self, place: Tensor, lengths: Tensor) -> Tensor:
        """Which steps a step may hear, at least one: a softmax over nothing has no gradient."""
        if self.past is None:
            return (place < lengths.clamp(min=1)[:, None])[:, None, None]
        back = place[:, None] - place  # what lies in the padding comes after all that is a clip's own
        return ((back >= 0) & (back <= self.past))[None, None]

    def step(self, x: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        """memory [2, B, H, n, E]: keys, not turned yet, and values of the steps before"""
        assert self.past is not None, "attention over the whole clip cannot be streamed"
        q, *new = self._heads(x[:, None])  # [B, H, 1, E]
        now = torch.stack(new)
        memory = now if memory is None else torch.cat((memory, now), 3)[:, :, :, -self.past - 1 :]
        place = torch.arange(memory.shape[3], device=x.device)
        heard = F.scaled_dot_product_attention(turned(q, place[-1:]), turned(memory[0], place), memory[1])
        return self.out(heard.flatten(1)), memory


def turned(x: Tensor, place: Tensor) -> Tensor:
    """x [B, H, S, E], pairs of its numbers turned by angles that grow with place [S]: a product of two such vectors
    knows how far apart they are, and not where."""
    half = x.shape[-1] // 2
    rate = BASE ** (-torch.arange(half, device=x.device) / half)
    angle = place[:, None].float() * rate  # [S, E / 2]
    cos, sin = angle.cos(), angle.sin()
    a, b = x.float().split(half, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


class LstmMixer(nn.Module):
    """An LSTM over each clip's own steps, packed, both ways or forward alone; always float32."""

    small = ("out",)

    def __init__(self, width: int, *, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        share = 0.585 if causal else 0.336  # so that it has as many weights as the other mixers
        hidden = max(round(width * share / 8) * 8, 8)
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=not causal)
        self.out = nn.Linear(hidden * (1 if causal else 2), width)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if 0 in x.shape:
            return x  # of which nothing can be packed
        with torch.autocast(x.device.type, enabled=False):
            kept = lengths.clamp(min=1).cpu()  # a packed sequence has a step
            packed = pack_padded_sequence(x.float(), kept, batch_first=True, enforce_sorted=False)
            heard, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])
        return without_padding(self.out(heard), lengths)

    def step(self, x: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        """memory [2, 1, B, hidden]: what it puts out and what it keeps"""
        assert self.causal, "an LSTM that runs both ways cannot be streamed"
        with torch.autocast(x.device.type, enabled=False):
            heard, state = self.lstm(x.float()[:, None], None if memory is None else (memory[0], memory[1]))
        return self.out(heard[:, 0]), torch.stack(state)


class Mlp(nn.Module):
    small = ("down",)

    def __init__(self, width: int, expand: int = 4) -> None:
        super().__init__()
        self.up = nn.Linear(width, expand * width)
        self.down = nn.Linear(expand * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class Block(nn.Module):
    """The mixer, then the perceptron; normalised before, added after to a residual that stays float32."""

    def __init__(self, width: int, mixing: Mixing, expand: int = 4) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixer = mixer_of(width, mixing)
        self.mlp = Mlp(width, expand)

    def forward(self, x: Tensor, lengths: Tensor, keep: Tensor | None = None) -> Tensor:
        """keep [2, B]: what each branch counts, by clip; 0 where it is dropped."""
        x = added(x, self.mixer(self.norm1(x), lengths), None if keep is None else keep[0])
        return added(x, self.mlp(self.norm2(x)), None if keep is None else keep[1])

    def step(self, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        """[B, D]"""
        heard, memory = self.mixer.step(self.norm1(x), memory)
        x = added(x, heard, None)
        return added(x, self.mlp(self.norm2(x)), None), memory


def added(x: Tensor, branch: Tensor, keep: Tensor | None) -> Tensor:
    """x [n, ...] float32 and a branch of it, times keep [n]."""
    if keep is not None:
        branch = branch * keep.view(-1, *(1,) * (branch.ndim - 1)).to(branch.dtype)
    return x + branch.float()


@torch.no_grad()
def init_weights(network: nn.Module, generator: torch.Generator, depth: int) -> None:
    """Every weight under `network`, of `depth` blocks; a module below it may have an `init_weights` of its own. What a
    module names in `embeddings` are vectors to add; layers that it names in `small` lead back onto the residual and
    begin small, so that its size does not grow with the depth. Norms are as torch makes them."""
    for module in network.children():
        own: Any = getattr(module, "init_weights", None)
        if own is not None:
            own(generator, depth)
        else:
            init_weights(module, generator, depth)
    if isinstance(network, nn.Linear | nn.Conv1d | nn.Conv2d):
        bound = network.weight[0].numel() ** -0.5
        network.weight.uniform_(-bound, bound, generator=generator)
        if network.bias is not None:
            network.bias.zero_()
    elif isinstance(network, nn.LSTM):
        bound = network.hidden_size**-0.5
        for weight in network.parameters():
            weight.uniform_(-bound, bound, generator=generator)
    for name in getattr(network, "embeddings", ()):
        getattr(network, name).normal_(std=0.02, generator=generator)
    for name in getattr(network, "small", ()):
        getattr(network, name).weight.div_((BRANCHES * max(depth, 1)) ** 0.5)
