"""Where joints are: every step has its inverse, parts are put together, chunks drawn together."""

from dataclasses import replace

import pytest
import torch

from clips import moving_clip, with_gaps
from signstream.config import Data
from signstream.data.frontend import prepare
from signstream.skeleton import COCO_WHOLEBODY as BODY
from signstream.skeleton import build
from signstream.space import (
    SigningSpace,
    assemble,
    fit_signing_space,
    follows_on,
    join_chunks,
    local_view,
    mirror,
    part_centre,
    scores,
    to_pixels,
)


def ready(frames=40, seed=0, gaps=True):
    poses = moving_clip(frames, seed)
    return prepare(torch.from_numpy(with_gaps(poses, seed) if gaps else poses), BODY, Data()).frames


def test_mirror_twice_is_the_identity():
    frames = ready()
    assert torch.equal(mirror(mirror(frames, BODY), BODY), frames)
    assert not torch.equal(mirror(frames, BODY), frames)


@pytest.mark.parametrize(
    ("side", "other"), [("left_hand", "right_hand"), ("right_hand", "left_hand"), ("face", "face"), ("body", "body")]
)
def test_a_mirrored_clips_left_hand_is_the_originals_right_hand_mirrored(side, other):
    frames = ready()
    flipped = mirror(frames, BODY)
    part, image = BODY.part(side), BODY.part(other)
    view = local_view(flipped[..., :2], flipped[..., 2], part)
    order = [BODY.flip[j] - image.start for j in range(part.start, part.stop)]
    expected = local_view(frames[..., :2], frames[..., 2], image)[:, order] * torch.tensor([-1.0, 1.0])
    torch.testing.assert_close(view, expected, atol=1e-5, rtol=0)
    assert torch.equal(flipped[:, part.joints, 2], frames[:, image.joints, 2][:, order])


def test_mirroring_pixels_before_or_frames_after_the_front_end_is_the_same():
    poses, width = with_gaps(moving_clip(40, 8), 8), 512
    pixels = poses[:, list(BODY.flip)].copy()
    pixels[..., 0] = width - pixels[..., 0]
    before = prepare(torch.from_numpy(pixels), BODY, Data()).frames
    after = mirror(prepare(torch.from_numpy(poses), BODY, Data()).frames, BODY)
    torch.testing.assert_close(before, after, atol=1e-4, rtol=0)


def test_a_skeleton_without_pairs_cannot_be_mirrored():
    with pytest.raises(ValueError, match=r"data\.mirror_pairs"):
        mirror(torch.zeros(1, 4, 3), build(4, {"body": (1, 4)}, {"body": 1}, unit_joints=[[1, 2]]))


@pytest.mark.parametrize("part", BODY.parts, ids=lambda p: p.name)
def test_a_part_is_seen_from_its_centre(part):
    frames = ready(gaps=False)
    view = local_view(frames[..., :2], frames[..., 2], part)
    assert view[:, part.centre - part.start].abs().max() < 1e-6
    assert view.shape == (40, len(part), 2)


def test_a_missing_centre_joint_leaves_the_part_where_it_is():
    frames = ready(gaps=False)
    for name in ("left_hand", "right_hand", "face"):
        part, hidden = BODY.part(name), frames.clone()
        hidden[:, part.centre] = 0
        view, known = (local_view(f[..., :2], f[..., 2], part) for f in (hidden, frames))
        others = [j for j in range(len(part)) if j != part.centre - part.start]
        assert (view - known)[:, others].abs().max() < 1.3, "within a few centimetres: the next anchor stands in"
        assert (view[:, part.centre - part.start] == 0).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.97])
def test_who_may_not_look_at_values_finds_the_same_centres(share, monkeypatch):
    """A GPU and a recorded graph work out what others leave out where it is not needed."""
    generator = torch.Generator().manual_seed(1)
    xy = torch.randn(8, 10, BODY.num_joints, 2, generator=generator)
    weight = (torch.rand(xy.shape[:-1], generator=generator) >= share).float()
    weight[0, 0] = 0
    found = [part_centre(xy, weight, part) for part in BODY.parts]
    monkeypatch.setattr("signstream.space.may_look_at", lambda values: False)
    assert all(torch.equal(part_centre(xy, weight, part), centre) for part, centre in zip(BODY.parts, found))


def test_missing_joints_are_zero_in_every_view():
    frames = ready()
    for part in BODY.parts:
        view = local_view(frames[..., :2], frames[..., 2], part)
        assert (view[frames[:, part.joints, 2] == 0] == 0).all()
        assert torch.isfinite(view).all()


def test_signing_space_fills_its_box_and_has_an_inverse():
    frames, data = torch.cat([ready(60, s) for s in range(5)]), Data()
    space = fit_signing_space(frames, BODY, data)
    for p, part in enumerate(BODY.parts):
        seen = frames[:, part.joints, 2] > 0
        view = local_view(frames[..., :2], frames[..., 2], part)
        boxed = space.normalise(view, p, seen)
        assert (boxed[seen].abs() <= 8.01).float().mean() > 0.995
        assert boxed[seen].abs().max() > 7.5
        assert (boxed[~seen] == 0).all()
        torch.testing.assert_close(space.restore(boxed, p)[seen], view[seen], atol=1e-5, rtol=1e-5)


def test_the_left_hands_constants_are_the_right_hands_mirrored():
    space = fit_signing_space(ready(60), BODY, Data())
    left, right = space.parts.index("left_hand"), space.parts.index("right_hand")
    torch.testing.assert_close(space.shift[left] * torch.tensor([-1.0, 1.0]), space.shift[right])
    torch.testing.assert_close(space.scale[left], space.scale[right])


def test_signing_space_survives_a_checkpoint(tmp_path):
    space = fit_signing_space(ready(30), BODY, Data())
    torch.save(space.state_dict(), tmp_path / "space.pt")
    loaded = SigningSpace.from_state(torch.load(tmp_path / "space.pt", weights_only=True))
    assert loaded.parts == space.parts
    assert all(torch.equal(getattr(loaded, k), getattr(space, k)) for k in ("shift", "scale", "attach", "shown"))


def test_a_joint_is_known_from_a_part_that_usually_shows_it():
    frames = ready(gaps=False)
    legs, hand = slice(13, 17), BODY.part("left_hand").joints
    frames[:, legs] = 0
    frames[::3, hand] = 0
    space = fit_signing_space(frames, BODY, Data())
    body, left = (space.shown[space.parts.index(name)] for name in ("body", "left_hand"))
    assert not body[legs].any() and (body[:13] > 0.9).all() and not body[17:].any()
    assert (left[hand] == 1).all()  # of the frames that show a left hand
    everything = torch.ones(2, dtype=torch.bool)
    sent = {part.name: everything for part in BODY.parts} | {"left_hand": torch.tensor([True, False])}
    known = scores(sent, BODY, space)
    assert not known[:, legs].any() and known[:, :13].all()
    assert known[0, hand].all() and not known[1, hand].any()
    assert scores({"full_body": everything}, BODY, space)[:, 91:].all()


def test_a_part_that_never_shows_gets_constants_all_the_same():
    frames = ready(gaps=False)
    frames[:, BODY.part("left_hand").joints] = 0
    frames[:, BODY.part("right_hand").joints] = 0
    space = fit_signing_space(frames, BODY, Data())
    assert torch.isfinite(space.scale).all()
    assert torch.isfinite(space.shift).all()


def test_a_whole_skeleton_goes_to_signing_space_and_back_to_its_pixels():
    poses = torch.from_numpy(moving_clip(40, 6))
    out, data = prepare(poses, BODY, replace(Data(), smooth=0)), Data()
    xy, weight = out.frames[..., :2], out.frames[..., 2]
    space = fit_signing_space(out.frames, BODY, data)
    views = {p.name: space.restore(space.normalise(local_view(xy, weight, p), i), i) for i, p in enumerate(BODY.parts)}
    centres = {p.name: part_centre(xy, weight, p) for p in BODY.parts}
    back = to_pixels(assemble(views, BODY, space, centres=centres)[..., :2], out.place)
    assert (back - poses[..., :2]).abs().max() < 1e-3


def test_hands_hang_on_the_wrists_and_the_face_on_the_nose():
    frames = ready(gaps=False)
    xy, weight = frames[..., :2], frames[..., 2]
    space = fit_signing_space(frames, BODY, Data())
    views = {p.name: local_view(xy, weight, p) for p in BODY.parts if p.name != "full_body"}
    out = assemble(views, BODY)
    assert torch.equal(out[:, 91, :2], out[:, 9, :2])
    assert torch.equal(out[:, 112, :2], out[:, 10, :2])
    torch.testing.assert_close(out[:, 53, :2], out[:, 0, :2])
    assert (out[:, 17:23, 2] == 0).all(), "no part told the feet"
    assert (out[:, :17, 2] == 1).all()
    hung = assemble(views, BODY, space)
    torch.testing.assert_close(hung[:, 91, :2] - out[:, 91, :2], space.attach[1].expand(40, 2), atol=1e-5, rtol=0)


def test_the_full_body_alone_is_a_skeleton_and_the_parts_refine_it():
    frames = ready(gaps=False)
    xy, weight = frames[..., :2], frames[..., 2]
    full = {"full_body": local_view(xy, weight, BODY.part("full_body"))}
    torch.testing.assert_close(assemble(full, BODY)[..., :2], xy)
    hand = local_view(xy, weight, BODY.part("left_hand")) * 2
    out = assemble({**full, "left_hand": hand}, BODY)
    torch.testing.assert_close(out[:, 95, :2] - out[:, 91, :2], hand[:, 4] - hand[:, 0])
    torch.testing.assert_close(out[:, 112:, :2], xy[:, 112:])


def test_chunks_are_joined_where_they_jump_and_nowhere_else():
    line = torch.arange(30.0).view(3, 10, 1, 1).expand(3, 10, 4, 2)  # one steady movement over three chunks
    every = torch.tensor([False, True, True])
    torch.testing.assert_close(join_chunks(line, every), line)
    jumped = line + torch.tensor([0.0, 6.0, 0.0])[:, None, None, None]
    out = join_chunks(jumped, torch.tensor([False, True, False]))
    steps = out.flatten(0, 1).diff(dim=0)[:, 0, 0]
    assert steps[9] == 1.0 and steps[:12].max() <= 2.5, "the jump of 6 is spread over the frames beside it"
    assert steps[19] == -5.0, "these two are not joined"
    torch.testing.assert_close(out[2], jumped[2])
    for chunks in (0, 1):
        assert torch.equal(join_chunks(jumped[:chunks], every[:chunks]), jumped[:chunks])
    assert torch.equal(join_chunks(line[:, :3], every), line[:, :3])


def test_a_chunk_follows_on_where_its_part_and_clip_go_on():
    sent = torch.tensor([[True, True], [True, False], [True, True], [True, True]])
    assert follows_on(sent).tolist() == [[False, False], [True, False], [True, False], [True, True]]
    assert follows_on(sent, torch.tensor([3, 3, 5, 5])).tolist() == [
        [False] * 2,
        [True, False],
        [False] * 2,
        [True] * 2,
    ]
    for chunks in (0, 1):
        assert not follows_on(sent[:chunks], torch.zeros(chunks)).any()


def test_chunks_are_put_together_as_their_frames_are():
    frames = ready(gaps=False)
    xy, weight = frames[..., :2], frames[..., 2]
    views = {p.name: local_view(xy, weight, p) for p in BODY.parts}
    sent = {p.name: torch.arange(40) % (3 + i) > 0 for i, p in enumerate(BODY.parts)}
    chunked = assemble(
        {name: view.unflatten(0, (4, 10)) for name, view in views.items()},
        BODY,
        sent={name: shown.view(4, 10) for name, shown in sent.items()},
    )
    assert torch.equal(chunked.flatten(0, 1), assemble(views, BODY, sent=sent))
