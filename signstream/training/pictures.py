"""A clip and its reconstruction, frame under frame, as a figure for samples/ and TensorBoard."""
from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from signstream.skeleton import Skeleton

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 8


def reconstruction_sheet(name: str, original: Tensor, again: Tensor, skeleton: Skeleton) -> Figure:
    """original and again [T, J, 3] in pixels: two rows of one crop."""
    from signstream.draw import axes_at, draw_pose, frame_limits, new_figure, show_limits

    original, again = original.numpy(), again.numpy().copy()
    limits = frame_limits(original, aspect=1.0)
    again[..., 2] *= original[..., 2] > 0  # what the original does not show is not compared
    side, gap, head = 1.4, 0.04, 0.25
    figure = new_figure(0.1 + COLUMNS * (side + gap), head + 2 * (side + gap) + 0.05, dpi=100)
    figure.text(0.01, 0.985, f"{name}: original above, reconstruction below", va="top", fontsize=8, parse_math=False)
    moments = [round(i * (len(original) - 1) / (COLUMNS - 1)) for i in range(COLUMNS)]
    for row, poses in enumerate((original, again)):
        for column, t in enumerate(moments):
            axes = axes_at(figure, 0.05 + column * (side + gap), head + row * (side + gap), side, side)
            show_limits(axes, limits)
            draw_pose(axes, poses[t], skeleton)
    return figure
