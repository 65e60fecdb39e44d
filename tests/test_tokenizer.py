import functools
from pathlib import Path

import numpy as np
import pytest
import torch

import signstream
from clips import moving_clip
from data_sets import signer_root
from helpers import ARCHS, begin_loop, run_steps, tiny_options
from signstream.config import load_config
from signstream.data.datasets import open_data
from signstream.data.frontend import prepare
from signstream.inference.holding import distance
from signstream.inference.tokenizer import Tokenizer
from signstream.tokens.format import TokenSequence
from signstream.training import checkpoint
from signstream.training.run_folder import RunFolder

REAL = Path(__file__).parents[1].parent / "shared" / "data" / "realsign"


def trained(root, *options):
    loop = begin_loop(
        tiny_options(root, "train.epochs=40", "data.augment.random_phase=false", "train.clips_per_step=5", *options)
    )
    run_steps(loop, 30)
    loop.validate(health=False)
    return loop


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return signer_root(tmp_path_factory.mktemp("signer"), 24, {"train": (0, 14), "val": (14, 20)}, frames=70)


@pytest.fixture(scope="module")
def loop_of(root):
    """{architecture: what is trained of it}, each once whoever asks first."""
    return functools.cache(lambda arch: trained(root, *ARCHS[arch]))


@pytest.fixture(scope="module", params=ARCHS)
def loop(loop_of, request):
    return loop_of(request.param)


@pytest.fixture(scope="module")
def tokenizer(loop):
    return Tokenizer(loop.state_dict())


def clips(loop):
    source = open_data(loop.config.data)
    return [source.load("val", name) for name in source.splits()["val"]]


def with_options(tokenizer, rate, hold):
    tokenizer.codes_per_chunk, tokenizer.hold = rate, hold
    return tokenizer


def streamed(tokenizer, clip, pieces):
    stream, chunks, at = tokenizer.stream(clip.fps), [], 0
    for size in pieces:
        chunks += stream.push(clip.poses[at : at + size])
        at += size
    chunks += stream.push(clip.poses[at:]) + stream.finish()
    assert [chunk.t for chunk in chunks] == list(range(len(chunks)))
    return torch.stack([chunk.codes for chunk in chunks]), chunks


def cases():
    """All of mlp, and one of the transformer; the rest takes long."""
    for arch in ARCHS:
        for rate, hold in (("full", 0.0), (6, 0.02), (8, 0.1), (5, 0.0)):
            dear = arch == "stgcn" or (arch == "transformer" and rate != 6)
            yield pytest.param(arch, rate, hold, marks=pytest.mark.slow if dear else ())


@pytest.mark.parametrize(("loop", "rate", "hold"), [*cases()], indirect=["loop"])
def test_a_stream_gives_the_codes_of_the_file(loop, tokenizer, rate, hold):
    with_options(tokenizer, rate, hold)
    held = 0
    for i, clip in enumerate(clips(loop)):
        whole = tokenizer.encode(clip.poses, clip.fps, clip.name).codes
        rng = np.random.default_rng(i)
        for pieces in ([1] * len(clip.poses), rng.integers(0, 25, 8).tolist(), []):
            codes, chunks = streamed(tokenizer, clip, pieces)
            assert torch.equal(codes, whole)
            held += sum(sum(chunk.held) for chunk in chunks)
            same = (whole[1:] == whole[:-1]).all(-1) & (whole[1:, :, 0] >= 0)
            assert torch.equal(torch.tensor([chunk.held for chunk in chunks])[1:], same)
    assert held > 0 or hold < 0.1


@pytest.mark.skipif(not REAL.is_dir(), reason="the real clips are not here")
@pytest.mark.parametrize(
    ("loop", "every"),
    [("mlp", 3), *(pytest.param(arch, 1, marks=pytest.mark.slow) for arch in ARCHS)],
    indirect=["loop"],
)
def test_a_stream_of_real_clips_gives_the_codes_of_the_file(loop, tokenizer, every):
    with_options(tokenizer, 6, 0.01)
    source, stay = open_data(load_config(None, [f"data.root={REAL}"]).data), 0
    for i, name in enumerate(source.splits()["test"][::every]):
        clip = source.load("test", name)
        codes, chunks = streamed(tokenizer, clip, np.random.default_rng(i).integers(0, 25, 8).tolist())
        assert torch.equal(codes, tokenizer.encode(clip.poses, clip.fps).codes), name
        stay += sum(sum(chunk.held) for chunk in chunks)
    assert stay > 0


def test_a_clip_has_the_same_codes_in_any_company(loop, tokenizer):
    with_options(tokenizer, 6, 0.02)
    cache = loop.task.setup.cache
    val = cache.split("val")
    frames, names = [cache.frames(i) for i in val], [cache.clips[i].name for i in val]
    alone = [tokenizer.encode_prepared([f], [n])[0] for f, n in zip(frames, names)]
    for group in (range(6), [3, 0], [5, 5, 1]):
        together = tokenizer.encode_prepared([frames[i] for i in group], [names[i] for i in group])
        assert all(
            torch.equal(tokens.codes, alone[i].codes) and tokens.name == names[i] for i, tokens in zip(group, together)
        )


def test_encoding_and_decoding_change_nothing(loop, tokenizer):
    before = {k: v.clone() for k, v in tokenizer.model.state_dict().items()}
    for clip in clips(loop)[:2]:
        tokenizer.decode(tokenizer.encode(clip.poses, clip.fps))
    assert all(torch.equal(v, before[k]) for k, v in tokenizer.model.state_dict().items())
    assert not tokenizer.model.training


def test_the_budget_is_met_and_every_visible_part_speaks(loop, tokenizer):
    counts = {}
    for rate in (5, 6, 9, "full"):
        with_options(tokenizer, rate, 0)
        codes = torch.cat([tokenizer.encode(clip.poses, clip.fps).codes for clip in clips(loop)])
        counts[rate] = (codes >= 0).sum((1, 2)).float().mean().item()
    assert (codes >= 0).sum() == 3 * (codes[..., 0] >= 0).sum()  # of "full", the last
    for rate in (5, 6, 9):
        assert rate - 0.75 < counts[rate] <= rate + 0.01  # it was measured on these very chunks


def test_a_part_that_is_not_visible_says_nothing_and_is_not_drawn(tokenizer):
    with_options(tokenizer, 6, 0.02)
    poses = moving_clip(40, 1)
    poses[:, tokenizer.skeleton.part("left_hand").joints] = 0
    tokens = tokenizer.encode(poses, 30)
    hand = tokens.parts.index("LH")
    assert (tokens.codes[:, hand] == -1).all()
    only = tokens.codes.clone()
    only[:, tokens.parts.index("FB")] = -1  # the full body tells the hand's joints too
    assert (tokenizer.decode_codes(only)[:, tokenizer.skeleton.part("left_hand").joints, 2] == 0).all()
    assert (tokenizer.decode_codes(tokens.codes)[..., 2] == 1).all()


def targets_of(tokenizer, poses):
    ready = prepare(torch.from_numpy(poses), tokenizer.skeleton, tokenizer.config.data, fps=30)
    batch = tokenizer.chunks_of([ready.rows().numpy()], [0])
    return tokenizer.views.of(batch)[1]


def test_a_still_clip_is_held_and_no_movement_is_lost(tokenizer):
    """However slow: what is held is off by the threshold at most, beside what the chunk's own codes are off by."""
    with_options(tokenizer, 6, 0.01)
    still = np.repeat(moving_clip(1, 3), 150, 0)
    codes = tokenizer.encode(still, 30).codes
    if tokenizer.config.data.window == 1:
        assert (codes[1:] == codes[:1]).all()
    assert (codes[1:] == codes[:-1]).all(-1).float().mean() > 0.9  # in a window a chunk's place counts
    with_options(tokenizer, "full", 0.01)
    moving, hand = still.copy(), tokenizer.skeleton.part("right_hand").joints
    moving[:, hand, 0] += (
        np.linspace(0, 1, 150)[:, None] * np.linspace(0, 60, 21)[None]
    )  # the hand opens by 60 px in 5 s
    held = tokenizer.encode(moving, 30).codes
    tokenizer.hold = 0
    free = tokenizer.encode(moving, 30).codes
    assert not torch.equal(held, free)
    ours, own = (
        torch.stack([distance(v, t) for v, t in zip(tokenizer.model.detokenise(c), targets_of(tokenizer, moving))])
        for c in (held, free)
    )
    assert (ours <= own + 0.01 * tokenizer.config.data.normalize.bbox_range + 1e-6).all()
    hand = tokenizer.parts.index("RH")
    assert not torch.equal(held[0, hand], held[-1, hand])


def test_a_part_that_rests_is_held_in_spite_of_the_detector(tokenizer):
    """The left hand rests while all else moves; joints jitter by half a pixel. Where it rests, more than 30 % of its
    chunks are held."""
    with_options(tokenizer, 6, 0.01)
    poses, hand = moving_clip(300, 5), tokenizer.skeleton.part("left_hand").joints
    poses[:, hand, :2] = poses[:1, hand, :2] - poses[:1, 91:92, :2] + poses[:, 91:92, :2]
    poses[..., :2] += np.random.default_rng(0).normal(0, 0.5, poses[..., :2].shape)
    codes = tokenizer.encode(poses.astype(np.float32), 30).codes[:, tokenizer.parts.index("LH")]
    held = (codes[1:] == codes[:-1]).all(-1).float().mean()
    assert held > 0.3, held


def test_poses_come_back_in_unit_lengths_or_pixels(loop, tokenizer):
    with_options(tokenizer, "full", 0)
    clip = clips(loop)[0]
    tokens = tokenizer.encode(clip.poses, clip.fps, clip.name)
    poses = tokenizer.decode(tokens)
    assert poses.shape == (tokens.num_frames, 133, 3) and tokens.num_frames == len(clip.poses)
    pixels = tokenizer.decode(tokens, (100.0, 50.0, 20.0))
    torch.testing.assert_close(pixels[..., :2], poses[..., :2] * 20 + torch.tensor([100.0, 50.0]))
    place = torch.rand(len(poses), 3) + 1
    torch.testing.assert_close(
        tokenizer.decode(tokens, place)[..., 0], poses[..., 0] * place[:, None, 2] + place[:, None, 0]
    )


def test_tokens_of_another_tokenizer_are_refused(loop, tokenizer):
    tokens = tokenizer.encode(clips(loop)[0].poses, 30)
    other = TokenSequence(**{**vars(tokens), "tokenizer": "0" * 16})
    with pytest.raises(ValueError, match=r"0000.*load the checkpoint that made them"):
        tokenizer.decode(other)


def test_it_loads_from_a_checkpoint_a_run_or_an_experiment(loop, tokenizer, tmp_path):
    run = RunFolder.create(tmp_path, "some")
    checkpoint.save({**loop.state_dict(), "generators": []}, run.last)
    for path in (run.last, run.path, tmp_path / "some", str(run.path)):
        again = signstream.load(path, device="cpu")
        assert again.digest == tokenizer.digest
        assert again.vocabulary == tokenizer.vocabulary and len(again.vocabulary) > 15 * 32
    with pytest.raises(ValueError, match=r"there is no checkpoint .*nothing"):
        signstream.load(tmp_path / "nothing")


def test_a_run_that_has_no_codes_yet_is_refused(root):
    with pytest.raises(ValueError, match=r"step 0, before the codebooks begin"):
        Tokenizer(begin_loop(tiny_options(root)).state_dict())


def test_wrong_poses_are_refused(tokenizer):
    with pytest.raises(ValueError, match=r"poses are \[10, 17, 3\]: \[T, 133, 3\]"):
        tokenizer.encode(np.zeros((10, 17, 3)))
    assert tokenizer.encode(np.zeros((0, 133, 3))).codes.shape == (0, 5, 3)
    assert tokenizer.stream().finish() == []
