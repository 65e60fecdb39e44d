"""The live program: the rows of the file's tokens as soon as they are known, from a file or line by line, in memory
that does not grow."""

import io
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from signstream.data.datasets import Clip, open_data
from signstream.inference import chunk_lines, stream
from signstream.inference.tokenizer import Tokenizer
from signstream.tokens.rle import expand
from test_export import ROOT, Tiny, make_tiny

BESIDE = ("ms", "behind_frames")  # what a row says beside its tokens


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def clip(tiny) -> Clip:
    return open_data(tiny.tokenizer.config.data).load("val", tiny.cache.clips[tiny.cache.split("val")[0]].name)


def run(tiny: Tiny, capsys, *options: str) -> tuple[dict, list[dict]]:
    """Its header and its rows."""
    stream.main(["--checkpoint", str(tiny.checkpoint), *options])
    header, *rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return header, rows


def codes_of(rows: list[dict], tiny: Tiny) -> torch.Tensor:
    tokens = [{key: value for key, value in row.items() if key not in BESIDE} for row in rows]
    return expand(tokens, tiny.tokenizer.parts, 3, codebook_size=32)


def type_in(monkeypatch, lines: list[str]) -> None:
    monkeypatch.setattr(
        sys, "stdin", SimpleNamespace(buffer=io.BytesIO("".join(f"{line}\n" for line in lines).encode()))
    )


def as_lines(poses: np.ndarray) -> list[str]:
    return [json.dumps(frame) for frame in poses.tolist()]


@pytest.mark.parametrize(
    ("options", "rate", "hold"),
    [
        ((), 6.0, 0.01),
        (("export.codes_per_chunk=full", "export.rle_threshold=0.1"), "full", 0.1),
        (("export.enable_rle=false",), 6.0, 0.0),
    ],
)
def test_the_rows_are_the_tokens_of_the_file(tiny, clip, tmp_path, monkeypatch, capsys, options, rate, hold):
    own = tiny.tokenizer
    own.codes_per_chunk, own.hold = rate, hold
    np.save(tmp_path / "clip.npy", clip.poses)
    header, rows = run(tiny, capsys, "--input", str(tmp_path / "clip.npy"), *options)
    assert header == {
        "fps": 30.0,
        "chunk_len": 10,
        "tokenizer": own.digest,
        "levels": dict.fromkeys(own.parts, 3),
        "codebook_size": 32,
    }
    assert torch.equal(codes_of(rows, tiny), own.encode(clip.poses).codes)
    assert any(row[tag][:1] == ["NC"] for row in rows for tag in own.parts) == (hold > 0)
    type_in(monkeypatch, as_lines(clip.poses))
    typed = run(tiny, capsys, *options)
    assert [{**row, "ms": 0} for row in typed[1]] == [{**row, "ms": 0} for row in rows]


def test_a_chunk_comes_as_soon_as_it_is_known(tiny, clip, tmp_path, capsys):
    """The lookahead is 6 frames; the end of the input waits for none. At half of the rate it is as long, in half as
    many frames."""
    np.save(tmp_path / "clip.npy", clip.poses[:47])
    _, rows = run(tiny, capsys, "--input", str(tmp_path / "clip.npy"))
    assert [row["behind_frames"] for row in rows] == [6, 6, 6, 6, 0]
    assert all(0 < row["ms"] < 10_000 for row in rows)
    _, rows = run(tiny, capsys, "--input", str(tmp_path / "clip.npy"), "--fps", "15")
    assert [row["behind_frames"] for row in rows] == [4] * 8 + [2, 0]
    plain, played = (
        run(tiny, capsys, "--input", str(tmp_path / "clip.npy"), "--fps", "120", *more)[1]
        for more in ((), ("--realtime",))
    )
    assert torch.equal(codes_of(played, tiny), codes_of(plain, tiny))


@pytest.mark.parametrize(
    "form",
    [lambda p: np.concatenate((np.full((len(p), 1, 3), 512), p), 1), np.asfortranarray, lambda p: p.astype(">f8")],
)
def test_files_of_other_forms_are_the_same(tiny, clip, tmp_path, capsys, form):
    poses = clip.poses[:25].astype(np.float32)
    np.save(tmp_path / "plain.npy", poses)
    np.save(tmp_path / "clip.npy", form(poses))
    found = [run(tiny, capsys, "--input", str(tmp_path / f"{name}.npy"))[1] for name in ("plain", "clip")]
    assert torch.equal(*(codes_of(rows, tiny) for rows in found))


def test_memory_does_not_grow_over_3000_frames(tiny, clip, monkeypatch, capsys):
    sizes, real = [], Tokenizer.stream

    def noted(self, fps=None):
        live = real(self, fps)
        push = live.push

        def measured(frame):
            chunks = push(frame)
            front = live.front
            sizes.append(
                (
                    len(live.rows),
                    len(front.source),
                    len(front.buffer),
                    len(front.units),
                    *(len(m.values) for m in front.unit.medians),
                )
            )
            return chunks

        live.push = measured
        return live

    monkeypatch.setattr(Tokenizer, "stream", noted)
    poses = np.resize(clip.poses, (3000, 133, 3))
    type_in(monkeypatch, as_lines(poses))
    _, rows = run(tiny, capsys)
    assert [row["t"] for row in rows] == list(range(300))
    early, late = np.array(sizes[:600]).max(0), np.array(sizes[600:]).max(0)
    assert len(sizes) == 3001 and (late <= early).all() and late.max() <= 300


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("", "Expecting value"),
        ("[[1, 2, 3]]", r"\[1, 3\] of int64"),
        ("[1, 2", "Expecting"),
        ("null", "object"),
        ("[" * 5000, "recursion|Expecting"),
        (json.dumps([[1, 2]] * 133), r"\[133, 2\]"),
        (json.dumps([[1, 2, None]] * 133), "object"),
        (json.dumps([["1", "2", "3"]] * 133), "of <U1"),
        (json.dumps([[1, 2, 3]] * 132 + [[1, 2]]), "inhomogeneous"),
        (json.dumps([[1, 2, 3.5]] * 20_000), "Expecting"),
        ("\xff", "Expecting"),
    ],
)
def test_a_malformed_frame_is_an_error_that_names_its_line(tiny, clip, monkeypatch, capsys, line, fault):
    type_in(monkeypatch, [*as_lines(clip.poses[:17]), line, *as_lines(clip.poses[:3])])
    with pytest.raises(ValueError, match=rf"standard input, line 18: .*({fault}).*; a frame is 133 lists of 3 numbers"):
        stream.main(["--checkpoint", str(tiny.checkpoint)])
    assert len(capsys.readouterr().out.splitlines()) == 2, "the header and the chunk before it"


def test_what_is_no_number_is_a_missing_joint(tiny, clip, monkeypatch, capsys):
    poses = clip.poses[:30].astype(float)
    poses[:, 100] = 0
    type_in(monkeypatch, as_lines(poses))
    _, plain = run(tiny, capsys)
    for missing in (np.nan, 1e300):
        poses[:, 100] = missing
        type_in(monkeypatch, as_lines(poses))
        assert torch.equal(codes_of(run(tiny, capsys)[1], tiny), codes_of(plain, tiny))


def test_a_wrong_file_or_option_is_one_line(tiny, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/evil",)

    np.save(tmp_path / "pickle.npy", np.full((4, 133, 3), Evil()), allow_pickle=True)
    np.save(tmp_path / "other.npy", np.zeros((4, 17, 3)))
    np.save(tmp_path / "flat.npy", np.zeros((4, 133)))
    (tmp_path / "text.npy").write_text("hello")
    for options, message in (
        (("--input", str(tmp_path / "pickle.npy")), r"pickle.npy: .*\[T, 133, 3\]"),
        (("--input", str(tmp_path / "other.npy")), r"shape \[4, 17, 3\]"),
        (("--input", str(tmp_path / "flat.npy")), r"shape \[4, 133\]"),
        (("--input", str(tmp_path / "text.npy")), r"not an npy file"),
        (("--input", str(tmp_path / "gone.npy")), r"gone.npy: missing file"),
        (("--realtime",), r"name it with --input"),
        (("--fps", "0"), r"--fps is 0"),
        (("data.max_gap=0",), r"data.max_gap is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            stream.main(["--checkpoint", str(tiny.checkpoint), *options])
    assert not (tmp_path / "evil").exists()


def test_realtime_plays_at_the_files_pace():
    """Against a clock that only sleeping moves."""
    clock = SimpleNamespace(
        now=0.0, perf_counter=lambda: clock.now, sleep=lambda s: setattr(clock, "now", clock.now + s)
    )
    real, chunk_lines.time = chunk_lines.time, clock
    try:
        at = [clock.now for _ in chunk_lines.at_own_pace(iter(range(90)), 30)]
    finally:
        chunk_lines.time = real
    assert at == pytest.approx([i / 30 for i in range(90)])


def test_ctrl_c_writes_the_last_chunks_and_ends_quietly(tiny, clip):
    """26 frames: the second chunk is known with the last of them, so nothing is left to read."""
    process = subprocess.Popen(
        [sys.executable, "-m", "signstream.inference.stream", "--checkpoint", str(tiny.checkpoint)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    process.stdin.write("".join(f"{line}\n" for line in as_lines(clip.poses[:26])))
    process.stdin.flush()
    lines = [process.stdout.readline() for _ in range(3)]  # the header and two chunks reach us while the input is open
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    tiny.tokenizer.codes_per_chunk, tiny.tokenizer.hold = 6.0, 0.01
    rows = [json.loads(line) for line in [*lines[1:], *rest.splitlines()]]
    assert torch.equal(codes_of(rows, tiny), tiny.tokenizer.encode(clip.poses[:26]).codes)
