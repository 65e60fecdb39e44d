"""The report of a tiny trained tokenizer: what is in it, that batches and ranks do not matter, and that it stands
where little can be measured."""

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import score, signs
from clips import moving_clip
from data_sets import signer_root, write_csl
from helpers import ARCHS, assert_same, begin_loop, run_steps, tiny_options
from processes import on_ranks
from signstream.config import load_config
from signstream.data.cache import open_cache
from signstream.inference import batches
from signstream.inference.evaluate import main
from signstream.inference.report.build import evaluate, training
from signstream.inference.report.definitions import DEFINITIONS
from signstream.inference.report.files import find_report
from signstream.inference.report.measure import Subject
from signstream.inference.report.sections import SECTIONS
from signstream.inference.tokenizer import Tokenizer
from signstream.space import assemble, in_pixels
from signstream.training import checkpoint
from signstream.training.distributed import Ranks
from signstream.training.run_folder import RunFolder

ROOT = Path(__file__).parents[1]
AS_FILED = ("data.smooth=0", "data.max_gap=0")  # the front end leaves the poses as they are


def trained(folder, root, *options):
    """(options, the run's checkpoint)"""
    options = tiny_options(root, "train.epochs=40", "data.augment.random_phase=false", *options)
    loop = begin_loop(options)
    run_steps(loop, 20)
    loop.validate(health=False)
    checkpoint.save({**loop.state_dict(), "generators": []}, folder / "best.pt")
    return options, folder / "best.pt"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return signer_root(tmp_path_factory.mktemp("signer"), 24, {"train": (0, 12), "val": (12, 22)}, frames=100)


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("run"), root, *AS_FILED)


def evaluated(run, ranks=None, *, split="val", change=lambda tokenizer: None, options=()):
    torch.set_num_threads(1)
    config, tokenizer = load_config(None, [*run[0], *options]), Tokenizer(checkpoint.load(run[1]))
    change(tokenizer)
    cache = open_cache(config.data, quiet=True)
    return evaluate(Subject(tokenizer, config, cache), split, ranks or Ranks())


@pytest.fixture(scope="module")
def report(run):
    return evaluated(run)


def numbers(value, path=""):
    """{path: number} of all that does not depend on the clock or the machine."""
    if isinstance(value, dict):
        return {
            k: v
            for key, item in value.items()
            if (path, key) not in (("", "efficiency"), ("/run", "machine"), ("", "verdict"))
            for k, v in numbers(item, f"{path}/{key}").items()
        }
    if isinstance(value, list):
        return {k: v for i, item in enumerate(value) for k, v in numbers(item, f"{path}/{i}").items()}
    return {path: value}


def assert_same_report(left, right):
    left, right = numbers(left), numbers(right)
    assert left.keys() == right.keys()
    for path, value in left.items():
        assert value == (pytest.approx(right[path], rel=1e-6, abs=1e-6) if isinstance(value, float) else right[path]), (
            path
        )


def test_the_report_has_everything_and_is_json(report):
    parts = ["face", "left_hand", "right_hand", "body", "full_body"]
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert (
        report["parts"]
        == parts
        == list(report["smooth"])
        == list(report["codes"])
        == list(report["stay"])
        == list(report["by_frame"])
    )
    assert list(report["recon"]) == [*parts, "weighted"] and all(
        None not in row.values() for row in report["recon"].values()
    )
    assert all(None not in row.values() for row in report["smooth"].values())
    assert (
        len(report["per_joint"]) == 133 and [report["per_joint"][joint] for joint in (0, 31, 91, 112)] == [None] * 4
    )  # the parts' centres
    assert all(error > 0 for error in [*report["per_joint"][1:11], *report["per_joint"][92:112]])
    assert [len(values) for values in report["by_frame"].values()] == [10] * 5
    assert sum(row["clips"] for row in report["per_signer"].values()) == report["run"]["clips"] == 10
    assert set(report["steady"]) == {"jitter of 1 px", "shift by a frame", "2 % larger", "5 % of joints hidden"}
    assert all(0 <= share <= 1 for levels in report["steady"].values() for row in levels.values() for share in row)
    assert min(report["steady"]["2 % larger"]["face"]) > 0.95  # the unit length takes it out
    for p, part in enumerate(parts):
        assert [level["count"] for level in report["codes"][part]] == [
            sum(level["counts"]) for level in report["codes"][part]
        ]
        assert report["mutual"]["bits"][p][p] == pytest.approx(report["codes"][part][0]["entropy"] * 5)  # 32 codes
    assert report["training"] is None and report["notes"][-1].startswith("training: ")
    assert report["verdict"][0]["grade"] in ("warn", "bad") and report["efficiency"]["ms_per_chunk"] > 0


def test_every_number_is_defined_and_the_docs_say_the_same(report):
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for key, (unit, what, good) in DEFINITIONS.items():
        assert f"| `{key}` | {unit} | {what} | {good} |" in page
    part = {f"{name}/*": report[name]["face"] for name in ("recon", "smooth")} | {"codes/*": report["codes"]["face"][0]}
    part["signs/*"] = {key: row for rows in report["signs"].values() for row in rows.values() for key in row}
    for section, row in (part | {name: report[name] for name in ("rate", "efficiency")}).items():
        assert {key for key in DEFINITIONS if key.startswith(f"{section}/")} == {f"{section}/{key}" for key in row}
    assert set(SECTIONS) <= {key.split("/")[0] for key in DEFINITIONS}


def test_batches_do_not_matter_and_nothing_is_changed(run, report, monkeypatch):
    monkeypatch.setattr(batches, "BATCH_FRAMES", 1)
    kept = []
    assert_same_report(evaluated(run, change=kept.append), report)
    assert_same(dict(kept[0].model.state_dict()), dict(checkpoint.load(run[1])["model"]))


@pytest.mark.parametrize("world", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_ranks_do_not_matter(run, report, tmp_path, world):
    for found in on_ranks(world, partial(evaluated, run), tmp_path):
        assert_same_report(found, report)


def test_the_curve_and_the_rate_are_those_of_the_codes(report):
    full, errors, points = report["recon"]["weighted"]["local"], report["rate"]["hold_error"], report["curve"]
    assert points[-1]["budget"] == points[-1]["uniform"] == pytest.approx(full)
    rates = [point["codes_per_chunk"] for point in points]
    uniform = [point["uniform"] for point in points if point["uniform"]]
    assert (
        rates == sorted(set(rates))
        and rates[-1] <= 15
        and len(uniform) == 3
        and uniform == sorted(uniform, reverse=True)
    )
    assert full <= min(errors.values()) and errors["with"] <= 1.05 * errors["without"]
    assert report["rate"]["symbols_per_chunk"] <= report["rate"]["codes_per_chunk"] <= 6.75
    bits = report["rate"]["bits_per_s"] * report["run"]["seconds"]
    assert bits == pytest.approx(report["rate"]["symbols_per_chunk"] * report["run"]["chunks"] * np.log2(33))
    assert report["rate"]["compression_float32"] == pytest.approx(report["run"]["frames"] * 133 * 2 * 32 / bits)


def test_meaning_is_measured_where_signers_share_glosses(report):
    found = report["meaning"]["segments"]
    assert found["classes"] >= 2 and found["items"] >= 20
    assert [len(found[name]) for name in ("codes", "tokens", "keypoints")] == [3, 3, 3]
    assert report["meaning"]["agreement"]["same gloss, other signer"] is not None
    assert report["meaning"]["clips"] is None and any(
        note.startswith("meaning: 10 clips have a gloss") for note in report["notes"]
    )


# -- the same as benchmarks/score.py


def reconstructed(tokenizer, cache, clip):
    """[T, 133, 3] pixels from all levels, in the original's place."""
    reading = tokenizer.read([cache.frames(clip)], [clip])
    views = tokenizer.joined(tokenizer.model.detokenise(reading.codes), reading.codes[..., 0] >= 0)
    poses = assemble(
        {name: reading.batch.split(view)[clip] for name, view in views.items()},
        tokenizer.skeleton,
        tokenizer.views.space,
    )
    return in_pixels(poses, torch.from_numpy(cache.frames(clip)[:, 0].copy()))


@pytest.mark.parametrize("options", [AS_FILED, ("data.smooth=2", "data.max_gap=4")], ids=["as filed", "smoothed"])
def test_raw_is_what_the_scorer_computes(root, run, report, tmp_path, options):
    if options != AS_FILED:
        run = trained(tmp_path, root, *options)
        report = evaluated(run)
    config, tokenizer = load_config(None, run[0]), Tokenizer(checkpoint.load(run[1]))
    cache = open_cache(config.data, quiet=True)
    names = [cache.clips[clip].name for clip in cache.split("val")]
    for name, clip in zip(names, cache.split("val")):
        np.save(tmp_path / f"{name}.npy", reconstructed(tokenizer, cache, clip).numpy())
    scored = score.score(root / "frames_512x512", tmp_path, names)
    assert scored["clips"] == 10
    for part in ("face", "left_hand", "right_hand", "body"):
        row = report["recon"][part]
        assert row["raw"] == pytest.approx(scored[part]["local"], abs=6e-6)
        assert row["raw_pck_0.1"] == pytest.approx(scored[part]["local_pck@0.1"], abs=6e-5)
        assert row["raw"] == pytest.approx(row["local"], rel=1e-5 if options == AS_FILED else 0.1)
        assert (row["raw"] == pytest.approx(row["local"], rel=1e-5)) == (options == AS_FILED)
    found = signs.measured(root / "frames_512x512", tmp_path, names)
    for hand in ("left_hand", "right_hand", "hands"):  # the unit length is the frame's here, the clip's there
        assert options != AS_FILED or found[hand] == pytest.approx(report["signs"]["full"][hand], rel=0.02)


# -- little to measure


def test_a_split_without_a_usable_clip_has_a_report_and_one_that_is_not_there_is_an_error(run, tmp_path):
    root = write_csl(
        tmp_path / "data",
        {"good": moving_clip(12), "bad": np.zeros((3, 3))},
        {"val": ["bad", "gone"], "train": ["good"]},
    )
    found = evaluated(run, options=[f"data.root={root}", f"data.cache={tmp_path}"])
    assert found["run"]["clips"] == 0 and all(found[section] is None for section in SECTIONS)
    assert (
        len(found["verdict"]) == 1
        and "'val' has no clip" in found["verdict"][0]["text"]
        and found["verdict"][0]["grade"] == "bad"
    )
    first = "bad, shape [3, 3]: [T, 134, 3] or [T, 133, 3] is expected"
    assert found["notes"][0] == f"data: 2 clips of the split were left out, the first: {first}"
    json.dumps(found, allow_nan=False)
    with pytest.raises(ValueError, match=r"the split 'tset' has no clip: those that have are train \(12\), val \(10\)"):
        evaluated(run, split="tset")


def test_clips_without_hands_and_one_of_a_single_frame(run, tmp_path):
    clips = {"no hands": moving_clip(35, 1), "frame": moving_clip(1, 2), "still none": moving_clip(20, 3)}
    for poses in clips.values():
        poses[:, 91:] = 0
    root = write_csl(
        tmp_path / "data",
        clips,
        {"val": list(clips)},
        {name: {"num_frames": len(poses)} for name, poses in clips.items()},
    )
    found = evaluated(run, options=[f"data.root={root}", f"data.cache={tmp_path}"])
    json.dumps(found, allow_nan=False)
    assert found["run"]["clips"] == 3 and found["run"]["chunks"] == 7
    assert (
        found["recon"]["left_hand"]["local"] is None
        and found["recon"]["face"]["local"] > 0
        and found["recon"]["weighted"]["local"] > 0
    )
    never = found["codes"]["left_hand"]
    assert [level["count"] for level in never] == [0, 0, 0] and never[0]["used"] is None
    assert (
        found["mutual"]["bits"][1] == found["stay"]["left_hand"] + [None] * 2 == [None] * 5
        and "left_hand" not in found["by_frame"]
    )
    unknown = {"clips": 3, "local": found["recon"]["weighted"]["local"]}
    assert found["meaning"] is None and found["per_signer"] == {"unknown": unknown}
    assert any(line["grade"] == "warn" and "left hand, right hand" in line["text"] for line in found["verdict"])


def test_a_dead_level_is_said_to_be_dead(run):
    def kill(tokenizer):
        tokenizer.model.quantizer.codebook[0, 1] = 0.0  # all codes of the face's second level are the same

    found = evaluated(run, change=kill)
    level, (_, cost, worst, *_) = found["codes"]["face"][1], found["verdict"]
    assert level["perplexity"] == 1.0 and level["used"] == 1 / 32
    assert "a linear probe" in cost["text"] and worst["grade"] == "bad"
    assert "face, level 2" in worst["text"] and "model.rvq.revive_below" in worst["advice"]


def test_without_a_budget_all_levels_are_sent_and_a_note_says_so(run):
    def spend(tokenizer):
        tokenizer.budget = None

    found = evaluated(run, change=spend)
    assert found["rate"]["codes_per_chunk"] == found["curve"][-1]["codes_per_chunk"] > 13 and found["notes"][
        0
    ].startswith("rate: ")
    assert all(point["budget"] is None for point in found["curve"]) and len(found["curve"]) == 3


def test_curves_of_training_are_thinned_and_keep_their_end(tmp_path):
    lines = [
        {"step": step, "epoch": 1, "split": "train", "loss": 1 / (step + 1), "rec/face": 0.1, "codes/face/0/used": 0.5}
        for step in range(1001)
    ]
    lines += [
        {"step": 500, "epoch": 1, "split": "val", "loss": 0.2},
        {"step": 1000, "epoch": 2, "split": "val", "loss": None, "recon/weighted/local": 0.1},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 1001, "spl')
    found = training(path)
    assert set(found["train"]) == {"step", "epoch", "loss", "rec/face"} and found["train"]["step"][-1] == 1000
    assert 300 < len(found["train"]["step"]) == len(found["train"]["loss"]) <= 400
    assert found["val"]["loss"] == [0.2, None] and found["val"]["recon/weighted/local"] == [None, 0.1]
    assert training(tmp_path / "none") is None
    whole = [json.dumps({"step": step, "split": "train", "loss": step}) for step in (1, 3)]
    path.write_text("\n".join((whole[0], "\0", "[1]", '{"step": 2}', whole[1])))
    assert training(path)["train"] == {"step": [1, 3], "loss": [1, 3]}, "damaged lines are passed over"


# -- the program


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    made = RunFolder.create(tmp_path_factory.mktemp("runs"), "some")
    shutil.copy(run[1], made.best)
    made.metrics.write_text(
        json.dumps({"step": 20, "epoch": 10, "split": "train", "loss": 0.5}) + "\n", encoding="utf-8"
    )
    return made.path


def test_the_program_writes_a_report_and_a_page_and_compares_them(folder, capsys, tmp_path):
    main(["--checkpoint", str(folder.parent), "--split", "val", "--visualize", "--clips", "2", "train.device=cpu"])
    said = capsys.readouterr().out.splitlines()
    found = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    assert (
        said[-1] == str(folder / "report" / "index.html")
        and said[0] == f"{found['verdict'][0]['grade']}: {found['verdict'][0]['text']}"
    )
    assert (
        found["run"]["name"].endswith(folder.name)
        and found["run"]["step"] == 20
        and found["training"]["train"]["loss"] == [0.5]
    )
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "dictionary" in page
    main(
        [
            "--checkpoint",
            str(folder),
            "--split",
            "val",
            "--out",
            str(tmp_path / "other"),
            "train.device=cpu",
            "export.codes_per_chunk=full",
        ]
    )
    other = find_report(str(tmp_path / "other"))
    assert other["rate"]["codes_per_chunk"] > 13 > found["rate"]["codes_per_chunk"] and other["recon"] == found["recon"]
    main(["--compare", str(folder.parent), str(tmp_path / "other"), "--out", str(tmp_path / "both")])
    assert (tmp_path / "both" / "index.html").stat().st_size > 50_000 and not (
        tmp_path / "both" / "report.json"
    ).exists()


def test_mistakes_are_one_line(folder, tmp_path):
    for arguments, message in [
        ([], "either --checkpoint PATH or --compare"),
        (["--checkpoint", "a", "--compare", "b"], "either --checkpoint PATH or --compare"),
        (["--compare", str(folder)], "--compare needs --out"),
        (["--compare", str(folder), "--judge"], "--judge trains on one tokenizer's clips"),
        (["--compare", str(folder), "--visualize"], "--visualize draws one run's clips"),
        (["--compare", str(tmp_path / "none"), "--out", str(tmp_path)], "none has no report.json: make it first"),
        (["--checkpoint", str(tmp_path / "none")], "there is no checkpoint"),
        (["--checkpoint", str(folder), "--clips", "0"], "--clips is 0"),
        (["--checkpoint", str(folder), "data.chunk_len=8"], "data.chunk_len is 8 and the checkpoint's is 10"),
        (["--checkpoint", str(folder), "--split", "tset", "train.device=cpu"], "the split 'tset' has no clip"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            main(arguments)
    (tmp_path / "report.json").write_text("[1]")
    with pytest.raises(ValueError, match="is no report of this version"):
        find_report(str(tmp_path))


def test_help_comes_without_torch():
    command = [sys.executable, "-X", "importtime", "-m", "signstream.inference.evaluate", "--help"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0 and "--visualize" in told.stdout and not re.search(r"\| +torch$", told.stderr, re.M)


def test_with_windows_the_numbers_are_those_of_the_chunks_that_a_clip_has(root, tmp_path):
    run = trained(tmp_path, root, *ARCHS["stgcn"], "train.clips_per_step=4", "data.max_frames=44")
    found = evaluated(run)
    config, tokenizer = load_config(None, run[0]), Tokenizer(checkpoint.load(run[1]))
    cache = open_cache(config.data, quiet=True)
    val = cache.split("val")
    assert found["run"]["chunks"] == sum(-(-cache.clips[i].length // 4) for i in val) and any(
        -(-cache.clips[i].length // 4) % 2 for i in val
    )
    tokens = tokenizer.encode_prepared([cache.frames(i) for i in val], [cache.clips[i].name for i in val])
    sent = sum(int((one.codes >= 0).sum()) for one in tokens)
    assert found["rate"]["codes_per_chunk"] == pytest.approx(sent / found["run"]["chunks"])
    assert found["curve"][-1]["uniform"] < found["curve"][0]["uniform"]
