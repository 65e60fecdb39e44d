"""The scan of a state-space layer (Mamba-2): every head carries a state that fades and is written to at each step.

    B clips   S steps   H heads   E channels of a head   G groups of heads, which share b and c
    N numbers that a channel keeps   M pieces of a sequence, L steps each: within a piece matrix products,
    from piece to piece the state alone

    state[t] = exp(dt[t] * a) * state[t - 1] + dt[t] * b[t] x[t]     [B, H, N, E]     y[t] = c[t] state[t]     [B, H, E]

    scan         all steps of padded clips (`lengths`) or of clips packed one after another (`first`), from either end
    scan_step    one step of a stream, with the state that the last one left

Both compute in float32 (float64 if that is what comes in), whatever autocast says.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 64  # steps of a piece, at most


def scan(
    x: Tensor,
    dt: Tensor,
    a: Tensor,
    *,
    b: Tensor,
    c: Tensor,
    lengths: Tensor | None = None,
    first: Tensor | None = None,
    backward: bool = False,
    chunk: int = CHUNK,
) -> Tensor:
    """x [B, S, H, E], dt [B, S, H] (positive), a [H] (negative), b and c [B, S, G, N] -> y [B, S, H, E].

    lengths [B]: steps of each clip, what lies behind them is not read, and 0 in y. first [S] or [B, S], bool: here a
    packed clip begins, and with an empty state. backward: every clip is read from its own end."""
    with torch.autocast(x.device.type, enabled=False):
        if lengths is not None:
            padding = torch.arange(x.shape[1], device=x.device) >= lengths.to(x.device)[:, None]  # [B, S]
            x, b, c = (t.masked_fill(padding[..., None, None], 0) for t in (x, b, c))
            dt = dt.masked_fill(padding[..., None], 0)
        if first is not None:
            first = first.view(-1, x.shape[1])
        if backward:
            x, dt, b, c = (t.flip(1) for t in (x, dt, b, c))
            first = None if first is None else _ends(first).flip(1)
        wide = torch.promote_types(x.dtype, torch.float32)
        x, dt, a, b, c = (t.to(wide) for t in (x, dt, a, b, c))
        y = _chunked(x * dt[..., None], dt * a, b=b, c=c, first=first, chunk=chunk)
        y = y.flip(1) if backward else y
        return y if lengths is None else y.masked_fill(padding[..., None, None], 0)


def scan_step(x: Tensor, dt: Tensor, a: Tensor, *, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """x [B, H, E], dt [B, H], a [H], b and c [B, G, N], state [B, H, N, E] -> y [B, H, E], the next state."""
    with torch.autocast(x.device.type, enabled=False):
        wide = torch.promote_types(x.dtype, torch.float32)
        x, dt, a, b, c = (t.to(wide) for t in (x, dt, a, b, c))
        shared = x.shape[1] // b.shape[1]  # heads of a group
        b, c = (t.repeat_interleave(shared, 1) for t in (b, c))  # [B, H, N]
        kept = (dt * a).exp()[..., None, None] * state
        state = torch.addcmul(kept, b[..., None], (x * dt[..., None])[..., None, :])  # [B, H, N, E]
        return (c[..., None, :] @ state)[..., 0, :], state


def _ends(first: Tensor) -> Tensor:
    """Where packed clips end, from where they begin. [B, S]"""
    return torch.cat((first[:, 1:], first.new_ones(len(first), 1)), 1)


def _pieces(x: Tensor, length: int) -> Tensor:
    """[B, S, ..] -> [B, M, L, ..], 0 behind the last step."""
    missing = -x.shape[1] % length
    if missing:
        x = F.pad(x, (0, 0) * (x.ndim - 2) + (0, missing))
    return x.reshape(len(x), -1, length, *x.shape[2:])


def _chunked(u: Tensor, fade: Tensor, *, b: Tensor, c: Tensor, first: Tensor | None, chunk: int) -> Tensor:
    """u [B, S, H, E] what is written, fade [B, S, H] the logarithm of what is kept."""
    batch, steps, heads, wide = u.shape
    groups = b.shape[2]
    if 0 in u.shape:
        return torch.zeros_like(u)
    length = -(-steps // -(-steps // chunk))  # pieces of like size
    b, c = (_pieces(t, length).transpose(2, 3) for t in (b, c))  # [B, M, G, L, N]
    u = _pieces(u, length).transpose(2, 3).unflatten(2, (groups, heads // groups))  # [B, M, G, H / G, L, E]
    fade = _pieces(fade, length).transpose(2, 3).unflatten(2, (groups, heads // groups)).cumsum(-1)
    clip = None if first is None else _pieces(first.long(), length).flatten(1).cumsum(1).view(len(first), -1, length)
    pieces = u.shape[1]

    hidden = torch.ones(length, length, dtype=torch.bool, device=u.device).triu(1)  # [L, L]
    if clip is not None:
        hidden = hidden | (clip[..., :, None] != clip[..., None, :])[:, :, None, None]  # [B, M, 1, 1, L, L]
    decay = (fade[..., :, None] - fade[..., None, :]).masked_fill(hidden, -torch.inf).exp()
    y = (decay * (c @ b.mT)[:, :, :, None]) @ u  # [B, M, G, H / G, L, E]
    if pieces > 1:
        to_end, from_start = decay[..., -1, :], fade.exp()  # [B, M, G, H / G, L]
        through = from_start[..., -1]  # [B, M, G, H / G]
        if clip is not None:
            before = F.pad(clip[:, :-1, -1], (1, 0), value=-1)[..., None]  # [B, M, 1] the clip that comes in
            from_start = from_start * (clip == before)[:, :, None, None]
            through = through * (clip[..., -1:] == before)[..., None]
        written = b.mT[:, :, :, None] @ (to_end[..., None] * u)  # [B, M, G, H / G, N, E]
        states = [torch.zeros_like(written[:, 0])]
        for piece in range(pieces - 1):
            states.append(torch.addcmul(written[:, piece], through[:, piece, ..., None, None], states[-1]))
        y = y + from_start[..., None] * (c[:, :, :, None] @ torch.stack(states, 1))
    y = y.flatten(2, 3).transpose(2, 3).reshape(batch, pieces * length, heads, wide)
    return y[:, :steps]
