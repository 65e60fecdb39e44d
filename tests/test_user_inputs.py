"""What a user's program hands to the tokenizer, options that are repeated beside a checkpoint, names that hold odd
characters, and outputs that have no room: right, or one line."""

import json
import os
import resource
import signal
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import signstream
from data_sets import cache_of, signer_root, whole_clip, write_csl, write_npz
from helpers import ARCHS, begin_loop, run_steps, tiny_options
from processes import life
from signstream import cli
from signstream.data.frontend import FrontEnd, frame_rate, prepare
from signstream.data.synthetic.dataset import generate
from signstream.errors import UserError
from signstream.inference import decode_tokens, evaluate, export_tokens, stream
from signstream.inference.report import files as report_files
from signstream.inference.session import open_session
from signstream.io.whole import write_together
from signstream.training import checkpoint
from signstream.training.run_folder import RunFolder

POSES = whole_clip(12)
RATES = [1e-9, -1, 0, 0.0, float("nan"), float("inf"), "25", True, [25], 1001, 10**400, 1j]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A tiny trained stgcn, by checkpointed steps: its run's folder."""
    folder = tmp_path_factory.mktemp("made")
    root = signer_root(folder, 24, {"train": (0, 14), "val": (14, 18)}, frames=60)
    loop = begin_loop(
        tiny_options(root, *ARCHS["stgcn"], "model.checkpointing=true", "train.epochs=12", "train.clips_per_step=4")
    )
    run_steps(loop, 5)
    loop.validate(health=False)
    made = RunFolder.create(folder / "runs", "default")
    checkpoint.save({**loop.state_dict(), "generators": []}, made.best)
    return made.path


@pytest.fixture(scope="module")
def tokenizer(run):
    return signstream.load(run, "cpu")


def refused(call) -> str:
    with pytest.raises(UserError) as caught:
        call()
    line = str(caught.value)
    assert len(line) < 400 and line.isprintable()
    return line


@contextmanager
def no_room(size: int):
    """A limit on the size of files stands in for a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


# -- numbers


@pytest.mark.parametrize("fps", RATES, ids=map(str, range(len(RATES))))
def test_a_frame_rate_that_is_none_is_one_line_everywhere(tokenizer, fps):
    skeleton, data = tokenizer.skeleton, tokenizer.config.data
    for call in (
        lambda: tokenizer.encode(POSES, fps=fps),
        lambda: tokenizer.stream(fps),
        lambda: FrontEnd(skeleton, data, fps),
        lambda: prepare(torch.from_numpy(POSES), skeleton, data, fps=fps),
    ):
        assert refused(call).startswith("fps is ") and "1 to 1000 frames a second" in refused(call)


def test_frame_rates_that_there_are_stay_as_they_are(tokenizer):
    assert [frame_rate(value) for value in (1, 1000, 23.976, np.float64(25))] == [1.0, 1000.0, 23.976, 25.0]
    whole = tokenizer.encode(POSES)
    assert torch.equal(tokenizer.encode(POSES, fps=tokenizer.config.data.fps).codes, whole.codes)
    assert tokenizer.encode(POSES, fps=np.float32(15)).num_frames == 24
    for value in ("-1", "nan", "1e-9"):
        assert refused(partial(stream.main, ["--checkpoint", "none", "--fps", value])).startswith("--fps is ")
    assert "data.fps is 1e-06: from 1 to 1000" in refused(lambda: begin_loop(["data.fps=1e-6"]))


@pytest.mark.parametrize(
    "poses",
    [
        POSES.astype(complex),
        POSES.astype(str),
        POSES.astype("datetime64[s]"),
        [[1], [2, 3]],
        np.array([None] * 9),
        "poses",
        None,
        np.ma.masked_array(POSES, POSES > 200),
        torch.from_numpy(POSES).to(torch.complex64),
        torch.from_numpy(POSES).to_sparse(),
        POSES[:, :100],
        POSES[None],
    ],
    ids=range(12),
)
def test_poses_of_an_odd_kind_are_one_line(tokenizer, poses):
    for call in (lambda: tokenizer.encode(poses), lambda: tokenizer.stream().push(poses)):
        assert "poses are" in refused(call) and "\n" not in refused(call)


def test_poses_of_any_numbers_are_the_same_poses(tokenizer):
    codes = tokenizer.encode(POSES).codes
    whole = torch.from_numpy(POSES)
    for poses in (POSES.astype(np.float64), POSES.astype(np.int32), POSES.tolist(), POSES.astype(object), whole.half()):
        assert torch.equal(tokenizer.encode(poses).codes, codes)
    assert torch.equal(tokenizer.encode(whole.requires_grad_()).codes, codes)
    live = tokenizer.stream()
    chunks = [chunk for frame in POSES.tolist() for chunk in live.push(frame)] + live.finish()
    assert torch.equal(torch.stack([chunk.codes for chunk in chunks]), codes)
    huge = np.where(POSES > 300, 1e300, POSES.astype(np.float64))
    tokenizer.encode(huge)  # beyond float32's range it is missing, without a warning


PLACES = [(1, 2), (1, 2, float("nan")), (1, 2, 0), (1, 2, -3), "abc", np.ones((11, 3)), np.ones((3, 12)), {}, object()]


@pytest.mark.parametrize("place", PLACES, ids=range(len(PLACES)))
def test_a_place_that_is_none_is_one_line(tokenizer, place):
    assert refused(lambda: tokenizer.decode(tokenizer.encode(POSES), place)).startswith("the place is ")


def test_places_that_there_are(tokenizer):
    tokens = tokenizer.encode(POSES)
    at = tokenizer.decode(tokens, (3, 4, 50))
    for place in ([3.0, 4, 50], torch.tensor([[3, 4, 50]]), np.tile((3, 4, 50), (12, 1))):
        assert torch.equal(tokenizer.decode(tokens, place), at)
    assert "a TokenSequence is expected" in refused(lambda: tokenizer.decode("tokens"))


# -- options beside a checkpoint


def test_what_a_checkpoint_has_may_be_repeated_beside_it(run, tmp_path):
    """It is held against the checkpoint's architecture, not against the default one."""
    same = ["model.checkpointing=true"]
    with open_session(run, overrides=same) as session:
        assert session.config.model.checkpointing and session.config.model.arch == "stgcn"
    assert evaluate.main(["--checkpoint", str(run), "--split", "val", "--out", str(tmp_path / "report"), *same]) is None
    assert json.loads((tmp_path / "report" / "report.json").read_text())["config"]["model"]["arch"] == "stgcn"
    out = str(tmp_path / "tokens.jsonl")
    assert export_tokens.main(["--checkpoint", str(run), "--out", out, "--num-samples", "2", *same]) == 0
    log = tmp_path / "log"
    assert life(["--checkpoint", str(run), *same, "train.epochs=12", "train.patience=1"], ("in validation", 1)) < 0
    assert life(["--checkpoint", str(run), "model.pool=mean"], log=log) == 2
    assert "model.pool is mean, but with model.arch stgcn nothing reads it" in log.read_text()


# -- names


@pytest.mark.parametrize("name", ["a\nb", "a\u202eb", "\u2066a", "a\x1b[2J", "a\0b"])
def test_a_clip_is_left_out_if_its_name_cannot_be_printed(name, tmp_path):
    root = write_csl(tmp_path / "data", {"good": POSES}, {"train": ["good", name]}, {name: {}})
    (line,) = cache_of(root).skipped
    assert "unsafe name: it " in line.reason and line.name.isprintable()
    root = write_csl(tmp_path / "other", {"good": POSES}, {"train": ["good"], name: []})
    assert "unsafe name" in refused(lambda: cache_of(root))


def test_a_folder_is_no_split_if_its_name_cannot_be_printed(tmp_path):
    root = write_npz(tmp_path / "data", {"good": {"poses": POSES}})
    write_npz(root, {"good": {"poses": POSES}}, "va\u202el")
    assert "has an unsafe name: it holds the character \\u202e" in refused(lambda: cache_of(root, layout="npz"))


def test_tokens_of_such_a_name_are_not_written_as_a_file(run, tokenizer, tmp_path):
    """They may be read: a name is what the file says, and JSON can say anything."""
    tokens = tokenizer.encode(POSES, name="a\n\u202eb")
    (tmp_path / "tokens.jsonl").write_text(json.dumps(tokens.to_json()))
    arguments = ["--checkpoint", str(run), "--tokens", str(tmp_path / "tokens.jsonl"), "--out", str(tmp_path / "out")]
    assert "unsafe name: it holds the character \\n" in refused(lambda: decode_tokens.main(arguments))
    assert not (tmp_path / "out").exists()


# -- outputs


def test_a_full_disk_leaves_a_report_as_it_was(tmp_path):
    report_files.write(tmp_path, "the page", {"a": 1})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before.keys() == {"index.html", "report.json"}
    for page, report in (("x" * 9000, {"b": 2}), ("y", {"b": "z" * 9000})):
        with no_room(5000), pytest.raises(OSError) as caught:
            report_files.write(tmp_path, page, report)
        assert str(tmp_path) in cli.told_as(caught.value), "it says which file"
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    report_files.write(tmp_path, "another page", {"b": 2})
    assert json.loads((tmp_path / "report.json").read_text()) == {"b": 2}


def test_an_export_says_what_it_replaces(run, tokenizer, tmp_path, capsys):
    out, half = tmp_path / "tokens.jsonl", ["--num-samples", "2"]
    arguments = ["--checkpoint", str(run), "--out", str(out)]
    assert export_tokens.main([*arguments, *half]) == 0
    assert "replaces" not in capsys.readouterr().out
    assert export_tokens.main(arguments) == 0
    assert f"{out} is an export of the tokenizer {tokenizer.digest}, which this one replaces" in capsys.readouterr().out
    out.write_bytes(b"\xff notes of a user")
    assert export_tokens.main(arguments) == 0
    assert f"{out} is another file, which this one replaces when it is whole" in capsys.readouterr().out


def test_nothing_is_written_over_what_is_no_file(run, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for out in (tmp_path / "pipe", Path("/dev/null")):
        line = refused(partial(export_tokens.main, ["--checkpoint", str(run), "--out", str(out)]))
        assert line == f"--out {out} is no file"
        assert "is no file" in refused(partial(write_together, {out: b"x"}))
    assert Path("/dev/null").is_char_device()


def test_an_export_without_room_keeps_what_is_finished(run, tmp_path):
    out = tmp_path / "tokens.jsonl"
    arguments = ["--checkpoint", str(run), "--out", str(out)]
    assert export_tokens.main(arguments) == 0
    whole = out.read_bytes()
    out.unlink()
    with no_room(len(whole) // 2):
        line = refused(lambda: export_tokens.main(arguments))
    assert line.startswith(f"cannot write {tmp_path}/.tokens.jsonl.rank0.part: ") and "goes on with it" in line
    assert not out.exists()
    assert export_tokens.main(arguments) == 0
    assert out.read_bytes() == whole


def test_a_data_set_without_room_is_one_line(tmp_path):
    """numpy says "41496 requested and 8160 written", without a number and a name."""
    with no_room(8160):
        line = refused(lambda: generate(tmp_path / "out", clips=8, workers=1))
    assert "cannot write --out" in line and "No space left on device" in line and "None" not in line
    assert not list(tmp_path.iterdir())
