"""Features of pictures: a small SigLIP of transformers' own class, run by hand and by the door; what is refused."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from data_sets import whole_clip, write_csl
from phoenix_data import SIDE, write_frames, write_phoenix
from sentences import said_in_one_line
from signstream.data.even_frames import ROWS, indices
from signstream.data.features import main
from signstream.data.phoenix2014 import FEATURES
from signstream.data.picture_features import clip_features
from signstream.data.picture_model import PICTURES, made_ready, open_model
from signstream.errors import UserError
from signstream.io.frame_files import list_frames

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread")
WIDTH = 16
READY = {
    "size": {"height": 16, "width": 16},
    "resample": 3,
    "rescale_factor": 1 / 255,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.6, 0.7],
}
CLIPS = {"train": {"one": 1, "seven": 7}, "dev": {"six": 6}}


def write_model(folder, seed=0, **ready):
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    torch.manual_seed(seed)
    config = transformers.SiglipVisionConfig(hidden_size=WIDTH, intermediate_size=32, **sizes)
    transformers.SiglipVisionModel(config).save_pretrained(folder)
    (folder / PICTURES).write_text(json.dumps({**READY, **ready}))
    return folder


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("siglip"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_phoenix(tmp_path_factory.mktemp("phoenix"), CLIPS)


def extract(root, siglip, out, *more):
    fixed = ["--device", "cpu", f"data.root={root}", "data.layout=phoenix2014"]
    return main(["--model", str(siglip), "--out", str(out), *fixed, *more])


def by_hand(folder, pictures):
    """[180, width]: a picture at a time, by transformers and Pillow alone."""
    model = transformers.SiglipVisionModel.from_pretrained(folder).eval()
    rows = []
    for picture in pictures:
        small = np.asarray(Image.fromarray(picture).resize((16, 16), Image.Resampling.BICUBIC))
        pixels = (small / 255 - READY["image_mean"]) / READY["image_std"]
        with torch.no_grad():
            rows.append(model(torch.tensor(pixels, dtype=torch.float32).permute(2, 0, 1)[None]).pooler_output[0])
    return torch.stack(rows).numpy()[[round(float(i)) for i in np.linspace(0, len(pictures) - 1, ROWS)]]


def files(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.*"))}


def test_which_frames():
    assert indices(1).tolist() == [0] * ROWS
    seven = indices(7)
    assert len(seven) == ROWS and set(seven.tolist()) == set(range(7)) and (np.diff(seven) >= 0).all()
    long = indices(400)
    assert len(set(long.tolist())) == ROWS and (long[0], long[-1]) == (0, 399)
    assert set(np.diff(long).tolist()) == {2, 3}
    assert indices(ROWS).tolist() == list(range(ROWS))


def test_the_door_gives_what_the_model_gives_of_these_frames(root, siglip, tmp_path, capsys):
    assert extract(root, siglip, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "3  made" in said and "0  finished before" in said
    for split, names in CLIPS.items():
        for name in names:
            rows = np.load(tmp_path / "out" / split / f"{name}.npy")
            assert rows.dtype == np.float32 and rows.shape == (ROWS, WIDTH)
            paths = list_frames(root / FEATURES / split / name / "1")
            pictures = [np.asarray(Image.open(path)) for path in paths]
            np.testing.assert_allclose(rows, by_hand(siglip, pictures), atol=1e-5)
    about = json.loads((tmp_path / "out" / "features.json").read_text())
    assert (about["model"], about["rows"], about["width"]) == (str(siglip), ROWS, WIDTH)
    assert len(about["digest"]) == 64


def test_a_long_clip_runs_180_pictures_and_a_short_one_its_own(siglip, tmp_path, monkeypatch):
    model = open_model(str(siglip), "cpu")
    seen = []
    rows = model.rows
    monkeypatch.setattr(model, "rows", lambda pictures: seen.append(len(pictures)) or rows(pictures))
    pictures = write_frames(tmp_path / "long", 400, side=SIDE)
    long = clip_features(model, list_frames(tmp_path / "long"), batch=50)
    assert seen == [50, 50, 50, 30]
    np.testing.assert_allclose(long[[0, 90, 179]], rows(pictures[[0, 201, 399]]), atol=1e-5)
    seen.clear()
    write_frames(tmp_path / "short", 7)
    short = [clip_features(model, list_frames(tmp_path / "short"), batch=batch) for batch in (1, 3, 64)]
    assert seen == [1] * 7 + [3, 3, 1] + [7]
    for other in short[1:]:
        np.testing.assert_allclose(other, short[0], atol=1e-5)


def test_pictures_are_made_ready_as_transformers_does_it(siglip, tmp_path):
    processor = getattr(transformers, "SiglipImageProcessorPil", None)
    if processor is None:
        pytest.skip("this transformers has no processor of pictures under that name")
    pictures = write_frames(tmp_path / "frames", 2, side=40)
    theirs = processor.from_pretrained(siglip)(list(pictures), return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(made_ready(pictures, open_model(str(siglip), "cpu").ready), theirs, atol=1e-6)


def test_a_published_siglip_brings_its_text_side_which_is_left_out(siglip, tmp_path, capfd):
    vision = transformers.SiglipVisionModel.from_pretrained(siglip)
    text = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.SiglipConfig(
        vision_config=vision.config.to_dict(), text_config={**text, "vocab_size": 50_000}
    )
    whole = transformers.SiglipModel(config)
    inner = getattr(whole.vision_model, "vision_model", whole.vision_model)
    inner.load_state_dict(getattr(vision, "vision_model", vision).state_dict())
    whole.save_pretrained(tmp_path)
    (tmp_path / PICTURES).write_bytes((siglip / PICTURES).read_bytes())
    capfd.readouterr()
    assert open_model(str(tmp_path), "cpu").about() == open_model(str(siglip), "cpu").about()
    assert "UNEXPECTED" not in capfd.readouterr().err


def test_stopped_and_resumed_gives_the_same_bytes(root, siglip, tmp_path, capsys, monkeypatch):
    extract(root, siglip, tmp_path / "straight")
    out, calls = tmp_path / "stopped", []

    def stop(*args, **options):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return clip_features(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr("signstream.data.picture_features.clip_features", stop)
        with pytest.raises(KeyboardInterrupt):
            extract(root, siglip, out)
    first = [*out.rglob("*.npy")]
    assert len(first) == 2
    first[0].write_bytes(first[0].read_bytes()[:-1])  # cut off by somebody else: made anew
    capsys.readouterr()
    assert extract(root, siglip, out) == 0
    said = capsys.readouterr().out
    assert "2  made" in said and "1  finished before" in said
    assert files(out) == files(tmp_path / "straight")


def test_a_clip_that_cannot_be_read_is_named_and_the_rest_goes_on(siglip, tmp_path, capsys):
    root = write_phoenix(tmp_path / "phoenix", CLIPS)
    picture = next((root / FEATURES / "train" / "seven" / "1").glob("*.png"))
    picture.write_bytes(b"no picture")
    assert extract(root, siglip, tmp_path / "out") == 1
    told = capsys.readouterr()
    assert f"left out: train/seven: not a PNG file: {picture.name}" in told.err
    assert "2  made" in told.out and "1  left out: not a PNG file" in told.out
    assert sorted(path.stem for path in (tmp_path / "out").rglob("*.npy")) == ["one", "six"]


def test_one_folder_has_the_features_of_one_model(root, siglip, tmp_path):
    out = tmp_path / "out"
    extract(root, siglip, out, "--splits", "val")
    before = files(out)
    other = write_model(tmp_path / "other", seed=1)
    said_in_one_line(lambda: extract(root, other, out), "holds features of the model .* whose digest is")
    brighter = write_model(tmp_path / "brighter", image_mean=[0.1, 0.1, 0.1])
    said_in_one_line(lambda: extract(root, brighter, out), "whose pictures is")
    assert files(out) == before
    same = write_model(tmp_path / "same")
    assert extract(root, same, out, "--splits", "val") == 0 and files(out) == before, "whatever its folder's name"
    (out / "features.json").unlink()
    said_in_one_line(lambda: extract(root, siglip, out), "features of an unknown model")


@pytest.mark.parametrize(
    "content", ["", "[]", "{", "\x00", "[" * 100_000, '{"rows": 180}', '{"model": "\\u001b[2J\\n"}']
)
def test_a_hostile_features_json_is_one_line(root, siglip, tmp_path, content):
    (tmp_path / "features.json").write_text(content)
    said_in_one_line(lambda: extract(root, siglip, tmp_path), "features.json|holds features of")
    assert (tmp_path / "features.json").read_text() == content


@pytest.mark.parametrize(
    "ready",
    [
        {"size": {"height": 16, "width": 8}},
        {"size": 10**9},
        {"size": {"height": 24, "width": 24}},
        {"resample": 99},
        {"image_mean": [0.5]},
        {"image_std": [0, 1, 1]},
        {"image_mean": [10**400, 1, 1]},
        {"image_mean": [float("nan"), 1, 1]},
        {"rescale_factor": "a"},
        {"do_resize": False},
        {"do_center_crop": True},
    ],
)
def test_a_hostile_preprocessor_config_is_one_line(siglip, tmp_path, ready):
    for file in siglip.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / PICTURES).write_text(json.dumps({**READY, **ready}))
    said_in_one_line(lambda: open_model(str(tmp_path), "cpu"), PICTURES)


def test_a_model_that_is_missing_is_one_line(root, siglip, tmp_path):
    say = "not whole on this machine: no config.json, no preprocessor_config.json, no model.safetensors; fetch it once"
    said_in_one_line(lambda: extract(root, "nobody/has-this", tmp_path / "out"), say)
    (tmp_path / "config.json").write_bytes((siglip / "config.json").read_bytes())
    said_in_one_line(lambda: extract(root, tmp_path, tmp_path / "out"), "no preprocessor_config.json")
    (tmp_path / PICTURES).write_bytes((siglip / PICTURES).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    said_in_one_line(lambda: extract(root, tmp_path, tmp_path / "out"), "cannot be opened")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    said_in_one_line(lambda: extract(root, tmp_path, tmp_path / "out"), "'bert': a SigLIP is expected")
    assert not (tmp_path / "out").exists()


def test_other_mistakes_are_one_line(root, siglip, tmp_path, monkeypatch):
    out = tmp_path / "out"
    said_in_one_line(lambda: extract(root, siglip, out, "--batch", "0"), "--batch is 0")
    said_in_one_line(lambda: extract(root, siglip, out, "--splits", "all"), "no split 'all'")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said_in_one_line(lambda: open_model(str(siglip), "cuda"), "sees no GPU")
    monkeypatch.setitem(sys.modules, "transformers", None)
    said_in_one_line(lambda: extract(root, siglip, out), "pip install transformers")
    assert not out.exists()


def test_a_layout_without_pictures_is_one_line(siglip, tmp_path):
    root = write_csl(tmp_path, {"a": whole_clip()})
    with pytest.raises(UserError, match="csl_daily has poses alone"):
        main(["--model", str(siglip), "--out", str(tmp_path / "out"), f"data.root={root}"])
