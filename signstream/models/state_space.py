"""The scan of a state-space layer (Mamba-2): each head has a state, which fades and is written to at every step.

    B clips   S steps   H heads   E channels of a head   G groups of heads, which write and read by the same b and c
    N numbers that a channel keeps   M pieces of a sequence   L steps of a piece

    state[t] = exp(dt[t] * a) * state[t - 1] + b[t] (dt[t] * x[t])    [B, H, N, E]        y[t] = c[t] state[t]

    scan         all steps: of padded clips (`lengths`), or of clips packed one after another (`first`); from either end
    scan_step    one step of a stream, with the state that the step before has left

Within a piece everything is a matrix product over pairs of steps, of which the later one reads what the earlier one has
written; from piece to piece only the state goes on. The gradient is written out by hand: it needs the inputs alone, and
works out the rest again where that is large. float32, or float64 if that comes in, whatever autocast says; exponents
are summed in float64, since steps close to each other take the difference of two large sums.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from signstream.errors import UserError

CHUNK = 48  # steps of a piece, at most; benchmarks/scan.py
KEPT = 1 << 22  # numbers: so large a scan does not keep its products for the gradient
GONE = -1e3  # an exponent of which nothing is left, float64 included
KERNELS = ("torch", "mamba_ssm")
KERNEL_CHUNK = 256  # steps of a piece in mamba-ssm's


def wide(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def scan(
    x: Tensor,
    dt: Tensor,
    a: Tensor,
    *,
    b: Tensor,
    c: Tensor,
    skip: Tensor | None = None,
    lengths: Tensor | None = None,
    first: Tensor | None = None,
    backward: bool = False,
    chunk: int = CHUNK,
    kernel: str = "torch",
) -> Tensor:
    """x [B, S, H, E], dt [B, S, H] (positive), a [H] (negative), b and c [B, S, G, N] -> y [B, S, H, E].

    skip [H]: how much of x goes straight to y. lengths [B]: steps of each clip; what lies behind them is not read, and
    0 in y. first [S] or [B, S], bool: here a packed clip begins, with an empty state. backward: each clip is read from
    its own end. kernel: of KERNELS; on a CPU it is always torch."""
    if 0 in x.shape:
        return x * 0
    skip = x.new_zeros(x.shape[2]) if skip is None else skip
    with torch.autocast(x.device.type, enabled=False):
        inputs = _Inputs(*(wide(t) for t in (x, dt, a, b, c, skip)))
        padding = None
        if lengths is not None:
            padding = torch.arange(x.shape[1], device=x.device) >= lengths.to(x.device)[:, None]  # [B, S]
            inputs = inputs.without(padding)
        way = _Way(None if first is None else first.reshape(-1, x.shape[1]).long().cumsum(1), backward, chunk)
        y = _fused(inputs, way) if kernel == "mamba_ssm" and x.is_cuda else _Scan.apply(way, *inputs)
        return y if padding is None else y.masked_fill(padding[..., None, None], 0)


def scan_step(x: Tensor, dt: Tensor, a: Tensor, *, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """x [B, H, E], dt [B, H], a [H], b and c [B, G, N], state [B, H, N, E] -> y [B, H, E] and the next state."""
    with torch.autocast(x.device.type, enabled=False):
        x, dt, a, b, c = (wide(t) for t in (x, dt, a, b, c))
        shape = (len(x), b.shape[1], -1)  # [B, G, H / G, ..]
        left = (dt * a).exp().view(*shape, 1, 1) * state.view(*shape, *state.shape[2:])
        written = (x * dt[..., None]).view(*shape, 1, x.shape[-1])
        state = torch.addcmul(left, b[:, :, None, :, None], written)  # [B, G, H / G, N, E]
        return (c[:, :, None, :, None] * state).sum(-2).flatten(1, 2), state.flatten(1, 2)


class _Inputs(NamedTuple):
    x: Tensor
    dt: Tensor
    a: Tensor
    b: Tensor
    c: Tensor
    skip: Tensor

    def without(self, padding: Tensor) -> _Inputs:
        """0 where padding [B, S] is."""
        x, b, c = (t.masked_fill(padding[..., None, None], 0) for t in (self.x, self.b, self.c))
        return self._replace(x=x, dt=self.dt.masked_fill(padding[..., None], 0), b=b, c=c)

    def grouped(self, x: Tensor) -> Tensor:
        """[B, H, ..] -> [B, G, H / G, ..]"""
        return x.view(len(x), self.b.shape[2], -1, *x.shape[2:])


class _Way(NamedTuple):
    clips: Tensor | None  # [B or 1, S] the number of each step's clip
    backward: bool
    chunk: int

    def length(self, steps: int) -> int:
        """Of a piece: all of them of like size, and of a short clip there is one alone."""
        return steps if steps <= 2 * self.chunk else -(-steps // -(-steps // self.chunk))

    def order(self, pieces: int) -> range:
        return range(pieces - 1, -1, -1) if self.backward else range(pieces)

    @property
    def last(self) -> int:
        """The step of a piece that is read last."""
        return 0 if self.backward else -1

    def incoming(self, clips: Tensor) -> Tensor:
        """[.., M, L] -> [.., M]: of which clip the state is that comes into a piece; -1: of none."""
        if self.backward:
            return F.pad(clips[..., 1:, 0], (0, 1), value=-1)
        return F.pad(clips[..., :-1, -1], (1, 0), value=-1)


class _Carry(NamedTuple):
    """What the state brings from piece to piece; the numbers are how much is left of it."""

    incoming: Tensor  # [B, H, M, L] at a step, of the state that comes in
    outgoing: Tensor  # [B, H, M, L] of a step, in the state that goes out
    through: Tensor  # [B, H, M] of the state that comes in, in the one that goes out
    kept: Tensor  # [B, H, M, L, N] outgoing * b


class _Pieces(NamedTuple):
    """A scan as a matrix product a piece: y = read @ written. N is 0 here where there is one piece alone."""

    written: Tensor  # [B, H, M, L + N, E] dt * x, and under it the state that comes in
    read: Tensor  # [B, H, M, L, L + N] how much of both each step reads
    decay: Tensor  # [B, H, M, L, L] how much is left at a step of what another has written
    same: Tensor | None  # [B or 1, 1, M, L, L] whether two steps are of one clip
    b: Tensor  # [B, G, M, L, N]
    c: Tensor  # [B, G, M, L, N]
    carry: _Carry | None

    @property
    def states(self) -> Tensor:
        """[B, H, M, N, E]"""
        return self.written[..., self.read.shape[-2] :, :]

    @property
    def steps(self) -> Tensor:
        """[B, H, M, L, E]"""
        return self.written[..., : self.read.shape[-2], :]


def _cut(x: Tensor, length: int) -> Tensor:
    """[B, S, H, ..] -> [B, H, M, L, ..], 0 behind the last step"""
    batch, steps, heads = x.shape[:3]
    pieces = -(-steps // length)
    out = x.new_empty(batch, heads, pieces * length, *x.shape[3:])
    out[:, :, :steps] = x.transpose(1, 2)
    if steps < pieces * length:
        out[:, :, steps:] = 0
    return out.view(batch, heads, pieces, length, *x.shape[3:])


def _joined(x: Tensor, steps: int) -> Tensor:
    """[B, H, M, L, ..] -> [B, S, H, ..]"""
    return x.flatten(2, 3)[:, :, :steps].transpose(1, 2)


def _times(x: Tensor, y: Tensor) -> Tensor:
    """Matrix products of [B, H, M, i, k] and [B, H, M, k, j]"""
    return torch.bmm(x.flatten(0, 2), y.flatten(0, 2)).view(*x.shape[:-1], y.shape[-1])


def _summed(x: Tensor, backward: bool) -> Tensor:
    """Running sums along the last axis, from either end."""
    return x.flip(-1).cumsum(-1).flip(-1) if backward else x.cumsum(-1)


def _seen(x: Tensor, same: Tensor | None, backward: bool) -> Tensor:
    """x [B, G, M, L, L] in place, 0 where a step (the rows) cannot read another."""
    x = x.triu_() if backward else x.tril_()
    return x if same is None else x.mul_(same)


def _lay_out(inputs: _Inputs, way: _Way) -> _Pieces:
    x, dt, a, b, c = inputs[:5]
    length = way.length(x.shape[1])
    fade = _summed(_cut((dt.double() * a).clamp_(min=GONE), length), way.backward)  # [B, H, M, L]
    decay = (fade[..., :, None] - fade[..., None, :]).to(x.dtype).clamp_(max=0).exp_()
    b, c = _cut(b, length), _cut(c, length)
    clips = None if way.clips is None else _cut(way.clips[..., None], length)  # [B or 1, 1, M, L]
    same = None if clips is None else clips[..., :, None] == clips[..., None, :]
    carry = None
    if decay.shape[2] > 1:
        carry = _carry(inputs, way, fade=fade.to(x.dtype), outgoing=decay[..., way.last, :], b=b, clips=clips)
    scores = _seen(_times(c, b.mT), same, way.backward)[:, :, None]  # [B, G, 1, M, L, L]
    if carry is None:
        read = (inputs.grouped(decay) * scores).view_as(decay)
    else:
        read = x.new_empty(*decay.shape[:-1], length + b.shape[-1])
        torch.mul(inputs.grouped(decay), scores, out=inputs.grouped(read)[..., :length])
        torch.mul(inputs.grouped(carry.incoming)[..., None], c[:, :, None], out=inputs.grouped(read)[..., length:])
    pieces = _Pieces(_written(inputs, read), read, decay, same, b, c, carry)
    _fill_states(pieces, way.order(decay.shape[2]))
    return pieces


def _carry(inputs: _Inputs, way: _Way, *, fade: Tensor, outgoing: Tensor, b: Tensor, clips: Tensor | None) -> _Carry:
    incoming = fade.exp()
    through = incoming[..., way.last]
    if clips is not None:
        before, now = way.incoming(clips), clips[..., way.last]
        incoming = incoming * (clips == before[..., None])
        outgoing = outgoing * (clips == now[..., None])
        through = through * (now == before)
    kept = (inputs.grouped(outgoing)[..., None] * b[:, :, None]).flatten(1, 2)
    return _Carry(incoming, outgoing, through, kept)


def _written(inputs: _Inputs, read: Tensor) -> Tensor:
    """[B, H, M, L + N, E], the states not filled in yet"""
    x, dt = inputs.x.transpose(1, 2), inputs.dt.transpose(1, 2)[..., None]  # [B, H, S, E or 1]
    (batch, heads, steps, channels), (pieces, length, rows) = x.shape, read.shape[2:]
    written = x.new_empty(batch, heads, pieces, rows, channels)
    whole, rest = divmod(steps, length)
    if whole:
        cut = (t[:, :, : whole * length].unflatten(2, (whole, length)) for t in (x, dt))
        torch.mul(*cut, out=written[:, :, :whole, :length])
    if rest:
        torch.mul(x[:, :, -rest:], dt[:, :, -rest:], out=written[:, :, -1, :rest])
        written[:, :, -1, rest:length] = 0
    return written


def _fill_states(pieces: _Pieces, order: range) -> None:
    if pieces.carry is not None:
        states, through = pieces.states, pieces.carry.through[..., None, None]
        states[:, :, order[0]] = 0
        added = _times(pieces.carry.kept.mT, pieces.steps)  # [B, H, M, N, E]
        for piece, after in zip(order, order[1:]):
            into = states[:, :, after]
            torch.addcmul(added[:, :, piece], through[:, :, piece], states[:, :, piece], out=into)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, way: _Way, *inputs: Tensor) -> Tensor:
        x, skip = inputs[0], inputs[-1]
        pieces = _lay_out(_Inputs(*inputs), way)
        ctx.way = way
        ctx.pieces = pieces if pieces.written.numel() <= KEPT else None
        ctx.save_for_backward(*inputs)
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        return torch.addcmul(_joined(_times(pieces.read, pieces.written), x.shape[1]), x, skip[:, None], out=y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        inputs = _Inputs(*ctx.saved_tensors)
        with torch.autocast(dy.device.type, enabled=False):
            pieces = _lay_out(inputs, ctx.way) if ctx.pieces is None else ctx.pieces
            return None, *_gradients(inputs, pieces, dy, way=ctx.way)


def _gradients(inputs: _Inputs, pieces: _Pieces, dy: Tensor, *, way: _Way) -> _Inputs:
    x, dt, a = inputs[:3]
    steps, length = x.shape[1], pieces.read.shape[-2]
    dpieces = _cut(dy, length)
    dread = _times(dpieces, pieces.written.mT)  # [B, H, M, L, L + N]
    du = _times(pieces.read[..., :length].mT, dpieces)  # [B, H, M, L, E]
    dscores = inputs.grouped(dread[..., :length] * pieces.decay).sum(2)  # [B, G, M, L, L]
    dscores = _seen(dscores, pieces.same, way.backward)
    db, dc = _times(dscores.mT, pieces.c), _times(dscores, pieces.b)  # [B, G, M, L, N]
    dfade = _between(dread[..., :length] * pieces.read[..., :length], way.backward)  # [B, H, M, L]
    if pieces.carry is not None:
        dstates = _times(pieces.read[..., length:].mT, dpieces)  # [B, H, M, N, E]
        dgone = _carried(dstates, pieces.carry.through, way.order(dpieces.shape[2]))
        du.flatten(0, 2).baddbmm_(pieces.carry.kept.flatten(0, 2), dgone.flatten(0, 2))
        dkept = _times(pieces.steps, dgone.mT)  # [B, H, M, L, N]
        db += inputs.grouped(dkept * pieces.carry.outgoing[..., None]).sum(2)
        dc += inputs.grouped(dread[..., length:] * pieces.carry.incoming[..., None]).sum(2)
        dfade += _around(pieces, dread[..., length:], dkept, backward=way.backward)
        dfade += ((dgone * pieces.states).sum((-2, -1)) * pieces.carry.through)[..., None]
    du, dfade = _joined(du, steps), _joined(dfade, steps)  # [B, S, H, E], [B, S, H]
    ddt = (du * x).sum(-1)
    return _Inputs(
        x=torch.addcmul(dy * inputs.skip[:, None], du, dt[..., None]),
        dt=torch.addcmul(ddt, dfade, a),
        a=(dfade * dt).sum((0, 1)),
        b=_joined(db, steps),
        c=_joined(dc, steps),
        skip=(dy * x).sum((0, 1, 3)),
    )


# What fades at a step gets the sum over all that passes through it. Sums alone: in a difference of sums, which would be
# cheaper, what is large would drown what is small.


def _between(pairs: Tensor, backward: bool) -> Tensor:
    """[B, H, M, L, L], from one step (the columns) to another (the rows) -> [B, H, M, L]"""
    if backward:
        return pairs.cumsum(-2).triu_(1).sum(-1)
    return _after(pairs.cumsum(-1).tril_(-1).sum(-2), backward)


def _around(pieces: _Pieces, dincoming: Tensor, dkept: Tensor, *, backward: bool) -> Tensor:
    """From the state that comes in to a step, and from a step to the state that goes out. Both [B, H, M, L, N]"""
    assert pieces.carry is not None
    length = dincoming.shape[-2]
    incoming = (dincoming * pieces.read[..., length:]).sum(-1)
    outgoing = (dkept * pieces.carry.kept).sum(-1)
    return _summed(incoming, not backward) + _after(_summed(outgoing, backward), backward)


def _after(x: Tensor, backward: bool) -> Tensor:
    """Each step's number at the step that is read after it; 0 at the first."""
    return F.pad(x[..., 1:], (0, 1)) if backward else F.pad(x[..., :-1], (1, 0))


def _carried(dstates: Tensor, through: Tensor, order: range) -> Tensor:
    """The gradient of the state that goes out of each piece, from those of the states that come in."""
    dgone, through = torch.empty_like(dstates), through[..., None, None]
    dgone[:, :, order[-1]] = 0
    for piece, after in zip(order[-2::-1], order[:0:-1]):
        torch.addcmul(dstates[:, :, after], through[:, :, after], dgone[:, :, after], out=dgone[:, :, piece])
    return dgone


def _fused(inputs: _Inputs, way: _Way) -> Tensor:
    """The same by mamba-ssm's kernel, which rounds its products to TF32."""
    x, dt, a, b, c, skip = inputs
    clips = None if way.clips is None else way.clips.expand(x.shape[:2]).int()
    if way.backward:
        x, dt, b, c = (t.flip(1) for t in (x, dt, b, c))
        clips = None if clips is None else clips.flip(1)
    x, dt, b, c = (t.contiguous() for t in (x, dt, b, c))
    clips = None if clips is None else clips.contiguous()
    y = fused_kernel()(x, dt, a, b, c, KERNEL_CHUNK, D=skip, seq_idx=clips)
    return y.flip(1) if way.backward else y


def fused_kernel() -> Any:
    try:
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined
    except ImportError as error:
        raise UserError(
            f"the kernel mamba_ssm is of the package mamba-ssm ({error}): pip install mamba-ssm, or take kernel torch"
        ) from None
    return mamba_chunk_scan_combined
