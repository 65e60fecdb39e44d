"""What signs are made of, of every clip put together from its parts: the sums, and the report's section.

N chunks   L frames a chunk   J_p joints of a part

signs = sums_of_signs(skeleton, device)           # {way: Signs}
add_signs(signs["full"], batch, views, ...)       # a batch's clips; views {part: [N, L, J_p, 2]}
signs_section(signs)                              # {"full": {"left_hand": {"location": 0.05, ...}, ...}, ...}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from signstream.data.collate import ChunkBatch
from signstream.models.metrics.signing import NUMBERS, Signs
from signstream.skeleton import NUM_JOINTS, Skeleton
from signstream.space import SigningSpace, assemble

WAYS = ("full", "sent", "mean pose")  # by their names in measure.py


def sums_of_signs(skeleton: Skeleton, device: torch.device | str) -> dict[str, Signs]:
    """{way: its sums}; none for a skeleton that does not say where palms and lips are."""
    return {way: Signs(device) for way in WAYS} if skeleton.num_joints == NUM_JOINTS else {}


@torch.no_grad()
def add_signs(
    signs: Signs, batch: ChunkBatch, views: Mapping[str, Tensor], *, space: SigningSpace, widths: Mapping[int, float]
) -> None:
    """views {part: [N, L, J_p, 2]} of the batch's clips, {clip: shoulder width in pixels}. A joint that no part draws
    does not count. A clip is drawn with one unit length, as decoding draws it: a pose that never moves stands still."""
    drawn = {name: batch.split(view) for name, view in views.items()}
    originals = batch.split(torch.cat((batch.xy, batch.weight[..., None]), -1))  # {clip: [T, J, 3]}
    for clip, place in batch.split(batch.place).items():
        unit = place[:, 2, None, None].cpu()  # [T, 1, 1] pixels
        made = assemble({name: of_clip[clip].cpu() for name, of_clip in drawn.items()}, batch.skeleton, space)
        xy, weight = originals[clip].cpu().split([2, 1], -1)
        shown = torch.cat((xy * unit, weight * made[..., 2:]), -1)
        signs.add(shown, made[..., :2] * unit.median(), width=widths.get(clip))


def signs_section(signs: Mapping[str, Signs]) -> dict[str, Any] | None:
    """{way: {group: {number: value}}}, as NUMBERS names them; None without sums."""
    found = {way: sums.result() for way, sums in signs.items()}
    return {
        way: {group: {name: numbers.get(f"{group}/{name}") for name in names} for group, names in NUMBERS.items()}
        for way, numbers in found.items()
    } or None
