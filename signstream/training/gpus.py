"""What a training would run on, tried before it: report() -> lines to read, and faults, each with what to do."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from importlib import import_module
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from signstream.cli import REQUIRED
from signstream.errors import first_line, one_line
from signstream.training.distributed import auto_threads, physical_cores
from signstream.training.precision import AUTOCAST

# How far a result may be from the CPU's in fp32, as a share of its length: TF32 rounds to 4e-4, bf16 to 3e-3.
BOUNDS = {"fp32": 1e-3, "bf16": 1e-2}
NO_GPU = ("Found no NVIDIA driver", "No CUDA GPUs are available")  # torch's words; all others are of a GPU that fails
SIZE, LARGE = 256, 4096  # rows of the product that is compared, and of the one that is timed
LEAVE_OUT = "leave it out with CUDA_VISIBLE_DEVICES, and have it looked at"
LONG_ENOUGH = 0.1  # seconds of products for a speed


class Report(NamedTuple):
    lines: list[str]
    faults: list[str]


def report() -> Report:
    for package in REQUIRED:  # a training needs all: cli.run says which one is missing
        import_module(package)
    version = f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not gpus:
        return _without_gpu(version)
    nccl = dist.is_available() and dist.is_nccl_available()
    starts = f"train_multi.sh starts {gpus} process{'es' if gpus > 1 else ''}"
    found = Report([f"{version}, NCCL {'is there' if nccl else 'is missing'}; {starts}"], [])
    if gpus > 1 and not nccl:
        found.faults.append("without NCCL GPUs cannot train together: install a torch build that has it, or NUM_GPUS=1")
    for index in range(gpus):
        _try_gpu(torch.device("cuda", index), found)
    return found


def _without_gpu(version: str) -> Report:
    visible, why, faults = os.environ.get("CUDA_VISIBLE_DEVICES"), "torch sees none", []
    if torch.version.cuda is None and torch.version.hip is None:
        why = "this torch is built for the CPU alone"
    elif visible is not None and visible.strip() in ("", "-1"):
        why = f"CUDA_VISIBLE_DEVICES is {visible!r}, which hides all"
    else:
        try:
            torch.cuda.init()
        except RuntimeError as error:
            why = one_line(first_line(error), 200)
            if not why.startswith(NO_GPU):
                faults.append("CUDA does not start: install a torch build for the CUDA version that nvidia-smi names")
    uses = f"training uses the CPU in fp32, cores: {physical_cores()}, train.threads: {auto_threads(os.environ, 1)}"
    return Report([f"no GPU ({why}; {version}): {uses}"], faults)


def _try_gpu(device: torch.device, found: Report) -> None:
    name, what = f"GPU {device.index}", "its name and memory"
    try:
        torch.cuda.set_device(device)  # as a training does; autocast asks the current one whether it knows bf16
        card = torch.cuda.get_device_properties(device)
        free, total = (count / 2**30 for count in torch.cuda.mem_get_info(device))
        found.lines.append(
            f"{name}: {card.name}, {free:.1f} of {total:.1f} GiB free, compute capability {card.major}.{card.minor}"
        )
        speeds = {}
        for what, bound in BOUNDS.items():
            off = error_of(device, what)
            if not off <= bound:  # nan too
                wrong = f"{what} is off by {off:.2g} of the CPU's result, {bound:g} at most is right"
                found.faults.append(f"{name}: {wrong}: {LEAVE_OUT}")
            speeds[what] = tflops(device, what)
            found.lines.append(f"  {what}: off by {off:.1e} of the CPU's result, {speeds[what]:.1f} TFLOP/s")
        if speeds["bf16"] < speeds["fp32"]:
            found.lines.append("  bf16 is the slower: train.amp=fp16 or fp32 suits this GPU better")
    except RuntimeError as error:  # what torch and CUDA raise, memory that is too small too
        said = one_line(first_line(error), 200).rstrip(".")
        found.faults.append(f"{name}: {what}: {said}: {_advice(said, what)}")


def _advice(said: str, what: str) -> str:
    if "out of memory" in said:
        return "end what else uses it (nvidia-smi lists that), or leave it out with CUDA_VISIBLE_DEVICES"
    if "no kernel image" in said:
        return "install a torch build for its compute capability"
    return "train with train.amp=fp16 or fp32" if what == "bf16" else LEAVE_OUT


def error_of(device: torch.device, precision: str) -> float:
    """How far a product and its two gradients are from the CPU's in fp32, at worst, as a share of their length."""
    pairs = zip(_product(device, precision), _product(torch.device("cpu"), "fp32"))
    # not max(), which may pass over nan
    return float(torch.stack([(ours.cpu() - right).norm() / right.norm() for ours, right in pairs]).amax())


def _product(device: torch.device, precision: str) -> list[Tensor]:
    """x w and the gradients of x and w, [N, N] each, of the same x, w and gradient everywhere."""
    draw = torch.Generator().manual_seed(0)
    x, w, grad = (torch.randn(SIZE, SIZE, generator=draw).to(device) for _ in range(3))
    x.requires_grad_()
    w.requires_grad_()
    dtype = AUTOCAST.get(precision)
    with nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype):
        y = x @ w
    return [y.detach().float(), *torch.autograd.grad((y.float() * grad).sum(), (x, w))]


def tflops(device: torch.device, precision: str, size: int = LARGE) -> float:
    """Of a product of two matrices of `size` rows; the number of products doubles until they take long enough."""
    x = torch.randn(size, size, device=device, dtype=AUTOCAST.get(precision, torch.float32))
    _seconds(x, 1)  # loads the kernel
    count = 1
    while (seconds := _seconds(x, count)) < LONG_ENOUGH:
        count *= 2
    return 2 * size**3 * count / seconds / 1e12


def _seconds(x: Tensor, count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        x @ x
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - begin
