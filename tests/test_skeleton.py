import numpy as np
import pytest

from signstream.skeleton import COCO_RANGES, COCO_WHOLEBODY, TAGS, build


def test_flip_is_an_involution_that_keeps_parts_and_bones_together():
    flip = COCO_WHOLEBODY.flip
    assert sorted(flip) == list(range(133))
    assert all(flip[flip[j]] == j for j in range(133))
    other = {"left_hand": "right_hand", "right_hand": "left_hand"}
    for part in COCO_WHOLEBODY.parts:
        image = COCO_WHOLEBODY.part(other.get(part.name, part.name))
        assert {flip[j] for j in range(part.start, part.stop)} == set(range(image.start, image.stop))
        for pairs, image_pairs in ((part.bones, image.bones), (part.links, image.links)):
            assert {frozenset((flip[a], flip[b])) for a, b in pairs} == {frozenset(bone) for bone in image_pairs}
        assert flip[part.centre] == image.centre


def test_joints_on_the_middle_line_mirror_onto_themselves():
    alone = [j for j in range(133) if COCO_WHOLEBODY.flip[j] == j]
    assert alone == [0, *(23 + i for i in (8, 27, 28, 29, 30, 33, 51, 57, 62, 66))]


@pytest.mark.parametrize("part", COCO_WHOLEBODY.parts, ids=lambda p: p.name)
def test_bones_and_links_of_a_part_join_all_its_joints_into_one(part):
    edges, joined, grew = part.bones + part.links, {part.centre}, True
    while grew:
        more = {j for bone in edges for j in bone if set(bone) & joined} - joined
        joined, grew = joined | more, bool(more)
    assert joined == set(range(part.start, part.stop))
    assert len({frozenset(bone) for bone in edges}) == len(edges), "an edge stands twice"


def test_ranges_and_centres_are_those_the_data_set_states():
    assert COCO_RANGES == {
        "face": (24, 91),
        "left_hand": (92, 112),
        "right_hand": (113, 133),
        "body": (1, 17),
        "full_body": (1, 133),
    }
    assert {p.name: p.centre + 1 for p in COCO_WHOLEBODY.parts} == {
        "face": 32,
        "left_hand": 92,
        "right_hand": 113,
        "body": 1,
        "full_body": 1,
    }
    assert [(a + 1, b + 1) for a, b in COCO_WHOLEBODY.unit_pairs] == [(60, 63), (66, 69)]
    assert {p.name: p.tag for p in COCO_WHOLEBODY.parts} == TAGS


def test_coco_ranges_give_the_table_and_a_subset_gives_its_parts():
    assert build(133, COCO_RANGES) == COCO_WHOLEBODY
    some = build(133, {"left_hand": (92, 112), "body": (1, 17)})
    assert some.parts == (COCO_WHOLEBODY.part("left_hand"), COCO_WHOLEBODY.part("body"))


def test_another_skeleton_has_its_own_parts_and_mirror():
    body = build(
        75,
        {"body": (1, 33), "left_hand": (34, 54)},
        {"body": 1, "left_hand": 34},
        unit_joints=[[3, 6]],
        mirror_pairs=[[2, 5], [34, 55]],
    )
    assert [p.centre for p in body.parts] == [0, 33]
    assert body.unit_pairs == ((2, 5),)
    assert np.flatnonzero(np.array(body.flip) != np.arange(75)).tolist() == [1, 4, 33, 54]
    assert build(75, {"body": (1, 33)}, {"body": 1}, unit_joints=[[3, 6]]).flip is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((75, {"body": (1, 33)}, {"body": 1}), "unit_joints"),
        ((75, {"body": (1, 33)}, None, [[3, 6]]), "data.centers"),
        ((75, {"body": (1, 80)}, {"body": 1}, [[3, 6]]), "the poses have 75"),
        ((75, {"torso": (1, 33)}, {"torso": 1}, [[3, 6]]), "'torso'"),
        ((75, {"body": (1, 33)}, {"body": 99}, [[3, 6]]), "data.centers.body is 99"),
        ((75, {"body": (1, 33)}, {"body": 1}, [[3, 76]]), "data.unit_joints"),
        ((75, {"body": (1, 33)}, {"body": 1}, [[3, 6]], [[1, 2], [2, 3]]), "data.mirror_pairs"),
        ((133, {}), "data.body_parts is empty"),
    ],
)
def test_what_is_no_skeleton_is_refused_by_the_key_at_fault(arguments, says):
    with pytest.raises(ValueError, match=says.replace("[", r"\[")):
        build(*arguments[:3], **dict(zip(("unit_joints", "mirror_pairs"), arguments[3:])))
