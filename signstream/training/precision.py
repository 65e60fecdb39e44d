"""In which numbers a network computes: `train.amp`, where there is a GPU."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(amp: str, device: torch.device) -> AbstractContextManager:
    dtype = AUTOCAST.get(amp)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None and device.type == "cuda")
