"""What only a GPU can show: bash tests/run.sh -m gpu tests/test_gpu.py, on a machine that has one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from clips import moving_clip
from data_sets import signer_root
from helpers import CASES, assert_same, begin_loop, case_options, free_port, run_steps
from signstream import registry
from signstream.config import load_config
from signstream.inference.tokenizer import Tokenizer
from signstream.training import checkpoint, gpus
from signstream.training.distributed import Ranks, start
from signstream.training.loop import Loop, auto_batch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
GPU = torch.device("cuda", 0)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return signer_root(tmp_path_factory.mktemp("gpu"))


@pytest.fixture(autouse=True)
def whole_memory() -> Iterator[None]:
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def begin_on_gpu(root: Path, case: str, *options: str) -> Loop:
    return begin_loop(case_options(root, case, "train.warmup_steps=4", *options), Ranks(device=GPU))


def weights(loop: Loop) -> dict[str, Tensor]:
    return {name: value.cpu().clone() for name, value in loop.task.model.state_dict().items()}


def test_the_check_before_a_training_finds_no_fault():
    found = gpus.report()
    print("\n".join(found.lines))
    assert not found.faults and sum("TFLOP/s" in line for line in found.lines) == 2 * torch.cuda.device_count()


@pytest.mark.parametrize(("amp", "off"), [("fp32", 1e-3), ("bf16", 5e-2), ("fp16", 5e-2)])
@pytest.mark.parametrize("case", CASES)
def test_it_learns_what_the_cpu_learns(root, case, amp, off):
    """To rounding while the network is alone; with codes, of which some flip, to a tenth."""
    expected = run_steps(begin_loop(case_options(root, case, "train.warmup_steps=4")), 10)
    losses = run_steps(begin_on_gpu(root, case, f"train.amp={amp}"), 10)
    assert losses[:4] == pytest.approx(expected[:4], rel=off)
    assert losses[4:] == pytest.approx(expected[4:], rel=max(off, 0.1))


def test_an_overflow_in_fp16_leaves_the_step_out_and_halves_the_scale(root):
    loop = begin_on_gpu(root, "mlp", "train.amp=fp16")
    run_steps(loop, 2)
    assert loop.scaler.is_enabled()
    state = loop.scaler.state_dict()
    loop.scaler.load_state_dict(state | {"scale": 2.0**120})
    before = dict(loop.task.model.named_parameters())
    copies = {name: value.detach().clone() for name, value in before.items()}
    run_steps(loop, 1)
    assert all(torch.equal(value, copies[name]) for name, value in before.items())
    assert loop.scaler.get_scale() == 2.0**119


def test_the_largest_batch_is_found_and_fits(root):
    options = case_options(root, "mlp", "train.batch_size=auto", "train.clips_per_step=64")
    config, ranks = load_config(None, options), Ranks(device=GPU)
    task = registry.find("task", config.task).open(config, ranks)
    task.begin()
    assert auto_batch(task, config, ranks) == 64, "all of a step fits a whole GPU"
    torch.cuda.reset_peak_memory_stats()
    loop = Loop(task, config, ranks, clips=64)
    loop.step(task.largest(64))
    needed = torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.6 * needed / torch.cuda.get_device_properties(GPU).total_memory)
    clips = auto_batch(task, config, ranks)
    assert 1 <= clips < 64
    Loop(task, config, ranks, clips=clips).step(task.largest(64))


@pytest.mark.parametrize("case", ["mlp", "transformer"])
def test_a_compiled_model_learns_what_the_other_does(root, case):
    losses = [run_steps(begin_on_gpu(root, case, f"model.compile={flag}"), 8) for flag in ("false", "true")]
    assert losses[1][:4] == pytest.approx(losses[0][:4], rel=1e-3)
    assert losses[1][4:] == pytest.approx(losses[0][4:], rel=5e-2), "codes may flip"


def test_batches_come_in_pinned_memory(root):
    loop = begin_on_gpu(root, "mlp")
    assert all(raw.frames.is_pinned() for raw in loop.loader)


def test_one_rank_joins_nccl_for_the_gpu_and_gloo_for_the_rest(monkeypatch):
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with start("cuda") as ranks:
        dist.init_process_group("cpu:gloo,cuda:nccl", rank=0, world_size=1)
        try:
            for device in (ranks.device, torch.device("cpu")):
                sums = torch.arange(3.0, device=device)
                dist.all_reduce(sums)
                assert sums.tolist() == [0, 1, 2]
                rows = torch.ones(5, dtype=torch.uint8, device=device)
                gathered = [torch.empty_like(rows)]
                dist.all_gather(gathered, rows)
                assert torch.equal(gathered[0], rows)
            box = ["value"]
            dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
            assert box == ["value"]
        finally:
            dist.destroy_process_group()


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_goes_on(root, tmp_path, case, amp):
    """Bit for bit is the CPU's promise; a GPU adds in any order."""
    option = f"train.amp={amp}"
    straight = begin_on_gpu(root, case, option)
    run_steps(straight, 3)
    checkpoint.save(straight.state_dict() | {"generators": []}, tmp_path / "last.pt")
    losses = run_steps(straight, 3)
    resumed = begin_on_gpu(root, case, option)
    resumed.load_state_dict(checkpoint.load(tmp_path / "last.pt"))
    assert run_steps(resumed, 3) == pytest.approx(losses, rel=1e-2)
    assert (resumed.steps, resumed.lr) == (straight.steps, straight.lr)
    assert_same(resumed.loader.state_dict(), straight.loader.state_dict())
    moments = [value for state in resumed.optimizer.state.values() for value in state.values()]
    assert all(value.is_cuda for value in moments if isinstance(value, Tensor) and value.dim())


@pytest.mark.parametrize("case", [case for case in CASES if case != "gloss"])
def test_tokens_of_a_gpu_are_those_of_the_cpu_but_for_a_few(root, case):
    loop = begin_on_gpu(root, case)
    run_steps(loop, 8)
    loop.validate(health=True)
    state = loop.state_dict()
    of_cpu, of_gpu = Tokenizer(state), Tokenizer(state, GPU)
    pairs = [
        (of_cpu.encode(poses).codes, of_gpu.encode(poses).codes.cpu()) for poses in map(moving_clip, (40, 90, 200))
    ]
    same = torch.cat([(a == b).flatten() for a, b in pairs]).float().mean()
    assert same > 0.98
    tokens = of_cpu.encode(moving_clip(40))
    difference = (of_cpu.decode(tokens) - of_gpu.decode(tokens).cpu()).abs().max()
    assert difference < 1e-2


@pytest.mark.parametrize("case", CASES)
def test_the_driver_counts_no_more_waits_than_the_written_ones(root, case):
    loop = begin_on_gpu(root, case, "train.batch_size=2", "train.clips_per_step=6", "train.warmup_steps=0")
    run_steps(loop, 2)
    raw = next(iter(loop.loader))
    batches = [loop.task.prepare(small, loop.progress, train=True) for small in loop.task.split(raw, loop.micro)]
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for batch in batches:
                loop.task.loss(batch, loop.progress)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places = [f"{Path(w.filename).name}:{w.lineno}" for w in seen if "synchroniz" in str(w.message)]
    print(f"{case}: {len(places)} waits in {len(batches)} micro-batches: {sorted(set(places))}")
    assert len(places) <= 8 * len(batches), places
