"""What a user's own program hands to a tokenizer, as tensors, or one line that says what is expected.

checked_poses(poses, joints) -> float32 [T, J, 3]        checked_place(place, frames) -> float32 [T, 3]
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from signstream.errors import UserError, shown


def checked_poses(poses: Any, joints: int, one_frame: bool = False) -> Tensor:
    """float32 [T, J, 3], of one frame [J, 3] too where that may be; beyond float32's range a number becomes infinite,
    which is missing."""
    expected = f"[T, {joints}, 3] is expected, x and y in pixels and the score"
    numbers = _from_tensor(poses, expected) if isinstance(poses, Tensor) else _from_array(poses, expected)
    if one_frame and numbers.dim() == 2:
        numbers = numbers[None]
    if numbers.dim() != 3 or numbers.shape[1:] != (joints, 3):
        raise UserError(f"poses are {list(numbers.shape)}: {expected}")
    return numbers


def _from_tensor(poses: Tensor, expected: str) -> Tensor:
    if poses.is_complex() or poses.is_quantized or poses.layout != torch.strided:
        raise UserError(f"poses are {poses.dtype}, {poses.layout}: {expected}")
    return poses.detach().cpu().float()


def _from_array(poses: Any, expected: str) -> Tensor:
    if isinstance(poses, np.ma.MaskedArray):
        raise UserError("poses are a masked array: give a plain one, with score 0 where a joint is missing")
    try:
        array = np.asarray(poses)
        if array.dtype.kind not in "fiubO":
            raise UserError(f"poses are of type {array.dtype}: {expected}")
        with np.errstate(over="ignore", invalid="ignore"):
            return torch.from_numpy(np.array(array, np.float32))
    except UserError:
        raise
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"poses are {shown(poses, 60)}: {expected}") from None


def checked_place(place: Any, frames: int) -> Tensor:
    """float32 [T, 3] from a place (x, y, pixels a unit length) or one a frame."""
    try:
        numbers = torch.as_tensor(place, dtype=torch.float32).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        numbers = torch.zeros(0)
    fits = numbers.shape[-1:] == (3,) and numbers.numel() in (3, 3 * frames)
    if not fits or not bool(numbers.isfinite().all()) or not bool((numbers[..., 2] > 0).all()):
        expected = f"(x, y, pixels a unit length) is expected, three finite numbers, or such a row for each of {frames}"
        given = shown(place) if numbers.numel() <= 3 else list(numbers.shape)
        raise UserError(f"the place is {given}: {expected} frames")
    return numbers.reshape(-1, 3).expand(frames, 3)
