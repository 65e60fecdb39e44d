"""The state-space scan is a loop over steps in float64: from both ends, over padded and packed clips, at extremes."""

import importlib.util

import pytest
import torch

from scans import BATCH, CHANNELS, HEADS, STATE, assert_close, inputs, loop, with_gradients
from signstream.errors import UserError
from signstream.models import state_space
from signstream.models.mamba import TemporalMixer
from signstream.models.state_space import CHUNK, scan, scan_step

WAYS = pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])


pytestmark = pytest.mark.usefixtures("one_thread")


def borders(kind, steps):
    if kind == "ragged":
        return {"lengths": torch.tensor([steps, max(steps // 2, 1), 1])}
    if kind == "packed":
        begins = torch.zeros(BATCH, steps, dtype=torch.bool)
        for clip, every in enumerate((1, 7, CHUNK)):
            begins[clip, clip::every] = True
        return {"first": begins}
    return {}


@WAYS
@pytest.mark.parametrize("kind", ["whole", "ragged", "packed"])
@pytest.mark.parametrize("steps", [1, 2, CHUNK, CHUNK + 1, 2 * CHUNK + 5])
def test_the_scan_is_the_loop_in_float64(steps, kind, backward):
    how = borders(kind, steps) | {"backward": backward}
    given = inputs(steps)
    exact = with_gradients(loop, given, torch.float64, **how)
    assert_close(with_gradients(scan, given, torch.float32, **how), exact)
    assert_close(with_gradients(scan, given, torch.float64, **how), exact, most=1e-12)


@WAYS
@pytest.mark.parametrize("chunk", [1, 2, 7, 1000])
def test_the_size_of_a_piece_changes_nothing(chunk, backward):
    given = inputs(23)
    how = {"backward": backward, "first": torch.arange(23) % 9 == 4}
    exact = with_gradients(loop, given, torch.float64, **how)
    assert_close(with_gradients(scan, given, torch.float32, chunk=chunk, **how), exact)


@WAYS
@pytest.mark.parametrize("steps", [CHUNK, 3 * CHUNK])
def test_a_large_scan_works_out_the_same_again(steps, backward, monkeypatch):
    how = borders("packed", steps) | {"backward": backward}
    kept = with_gradients(scan, inputs(steps), torch.float32, **how)
    monkeypatch.setattr(state_space, "KEPT", 0)
    assert all(torch.equal(a, b) for a, b in zip(kept, with_gradients(scan, inputs(steps), torch.float32, **how)))


def test_the_step_is_the_scan():
    x, dt, a, b, c, skip = inputs(CHUNK + 3)
    state = torch.zeros(BATCH, HEADS, STATE, CHANNELS)
    rows = []
    for t in range(x.shape[1]):
        y, state = scan_step(x[:, t], dt[:, t], a, b=b[:, t], c=c[:, t], state=state)
        rows.append(y + skip[:, None] * x[:, t])
    assert_close([torch.stack(rows, 1)], [scan(x, dt, a, b=b, c=c, skip=skip)])


@WAYS
@pytest.mark.parametrize("sizes", [[0.0], [1e-30], [1e4], [1e12], [1e-30, 1e12, 0.1, 50.0, 0.0]])
def test_extreme_dt_stays_finite_and_right(sizes, backward):
    """States that never fade, that are gone at once, and both in one clip, where a sum of exponents is large and what
    differs is small."""
    given = inputs(2 * CHUNK + 1, largest=1.0)
    given[1] = given[1] * torch.tensor(sizes)[torch.arange(given[1].shape[1]) % len(sizes)][:, None]
    exact = with_gradients(loop, given, torch.float64, backward=backward)
    ours = with_gradients(scan, given, torch.float32, backward=backward)
    assert all(bool(t.isfinite().all()) for t in ours)
    assert_close(ours, exact)


@WAYS
def test_nothing_is_read_behind_a_clips_end(backward):
    steps, lengths = 2 * CHUNK, torch.tensor([2 * CHUNK, CHUNK - 3, 1])
    given = inputs(steps)
    clean = with_gradients(scan, given, torch.float32, lengths=lengths, backward=backward)
    behind = torch.arange(steps) >= lengths[:, None]
    for place in (0, 1, 3, 4):
        given[place][behind] = float("nan")
    dirty = with_gradients(scan, given, torch.float32, lengths=lengths, backward=backward)
    assert all(torch.equal(a, b) for a, b in zip(clean, dirty))
    assert all(bool((dirty[place][behind] == 0).all()) for place in (0, 1, 2, 4, 5))


def test_no_clips_and_no_steps_go_through():
    for shape in ((0, 7), (2, 0)):
        x, dt, a, b, c, skip = inputs(max(shape[1], 1), batch=shape[0])
        parts = (t[:, : shape[1]].requires_grad_() for t in (x, dt, b, c))
        x, dt, b, c = parts
        y = scan(x, dt, a, b=b, c=c, skip=skip)
        y.sum().backward()
        assert y.shape == x.shape and TemporalMixer(8, head=4)(torch.zeros(*shape, 8)).shape == (*shape, 8)


def test_autocast_leaves_the_scan_float32():
    """Forward and backward, whether or not the caller's gradients are worked out under autocast too."""
    given = inputs(CHUNK + 1)
    plain = with_gradients(scan, given, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = with_gradients(scan, given, torch.float32)
    assert all(torch.equal(a, b) and b.dtype == torch.float32 for a, b in zip(plain, cast))
    x, dt, a, b, c, skip = (t.bfloat16() for t in given)
    assert torch.equal(
        scan(x, dt, a, b=b, c=c, skip=skip),
        scan(x.float(), dt.float(), a.float(), b=b.float(), c=c.float(), skip=skip.float()),
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@WAYS
@pytest.mark.parametrize("kind", ["whole", "ragged", "packed"])
def test_on_a_gpu_it_is_the_same(kind, backward):
    steps = 2 * CHUNK + 5
    given, how = inputs(steps), borders(kind, steps)
    exact = with_gradients(loop, given, torch.float64, backward=backward, **how)
    there = {name: t.cuda() for name, t in how.items()}
    ours = with_gradients(scan, [t.cuda() for t in given], torch.float32, backward=backward, **there)
    assert_close([t.cpu() for t in ours], exact)


INSTALLED = importlib.util.find_spec("mamba_ssm") is not None


@pytest.mark.skipif(INSTALLED, reason="mamba-ssm is installed")
def test_without_mamba_ssm_its_kernel_is_one_line():
    with pytest.raises(UserError, match=r"the package mamba-ssm .*pip install mamba-ssm") as said:
        TemporalMixer(64, head=8, kernel="mamba_ssm")
    assert "\n" not in str(said.value)


@pytest.mark.gpu
@pytest.mark.skipif(not INSTALLED or not torch.cuda.is_available(), reason="needs mamba-ssm and a GPU")
@WAYS
@pytest.mark.parametrize("kind", ["whole", "ragged", "packed"])
def test_mamba_ssms_kernel_is_the_scan(kind, backward):
    """To the rounding of TF32. Its kernels want channels and states in powers of two."""
    steps = 2 * CHUNK + 5
    given = [t.cuda() for t in inputs(steps, channels=64, state=32)]
    how = {name: t.cuda() for name, t in borders(kind, steps).items()} | {"backward": backward}

    def by(kernel):
        x, dt, a, b, c, skip = leaves = [t.clone().requires_grad_() for t in given]
        y = scan(x, dt, a, b=b, c=c, skip=skip, kernel=kernel, **how)
        y.square().sum().backward()
        return [y.detach(), *(t.grad for t in leaves)]

    assert_close(by("mamba_ssm"), by("torch"), most=2e-2)
