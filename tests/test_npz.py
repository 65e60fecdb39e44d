"""npz data end to end, by the programs a user calls: converted, trained on, evaluated, exported, decoded; and the
same clip has the same tokens."""

import json
import signal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from clips import moving_clip
from data_sets import cache_of, note, signer_root, write_csl, write_npz
from helpers import tiny_options
from signstream.data import convert
from signstream.inference import decode_tokens, evaluate, export_tokens
from signstream.training import train_rvq

SPLITS = {"train": (0, 14), "val": (14, 20), "test": (20, 24)}


class Roots(NamedTuple):
    csl: Path
    npz: Path
    run: Path  # trained on npz
    caches: str  # the option that says where


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> Roots:
    """The synthetic signer in CSL-Daily's layout and as npz, some of whose frame rates need their every digit, and a
    tiny run on the npz files."""
    folder = tmp_path_factory.mktemp("npz")
    csl, npz = signer_root(folder, 24, SPLITS, frames=60), folder / "npz"
    notes = json.loads((csl / "annotations.json").read_text())
    for name in list(notes)[::3]:
        notes[name]["fps"] = 23.976
    (csl / "annotations.json").write_text(json.dumps(notes))
    assert convert.main(["--from", "csl_daily", "--to", "npz", "--root", str(csl), "--out", str(npz)]) == 0
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    options = tiny_options(npz, "data.layout=npz", "model.arch=mlp", "train.epochs=1")
    assert train_rvq.main(options) in (0, None)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    (run,) = (folder / "runs" / "default").iterdir()
    return Roots(csl, npz, run, f"data.cache={folder / 'cache'}")


def tokens_of(roots: Roots, out: Path, root: Path, layout: str, split: str = "val") -> dict[str, list]:
    """{name: its line's tokens}, by the program."""
    arguments = [
        "--checkpoint",
        str(roots.run),
        "--split",
        split,
        "--out",
        str(out),
        f"data.root={root}",
        f"data.layout={layout}",
        roots.caches,
    ]
    assert export_tokens.main(arguments) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    return {line["video_name"]: [line["num_frames"], line["tokens"]] for line in lines}


def test_a_run_on_npz_validates_and_keeps_its_best(roots):
    lines = [json.loads(line) for line in (roots.run / "metrics.jsonl").read_text().splitlines()]
    assert lines and (roots.run / "best.pt").is_file() and not (roots.run / "skipped.jsonl").read_text()


def test_the_same_clip_in_both_layouts_has_the_same_tokens(roots, tmp_path):
    for split, (first, last) in SPLITS.items():
        npz = tokens_of(roots, tmp_path / f"{split}.npz.jsonl", roots.npz, "npz", split)
        csl = tokens_of(roots, tmp_path / f"{split}.csl.jsonl", roots.csl, "csl_daily", split)
        assert npz == csl and len(npz) == last - first
    assert len({json.dumps(tokens) for tokens in npz.values()}) > 1


@pytest.mark.parametrize("fps", [23.976, 59.94, 30000 / 1001])
def test_a_frame_rate_keeps_its_digits(tmp_path, fps):
    """Rounded to float32, 23.976 frames a second give frames at other times, and other bits."""
    poses = moving_clip(300)
    csl = cache_of(write_csl(tmp_path / "csl", {"a": poses}, notes={"a": note(poses, fps=fps)}))
    npz = cache_of(write_npz(tmp_path / "npz", {"a": {"poses": poses, "fps": np.array(fps)}}), layout="npz")
    assert np.array_equal(npz.frames(0), csl.frames(0))


def test_a_pose_file_between_them_changes_no_token(roots, tmp_path):
    pytest.importorskip("pose_format", reason="pose-format is not installed")
    for origin, target, root, out in (
        ("npz", "pose", roots.npz, "dot_pose"),
        ("pose", "npz", tmp_path / "dot_pose", "again"),
    ):
        assert (
            convert.main(
                ["--from", origin, "--to", target, "--root", str(root), "--out", str(tmp_path / out), "--splits", "val"]
            )
            == 0
        )
    expected = tokens_of(roots, tmp_path / "before.jsonl", roots.npz, "npz")
    assert tokens_of(roots, tmp_path / "after.jsonl", tmp_path / "again", "npz") == expected


def test_frames_that_the_mask_leaves_out_are_missing(roots, tmp_path):
    """Whatever they hold, and just as if no joint had been seen in them."""
    folder = tmp_path / "masked" / "processed" / "val"
    folder.mkdir(parents=True)
    poses = np.load(
        roots.npz
        / "processed"
        / "val"
        / f"{min(path.stem for path in (roots.npz / 'processed' / 'val').iterdir())}.npz"
    )["poses"]
    mask = np.ones(len(poses), bool)
    mask[20:45] = False
    noise = np.where(mask[:, None, None], poses, np.random.default_rng(0).uniform(0.5, 500, poses.shape)).astype(
        np.float32
    )
    np.savez(folder / "masked.npz", poses=poses, mask=mask)
    np.savez(folder / "noise.npz", poses=noise, mask=mask.astype(np.int64))
    np.savez(folder / "unseen.npz", poses=poses * mask[:, None, None])
    np.savez(folder / "whole.npz", poses=poses, mask=np.ones(len(poses), bool))
    np.savez(folder / "no_mask.npz", poses=poses)
    tokens = tokens_of(roots, tmp_path / "tokens.jsonl", tmp_path / "masked", "npz")
    assert tokens["masked"] == tokens["noise"] == tokens["unseen"]
    assert tokens["whole"] == tokens["no_mask"] != tokens["masked"]


def test_evaluate_measures_npz_as_it_does_the_other_layout(roots, tmp_path):
    for layout, root in (("npz", roots.npz), ("csl_daily", roots.csl)):
        evaluate.main(
            [
                "--checkpoint",
                str(roots.run),
                "--split",
                "test",
                "--out",
                str(tmp_path / layout),
                f"data.root={root}",
                f"data.layout={layout}",
                roots.caches,
            ]
        )
    npz, csl = (json.loads((tmp_path / layout / "report.json").read_text()) for layout in ("npz", "csl_daily"))
    assert npz["recon"] == csl["recon"] and npz["codes"] == csl["codes"]
    assert (
        npz["per_signer"] == csl["per_signer"]
        and "unknown" not in npz["per_signer"]
        and npz["meaning"] == csl["meaning"]
    )


def test_decode_stands_the_poses_where_the_npz_clip_is(roots, tmp_path):
    tokens_of(roots, tmp_path / "tokens.jsonl", roots.npz, "npz")
    for layout, root in (("npz", roots.npz), ("csl_daily", roots.csl)):
        decode_tokens.main(
            [
                "--checkpoint",
                str(roots.run),
                "--tokens",
                str(tmp_path / "tokens.jsonl"),
                "--out",
                str(tmp_path / layout),
                "--reference",
                str(root),
                "--split",
                "val",
                f"data.layout={layout}",
            ]
        )
    names = sorted(path.stem for path in (roots.npz / "processed" / "val").iterdir())
    assert sorted(path.stem for path in (tmp_path / "npz").iterdir()) == names
    for name in names:
        poses = np.load(tmp_path / "npz" / f"{name}.npy", allow_pickle=False)
        with np.load(roots.npz / "processed" / "val" / f"{name}.npz", allow_pickle=False) as clip:
            assert poses.shape == clip["poses"].shape
        assert np.array_equal(poses, np.load(tmp_path / "csl_daily" / f"{name}.npy", allow_pickle=False))
