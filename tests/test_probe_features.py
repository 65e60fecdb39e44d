"""What the probe of a report reads of chunks: it is of what the clip shows, and of the codes that are sent."""

import pytest
import torch

from data_sets import signer_root
from helpers import assert_same, begin_loop, tiny_options
from signstream.data.cache import open_cache
from signstream.inference.report.measure import described
from signstream.inference.tokenizer import Tokenizer
from signstream.tasks.rvq.head_start import initialise_codebooks

BODY, LEFT_HAND, WIDTH = 3, 1, 16  # a part's place, and how wide its latent is
FACE_JOINT = 40


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    """A tiny network whose codebooks were just made."""
    root = signer_root(tmp_path_factory.mktemp("signer"), 8, {"train": (0, 8)}, frames=43)
    loop = begin_loop(tiny_options(root, "export.codes_per_chunk=full"))
    initialise_codebooks(loop.task.setup, loop.config.data, micro=4, clips_a_step=4)
    return loop


@pytest.fixture(scope="module")
def tokenizer(loop):
    return Tokenizer({**loop.state_dict(), "generators": []})


@pytest.fixture
def frames(loop):
    """A clip [T, 1 + J, 3] without a left hand, and with a joint of the face that comes and goes."""
    frames = open_cache(loop.config.data, quiet=True).frames(0).copy()
    frames[:, 1 + 91 : 1 + 112, 2] = 0
    frames[3:9, 1 + FACE_JOINT, 2] = 0
    return frames


def read(tokenizer, frames):
    (tokens,) = tokenizer.encode_prepared([frames], ["clip"])
    reading = tokenizer.read([frames], [0])
    return described(tokenizer, reading, reading.batch.frames > 0, codes=tokens.codes)


def of_part(rows, part):
    return rows[:, part * WIDTH : (part + 1) * WIDTH]


def test_junk_in_missing_joints_changes_nothing(tokenizer, frames, one_thread):
    told, junk = read(tokenizer, frames), frames.copy()
    junk[:, 1:][frames[:, 1:, 2] == 0] = (1e4, -1e4, 0)
    assert (junk != frames).any() and all(rows.any() for rows in told.values())
    assert_same(read(tokenizer, junk), told)
    assert not of_part(told["tokens"], LEFT_HAND).any() and not of_part(told["latents"], LEFT_HAND).any()


def test_keypoints_are_what_the_encoder_sees_and_parts_count_alike(tokenizer, frames, one_thread):
    told = read(tokenizer, frames)
    reading = tokenizer.read([frames], [0])
    sizes = [2 * 10 * len(part) for part in tokenizer.skeleton.parts]
    assert told["keypoints"].shape == (5, sum(sizes)) and told["tokens"].shape == told["latents"].shape == (
        5,
        5 * WIDTH,
    )
    for view, target in zip(told["keypoints"].split(sizes, 1), reading.targets):
        assert torch.equal(view * target.xy.shape[2] ** 0.5 == 0, target.xy.flatten(1) == 0)
        joints = target.xy.square().sum((1, 3)).mean(1)  # [N] of a joint
        torch.testing.assert_close(view.square().sum(1), joints)


def test_tokens_are_the_vectors_of_the_codes_that_are_sent(tokenizer, frames, one_thread):
    reading = tokenizer.read([frames], [0])
    codes = reading.codes.clone()
    codes[2, BODY, 1:] = -1  # the budget sent one
    codes[4, BODY] = codes[3, BODY]  # the part held
    told = described(tokenizer, reading, reading.batch.frames > 0, codes=codes)
    books = tokenizer.code_vectors.table  # [P, Q, K, Z]
    torch.testing.assert_close(of_part(told["tokens"], BODY)[2], books[BODY, 0, codes[2, BODY, 0]])
    assert torch.equal(of_part(told["tokens"], BODY)[4], of_part(told["tokens"], BODY)[3])
    assert not torch.equal(of_part(told["latents"], BODY)[4], of_part(told["latents"], BODY)[3])
