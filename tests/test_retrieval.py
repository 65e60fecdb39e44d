"""Retrieval against orders of equals written out one by one."""

import itertools
import math
import statistics

import pytest
import torch

from signstream.errors import UserError
from signstream.models.metrics.retrieval import RECALLS, retrieval

WAYS = ("sign_to_text", "text_to_sign")


def counts_of(cosine, sentence):
    """[(nearer, wrong equals, right equals)] of each query, one pair after the other."""
    out = []
    for i, row in enumerate(cosine):
        nearest = max(value for value, other in zip(row, sentence) if other == sentence[i])
        equal = [other == sentence[i] for value, other in zip(row, sentence) if value == nearest]
        out.append((sum(value > nearest for value in row), equal.count(False), equal.count(True)))
    return out


def ranks_of(nearer, wrong, right):
    """The rank of the first right one in every order of the equals."""
    orders = itertools.permutations([True] * right + [False] * wrong)
    return [nearer + 1 + order.index(True) for order in orders]


def naive(cosine, sentence):
    """Every order of every query's equals weighs alike."""
    counts = counts_of(cosine, sentence)
    every = [ranks_of(*count) for count in counts]
    size = math.lcm(*map(len, every))
    pooled = [rank for ranks in every for rank in ranks * (size // len(ranks))]
    out = {f"recall_{k}": statistics.mean(rank <= k for rank in pooled) for k in RECALLS}
    return out | {"median_rank": statistics.median(pooled)}


def way(numbers, name):
    return {key.split("/")[-1]: value for key, value in numbers.items() if key.startswith(f"retrieval/{name}/")}


def small(seed):
    """Few directions, so that many cosines are equal, and sentences that occur more than once."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda high, *shape: torch.randint(high, shape, generator=generator)  # noqa: E731
    count = int(draw(7, 1)) + 1
    corners = torch.eye(3)
    return corners[draw(3, count)], corners[draw(3, count)], draw(5, count)


@pytest.mark.parametrize("seed", range(40))
def test_it_is_a_sort_in_which_equals_stand_in_every_order(seed):
    signing, text, sentence = small(seed)
    numbers = retrieval(signing * 3, text * 0.1, sentence)
    cosine = signing @ text.T
    for name, scores in zip((*WAYS, "chance"), (cosine, cosine.T, torch.ones_like(cosine))):
        assert way(numbers, name) == pytest.approx(naive(scores.tolist(), sentence.tolist())), name


def random_case(count, seed=0, sentences=None, width=16):
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(count, width, generator=generator)
    signing = text + 1.5 * torch.randn(count, width, generator=generator)
    sentence = torch.randint(sentences or 10 * count, (count,), generator=generator)
    return signing, text, sentence


def test_without_equals_it_is_the_place_in_a_sort():
    signing, text, sentence = random_case(301, sentences=100)
    numbers = retrieval(signing, text, sentence)
    cosine = torch.nn.functional.normalize(signing.double()) @ torch.nn.functional.normalize(text.double()).T
    for name, scores in zip(WAYS, (cosine, cosine.T)):
        right = sentence[scores.argsort(1, descending=True)] == sentence[:, None]
        rank = (right.int().argmax(1) + 1).tolist()
        wanted = {f"recall_{k}": statistics.mean(r <= k for r in rank) for k in RECALLS}
        assert way(numbers, name) == pytest.approx(wanted | {"median_rank": statistics.median(rank)})


@pytest.mark.parametrize("count", [1, 2, 7, 100, 501])
def test_the_same_embedding_for_everything_gives_chance(count):
    signing, text, sentence = random_case(count)
    numbers = retrieval(signing[:1].expand(count, -1), text, sentence)
    constant = retrieval(signing[:1].expand(count, -1), text[:1].expand(count, -1), sentence)
    nothing = retrieval(torch.zeros(count, 4), torch.zeros(count, 4), sentence)
    assert way(numbers, "text_to_sign") == way(numbers, "chance")
    for name in WAYS:
        assert way(constant, name) == way(nothing, name) == way(numbers, "chance")


def test_chance_of_sentences_that_occur_once():
    chance = way(retrieval(*random_case(500)[:2], torch.arange(500)), "chance")
    wanted = {"recall_1": 1 / 500, "recall_5": 5 / 500, "recall_10": 10 / 500, "median_rank": 250.5}
    assert chance == pytest.approx(wanted)


def test_random_embeddings_come_near_chance():
    count = 2000
    generator = torch.Generator().manual_seed(5)
    signing, text = torch.randn(2, count, 32, generator=generator)
    sentence = torch.arange(count) // 3  # each signed three times
    numbers = retrieval(signing, text, sentence)
    for name in WAYS:
        assert way(numbers, name)["recall_10"] == pytest.approx(way(numbers, "chance")["recall_10"], abs=0.008)
        assert way(numbers, name)["median_rank"] == pytest.approx(way(numbers, "chance")["median_rank"], rel=0.1)


def test_perfect_ones_find_all_though_sentences_occur_again():
    sentence = torch.tensor([0, 1, 2, 0, 3, 1, 4, 0])
    each = torch.nn.functional.one_hot(sentence).float()
    numbers = retrieval(each * 7, each, sentence)
    for name in WAYS:
        assert set(way(numbers, name).values()) == {1.0}


def test_the_nearest_of_the_same_sentence_counts():
    text = torch.eye(4)
    signing = text[[3, 1, 2, 0]]  # the first and the last show each other's sentence
    assert retrieval(signing, text, torch.tensor([0, 1, 2, 0]))["retrieval/sign_to_text/recall_1"] == 1
    assert retrieval(signing, text, torch.arange(4))["retrieval/sign_to_text/recall_1"] == 0.5


@pytest.mark.parametrize("rows", [1, 2, 17, 100, 299, 300, 10_000])
def test_pieces_of_any_size_give_the_same(rows):
    signing, text, sentence = random_case(300, sentences=120)
    signing[::3], text[::4] = signing[0], text[1]  # equals
    assert retrieval(signing, text, sentence, rows=rows) == retrieval(signing, text, sentence)


def test_the_order_of_the_clips_says_nothing():
    signing, text, sentence = random_case(200, sentences=90)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    shuffled = retrieval(signing[order], text[order], sentence[order])
    assert shuffled == pytest.approx(retrieval(signing, text, sentence))


def test_a_split_without_clips_has_no_numbers():
    assert retrieval(torch.zeros(0, 4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)) == {}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_embeddings_that_are_no_numbers_are_one_line_and_not_the_first_place(value):
    signing, text, sentence = random_case(5)
    text[2, 3] = value
    with pytest.raises(UserError, match=r"^1 of 5 embeddings of text are not finite: the model has diverged$"):
        retrieval(signing, text, sentence)
