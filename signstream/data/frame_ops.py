"""The fifteen operations of RandAugment on frames, many at once, on any device.

    COLOURS[name](frames [T, 3, H, W] uint8, strength) -> the same shape and type, to the bit what Pillow makes of each
    MOVES[name](strength, width, height) -> [3, 3]: where a place of the new picture lies in the old one, in pixels

A strength lies within -1 .. 1; 0 changes nothing, save where there is no more or less (AutoContrast, Equalize, Invert).
Whatever an operation goes by, such as the brightest value, is the frame's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

# What strength 1 does.
LEAST_BITS = 4  # of 8
MOST_ADDED, ADDED_BELOW = 110, 128
ENHANCED = 0.9  # more or less of what there is
STEEPEST = 30.0  # degrees
SHEARED, SHIFTED = 0.3, 0.45  # of a length


def auto_contrast(frames: Tensor, strength: float) -> Tensor:
    """The darkest value to 0 and the brightest to 255, channel by channel."""
    values = frames.flatten(2)
    low, high = (each.cpu().double()[..., None] for each in (values.amin(2), values.amax(2)))  # [T, 3, 1]
    ramp = torch.arange(256, dtype=torch.float64)
    scale = ramp[255] / (high - low).clamp(min=1)  # a tensor's 255: a number's would be times the reciprocal
    table = torch.where(high > low, (ramp * scale - low * scale).trunc().clamp(0, 255), ramp)
    return _looked_up(frames, table.to(torch.uint8))


def equalize(frames: Tensor, strength: float) -> Tensor:
    """Every value about as often, channel by channel."""
    rows = frames.shape[0] * frames.shape[1]
    places = frames.reshape(rows, -1).long() + 256 * torch.arange(rows, device=frames.device)[:, None]
    counts = torch.bincount(places.flatten(), minlength=256 * rows).view(rows, 256).cpu()
    last = 255 - (counts.flip(1) > 0).int().argmax(1, keepdim=True)
    step = (counts.sum(1, keepdim=True) - counts.gather(1, last)) // 255
    below = counts.cumsum(1) - counts
    table = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step > 0, table, torch.arange(256))
    return _looked_up(frames, table.to(torch.uint8).view(*frames.shape[:2], 256))


def _looked_up(frames: Tensor, table: Tensor) -> Tensor:
    """Every value's entry in its channel's table [T, 3, 256]."""
    return table.to(frames.device).gather(2, frames.flatten(2).long()).view_as(frames)


def invert(frames: Tensor, strength: float) -> Tensor:
    return 255 - frames


def posterize(frames: Tensor, strength: float) -> Tensor:
    """Fewer bits a colour."""
    dropped = round((8 - LEAST_BITS) * abs(strength))
    return frames & (256 - (1 << dropped))


def solarize(frames: Tensor, strength: float) -> Tensor:
    """What is bright is inverted."""
    threshold = 256 - round(256 * abs(strength))
    return torch.where(frames.short() < threshold, frames, 255 - frames)


def solarize_add(frames: Tensor, strength: float) -> Tensor:
    """What is dark becomes brighter."""
    brighter = (frames.short() + round(MOST_ADDED * abs(strength))).clamp(max=255).to(torch.uint8)
    return torch.where(frames < ADDED_BELOW, brighter, frames)


def color(frames: Tensor, strength: float) -> Tensor:
    return blend(_grey(frames).expand_as(frames), frames, 1 + ENHANCED * strength)


def contrast(frames: Tensor, strength: float) -> Tensor:
    """Away from the frame's mean brightness, or towards it."""
    grey = _grey(frames).flatten(1)
    mean = (2 * grey.sum(1, dtype=torch.int64) + grey.shape[1]) // (2 * grey.shape[1])
    return blend(mean.to(torch.uint8)[:, None, None, None].expand_as(frames), frames, 1 + ENHANCED * strength)


def brightness(frames: Tensor, strength: float) -> Tensor:
    return blend(torch.zeros_like(frames), frames, 1 + ENHANCED * strength)


def sharpness(frames: Tensor, strength: float) -> Tensor:
    """Away from the frame smoothed, or towards it; its outermost pixels stay."""
    smooth = frames.clone()
    if min(frames.shape[-2:]) > 2:
        values = frames.int()
        across = values[..., :-2] + values[..., 1:-1] + values[..., 2:]
        around = across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :]
        middle = 2 * (around + 4 * values[..., 1:-1, 1:-1]) + 13
        smooth[..., 1:-1, 1:-1] = (middle // 26).to(torch.uint8)  # 13 weights, rounded
    return blend(smooth, frames, 1 + ENHANCED * strength)


def blend(one: Tensor, other: Tensor, share: float) -> Tensor:
    """From `one` (0) by way of `other` (1) and beyond, cut to bytes as Pillow cuts."""
    start = one.float()
    return (start + (other.float() - start) * np.float32(share).item()).clamp(0, 255).to(torch.uint8)


def _grey(frames: Tensor) -> Tensor:
    """[T, 1, H, W] int32: the brightness that Pillow knows as L."""
    red, green, blue = frames.int().unbind(1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16)[:, None]


COLOURS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "AutoContrast": auto_contrast,
    "Equalize": equalize,
    "Invert": invert,
    "Posterize": posterize,
    "Solarize": solarize,
    "SolarizeAdd": solarize_add,
    "Color": color,
    "Contrast": contrast,
    "Brightness": brightness,
    "Sharpness": sharpness,
}


# -- where a picture's places come from: rotating and shearing are about its middle


def _about_middle(turn: list[list[float]], width: int, height: int) -> Tensor:
    middle = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
    linear = torch.tensor(turn, dtype=torch.float64)
    out = torch.eye(3, dtype=torch.float64)
    out[:2, :2] = linear
    out[:2, 2] = middle - linear @ middle
    return out


def rotate(strength: float, width: int, height: int) -> Tensor:
    angle = math.radians(STEEPEST * strength)
    turn = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    return _about_middle(turn, width, height)


def shear_x(strength: float, width: int, height: int) -> Tensor:
    return _about_middle([[1, SHEARED * strength], [0, 1]], width, height)


def shear_y(strength: float, width: int, height: int) -> Tensor:
    return _about_middle([[1, 0], [SHEARED * strength, 1]], width, height)


def translate_x(strength: float, width: int, height: int) -> Tensor:
    return shifted(SHIFTED * strength * width, 0)


def translate_y(strength: float, width: int, height: int) -> Tensor:
    return shifted(0, SHIFTED * strength * height)


def shifted(x: float, y: float) -> Tensor:
    return torch.tensor([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=torch.float64)


MOVES: dict[str, Callable[[float, int, int], Tensor]] = {
    "Rotate": rotate,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateXRel": translate_x,
    "TranslateYRel": translate_y,
}
OPERATIONS = (*COLOURS, *MOVES)
