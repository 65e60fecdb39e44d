"""From a detector's frames to signing space's: clean, resample, close gaps, low-pass, find the origin and the unit.

    raw frames [T, J, 3] (x px, y px, score)
        ->  Prepared: frames [T', J, 3] (x, y in unit lengths from the origin, weight), place [T', 3]

Everything is causal but for a lookahead of `max_gap + smooth` frames (and one source frame where the frame rate
changes), so `FrontEnd.push` takes a live stream and `prepare` takes a whole clip through the very same code: every
step is elementwise in time, and pushing a clip in pieces of any size gives the same bits. What a missing joint was
filled with never shows: it is zeroed first.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from signstream.config import Poses
from signstream.config.common import FASTEST, SLOWEST
from signstream.errors import UserError, shown
from signstream.skeleton import Skeleton
from signstream.space import box_middle, find_centre

FARTHEST = 1e6  # pixels; beyond it a coordinate is no measurement
PIECE = 4096  # frames of a whole clip that go through the front end at once
SAME_RATE = 0.01  # frame rates this close are taken as equal: 29.97 is 30


@dataclass(frozen=True)
class Prepared:
    """A clip in unit lengths from its origin. `place` holds what leads back to pixels: origin x,
    origin y, unit, in pixels."""

    frames: Tensor  # [T, J, 3] x, y, weight; all 0 where a joint is missing
    place: Tensor  # [T, 3]

    def rows(self) -> Tensor:
        """[T, 1 + J, 3]: the place as row 0 of each frame, as the pose cache holds clips."""
        return torch.cat((self.place[:, None], self.frames), 1)


def frame_rate(value: Any, what: str = "fps") -> float:
    """Frames a second as a number, or an error that says what they can be."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not SLOWEST <= value <= FASTEST:
        given = f"{value:g}" if isinstance(value, float) else shown(value)
        raise UserError(f"{what} is {given}: {SLOWEST:g} to {FASTEST:g} frames a second are expected")
    return float(value)


def as_raw(poses: np.ndarray) -> Tensor:
    """A file's poses [T, J, 3] as float32; no copy where they are that already and may be written to."""
    return torch.from_numpy(np.require(poses, np.float32, ["C", "W"]))


def clean(raw: Tensor, min_score: float) -> Tensor:
    """[T, J, 3] with scores in [0, 1]; a joint that scores too little or is no number becomes (0, 0, 0)."""
    xy, score = raw[..., :2], torch.nan_to_num(raw[..., 2:], nan=0.0).clamp(0, 1)
    ok = (score > min_score) & (xy.abs() < FARTHEST).all(-1, keepdim=True)  # NaN compares false
    return torch.where(ok, torch.cat((xy, score), -1), torch.zeros_like(raw))


def sample_at(frames: Tensor, low: Tensor, share: Tensor) -> Tensor:
    """Frames [n, J, 3] at positions `low + share`, low an index and share in [0, 1); where one neighbour misses a
    joint the nearer decides."""
    rows = frames.flatten(1)
    high = (low + 1).clamp(max=len(frames) - 1)
    share = share.to(frames.dtype)
    before = rows.index_select(0, low).mul_(1 - share[:, None])
    after = rows.index_select(0, high).mul_(share[:, None])
    out = before.add_(after).view(-1, *frames.shape[1:])
    seen = frames[..., 2] > 0
    frame, joint = (seen[low] != seen[high]).nonzero(as_tuple=True)
    nearer = torch.where(share > 0.5, high, low)
    out[frame, joint] = frames[nearer[frame], joint]
    return out


def fill_gaps(frames: Tensor, max_gap: int) -> Tensor:
    """Joints missing for at most `max_gap` frames between two sightings move in a straight line;
    longer gaps stay missing."""
    total = len(frames)
    seen = frames[..., 2] > 0  # [T, J]
    if max_gap == 0 or total == 0 or bool(seen.all()):
        return frames
    t = torch.arange(total, device=frames.device)[:, None]
    before = torch.where(seen, t, -1 - max_gap).cummax(0).values
    after = torch.where(seen, t, total + max_gap + 1).flip(0).cummin(0).values.flip(0)
    short = ~seen & (after - before - 1 <= max_gap) & (before >= 0) & (after < total)
    frame, joint = short.nonzero(as_tuple=True)
    first, last = before[frame, joint], after[frame, joint]
    share = ((frame - first).to(frames.dtype) / (last - first))[:, None]
    out = frames.clone()
    out[frame, joint] = frames[first, joint] * (1 - share) + frames[last, joint] * share
    return out


def fir_taps(half: int) -> list[float]:
    """Weights of the symmetric low-pass that leaves any movement of constant acceleration as it is (least
    squares of a parabola)."""
    n = 2 * half + 1
    norm = (2 * half - 1) * n * (2 * half + 3) / 3
    return [(3 * half * (half + 1) - 1 - 5 * k * k) / norm for k in range(-half, half + 1)]


def low_pass(frames: Tensor, half: int) -> Tensor:
    """x and y filtered in time wherever the joint is there in all of the filter's frames;
    elsewhere left as they are."""
    inner = len(frames) - 2 * half
    if half == 0 or inner <= 0:
        return frames
    middle = frames[half : half + inner]
    seen = frames[..., 2:] > 0
    total = torch.zeros_like(middle[..., :2])
    complete = torch.ones_like(seen[:inner])
    for k, tap in enumerate(fir_taps(half)):
        total += frames[k : k + inner, :, :2] * tap
        complete &= seen[k : k + inner]
    out = frames.clone()
    out[half : half + inner, :, :2] = torch.where(complete, total, middle[..., :2])
    return out


class RunningMedian:
    """Median of the last `window` values; NaN values do not count."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.order = deque[float]()  # the last values as they came
        self.values = list[float]()  # the same, sorted

    def push(self, value: float) -> None:
        if value != value:
            return
        self.order.append(value)
        insort(self.values, value)
        if len(self.order) > self.window:
            del self.values[bisect_left(self.values, self.order.popleft())]

    @property
    def median(self) -> float:
        n = len(self.values)
        return (self.values[(n - 1) // 2] + self.values[n // 2]) / 2 if n else float("nan")


class UnitLength:
    """The clip's unit in pixels: the unit pairs' mean distance, a running median; until they are seen, the
    first stand-in that was."""

    def __init__(self, skeleton: Skeleton, window: int) -> None:
        self.skeleton = skeleton
        pairs = [*skeleton.unit_pairs, *(pair for pair, _ in skeleton.spare_units)]
        self.ends = torch.tensor(pairs).unbind(1)  # the pairs' joints
        self.medians = [RunningMedian(window) for _ in range(2 + len(skeleton.spare_units))]

    def measure(self, frames: Tensor) -> list[list[float]]:
        """What each frame [J, 3] says, best source first: the unit pairs, the spare pairs, the box of
        all joints; NaN: nothing."""
        xy, seen = frames[..., :2], frames[..., 2] > 0
        nan = frames.new_tensor(float("nan"))
        first, second = self.ends
        step = xy[:, first] - xy[:, second]  # [T, pairs, 2]
        width = (step[..., 0] * step[..., 0] + step[..., 1] * step[..., 1]).sqrt()
        widths = torch.where(seen[:, first] & seen[:, second] & (width > 1e-6), width, nan).unbind(1)
        units, spares = widths[: len(self.skeleton.unit_pairs)], widths[len(self.skeleton.unit_pairs) :]
        total = reduce(torch.add, (torch.nan_to_num(width, nan=0.0) for width in units))
        count = reduce(torch.add, ((width == width).to(xy.dtype) for width in units))
        sources = [torch.where(count > 0, total / count, nan)]
        sources += [width / over for width, (_, over) in zip(spares, self.skeleton.spare_units)]
        highest = torch.where(seen[..., None], xy, -torch.inf).amax(1)
        lowest = torch.where(seen[..., None], xy, torch.inf).amin(1)
        size = highest - lowest
        sources.append(torch.where(size.amax(-1) > 1e-6, size.amax(-1) / 20, nan))
        return torch.stack(sources, 1).tolist()

    def push(self, values: Sequence[float]) -> float:
        """Takes one frame's measurements; the unit as of that frame (1 px where nothing could ever be measured)."""
        for median, value in zip(self.medians, values):
            median.push(value)
        return next((m.median for m in self.medians if m.values), 1.0)


class FrontEnd:
    """The front end as a stream: `push` raw frames of one clip, get the frames that are final;
    `finish` gives the rest."""

    def __init__(self, skeleton: Skeleton, data: Poses, fps: float | None = None) -> None:
        self.skeleton = skeleton
        self.data = data
        self.step = (data.fps if fps is None else frame_rate(fps)) / data.fps  # source frames per frame
        if abs(self.step - 1) < SAME_RATE:
            self.step = 1.0
        empty = torch.zeros(0, skeleton.num_joints, 3)
        self.source = empty  # source frames that are needed yet
        self.source_start = 0  # the first one's number
        self.resampled = 0  # frames resampled
        self.buffer = empty  # resampled frames that are needed yet, as context
        self.done = 0  # how many of them are out
        self.unit = UnitLength(skeleton, data.unit_window)
        self.units = deque[float]()
        self.last_origin: Tensor | None = None

    def push(self, raw: Tensor) -> Prepared:
        """raw [n, J, 3] float32 -> the frames that became final."""
        return self._advance(self._resample(clean(raw, self.data.min_score), final=False), final=False)

    def finish(self) -> Prepared:
        return self._advance(self._resample(self.source[:0], final=True), final=True)

    def _resample(self, frames: Tensor, final: bool) -> Tensor:
        if self.step == 1.0:
            return frames
        self.source = torch.cat((self.source, frames))
        have = self.source_start + len(self.source)
        until = int((have - 1) / self.step) + 2 if have else 0
        if final and have:
            until = max(1, round(have / self.step))  # the clip lasts as long as it did; its last frame is held
        position = self._position(torch.arange(self.resampled, max(until, self.resampled)))
        position = position.clamp(max=have - 1) if final else position[position <= have - 1]
        low = position.floor()
        out = self.source[:0]
        if len(position):
            out = sample_at(self.source, (low - self.source_start).long(), position - low)
        self.resampled += len(position)
        needed = int(self._position(torch.tensor(self.resampled))) - self.source_start
        drop = max(min(needed, len(self.source) - 1), 0)
        self.source = self.source[drop:]
        self.source_start += drop
        return out

    def _position(self, frame: Tensor) -> Tensor:
        """Where a frame lies among the source frames; rounded, so that a whole number is one
        whatever the float arithmetic."""
        return (frame.double() * self.step * 2**20).round() / 2**20

    def _advance(self, frames: Tensor, final: bool) -> Prepared:
        self.buffer = torch.cat((self.buffer, frames))
        self.units.extend(self.unit.push(values) for values in self.unit.measure(frames))
        lookahead = self.data.lookahead
        ready = len(self.buffer) if final else max(len(self.buffer) - lookahead, self.done)
        begin = max(self.done - self.data.smooth, 0)
        filled = fill_gaps(self.buffer, self.data.max_gap)[begin : ready + self.data.smooth]
        out = self._place(low_pass(filled, self.data.smooth)[self.done - begin : ready - begin])
        drop = max(ready - lookahead, 0)  # context that later frames look back on
        self.buffer = self.buffer[drop:]
        self.done = ready - drop
        return out

    def _place(self, frames: Tensor) -> Prepared:
        count = len(frames)
        xy, seen = frames[..., :2], frames[..., 2] > 0
        unit = frames.new_tensor([self._unit_of_next() for _ in range(count)])[:, None]  # [n, 1]
        origin, anchored = find_centre(xy, seen, self.skeleton.origin, unit=unit)
        known = torch.where(anchored, torch.arange(count)[:, None], -1)
        held = known.cummax(0).values if count else known  # the last frame that had an origin
        spare = box_middle(xy, seen) if self.last_origin is None else self.last_origin.expand(count, 2)
        origin = torch.where(held >= 0, origin[held[:, 0].clamp(min=0)], spare)
        if count and bool(anchored.any()):
            self.last_origin = origin[-1]
        relative = torch.where(seen[..., None], (xy - origin[:, None]) / unit[:, None], 0.0)
        return Prepared(torch.cat((relative, frames[..., 2:]), -1), torch.cat((origin, unit), -1))

    def _unit_of_next(self) -> float:
        """A frame's unit knows the frames up to its lookahead, as its position does; the clip's end has fewer."""
        ahead = min(self.data.lookahead, len(self.units) - 1)
        unit = self.units[ahead]
        self.units.popleft()
        return unit


def prepare(raw: Tensor, skeleton: Skeleton, data: Poses, *, fps: float | None = None) -> Prepared:
    """A whole clip [T, J, 3] through the front end, cut to `data.max_frames`; in pieces, so that a long one takes
    little more memory than itself."""
    front = FrontEnd(skeleton, data, fps)
    stop = data.max_frames
    done, frames = list[Prepared](), 0
    for piece in raw.split(PIECE):
        done.append(front.push(piece.float()))
        frames += len(done[-1].frames)
        if stop is not None and frames >= stop:
            break
    else:
        done.append(front.finish())
    return Prepared(torch.cat([part.frames for part in done])[:stop], torch.cat([part.place for part in done])[:stop])
