import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

from benchmarks.score import score
from clips import moving_clip, with_gaps
from data_sets import cache_of, data_config, write_csl
from signstream import skeleton
from signstream.config import Data
from signstream.data.collate import make_chunks
from signstream.data.frontend import clean, prepare
from signstream.io.batch import pack
from signstream.models.metrics.codebook import CodebookUse
from signstream.models.metrics.recon import Reconstruction, shoulder_widths
from signstream.models.metrics.temporal import Smoothness
from signstream.skeleton import COCO_WHOLEBODY as BODY
from signstream.skeleton import LEFT_HAND, RIGHT_HAND
from signstream.space import part_centre

WEIGHTS = {"face": 1.0, "left_hand": 2.0, "right_hand": 2.0, "body": 1.0, "full_body": 1.0}
SCALE, CHUNK = [2.0, 3.0, 3.0, 1.0, 0.5], 10
FOUR = skeleton.build(4, {"body": (1, 4)}, {"body": 1}, unit_joints=[[2, 3]])


class Batch(NamedTuple):
    """Chunks of some clips with a reconstruction: by part [N, L, J_p, ...], the rest by chunk."""

    target: dict
    made: dict
    weight: dict
    place: torch.Tensor
    clip: torch.Tensor
    t: torch.Tensor
    frames: torch.Tensor


class Clips:
    """What `shoulder_widths` reads: clips as a cache holds them."""

    def __init__(self, clips):
        self.clips = clips

    def frames(self, index):
        return self.clips[index]


def cached(frames, seed):
    out = prepare(torch.from_numpy(with_gaps(moving_clip(frames, seed), seed)), BODY, Data())
    return torch.cat((out.place[:, None], out.frames), 1).numpy()


CLIPS = Clips([cached(frames, seed) for seed, frames in enumerate([37, 1, 10, 9, 11, 24, 25, 40])])
WIDTHS = shoulder_widths(CLIPS, range(8))


def one(index, frames=None, noise=0.3):
    chunks = make_chunks(pack([CLIPS.frames(index) if frames is None else frames], [index]), BODY, Data())
    generator = torch.Generator().manual_seed(index)
    views = {part.name: chunks.local(part) for part in BODY.parts}
    made = {name: view.xy + noise * torch.randn(view.xy.shape, generator=generator) for name, view in views.items()}
    return Batch(
        {name: view.xy for name, view in views.items()},
        made,
        {name: view.weight for name, view in views.items()},
        chunks.place,
        chunks.clip,
        chunks.t,
        chunks.frames,
    )


def joined(batches):
    return Batch(
        *(
            {name: torch.cat([value[name] for value in values]) for name in values[0]}
            if isinstance(values[0], dict)
            else torch.cat(values)
            for values in zip(*batches)
        )
    )


def rows(batch, index):
    return Batch(
        *(
            {name: tensor[index] for name, tensor in value.items()} if isinstance(value, dict) else value[index]
            for value in batch
        )
    )


EACH = [one(index) for index in range(8)]


def reconstruction(batches=(), widths=WIDTHS):
    metric = Reconstruction(BODY, WEIGHTS, SCALE, widths=widths, chunk_len=CHUNK)
    for batch in batches:
        metric.add(batch.target, batch.made, batch.weight, place=batch.place, clip=batch.clip)
    return metric


def smoothness(batches=()):
    metric = Smoothness(BODY)
    for batch in batches:
        metric.add(batch.target, batch.made, batch.weight, clip=batch.clip, t=batch.t, frames=batch.frames)
    return metric


CODES = torch.where(
    torch.rand(40, 5, 3, generator=torch.Generator().manual_seed(1)) < 0.2,
    -1,
    torch.randint(16, (40, 5, 3), generator=torch.Generator().manual_seed(2)),
)


def use(batches=()):
    metric = CodebookUse([part.name for part in BODY.parts], [3, 2, 2, 3, 1], 16)
    for codes in batches:
        metric.add(codes)
    return metric


def close(result, expected, rel=1e-9):
    assert result.keys() == expected.keys()
    assert result == pytest.approx(expected, rel=rel, abs=1e-12)


WAYS = [(reconstruction, EACH, joined), (smoothness, EACH, joined), (use, list(CODES.split(5)), torch.cat)]


@pytest.mark.parametrize(("make", "each", "join"), WAYS, ids=["reconstruction", "smoothness", "codebook use"])
def test_batches_their_order_and_ranks_change_nothing(make, each, join):
    whole = make([join(each)]).result()
    assert len(whole) > 20
    close(make(each).result(), whole)
    close(make(each[::-1]).result(), whole)
    close(make([join(each[3:4]), join([each[i] for i in (7, 0, 2, 1)]), join(each[4:7])]).result(), whole)
    summed = make()
    summed.load_state(make(each[:3]).state() + make(each[3:]).state())
    close(summed.result(), whole)
    assert summed.state().dtype == torch.float64 and summed.state().dim() == 1
    idle = make()  # a rank without a clip
    empty = idle.state()
    assert idle.result() == {}
    idle.load_state(summed.state() + empty)
    assert torch.equal(idle.state(), summed.state()) and not empty.any()


def test_the_chunks_order_within_a_batch_changes_nothing():
    whole = joined(EACH)
    shuffled = rows(whole, torch.randperm(len(whole.clip), generator=torch.Generator().manual_seed(0)))
    for make in (reconstruction, smoothness):
        close(make([shuffled]).result(), make([whole]).result())
    assert smoothness([rows(whole, slice(0, 0))]).result() == reconstruction([rows(whole, slice(0, 0))]).result() == {}


def test_a_perfect_reconstruction():
    exact = [batch._replace(made=batch.target) for batch in EACH]
    result = reconstruction(exact).result()
    assert {name for name in result if name.startswith("left_hand/")} == {
        f"left_hand/{name}"
        for name in ("huber", "mse", "mae", "rmse", "pixels", "local", "pck_0.05", "pck_0.1", "pck_0.2")
    }
    assert all(value == (1.0 if "pck" in name else 0.0) for name, value in result.items())
    result = smoothness(exact).result()
    for part in WEIGHTS:
        assert result[f"{part}/speed_error"] == result[f"{part}/jerk_error"] == 0
        assert result[f"{part}/jump/original/mean"] == result[f"{part}/jump/reconstruction/mean"] > 0


@pytest.mark.parametrize("junk", [math.nan, math.inf, -1e30])
def test_what_stands_in_missing_joints_and_past_the_end_has_no_effect(junk):
    def filled(values):
        return {name: torch.where(batch.weight[name][..., None] > 0, view, junk) for name, view in values.items()}

    batch = joined(EACH)
    assert (batch.frames < CHUNK).any() and all((weight == 0).any() for weight in batch.weight.values())
    for make in (reconstruction, smoothness):
        other = batch._replace(target=filled(batch.target), made=filled(batch.made))
        assert torch.equal(make([other]).state(), make([batch]).state())


def test_a_clips_tail_does_not_count():
    """A clip of 13 frames scores as its first 10 and its last 3 do as chunks of their own length."""
    batch = one(0, CLIPS.frames(0)[:13])
    assert batch.frames.tolist() == [10, 3]
    short = rows(batch, slice(1, 2))
    short = short._replace(
        **{
            name: {part: value[:, :3] for part, value in getattr(short, name).items()}
            for name in ("target", "made", "weight")
        },
        place=short.place[:, :3],
    )
    close(reconstruction([batch]).result(), reconstruction([rows(batch, slice(0, 1)), short]).result())
    assert batch.made["body"][1, 3:].abs().sum() > 0


def test_a_part_without_anything_visible_has_no_key_and_spoils_nothing():
    frames = CLIPS.frames(7).copy()
    frames[:, 1 + LEFT_HAND : 1 + RIGHT_HAND] = 0
    for make in (reconstruction, smoothness):
        seen, unseen = make([one(7)]), make([one(7, frames)])
        gone = {name for name in seen.result() if name not in unseen.result()}
        assert gone == {name for name in seen.result() if name.startswith("left_hand/")} != set()
        assert all(math.isfinite(value) for value in unseen.result().values())
    result = reconstruction([one(7, frames)]).result()
    parts = {part: weight for part, weight in WEIGHTS.items() if part != "left_hand"}
    for name in ("huber", "mae", "local", "pck_0.1"):
        mean = sum(weight * result[f"{part}/{name}"] for part, weight in parts.items()) / sum(parts.values())
        assert result[f"weighted/{name}"] == pytest.approx(mean, rel=1e-12)
    assert result["weighted/rmse"] == pytest.approx(math.sqrt(result["weighted/mse"]), rel=1e-12)
    assert "left_hand" not in reconstruction([one(7, frames)]).by_joint()


def four_joints(made, weight, unit=20.0, widths=None, scale=2.0):
    """made [N, L, 4, 2] against an original that is all 0."""
    metric = Reconstruction(FOUR, {"body": 1.0}, [scale], widths={0: 100.0} if widths is None else widths, chunk_len=2)
    n, size = made.shape[:2]
    place = torch.tensor([300.0, 200.0, unit]).expand(n, size, 3)
    clip = torch.zeros(n, dtype=torch.int64)
    metric.add({"body": torch.zeros_like(made)}, {"body": made}, {"body": weight}, place=place, clip=clip)
    return metric


def test_numbers_computed_by_hand():
    made, weight = torch.zeros(1, 2, 4, 2, dtype=torch.float64), torch.tensor([[[0.5, 1, 1, 0], [0, 1, 0, 0]]])
    made[0, 0, 0, 0] = 1.0  # the centre is 1 unit off
    made[0, 0, 1, 0], made[0, 0, 1, 1] = 1.36, 0.48  # 0.6 from the centre: 12 px, 0.12 shoulder widths
    made[0, 0, 2, 0], made[0, 0, 2, 1] = 1.0, 0.2  # 0.2 from the centre: 4 px, 0.04 shoulder widths
    made[0, 1, 1, 1] = 3.0  # its frame shows no centre, so it is in no local number
    made[0, :, 3] = 99.0  # never seen
    numbers = [1.0, 0, 1.36, 0.48, 1.0, 0.2, 0, 3.0]
    metric = four_joints(made, weight)
    assert metric.result() == four_joints(made, weight.ceil()).result()  # however sure the detector was
    huber = sum(0.5 * (2 * x) ** 2 if 2 * x <= 1 else 2 * x - 0.5 for x in numbers) / 8
    mse = sum(x * x for x in numbers) / 8
    expected = {
        "huber": huber,
        "mse": mse,
        "mae": sum(numbers) / 8,
        "rmse": math.sqrt(mse),
        "pixels": 16 / 3,
        "local": 0.16 / 3,
        "pck_0.05": 2 / 3,
        "pck_0.1": 2 / 3,
        "pck_0.2": 1.0,
    }
    result = metric.result()
    assert {name: result[f"body/{name}"] for name in expected} == pytest.approx(expected, rel=1e-12)
    assert {name: result[f"weighted/{name}"] for name in expected} == pytest.approx(expected, rel=1e-12)
    assert metric.by_joint()["body"].tolist() == pytest.approx([0, 0.12, 0.04, math.nan], nan_ok=True)
    assert metric.by_frame()["body"].tolist() == pytest.approx([0.16 / 3, math.nan], nan_ok=True)


def test_the_share_of_the_error_beside_a_boundary():
    made = torch.zeros(2, 4, 4, 2)
    made[:, :, 1:, 0] = torch.tensor([3.0, 1.0, 1.0, 5.0])[:, None]
    metric = Reconstruction(FOUR, {"body": 1.0}, [1.0], widths={0: 100.0}, chunk_len=4)
    clip = torch.zeros(2, dtype=torch.int64)
    zeros, ones = {"body": torch.zeros_like(made)}, {"body": torch.ones(2, 4, 4)}
    metric.add(zeros, {"body": made}, ones, place=torch.ones(2, 4, 3), clip=clip)
    assert metric.boundary_share() == {"body": pytest.approx(0.8)}
    assert four_joints(torch.zeros(1, 2, 4, 2), torch.ones(1, 2, 4)).boundary_share() == {}


def test_a_clip_without_shoulders_counts_in_pixels_alone():
    made = torch.ones(1, 2, 4, 2)
    made[:, :, 0] = 0
    result = four_joints(made, torch.ones(1, 2, 4), widths={}).result()
    assert result["body/pixels"] == pytest.approx(0.75 * 20 * math.sqrt(2))
    assert (
        "body/local" not in result
        and "weighted/pck_0.1" not in result
        and not four_joints(made, torch.ones(1, 2, 4), widths={}).by_frame()
    )


def test_a_part_whose_centre_lies_outside_it_is_measured_as_it_is():
    body = skeleton.build(4, {"body": (2, 4)}, {"body": 1}, unit_joints=[[2, 3]])
    metric = Reconstruction(body, {"body": 1.0}, [1.0], widths={0: 100.0}, chunk_len=1)
    metric.add(
        {"body": torch.zeros(1, 1, 3, 2)},
        {"body": torch.full((1, 1, 3, 2), 3.0)},
        {"body": torch.ones(1, 1, 3)},
        place=torch.full((1, 1, 3), 10.0),
        clip=torch.tensor([0]),
    )
    assert metric.result()["body/pixels"] == pytest.approx(30 * math.sqrt(2))


def test_shoulder_widths():
    clip = np.zeros((5, 134, 3), np.float32)
    clip[:, 0, 2], clip[:, [6, 7], 2] = 10, 1
    clip[:, 6, 0] = [3, 4, 50, 6, 0.5]
    clip[2, 7, 2] = 0
    narrow, blind, other = clip.copy(), clip.copy(), clip[:, [0, 6, 7]]
    narrow[:, 0, 2], blind[:, 6, 2] = 0.25, 0
    clips = Clips([clip, narrow, blind, other])
    assert shoulder_widths(clips, range(4)) == {0: 35.0}  # the median of 30, 40, 60 and 5
    assert shoulder_widths(clips, [3], pair=(0, 1)) == {3: 35.0}


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Clips that the front end leaves as they are, hand-made reconstructions, and what benchmarks/score.py says of
    them."""
    root, rng = tmp_path_factory.mktemp("scored"), np.random.default_rng(0)
    clips = {f"clip{i}": with_gaps(moving_clip(frames, i, unit=12 + i), i) for i, frames in enumerate([33, 8, 20])}
    write_csl(root / "data", clips, {"test": list(clips)})
    made = {name: poses[..., :2] + rng.normal(0, 12, (*poses.shape[:2], 2)) for name, poses in clips.items()}
    (root / "made").mkdir()
    for name, xy in made.items():
        np.save(root / "made" / f"{name}.npy", np.concatenate((xy, np.ones_like(xy[..., :1])), -1))
    report = score(root / "data" / "frames_512x512", root / "made")
    options = {"smooth": 0, "max_gap": 0}
    cache = cache_of(root / "data", **options)
    return (
        report,
        cache,
        data_config(root / "data", **options),
        clips,
        {name: torch.from_numpy(xy) for name, xy in made.items()},
    )


def equals_scorer(result, report):
    assert report["clips"] == 3
    for part in ("face", "left_hand", "right_hand", "body"):
        assert 0.02 < report[part]["local_pck@0.1"] < 0.98
        assert result[f"{part}/local"] == pytest.approx(report[part]["local"], abs=6e-6)
        assert result[f"{part}/pck_0.1"] == pytest.approx(report[part]["local_pck@0.1"], abs=6e-5)


def test_chunks_score_as_the_scorer_scores_the_clips(scored):
    report, cache, data, _, made = scored
    widths = shoulder_widths(cache, cache.split("test"))
    metric = Reconstruction(BODY, WEIGHTS, SCALE, widths=widths, chunk_len=data.chunk_len)
    for index in cache.split("test"):
        batch = one(index, cache.frames(index))
        place = batch.place.clone()
        place[place[..., 2] == 0] = 1  # past the clip's end
        xy = torch.zeros(*place.shape[:2], 133, 2)
        xy[torch.arange(CHUNK) < batch.frames[:, None]] = made[cache.clips[index].name].float()
        xy = (xy - place[..., None, :2]) / place[..., None, 2:]
        body = batch.target["full_body"], batch.weight["full_body"]
        views = {part.name: xy[..., part.joints, :] - part_centre(*body, part)[..., None, :] for part in BODY.parts}
        metric.add(batch.target, views, batch.weight, place=batch.place, clip=batch.clip)
    equals_scorer(metric.result(), report)


def test_whole_clips_in_pixels_score_as_the_scorer_scores_them(scored):
    report, cache, data, clips, made = scored
    widths = shoulder_widths(cache, cache.split("test"))
    metric = Reconstruction(BODY, WEIGHTS, SCALE, widths=widths, chunk_len=data.chunk_len)
    for index in cache.split("test"):
        name, place = cache.clips[index].name, torch.from_numpy(cache.frames(index)[:, 0].copy())
        metric.add_clip(clean(torch.from_numpy(clips[name]), data.min_score).double(), made[name], place, clip=index)
    equals_scorer(metric.result(), report)


def test_a_whole_clip_counts_by_the_frames_place_in_its_chunk():
    original = torch.ones(25, 133, 3)
    made = torch.ones(25, 133, 2)
    made[7::10, 1:] += 3.0
    metric = reconstruction(widths={0: 100.0})
    metric.add_clip(original, made, torch.ones(25, 3), clip=0)
    assert metric.by_frame()["body"].nonzero().tolist() == [[7]]
