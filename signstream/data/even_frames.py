"""Which frames of a clip visual features are made of: as many rows for every clip, whatever its length.

indices(frames) -> [180]
"""

from __future__ import annotations

import numpy as np

ROWS = 180


def indices(frames: int) -> np.ndarray:
    """[180]: which frames, the first and the last among them, repeated where there are fewer."""
    return np.rint(np.linspace(0, frames - 1, ROWS)).astype(np.int64)
