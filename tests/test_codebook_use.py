import pytest
import torch

from signstream.models.metrics.codebook import CodebookUse


def counted(codes, levels=(1,), size=8, **more):
    metric = CodebookUse(["body", "face"][: len(levels)], levels, size)
    metric.add(codes, **more)
    return metric


def test_perplexity_is_K_of_uniform_codes_and_1_of_one_code():
    uniform = counted(torch.arange(8).repeat(5)[:, None, None]).result()
    assert uniform["codes/body/0/perplexity"] == pytest.approx(8)
    assert uniform["codes/body/0/entropy"] == pytest.approx(1)
    assert (uniform["codes/body/0/used"], uniform["codes/body/0/dead"], uniform["codes/body/0/count"]) == (1, 0, 40)
    single = counted(torch.full((40, 1, 1), 3)).result()
    assert (single["codes/body/0/perplexity"], single["codes/body/0/entropy"], single["codes/body/0/used"]) == (
        1,
        0,
        1 / 8,
    )
    two = counted(torch.tensor([1, 1, 5, 5])[:, None, None]).result()
    assert two["codes/body/0/perplexity"] == pytest.approx(2)


def test_a_batchs_perplexity_is_not_the_splits():
    codes = torch.arange(512)[torch.randperm(512, generator=torch.Generator().manual_seed(0))].view(16, 32, 1, 1)
    each = [counted(batch, size=512).result()["codes/body/0/perplexity"] for batch in codes]
    whole = CodebookUse(["body"], [1], 512)
    for batch in codes:
        whole.add(batch)
    assert max(each) < 33
    assert whole.result()["codes/body/0/perplexity"] == pytest.approx(512)


def test_codes_not_sent_or_of_unseen_parts_do_not_count():
    codes = torch.tensor([[[0, 1], [2, -1]], [[0, -1], [3, -1]], [[5, 5], [4, -1]]])  # [N, P, Q]
    metric = counted(codes, (2, 1), valid=torch.tensor([[True, True], [True, False], [False, True]]))
    expected = torch.zeros(2, 2, 8, dtype=torch.int64)
    expected[0, 0, 0], expected[0, 1, 1], expected[1, 0, 2], expected[1, 0, 4] = 2, 1, 1, 1
    assert torch.equal(metric.counts, expected)
    assert not any(name.startswith("codes/face/1") for name in metric.result())
    with pytest.raises(ValueError, match="a code is 8: a codebook of 8 has codes from 0 to 7"):
        metric.add(torch.full((1, 2, 2), 8))


def test_the_worst_level_and_the_collapsed_ones():
    codes = torch.stack((torch.arange(64) % 8, torch.arange(64) % 2, torch.arange(64) % 4), 1)
    codes = torch.stack(
        (codes[:, :2], torch.stack((codes[:, 2], torch.full((64,), -1)), 1)), 1
    )  # [N, P, Q]: 8 and 2 codes; 4 codes
    metric = counted(codes, (2, 1))
    result = metric.result()
    assert result["codes/worst/perplexity"] == result["codes/body/1/perplexity"] == pytest.approx(2)
    assert metric.collapsed(used=0.3, entropy=0) == [("body", 1)]
    assert metric.collapsed(used=0, entropy=0.7) == [("body", 1), ("face", 0)]
    assert metric.collapsed(used=0.1, entropy=0.1) == []
    few = counted(torch.arange(50)[:, None, None], size=1024)
    assert few.result()["codes/body/0/used"] < 0.05 and few.collapsed(used=0.9, entropy=0.9) == []
    nothing = CodebookUse(["body"], [1], 8)
    assert nothing.result() == {} and nothing.collapsed(1, 1) == []
