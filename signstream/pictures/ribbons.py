"""A clip's tokens as ribbons over its seconds: a row a part, a lane a level, each code in its own shade.

draw_ribbons(axes, tokens)          # TokenSequence, onto an Axes of matplotlib
figure = token_timeline(tokens)     # a figure of its own, with the codes' numbers where there is room
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from signstream.pictures.figure import COLOURS, HEAD, caption, headed_axes, ink
from signstream.tokens.codes import held_chunks
from signstream.tokens.format import NAMES, TokenSequence

NUMBERED = 0.28  # inches that a chunk must be wide for its codes to be written into the ribbon
NARROWEST, WIDEST = 5.0, 24.0  # inches of a timeline


def draw_ribbons(axes: Axes, tokens: TokenSequence, numbers: bool = False) -> None:
    """Thin where a part holds, empty where nothing was sent; `numbers` writes each code into its place."""
    codes = tokens.codes.numpy()
    held = held_chunks(tokens.codes).numpy()
    step = tokens.chunk_len / tokens.fps
    cells = []
    shades = []
    for n, p, q in np.argwhere(codes >= 0).tolist():
        lane = 0.84 / tokens.levels[p]
        top = p + 0.08 + q * lane
        height = 0.9 * lane
        margin = 0.36 * height if held[n, p] else 0.0
        width = step * (1 if held[n, p] else 0.94)
        cells.append(Rectangle((n * step, top + margin), width, height - 2 * margin))
        shades.append(shade_of(tokens.parts[p], codes[n, p, q]))
        if numbers and not held[n, p]:
            centre = ((n + 0.47) * step, top + height / 2)
            style: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": 6, "color": ink(shades[-1])}
            axes.text(*centre, codes[n, p, q], **style)
    axes.add_collection(PatchCollection(cells, facecolors=shades, linewidths=0), autolim=False)
    axes.set(xlim=(0, max(len(codes), 1) * step), ylim=(len(tokens.parts), 0))
    axes.set_yticks([p + 0.5 for p in range(len(tokens.parts))], tokens.parts)
    axes.tick_params(axis="y", length=0)


def shade_of(tag: str, code: int) -> np.ndarray:
    """[3]: the part's colour, paler or fuller by the code."""
    colour = np.array(to_rgb(COLOURS.get(NAMES.get(tag, tag), COLOURS["body"])))
    return 1 - (0.3 + 0.7 * (code * 0.618034 % 1)) * (1 - colour)


def token_timeline(tokens: TokenSequence) -> Figure:
    chunks = max(len(tokens.codes), 1)
    width = min(max(1.0 + chunks * NUMBERED * 1.15, NARROWEST), WIDEST)
    figure, (axes,) = headed_axes(width, HEAD + 0.75 + sum(0.12 + 0.15 * levels for levels in tokens.levels))
    draw_ribbons(axes, tokens, numbers=(width - 1.0) / chunks >= NUMBERED)
    caption(axes, "Tokens, a lane a level (thin: held, empty: not sent)", x="seconds")
    axes.spines[:].set_visible(False)
    return figure
