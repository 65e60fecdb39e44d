"""Pictures and heat maps: what lies on each other stays so, a clip is changed alike, and all is drawn from the seed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from signstream.config.frames import FrameAugment, Frames
from signstream.config.schema import build
from signstream.data.frame_ops import COLOURS, MOVES, OPERATIONS
from signstream.data.frames import Box, Operation, Plan, as_planned, choose_frames, draw_plan, frame_streams
from signstream.data.heat import heat_maps, near
from signstream.errors import UserError
from signstream.skeleton import FACE, NUM_JOINTS, RIGHT_HAND

STILL = FrameAugment(crop=False, mirror=False, ops=0, erase=0.0, time_scale=0.0, random_phase=False)
BARE = Frames(augment=STILL, heat=True, heat_sigma=4.0)
SMALL = replace(BARE, size=56, resize=64)
MIDDLE = Box(16, 16, 224, 224)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(frames: int = 3, height: int = 64, width: int = 64, seed: int = 0) -> torch.Tensor:
    """[T, H, W, 3] uint8"""
    return torch.randint(256, (frames, height, width, 3), generator=seeded(seed)).to(torch.uint8)


def one_joint(x: float, y: float, frames: int = 1, joint: int = RIGHT_HAND, score: float = 1.0) -> torch.Tensor:
    keypoints = torch.zeros(frames, NUM_JOINTS, 3)
    keypoints[:, joint] = torch.tensor([x, y, score])
    return keypoints


def blob(x: float, y: float, height: int = 256, width: int = 256) -> torch.Tensor:
    """[1, H, W, 3] uint8: dark, with a bright spot there."""
    down, across = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    spot = 255 * torch.exp(((across - x) ** 2 + (down - y) ** 2) / (-2 * 4.0**2))
    return spot.round().to(torch.uint8)[None, ..., None].expand(-1, -1, -1, 3).contiguous()


def middle_of(picture: torch.Tensor) -> torch.Tensor:
    """Where the weight of what is bright lies, (x, y)."""
    weight = (picture - picture.min()).double() ** 3
    down, across = torch.meshgrid(*map(torch.arange, picture.shape), indexing="ij")
    return torch.stack(((weight * across).sum(), (weight * down).sum())) / weight.sum()


# -- colours: Pillow's own


def solarize_add(picture: Image.Image, strength: float) -> Image.Image:
    return picture.point([min(i + round(110 * abs(strength)), 255) if i < 128 else i for i in range(256)] * 3)


def enhanced(kind: type) -> object:
    return lambda picture, strength: kind(picture).enhance(float(np.float32(1 + 0.9 * strength)))


PILLOW = {
    "AutoContrast": lambda picture, strength: ImageOps.autocontrast(picture),
    "Equalize": lambda picture, strength: ImageOps.equalize(picture),
    "Invert": lambda picture, strength: ImageOps.invert(picture),
    "Posterize": lambda picture, strength: ImageOps.posterize(picture, 8 - round(4 * abs(strength))),
    "Solarize": lambda picture, strength: ImageOps.solarize(picture, 256 - round(256 * abs(strength))),
    "SolarizeAdd": solarize_add,
    "Color": enhanced(ImageEnhance.Color),
    "Contrast": enhanced(ImageEnhance.Contrast),
    "Brightness": enhanced(ImageEnhance.Brightness),
    "Sharpness": enhanced(ImageEnhance.Sharpness),
}


def pictures() -> torch.Tensor:
    """[T, H, W, 3]: noise, a dull one, one of few values, a ramp, one colour, a picture of one channel."""
    wide = noise(6, 37, 51, seed=3)
    wide[1] = wide[1] // 5 + 90
    wide[2] = wide[2] // 64 * 50
    wide[3] = (torch.arange(51) * 4)[None, :, None]
    wide[4] = torch.tensor([200, 17, 90])
    wide[5, ..., 1:] = 7
    return wide


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("strength", [-1.0, -0.53, -0.1, 0.0, 0.26, 0.5, 1.0])
def test_colours_are_pillows_to_the_bit(name, strength):
    frames = pictures()
    ours = COLOURS[name](frames.permute(0, 3, 1, 2), strength).permute(0, 2, 3, 1)
    for frame, made in zip(frames, ours):
        theirs = np.asarray(PILLOW[name](Image.fromarray(frame.numpy()), strength))
        assert np.array_equal(made.numpy(), theirs), np.abs(made.numpy().astype(int) - theirs).max()


def test_there_are_the_fifteen_and_colours_of_no_strength_change_nothing():
    assert len(set(OPERATIONS)) == len(OPERATIONS) == 15
    frames = pictures().permute(0, 3, 1, 2)
    for name in set(COLOURS) - {"AutoContrast", "Equalize", "Invert"}:
        assert torch.equal(COLOURS[name](frames, 0.0), frames), name
    for name, move in MOVES.items():
        assert torch.equal(move(0.0, 64, 64), torch.eye(3, dtype=torch.float64)), name


# -- what moves: the spot in the picture and its heat


PLANS = {
    "nothing": Plan(MIDDLE),
    "mirror": Plan(MIDDLE, mirror=True),
    "crop": Plan(Box(31, 7, 201, 240)),
    "crop and mirror": Plan(Box(3, 40, 210, 190), mirror=True),
    **{
        f"{name} {strength}": Plan(MIDDLE, operations=(Operation(name, strength),))
        for name in MOVES
        for strength in (-0.45, 0.5)
    },
    "all": Plan(Box(10, 22, 230, 200), True, (Operation("Rotate", 0.4), Operation("ShearX", -0.5))),
    "the other way round": Plan(Box(10, 22, 230, 200), True, (Operation("ShearX", -0.5), Operation("Rotate", 0.4))),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize(("sigma", "off"), [(4.0, 0.3), (32.0, 3.0)])
def test_a_spot_in_the_picture_and_in_the_heat_map_stay_on_each_other(plan, sigma, off):
    x, y = 117.0, 141.0
    streams = as_planned(blob(x, y), plan, replace(BARE, heat_sigma=sigma), keypoints=one_joint(x, y))
    assert streams.heat is not None
    assert streams.heat.shape == (1, 1, 224, 224) and streams.frames.shape == (1, 3, 224, 224)
    picture, heat = streams.frames[0].mean(0), streams.heat[0, 0]
    spot = middle_of(picture.clamp(min=0))
    peak = torch.tensor([heat.argmax() % 224, heat.argmax() // 224])
    assert (spot - peak).abs().max() <= max(off, 0.75), (spot, peak)
    if sigma == 4.0:
        assert (middle_of(heat) - spot).abs().max() < off


def test_the_moves_move_as_they_say():
    """To where: a spot right of the middle."""
    x, y = 150.0, 128.0
    found = {}
    for name in MOVES:
        streams = as_planned(
            blob(x, y), Plan(MIDDLE, operations=(Operation(name, 0.2),)), BARE, keypoints=one_joint(x, y)
        )
        found[name] = middle_of(streams.frames[0].mean(0).clamp(min=0)) - torch.tensor([x - 16, y - 16])
    assert found["TranslateXRel"][0] == pytest.approx(-0.09 * 256, abs=0.3)
    assert found["TranslateYRel"][1] == pytest.approx(-0.09 * 256, abs=0.3)
    assert found["ShearY"][1] == pytest.approx(-0.06 * 22.5, abs=0.2) and abs(found["ShearY"][0]) < 0.2
    assert found["ShearX"].abs().max() < 0.2  # at the height of the middle nothing is sheared across
    assert found["Rotate"][1] == pytest.approx(22.5 * np.sin(np.deg2rad(6)), abs=0.3)


def test_outside_of_the_picture_there_is_no_heat_and_the_mean_colour():
    plan = Plan(MIDDLE, operations=(Operation("TranslateXRel", 0.6),))  # what lay 69 to the right is shown
    streams = as_planned(noise(2, 256, 256), plan, replace(BARE, heat_sigma=32.0), keypoints=one_joint(254, 128, 2))
    gone = 256 - 69 - 16 + 1
    assert streams.heat is not None
    assert (streams.heat[..., gone:] == 0).all() and (streams.heat[..., 100:160, gone - 12] > 0.3).all()
    assert (streams.frames[..., gone:] == 0).all() and (streams.frames[..., : gone - 2] != 0).float().mean() > 0.9


@pytest.mark.parametrize(("height", "width"), [(260, 210), (128, 128), (300, 512)])
def test_pictures_of_another_size_are_brought_to_it_with_their_heat(height, width):
    x, y = 0.55 * width, 0.47 * height
    keypoints = one_joint(x * 256 / width, y * 256 / height)  # in pixels of a square picture
    streams = as_planned(
        blob(x, y, height, width), draw_plan(*resized(width, height), BARE), BARE, keypoints=keypoints,
        keypoint_size=(256.0, 256.0),
    )  # fmt: skip
    assert streams.heat is not None and streams.heat.shape[2:] == (224, 224)
    spot = middle_of(streams.frames[0].mean(0).clamp(min=0))
    assert (middle_of(streams.heat[0, 0]) - spot).abs().max() < 1.5


def resized(width: int, height: int) -> tuple[int, int]:
    short = min(width, height)
    return round(width * 256 / short), round(height * 256 / short)


# -- heat maps


def naive_heat(joints: np.ndarray, size: int, sigma: float) -> np.ndarray:
    down, across = np.mgrid[:size, :size]
    maps = [np.exp(((across - x) ** 2 + (down - y) ** 2) / (-2 * sigma**2)) for x, y in joints]
    return np.where(np.max(maps, 0) >= np.exp(-4.5), np.max(maps, 0), 0)


@pytest.mark.parametrize("side", [64, 128])
def test_a_sigma_is_in_pixels_of_the_resized_picture(side):
    """Whatever the file's picture, a joint's heat is a Gaussian's there."""
    options = replace(SMALL, size=64, heat_sigma=6.0)
    heat = frame_streams(noise(1, side, side), options, keypoints=one_joint(side / 2 - 0.5, side / 2 - 0.5)).heat
    assert heat is not None  # the joint lies between the four points in the middle
    along = torch.arange(64) - 31.5
    wanted = torch.exp((along**2 + 0.5**2) / (-2 * 6.0**2))
    within = along.abs() < 17.5
    assert torch.allclose(heat[0, 0, 31][within], wanted[within], atol=1e-5)


@pytest.mark.parametrize(("sigma", "off"), [(1.5, 1e-5), (14.0, 1e-5), (20.0, 0.03), (32.0, 0.04)])
def test_heat_is_the_highest_of_the_joints_gaussians(sigma, off):
    rng = np.random.default_rng(1)
    keypoints = torch.zeros(2, NUM_JOINTS, 3)
    seen = rng.choice(np.arange(FACE, NUM_JOINTS), 12, replace=False)
    keypoints[:, seen] = torch.from_numpy(rng.uniform((0, 0, 0.4), (256, 256, 1), (2, 12, 3))).float()
    streams = as_planned(noise(2, 256, 256), Plan(Box(0, 0, 256, 256)), replace(
        BARE, size=256, heat_sigma=sigma), keypoints=keypoints)  # fmt: skip
    assert streams.heat is not None and streams.heat.min() >= 0 and streams.heat.max() <= 1
    for frame in range(2):
        wanted = naive_heat(keypoints[frame, seen, :2].numpy(), 256, sigma)
        difference = np.abs(streams.heat[frame, 0].numpy() - wanted)
        assert difference[wanted > 0.05].max() <= off and difference.mean() <= off / 10


def test_joints_that_are_not_there_draw_nothing():
    """The body's, those that score too little, and those that lie nowhere, whatever else they hold."""
    keypoints = torch.full((1, NUM_JOINTS, 3), 100.0)
    keypoints[..., 2] = 0.29
    keypoints[:, :FACE, 2] = 1
    keypoints[:, FACE] = torch.tensor([float("nan"), 90.0, 1.0])
    keypoints[:, FACE + 1] = torch.tensor([50.0, float("inf"), 1.0])
    keypoints[:, FACE + 2] = torch.tensor([50.0, 50.0, float("nan")])
    streams = frame_streams(noise(1, 256, 256), BARE, keypoints=keypoints)
    assert streams.heat is not None and (streams.heat == 0).all()
    every = frame_streams(noise(1, 256, 256), replace(BARE, heat_score=0.29), keypoints=keypoints)
    assert every.heat is not None and every.heat.max() == 1
    assert (heat_maps(near(keypoints[:, :0], 0.3), torch.zeros(5, 5, 2), 4.0) == 0).all()
    assert heat_maps(near(keypoints[:0], 0.3), torch.zeros(5, 5, 2), 4.0).shape == (0, 1, 5, 5)


def test_heat_has_one_shape_and_type_in_training_and_evaluation():
    options = replace(SMALL, augment=FrameAugment())
    shapes = {
        (streams.heat.shape, streams.heat.dtype, streams.frames.shape)
        for generator in (None, *map(seeded, range(12)))
        for streams in [frame_streams(noise(), options, keypoints=one_joint(30, 30, 3), generator=generator)]
    }
    assert shapes == {((3, 1, 56, 56), torch.float32, (3, 3, 56, 56))}
    assert frame_streams(noise(), replace(options, heat=False)).heat is None
    with pytest.raises(ValueError, match="drawn from keypoints"):
        frame_streams(noise(), options)


# -- what is drawn


def test_evaluation_is_the_middle_of_the_picture_normalised():
    frames = noise(2, 256, 256)
    wanted = (frames[:, 16:240, 16:240].permute(0, 3, 1, 2).double() / 255 - 0.45) / 0.225
    out = frame_streams(frames, replace(BARE, heat=False, augment=FrameAugment())).frames
    torch.testing.assert_close(out.double(), wanted, atol=1e-5, rtol=0)


def test_with_every_switch_off_training_is_evaluation():
    keypoints = one_joint(30, 30, 3)
    still = frame_streams(noise(), SMALL, keypoints=keypoints)
    for seed in range(5):
        drawn = frame_streams(noise(), SMALL, keypoints=keypoints, generator=seeded(seed))
        assert torch.equal(drawn.frames, still.frames) and torch.equal(drawn.heat, still.heat)
        assert torch.equal(choose_frames(50, SMALL, generator=seeded(seed)), torch.arange(50))


@pytest.mark.parametrize(
    ("name", "value"), [("crop", True), ("mirror", True), ("ops", 2), ("erase", 1.0), ("time_scale", 0.3)]
)
def test_each_switch_does_something_by_itself(name, value):
    options = replace(SMALL, augment=replace(STILL, op_prob=1.0, **{name: value}))
    keypoints = one_joint(30, 30, 3)
    still = frame_streams(noise(), SMALL, keypoints=keypoints)
    changed = 0
    for seed in range(10):
        if name == "time_scale":
            changed += len(choose_frames(40, options, generator=seeded(seed))) != 40
        else:
            drawn = frame_streams(noise(), options, keypoints=keypoints, generator=seeded(seed))
            changed += not torch.equal(drawn.frames, still.frames)
    assert changed >= 4


def test_the_same_seed_gives_the_same_and_another_seed_something_else():
    options = replace(SMALL, augment=FrameAugment(op_prob=1.0))
    outs = [frame_streams(noise(), options, keypoints=one_joint(30, 30, 3), generator=seeded(s)) for s in (1, 1, 2)]
    assert torch.equal(outs[0].frames, outs[1].frames) and torch.equal(outs[0].heat, outs[1].heat)
    assert not torch.equal(outs[0].frames, outs[2].frames)
    assert torch.equal(choose_frames(90, options, generator=seeded(3)), choose_frames(90, options, generator=seeded(3)))


def test_all_frames_of_a_clip_are_changed_alike():
    """70 frames are worked on in pieces; frames that are the same stay the same."""
    options = replace(SMALL, augment=FrameAugment(op_prob=1.0, erase=1.0))
    frames, keypoints = noise(1).expand(70, -1, -1, -1), one_joint(30, 30, 70)
    for seed in range(20):
        streams = frame_streams(frames, options, keypoints=keypoints, generator=seeded(seed))
        assert streams.heat is not None
        assert (streams.frames == streams.frames[:1]).all() and (streams.heat == streams.heat[:1]).all()


def test_plans_are_drawn_as_the_options_say():
    options = replace(BARE, augment=FrameAugment(op_prob=0.5, magnitude=5, magnitude_spread=0.5))
    plans = [draw_plan(256, 256, options, generator=seeded(seed)) for seed in range(600)]
    operations = [operation for plan in plans for operation in plan.operations]
    strengths = np.array([operation.strength for operation in operations])
    assert len(operations) / 1200 == pytest.approx(0.5, abs=0.05)
    assert np.abs(strengths).mean() == pytest.approx(0.5, abs=0.01) and np.abs(strengths).std() < 0.07
    assert (strengths > 0).mean() == pytest.approx(0.5, abs=0.06)
    assert {operation.name for operation in operations} == set(OPERATIONS)
    assert np.mean([plan.mirror for plan in plans]) == pytest.approx(0.5, abs=0.06)
    crops = np.array([plan.crop for plan in plans])
    share, shape = crops[:, 2] * crops[:, 3] / 256**2, crops[:, 2] / crops[:, 3]
    assert 0.79 < share.min() < 0.82 and 0.98 < share.max() <= 1
    assert 0.78 < shape.min() < 0.83 and 1.2 < shape.max() < 1.27  # no flatter one of 0.8 of a square fits into it
    assert (crops[:, :2] >= 0).all() and (crops[:, :2] + crops[:, 2:] <= 256).all()
    erased = [plan.erased for plan in plans if plan.erased is not None]
    assert len(erased) / 600 == pytest.approx(0.25, abs=0.05)
    assert all(0.019 < box.width * box.height / 224**2 < 0.101 for box in erased)


def test_erasing_puts_one_patch_of_noise_and_no_heat_there():
    options = replace(BARE, heat_sigma=32.0, augment=replace(STILL, erase=1.0))
    frames, keypoints = noise(3, 256, 256), one_joint(128, 128, 3)
    still = frame_streams(frames, BARE, keypoints=keypoints).frames
    for seed in range(8):
        streams = frame_streams(frames, options, keypoints=keypoints, generator=seeded(seed))
        plan = draw_plan(256, 256, options, generator=seeded(seed))
        left, top, width, height = map(int, plan.erased)
        mask = torch.zeros(224, 224, dtype=torch.bool)
        mask[top : top + height, left : left + width] = True
        changed = (streams.frames != still).any(0).any(0)
        assert torch.equal(changed, mask), "one rectangle, and once"
        patch = streams.frames[..., mask]
        assert (patch == patch[:1]).all() and abs(patch.std() - 1) < 0.1
        assert (streams.heat[..., mask] == 0).all()


# -- which frames


def test_speed_changes_within_its_range_and_leaves_the_target_its_steps():
    options = replace(BARE, augment=FrameAugment(time_scale=0.25))
    lengths = []
    for seed in range(200):
        positions = choose_frames(100, options, generator=seeded(seed))
        assert (
            positions[0] == 0 and positions[-1] == 99 and (positions.diff() >= 0).all() and positions.diff().max() <= 2
        )
        lengths.append(len(positions))
        assert len(choose_frames(100, options, least=97, generator=seeded(seed))) >= 97
        assert len(choose_frames(9, options, least=12, generator=seeded(seed))) >= 9
    assert 80 <= min(lengths) < 85 and 118 < max(lengths) <= 125


def test_between_frames_that_are_seen_lies_as_much_time_at_any_speed():
    """Not 3, 3, 0, 3, 6, ...: a frame that is left out or seen twice looks like a jerk."""
    options = replace(BARE, interval=3, augment=replace(STILL, time_scale=0.25))
    for seed in range(50):
        between = choose_frames(100, options, generator=seeded(seed)).diff()
        assert between.max() - between.min() <= 1


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 10])
def test_an_interval_takes_every_nth_frame_from_a_phase_that_training_draws(count):
    options = replace(BARE, interval=3, augment=replace(STILL, random_phase=True))
    assert choose_frames(count, options).tolist() == list(range(0, count, 3))
    drawn = [choose_frames(count, options, generator=seeded(seed)).tolist() for seed in range(40)]
    assert {positions[0] for positions in drawn if positions} == set(range(min(count, 3)))
    assert all(positions == list(range(positions[0], count, 3)) for positions in drawn if positions)
    enough = [choose_frames(10, options, least=4, generator=seeded(seed)).tolist() for seed in range(10)]
    assert all(positions == [0, 3, 6, 9] for positions in enough)


# -- the options


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"size": 300}, "size is 300 and resize 256"),
        ({"augment": {"crop_area": [0.9, 0.5]}}, r"augment\.crop_area is \[0\.9, 0\.5\]: two numbers"),
        ({"augment": {"crop_area": [0.5, 1.5]}}, r"up to 1, the smaller one first"),
        ({"augment": {"erase_ratio": [0, 1]}}, r"erase_ratio is \[0, 1\]"),
        ({"augment": {"magnitude": 11}}, r"magnitude is 11: from 0 to 10"),
        ({"augment": {"crop_ratio": [1]}}, r"crop_ratio is \[1\]: 2 numbers in brackets"),
    ],
)
def test_options_that_cannot_be_are_one_line(tree, line):
    with pytest.raises(UserError, match=line):
        build(Frames, tree)
