"""How the pictures of a clip are chosen, cut and augmented, and the heat maps with them: the section of a task that
reads frames. data/frames.py does what it says.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from signstream.config.schema import option, shown
from signstream.errors import UserError

Range = tuple[float, float]
LARGEST_SIDE = 1024  # pixels of what a network sees
NO_CROP = {"crop": (False,)}
NO_OPS = {"ops": (0,)}
NO_ERASE = {"erase": (0.0,)}


@dataclass(frozen=True)
class FrameAugment:
    """Of training. Drawn once a clip: all its frames, and its heat maps, are changed alike."""

    crop: bool = True
    crop_area: Range = option((0.8, 1.0), idle=NO_CROP)
    crop_ratio: Range = option((0.75, 1.333), idle=NO_CROP)
    mirror: bool = True
    ops: int = option(2, low=0, high=15)
    op_prob: float = option(0.5, low=0, high=1, idle=NO_OPS)
    magnitude: float = option(5.0, low=0, high=10, idle=NO_OPS)
    magnitude_spread: float = option(0.5, low=0, high=10, idle=NO_OPS)
    erase: float = option(0.25, low=0, high=1)
    erase_area: Range = option((0.02, 0.1), idle=NO_ERASE)
    erase_ratio: Range = option((0.3, 3.33), idle=NO_ERASE)
    time_scale: float = option(0.2, low=0, high=1)
    random_phase: bool = True

    def check(self) -> None:
        for name, most in (("crop_area", 1.0), ("crop_ratio", 10.0), ("erase_area", 1.0), ("erase_ratio", 10.0)):
            low, high = getattr(self, name)
            if not 0 < low <= high <= most:
                raise UserError(
                    f"augment.{name} is [{shown(low)}, {shown(high)}]: "
                    f"two numbers above 0 and up to {shown(most)}, the smaller one first, are expected"
                )


@dataclass(frozen=True)
class Frames:
    size: int = option(224, low=8, high=LARGEST_SIDE)
    resize: int = option(256, low=8, high=LARGEST_SIDE)
    interval: int = option(1, low=1)
    heat: bool = False
    heat_sigma: float = option(32.0, low=0.5, high=LARGEST_SIDE, idle={"heat": (False,)})
    heat_score: float = option(0.3, low=0, high=1, idle={"heat": (False,)})
    augment: FrameAugment = field(default_factory=FrameAugment)

    def check(self) -> None:
        if self.size > self.resize:
            raise UserError(
                f"size is {self.size} and resize {self.resize}: the square that is cut out of a picture cannot be "
                "larger than the picture's short side"
            )
