"""The state-space scan as a loop over steps, what to feed it with, and how near two results have to be."""

import torch

BATCH, HEADS, CHANNELS, GROUPS, STATE = 3, 4, 5, 2, 3
NAMES = ("y", "x", "dt", "a", "b", "c", "skip")


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inputs(steps, largest=0.3, batch=BATCH, channels=CHANNELS, state=STATE):
    """x, dt, a, b, c, skip; dt up to `largest`"""
    dt = largest * torch.rand(batch, steps, HEADS, generator=torch.Generator().manual_seed(1))
    a = -torch.linspace(0.5, 16, HEADS)
    shared = (batch, steps, GROUPS, state)
    return [drawn(batch, steps, HEADS, channels), dt, a, drawn(*shared, seed=2), drawn(*shared, seed=3), drawn(HEADS)]


def loop(x, dt, a, *, b, c, skip, lengths=None, first=None, backward=False):
    """What `scan` says of itself, step by step."""
    batch, steps, heads, channels = x.shape
    b, c = (t.repeat_interleave(heads // t.shape[2], 2) for t in (b, c))  # [B, S, H, N]
    ends = torch.full((batch,), steps) if lengths is None else lengths
    begins = torch.zeros(batch, steps, dtype=torch.bool) if first is None else first.expand(batch, steps)
    rows = []
    for clip in range(batch):
        state, read = x.new_zeros(heads, b.shape[-1], channels), {}
        order = range(int(ends[clip]))
        for t in reversed(order) if backward else order:
            if begins[clip, t] and not backward:
                state = torch.zeros_like(state)
            written = b[clip, t, :, :, None] * (dt[clip, t, :, None] * x[clip, t])[:, None]
            state = (dt[clip, t] * a).exp()[:, None, None] * state + written
            read[t] = (c[clip, t, :, :, None] * state).sum(1) + skip[:, None] * x[clip, t]
            if begins[clip, t] and backward:
                state = torch.zeros_like(state)
        rows.append(torch.stack([read.get(t, x.new_zeros(heads, channels)) for t in range(steps)]))
    return torch.stack(rows)


def with_gradients(function, given, dtype, **how):
    """y and the gradient of each input."""
    x, dt, a, b, c, skip = given = [t.detach().clone().to(dtype).requires_grad_() for t in given]
    y = function(x, dt, a, b=b, c=c, skip=skip, **how)
    (y * drawn(*y.shape, seed=4).to(y)).sum().backward()
    return [y.detach(), *(t.grad for t in given)]


def assert_close(ours, theirs, names=NAMES, most=1e-5):
    for name, a, b in zip(names, ours, theirs):
        error = (a.double() - b.double()).abs().max() / b.abs().max().clamp(min=1e-30)
        assert error <= most or (a.double() - b.double()).abs().max() < 1e-30, f"{name}: {error:.1e}"
