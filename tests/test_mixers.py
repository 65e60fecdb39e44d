"""benchmarks/mixers.py: four clips in a row, and a table of what was trained on them."""

import json
from argparse import Namespace

import numpy as np
import pytest

from benchmarks import mixers
from benchmarks.meaning import SPLITS
from test_judge import SMALL


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return mixers.prepare(Namespace(clips=90, processes=1), tmp_path_factory.mktemp("work"))


def test_a_long_clip_is_four_of_a_split_signer_after_signer(roots):
    notes, long = (json.loads((roots[length] / "annotations.json").read_text()) for length in ("ordinary", "long"))
    splits = json.loads((roots["long"] / "split_files.json").read_text())
    assert set(splits) == {"train", "val", *SPLITS, "test"} and len(long) >= 12
    first, second = splits["train"][:2]
    whole = np.load(roots["long"] / "frames_512x512" / f"{first}.npy")
    assert len(whole) == long[first]["num_frames"] > 4 * 40
    ordinary = json.loads((roots["ordinary"] / "split_files.json").read_text())["train"]
    assert len(splits["train"]) == len(ordinary) // 4 and long[second]["signer"] <= long[first]["signer"] + 1
    same = sorted(ordinary, key=lambda name: notes[name]["signer"])[:4]
    assert long[first]["gloss"] == " ".join(notes[name]["gloss"] for name in same)
    parts = [np.load(roots["ordinary"] / "frames_512x512" / f"{name}.npy") for name in same]
    assert np.array_equal(whole, np.concatenate(parts))


def test_the_table_has_a_row_for_each(roots):
    done = {}
    for length, mixer in (("ordinary", "bilstm"), ("long", "mamba")):
        job = mixers.Job(length, mixer, 0, roots[length], (*SMALL, "train.epochs=1"))
        name, done[job.name] = mixers.train(job)
        assert name == job.name and set(done[name]["wer"]) > set(SPLITS) and done[name]["ms"] > 0
    rows = list(mixers.table(done))[2:]
    assert [row.split("|")[1:3] for row in rows] == [[" ordinary ", " bilstm "], [" long ", " mamba "]]
