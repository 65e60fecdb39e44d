import pytest
import torch

from signstream.models.rvq.codebook import BEAM, CACHED_ROWS
from signstream.models.rvq.quantizer import ResidualQuantizer, Statistics
from signstream.tokens.codes import prefixes_of
from signstream.training.seed import seed_everything


def quantizer(levels=(3, 3), size=16, dim=8, seed=0, fit=True, **options):
    torch.manual_seed(seed)
    out = ResidualQuantizer(levels, size, dim, seed=seed, **{"decay": 0.99, **options})
    if fit:
        x = latents(400, len(levels), dim, seed + 1)
        out.initialise(x, torch.ones(x.shape[:2], dtype=torch.bool))
    return out


def latents(count, parts=2, dim=8, seed=0):
    """[P, N, Z] a few overlapping clusters a part."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(parts, 12, dim, generator=g) * 2
    pick = torch.randint(12, (parts, count), generator=g)
    return centres.gather(1, pick[..., None].expand(-1, -1, dim)) + 0.5 * torch.randn(parts, count, dim, generator=g)


def ones(x):
    return torch.ones(x.shape[:2], dtype=torch.bool)


def test_forward_changes_nothing_in_training_or_not():
    q, x = quantizer(), latents(50)
    before = {k: v.clone() for k, v in q.state_dict().items()}
    for training in (True, False):
        q.train(training)(x)
        q.encode(x)
    assert all(torch.equal(v, before[k]) for k, v in q.state_dict().items())
    assert not list(q.parameters()), "everything is in buffers"


def test_blocks_of_chunks_say_what_all_of_them_say_at_once():
    q, x = quantizer(levels=(3, 2)), latents(2 * CACHED_ROWS + 100)
    sent = torch.randint(4, (x.shape[1], 2), generator=torch.Generator().manual_seed(0))
    whole, blocks = q.train()(x, sent=sent), q.eval()(x, sent=sent)
    for name in ("quantized", "codes", "commit", "usage"):
        assert torch.equal(getattr(whole, name), getattr(blocks, name)), name


def test_any_seed_of_a_config_can_be_drawn_from():
    seed_everything(10**18, 0)
    q = quantizer()
    q.seed = 10**18
    assert 0 <= q.next_draw() < 1 << 63
    q.update(q.train()(latents(50)).statistics)


def test_code_vectors_quantise_to_themselves():
    q = quantizer()
    codes = q.encode(q.codebook[:, 0])
    assert torch.equal(codes[..., 0], torch.arange(16)[:, None].expand(-1, 2))


def test_the_best_prefixes_are_the_best_there_are_where_all_ways_stay_open():
    q, x = quantizer(levels=(2, 2), size=BEAM), latents(30)
    one, two = q.prefixes(x).unbind(2)
    assert torch.equal(one[..., 0], q.encode(x)[..., 0]) and bool((one[..., 1] == -1).all())
    sums = q.codebook[:, 0, :, None] + q.codebook[:, 1, None]  # [P, K, K, Z] of every pair of codes
    best = torch.cdist(x, sums.flatten(1, 2)).argmin(-1)  # [P, N]
    assert torch.equal(two, torch.stack((best // BEAM, best % BEAM), -1).transpose(0, 1))


def test_the_best_prefixes_come_nearer_than_the_nearest_code_of_each_level():
    q, x = quantizer(levels=(3, 2), size=64), latents(300)
    nearest, searched = (
        torch.stack([(x - q.decode_codes(codes)).square().sum(-1).mean(1) for codes in prefixes.unbind(2)])
        for prefixes in (prefixes_of(q.encode(x)), q.prefixes(x))
    )  # [Q, P]
    assert torch.equal(searched[0], nearest[0]) and bool((searched[1:] < nearest[1:]).all()), searched / nearest
    assert torch.equal(q.prefixes(x)[:, 1, 2], q.prefixes(x)[:, 1, 1]), "the second part has two levels"
    assert q.prefixes(x[:, :0]).shape == (0, 2, 3, 3)
    alone = torch.cat([q.prefixes(x[:, i : i + 1]) for i in range(40)])
    assert torch.equal(alone, q.prefixes(x)[:40]), "a chunk's codes are the same in any company"


def test_codes_are_the_nearest_of_what_is_left():
    q, x = quantizer(), latents(40)
    codes, residual = q.encode(x), x.clone()
    for level in range(3):
        distance = torch.cdist(residual, q.codebook[:, level])
        assert torch.equal(codes[..., level].T, distance.argmin(-1))
        residual = residual - torch.stack([q.codebook[p, level][codes[:, p, level]] for p in range(2)])


def test_forward_encode_and_decode_agree_and_every_prefix_decodes():
    q, x = quantizer().eval(), latents(60)
    out = q(x)
    codes = q.encode(x)
    assert torch.equal(out.codes, codes)
    torch.testing.assert_close(q.decode_codes(codes), out.quantized)
    errors = [(q.decode_codes(codes[..., :n]) - x).square().mean().item() for n in range(4)]
    assert errors == sorted(errors, reverse=True)
    cut = codes.clone()
    cut[..., 2] = -1
    assert torch.equal(q.decode_codes(cut), q.decode_codes(codes[..., :2]))


def test_parts_may_have_levels_of_their_own():
    q, x = quantizer(levels=(1, 3)), latents(30)
    codes = q.encode(x)
    assert (codes[:, 0, 1:] == -1).all()
    assert (codes[:, 0, 0] >= 0).all()
    assert (codes[:, 1] >= 0).all()
    out = q.train()(x)
    assert torch.equal(out.codes, codes)
    assert out.statistics.counts[0, 1:].sum() == 0


def test_level_dropout_sends_fewer_levels_and_says_so():
    q, x = quantizer(), latents(20)
    sent = torch.randint(1, 4, (20, 2), generator=torch.Generator().manual_seed(0))
    out = q(x, sent=sent)
    assert torch.equal((out.codes >= 0).sum(-1), sent)
    torch.testing.assert_close(out.quantized, q.decode_codes(out.codes))
    torch.testing.assert_close(out.commit, q(x).commit)  # levels that are not sent are still trained


def test_gradients_of_the_latents_are_one_through_the_quantiser():
    q, x = quantizer(), latents(10).requires_grad_()
    q(x).quantized.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_commitment_pulls_the_latents_to_their_codes():
    q, x = quantizer(), latents(30).requires_grad_()
    out = q(x)
    out.commit.sum().backward()
    with torch.no_grad():
        moved = x - 0.5 * x.grad
        assert q(moved).commit.sum() < out.commit.sum()


def test_the_usage_loss_has_a_gradient_that_evens_out_the_codes():
    q, raw = quantizer(size=8, decay=0.8, revive_below=0.0), (latents(200) * 0.2).requires_grad_()
    optimizer, every = torch.optim.Adam([raw], lr=0.05), torch.arange(200)

    def perplexity():
        use = q.train()(raw).statistics.counts[0, 0]
        return torch.exp(-(torch.xlogy(use / use.sum(), use / use.sum())).sum()).item()

    before = perplexity()
    for _ in range(80):
        optimizer.zero_grad()
        out = q.train()(raw, watched=every)
        out.usage.mean().backward()
        assert raw.grad.abs().sum() > 0
        optimizer.step()
        q.update(out.statistics)
    assert perplexity() > before + 1


def test_the_usage_loss_has_the_gradient_of_the_divergence_from_even_use():
    q, x = quantizer(levels=(1,), size=8, revive_below=0.0), latents(60, 1)
    every = torch.arange(60)

    def soft(v):
        distance = torch.cdist(v[0], q.codebook[0, 0]).square()
        shortest = distance.detach().min(-1).values.clamp(min=1e-3 * q.codebook[0, 0].square().sum(-1).mean())
        return torch.softmax(-distance / shortest[:, None], -1)

    q.ema_count[0, 0] = soft(x).sum(0)
    assert (q.ema_count[0, 0] > 0.02 * q.ema_count[0, 0].mean()).all()
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    q(a, watched=every).usage.mean().backward()
    use = soft(b).mean(0)
    (use * (8 * use).log()).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-3)


def test_only_watched_chunks_feel_the_usage_loss():
    q, x = quantizer(), latents(40).requires_grad_()
    watched = torch.arange(40) % 8 == 0
    out = q.train()(x, watched=watched.nonzero()[:, 0])
    assert (out.usage[:, ~watched] == 0).all() and (out.usage[:, watched] != 0).all()
    out.usage.sum().backward()
    assert (x.grad[:, ~watched] == 0).all()
    assert q(x).usage.abs().sum() == 0


def test_invalid_chunks_teach_nothing_and_poison_nothing():
    q, x = quantizer(), latents(40)
    valid = torch.rand(2, 40, generator=torch.Generator().manual_seed(0)) < 0.5
    spoilt = torch.where(valid[..., None], x, torch.full_like(x, 1e4))
    a, b = (q.train()(v, valid) for v in (x, spoilt))
    torch.testing.assert_close(a.statistics.counts, b.statistics.counts)
    torch.testing.assert_close(a.statistics.sums, b.statistics.sums)
    nothing = q(x, torch.zeros_like(valid))
    q.update(nothing.statistics)
    assert torch.isfinite(q.codebook).all()


def test_no_chunk_at_all_is_no_error():
    q = quantizer()
    out = q.train()(torch.zeros(2, 0, 8), watched=torch.zeros(0, dtype=torch.int64))
    assert out.codes.shape == (0, 2, 3)
    assert q.encode(torch.zeros(2, 0, 8)).shape == (0, 2, 3)
    q.update(out.statistics)
    assert torch.isfinite(q.codebook).all()


def test_a_centroid_becomes_the_mean_of_what_is_assigned_to_it():
    q, x = quantizer(levels=(1,), size=4, decay=0.9, revive_below=0.0), latents(200, 1)
    for _ in range(300):
        q.update(q.train()(x).statistics)
    codes = q.encode(x)[:, 0, 0]
    for code in codes.unique().tolist():
        torch.testing.assert_close(q.codebook[0, 0, code], x[0][codes == code].mean(0), atol=1e-4, rtol=1e-4)


def test_the_first_updates_are_not_biased_towards_zero():
    q = quantizer(levels=(1,), size=4, fit=False, revive_below=0.0)
    x = latents(200, 1)
    out = q.train()(x)
    q.update(out.statistics)
    code = int(out.statistics.counts[0, 0].argmax())
    torch.testing.assert_close(q.codebook[0, 0, code], x[0][out.codes[:, 0, 0] == code].mean(0), atol=1e-5, rtol=1e-5)


def dead_at(q, part, level, code):
    q.ema_count[part, level, code] = 0
    q.codebook[part, level, code] = 1e3


def test_a_revived_code_is_where_it_was_put_at_the_end_of_the_step_and_lives():
    q, x = quantizer(), latents(200)
    dead_at(q, 1, 2, 5)
    out = q.train()(x)
    revived = q.update(out.statistics)
    assert revived >= 1
    vector = q.codebook[1, 2, 5]
    donors = out.statistics.donors[1, 2]
    assert (donors - vector).square().sum(-1).min() < 1e-10, "a residual of its own part and level"
    before = vector.clone()
    q.update(q(x).statistics)
    assert (q.codebook[1, 2, 5] - before).norm() < 2.0, "it moved a little towards its own, not back"
    assert q.ema_count[1, 2, 5] > 0.5 * q.ema_count[1, 2].mean()


def test_donors_of_a_level_are_residuals_of_that_level():
    q, x = quantizer(), latents(100)
    donors = q.train()(x).statistics.donors
    codes, residual = q.encode(x), x
    for level in range(3):
        for part in range(2):
            assert torch.cdist(donors[part, level], residual[part]).min(1).values.max() < 0.01  # cdist rounds
        residual = residual - torch.stack([q.codebook[p, level][codes[:, p, level]] for p in range(2)])


def test_revival_repeats_itself_and_ranks_agree_on_it():
    a, b = quantizer(), quantizer()
    x, y = latents(60, seed=3), latents(40, seed=4)
    for q in (a, b):
        for code in range(6):
            dead_at(q, 0, 1, code)
    parts = [[q.train()(v).statistics for v in (x, y)] for q in (a, b)]
    # what one all-reduce of both ranks' buffers would give each of them
    flats = []
    for rank, statistics in enumerate(parts[0]):
        statistics.over_ranks(lambda flat: flats.append(flat.clone()), rank, 2)
    total = flats[0] + flats[1]
    shared = parts[0][0].over_ranks(lambda flat: flat.copy_(total), 0, 2).donors[0, 1]
    for statistics in parts[0]:  # each rank's donors are offered, in rows of their own
        assert torch.cdist(shared, statistics.donors[0, 1]).min(0).values.max() < 0.01
    for q, statistics, rank in ((a, parts[0][0], 0), (b, parts[1][1], 1)):
        q.update(statistics, lambda flat: flat.copy_(total), rank=rank, world=2)
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
    alone = quantizer()
    for code in range(6):
        dead_at(alone, 0, 1, code)
    joined = alone.train()(torch.cat((x, y), 1)).statistics
    torch.testing.assert_close(joined.counts, parts[0][0].counts + parts[0][1].counts)
    torch.testing.assert_close(joined.sums, parts[0][0].sums + parts[0][1].sums, atol=1e-4, rtol=1e-4)


def test_batches_of_a_step_add_up():
    q, x = quantizer().train(), latents(50)
    whole, halves = q(x).statistics, q(x[:, :20]).statistics + q(x[:, 20:]).statistics
    torch.testing.assert_close(halves.counts, whole.counts)
    torch.testing.assert_close(halves.sums, whole.sums, atol=1e-4, rtol=1e-4)
    assert isinstance(halves, Statistics)


def train_on(batches, levels=2, size=64):
    """Reconstruction error after training on batches of those sizes, initialised on the first."""
    rng = torch.Generator().manual_seed(0)
    data = latents(20_000, 1, 16, seed=9)
    q = ResidualQuantizer((levels,), size, 16, decay=0.99)
    q.initialise(data[:, :1024], torch.ones(1, 1024, dtype=torch.bool), iterations=5)
    q.train()
    for size in batches:
        rows = torch.randint(20_000, (size,), generator=rng)
        q.update(q(data[:, rows]).statistics)
    test = latents(4000, 1, 16, seed=9)
    return (q.decode_codes(q.encode(test)) - test).square().mean().item()


def test_small_batches_between_large_ones_do_no_harm():
    constant, ragged = train_on([144] * 400), train_on([256, 32] * 200)
    assert ragged == pytest.approx(constant, rel=0.05)
    assert train_on([256] * 225 + [1]) == pytest.approx(train_on([256] * 225), rel=0.05)


def test_as_good_as_the_library_on_ragged_batches():
    library = pytest.importorskip("vector_quantize_pytorch", reason="vector-quantize-pytorch is not installed")
    torch.manual_seed(0)
    data, rng = latents(20_000, 1, 16, seed=9)[0], torch.Generator().manual_seed(0)
    other = library.ResidualVQ(
        dim=16,
        num_quantizers=2,
        codebook_size=64,
        decay=0.99,
        kmeans_init=True,
        kmeans_iters=5,
        threshold_ema_dead_code=1,
    )
    other.train()
    other(data[None, :1024])
    for size in [256, 32] * 200:
        other(data[torch.randint(20_000, (size,), generator=rng)][None])
    other.eval()
    test = latents(4000, 1, 16, seed=9)[0]
    reached = (other(test[None])[0][0] - test).square().mean().item()
    assert train_on([256, 32] * 200) < 1.05 * reached


def test_bfloat16_autocast_gives_the_codes_of_float32():
    q, x = quantizer(size=64), latents(200)
    plain = q(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, codes = q(x), q.encode(x)
    assert torch.equal(cast.codes, plain.codes)
    assert torch.equal(codes, plain.codes)
    assert cast.quantized.dtype == torch.float32


def test_state_leads_back_to_the_same_quantiser(tmp_path):
    a, x = quantizer(), latents(80)
    for _ in range(3):
        a.update(a.train()(x).statistics)
    torch.save(a.state_dict(), tmp_path / "q.pt")
    b = quantizer(seed=0, fit=False)
    b.load_state_dict(torch.load(tmp_path / "q.pt", weights_only=True))
    assert bool(b.initialised)
    for _ in range(3):
        for q in (a, b):
            q.update(q.train()(x).statistics)
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
