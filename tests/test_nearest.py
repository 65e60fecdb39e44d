"""benchmarks/nearest.py against orders and paths written out one by one; benchmarks/retrieval.py where two people sign
alike to the last bit."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch

from benchmarks import retrieval
from benchmarks.nearest import Labels, differing, distances, euclidean, levelled, numbers, ranks
from benchmarks.reconstruction import trained_on
from data_sets import cache_of, note, signer_root, write_csl
from helpers import begin_loop, run_steps, tiny_options
from signstream.errors import UserError
from signstream.training import checkpoint


def labels(words, people, asks=None):
    asking = torch.ones(len(words), dtype=torch.bool) if asks is None else torch.tensor(asks)
    return Labels(torch.tensor([ord(w) for w in words]), torch.tensor([ord(p) for p in people]), asking)


def naive(distance, words, people):
    """(R@1, R@5, MRR), over every order of a query's equals."""
    firsts = []
    for q, row in enumerate(distance.tolist()):
        others = [i for i in range(len(row)) if people[i] != people[q]]
        if any(words[i] == words[q] for i in others):
            orders = [
                order for order in itertools.permutations(others) if sorted(order, key=row.__getitem__) == [*order]
            ]
            firsts.append([next(k for k, i in enumerate(o, 1) if words[i] == words[q]) for o in orders])
    mean = lambda of: float(sum(Fraction(sum(map(of, f)), len(f)) for f in firsts) / len(firsts))  # noqa: E731
    return mean(lambda k: k <= 1), mean(lambda k: k <= 5), mean(lambda k: Fraction(1, k))


@pytest.mark.parametrize("seed", range(20))
def test_it_is_a_sort_of_other_peoples_clips_in_which_equals_stand_in_every_order(seed):
    generator = torch.Generator().manual_seed(seed)
    distance = torch.randint(4, (8, 8), generator=generator).double()
    words, people = ("".join("abc"[i] for i in torch.randint(3, (8,), generator=generator)) for _ in range(2))
    found = labels(words, people)
    assert numbers(ranks(distance, found)) == pytest.approx(naive(distance, words, people))
    assert numbers(ranks(torch.zeros(8, 8), found)) == pytest.approx(naive(torch.zeros(8, 8), words, people))


def test_chance_by_hand():
    """Each query has one right and three wrong ones, by others."""
    found = labels("abcddabc", "xxxxxyyy", [True] * 2 + [False] * 6)
    assert numbers(ranks(torch.zeros(8, 8), found)) == pytest.approx((1 / 3, 1, (1 + 1 / 2 + 1 / 3) / 3))
    found = labels("abbbaa", "xyyyzz", [True] + [False] * 5)  # two right, three wrong
    assert numbers(ranks(torch.zeros(6, 6), found)) == pytest.approx((0.4, 1, 0.4 + 0.3 / 2 + 0.2 / 3 + 0.1 / 4))


def test_the_same_person_is_neither_found_nor_in_the_way():
    """x's clips are all alike, and one of y's is nearer than the right one."""
    distance = torch.zeros(6, 6).double()
    distance[0] = torch.tensor([0, 0, 0, 3, 2, 4])
    only_first = [True] + [False] * 5
    assert numbers(ranks(distance, labels("aababc", "xxxyyy", only_first))) == pytest.approx((0, 1, 1 / 2))
    assert numbers(ranks(distance, labels("aabbac", "xxxyyy", only_first))) == pytest.approx((1, 1, 1))
    assert not len(ranks(distance, labels("aabcbc", "xxxyyy", only_first)).nearer)  # nobody else signs a


# -- distances


def paths(n, m, i=0, j=0):
    """Every way from the first pair to the last: [(i, j, weight)]."""
    if (i, j) == (n - 1, m - 1):
        yield []
    for di, dj in ((1, 0), (0, 1), (1, 1)):
        if i + di < n and j + dj < m:
            yield from ([(i + di, j + dj, di + dj), *path] for path in paths(n, m, i + di, j + dj))


def test_a_distance_is_the_cheapest_path():
    generator = torch.Generator().manual_seed(0)
    clips = [torch.randn(n, 3, generator=generator).double() for n in (1, 4, 2, 3, 1)]
    distance = distances(clips, euclidean)
    for (i, a), (j, b) in itertools.product(enumerate(clips), repeat=2):
        cost = (a[:, None] - b).norm(dim=-1)
        sums = [sum(weight * cost[x, y] for x, y, weight in ((0, 0, 2), *path)) for path in paths(len(a), len(b))]
        assert float(distance[i, j]) == pytest.approx(float(min(sums)) / (len(a) + len(b)), abs=1e-6)


def test_a_slower_clip_is_the_same_one_and_one_backwards_is_not():
    clip = torch.arange(5.0).double()[:, None]
    distance = distances([clip, clip.repeat_interleave(3, 0), clip.flip(0)], euclidean)
    assert distance[0, 1] == 0 < distance[0, 2] == distance[2, 0]


def test_ids_differ_or_do_not():
    ids = [torch.tensor(rows) for rows in ([[7, -1, 3]], [[7, 2, 900]], [[8, -1, 3], [7, -1, 3]])]
    assert distances(ids, differing).mul(3).round().tolist() == [[0, 6, 2], [6, 0, 8], [2, 8, 0]]


def test_parts_count_alike_and_what_is_missing_lies_at_the_mean():
    generator = torch.Generator().manual_seed(0)
    clips = [[torch.randn(n, 2, generator=generator), torch.randn(n, 5, generator=generator)] for n in (3, 1, 2)]
    clips[0][1][:2] = torch.nan
    clips[2][0][1, 0] = torch.nan
    rows = torch.cat(levelled(clips))
    assert bool((rows[:2, 2:] == 0).all()) and rows[5, 0] == 0 and bool((rows[5, 1:] != 0).all())
    assert [len(clip) for clip in levelled(clips)] == [3, 1, 2]
    assert rows[:, :2].square().sum(1).mean() == pytest.approx(1)
    assert rows[2:, 2:].square().sum(1).mean() == pytest.approx(1)
    moved = torch.cat(levelled([[1000 * hand + 7, face] for hand, face in clips]))
    assert torch.allclose(moved, rows, atol=1e-5)


def test_a_part_that_nobody_shows_tells_nothing():
    clips = [[torch.full((2, 3), torch.nan), torch.tensor([[1.0], [3.0]])], [torch.zeros(1, 3), torch.tensor([[2.0]])]]
    assert torch.cat(levelled(clips))[:, :3].tolist() == [[0.0] * 3] * 3


# -- the program


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tokenizer, and a root in which x and y sign three words alike to the last bit, and z a word of their own."""
    folder = tmp_path_factory.mktemp("made")
    source = signer_root(folder, 20, {"train": (0, 12), "val": (12, 16)}, frames=50)
    loop = begin_loop(tiny_options(source))
    run_steps(loop, 20)
    loop.validate(health=False)
    files = sorted((source / "frames_512x512").glob("*.npy"))[:4]
    poses = dict(zip("abcd", map(np.load, files)))
    signed = [*itertools.product("xy", "abc"), ("z", "d")]
    clips = {f"{person}_{word}": poses[word] for person, word in signed}
    notes = {f"{person}_{word}": note(poses[word], gloss=word.upper(), signer=person) for person, word in signed}
    notes["y_a"]["gloss"] = "a"
    clips["y_line"], notes["y_line"] = poses["d"], note(poses["d"], gloss="A B", signer="y")
    splits = {"train": [name for name in clips if name[0] != "y"], "test": [name for name in clips if name[0] == "y"]}
    root = write_csl(folder / "signs", clips, splits, notes)
    state = loop.state_dict()
    checkpoint.save({**state, "clips": trained_on(cache_of(root), "z_")}, folder / "kept.pt")
    checkpoint.save(state, folder / "last.pt")
    return folder


def printed(made, capsys, *options):
    retrieval.main(["--data", str(made / "signs"), *options])
    return capsys.readouterr().out.splitlines()


def test_who_signs_alike_is_found_from_whatever_is_read(made, capsys):
    kept, last = str(made / "kept.pt"), str(made / "last.pt")
    about, other, head, _, *rows = printed(made, capsys, "--checkpoint", kept, last)
    assert about == f"{kept}: 6 queries (3 words, 2 people) among 7 clips; trained on 3 of these clips, by 1 people"
    assert f"; trained on train of {made / 'data'}" in other
    found = {cells[1]: cells[2:-1] for cells in ([cell.strip() for cell in row.split("|")] for row in rows)}
    assert list(found)[:1] == ["keypoints"] and len(found) == 8 and head.count("|") == 4
    assert found.pop("chance") == ["25.0 / 100.0 / 52.1"] * 2
    assert all(cells == ["100.0 / 100.0 / 100.0"] * 2 for name, cells in found.items() if "first" not in name)


def test_what_is_asked_can_be_less(made, capsys):
    options = ("--checkpoint", str(made / "last.pt"))
    assert ": 3 queries (3 words, 1 people) among 7 clips" in printed(made, capsys, *options, "--split", "test")[0]
    rows = printed(made, capsys, *options, "--only", "x_", "y_a", "--body-parts", "LH", "RH")
    assert ": 2 queries (1 words, 2 people) among 4 clips" in rows[0] and "| 66.7 / 100.0 / 80.6 |" in rows[-1]
    with pytest.raises(UserError, match="none is a query"):
        printed(made, capsys, *options, "--only", "x_")
    with pytest.raises(UserError, match="--body-parts XX: the tokenizer has F, LH"):
        printed(made, capsys, *options, "--body-parts", "XX", "LH")
