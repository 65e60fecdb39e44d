"""From a skeleton and a config to the model: what it has to know of the parts, their graphs, their levels."""

from __future__ import annotations

from torch import Tensor

from signstream.config import Config
from signstream.errors import UserError
from signstream.models.rvq.rvq_model import RVQModel, carrier_of
from signstream.models.rvq.sizes import PartShape
from signstream.models.stgcn import graph_of
from signstream.skeleton import JOINT_GROUPS, NUM_JOINTS, Part, Skeleton


def part_shapes(skeleton: Skeleton, share_hands: bool) -> list[PartShape]:
    """What the model has to know of the parts; a part that is another one's mirror image, joint by joint, may share
    its projection."""
    shapes: list[PartShape] = []
    projections: dict[str, int] = {}
    for part in skeleton.parts:
        partner = skeleton.mirror_image(part) if share_hands else None
        if partner is not None and part.start < partner.start:
            shapes.append(PartShape(len(part), projections.setdefault(partner.name, len(projections)), flip=True))
        else:
            shapes.append(PartShape(len(part), projections.setdefault(part.name, len(projections)), flip=False))
    return shapes


def part_graph(part: Part) -> Tensor:
    """A part's bones, and what links them, as models/stgcn.py has a graph."""
    edges = [(a - part.start, b - part.start) for a, b in (*part.bones, *part.links)]
    return graph_of(len(part), edges, part.centre - part.start if part.start <= part.centre < part.stop else 0)


def levels_of(skeleton: Skeleton, levels: int | dict[str, int]) -> list[int]:
    if isinstance(levels, int):
        return [levels] * len(skeleton.parts)
    missing = [part.name for part in skeleton.parts if part.name not in levels]
    if missing or min(levels.values()) < 1:
        raise UserError(
            f"model.rvq.levels is {levels}: a number of levels from 1 is expected for each part"
            + (f"; {', '.join(missing)} has none" if missing else "")
        )
    return [levels[part.name] for part in skeleton.parts]


def check_carrier(skeleton: Skeleton, told: Part) -> None:
    """That nothing is lost with the part that is told, not drawn: others draw all of it but feet."""
    others = {joint for part in skeleton.parts if part is not told for joint in range(part.start, part.stop)}
    feet = JOINT_GROUPS["feet"] if skeleton.num_joints == NUM_JOINTS else ()
    if not others or set(range(told.start, told.stop)) - set(feet) - others or min(others) < told.start:
        raise UserError(
            f"model.rvq.semantic: {told.name}, the largest of data.body_parts, is to tell what is meant, and the other "
            "parts are to draw it, but they are not what it is made of; set off, or take the parts of default.yaml"
        )


def build_model(config: Config, skeleton: Skeleton) -> RVQModel:
    shapes = part_shapes(skeleton, config.model.share_hands)
    rvq = config.model.rvq
    levels = levels_of(skeleton, rvq.levels)
    if rvq.semantic != "off":
        told = skeleton.parts[carrier_of(shapes)]
        check_carrier(skeleton, told)
        if isinstance(rvq.levels, dict) and rvq.levels[told.name] > 1:
            raise UserError(
                f"model.rvq.levels has {rvq.levels[told.name]} for {told.name}, whose code tells what is meant "
                "(model.rvq.semantic) and is not refined: give it 1"
            )
        levels[carrier_of(shapes)] = 1
    graphs = [part_graph(part) for part in skeleton.parts]
    return RVQModel(
        shapes,
        levels,
        config.model,
        frames=config.data.chunk_len,
        window=config.data.window,
        graphs=graphs,
        seed=config.train.seed,
    )
