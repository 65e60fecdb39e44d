"""benchmarks/: every program there can be imported and says what it does; those that others stand on run."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import prefix_runs
from benchmarks import (
    export,
    pca_kmeans,
    prefix_lm,
    quantizer,
    rate_distortion,
    recognition_step,
    reconstruction,
    scan,
    score,
)
from data_sets import signer_root
from signstream.errors import UserError
from signstream.inference.tokenizer import Tokenizer
from signstream.models.mamba import TemporalMixer
from signstream.tokens.format import read_jsonl
from signstream.training import checkpoint

NAMES = sorted(file.stem for file in (Path(__file__).parents[1] / "benchmarks").glob("*.py") if file.stem != "__init__")


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_help(name, monkeypatch, capsys):
    module = importlib.import_module(f"benchmarks.{name}")
    assert module.__doc__
    if not hasattr(module, "main"):  # what several of them use
        return
    assert f"python -m benchmarks.{name}" in module.__doc__
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code in (0, None)
    assert "usage:" in capsys.readouterr().out


TINY = (
    "model.encoder_latent_dim=32",
    "model.latent_dim=8",
    "model.rvq.codebook_size=16",
    "model.rvq.levels=2",
    "train.clips_per_step=8",
    "train.warmup_steps=2",
    "train.threads=1",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return made(tmp_path_factory.mktemp("made"), 20, {"train": (0, 12), "val": (12, 16), "test": (16, 20)})


def made(folder: Path, clips: int, splits: dict[str, tuple[int, int]]) -> Path:
    """A root of the synthetic signer that does not insist on 30 frames a second."""
    root = signer_root(folder, clips, splits)
    (root / "CSL-Daily_README.md").unlink()
    return root


def compare(root: Path, keep: Path, *options: str) -> None:
    reconstruction.main(["--data", str(root), "--epochs", "3", "--keep", str(keep), *options, *TINY])


@pytest.mark.slow
def test_reconstruction_goes_on_from_what_it_kept(root, tmp_path, monkeypatch, capsys):
    """Interrupted after its first epoch, it ends with the weights of a straight run; tokens and poses lie beside it."""
    straight, broken = tmp_path / "straight.pt", tmp_path / "broken.pt"
    compare(root, straight)
    printed = capsys.readouterr()
    assert "epoch 2 of 3" in printed.err and "mean_local" in printed.out and "bits/s: ours" in printed.out
    assert "\nhands/location " in printed.out and "nan" not in printed.out
    save = checkpoint.save

    def save_once(state: dict, path: Path) -> None:
        save(state, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_once)
    with pytest.raises(KeyboardInterrupt):
        compare(root, broken)
    monkeypatch.setattr(checkpoint, "save", save)
    compare(root, broken)
    assert "1 of 3 epochs are done" in capsys.readouterr().err
    ours, other = (checkpoint.load(path)["model"] for path in (straight, broken))
    assert all(torch.equal(value, other[name]) for name, value in ours.items())
    names = json.loads((root / "split_files.json").read_text())["test"]
    folder = tmp_path / "straight.pt.out" / "ours"
    assert [tokens.name for tokens in read_jsonl(folder / "tokens.jsonl")] == names
    assert sorted(file.stem for file in (folder / "poses").glob("*.npy")) == sorted(names)
    for tokens in read_jsonl(folder / "tokens.jsonl"):
        assert Tokenizer.load(straight, "cpu").decode(tokens).shape == (tokens.num_frames, 133, 3)


@pytest.mark.slow
def test_reconstruction_compares_what_it_kept_with_its_options(root, tmp_path, capsys):
    keep = tmp_path / "real.pt"
    compare(root, keep)
    with pytest.raises(UserError, match=r"train.epochs is 4, and 3 in .*real.pt"):
        compare(root, keep, "--epochs", "4")
    with pytest.raises(UserError, match=r"data.fps is 20.0, and 25.0 in .*real.pt"):
        compare(root, keep, "data.fps=20")
    with pytest.raises(UserError, match=r"real.pt is a model of other clips"):
        compare(root, keep, "--without", "S000001")
    strangers = made(tmp_path, 8, {"test": (0, 8)})
    before = keep.read_bytes()
    compare(root, keep, "--test-data", str(strangers))
    assert checkpoint.digest(checkpoint.load(keep)["model"]) == checkpoint.digest(read(before, tmp_path)["model"])
    poses = tmp_path / "real.pt.out" / "ours" / "poses"
    report = score.score(strangers / "frames_512x512", poses, [file.stem for file in poses.glob("*.npy")])
    assert report["clips"] == 8 and f"{report['mean_local']:.4f}" in capsys.readouterr().out


@pytest.mark.slow
def test_error_against_rate_has_a_row_for_each(root, tmp_path, monkeypatch, capsys):
    keep = tmp_path / "real.pt"
    compare(root, keep)
    monkeypatch.setattr(rate_distortion, "RATES", (4, 6))
    monkeypatch.setattr(rate_distortion, "HOLDS", (0.0, 0.04))
    capsys.readouterr()
    rate_distortion.main(["--checkpoint", str(keep), "--data", str(root), "--out", str(tmp_path / "figure.png")])
    rows = capsys.readouterr().out.splitlines()[1:-1]
    assert len(rows) == 6 + 2 + 2 * 2 and "nan" not in "".join(rows)
    assert (tmp_path / "figure.png").stat().st_size > 1000


def read(content: bytes, folder: Path) -> dict:
    (folder / "before.pt").write_bytes(content)
    return checkpoint.load(folder / "before.pt")


def test_pca_and_kmeans_are_better_with_more_codes(root, tmp_path, capsys):
    errors, misplaced = [], []
    for codes in ("2", "64"):
        pca_kmeans.main(["--data", str(root), "--out", str(tmp_path), "--codes", codes])
        report = json.loads(capsys.readouterr().out)
        errors.append(report["mean_local"])
        misplaced.append(report["signs"]["hands"]["location"])
    assert errors[1] < 0.7 * errors[0] and misplaced[1] < 0.7 * misplaced[0]
    for tokens in read_jsonl(tmp_path / "tokens.jsonl"):
        folders = (root / "frames_512x512", tmp_path / "poses")
        original, decoded = (np.load(folder / f"{tokens.name}.npy") for folder in folders)
        assert len(original) == len(decoded) > tokens.num_frames and bool((tokens.codes >= 0).all())


def test_the_quantiser_is_measured(capsys):
    quantizer.main(["--pairs", "1", "--vectors", "64", "--codes", "16"])
    assert " x" in capsys.readouterr().out.splitlines()[-1]


def test_the_export_is_measured(capsys):
    export.main(["--pairs", "1", "--clips", "8", "--processes", "1", *TINY])
    rows = capsys.readouterr().out.splitlines()
    assert [row.split("  ")[0] for row in rows[1:5]] == ["all codes", "all codes, forward", "budget", "budget, forward"]
    assert all(int(row.split()[-4]) > 0 for row in rows[1:5])


def test_the_scan_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(scan, "STREAM", 20)
    scan.main(["--pairs", "1", "--steps", "9", "--clips", "2", "--long", "5", "9"])
    rows = capsys.readouterr().out.split("\n\n")
    assert [len(part.splitlines()) for part in rows] == [2, 3, 1] and rows[0].count(" x") == 4


def test_an_lstm_in_place_of_a_mixer_has_as_many_weights():
    mixer, other = (sum(p.numel() for p in module.parameters()) for module in (TemporalMixer(512), lstm_for(512)))
    assert 0.95 * mixer < other <= mixer


def lstm_for(width: int) -> torch.nn.Module:
    return recognition_step.Lstm(width, sum(p.numel() for p in TemporalMixer(width).parameters()))


def test_what_signs_should_be_to_a_language_model_has_a_row_for_each(tmp_path, capsys):
    given = [
        option for option in prefix_runs.options(tmp_path, ["a b", "b c"], "train.epochs=1") if "task=" not in option
    ]
    kept = ["--tokens", str(tmp_path), "--out", str(tmp_path / "table.json"), "--seeds", "1"]
    prefix_lm.main([*kept, "--only", "begun rows, flat", "--only", "fresh rows, summed", *given])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "rows" in line]
    lengths = {row[0]: int(row[1]) for row in rows}
    assert (
        lengths["| begun rows, flat"] > lengths["| fresh rows, summed"] == 8
    )  # 5 chunks of its 42 frames, and three ids
