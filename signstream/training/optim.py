"""The optimiser, the learning rate, and how many clips a step and a micro batch hold.

world: processes; a step's clips are clips_per_step (times world with scale_with_world), in micro batches whose
gradients add up
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from signstream.config import Train
from signstream.errors import UserError
from signstream.training.distributed import Ranks
from signstream.training.task import Group

BUCKET = 1 << 22  # numbers of a bucket of gradients: 16 MB


def build_optimizer(groups: Sequence[Group], train: Train, world: int = 1) -> torch.optim.AdamW:
    """AdamW; a group's `rate` is its share of the learning rate, which `set_rate` sets before each step."""
    peak = peak_rate(train, world)
    options = [
        {
            "params": group.parameters,
            "lr": peak * group.rate,
            "weight_decay": train.wd if group.decay else 0.0,
            "share": group.rate,
        }
        for group in groups
        if group.parameters
    ]
    fused = all(p.is_cuda for group in groups for p in group.parameters)
    return torch.optim.AdamW(options, lr=peak, fused=fused or None)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]


def groups_of(model: nn.Module) -> list[Group]:
    """All that a model trains, in two groups: what `undecayed` finds has no weight decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    kept = undecayed(model)
    decayed = [p for p in trained if id(p) not in kept]
    return [Group(decayed), Group([p for p in trained if id(p) in kept], decay=False)]


def undecayed(model: nn.Module) -> set[int]:
    """The ids of the parameters without weight decay: norms and biases (anything of fewer than two dimensions),
    embeddings, and those that their module names in an attribute `no_decay: tuple[str, ...]`. A shared parameter is in
    if any of its places says so."""
    ids = set()
    for module in model.modules():
        parameters = dict(module.named_parameters(recurse=False))
        named = set(getattr(module, "no_decay", ()))
        unknown = sorted(named - set(parameters))
        assert not unknown, f"{type(module).__name__}.no_decay names {unknown}, its parameters are {sorted(parameters)}"
        whole = isinstance(module, nn.Embedding)
        ids |= {id(p) for name, p in parameters.items() if whole or p.ndim < 2 or name in named}
    return ids


def peak_rate(train: Train, world: int = 1) -> float:
    return train.lr * math.sqrt(world) if train.scale_with_world else train.lr


def learning_rate(step: int, total: int, train: Train, *, world: int = 1) -> float:
    """The rate of step 0 .. total - 1: a line up to the peak, then a cosine down to `min_lr` of it at the last step.
    In a run shorter than twice `warmup_steps` the rise takes half of it."""
    peak = peak_rate(train, world)
    warmup = min(train.warmup_steps, total // 2)
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min((step - warmup) / max(total - 1 - warmup, 1), 1.0)
    return peak * (train.min_lr + (1 - train.min_lr) * (1 + math.cos(math.pi * done)) / 2)


def accumulation(train: Train, batch_size: int, world: int = 1) -> tuple[int, int]:
    """(clips of a micro batch, micro batches a step) of one process, when it can read `batch_size` clips at once.
    Their product is the process's share of the step, or more by less than one clip a micro batch: dealt to within one
    clip, none is larger."""
    clips = train.clips_per_step if train.scale_with_world else math.ceil(train.clips_per_step / world)
    micro = math.ceil(clips / batch_size)
    return math.ceil(clips / micro), micro


def largest_batch(try_batch: Callable[[int], object], upper: int, lower: int = 1) -> int:
    """The largest n from `lower` to `upper` for which a batch a tenth larger still fits the GPU; `try_batch` does all
    that a step does with the n clips that need most, and raises torch.cuda.OutOfMemoryError where they do not fit."""
    if not _fits(try_batch, lower):
        raise UserError(
            f"a batch of {lower} clips does not fit the GPU: set data.max_frames, a smaller model, or train.device=cpu"
        )
    fits, size = lower, min(2 * lower, upper)
    while fits < size and _fits(try_batch, size):
        fits, size = size, min(2 * size, upper)
    while size - fits > 1:
        middle = (fits + size) // 2
        fits, size = (middle, size) if _fits(try_batch, middle) else (fits, middle)
    return fits


def _fits(try_batch: Callable[[int], object], size: int) -> bool:
    try:
        try_batch(size + size // 10)
        fits = True
    except torch.cuda.OutOfMemoryError:
        fits = False
    if not fits:
        gc.collect()  # after the except clause: until then the traceback holds the batch's tensors
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return fits


@torch.no_grad()
def sum_gradients(parameters: Sequence[nn.Parameter], ranks: Ranks) -> None:
    """Every rank gets the sum of all ranks' gradients, bucket by bucket. A parameter that a rank did not use counts as
    zeros there, and one that no rank used stays without a gradient, as in one process."""
    if ranks.world == 1:
        return
    for bucket in buckets([p for p in parameters if p.requires_grad]):
        used = torch.tensor([float(p.grad is not None) for p in bucket], device=bucket[0].device)
        flat = torch.cat([*(_gradient(p).flatten().float() for p in bucket), used])
        ranks.sum_(flat)
        *sums, used = flat.split([*(p.numel() for p in bucket), len(bucket)])
        for parameter, total, count in zip(bucket, sums, used.tolist()):
            if count:
                parameter.grad = total.view_as(parameter).to(parameter.dtype)


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """One after another, together at most BUCKET numbers, or a single larger one; each bucket on one device."""
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        size = sum(p.numel() for p in bucket) + parameter.numel()
        if bucket and (size > BUCKET or parameter.device != bucket[0].device):
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket
