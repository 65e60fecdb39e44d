"""COCO-WholeBody, once: which joints make a part, where its centre is, how long a unit is, which joints mirror each
other, which bones join them, and which mean something together.

    COCO_WHOLEBODY        JOINT_GROUPS                      build(num_joints, body_parts, centers, ...) -> Skeleton

Joints count from 0 in here; a config's `body_parts` counts from 1, both ends in, as the data sets do. "Left" is the
signer's own left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from signstream.errors import UserError

Pair = tuple[int, int]


@dataclass(frozen=True)
class Anchor:
    """One way to find a centre: the middle of `joints` (all must be visible) plus `offset` (dx, dy) in unit lengths."""

    joints: tuple[int, ...]
    offset: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Part:
    """A stream of the tokenizer: joints [start, stop), the anchors of its centre in order of preference, its bones;
    `links` are no bones but make one graph of what the bones leave apart (a mouth and a chin)."""

    name: str
    tag: str
    start: int
    stop: int
    anchors: tuple[Anchor, ...]
    bones: tuple[Pair, ...] = ()
    links: tuple[Pair, ...] = ()
    hangs_on: tuple[Pair, ...] = ()  # (the part's joint, the body's joint): where the body says the part belongs

    @property
    def joints(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def centre(self) -> int:
        return self.anchors[0].joints[0]

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Skeleton:
    """All that the rest of the program knows about a body. `origin` anchors the whole frame (the nose)."""

    num_joints: int
    parts: tuple[Part, ...]
    origin: tuple[Anchor, ...]
    unit_pairs: tuple[Pair, ...]  # the unit length is the mean distance of these
    # Where no unit pair was seen yet: the distance of a pair over a constant.
    spare_units: tuple[tuple[Pair, float], ...] = ()
    flip: tuple[int, ...] | None = None  # joint -> its mirror image; None: cannot be mirrored

    def part(self, name: str) -> Part:
        for part in self.parts:
            if part.name == name:
                return part
        raise UserError(f"no part is called {name!r}: this skeleton has {', '.join(p.name for p in self.parts)}")

    def mirror_image(self, part: Part) -> Part | None:
        """The other part that is this one's mirror image, joint by joint."""
        if self.flip is None:
            return None
        images = self.flip[part.start : part.stop]
        return next((o for o in self.parts if o is not part and images == tuple(range(o.start, o.stop))), None)

    @property
    def bones(self) -> tuple[Pair, ...]:
        return tuple(sorted({bone for part in self.parts for bone in part.bones}))


TAGS = {"face": "F", "left_hand": "LH", "right_hand": "RH", "body": "B", "full_body": "FB"}
NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR, RIGHT_EAR = range(5)
LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_ELBOW, RIGHT_ELBOW, LEFT_WRIST, RIGHT_WRIST = range(5, 11)
FEET, FACE, LEFT_HAND, RIGHT_HAND, NUM_JOINTS = 17, 23, 91, 112, 133
CHIN, NOSE_TIP = FACE + 8, FACE + 30
RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS = (FACE + 36, FACE + 39), (FACE + 42, FACE + 45)


def _chain(*joints: int) -> tuple[Pair, ...]:
    return tuple(zip(joints, joints[1:]))


def _ring(*joints: int) -> tuple[Pair, ...]:
    return _chain(*joints, joints[0])


BODY_BONES = (
    *_chain(NOSE, LEFT_EYE, LEFT_EAR),
    *_chain(NOSE, RIGHT_EYE, RIGHT_EAR),
    (NOSE, LEFT_SHOULDER),
    (NOSE, RIGHT_SHOULDER),
    (LEFT_SHOULDER, RIGHT_SHOULDER),
    *_chain(5, 7, 9),
    *_chain(6, 8, 10),
    (5, 11),
    (6, 12),
    (11, 12),
    *_chain(11, 13, 15),
    *_chain(12, 14, 16),
)
FEET_BONES = ((15, 17), (15, 18), (15, 19), (16, 20), (16, 21), (16, 22))
FACE_BONES = tuple(
    (FACE + a, FACE + b)
    for a, b in (
        *_chain(*range(17)),
        *_chain(*range(17, 22)),
        *_chain(*range(22, 27)),
        *_chain(*range(27, 31)),
        *_chain(*range(31, 36)),
        (30, 33),
        *_ring(*range(36, 42)),
        *_ring(*range(42, 48)),
        *_ring(*range(48, 60)),
        *_ring(*range(60, 68)),
    )
)
FACE_LINKS = tuple(
    (FACE + a, FACE + b)
    for a, b in ((0, 17), (16, 26), (21, 27), (22, 27), (39, 27), (42, 27), (33, 51), (57, 8), (62, 51), (66, 57))
)


def _hand_bones(root: int) -> tuple[Pair, ...]:
    return tuple(
        bone for finger in range(5) for bone in _chain(root, *range(root + 1 + 4 * finger, root + 5 + 4 * finger))
    )


def _coco_flip() -> tuple[int, ...]:
    flip = list(range(NUM_JOINTS))

    def swap(a: int, b: int) -> None:
        flip[a], flip[b] = b, a

    for left in range(1, 17, 2):
        swap(left, left + 1)
    for foot in range(3):
        swap(FEET + foot, FEET + 3 + foot)
    across = [(i, 16 - i) for i in range(8)] + [(i, 43 - i) for i in range(17, 22)] + [(31, 35), (32, 34)]
    across += [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    across += [(48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67)]
    for a, b in across:
        swap(FACE + a, FACE + b)
    for joint in range(21):
        swap(LEFT_HAND + joint, RIGHT_HAND + joint)
    return tuple(flip)


# The offsets are medians over the real clips' training split, in unit lengths (mean eye widths); y points down.
NOSE_ANCHORS = (
    Anchor((NOSE,)),
    Anchor((NOSE_TIP,)),
    Anchor((LEFT_EYE, RIGHT_EYE), (0.0, 1.1)),
    Anchor(RIGHT_EYE_CORNERS + LEFT_EYE_CORNERS, (0.0, 1.15)),
    Anchor((LEFT_SHOULDER, RIGHT_SHOULDER), (0.0, -6.3)),
)
CHIN_ANCHORS = (
    Anchor((CHIN,)),
    Anchor((CHIN - 1, CHIN + 1)),
    Anchor(RIGHT_EYE_CORNERS + LEFT_EYE_CORNERS, (0.0, 4.15)),
    Anchor((NOSE_TIP,), (0.0, 3.0)),
    Anchor((NOSE,), (0.0, 3.0)),
)

LEFT_HAND_BONES, RIGHT_HAND_BONES = _hand_bones(LEFT_HAND), _hand_bones(RIGHT_HAND)
WRIST_BONES = ((LEFT_WRIST, LEFT_HAND), (RIGHT_WRIST, RIGHT_HAND))
LEFT_HAND_ANCHORS = (Anchor((LEFT_HAND,)), Anchor((LEFT_WRIST,)))
RIGHT_HAND_ANCHORS = (Anchor((RIGHT_HAND,)), Anchor((RIGHT_WRIST,)))

COCO_FLIP = _coco_flip()  # joint -> its mirror image
COCO_WHOLEBODY = Skeleton(
    num_joints=NUM_JOINTS,
    parts=(
        Part("face", "F", FACE, LEFT_HAND, CHIN_ANCHORS, FACE_BONES, FACE_LINKS, ((NOSE_TIP, NOSE),)),
        Part(
            "left_hand",
            "LH",
            LEFT_HAND,
            RIGHT_HAND,
            LEFT_HAND_ANCHORS,
            LEFT_HAND_BONES,
            hangs_on=((LEFT_HAND, LEFT_WRIST),),
        ),
        Part(
            "right_hand",
            "RH",
            RIGHT_HAND,
            NUM_JOINTS,
            RIGHT_HAND_ANCHORS,
            RIGHT_HAND_BONES,
            hangs_on=((RIGHT_HAND, RIGHT_WRIST),),
        ),
        Part("body", "B", 0, FEET, NOSE_ANCHORS, BODY_BONES),
        Part(
            "full_body",
            "FB",
            0,
            NUM_JOINTS,
            NOSE_ANCHORS,
            BODY_BONES + FEET_BONES + FACE_BONES + LEFT_HAND_BONES + RIGHT_HAND_BONES + WRIST_BONES,
            (*FACE_LINKS, (NOSE, NOSE_TIP)),
        ),
    ),
    origin=NOSE_ANCHORS,
    unit_pairs=(RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS),
    spare_units=(
        ((LEFT_SHOULDER, RIGHT_SHOULDER), 11.0),
        ((LEFT_HAND, LEFT_HAND + 9), 3.0),
        ((RIGHT_HAND, RIGHT_HAND + 9), 3.0),
    ),
    flip=COCO_FLIP,
)
# Joints that mean something together. The roots of the hands are no wrists: a hand is seen from its root, which says
# nothing there.
JOINT_GROUPS = {
    "wrists": (LEFT_WRIST, RIGHT_WRIST),
    "fingertips": tuple(hand + tip for hand in (LEFT_HAND, RIGHT_HAND) for tip in (4, 8, 12, 16, 20)),
    "mouth": tuple(range(FACE + 48, FACE + 68)),  # outer and inner lips
    "eyes": tuple(range(FACE + 36, FACE + 48)),
    "brows": tuple(range(FACE + 17, FACE + 27)),
    "legs": tuple(range(11, FEET)),  # hips, knees, ankles
    "feet": tuple(range(FEET, FACE)),
}
COCO_RANGES = {part.name: (part.start + 1, part.stop) for part in COCO_WHOLEBODY.parts}


def build(
    num_joints: int,
    body_parts: Mapping[str, Sequence[int]],
    centers: Mapping[str, int] | None = None,
    *,
    unit_joints: Sequence[Sequence[int]] | None = None,
    mirror_pairs: Sequence[Sequence[int]] | None = None,
) -> Skeleton:
    """The skeleton a config asks for; joints counted from 1. For 133 joints the table above gives what is not given."""
    coco = COCO_WHOLEBODY if num_joints == NUM_JOINTS else None
    centre_of = dict(centers or {})
    parts = tuple(
        _part(name, first, last, num_joints=num_joints, centre=centre_of.get(name), coco=coco)
        for name, (first, last) in body_parts.items()
    )
    if not parts:
        raise UserError("data.body_parts is empty: at least one part is needed")
    unit_pairs = _unit_pairs(unit_joints, num_joints, coco)
    flip = coco.flip if coco else None
    if mirror_pairs is not None:
        flip = _flip(mirror_pairs, num_joints)
    body = next((part for part in parts if part.name in ("body", "full_body")), parts[0])
    return Skeleton(
        num_joints,
        parts,
        origin=coco.origin if coco else body.anchors,
        unit_pairs=unit_pairs,
        spare_units=coco.spare_units if coco and unit_joints is None else (),
        flip=flip,
    )


def _part(name: str, first: int, last: int, *, num_joints: int, centre: int | None, coco: Skeleton | None) -> Part:
    """COCO-WholeBody's part where it is that one; else one with a single joint as centre and the bones in its range."""
    if name not in TAGS:
        raise UserError(f"data.body_parts has a part {name!r}: the parts are {', '.join(TAGS)}")
    if not 1 <= first <= last <= num_joints:
        raise UserError(
            f"data.body_parts.{name} is [{first}, {last}]: joints count from 1 and the poses have {num_joints}"
        )
    coco_part = coco.part(name) if coco else None
    if coco_part and (first, last) == COCO_RANGES[name] and centre in (None, coco_part.centre + 1):
        return coco_part
    if centre is None:
        raise UserError(
            f"data.centers names no centre joint for {name}: a part that is not COCO-WholeBody's needs one, "
            f"for example data.centers.{name}={first}"
        )
    if not 1 <= centre <= num_joints:
        raise UserError(f"data.centers.{name} is {centre}: joints count from 1 and the poses have {num_joints}")
    bones = coco_part.bones if coco_part else ()
    inside = tuple((a, b) for a, b in bones if first - 1 <= min(a, b) and max(a, b) < last)
    return Part(name, TAGS[name], first - 1, last, (Anchor((centre - 1,)),), inside)


def _unit_pairs(
    unit_joints: Sequence[Sequence[int]] | None, num_joints: int, coco: Skeleton | None
) -> tuple[Pair, ...]:
    if coco is None and unit_joints is None:
        raise UserError(
            f"data.unit_joints is missing: poses of {num_joints} joints need the pairs of joints whose mean distance "
            "is the unit length, for example [[3, 6]]"
        )
    pairs = tuple((a - 1, b - 1) for a, b in unit_joints or ())
    if coco and not unit_joints:
        pairs = coco.unit_pairs
    if not pairs or any(not 0 <= joint < num_joints for pair in pairs for joint in pair):
        raise UserError(f"data.unit_joints is {unit_joints}: pairs of joints from 1 to {num_joints} are needed")
    return pairs


def _flip(mirror_pairs: Sequence[Sequence[int]], num_joints: int) -> tuple[int, ...]:
    flip = list(range(num_joints))
    for a, b in mirror_pairs:
        if not (1 <= a <= num_joints and 1 <= b <= num_joints) or flip[a - 1] != a - 1 or flip[b - 1] != b - 1:
            raise UserError(
                f"data.mirror_pairs holds [{a}, {b}]: each joint from 1 to {num_joints} may stand in one pair"
            )
        flip[a - 1], flip[b - 1] = b - 1, a - 1
    return tuple(flip)
