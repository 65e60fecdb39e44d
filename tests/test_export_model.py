"""Exported files: what they make of chunks is what the tokenizer makes of them, for any number; what does not hold is
found, and not written."""

import json
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from clips import moving_clip
from data_sets import signer_root
from helpers import begin_loop, slow_but, tiny_options
from signstream.config import from_dict
from signstream.data.frontend import FrontEnd
from signstream.errors import UserError
from signstream.inference import check_export, export_model
from signstream.inference.model_file import samples, write
from signstream.inference.model_file.compare import check, compare_codes, compare_poses, encode
from signstream.inference.model_file.file import ENDS, KEYS, PRECISIONS, describe, read
from signstream.inference.model_file.samples import random_codes, random_poses, real_poses
from signstream.inference.model_file.write import FORMS, export
from signstream.inference.tokenizer import Tokenizer
from signstream.models.rvq.encoder import Encoder
from signstream.tasks.rvq.head_start import initialise_codebooks
from signstream.training import checkpoint
from signstream.training.run_folder import RunFolder

onnx = pytest.importorskip("onnx", reason="onnx is not installed (requirements-extra.txt)")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (requirements-extra.txt)")

KINDS = tuple(ENDS)
# Writing one takes ten times as long as writing both others.
PT2 = pytest.param("pt2", marks=pytest.mark.slow)
every_form = pytest.mark.parametrize("form", [PT2 if form == "pt2" else form for form in FORMS])
LEVELS = "model.rvq.levels={face: 1, left_hand: 3, right_hand: 2, body: 3, full_body: 2}"
MODELS = {
    "mlp": ("model.arch=mlp", LEVELS),
    "transformer": ("model.arch=transformer",),
    "windows": ("model.arch=transformer", "model.pool=attention", "data.window=2"),
    "fsq": ("model.arch=mlp", "model.rvq.kind=fsq", "model.rvq.codebook_size=64", LEVELS),
    "stgcn": ("model.arch=stgcn", "data.chunk_len=8", "data.window=2", "model.encoder_latent_dim=16"),
    "taught": ("model.arch=mlp", "model.rvq.semantic=next"),
    "from the nose": (
        "model.arch=mlp",
        "data.normalize.center_parts=false",
        "data.chunk_len=3",
        "model.share_hands=false",
    ),
    "two parts": (
        "model.arch=mlp",
        "data.body_parts={right_hand: [113, 133], face: [24, 91]}",
        "data.augment.mirror=false",
    ),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return signer_root(tmp_path_factory.mktemp("signer"), 14, {"train": (0, 10), "val": (10, 14)}, frames=60)


def make_state(root: Path, *options: str) -> dict:
    """A checkpoint of a tiny network whose codebooks were just made; no number in it is what it began as."""
    loop = begin_loop(tiny_options(root, *options))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in loop.task.model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    initialise_codebooks(loop.task.setup, loop.config.data, micro=4, clips_a_step=4)
    return {**loop.state_dict(), "generators": []}


@pytest.fixture(scope="module", params=slow_but(MODELS, *MODELS.keys() - {"stgcn"}))
def tokenizer(root, request):
    torch.set_num_threads(1)
    return Tokenizer(make_state(root, *MODELS[request.param]))


@pytest.fixture(scope="module")
def saved(root, tmp_path_factory):
    """A run's folder with a checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    checkpoint.save(make_state(root, "model.arch=mlp"), folder / "best.pt")
    return folder


@pytest.fixture(scope="module")
def small(saved):
    return Tokenizer.load(saved, "cpu")


@pytest.fixture(scope="module")
def files(saved, tmp_path_factory):
    """Both files of a form, written by the program when they are first asked for: form -> (encoder, decoder)."""
    out = tmp_path_factory.mktemp("files")

    @cache
    def write_files(form: str) -> tuple[Path, ...]:
        folder, suffix = out / form / "deep", {"onnx": "onnx", "torchscript": "pt", "pt2": "pt2"}[form]
        export_model.main(["--checkpoint", str(saved), "--format", form, "--output", str(folder / f"t.{suffix}")])
        written = tuple(folder / f"t.{kind}.{suffix}" for kind in KINDS)
        assert sorted(folder.iterdir()) == sorted(written)
        return written

    return write_files


@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_a_file_does_what_the_tokenizer_does_for_any_number_of_chunks(tokenizer, form):
    window = tokenizer.config.data.window
    encoder, decoder = (read(export(tokenizer, kind, form), trust=True).run for kind in KINDS)
    for windows in (1, 2, 5, 40):
        poses, drawn = (draw(tokenizer, windows, seed=7 * windows) for draw in (random_poses, random_codes))
        codes = encoder(poses)
        assert codes.dtype == torch.int64
        assert codes.shape == (windows * window, len(tokenizer.parts), max(tokenizer.levels))
        compared = compare_codes(tokenizer, poses, codes)
        assert compared.same == compared.asked > 0 and compared.ties <= 2
        for rows in (drawn, codes, torch.full_like(codes, -1), codes.clamp(min=0)):
            decoded = decoder(rows)
            assert decoded.shape == (windows * window, tokenizer.config.data.chunk_len, 133, 3)
            assert compare_poses(tokenizer, rows, decoded).most < 1e-4


def test_fed_the_chunks_of_a_stream_it_gives_the_streams_tokens(tokenizer):
    data, encoder = tokenizer.config.data, read(export(tokenizer, "encoder", "onnx")).run
    size = data.chunk_len * data.window
    past = 0 if tokenizer.model.look_back is None else tokenizer.model.look_back.past * data.chunk_len
    tokenizer.codes_per_chunk, tokenizer.hold = "full", 0.0
    for seed, fps in ((1, data.fps), (2, 25.0)):
        clip = torch.from_numpy(moving_clip(87, seed))
        clip[20:45, 95:133, 2] = 0
        stream, front = tokenizer.stream(fps), FrontEnd(tokenizer.skeleton, data, fps)
        chunks, rows, encoded = [], torch.zeros(0, 133, 3), []
        seen = rows  # the frames before, as far as codes look back
        for frames in [*clip.split(7), None]:
            chunks += stream.push(frames) if frames is not None else stream.finish()
            rows = torch.cat((rows, (front.push(frames) if frames is not None else front.finish()).frames))
            if frames is None:
                # past the clip's end every joint is missing
                rows = torch.cat((rows, torch.zeros(-len(rows) % size, 133, 3)))
            while len(rows) >= size:
                seen, rows = torch.cat((seen, rows[:size])), rows[size:]
                encoded.append(encoder(seen.unflatten(0, (-1, data.chunk_len)))[-data.window :])
                seen = seen[max(len(seen) - past, 0) :]
        codes, given = torch.stack([chunk.codes for chunk in chunks]), torch.cat(encoded)
        assert torch.equal(given[: len(codes)], codes) and (given[len(codes) :] == -1).all()
        assert (codes[..., 0] >= 0).any() and (len(codes) - 1) * data.chunk_len < 110


def test_what_is_missing_may_be_anything_and_has_no_code(small):
    encoder = read(export(small, "encoder", "onnx")).run
    poses = random_poses(small, 3)
    poses[1, :, small.skeleton.part("face").joints] = 0
    poses[2] = 0
    poses[0, :, 5:9, 2] = 0
    filled = poses.clone()
    filled[..., :2] = torch.where(poses[..., 2:] > 0, poses[..., :2], float("nan"))
    codes = encoder(poses)
    assert torch.equal(encoder(filled), codes)
    assert (codes[2] == -1).all() and (codes[1, 0] == -1).all() and (codes[1, 4] >= 0).all()


@every_form
def test_a_file_says_what_it_is_and_holds(small, files, form):
    for kind, path in zip(KINDS, files(form)):
        exported = read(path, trust=True)
        about = {key: exported.description[key] for key in KEYS}
        assert about == describe(small, kind, form=form, precision="fp32")
        assert from_dict(yaml.safe_load(about["config"])) == small.config and about["tokenizer"] == small.digest
        assert json.loads(about["parts"])[1] == {"tag": "LH", "name": "left_hand", "first": 91, "joints": 21}
        verdict = check(exported, small, real_poses(small, small.config.data))
        assert verdict.holds and len(verdict.lines) == 2


def test_onnx_files_can_be_read_without_this_package(files):
    import onnxruntime

    for path, given, got in zip(files("onnx"), ("poses", "codes"), ("codes", "poses")):
        model = onnx.load(path)
        onnx.checker.check_model(model)
        assert {entry.domain for entry in model.opset_import} == {""}
        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        (source,), (target,) = session.get_inputs(), session.get_outputs()
        shapes = {"poses": (["N", 10, 133, 3], "tensor(float)"), "codes": (["N", 5, 3], "tensor(int64)")}
        assert (source.name, target.name) == (given, got)
        assert (source.shape, source.type) == shapes[given] and (target.shape, target.type) == shapes[got]


def test_weights_lie_in_a_file_once(small, files):
    weights = {"encoder": small.model.encoder, "decoder": small.model.decoder}
    books = small.model.quantizer.codebook.numel()
    for form in ("onnx", "torchscript"):
        for kind, path in zip(KINDS, files(form)):
            numbers = books + sum(weight.numel() for weight in weights[kind].parameters())
            assert path.stat().st_size < 4 * numbers + 700_000


def test_half_the_bytes_and_nearly_all_of_the_codes(small, saved, tmp_path, files):
    export_model.main(["--checkpoint", str(saved), "--precision", "fp16", "--output", str(tmp_path / "half.onnx")])
    for kind, path in zip(KINDS, files("onnx")):
        half = tmp_path / f"half.{kind}.onnx"
        assert half.stat().st_size < 0.7 * path.stat().st_size
        assert read(half).description["precision"] == "fp16"
        assert check(read(half), small, []).holds


def test_what_does_not_hold_is_not_written(saved, tmp_path, monkeypatch):
    def spoil(model):
        weight = next(weight for weight in model.graph.initializer if len(weight.dims) == 2)
        weight.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weight), weight.name))
        return model

    monkeypatch.setitem(write.NARROW, "fp16", spoil)
    options = ["--checkpoint", str(saved), "--precision", "fp16", "--output", str(tmp_path / "out.onnx")]
    for kind in KINDS:
        line = rf"the {kind} as onnx fp16 does not do what the tokenizer does .*not written: take --precision fp32"
        with pytest.raises(UserError, match=line):
            export_model.main([*options, "--part", kind])
    assert list(tmp_path.iterdir()) == []


@every_form
def test_a_network_that_fixes_the_number_of_chunks_is_not_written(saved, tmp_path, monkeypatch, form):
    real = Encoder.as_tokens
    monkeypatch.setattr(Encoder, "as_tokens", lambda self, view: real(self, view).reshape(len(view), -1))
    options = ["--checkpoint", str(saved), "--part", "encoder", "--format", form, "--output", str(tmp_path / "out")]
    line = rf"as {form} cannot be exported for any number of chunks .* take sizes from x.shape"
    with pytest.raises(UserError, match=line):
        export_model.main(options)
    assert list(tmp_path.iterdir()) == []


def test_check_counts_what_differs_and_sets_ties_aside(small):
    poses = random_poses(small, 4)
    _, codes = encode(small, poses)
    wrong = codes.clone()
    wrong[0, 0, 0] = (codes[0, 0, 0] + 1) % 32
    wrong[1, 3, 2] = (codes[1, 3, 2] + 1) % 32
    seen = int((codes >= 0).sum())
    assert (codes[0, 0] >= 0).all() and (codes[1, 3] >= 0).all()
    assert compare_codes(small, poses, codes) == (seen, seen, 0)
    assert compare_codes(small, poses, wrong) == (seen, seen - 2, 0)
    with torch.no_grad():
        book, right, other = small.model.quantizer.codebook[0, 0], int(codes[0, 0, 0]), int(wrong[0, 0, 0])
        kept = book[other].clone()
        book[other] = book[right]  # the very same code twice
        either = encode(small, poses).codes.clone()
        # the other of the two, and whatever is deeper
        either[0, 0] = torch.tensor([right + other - int(either[0, 0, 0]), 0, 0])
        assert compare_codes(small, poses, either) == (seen - 3, seen - 3, 3)
        book[other] = kept
    silent = codes.clone()
    silent[0, 0] = -1
    assert compare_codes(small, poses, silent).share < 1


def test_check_export_says_whether_a_file_holds(saved, files, tmp_path, capsys):
    for path in files("onnx"):
        assert check_export.main([str(path), "--checkpoint", str(saved)]) == 0
        printed = capsys.readouterr().out
        assert "real chunks: " in printed and "random chunks: " in printed and printed.endswith("  holds\n")
        speed = r"\d+ at a time: [\d.]+ ms a chunk, PyTorch [\d.]+ ms \([\d.]+ times as long\)"
        assert len(re.findall(speed, printed)) == 2
    model = onnx.load(files("onnx")[0])
    weight = next(weight for weight in model.graph.initializer if "books" in weight.name)
    weight.CopyFrom(onnx.numpy_helper.from_array(np.roll(onnx.numpy_helper.to_array(weight), 1, 0), weight.name))
    onnx.save(model, tmp_path / "odd.onnx")
    assert check_export.main([str(tmp_path / "odd.onnx"), "--checkpoint", str(saved)]) == 1
    assert capsys.readouterr().out.endswith("  DOES NOT HOLD\n")


def test_the_checkpoint_that_a_file_names_is_found(root, tmp_path):
    state = make_state(root, "model.arch=mlp", f"save_path={tmp_path}/runs", "experiment_name=named")
    run = RunFolder.create(tmp_path / "runs", "named")
    checkpoint.save(state, run.last)
    export_model.main(["--checkpoint", str(run.path), "--part", "decoder", "--output", str(tmp_path / "decoder.onnx")])
    assert check_export.main([str(tmp_path / "decoder.onnx")]) == 0


def test_without_real_clips_it_says_so(saved, files, capsys, monkeypatch, tmp_path):
    def absent(tokenizer, data):
        raise UserError("there is no data root there")

    monkeypatch.setattr(samples, "real_poses", absent)
    assert check_export.main([str(files("onnx")[1]), "--checkpoint", str(saved)]) == 0
    assert "no real chunks: there is no data root there" in capsys.readouterr().out
    with pytest.raises(UserError, match="there is no data root there"):
        check_export.main([str(files("onnx")[1]), "--checkpoint", str(saved), "--data", "nowhere"])
    export_model.main(["--checkpoint", str(saved), "--part", "decoder", "--output", str(tmp_path / "one.onnx")])
    assert "tried on random chunks alone" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["one.onnx"]


@pytest.mark.parametrize("form", ["torchscript", PT2])
def test_a_program_is_not_opened_unless_it_is_trusted(files, form, monkeypatch):
    program = files(form)[0]

    def opened(*args, **more):
        raise AssertionError("it was opened")

    monkeypatch.setattr(torch.jit, "load", opened)
    monkeypatch.setattr(torch.export, "load", opened)
    with pytest.raises(UserError, match=rf"is a program \({form}\) that would be run: pass --trust"):
        check_export.main([str(program)])


def test_the_doors_take_what_can_be_written():
    """They name the choices themselves, since they import nothing that would know."""
    for options, choices in (("--format", tuple(FORMS)), ("--precision", PRECISIONS), ("--part", (*KINDS, "all"))):
        for choice in choices:
            with pytest.raises((UserError, SystemExit)) as stopped:
                export_model.main(["--checkpoint", "nowhere", "--output", ".", options, choice])
            assert isinstance(stopped.value, UserError)
    assert tuple(write.NARROW) == PRECISIONS


def test_a_strangers_file_is_one_line(files, tmp_path):
    def refused(path: Path, says: str) -> None:
        with pytest.raises(UserError, match=says):
            check_export.main([str(path), "--trust"])

    for config in ("a: [", "5", "{}"):
        model = onnx.load(files("onnx")[0])
        next(entry for entry in model.metadata_props if entry.key == "config").value = config
        onnx.save(model, tmp_path / "nowhere.onnx")
        refused(tmp_path / "nowhere.onnx", "the file's config is not YAML|does not say which run")
    whole = files("torchscript")[0].read_bytes()
    at = whole.index(b"PK\1\2", whole.rindex(b"extra/") - 60)  # of a member that says what the file is
    for field, value in ((8, 1), (10, 99)):  # encrypted; packed in an unknown way
        (tmp_path / "odd.pt").write_bytes(whole[: at + field] + bytes([value]) + whole[at + field + 1 :])
        refused(tmp_path / "odd.pt", "odd.pt is cut short or damaged")


def test_a_line_says_what_is_wrong(saved, files, tmp_path, root, monkeypatch):
    def refused(program, *options: object, says: str) -> None:
        with pytest.raises(UserError, match=says):
            program.main([str(option) for option in options])

    def no_export(*options: object, says: str) -> None:
        refused(export_model, "--checkpoint", saved, "--output", out, *options, says=says)

    out, encoder = tmp_path / "out.onnx", files("onnx")[0]
    no_export("--output", tmp_path, says="is a folder: name a file in it")
    no_export("--format", "pt2", "--precision", "fp16", says="fp16 is for --format onnx")
    refused(check_export, tmp_path / "none.onnx", says="there is no file .*none.onnx")
    (tmp_path / "cut.onnx").write_bytes(encoder.read_bytes()[:3000])
    refused(check_export, tmp_path / "cut.onnx", says="is no ONNX file that can be run")
    model = onnx.load(encoder)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    refused(check_export, tmp_path / "bare.onnx", says="was not made by export_model: it does not say its signstream")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "weights.pt")
    refused(check_export, tmp_path / "weights.pt", "--trust", says="was not made by export_model")
    data = bytearray(files("torchscript")[0].read_bytes())
    data[len(data) // 2 : len(data) // 2 + 5000] = bytes(5000)
    (tmp_path / "damaged.pt").write_bytes(data[:-2000] + b"PK" + bytes(1998))
    refused(check_export, tmp_path / "damaged.pt", "--trust", says="damaged.pt")
    checkpoint.save(make_state(root, "model.arch=mlp", "train.seed=3"), tmp_path / "best.pt")
    other = "was made of the tokenizer .* name the one it was made of"
    refused(check_export, encoder, "--checkpoint", tmp_path, says=other)
    for package in ("onnx", "onnxruntime"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, package, None)
            no_export(says=rf"need the package {package} \(pip install {package}\)")
    with monkeypatch.context() as old:
        old.setattr(torch, "__version__", "2.1.0")
        no_export("--format", "pt2", says="pt2 needs torch 2.6 or later and this is 2.1.0")
    assert not out.exists()
