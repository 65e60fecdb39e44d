import pytest
import torch

from data_sets import signer_root
from helpers import begin_loop, run_steps, tiny_options
from signstream.models.rvq.fsq import FiniteScalarQuantizer, digits_of
from test_quantizer import latents, ones


def quantizer(levels=(3, 3), size=64):
    torch.manual_seed(0)
    out, x = FiniteScalarQuantizer(levels, size, 8), latents(400)
    out.initialise(x, ones(x))
    return out


@pytest.mark.parametrize("size", [2, 4, 8, 16, 512, 1024, 2048, 4096])
def test_digits_multiply_to_the_number_of_codes(size):
    assert torch.tensor(digits_of(size)).prod() == size
    assert max(digits_of(size)) <= 8


def test_another_number_of_codes_is_an_error_that_says_which_will_do():
    with pytest.raises(ValueError, match=r"codebook_size is 1000.* 512"):
        digits_of(1000)


def test_forward_encode_and_decode_agree_and_every_prefix_decodes():
    q, x = quantizer(), latents(60)
    out, codes = q(x), q.encode(x)
    assert torch.equal(out.codes, codes) and codes.min() >= 0 and codes.max() < 64
    torch.testing.assert_close(q.decode_codes(codes), out.quantized)
    errors = [(q.decode_codes(codes[..., :n]) - x).square().mean().item() for n in range(4)]
    assert errors == sorted(errors, reverse=True) and errors[3] < 0.2 * errors[0]
    cut = codes.clone()
    cut[..., 2] = -1
    assert torch.equal(q.decode_codes(cut), q.decode_codes(codes[..., :2]))


def test_levels_that_a_part_does_not_have_or_that_are_not_sent():
    q, x = quantizer(levels=(1, 3)), latents(20)
    assert (q.encode(x)[:, 0, 1:] == -1).all()
    sent = torch.randint(1, 4, (20, 2), generator=torch.Generator().manual_seed(0))
    out = quantizer()(x, sent=sent)
    assert torch.equal((out.codes >= 0).sum(-1), sent)


def test_codes_are_used_evenly_from_the_start_and_gradients_reach_everything():
    q, x = quantizer(), latents(400).requires_grad_()
    out = q(x)
    assert out.codes[:, 0, 0].unique().numel() > 32
    (out.quantized.square().sum() + out.commit.sum()).backward()
    assert all(v.grad.abs().sum() > 0 for v in (x, q.into, q.out))


def test_no_chunk_and_nothing_valid_are_no_error():
    q = quantizer()
    assert q(torch.zeros(2, 0, 8)).codes.shape == (0, 2, 3)
    q.initialise(latents(5), torch.zeros(2, 5, dtype=torch.bool))
    assert torch.isfinite(q.out).all()


def test_it_trains_and_resumes_in_the_loop(tmp_path):
    options = tiny_options(signer_root(tmp_path, frames=60), "model.rvq.kind=fsq", "train.epochs=200", "train.lr=0.001")
    straight = begin_loop(options)
    run_steps(straight, 4)
    windows = [straight.take_window()["rec"] for _ in range(3) if run_steps(straight, 40)]
    assert windows[2] < 0.95 * windows[0]
    state = straight.state_dict()
    other = begin_loop(options)
    other.load_state_dict(state)
    assert all(torch.equal(v, other.task.model.state_dict()[k]) for k, v in state["model"].items())
