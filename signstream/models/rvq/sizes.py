"""What an encoder and a decoder are built for: the parts as the model knows them, and how large its layers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class PartShape(NamedTuple):
    """What the model knows of a part."""

    joints: int
    projection: int  # parts with the same number share their first and last layer
    flip: bool = False  # x is negated on the way in and out: a left hand seen as a right one


class Sizes(NamedTuple):
    shapes: Sequence[PartShape]  # P
    frames: int  # L of a chunk
    window: int  # W chunks that are seen together
    layers: int
    width: int  # D of the network
    latent: int  # Z
    type_width: int  # of a part's embedding, before it is widened


def joints_of(shapes: Sequence[PartShape]) -> list[int]:
    """J of each projection; of parts that share one, the last one's."""
    joints = {shape.projection: shape.joints for shape in shapes}
    return [joints[projection] for projection in sorted(joints)]
