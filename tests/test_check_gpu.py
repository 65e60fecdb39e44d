"""What check_gpu says of GPUs, played by the CPU here, and of a machine without one."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch

from devices import GPU, PretendedGPU
from signstream.training import check_gpu, gpus

CPU = torch.device("cpu")


@pytest.fixture
def two_gpus(monkeypatch):
    """Two GPUs that compute on the CPU; bf16 is the faster."""
    card = SimpleNamespace(name="Made-up 80", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * 2**30, 4 * 2**30))
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    error_of = gpus.error_of
    monkeypatch.setattr(gpus, "error_of", lambda device, precision: error_of(CPU, precision))
    monkeypatch.setattr(gpus, "tflops", lambda device, precision: {"fp32": 50.0, "bf16": 600.0}[precision])


def failing(monkeypatch, function, precision, result):
    """GPU 1 gives or raises that, in this precision."""
    real = getattr(gpus, function)

    def fails(device, asked):
        if (device.index, asked) != (1, precision):
            return real(device, asked)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(gpus, function, fails)


def said(capsys, status):
    """The door's lines."""
    assert check_gpu.main([]) == status
    return capsys.readouterr().out.splitlines()


def test_good_gpus(two_gpus, capsys):
    head, *rest = said(capsys, 0)
    assert head == (
        f"torch {torch.__version__}, CUDA {torch.version.cuda}, NCCL is there; train_multi.sh starts 2 processes"
    )
    assert len(rest) == 6
    for index, (card, fp32, bf16) in enumerate((rest[:3], rest[3:])):
        assert card == f"GPU {index}: Made-up 80, 3.0 of 4.0 GiB free, compute capability 9.0"
        assert re.fullmatch(r"  fp32: off by \S+ of the CPU's result, 50.0 TFLOP/s", fp32)
        assert re.fullmatch(r"  bf16: off by \S+ of the CPU's result, 600.0 TFLOP/s", bf16)


@pytest.mark.parametrize(
    ("function", "precision", "result", "fault"),
    [
        (
            "error_of",
            "fp32",
            0.5,
            r"fp32 is off by 0\.5 of the CPU's result, 0\.001 at most is right: leave it out with",
        ),
        ("error_of", "bf16", float("nan"), r"bf16 is off by nan .*: leave it out with CUDA_VISIBLE_DEVICES"),
        (
            "error_of",
            "bf16",
            RuntimeError("No bfloat16.\nat"),
            r"bf16: No bfloat16: train with train\.amp=fp16 or fp32",
        ),
        (
            "error_of",
            "fp32",
            RuntimeError("no kernel image is"),
            r"fp32: .*: install a torch build for its compute cap",
        ),
        ("error_of", "fp32", RuntimeError("illegal address"), r"fp32: illegal address: leave it out with"),
        ("tflops", "bf16", torch.cuda.OutOfMemoryError("CUDA out of memory"), r"bf16: .*memory: end what else uses it"),
    ],
)
def test_a_gpu_that_fails(two_gpus, function, precision, result, fault, monkeypatch, capsys):
    failing(monkeypatch, function, precision, result)
    *lines, last = said(capsys, 1)
    assert re.match(f"fault: GPU 1: {fault}", last), last
    assert not any("fault:" in line for line in lines) and sum("GPU" in line for line in lines) == 2


def test_a_gpu_that_cannot_be_asked(two_gpus, monkeypatch, capsys):
    def busy(device):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "mem_get_info", busy)
    for index, line in enumerate(said(capsys, 1)[1:]):
        assert line.startswith(f"fault: GPU {index}: its name and memory: CUDA error: out of memory: end what else")


def test_several_gpus_need_nccl(two_gpus, monkeypatch, capsys):
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    lines = said(capsys, 1)
    assert "NCCL is missing" in lines[0] and lines[-1].startswith("fault: without NCCL")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert said(capsys, 0)[0].endswith("NCCL is missing; train_multi.sh starts 1 process")


def test_bf16_that_gains_nothing_is_said(two_gpus, monkeypatch, capsys):
    failing(monkeypatch, "tflops", "bf16", 2.0)
    assert said(capsys, 0)[-1] == "  bf16 is the slower: train.amp=fp16 or fp32 suits this GPU better"


@pytest.mark.parametrize(
    ("cuda", "visible", "error", "why"),
    [
        (None, None, None, "this torch is built for the CPU alone"),
        ("12.8", "", None, "CUDA_VISIBLE_DEVICES is '', which hides all"),
        ("12.8", None, "Found no NVIDIA driver on your system.\nPlease", "Found no NVIDIA driver on your system."),
        ("12.8", "7", "No CUDA GPUs are available", "No CUDA GPUs are available"),
        ("12.8", None, "The NVIDIA driver on your system is too old", "The NVIDIA driver on your system is too old"),
    ],
)
def test_no_gpu(cuda, visible, error, why, monkeypatch, capsys):
    def init():
        raise RuntimeError(error)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(gpus, "physical_cores", lambda: 8)
    monkeypatch.setattr(gpus, "auto_threads", lambda environment, world: 6)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    old = "too old" in why
    line, *faults = said(capsys, int(old))
    version = f"torch {torch.__version__}, CUDA {cuda}"
    assert line == f"no GPU ({why}; {version}): training uses the CPU in fp32, cores: 8, train.threads: 6"
    assert [fault.split(":")[1] for fault in faults] == [" CUDA does not start"] * old


@pytest.mark.parametrize("precision", gpus.BOUNDS)
def test_the_trial_itself(precision, monkeypatch):
    """On the CPU: within the bound, and beyond it once a product is wrong."""
    off = gpus.error_of(CPU, precision)
    assert off <= gpus.BOUNDS[precision] / 3 and (off > 0) == (precision == "bf16")
    assert 0 < gpus.tflops(CPU, precision, size=64) < 1000
    product = torch.Tensor.__matmul__
    wrongs = iter((1.05, 1.0))  # the tried device's, the reference's
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda x, w: product(x, w) * next(wrongs))
    assert gpus.error_of(CPU, precision) > gpus.BOUNDS[precision]


def test_every_tensor_of_a_trial_lies_where_it_is_needed():
    with PretendedGPU():
        assert gpus.error_of(GPU, "fp32") < gpus.BOUNDS["fp32"]
