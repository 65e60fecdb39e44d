"""A clip and its reconstruction for samples/ and TensorBoard: frame under frame as a figure, side by side as a small GIF.

Poses are [T, J, 3] in pixels, the score 0 where a joint is missing; what the original does not show is not compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from signstream.skeleton import Skeleton

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 8
MOST_FRAMES = 90  # of the GIF


def reconstruction_sheet(name: str, original: Tensor, again: Tensor, skeleton: Skeleton) -> Figure:
    """Two rows of one crop."""
    from signstream.pictures.figure import (
        Box,
        Lettering,
        axes_at,
        draw_pose,
        frame_limits,
        heading,
        new_figure,
        show_limits,
    )

    original, again = original.numpy(), again.numpy().copy()
    limits = frame_limits(original, aspect=1.0)
    again[..., 2] *= original[..., 2] > 0
    side, gap, head = 1.4, 0.04, 0.25
    figure = new_figure(0.1 + COLUMNS * (side + gap), head + 2 * (side + gap) + 0.05, dpi=100)
    heading(figure, Lettering(), (0.05, 0.16), strong=name, rest="original above, reconstruction below", width=120)
    moments = [round(i * (len(original) - 1) / (COLUMNS - 1)) for i in range(COLUMNS)]
    for row, poses in enumerate((original, again)):
        for column, t in enumerate(moments):
            box = Box(0.05 + column * (side + gap), head + row * (side + gap), side, side)
            axes = axes_at(figure, box)
            show_limits(axes, limits)
            draw_pose(axes, poses[t], skeleton)
    return figure


def reconstruction_animation(
    name: str, original: Tensor, again: Tensor, skeleton: Skeleton, fps: float, path: Path
) -> None:
    """The first frames in real time; under half a second to make, and under a megabyte."""
    from signstream.pictures.animation import Scene, animate

    scene = Scene(original.numpy(), again.numpy(), skeleton, fps, name)
    animate(scene.first(MOST_FRAMES), path, width=2.4, dpi=80)
