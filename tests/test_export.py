"""Export: the same bytes over any number of ranks, in any batches, interrupted or not; what is written reads back;
what fails is named."""

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch

import signstream
from data_sets import signer_root
from helpers import begin_loop, run_steps, tiny_options
from processes import PROCESSES, on_ranks
from signstream.data.transforms import varied
from signstream.inference import batches, export_tokens
from signstream.inference.session import open_session
from signstream.inference.tokenizer import Tokenizer
from signstream.io.pose_cache import PoseCache
from signstream.tokens.format import read_jsonl
from signstream.tokens.vocabulary import Vocabulary
from signstream.training import checkpoint
from signstream.training.run_folder import RunFolder

ROOT = Path(__file__).parents[1]


class Tiny(NamedTuple):
    root: Path
    checkpoint: Path
    tokenizer: Tokenizer
    cache: PoseCache


def make_tiny(folder: Path) -> Tiny:
    """A data root and a tiny trained checkpoint, in a run's folder."""
    root = signer_root(folder, 24, {"train": (0, 14), "val": (14, 24)}, frames=100)
    loop = begin_loop(tiny_options(root, "train.epochs=40", "model.arch=mlp"))
    run_steps(loop, 30)
    loop.validate(health=False)
    run = RunFolder.create(folder / "runs", "default")
    checkpoint.save({**loop.state_dict(), "generators": []}, run.best)
    return Tiny(root, run.best, signstream.load(run.best, device="cpu"), loop.task.setup.cache)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("made"))


def export(tiny: Tiny, out: Path, *options: str) -> int:
    return export_tokens.main(["--checkpoint", str(tiny.checkpoint), "--out", str(out), *options])


def val(tiny: Tiny) -> list[int]:
    return tiny.cache.split("val")


@pytest.fixture(scope="module")
def straight(tiny, tmp_path_factory) -> bytes:
    """The bytes of one process that nothing interrupted."""
    out = tmp_path_factory.mktemp("straight") / "tokens.jsonl"
    assert export(tiny, out) == 0
    return out.read_bytes()


def on_rank(arguments: list[str], die_at: dict[int, int], rank: int) -> int:
    """The program as one rank of several; `die_at` {rank: the encoded batch at which it is killed}. A batch is a clip
    or two."""
    batches.BATCH_FRAMES = 210
    real = Tokenizer.encode_both
    encoded = []

    def encode_both(self, clips, names):
        if names != ["clip"]:
            encoded.append(names)
            if len(encoded) == die_at.get(rank):
                os.kill(os.getpid(), signal.SIGKILL)
        return real(self, clips, names)

    Tokenizer.encode_both = encode_both
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return export_tokens.main(arguments)


def killed(arguments: list[str], batch: int) -> None:
    """One process, killed before its batch of this number."""
    process = PROCESSES.Process(target=on_rank, args=(arguments, {0: batch}, 0))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def parts_of(out: Path) -> dict[str, int]:
    """The part files beside an output and how many rows each has."""
    return {path.name: path.read_bytes().count(b"\n") - 1 for path in sorted(out.parent.glob(".*.part"))}


def test_the_tokens_are_the_tokenizers_in_the_splits_order(tiny, straight, tmp_path):
    out = tmp_path / "tokens.jsonl"
    out.write_bytes(straight)
    found = list(read_jsonl(out))
    assert [tokens.name for tokens in found] == [tiny.cache.clips[i].name for i in val(tiny)]
    for tokens, i in zip(found, val(tiny)):
        (alone,) = tiny.tokenizer.encode_prepared([tiny.cache.frames(i)], [tokens.name])
        assert torch.equal(tokens.codes, alone.codes) and tokens.check == alone.check


@pytest.mark.parametrize("frames", [1, 500])
def test_batches_do_not_matter(tiny, straight, tmp_path, monkeypatch, frames):
    monkeypatch.setattr(batches, "BATCH_FRAMES", frames)
    out = tmp_path / "tokens.jsonl"
    assert export(tiny, out) == 0
    assert out.read_bytes() == straight
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokens.jsonl", "tokens.vectors.npz"]


def test_two_ranks_give_the_same_bytes(tiny, straight, tmp_path):
    out = tmp_path / "tokens.jsonl"
    work = partial(on_rank, ["--checkpoint", str(tiny.checkpoint), "--out", str(out)], {})
    assert on_ranks(2, work, tmp_path / "ranks", join=False) == [0, 0]
    assert out.read_bytes() == straight and not parts_of(out)


def test_killed_and_resumed_with_other_ranks_it_gives_the_same_bytes(tiny, straight, tmp_path):
    out = tmp_path / "tokens.jsonl"
    out.write_text("an older export, which stays until this one is whole")
    arguments = ["--checkpoint", str(tiny.checkpoint), "--out", str(out)]
    killed(arguments, 3)
    first = parts_of(out)
    assert list(first) == [".tokens.jsonl.rank0.part"] and 2 <= first[".tokens.jsonl.rank0.part"] <= 6
    with (tmp_path / ".tokens.jsonl.rank0.part").open("ab") as file:
        file.write(b"17\t[1.0, 2")  # as a power cut leaves it
    killed(arguments, 2)
    second = parts_of(out)
    assert second[".tokens.jsonl.rank0.part"] > first[".tokens.jsonl.rank0.part"] and out.read_text().startswith(
        "an older"
    )
    (tmp_path / ".tokens.jsonl.0a1b2c3d.part").write_bytes(straight[:100])  # what a kill in the merge leaves
    assert on_ranks(2, partial(on_rank, arguments, {}), tmp_path / "ranks", join=False) == [0, 0]
    assert out.read_bytes() == straight
    assert not parts_of(out)


def test_an_export_of_two_ranks_is_finished_by_one(tiny, straight, tmp_path):
    """Its part files, as two ranks leave them, with a row of each missing."""
    out = tmp_path / "tokens.jsonl"
    arguments = ["--checkpoint", str(tiny.checkpoint), "--out", str(out)]
    killed(arguments, 4)
    part, other = (tmp_path / f".tokens.jsonl.rank{rank}.part" for rank in (0, 5))
    header, *rows = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(header + b"".join(rows[0::2]))
    other.write_bytes(header + b"".join(reversed(rows[3::2])))
    assert export(tiny, out) == 0
    assert out.read_bytes() == straight and not parts_of(out)


def test_part_files_of_another_export_are_not_taken(tiny, straight, tmp_path):
    out = tmp_path / "tokens.jsonl"
    killed(["--checkpoint", str(tiny.checkpoint), "--out", str(out), "export.codes_per_chunk=9"], 3)
    assert parts_of(out)
    assert export(tiny, out) == 0
    assert out.read_bytes() == straight and not parts_of(out)


@pytest.mark.parametrize("layout", ["chunk", "part"])
@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_formats_and_layouts_hold_the_same_codes(tiny, straight, tmp_path, form, layout):
    (tmp_path / "straight").write_bytes(straight)
    assert export(tiny, tmp_path / "out", "--format", form, "--layout", layout) == 0
    for ours, theirs in zip(read_jsonl(tmp_path / "out"), read_jsonl(tmp_path / "straight"), strict=True):
        assert torch.equal(ours.codes, theirs.codes) and ours.check == theirs.check


def test_options_decide_what_is_written(tiny, straight, tmp_path, capsys):
    out = tmp_path / "tokens.jsonl"
    assert (
        export(tiny, out, "export.codes_per_chunk=full", "--num-samples", "3", "--no-rle", "--body-parts", "LH", "F")
        == 0
    )
    printed = capsys.readouterr().out
    assert "3 clips of val" in printed
    assert "held" not in printed  # nothing holds, whatever codes come twice
    found, whole = list(read_jsonl(out)), tiny.tokenizer
    whole.codes_per_chunk, whole.hold = "full", 0.0
    for tokens, i in zip(found, val(tiny)[:3], strict=True):
        (alone,) = whole.encode_prepared([tiny.cache.frames(i)], [tokens.name])
        assert tokens.parts == ("F", "LH") and torch.equal(tokens.codes, alone.codes[:, [0, 1]])
    assert "NC" not in out.read_text()
    assert export(tiny, out, "export.enable_rle=false") == 0 and "NC" not in out.read_text()
    assert export(tiny, out, "export.enable_rle=false", "--rle") == 0 and out.read_bytes() == straight


def test_augmented_clips_have_other_tokens_that_follow_from_the_seed(tiny, straight, tmp_path):
    whole = ("export.codes_per_chunk=full", "export.enable_rle=false")
    for name, more in (
        ("plain", ()),
        ("again", ("--augment=3",)),
        ("other", ("--augment=4",)),
        ("3", ("--augment=3",)),
    ):
        assert export(tiny, tmp_path / f"{name}.jsonl", *more, *whole) == 0
    assert (tmp_path / "3.jsonl").read_bytes() == (tmp_path / "again.jsonl").read_bytes()
    plain, other, clips = (list(read_jsonl(tmp_path / f"{name}.jsonl")) for name in ("plain", "other", "again"))
    with open_session(tiny.checkpoint, None, [*whole, "train.device=cpu"]) as session:
        tokenizer = session.tokenizer
    for i, one, two, three in zip(val(tiny), plain, other, clips):
        frames = torch.from_numpy(tiny.cache.frames(i).copy())
        changed = varied(frames, tokenizer.config.data, tokenizer.skeleton, seed=(3, i))
        (expected,) = tokenizer.encode_prepared([changed.numpy()], [one.name])
        assert torch.equal(three.codes, expected.codes) and three.num_frames == len(changed)
        assert one.name == two.name == three.name and not torch.equal(two.codes, three.codes)
        assert not torch.equal(one.codes, three.codes)


def test_the_summary_counts_what_is_in_the_file(tiny, straight, tmp_path, capsys):
    out = tmp_path / "tokens.jsonl"
    export(tiny, out)
    lines = [json.loads(line) for line in straight.splitlines()]
    entries = [entry for line in lines for row in line["tokens"] for tag, entry in row.items() if tag != "t"]
    symbols = sum(1 if entry[:1] == ["NC"] else len(entry) for entry in entries)
    codes = torch.cat([tokens.codes for tokens in read_jsonl(out)])
    chunks, seconds = len(codes), sum(line["num_frames"] / line["fps"] for line in lines)
    printed = capsys.readouterr().out
    rate = f"{(codes >= 0).sum() / chunks:.2f} codes and {symbols / chunks:.2f} symbols a chunk"
    assert f"{len(lines)} clips, {chunks} chunks, {rate}" in printed
    assert f"{symbols * np.log2(33) / seconds:.0f} bits/s; 0 clips failed" in printed
    assert "% of the part-chunks held, " in printed


def test_what_fails_is_named_and_the_rest_is_there(tiny, straight, tmp_path, monkeypatch, capsys):
    names = [tiny.cache.clips[i].name for i in val(tiny)]
    real = Tokenizer.encode_prepared

    def encode_prepared(self, clips, asked):
        if names[2] in asked:
            raise ValueError("it cannot be encoded")
        return real(self, clips, asked)

    monkeypatch.setattr(Tokenizer, "encode_prepared", encode_prepared)
    out = tmp_path / "tokens.jsonl"
    assert export(tiny, out) == 1
    told = capsys.readouterr()
    assert told.err.splitlines()[-1] == f"failed: {names[2]}: it cannot be encoded"
    assert "1 clips failed" in told.out
    assert out.read_bytes() == b"".join(line for i, line in enumerate(straight.splitlines(keepends=True)) if i != 2)


def test_a_clip_that_the_cache_left_out_has_failed(tiny, tmp_path, capsys):
    root = Path(shutil.copytree(tiny.root, tmp_path / "data"))
    splits = json.loads((tiny.root / "split_files.json").read_text())
    (tmp_path / "splits.json").write_text(json.dumps({**splits, "val": [*splits["val"][:3], "gone", splits["val"][0]]}))
    options = (f"data.root={root}", f"data.split_file={tmp_path / 'splits.json'}")
    assert export(tiny, tmp_path / "out", *options) == 1
    assert [line for line in capsys.readouterr().err.splitlines() if "failed" in line] == [
        "failed: gone: no annotation (the cache left it out)"
    ]
    assert [tokens.name for tokens in read_jsonl(tmp_path / "out")] == splits["val"][:3]
    assert export(tiny, tmp_path / "out", *options, "--num-samples", "3") == 0


def decoded(line: dict, vocabulary: Vocabulary) -> tuple[torch.Tensor, list[int]]:
    """The codes in a line for a language model, and the text's ids."""
    end = line["input_ids"].index(vocabulary.special("<SEP>"))
    assert line["labels"] == [-100] * (end + 1) + line["input_ids"][end + 1 :]
    return vocabulary.decode(line["input_ids"][:end]), line["input_ids"][end + 1 :]


def test_ids_for_a_language_model_decode_back(tiny, tmp_path, monkeypatch):
    class Letters:
        """Stands for a tokenizer of transformers, which is not among the dependencies."""

        def __call__(self, text: str, add_special_tokens: bool) -> dict:
            assert not add_special_tokens
            return {"input_ids": [ord(letter) % 500 for letter in text]}

        def __len__(self) -> int:
            return 500

    monkeypatch.setitem(
        sys.modules,
        "transformers",
        SimpleNamespace(AutoTokenizer=SimpleNamespace(from_pretrained=lambda path: Letters())),
    )
    own = tiny.tokenizer
    for out, options, offset, parts in (
        (tmp_path / "a.jsonl", ("--tokenizer", "letters"), 500, slice(None)),
        (tmp_path / "b.jsonl", ("--text-vocab-size", "700", "--body-parts", "F", "B"), 700, [0, 3]),
    ):
        assert export(tiny, out, "--to-llm", *options) == 0
        tags, levels = (np.array(values)[parts].tolist() for values in (own.parts, own.levels))
        vocabulary = Vocabulary(tuple(tags), tuple(levels), 32, offset)
        assert json.loads(out.with_suffix(".added_tokens.json").read_text()) == vocabulary.added_tokens()
        lines = [json.loads(line) for line in out.with_suffix(".llm.jsonl").read_text(encoding="utf-8").splitlines()]
        for line, tokens, i in zip(lines, read_jsonl(out), val(tiny), strict=True):
            codes, text_ids = decoded(line, vocabulary)
            text = tiny.cache.clips[i].text
            assert torch.equal(codes, tokens.codes) and line["video_name"] == tokens.name and text
            assert line.get("text") == (text if offset == 700 else None)
            assert text_ids == ([] if offset == 700 else [ord(letter) % 500 for letter in text])


def test_a_line_says_what_is_wrong(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)  # as where it is not installed
    out, foreign = tmp_path / "out.jsonl", tmp_path / "config.yaml"
    foreign.write_text("data: {fps: 25}\n")
    for options, message in (
        (("data.chunk_len=8",), r"data.chunk_len is 8 and the checkpoint's is 10"),
        (("--config", str(foreign)), r"data.fps is 25.0 and the checkpoint's is 30.0"),
        (("--split", "test"), r"'test' has no clip: those that have are train \(14\), val \(10\)"),
        (("--body-parts", "F", "XX"), r"'XX' is none of F LH RH B FB"),
        (("--num-samples", "0"), r"--num-samples is 0"),
        (("--augment", "-1"), r"--augment is -1: a seed of 0 or more is expected"),
        (("--to-llm",), r"--to-llm needs --text-vocab-size N"),
        (("--tokenizer", "x"), r"needs the package transformers .*--text-vocab-size"),
    ):
        with pytest.raises(ValueError, match=message):
            export(tiny, out, *options)
        assert list(tmp_path.iterdir()) == [foreign]
    with pytest.raises(ValueError, match=r"there is no checkpoint .*runs/default: name one"):
        export_tokens.main(["--out", str(out), f"save_path={tmp_path}/runs"])
    with pytest.raises(ValueError, match=r"is a folder"):
        export(tiny, tmp_path)


def test_without_a_budget_it_says_so_before_the_first_clip(tiny, tmp_path):
    state = checkpoint.load(tiny.checkpoint)
    checkpoint.save({**state, "task": {**state["task"], "budget": None}}, tmp_path / "best.pt")
    with pytest.raises(ValueError, match=r"no budget.*export.codes_per_chunk=full"):
        export_tokens.main(["--checkpoint", str(tmp_path), "--out", str(tmp_path / "out")])


def test_the_script_takes_the_newest_best_checkpoint(tiny, tmp_path):
    for name in ("signstream", "scripts", "requirements.txt", "export_tokens.sh"):
        (tmp_path / name).symlink_to(ROOT / name)
    for run in ("b/2024-05-01_00-00-00", "a/2025-01-01_00-00-00"):
        (tmp_path / "checkpoints" / run).mkdir(parents=True)
        (tmp_path / "checkpoints" / run / "best.pt").symlink_to(tiny.checkpoint)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "export_tokens.sh", "--layout", "part"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "NUM_SAMPLES": "2"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "export_tokens: checkpoints/a/2025-01-01_00-00-00/best.pt" in done.stderr
    assert len(list(read_jsonl(tmp_path / "exports" / "tokens.jsonl"))) == 2
