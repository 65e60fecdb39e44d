"""benchmarks/score.py: by hand, as models/metrics/recon.py counts, and as the program that the comparison came with."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import score
from signstream.models.metrics.recon import Reconstruction, shoulder_widths
from signstream.skeleton import COCO_WHOLEBODY as BODY

ROOT = Path(__file__).parents[1]
SCORER = ROOT.parent / "shared" / "bench" / "score_reconstruction.py"
CLIPS = {"a": 33, "b": 8, "c": 20}
TOKENS = [
    {"t": 0, "F": [12, 7], "LH": [37]},
    {"t": 1, "F": [7], "LH": ["NC", 2]},
    {"t": 2, "F": []},
]


class Frames:
    def __init__(self, poses):
        self.poses = poses

    def frames(self, index):
        row = np.array([0.0, 0.0, 1.0])
        return np.concatenate((np.broadcast_to(row, (len(self.poses[index]), 1, 3)), self.poses[index]), axis=1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Poses with scores around the limit, a row for the picture's size in one, and reconstructions that err."""
    root, rng = tmp_path_factory.mktemp("score"), np.random.default_rng(0)
    originals, made = root / "frames_512x512", root / "made"
    originals.mkdir()
    made.mkdir()
    for name, frames in CLIPS.items():
        poses = np.concatenate((rng.uniform(0, 512, (frames, 133, 2)), rng.uniform(0.1, 1, (frames, 133, 1))), axis=-1)
        poses[:, 5, :2], poses[:, 6, :2] = (300 + len(name), 200), (180, 210)
        poses[3:5, 112] = 0
        size = np.full((frames, 1, 3), 512.0)
        np.save(originals / f"{name}.npy", np.concatenate((size, poses), axis=1) if name == "a" else poses)
        np.save(made / f"{name}.npy", poses + rng.normal(0, 6, poses.shape))
    lost = np.zeros((4, 133, 3))
    np.save(originals / "no_shoulders.npy", lost)
    np.save(made / "no_shoulders.npy", lost)
    np.save(originals / "not_made.npy", lost)
    names = [*CLIPS, "no_shoulders", "not_made", "not_there"]
    (root / "split_files.json").write_text(json.dumps({"test": names}))
    record = {"fps": 30, "chunk_len": 10, "num_frames": 28, "tokens": TOKENS, "meta": {"codebook_size": 512}}
    (root / "tokens.jsonl").write_text(json.dumps(record) + "\n" + json.dumps({"summary": 1}) + "\n")
    return root


@pytest.fixture(scope="module")
def report(folders):
    return score.score(folders / "frames_512x512", folders / "made")


def test_it_equals_the_metrics_of_training(folders, report):
    poses = {i: score.read(folders / "frames_512x512" / f"{name}.npy") for i, name in enumerate(CLIPS)}
    for each in poses.values():
        each[each[..., 2] <= score.SEEN] = 0
    weights = {"face": 1.0, "left_hand": 1.0, "right_hand": 1.0, "body": 1.0}
    widths = shoulder_widths(Frames(poses), poses)
    metric = Reconstruction(BODY, weights, [1.0] * len(BODY.parts), widths=widths, chunk_len=10)
    for index, name in enumerate(CLIPS):
        made = torch.from_numpy(np.load(folders / "made" / f"{name}.npy")[..., :2])
        unit = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(len(made), 3)
        metric.add_clip(torch.from_numpy(poses[index]), made, unit, clip=index)
    result = metric.result()
    for part in score.PARTS:
        assert report[part]["local"] == pytest.approx(result[f"{part}/local"], rel=1e-9)
        assert report[part]["local_pck@0.1"] == pytest.approx(result[f"{part}/pck_0.1"], rel=1e-9)
    assert report["mean_local"] == pytest.approx(result["weighted/local"], rel=1e-9)


def test_a_shift_costs_nothing_and_a_bent_finger_what_it_is_long(tmp_path):
    original = np.zeros((1, 133, 3))
    original[..., 2] = 1
    original[0, 5, 0] = 100  # a shoulder width of 100 pixels
    made = original + np.array([7.0, -3.0, 0.0])
    made[0, 95, :2] += [30, 40]
    for name, poses in (("original", original), ("made", made)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "clip.npy", poses)
    report = score.score(tmp_path / "original", tmp_path / "made")
    assert report["left_hand"] == pytest.approx({"local": 0.5 / 21, "local_pck@0.1": 20 / 21})
    assert report["hands_local"] == pytest.approx(0.5 / 42)
    assert report["mean_local"] == pytest.approx(0.5 / 84)


def test_what_cannot_be_scored_is_counted_or_refused(folders, report, tmp_path):
    assert (report["clips"], report["missing"]) == (3, 1)
    with pytest.raises(SystemExit, match="a: 32 frames are reconstructed, of 33"):
        score.check("a", np.zeros((33, 133, 3)), np.zeros((32, 133, 3)))
    with pytest.raises(SystemExit, match="NaN"):
        score.check("a", np.zeros((1, 133, 3)), np.full((1, 133, 3), np.nan))


def test_tokens_cost_their_symbols(folders):
    cost = score.cost(folders / "tokens.jsonl")
    assert (cost["codes"], cost["nc_runs"], cost["chunks"]) == (4, 1, 3)
    assert cost["bits_per_s"] == pytest.approx(5 * np.log2(513) / (28 / 30))


@pytest.mark.skipif(not SCORER.exists(), reason="the other program is not in this checkout")
def test_it_equals_the_other_program(folders):
    tokens = ["--tokens", str(folders / "tokens.jsonl")]
    theirs = [str(SCORER), "--reference", str(folders), "--reconstructed", str(folders / "made"), *tokens]
    split = ["--split-file", str(folders / "split_files.json")]
    ours = ["-m", "benchmarks.score", str(folders / "frames_512x512"), str(folders / "made"), *split, *tokens]
    a, b = (
        json.loads(subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, check=True).stdout)
        for command in (ours, theirs)
    )
    assert (a["clips"], a["missing"]) == (b["clips"], b["missing"]) == (3, 1)
    for part in score.PARTS:
        assert a[part]["local"] == pytest.approx(b[part]["local"], abs=6e-6)
        assert a[part]["local_pck@0.1"] == pytest.approx(b[part]["local_pck@0.1"], abs=6e-5)
    for name in ("hands_local", "mean_local"):
        assert a[name] == pytest.approx(b[name], abs=1.1e-5)  # a rounded mean of rounded numbers
    assert a["tokens"] == pytest.approx(b["tokens"], rel=1e-2)
    assert a["tokens"]["bits_per_s"] == pytest.approx(b["tokens"]["bits_per_s"], rel=1e-9)
