"""A clip and its reconstruction for samples/ and TensorBoard: frame under frame as a figure, side by side as a small
GIF.

What the original does not show is not compared.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from signstream.pictures.animation import Scene, animate
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
from signstream.skeleton import Skeleton
from signstream.tasks.rvq.validation import Picture

COLUMNS = 8
MOST_FRAMES = 90  # of the GIF


def reconstruction_sheet(picture: Picture, skeleton: Skeleton) -> Figure:
    """Two rows of one crop."""
    original, drawn = picture.original.numpy(), picture.reconstruction.numpy().copy()
    limits = frame_limits(original, aspect=1.0)
    drawn[..., 2] *= original[..., 2] > 0
    side, gap, head = 1.4, 0.04, 0.25
    figure = new_figure(0.1 + COLUMNS * (side + gap), head + 2 * (side + gap) + 0.05, dpi=100)
    rest = "original above, reconstruction below"
    heading(figure, Lettering(), (0.05, 0.16), strong=picture.name, rest=rest, width=120)
    moments = [round(i * (len(original) - 1) / (COLUMNS - 1)) for i in range(COLUMNS)]
    for row, poses in enumerate((original, drawn)):
        for column, t in enumerate(moments):
            axes = axes_at(figure, Box(0.05 + column * (side + gap), head + row * (side + gap), side, side))
            show_limits(axes, limits)
            draw_pose(axes, poses[t], skeleton)
    return figure


def reconstruction_animation(picture: Picture, skeleton: Skeleton, *, fps: float, path: Path) -> None:
    """The first frames in real time; under half a second to make, and under a megabyte."""
    scene = Scene(picture.original.numpy(), picture.reconstruction.numpy(), skeleton, fps, picture.name)
    animate(scene.first(MOST_FRAMES), path, width=2.4, dpi=80)
