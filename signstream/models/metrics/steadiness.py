"""How many codes stay when the input changes in ways that mean nothing.

    raw poses [T, J, 3] (x px, y px, score; 0 where missing) --changes--> the same, a little different, four ways
    codes of both [N, P, Q] --Steadiness.add--> shares [P, Q]

jitter   Gaussian noise of 1 px on every joint
shift    the first frame is missing: chunk t is compared with chunk t
larger   2 % about the middle of the picture
hidden   5 % of the joints are missing throughout the clip
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from signstream.models.metrics.sums import Sums
from signstream.space import box_middle

JITTER, SHIFT, LARGER, HIDDEN = CHANGES = ("jitter of 1 px", "shift by a frame", "2 % larger", "5 % of joints hidden")


def changes(poses: Tensor, size: tuple[float, float] | None, seed: int) -> dict[str, Tensor]:
    """poses as `data.frontend.clean` leaves them; `size` of the picture, where it is known: else the middle is that of
    all joints' box."""
    generator = torch.Generator().manual_seed(seed)
    xy, score = poses[..., :2], poses[..., 2:]
    joints = poses.shape[1]
    middle = box_middle(xy.flatten(0, 1), score.flatten() > 0) if size is None else xy.new_tensor(size) / 2
    noise = torch.randn(xy.shape, generator=generator)
    hidden = torch.randperm(joints, generator=generator)[: max(round(0.05 * joints), 1)]
    return {
        JITTER: torch.cat((xy + noise, score), -1),
        SHIFT: poses[1:],
        LARGER: torch.cat((middle + 1.02 * (xy - middle), score), -1),
        HIDDEN: poses.index_fill(1, hidden, 0.0),
    }


class Steadiness(Sums):
    """`parts` and `levels` are P and Q."""

    def __init__(self, parts: int, levels: int, device: torch.device | str = "cpu") -> None:
        shapes = {f"{change}/{name}": (parts, levels) for change in CHANGES for name in ("same", "seen")}
        super().__init__(shapes, device)

    def add(self, change: str, before: Tensor, after: Tensor) -> None:
        """codes [N, P, Q] and [N', P, Q] of one clip; -1 (nothing sent) on either side does not count, nor do chunks
        that only one side has."""
        chunks = min(len(before), len(after))
        before, after = before[:chunks], after[:chunks]
        seen = (before >= 0) & (after >= 0)
        self.count(f"{change}/same", ((before == after) & seen).sum(0))
        self.count(f"{change}/seen", seen.sum(0))

    def result(self) -> dict[str, Tensor]:
        """{change: [P, Q]}; NaN: nothing to compare."""
        totals = self.totals()
        return {change: totals[f"{change}/same"] / totals[f"{change}/seen"] for change in CHANGES}


def seeded_order(count: int, seed: int = 0) -> Sequence[int]:
    """Which of `count` clips come first, where not all are measured."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
