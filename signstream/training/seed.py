"""Seeds, and the state of every generator that a run draws from, as a checkpoint can hold it.

seed_everything(train.seed, rank)       # ranks draw different numbers; a task seeds its model itself
state = generator_states()              # tensors and plain values only: torch.load(weights_only=True) reads it
restore_generators(state)
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int, rank: int = 0) -> None:
    """torch (CPU and every GPU), numpy and `random` from one seed; another rank, other numbers."""
    torch_seed, numpy_seed, python_seed = np.random.SeedSequence((seed, rank)).generate_state(3, np.uint32).tolist()
    torch.manual_seed(torch_seed)
    np.random.seed(numpy_seed)
    random.seed(python_seed)


def generator_states() -> dict[str, Any]:
    state = np.random.get_state(legacy=False)
    twister = state["state"]
    version, numbers, next_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": {
            "keys": torch.from_numpy(twister["key"].astype(np.int64)),
            "position": int(twister["pos"]),
            "has_gauss": int(state["has_gauss"]),
            "gauss": float(state["gauss"]),
        },
        "python": {"version": version, "numbers": torch.tensor(numbers), "gauss": next_gauss},
    }


def restore_generators(state: dict[str, Any]) -> None:
    """A state from a machine with more GPUs leaves its rest unused, one from fewer leaves the other GPUs as they
    are."""
    torch.set_rng_state(state["torch"])
    for device, cuda_state in zip(range(torch.cuda.device_count()), state["cuda"]):
        torch.cuda.set_rng_state(cuda_state, device)
    saved = state["numpy"]
    keys = saved["keys"].numpy().astype(np.uint32)
    if not 0 <= saved["position"] <= len(keys):  # numpy would read past them
        raise ValueError(f"the position in {len(keys)} numbers is {saved['position']}")
    np.random.set_state(("MT19937", keys, saved["position"], saved["has_gauss"], saved["gauss"]))
    python = state["python"]
    random.setstate((python["version"], tuple(python["numbers"].tolist()), python["gauss"]))
