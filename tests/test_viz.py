"""Every plot shows something and cuts nothing off, from a report with gaps too; what was not measured is named;
tokens are found by name."""

import json
import math
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.collections import PatchCollection
from PIL import Image

from page_data import make_report
from signstream.inference.report.plot_files import find_tokens
from signstream.inference.report.plots import PLOTS, drawn, missing
from signstream.inference.viz import main
from signstream.pictures.figure import figure_pixels, ink
from signstream.pictures.ribbons import token_timeline
from signstream.tokens.codes import held_chunks
from signstream.tokens.format import TokenSequence, write_line


def sequence(name: str = "clip", chunks: int = 6, held: int | None = 3) -> TokenSequence:
    """F with two levels, B with one; `held` says again what the chunk before said, and in chunk 1 B says nothing."""
    codes = torch.randint(0, 64, (chunks, 2, 2), generator=torch.Generator().manual_seed(0))
    codes[:, 1, 1] = codes[:1, 0, 1] = codes[1:2, 1, 0] = -1
    if held is not None:
        codes[held] = codes[held - 1]
    return TokenSequence(name, 30.0, 10, 10 * chunks, codes, ("F", "B"), (2, 1), 64, "a" * 16)


@pytest.fixture
def report() -> dict:
    return make_report(size=64)


def cut_off(figure) -> bool:
    """Whether anything reaches over the figure's edge."""
    figure.canvas.draw()
    box, (width, height) = figure.get_tightbbox(figure.canvas.get_renderer()), figure.get_size_inches()
    return box.x0 < -0.01 or box.y0 < -0.01 or box.x1 > width + 0.01 or box.y1 > height + 0.01


def lines(figure) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for axes in figure.axes for line in axes.lines}


def test_every_plot_shows_something_and_its_words_fit(report):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = dict(drawn(report, sequence()))
        assert list(figures) == [*PLOTS, "token_timeline"]
        for name, figure in figures.items():
            picture = figure_pixels(figure)
            assert (picture != 255).any(-1).mean() > 0.01, name
            assert not cut_off(figure), name
            assert figure.dpi == 150 and max(picture.shape) < 2500, name


def test_numbers_stand_where_they_should(report):
    figures = dict(drawn(report, None))
    wanted = [
        f"{level['used']:.0%}\n{level['perplexity']:.0f}" for levels in report["codes"].values() for level in levels
    ]
    assert [text.get_text() for text in figures["usage_heatmap"].axes[0].texts] == wanted
    by_frame = lines(figures["error_by_frame"])
    assert (
        by_frame["left hand"][:, 1] == pytest.approx(report["by_frame"]["left_hand"])
        and by_frame["full body"][0, 0] == 1
    )
    curve = lines(figures["rate_against_error"])["codes where they are worth most"]
    assert curve.tolist() == [
        [row["codes_per_chunk"], row["budget"]] for row in report["curve"] if row["budget"] is not None
    ]
    loss = lines(figures["loss_curves"])
    assert loss["val: rec"][:, 1] == pytest.approx(report["training"]["val"]["rec"])
    train = report["training"]["train"]
    assert loss["codes from here on"][0, 0] == next(
        step for step, commit in zip(train["step"], train["commit"]) if commit
    )


def test_gaps_in_a_report_are_drawn_as_gaps(report):
    dead = {"used": None, "dead": None, "perplexity": None, "entropy": None, "count": 0, "counts": [0] * 64}
    report["codes"]["face"] = [dead] * 2
    report["by_frame"]["left_hand"][1] = None
    report["per_joint"][5] = None
    report["curve"][0]["uniform"] = None
    report["training"] = {"train": {"step": []}, "val": {"step": [20, 40], "loss": [1.0, None]}}
    report["rate"] = None
    figures = dict(drawn(report, None))
    assert set(figures) == set(PLOTS) and all(not cut_off(figure) for figure in figures.values())
    assert [text.get_text() for text in figures["usage_heatmap"].axes[0].texts][:2] == ["–\n–"] * 2
    assert math.isnan(lines(figures["error_by_frame"])["left hand"][1, 1])


def test_what_was_not_measured_is_left_out_and_named(report, capsys):
    report |= {
        "training": None,
        "curve": [],
        "per_joint": [0.1] * 20,
        "notes": ["training: there is no metrics.jsonl beside the checkpoint"],
    }
    del report["by_frame"]
    assert [name for name, _ in drawn(report, None)] == ["usage_heatmap", "usage_histograms"]
    assert capsys.readouterr().out.splitlines() == [
        "skipped error_by_frame: by_frame: not measured",
        "skipped error_per_joint: per_joint: 20 joints, and the figure has COCO-WholeBody's 133",
        "skipped rate_against_error: curve: not measured",
        "skipped loss_curves: training: there is no metrics.jsonl beside the checkpoint",
    ]
    assert missing(PLOTS["error_per_joint"], {"per_joint": [None] * 133}) == "per_joint: not measured"


def test_held_chunks_say_again_what_was_said():
    held = held_chunks(sequence().codes)
    assert held.tolist() == [[n == 3, n == 3] for n in range(6)]
    silent = sequence(held=None)
    silent.codes[4:, 1] = -1
    assert not held_chunks(silent.codes).any(), "what says nothing holds nothing"


def test_a_held_chunk_is_thin_and_what_was_not_sent_is_empty():
    axes, tokens = token_timeline(sequence()).axes[0], sequence()
    (collection,) = (item for item in axes.collections if isinstance(item, PatchCollection))
    boxes = [path.get_extents() for path in collection.get_paths()]
    assert len(boxes) == int((tokens.codes >= 0).sum())
    heights = {}
    for (n, p, q), box in zip(np.argwhere(tokens.codes.numpy() >= 0).tolist(), boxes):
        assert box.x0 == pytest.approx(n / 3) and p < box.y0 < box.y1 < p + 1
        heights[n, p, q] = box.height
    assert heights[3, 0, 0] < 0.35 * heights[2, 0, 0] and heights[4, 1, 0] == pytest.approx(heights[0, 1, 0])
    written = [text.get_text() for text in axes.texts]
    assert written == [
        str(code) for n, row in enumerate(tokens.codes.tolist()) if n != 3 for part in row for code in part if code >= 0
    ]


def test_a_long_clip_has_no_numbers_and_still_fits():
    figure = token_timeline(sequence(chunks=120))
    assert figure.get_size_inches()[0] == 24 and not figure.axes[0].texts and not cut_off(figure)
    assert token_timeline(sequence(chunks=0, held=None)).get_size_inches()[0] == 5


def test_writing_reads_on_every_colour():
    assert [ink(colour) for colour in ((1, 1, 1), (0, 0, 0), (1, 1, 0, 1), (0, 0, 1, 1))] == [
        "black",
        "white",
        "black",
        "white",
    ]


def test_tokens_are_found_by_name_or_the_error_names_the_nearest(tmp_path):
    file, empty = tmp_path / "tokens.jsonl", tmp_path / "empty.jsonl"
    file.write_text("".join(write_line(sequence(name)) for name in ("S000_P0", "S001_P0", "other")), encoding="utf-8")
    empty.touch()
    assert find_tokens(file, None).name == "S000_P0" and find_tokens(file, "other").name == "other"
    for path, name, message in (
        (file, "othr", r"no clip 'othr'; did you mean 'other'\?"),
        (file, "zzz", "no clip 'zzz'; its first is 'S000_P0'"),
        (empty, None, r"empty.jsonl, line 1: there is none"),
    ):
        with pytest.raises(ValueError, match=message):
            find_tokens(path, name)


def write_report(folder: Path, report: dict) -> Path:
    (folder / "report").mkdir(parents=True)
    (folder / "report" / "report.json").write_text(json.dumps(report), encoding="utf-8")
    return folder


def test_the_program_writes_every_plot_with_any_name(report, tmp_path, capsys, recwarn):
    report["run"]["name"] = "手语 $1 ☃ ကြ " + 40 * "long "
    run, tokens, out = write_report(tmp_path / "run", report), tmp_path / "tokens.jsonl", tmp_path / "plots"
    tokens.write_text(write_line(sequence("手语 $x_1$ ကြ")), encoding="utf-8")
    main(["--report", str(run), "--out", str(out), "--tokens", str(tokens)])
    files = [out / f"{name}.png" for name in (*PLOTS, "token_timeline")]
    assert capsys.readouterr().out.splitlines() == [str(file) for file in files] and sorted(out.iterdir()) == sorted(
        files
    )
    for file in files:
        top = np.asarray(Image.open(file).convert("L"))[:54]
        assert (top < 128).any() and (top[:, -3:] == 255).all(), f"{file}: the heading ends before the edge"
    assert [str(warning.message) for warning in recwarn] == []


def test_a_line_says_what_is_wrong(report, tmp_path):
    run = write_report(tmp_path / "run", report)
    (tmp_path / "file").touch()
    for options, message in (
        (("--report", str(run), "--out", str(tmp_path / "file")), "is a file: the name of a folder"),
        (("--report", str(run), "--out", str(tmp_path / "out"), "--clip", "a"), "--clip needs --tokens FILE"),
        (
            ("--report", str(tmp_path / "none"), "--out", str(tmp_path / "out")),
            "none has no report.json: make it first",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            main(list(options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("module", ["viz", "visualizer"])
def test_help_answers_without_loading_torch_or_matplotlib(module):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"signstream.inference.{module}", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[1],
    )
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert (
        done.returncode == 0 and "usage: python -m signstream" in done.stdout and not loaded & {"torch", "matplotlib"}
    )
