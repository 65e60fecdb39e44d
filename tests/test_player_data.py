import base64
import json

import numpy as np
import pytest
import torch

from clips import moving_clip
from data_sets import cache_of, signer_root, write_csl
from helpers import begin_loop, run_steps, tiny_options
from signstream.inference.report.player_data import make_player, packed, shares
from signstream.inference.tokenizer import Tokenizer
from signstream.space import to_pixels


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    root = signer_root(tmp_path_factory.mktemp("signer"), 24, {"train": (0, 14), "val": (14, 22)}, frames=60)
    loop = begin_loop(tiny_options(root, "train.epochs=40"))
    run_steps(loop, 20)
    loop.validate(health=False)
    return loop


def units(text, joints):
    return np.frombuffer(base64.b64decode(text), "<i2").reshape(-1, joints, 2)


def test_the_player_shows_what_the_codes_decode_to(loop):
    tokenizer, cache, clips = Tokenizer(loop.state_dict()), loop.task.setup.cache, loop.task.setup.cache.split("val")
    player = make_player(tokenizer, cache, clips, count=3)
    json.dumps(player, allow_nan=False)
    assert [clip["name"] for clip in player["clips"]] == [cache.clips[clips[i]].name for i in (0, 2, 5)] and player[
        "joints"
    ] == 133
    clip, index = player["clips"][1], clips[2]
    tokens = tokenizer.encode_prepared([cache.frames(index)], ["a"])[0]
    assert (
        clip["frames"] == tokens.num_frames
        and [clip["codes"][tag] for tag in tokenizer.parts] == tokens.codes.transpose(0, 1).tolist()
    )
    prepared = torch.from_numpy(cache.frames(index).copy())
    place, seen = prepared[:, 0], prepared[:, 1:, 2] > 0
    left, top, right, bottom = clip["box"]
    for key, poses in (("original", prepared[:, 1:, :2]), ("again", tokenizer.decode(tokens)[..., :2])):
        shown = units(clip[key], 133)
        assert ((shown == -32768).all(-1) == ~seen.numpy()).all()
        inside = seen & torch.from_numpy((np.abs(shown) < 32767).all(-1))
        assert inside.sum() > 0.98 * seen.sum()
        pixels = torch.from_numpy(shown / 32000 * max(right - left, bottom - top) + (left, top)).float()
        torch.testing.assert_close(pixels[inside], to_pixels(poses, place)[inside], rtol=0, atol=0.05)


def test_its_codes_their_latents_and_its_dictionary_go_together(loop):
    tokenizer, cache, clips = Tokenizer(loop.state_dict()), loop.task.setup.cache, loop.task.setup.cache.split("val")
    player = make_player(tokenizer, cache, clips, count=3)
    for part in tokenizer.skeleton.parts:
        rows = [row for clip in player["clips"] for row in clip["codes"][part.tag]]
        assert {str(row[0]) for row in rows if row[0] >= 0} == set(player["dictionary"][part.tag])
        views = [units(view, len(part)) for view in player["dictionary"][part.tag].values()]
        assert all(len(view) == 10 and view.min() == 0 and view.max() == 32000 for view in views)
        spread = torch.tensor([row for clip in player["clips"] for row in clip["latents"][part.tag]]).std(0)
        assert spread[0] > spread[1] > 0
        for clip in player["clips"]:
            codes, held = clip["codes"][part.tag], clip["held"][part.tag]
            assert len(codes) == len(held) == len(clip["latents"][part.tag]) == -(-clip["frames"] // 10)
            assert held == [t > 0 and codes[t] == codes[t - 1] and codes[t][0] >= 0 for t in range(len(codes))]
    assert (
        make_player(tokenizer, cache, [], count=3) is None
        and len(make_player(tokenizer, cache, clips[:2], count=5)["clips"]) == 2
    )


def test_clips_without_hands(loop, tmp_path):
    clips = {"no hands": moving_clip(25, 1), "frame": moving_clip(1, 2)}
    for poses in clips.values():
        poses[:, 91:] = 0
    cache = cache_of(write_csl(tmp_path / "data", clips, {"val": list(clips)}))
    player = make_player(Tokenizer(loop.state_dict()), cache, cache.split("val"), count=10)
    json.dumps(player, allow_nan=False)
    assert player["dictionary"]["LH"] == player["dictionary"]["RH"] == {} and len(player["dictionary"]["F"]) > 1
    assert [clip["frames"] for clip in player["clips"]] == [25, 1] and player["clips"][0]["codes"]["LH"] == [
        [-1, -1, -1]
    ] * 3
    assert not any(player["clips"][0]["held"]["LH"])


def test_positions_in_a_box():
    poses = np.array([[[10.0, 20.0, 1.0], [30.0, 30.0, 1.0], [5.0, 5.0, 0.0], [1e6, 25.0, 0.5]]])
    assert units(packed(poses, (10, 20, 30, 30)), 4).tolist() == [
        [[0, 0], [32000, 16000], [-32768, -32768], [32767, 8000]]
    ]


def test_long_clips_are_cut_so_that_the_page_stays_small():
    assert shares([100, 120, 90], 1500) == [100, 120, 90]
    assert shares([1000, 100, 700], 900) == [400, 100, 400]
