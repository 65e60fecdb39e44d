"""Pictures and heat maps as a network sees them: cut to one size, normalised, and in training augmented alike.

    positions = choose_frames(count, options, least=..., generator=...)        which frames of a clip, [S] int64
    streams = frame_streams(frames [T, H, W, 3] uint8, options, keypoints=[T, J, 3], generator=...)
    streams.frames [T, 3, h, w] float32        streams.heat [T, 1, h, w] float32, 0 .. 1, or None

All of a clip is changed alike: `draw_plan` draws once what happens to it, on the CPU, so every device does the same,
and without a generator nothing is drawn. Colours change on bytes. All that moves a picture (turns, shears, shifts, the
crop, the mirror) is one map from the new picture's places to the old one's, by which pictures are sampled once, and
heat maps drawn. Outside of the picture the frame has its mean colour and the heat map is 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from signstream.config.frames import FrameAugment, Frames
from signstream.data.frame_ops import COLOURS, MOVES, OPERATIONS, shifted
from signstream.data.heat import HEAT_JOINTS, heat_maps, near

MEAN, STD = 0.45, 0.225  # of all three colours, of 1
TRIES = 10  # at a box of the drawn size and shape
STRONGEST = 10.0  # magnitude
PIECE = 32  # frames that are worked on at once
FINEST = 8.0  # points of a heat map a sigma; between them it is straight


class FrameStreams(NamedTuple):
    frames: Tensor  # [T, 3, h, w] float32, normalised
    heat: Tensor | None  # [T, 1, h, w] float32


class Box(NamedTuple):
    left: float
    top: float
    width: float
    height: float


class Operation(NamedTuple):
    name: str
    strength: float  # from -1 to 1


@dataclass(frozen=True)
class Plan:
    """What happens to a clip."""

    crop: Box  # of the picture
    mirror: bool = False
    operations: tuple[Operation, ...] = ()
    erased: Box | None = None  # of what is cut out; whole pixels
    noise: int = 0  # seed of what is put there


# -- what is drawn


def _uniform(generator: Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()


def _normal(generator: Generator, mean: float, spread: float) -> float:
    return mean + spread * torch.randn((), generator=generator, dtype=torch.float64).item()


def _below(generator: Generator, count: int) -> int:
    return int(torch.randint(count, (), generator=generator))


def choose_frames(count: int, options: Frames, *, least: int = 1, generator: Generator | None = None) -> Tensor:
    """Which of `count` frames are shown, in order: every `interval`-th; in training from a phase and at a speed that
    are drawn, so that a little more or less than `interval` lies between two, and no fewer than `least`."""
    augment, interval = options.augment, options.interval
    if generator is None or count == 0:
        return torch.arange(0, count, interval)
    phase = _below(generator, min(interval, count)) if augment.random_phase else 0
    plain = torch.arange(phase, count, interval)
    if len(plain) < least:
        plain = torch.arange(0, count, interval)
    if augment.time_scale == 0:
        return plain
    most = math.log1p(augment.time_scale)
    scaled = round(len(plain) * math.exp(_uniform(generator, -most, most)))
    steps = max(scaled, min(least, len(plain)), 1)
    return torch.linspace(int(plain[0]), int(plain[-1]), steps, dtype=torch.float64).round().long()


def draw_plan(width: int, height: int, options: Frames, *, generator: Generator | None = None) -> Plan:
    """For pictures of this size. Without a generator: the square in the middle, and nothing else."""
    augment = options.augment
    middle = Box((width - options.size) // 2, (height - options.size) // 2, options.size, options.size)
    if generator is None:
        return Plan(middle)
    crop = _draw_crop(width, height, augment, generator=generator) if augment.crop else middle
    return Plan(
        crop,
        augment.mirror and _uniform(generator) < 0.5,
        _draw_operations(augment, generator),
        _draw_erased(options.size, augment, generator),
        _below(generator, 1 << 31),
    )


def _draw_crop(width: int, height: int, augment: FrameAugment, *, generator: Generator) -> Box:
    shape = tuple(map(math.log, augment.crop_ratio))
    for _ in range(TRIES):
        area = width * height * _uniform(generator, *augment.crop_area)
        ratio = math.exp(_uniform(generator, *shape))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return Box(_below(generator, width - w + 1), _below(generator, height - h + 1), w, h)
    side = min(width, height)
    return Box((width - side) // 2, (height - side) // 2, side, side)


def _draw_operations(augment: FrameAugment, generator: Generator) -> tuple[Operation, ...]:
    drawn = []
    for _ in range(augment.ops):
        name = OPERATIONS[_below(generator, len(OPERATIONS))]
        magnitude = min(max(_normal(generator, augment.magnitude, augment.magnitude_spread), 0), STRONGEST)
        sign = 1 if _uniform(generator) < 0.5 else -1
        if _uniform(generator) < augment.op_prob:
            drawn.append(Operation(name, sign * magnitude / STRONGEST))
    return tuple(drawn)


def _draw_erased(size: int, augment: FrameAugment, generator: Generator) -> Box | None:
    if _uniform(generator) >= augment.erase:
        return None
    shape = tuple(map(math.log, augment.erase_ratio))
    for _ in range(TRIES):
        area = size * size * _uniform(generator, *augment.erase_area)
        ratio = math.exp(_uniform(generator, *shape))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w < size and 0 < h < size:
            return Box(_below(generator, size - w + 1), _below(generator, size - h + 1), w, h)
    return None


# -- what is done


def frame_streams(
    frames: Tensor,
    options: Frames,
    *,
    keypoints: Tensor | None = None,
    keypoint_size: tuple[float, float] | None = None,
    generator: Generator | None = None,
) -> FrameStreams:
    """One clip's pictures, and with `options.heat` its heat maps. The keypoints are in pixels of a picture of
    `keypoint_size` (width, height), None: of these. With a generator: augmented."""
    width, height = resized_to(frames.shape[2], frames.shape[1], options)
    plan = draw_plan(width, height, options, generator=generator)
    return as_planned(frames, plan, options, keypoints=keypoints, keypoint_size=keypoint_size)


def as_planned(
    frames: Tensor,
    plan: Plan,
    options: Frames,
    *,
    keypoints: Tensor | None = None,
    keypoint_size: tuple[float, float] | None = None,
) -> FrameStreams:
    old_height, old_width = frames.shape[1:3]
    width, height = resized_to(old_width, old_height, options)
    move = places_map(plan, width, height, size=options.size)
    shown = [_shown(piece, plan, move, options=options) for piece in frames.split(PIECE) if len(piece)]
    out = torch.cat(shown) if shown else frames.new_zeros((0, 3, options.size, options.size), dtype=torch.float32)
    heat = None
    if options.heat:
        if keypoints is None:
            raise ValueError("heat maps are drawn from keypoints")
        across, down = keypoint_size or (old_width, old_height)
        factor = keypoints.new_tensor((width / across, height / down))
        joints = (near(keypoints[:, HEAT_JOINTS], options.heat_score) + 0.5) * factor - 0.5
        heat = _heat(joints, move, options, size=(width, height))
    if plan.erased is not None:
        _erase(out, heat, plan)
    return FrameStreams(out, heat)


def resized_to(width: int, height: int, options: Frames) -> tuple[int, int]:
    """Width and height once the short side is as `resize` says."""
    short = min(width, height)
    return round(width * options.resize / short), round(height * options.resize / short)


def places_map(plan: Plan, width: int, height: int, *, size: int) -> Tensor:
    """[3, 3] float64: where a place of what is seen, size x size, lies in the picture of this width and height."""
    crop = plan.crop
    across, down = crop.width / size, crop.height / size
    place = torch.eye(3, dtype=torch.float64)
    place[0, 0], place[0, 2] = across, crop.left + 0.5 * across - 0.5
    place[1, 1], place[1, 2] = down, crop.top + 0.5 * down - 0.5
    if plan.mirror:
        place = place @ torch.diag(place.new_tensor((-1.0, 1.0, 1.0))) @ shifted(1 - size, 0)
    moves = [MOVES[name](strength, width, height) for name, strength in plan.operations if name in MOVES]
    for move in reversed(moves):
        place = move @ place
    return place


def places_of(move: Tensor, points: int, *, size: int) -> Tensor:
    """[points, points, 2] float64: where points that divide what is seen, size x size, evenly lie in the picture."""
    line = torch.linspace(0, size - 1, points, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack((x, y, torch.ones_like(x)), -1) @ move[:2].T


def _shown(frames: Tensor, plan: Plan, move: Tensor, *, options: Frames) -> Tensor:
    """[t, H, W, 3] uint8 -> [t, 3, h, w] float32"""
    frames = _resized(frames.permute(0, 3, 1, 2), options)
    for name, strength in plan.operations:
        if name in COLOURS:
            frames = COLOURS[name](frames, strength)
    crop, size = plan.crop, options.size
    whole = all(float(side).is_integer() for side in crop) and crop.width == crop.height == size
    if whole and not any(name in MOVES for name, _ in plan.operations):
        left, top = int(crop.left), int(crop.top)
        cut = normalised(frames[..., top : top + size, left : left + size])
        return cut.flip(-1) if plan.mirror else cut
    edge = torch.tensor((frames.shape[-1], frames.shape[-2]), dtype=torch.float64)
    grid = (2 * places_of(move, size, size=size) + 1) / edge - 1
    grid = grid.float().to(frames.device).expand(len(frames), -1, -1, -1)
    return F.grid_sample(normalised(frames), grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def normalised(frames: Tensor) -> Tensor:
    return (frames.float() - 255 * MEAN) * (1 / (255 * STD))


def _resized(frames: Tensor, options: Frames) -> Tensor:
    """[t, 3, H, W] uint8, the short side as `resize` says."""
    width, height = resized_to(frames.shape[-1], frames.shape[-2], options)
    if (height, width) == frames.shape[-2:]:
        return frames
    smooth = F.interpolate(frames.float(), (height, width), mode="bilinear", align_corners=False, antialias=True)
    return smooth.round_().clamp_(0, 255).to(torch.uint8)


def _heat(joints: Tensor, move: Tensor, options: Frames, *, size: tuple[int, int]) -> Tensor:
    """joints [T, J, 2] in pixels of the picture -> [T, 1, h, w], 0 where what is seen lies outside of it."""
    step = min(max(int(options.heat_sigma / FINEST), 1), 8)
    points = options.size if step == 1 else -(-options.size // step) + 1
    coarse = heat_maps(joints, places_of(move, points, size=options.size).to(joints.device), options.heat_sigma)
    heat = coarse
    if points != options.size:
        heat = F.interpolate(coarse, (options.size, options.size), mode="bilinear", align_corners=True)
    x, y = places_of(move, options.size, size=options.size).unbind(-1)
    inside = (x >= -0.5) & (y >= -0.5) & (x <= size[0] - 0.5) & (y <= size[1] - 0.5)
    return heat if inside.all() else heat * inside.to(heat)


def _erase(frames: Tensor, heat: Tensor | None, plan: Plan) -> None:
    """One patch of noise, the same in all frames; no heat there. In place."""
    assert plan.erased is not None
    left, top, width, height = map(int, plan.erased)
    noise = torch.randn(3, height, width, generator=torch.Generator().manual_seed(plan.noise))
    patch = (..., slice(top, top + height), slice(left, left + width))
    frames[patch] = noise.to(frames.device)
    if heat is not None:
        heat[patch] = 0.0
