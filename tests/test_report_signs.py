"""The report's signs are those of whole clips, drawn in pixels; and none of another skeleton."""

import pytest
import torch

from clips import moving_clip, with_gaps
from signstream import skeleton
from signstream.config import Data
from signstream.data.collate import make_chunks
from signstream.data.frontend import prepare
from signstream.inference.report.signs import WAYS, add_signs, signs_section, sums_of_signs
from signstream.io.batch import pack
from signstream.models.metrics.signing import NUMBERS, Signs
from signstream.skeleton import COCO_WHOLEBODY as BODY
from signstream.space import assemble, fit_signing_space, in_pixels

WIDTHS = {3: 170.0, 8: 150.0}  # clip 5 has none


@pytest.fixture(scope="module")
def clips():
    """{clip: rows [T, 1 + J, 3]}, as the cache has them."""
    poses = {clip: with_gaps(moving_clip(frames, clip), clip) for clip, frames in ((3, 37), (5, 9), (8, 20))}
    ready = {clip: prepare(torch.from_numpy(each), BODY, Data()) for clip, each in poses.items()}
    return {clip: one.rows().numpy() for clip, one in ready.items()}


@pytest.fixture(scope="module")
def space(clips):
    return fit_signing_space(torch.cat([torch.from_numpy(rows[:, 1:]) for rows in clips.values()]), BODY, Data())


def views_of(batch, without=()):
    generator = torch.Generator().manual_seed(0)
    views = {part.name: batch.local(part).xy for part in BODY.parts if part.name not in without}
    return {name: view + 0.2 * torch.randn(view.shape, generator=generator) for name, view in views.items()}


def batch_of(clips):
    return make_chunks(pack(list(clips.values()), list(clips)), BODY, Data())


def test_clips_are_drawn_in_pixels_with_one_unit_length(clips, space):
    batch, expected, found = batch_of(clips), Signs(), Signs()
    views = views_of(batch)
    add_signs(found, batch, views, space=space, widths=WIDTHS)
    for clip, rows in clips.items():
        place = torch.from_numpy(rows[:, 0].copy())
        original = in_pixels(torch.from_numpy(rows[:, 1:]), place)
        place[:, 2] = place[:, 2].median()
        drawn = assemble({name: batch.split(view)[clip] for name, view in views.items()}, BODY, space)
        expected.add(original, in_pixels(drawn, place)[..., :2], width=WIDTHS.get(clip))
    assert len(found.result()) == 36 and found.result() == pytest.approx(expected.result(), rel=1e-3)


def test_what_no_part_draws_does_not_count(clips, space):
    batch, found = batch_of(clips), Signs()
    add_signs(found, batch, views_of(batch, without=("face", "full_body")), space=space, widths=WIDTHS)
    assert {key.split("/")[0] for key in found.result()} == {"left_hand", "right_hand", "hands"}


def test_a_pose_that_never_moves_stands_still(clips, space):
    batch, found = batch_of(clips), Signs()
    still = {name: view[:1, :1].expand_as(view) for name, view in views_of(batch).items()}
    add_signs(found, batch, still, space=space, widths=WIDTHS)
    result = found.result()
    assert not any("correlation" in key or key.endswith("movement") for key in result)
    assert {value for key, value in result.items() if key.endswith("size")} == {0.0}


def test_the_section_names_every_number_and_another_skeleton_has_none():
    section = signs_section(sums_of_signs(BODY, "cpu"))
    assert list(section) == list(WAYS)
    assert section["sent"] == {group: dict.fromkeys(numbers) for group, numbers in NUMBERS.items()}
    four = skeleton.build(4, {"body": (1, 4)}, {"body": 1}, unit_joints=[[2, 3]])
    assert signs_section(sums_of_signs(four, "cpu")) is None
