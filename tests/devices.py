"""A GPU that is not there: code for one runs on the CPU, and what a GPU would refuse or wait for is found.

    with PretendedGPU() as gpu:
        model = model.to(GPU)               # GPU is torch.device("cuda", 0)
        loss = model(batch.to(GPU)).sum()   # WrongDevice where a tensor of the host meets one of the GPU
        loss.item()
    gpu.syncs                               # [Sync("item", "training/loop.py:120 step")]: the host waits for the GPU
    gpu.uploads                             # likewise: memory of the host is copied to the GPU, and the host waits

Tensors that are made with `device=GPU`, moved there or computed from such carry a mark. They say that they are on the
GPU (`device`, `is_cuda`), so the branches for a GPU are taken; all arithmetic is the CPU's. What is seen is what Python
calls of torch: no kernels, no streams, and nothing of what runs inside `backward()`. torch's FakeTensorMode would see
that too, but it has no values, so that it ends at the first `item()`, and a torch without CUDA moves no fake model.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

GPU = torch.device("cuda", 0)
# The host waits for a value, or for how many values there are.
NUMBERS = {"item", "tolist", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__", "__contains__"}
TEXTS = {"__format__", "__repr__"}
HOW_MANY = {"nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "bincount"}
ANSWERS = {"equal", "allclose", "is_nonzero"}
WAITING = NUMBERS | TEXTS | HOW_MANY | ANSWERS
UPLOADING = {"tensor", "as_tensor", "asarray", "new_tensor"}
# Where tensors of both sides may meet: a copy, an index, what looks at neither's values, and CTC, whose lengths the
# host reads.
LOOKING = {"_has_compatible_shallow_copy_type", "_parse_to"}
MEETING = {"copy_", "__getitem__", "__setitem__", "set_", "ctc_loss", *LOOKING, *UPLOADING}
JOINING = {"cat", "stack", "concat", "hstack", "vstack"}


class WrongDevice(RuntimeError):
    """What a GPU would refuse."""


class Sync(NamedTuple):
    what: str
    where: str  # the innermost line that is not torch's


class Call(NamedTuple):
    name: str
    args: tuple
    kwargs: dict[str, Any]
    tensors: list[Tensor]  # all tensors among the arguments
    marked: bool  # whether one of them is on the GPU


def on_gpu(tensor: Tensor) -> bool:
    return getattr(tensor, "pretended_gpu", False)


class PretendedGPU(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.syncs: list[Sync] = []
        self.uploads: list[Sync] = []

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        tensors = list(_tensors((args, kwargs)))
        call = Call(func.__name__, args, kwargs, tensors, any(map(on_gpu, tensors)))
        if call.name in ("__get__", "__set__"):
            return self._attribute(func, call)
        if call.name in ("to", "cpu", "cuda"):
            return self._move(func, call)
        if call.name == "pin_memory":  # a torch without CUDA has no such memory
            return args[0]
        self._refuse(call)
        self._note(call)
        gpu = self._result_on_gpu(call)
        if "device" in kwargs:
            kwargs["device"] = "cpu"
        return _labelled(func(*args, **kwargs), gpu, tensors)

    def _attribute(self, func: Any, call: Call) -> Any:
        """x.device, x.grad, x.data = y and the like."""
        name, tensor = func.__self__.__name__, call.args[0]
        if call.name == "__set__":
            func(*call.args)
            if name == "data":
                tensor.pretended_gpu = on_gpu(call.args[1])
            return None
        answers = {"device": GPU, "is_cuda": True, "is_cpu": False}
        if on_gpu(tensor) and name in answers:
            return answers[name]
        return _labelled(func(*call.args), on_gpu(tensor), [tensor])

    def _move(self, func: Callable, call: Call) -> Tensor:
        tensor, before = call.args[0], on_gpu(call.args[0])
        target = _target(call)
        after = before if target is None else target
        if before and not after and _torch_calls():  # torch asked a marked tensor's memory where it is
            after = True
        args = [torch.device("cpu") if i and _names_device(a) else a for i, a in enumerate(call.args)]
        kwargs = call.kwargs | ({"device": "cpu"} if call.kwargs.get("device") is not None else {})
        if call.name == "cuda":
            args, kwargs = [tensor], {}
        moved = (Tensor.cpu if call.name == "cuda" else func)(*args, **kwargs)
        if before and not after:
            self.syncs.append(Sync(call.name, where()))
        if after and not before and not call.kwargs.get("non_blocking"):
            self.uploads.append(Sync(call.name, where()))
        return _labelled(moved, after, [tensor])

    def _refuse(self, call: Call) -> None:
        """Raises what a GPU would."""
        host = [tensor for tensor in call.tensors if not on_gpu(tensor)]
        if call.name in ("__getitem__", "__setitem__"):
            rest = [t for t in call.tensors[1:] if on_gpu(t)]
            if rest and not on_gpu(call.args[0]):
                raise WrongDevice(f"{call.name} at {where()}: a tensor of the host, with one on the GPU")
        elif call.marked and host and call.name not in MEETING:
            in_place = call.name.endswith("_") and not call.name.endswith("__") and host[0] is call.args[0]
            shapes = [tuple(t.shape) for t in host if t.dim() > 0 or call.name in JOINING or in_place]
            if shapes:
                raise WrongDevice(f"{call.name} at {where()}: a tensor {shapes[0]} of the host, with one on the GPU")
        if call.kwargs.get("generator") is not None and self._result_on_gpu(call):
            raise WrongDevice(f"{call.name} at {where()}: a generator of the host for a tensor on the GPU")

    def _note(self, call: Call) -> None:
        """Keeps what the host waits for."""
        if self._waits(call):
            self.syncs.append(Sync(call.name, where()))
        elif self._uploads(call):
            self.uploads.append(Sync(call.name, where()))

    def _waits(self, call: Call) -> bool:
        if call.name == "copy_":
            return on_gpu(call.args[1]) and not on_gpu(call.args[0])
        if call.name in UPLOADING:  # a list of tensors is read one by one
            return call.marked and not any(isinstance(argument, Tensor) for argument in call.args)
        return call.marked and (call.name in WAITING or _counts(call))

    def _uploads(self, call: Call) -> bool:
        if call.name == "copy_":
            return on_gpu(call.args[0]) and not on_gpu(call.args[1])
        if call.name in UPLOADING:
            data = call.args[-1]
            return self._result_on_gpu(call) and not (isinstance(data, Tensor) and on_gpu(data))
        host_index = any(tensor.dim() > 0 and not on_gpu(tensor) for tensor in call.tensors[1:])
        return call.name in ("__getitem__", "__setitem__") and call.marked and host_index

    def _result_on_gpu(self, call: Call) -> bool:
        if call.kwargs.get("device") is not None:
            return _is_gpu(call.kwargs["device"])
        if call.name in ("tensor", "as_tensor", "asarray"):
            return isinstance(call.args[0], Tensor) and call.marked
        return on_gpu(call.args[0]) if call.name in ("copy_", "new_tensor") else call.marked


def _counts(call: Call) -> bool:
    """Whether how large the result is depends on values."""
    if call.name == "__getitem__":
        return any(t.dtype in (torch.bool, torch.uint8) for t in call.tensors[1:])
    if call.name == "__setitem__":
        *index, value = call.tensors[1:] or [None]
        return any(t.dtype == torch.bool for t in index) and value is call.args[2] and value.dim() > 0
    if call.name == "where":
        return len(call.args) == 1
    return call.name == "repeat_interleave" and len(call.tensors) == 2 and "output_size" not in call.kwargs


def _is_gpu(device: Any) -> bool:
    return isinstance(device, int) or torch.device(device).type == "cuda"


def _names_device(value: Any) -> bool:
    return isinstance(value, (str, torch.device)) or (isinstance(value, int) and not isinstance(value, bool))


def _target(call: Call) -> bool | None:
    """Where .to(...) moves: to the GPU, to the host, or nowhere."""
    if call.name != "to":
        return call.name == "cuda"
    if call.kwargs.get("device") is not None:
        return _is_gpu(call.kwargs["device"])
    first = call.args[1] if len(call.args) > 1 else call.kwargs.get("other")
    if isinstance(first, Tensor):
        return on_gpu(first)
    return _is_gpu(first) if _names_device(first) else None


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in lists, tuples and dictionaries, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _tensors(inner)


def _labelled(result: Any, gpu: bool, inputs: list[Tensor]) -> Any:
    """The same, marked; a tensor that was handed through to the other side becomes a copy."""
    if isinstance(result, Tensor):
        if on_gpu(result) == gpu:
            return result
        marked = result.clone() if any(result is tensor for tensor in inputs) else result
        marked.pretended_gpu = gpu
        return marked
    if type(result) in (list, tuple):
        return type(result)(_labelled(leaf, gpu, inputs) for leaf in result)
    if isinstance(result, tuple):  # a size, or values and indices by name
        for leaf in result:
            _labelled(leaf, gpu, [])
    return result


def _frames() -> Iterator[tuple[str, str]]:
    """(file, "file:line function") of those who call, the innermost first, without this file."""
    frame = inspect.currentframe()
    while frame is not None:
        path = frame.f_code.co_filename
        if path != __file__:
            yield path, f"{'/'.join(path.split(os.sep)[-2:])}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back


def _is_torch(path: str) -> bool:
    return f"{os.sep}torch{os.sep}" in path


def _torch_calls() -> bool:
    return _is_torch(next(_frames())[0])


def where() -> str:
    return next((text for path, text in _frames() if not _is_torch(path)), "?")
