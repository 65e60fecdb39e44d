import random
from itertools import pairwise

import pytest
import torch

from signstream.tokens.codes import check_codes
from signstream.tokens.rle import compress, expand

TAGS = ("F", "LH", "RH", "B", "FB", "X")
KINDS = ("any", "static", "changing", "runs at the ends", "nothing sent")


def random_codes(rng: random.Random, size: int = 8) -> tuple[torch.Tensor, tuple[str, ...], tuple[int, ...]]:
    """Codes [0..12, 1..6, 1..4] of some kind, the parts' tags in some order, and their levels, the most being Q."""
    kind, chunks = rng.choice(KINDS), rng.choice((0, 1, 1, 2, 5, 12))
    tags = tuple(rng.sample(TAGS, rng.randint(1, 6)))
    levels = tuple(rng.randint(1, 4) for _ in tags)

    def entry(p: int) -> list[int]:
        sent = 0 if kind == "nothing sent" else rng.randint(0, levels[p])
        return [rng.randrange(size) for _ in range(sent)] + [-1] * (max(levels) - sent)

    def holds(t: int) -> bool:
        return {
            "any": rng.random() < 0.4,
            "static": True,
            "runs at the ends": not chunks // 3 <= t <= 2 * chunks // 3,
        }.get(kind, False)

    table: list[list[list[int]]] = []
    for t in range(chunks):
        table.append([table[t - 1][p] if t > 0 and holds(t) else entry(p) for p in range(len(tags))])
        if kind == "changing":
            table[t] = [[t % size, *codes[1:]] for codes in table[t]]
    return torch.tensor(table, dtype=torch.int64).reshape(chunks, len(tags), max(levels)), tags, levels


def cases(count: int) -> list[tuple[torch.Tensor, tuple[str, ...], tuple[int, ...]]]:
    rng = random.Random(0)
    return [random_codes(rng) for _ in range(count)]


def test_what_was_compressed_is_expanded():
    for codes, tags, _ in cases(300):
        for options in ({}, {"rle": False}, {"longest": 1}, {"longest": 3}):
            rows = compress(codes, tags, **options)
            assert torch.equal(expand(rows, tags, codes.shape[2], codebook_size=8), codes)
            assert [row["t"] for row in rows] == list(range(len(codes)))
            runs = [
                entry[1] for row in rows for entry in row.values() if isinstance(entry, list) and entry[:1] == ["NC"]
            ]
            assert all(1 <= k <= options.get("longest", k) for k in runs) and (options.get("rle", True) or not runs)


def test_nothing_is_written_twice():
    for codes, tags, _ in cases(300):
        rows = compress(codes, tags)
        for p, tag in enumerate(tags):
            entries = [[code for code in chunk if code >= 0] for chunk in codes[:, p].tolist()]
            sent = [row[tag] for row in rows if tag in row and row[tag] and row[tag][0] != "NC"]
            assert len(sent) == sum(
                bool(entry) and (t == 0 or entry != entries[t - 1]) for t, entry in enumerate(entries)
            )
            written = [row[tag][:1] == ["NC"] for row in rows if tag in row]
            assert not any(a and b for a, b in pairwise(written))


def test_rows_are_those_of_the_specification():
    codes = torch.tensor([[[12, 7], [37, -1]], [[7, -1], [37, -1]], [[-1, -1], [37, -1]], [[-1, -1], [37, -1]]])
    rows = [
        {"t": 0, "F": [12, 7], "LH": [37]},
        {"t": 1, "F": [7], "LH": ["NC", 3]},
        {"t": 2, "F": []},
        {"t": 3, "F": []},
    ]
    assert compress(codes, ["F", "LH"]) == rows
    live = compress(codes, ["F", "LH"], longest=1)
    assert [row["LH"] for row in live] == [[37], ["NC", 1], ["NC", 1], ["NC", 1]]
    assert all(
        live[:n] == compress(codes[:n], ["F", "LH"], longest=1) for n in range(5)
    )  # no row depends on a later chunk
    assert torch.equal(expand(live, ["F", "LH"], 2), codes)


FAULTS = {
    "run first": ([{"t": 0, "F": ["NC", 1]}], "chunk 0, F: a run in the first"),
    "run of none": ([{"t": 0, "F": [1]}, {"t": 1, "F": ["NC", 0]}], "chunk 1, F: .* is no run"),
    "run of less": ([{"t": 0, "F": [1]}, {"t": 1, "F": ["NC", -1]}], "chunk 1, F: .* is no run"),
    "run of a bool": ([{"t": 0, "F": [1]}, {"t": 1, "F": ["NC", True]}], "chunk 1, F: .* is no run"),
    "run of a fraction": ([{"t": 0, "F": [1]}, {"t": 1, "F": ["NC", 1.0]}], "chunk 1, F: .* is no run"),
    "run without a length": ([{"t": 0, "F": [1]}, {"t": 1, "F": ["NC"]}], "chunk 1, F: .* is no run"),
    "run with more": ([{"t": 0, "F": [1]}, {"t": 1, "F": ["NC", 1, 1]}], "chunk 1, F: .* is no run"),
    "run past the end": (
        [{"t": 0, "F": [1]}, {"t": 1, "F": ["NC", 2]}],
        "chunk 1, F: a run of 2 chunks .* past the end; 1 are left",
    ),
    "a run of 10**30": (
        [{"t": 0, "F": [1]}, {"t": 1, "F": ["NC", 10**30]}],
        "chunk 1, F: a run of 1000.* past the end",
    ),
    "in a run": (
        [{"t": 0, "F": [1]}, {"t": 1, "F": ["NC", 2]}, {"t": 2, "F": [1]}],
        "chunk 2, F: it stands in the row, but a run holds it",
    ),
    "absent": ([{"t": 0, "F": [1]}, {"t": 1}], "chunk 1, F: it is missing"),
    "absent first": ([{"t": 0}], "chunk 0, F: it is missing"),
    "after a run": ([{"t": 0, "F": [1]}, {"t": 1, "F": ["NC", 1]}, {"t": 2}], "chunk 2, F: it is missing"),
    "unknown key": ([{"t": 0, "F": [1], "LH": [2]}], "chunk 0, 'LH': no part"),
    "unknown, not text": ([{"t": 0, "F": [1], 3: [2]}], "chunk 0, 3: no part"),
    "t twice": ([{"t": 0, "F": [1]}, {"t": 0, "F": [1]}], "chunk 1: its t is 0"),
    "t leaps": ([{"t": 0, "F": [1]}, {"t": 2, "F": [1]}], "chunk 1: its t is 2"),
    "t is missing": ([{"F": [1]}], "chunk 0: its t is None"),
    "t is a bool": ([{"t": False, "F": [1]}], "chunk 0: its t is False"),
    "code too large": ([{"t": 0, "F": [8]}], r"chunk 0, F: 8 is no code: 0\.\.7 are"),
    "code too large for anything": ([{"t": 0, "F": [1 << 63]}], "chunk 0, F: .* is no code"),
    "code below 0": ([{"t": 0, "F": [1, -1]}], "chunk 0, F: -1 is no code"),
    "code is a bool": ([{"t": 0, "F": [True]}], "chunk 0, F: True is no code"),
    "code is text": ([{"t": 0, "F": [1, "NC"]}], "chunk 0, F: 'NC' is no code"),
    "too many": ([{"t": 0, "F": [1, 2, 3]}], "chunk 0, F: 3 codes; there are 2 levels"),
    "a number": ([{"t": 0, "F": 1}], "chunk 0, F: 1 is no entry"),
    "null": ([{"t": 0, "F": None}], "chunk 0, F: None is no entry"),
    "no row": ([[0]], r"chunk 0: \[0\] is no row"),
}


@pytest.mark.parametrize(("rows", "fault"), FAULTS.values(), ids=FAULTS)
def test_malformed_rows_are_one_line(rows, fault):
    with pytest.raises(ValueError, match=fault) as error:
        expand(rows, ["F"], depth=2, codebook_size=8)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("codes", "fault"),
    [
        ([[[0, 1]], [[-1, 3]]], r"chunk 1, F: a level that was not sent \(-1\) stands before a code"),
        ([[[0, -2]]], "chunk 0, F: a code is below -1"),
        ([[[0, -1]], [[0, 8]]], r"chunk 1, F: a code is outside 0\.\.7"),
        ([[[0, 1, 2]]], r"codes are torch.int64 \[1, 1, 3\]: int64 \[N, 1, 2\] is expected"),
        ([[[0, 1]] * 2], r"\[1, 2, 2\]: int64 \[N, 1, 2\]"),
        ([[0, 1]], r"\[1, 2\]: int64"),
        ([[[0.0, 1.0]]], r"codes are torch.float32"),
    ],
)
def test_what_are_no_codes(codes, fault):
    with pytest.raises(ValueError, match=fault):
        check_codes(torch.tensor(codes), ["F"], levels=[2], codebook_size=8)


def test_a_part_sends_no_more_than_its_levels():
    codes = torch.tensor([[[1, 2], [1, -1]], [[1, 2], [1, 2]]])
    with pytest.raises(ValueError, match="chunk 1, LH: more codes than the part has levels"):
        check_codes(codes, ["F", "LH"], levels=[2, 1])
    check_codes(codes, ["F", "LH"], levels=[2, 2])
