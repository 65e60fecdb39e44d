"""Tensors made on the wrong device, and how often the host waits for the GPU, found on a machine without one."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clips import moving_clip
from data_sets import signer_root
from devices import GPU, PretendedGPU, WrongDevice, on_gpu
from helpers import ARCHS, CASES, begin_loop, case_options
from signstream.inference.tokenizer import Tokenizer
from signstream.training.distributed import Ranks
from signstream.training.loop import Loop


def x_on_gpu() -> Tensor:
    return torch.ones(3, 4, device=GPU)


ALLOWED = {
    "made there": lambda x: x + torch.zeros(4, device=x.device),
    "made alike": lambda x: x + torch.zeros_like(x) + x.new_zeros(4) + x.new_tensor((1.0, 2.0, 3.0, 4.0)),
    "moved": lambda x: x + torch.arange(4).to(x.device) + torch.arange(4).to(x) + torch.arange(4).cuda(),
    "a number": lambda x: x + 1.0 + torch.tensor(2.0),
    "a constant": lambda x: x + torch.tensor((1.0, 2.0, 3.0, 4.0), device=x.device),
    "indexed by the host": lambda x: x[torch.tensor([0, 1])],
    "back": lambda x: x.cpu() + torch.zeros(4),
    "a module": lambda x: nn.Linear(4, 4).to(GPU)(x),
    "random, drawn on the host": lambda x: x + torch.rand(4, generator=torch.Generator()).to(x.device),
    "rows": lambda x: torch.stack([row + torch.zeros(4, device=GPU) for row in x]),
    "in place": lambda x: x.add_(1).clamp_(torch.tensor(0.0)),
}
REFUSED = {
    "made on the host": lambda x: x + torch.zeros(4),
    "a range": lambda x: x * (torch.arange(4) < 2),
    "numpy's": lambda x: x + torch.from_numpy(torch.ones(4).numpy()),
    "joined": lambda x: torch.cat((x, torch.zeros(1, 4))),
    "stacked numbers": lambda x: torch.stack((x.sum(), torch.zeros(()))),
    "chosen": lambda x: torch.where(torch.ones(4) > 0, x, 0.0),
    "gathered": lambda x: x.gather(0, torch.zeros(1, 4, dtype=torch.int64)),
    "a module of the host": lambda x: nn.Linear(4, 4)(x),
    "a number of the host, added to": lambda x: torch.zeros(()).add_(x.sum()),
    "a host indexed by the GPU": lambda x: torch.zeros(4)[(x[0] > 0)],
    "a generator": lambda x: torch.rand(4, generator=torch.Generator(), device=GPU),
    "noise": lambda x: x.normal_(generator=torch.Generator()),
    "back and forgotten": lambda x: x + x.cpu(),
    "a loss": lambda x: F.mse_loss(x, torch.zeros(3, 4)),
}


@pytest.mark.parametrize("what", ALLOWED)
def test_what_a_gpu_does_is_allowed(what):
    with PretendedGPU():
        ALLOWED[what](x_on_gpu())


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_gpu_refuses_is_found(what):
    with PretendedGPU(), pytest.raises(WrongDevice, match="test_devices"):
        REFUSED[what](x_on_gpu())


def test_a_tensor_says_where_it_is_and_its_gradient_lies_there_too():
    weight = nn.Parameter(torch.ones(4))
    with PretendedGPU():
        layer = nn.Linear(4, 4).to(GPU)
        assert layer.weight.device == GPU and layer.weight.is_cuda and not weight.is_cuda
        layer(x_on_gpu()).sum().backward()
        optimizer = torch.optim.AdamW(layer.parameters())
        nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
        optimizer.step()
        assert layer.weight.grad.is_cuda
        assert all(value.is_cuda for state in optimizer.state.values() for value in (state["exp_avg"],))
        assert weight.detach().cpu() is not None and not on_gpu(weight)


SYNCS = {
    "item": lambda x: x.sum().item(),
    "__float__": lambda x: float(x.sum()),
    "__bool__": lambda x: bool((x > 0).all()),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "nonzero": lambda x: x.nonzero(),
    "__getitem__": lambda x: x[x > 0],
    "__setitem__": lambda x: x.__setitem__(x > 0, x.flatten().clone()),
    "unique": lambda x: x.unique(),
    "copy_": lambda x: torch.zeros(3, 4).copy_(x),
    "repeat_interleave": lambda x: x.repeat_interleave(torch.ones(3, dtype=torch.int64, device=GPU), 0),
    "tensor": lambda x: torch.tensor([x[0, 0], x[0, 1]]),
}
UPLOADS = {
    "to": lambda x: torch.ones(3).to(x.device),
    "cuda": lambda x: torch.ones(3).cuda(),
    "tensor": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "new_tensor": lambda x: x.new_tensor((1.0, 2.0)),
    "copy_": lambda x: x.copy_(torch.zeros(3, 4)),
    "__getitem__": lambda x: x[torch.tensor([0, 1])],
}
NO_WAIT = {
    "whole": lambda x: x[:, 1:][torch.arange(3, device=GPU)].sum().square(),
    "a mask set to a number": lambda x: x.__setitem__(x > 0, 0.0),
    "pinned": lambda x: torch.ones(3).pin_memory().to(GPU, non_blocking=True),
    "shape": lambda x: (len(x), x.shape, x.dtype, x.numel(), x.device, x.is_floating_point()),
}


@pytest.mark.parametrize("what", SYNCS)
def test_the_host_waits_for_a_value(what):
    with PretendedGPU() as gpu:
        SYNCS[what](x_on_gpu())
    assert [sync.what for sync in gpu.syncs] == [what]
    assert "test_devices.py:" in gpu.syncs[0].where and not gpu.uploads


@pytest.mark.parametrize("what", UPLOADS)
def test_the_host_waits_for_a_copy(what):
    with PretendedGPU() as gpu:
        UPLOADS[what](x_on_gpu())
    assert [sync.what for sync in gpu.uploads] == [what] and not gpu.syncs


@pytest.mark.parametrize("what", NO_WAIT)
def test_nobody_waits(what):
    with PretendedGPU() as gpu:
        NO_WAIT[what](x_on_gpu())
    assert not gpu.syncs and not gpu.uploads


# What a micro-batch waits for, by function, at most once each: nothing. The test's own gloss task counts chunks by
# clip.
WAITS: set[str] = set()
GLOSS_WAITS = {"forward"}
# What a step waits for beside that, by function. Micro-batch by micro-batch, before the first forward pass: which
# joints only one of two neighbouring frames has, which chunks the usage loss watches. Once: whether there are codes,
# the seed of what is drawn, whether any rank was asked to stop, the loss that the watch sees, the gradient's norm,
# codes revived.
PREPARING = {"sample_at", "chunked"}
ONCE = {"quantising", "next_draw", "_shared_counts", "step", "optimise", "_revive"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return signer_root(tmp_path_factory.mktemp("devices"), frames=60)


class Begun(NamedTuple):
    """A loop that believes in a GPU, and the clips of a step."""

    loop: Loop
    raw: Any

    def step(self) -> None:
        self.loop.step(self.raw)


@pytest.fixture(scope="module", params=CASES)
def begun(request, root) -> Begun:
    """Of each case, three micro-batches a step, after its first."""
    few = ("train.warmup_steps=0", "train.batch_size=2", "train.clips_per_step=6")
    with PretendedGPU():
        loop = begin_loop(case_options(root, request.param, *few), Ranks(device=GPU))
        raw = next(iter(loop.loader))
        loop.step(raw)
    return Begun(loop, raw)


def waits_of_micro_batches(begun: Begun, gpu: PretendedGPU) -> list[list[str]]:
    """The functions that wait in a step, by micro-batch: from its loss to the next one's, or to the watch."""
    starts: list[int] = []
    loop = begun.loop
    gpu.syncs.clear()

    def noted(call: Callable) -> Callable:
        return lambda *args: (starts.append(len(gpu.syncs)), call(*args))[1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.task, "loss", noted(loop.task.loss))
        patch.setattr(loop.watch, "see", noted(loop.watch.see))
        begun.step()
    functions = [sync.where.rsplit(" ")[-1] for sync in gpu.syncs]
    assert functions[starts[-1] - 1] == "step", "the watch waits for the step's loss"
    return [functions[a:b] for a, b in zip(starts, [*starts[1:-1], starts[-1] - 1])]


pytestmark = pytest.mark.filterwarnings("ignore:'pin_memory' argument")


def test_every_tensor_of_a_run_lies_where_it_is_needed(begun):
    with PretendedGPU():
        begun.step()
        begun.loop.validate(health=True)
    model = begun.loop.task.model
    assert all(map(on_gpu, (*model.parameters(), *model.buffers())))


def test_micro_batches_wait_for_the_written_few(begun):
    with PretendedGPU() as gpu:
        waits = waits_of_micro_batches(begun, gpu)
    allowed = GLOSS_WAITS if begun.loop.config.task == "gloss" else WAITS
    assert len(waits) == 3
    for functions in waits:
        assert set(functions) <= allowed and len(functions) == len(set(functions))


def test_a_step_waits_for_the_written_few(begun):
    if begun.loop.config.task == "gloss":
        pytest.skip("a task of the tests, which waits where it likes")
    with PretendedGPU() as gpu:
        begun.step()
    waits = Counter(sync.where.rsplit(" ")[-1] for sync in gpu.syncs)
    assert waits.keys() <= PREPARING | ONCE
    assert all(waits[name] <= 1 for name in ONCE) and all(waits[name] <= 3 for name in PREPARING)


def test_a_wait_planted_in_the_loss_is_counted(begun, monkeypatch):
    loss = begun.loop.task.loss

    def planted(batch, progress):
        planned = loss(batch, progress)
        assert planned.totals.sum().item() > 0
        return planned

    monkeypatch.setattr(begun.loop.task, "loss", planted)
    with PretendedGPU() as gpu:
        waits = waits_of_micro_batches(begun, gpu)
    assert [functions.count("planted") for functions in waits] == [1, 1, 1]


def test_a_tensor_planted_on_the_host_is_found(begun, monkeypatch):
    loss = begun.loop.task.loss

    def planted(batch, progress):
        planned = loss(batch, progress)
        return planned._replace(totals=planned.totals + torch.zeros(planned.totals.shape))

    monkeypatch.setattr(begun.loop.task, "loss", planted)
    with PretendedGPU(), pytest.raises(WrongDevice, match="planted"):
        begun.step()


@pytest.mark.parametrize("case", [*ARCHS, "fsq"])
def test_a_clip_is_encoded_and_decoded_on_one_device(root, case):
    loop = begin_loop(case_options(root, case, "train.warmup_steps=0"))
    loop.step(next(iter(loop.loader)))
    loop.validate(health=False)  # makes the budget
    poses, state = moving_clip(40, 0), loop.state_dict()
    on_cpu = Tokenizer(state)
    tokens = on_cpu.encode(poses)
    with PretendedGPU():
        pretended = Tokenizer(state, GPU)
        assert all(map(on_gpu, pretended.model.parameters()))
        same = (pretended.encode(poses).codes.cpu() == tokens.codes).float().mean()
        restored = pretended.decode(tokens)
    assert same > 0.95, "a GPU takes all rows at once, which rounds differently"
    assert torch.allclose(restored, on_cpu.decode(tokens), atol=1e-5)
