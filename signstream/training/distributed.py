"""One program for one process, torchrun and `accelerate launch`: which rank this is, on which device, and what the
ranks say to each other.

    with start(train.device, train.threads) as ranks:
        ranks.sum_(tensor)          ranks.gather(rows, dim=0)       ranks.any(flag)
        ranks.broadcast(value)      ranks.collect(value)            ranks.barrier()      ranks.from_main(work)

Every method but `is_main` is a collective: all ranks call it, in the same order. With one process they cost nothing.
Tensors on a GPU travel over nccl, all else over gloo.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from signstream.errors import UserError

TIMEOUT = timedelta(minutes=30)  # a rank may build the pose cache on a disk of its own before it joins the others
POLL = 0.02  # seconds between looks at what the others say


@dataclass(frozen=True)
class Ranks:
    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")
    threads: int = 1  # CPU threads of this process

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @torch.no_grad()
    def share_(self, tensors: Iterable[Tensor]) -> None:
        """Rank 0's values, in place, on every rank."""
        for tensor in tensors:
            if not self.is_main:
                tensor.zero_()
            self.sum_(tensor)

    @torch.no_grad()
    def sum_(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, in place, of a tensor of any one shape."""
        if self.world > 1:
            whole = tensor.contiguous()
            dist.all_reduce(whole)
            if whole is not tensor:
                tensor.copy_(whole)
        return tensor

    @torch.no_grad()
    def gather(self, tensor: Tensor, dim: int = 0) -> Tensor:
        """[.., n of this rank, ..] -> [.., sum of n, ..] in rank order, the same on every rank; n may be 0. Any dtype,
        no gradient."""
        if self.world == 1:
            return tensor.detach()
        rows = tensor.movedim(dim, 0).contiguous()
        lengths = torch.zeros(self.world, dtype=torch.int64)
        lengths[self.rank] = len(rows)
        counts: list[int] = self.sum_(lengths).tolist()
        size = rows.element_size() * rows.shape[1:].numel()
        # bytes, since gloo knows few dtypes; all ranks send as many
        sent = torch.zeros(max(counts) * size, dtype=torch.uint8, device=rows.device)
        sent[: len(rows) * size] = rows.flatten().view(torch.uint8)
        received = [torch.empty_like(sent) for _ in counts]
        if len(sent):
            dist.all_gather(received, sent)
        pieces = [data[: n * size].view(rows.dtype).view(n, *rows.shape[1:]) for data, n in zip(received, counts)]
        return torch.cat(pieces).movedim(0, dim)

    def any(self, flag: bool) -> bool:
        """True on every rank if it is true on one."""
        return bool(self.sum_(torch.tensor(int(flag))) > 0)

    def broadcast(self, value: Any) -> Any:
        """Rank 0's small picklable value, on every rank."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def collect(self, value: Any) -> list[Any]:
        """Every rank's small picklable value, in rank order, on every rank."""
        if self.world == 1:
            return [value]
        box: list[Any] = [None] * self.world
        dist.all_gather_object(box, value)
        return box

    def from_main(self, work: Callable[[], Any]) -> Any:
        """What rank 0's work gives, on every rank. What it has to say to the user, or the system refuses, every rank
        says, so that none waits for it."""
        result, fault = None, None
        if self.is_main:
            try:
                result = work()
            except (UserError, OSError) as error:
                fault = str(error)
        result, fault = self.broadcast((result, fault))
        if fault is not None:
            raise UserError(fault)
        return result

    def barrier(self) -> None:
        self.sum_(torch.zeros(1))


@contextmanager
def start(device: str = "auto", threads: int | Literal["auto"] = "auto") -> Iterator[Ranks]:
    """Joins the ranks that the launcher's variables name (none: one process) and leaves them at the end, whatever
    happens."""
    ranks = _this_rank(os.environ, device, threads)
    before = torch.get_num_threads()
    torch.set_num_threads(ranks.threads)
    try:
        if ranks.device.type == "cuda":
            torch.cuda.set_device(ranks.device)
        if ranks.world > 1:
            join(ranks)
        yield ranks
    finally:
        if ranks.world > 1 and dist.is_initialized():
            # until gloo's threads let go of the last tensors: in torch 2.1 they need Python's lock for it, which
            # destroying holds
            time.sleep(0.1)
            dist.destroy_process_group()
        torch.set_num_threads(before)


def join(ranks: Ranks) -> None:
    """Makes these processes a group, over the store that the launcher's MASTER_ADDR and MASTER_PORT name."""
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise UserError(f"{name} is not set: start the program with torchrun, train_multi.sh or accelerate launch")
    store, rank, world = next(rendezvous("env://", ranks.rank, ranks.world, timeout=TIMEOUT))
    store = dist.PrefixStore(agree(store, rank, world), store)
    backend = "cpu:gloo,cuda:nccl" if ranks.device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, timeout=TIMEOUT, rank=rank, world_size=world)


def agree(store: dist.Store, rank: int, world: int) -> str:
    """A name for this start of the ranks, the same on each. torchrun's store outlives ranks that died, and what they
    left in it, their addresses among it, must not be read by those that come after them.

    TORCHELASTIC_RESTART_COUNT would not do: machines count their own restarts. So each rank puts a name that is new
    beside its number, rank 0 reads them out as one roster, and a roster stands once every rank has found its name in
    it."""
    name = uuid.uuid4().hex
    store.set(f"name/{rank}", name)
    names = [f"name/{other}" for other in range(world)]
    accepted = [f"accepted/{other}" for other in range(1, world)]
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    while time.monotonic() < deadline:
        if rank == 0 and store.check(names):
            store.set("roster", b" ".join(store.multi_get(names)).decode())
        roster = store.get("roster").decode() if store.check(["roster"]) else ""
        if roster.split()[rank : rank + 1] == [name]:
            start_name = hashlib.sha256(roster.encode()).hexdigest()[:16]
            if rank > 0:
                store.set(f"accepted/{rank}", start_name)
            elif store.check(accepted) and set(store.multi_get(accepted)) == {start_name.encode()}:
                store.set(f"stands/{start_name}", "")
            if store.check([f"stands/{start_name}"]):
                return start_name
        time.sleep(POLL)
    raise UserError(f"rank {rank} of {world} waited {TIMEOUT.total_seconds():.0f} s for the others to start")


def _this_rank(environment: Mapping[str, str], device: str, threads: int | Literal["auto"]) -> Ranks:
    world = _number(environment, "WORLD_SIZE", 1)
    if world > 1 and "RANK" not in environment:
        raise UserError(
            f"WORLD_SIZE is {world}, but RANK is not set: start the program with torchrun, train_multi.sh or "
            "accelerate launch"
        )
    rank = _number(environment, "RANK", 0) if world > 1 else 0
    local_rank = _number(environment, "LOCAL_RANK", rank) if world > 1 else 0
    if rank >= world:
        raise UserError(f"RANK is {rank} and WORLD_SIZE {world}: ranks count from 0")
    local_world = _number(environment, "LOCAL_WORLD_SIZE", world) if world > 1 else 1
    gpus_needed = max(local_rank + 1, local_world if "LOCAL_WORLD_SIZE" in environment else 0)
    count = auto_threads(environment, local_world) if threads == "auto" else threads
    return Ranks(rank, world, pick_device(device, local_rank, gpus_needed), count)


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    if not text.isdecimal():
        raise UserError(f"the environment variable {name} is {text!r}: a whole number is expected")
    return int(text)


def pick_device(device: str, local_rank: int, local_world: int) -> torch.device:
    """The device of one of `local_world` processes on this machine."""
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(
            f"train.device is {device!r}: auto, cpu or cuda is expected; CUDA_VISIBLE_DEVICES chooses among GPUs"
        )
    gpus = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    if gpus == 0:
        if device == "cuda":
            raise UserError(
                "train.device is cuda, but torch sees no GPU: check nvidia-smi and torch.version.cuda, or set "
                "train.device=cpu"
            )
        return torch.device("cpu")
    if gpus < local_world:
        raise UserError(
            f"{local_world} processes on this machine, but torch sees {gpus} GPUs: start at most {gpus} "
            f"(NUM_GPUS={gpus}), or set train.device=cpu"
        )
    return torch.device("cuda", local_rank)


def auto_threads(environment: Mapping[str, str], local_world: int) -> int:
    """This process's share of the cores. OMP_NUM_THREADS caps it where there is one process: to several, torchrun
    itself sets it to 1."""
    share = max(physical_cores() // local_world, 1)
    return min(share, max(_number(environment, "OMP_NUM_THREADS", share), 1)) if local_world == 1 else share


def physical_cores() -> int:
    """Cores that this process may run on; the hardware threads of a core count once."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)

    def core(cpu: int) -> str:
        try:
            return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
        except OSError:  # not Linux
            return str(cpu)

    return len({core(cpu) for cpu in allowed})
