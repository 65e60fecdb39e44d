"""Features of drawn frames that stand in for a picture model's, so that what reads those runs with nothing downloaded.

    visual_rows(joints [T, 133, 3], signer, look) -> [180, 768] float32

A frame is drawn at 32 x 32 in colour and its difference from the mean of its clip's frames is projected onto 768 fixed
directions, whose entries are 1 or -1. If the mean stayed, most of the variance would be walls and clothes. Over a clip
the features' mean square is about 1. They keep distances between pictures, know nothing else, and are not SigLIP's.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from signstream.data.even_frames import indices
from signstream.data.synthetic.drawing import SMALL, draw_small
from signstream.data.synthetic.drawing_look import Look
from signstream.data.synthetic.orders import generator
from signstream.data.synthetic.signer import Signer

WIDTH = 768
DIRECTIONS_SEED = 768180  # the same directions in every data set, whatever its seed


@cache
def directions() -> np.ndarray:
    """[32 * 32 * 3, 768] float32, each entry 1 or -1."""
    coins = generator(DIRECTIONS_SEED).integers(0, 2, (SMALL * SMALL * 3, WIDTH), dtype=np.int8)
    return (2 * coins - 1).astype(np.float32)


def visual_rows(joints: np.ndarray, signer: Signer, look: Look) -> np.ndarray:
    """[T, 133, 3] -> [180, 768]; each distinct frame is drawn once."""
    distinct, places = np.unique(indices(len(joints)), return_inverse=True)
    pictures = np.stack([np.asarray(picture) for picture in draw_small(joints[distinct], signer, look)])
    return projected(pictures.reshape(len(distinct), -1))[places]


def projected(pictures: np.ndarray) -> np.ndarray:
    """[N, 3072] uint8 -> [N, 768] float32. Sums of whole numbers below 2 ** 24, so float32 holds them exactly and no
    order of adding them changes a bit."""
    apart = pictures - np.rint(pictures.mean(0))
    square = np.square(apart).sum() / len(apart)  # what a projection's square is on average
    return (apart.astype(np.float32) @ directions()) / np.float32(np.sqrt(max(square, 1.0)))
