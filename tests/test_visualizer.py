"""The animation has every frame, in real time, and says what the tokens say; what cannot be written is refused;
training and the script make one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from clips import moving_clip
from helpers import begin_loop, tiny_options
from signstream.inference.sample import scene_of
from signstream.inference.visualizer import main
from signstream.pictures import animation
from signstream.pictures.animation import Backdrop, Scene, TokenPanel, animate, pictures, save
from signstream.pictures.figure import (
    Box,
    Lettering,
    PoseArtist,
    axes_at,
    figure_pixels,
    frame_limits,
    heading,
    new_figure,
    show_limits,
)
from signstream.skeleton import COCO_WHOLEBODY, LEFT_HAND
from signstream.space import to_pixels
from signstream.tasks.rvq.pictures import reconstruction_animation, reconstruction_sheet
from signstream.tasks.rvq.validation import Picture
from signstream.tokens.format import TokenSequence
from signstream.training.run import Run
from signstream.training.run_folder import RunFolder
from signstream.training.utils_tb import Journal
from test_export import make_tiny

ROOT = Path(__file__).parents[1]
FRAMES = 25
ODD_NAME = "手语 $x_1$ 👩‍👧 ☃ ကြ"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def clip() -> tuple[np.ndarray, np.ndarray]:
    """A clip, and one like it."""
    original = moving_clip(FRAMES, seed=1)
    return original, original + np.float32((4, -3, 0))


def scene(clip: tuple[np.ndarray, np.ndarray], name: str = "", tokens: TokenSequence | None = None) -> Scene:
    return Scene(*clip, COCO_WHOLEBODY, 30.0, name, tokens)


def said(levels: int = 2) -> TokenSequence:
    """F holds in chunk 1, B says nothing in chunk 2."""
    codes = torch.tensor([[[7, 8], [1, 2]], [[7, 8], [3, 4]], [[9, 1], [-1, -1]]])
    return TokenSequence("clip", 30.0, 10, FRAMES, codes, ("F", "B"), (levels, levels), 64, "a" * 16)


def shown(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """A GIF's frames and their durations in milliseconds."""
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        frames, durations = [], []
        for t in range(image.n_frames):
            image.seek(t)
            frames.append(np.asarray(image.convert("RGB")))
            durations.append(image.info["duration"])
        return frames, durations


def test_a_gif_has_every_frame_in_real_time_and_moves(clip, tmp_path):
    path = tmp_path / "clip.gif"
    animate(scene(clip, "clip", said()), path)
    frames, durations = shown(path)
    assert (
        len(frames) == FRAMES
        and set(durations) == {30, 40}
        and sum(durations) == pytest.approx(1000 * FRAMES / 30, abs=10)
    )
    assert all((a != b).any() for a, b in zip(frames, frames[1:]))
    assert list(tmp_path.iterdir()) == [path]
    height, width = frames[0].shape[:2]
    left, right = (frames[3][60 : height // 2, side] for side in (slice(width // 2), slice(width // 2, None)))
    assert all(((half < 200).any(-1)).sum() > 500 for half in (left, right)), "a skeleton on both sides"


def test_a_fast_clip_leaves_frames_out_and_keeps_its_time(tmp_path):
    frames = np.repeat(
        255 * np.eye(60, dtype=np.uint8)[:, None, :, None], 3, -1
    )  # frame t is one pixel high and white at t
    save(frames, tmp_path / "fast.gif", 60.0)
    kept, durations = shown(tmp_path / "fast.gif")
    assert len(kept) == 50 and set(durations) == {20}
    assert [int(frame[0, :, 0].argmax()) for frame in kept] == [round(k * 1.2) for k in range(50)]


def test_what_moves_over_a_backdrop_is_the_whole_figure_drawn_anew(clip):
    original, moved = clip
    limits = frame_limits(original, 1.0)

    def drawn() -> tuple[Figure, PoseArtist]:
        figure = new_figure(3.0, 3.4)
        heading(figure, Lettering(), (0.1, 0.22), strong="a clip", width=20)
        axes = axes_at(figure, Box(0.1, 0.4, 2.8, 2.8))
        show_limits(axes, limits, (512, 512))
        return figure, PoseArtist(axes, COCO_WHOLEBODY)

    (moving, artist), (still, other) = drawn(), drawn()
    backdrop = Backdrop(moving, [artist.hollow, artist.lines, artist.dots])
    for frame in (original[0], moved[9], original[20]):
        for each in (artist, other):
            each.set(frame, frame[:, :2] + 5)
        assert (backdrop.pixels() == figure_pixels(still)).all()
    assert (backdrop.pixels() != figure_pixels(moving)).any(), "the backdrop has what moves"


def test_the_panel_says_what_each_part_says_and_marks_what_holds(clip):
    panel, colours, lines = TokenPanel(new_figure(6, 3), said(), top=1.0, width=5.8, seconds=1.0), [], []
    for t in (0, 12, FRAMES - 1):
        panel.set(t)
        lines.append([text.get_text() for text in panel.texts])
        colours.append([text.get_color() for text in panel.texts[1:]])
        assert panel.mark.get_xdata()[0] == pytest.approx(t / 30)
    quiet = animation.QUIET
    assert lines == [
        ["<T0>", "<F:c7><F:c8>", "<B:d1><B:d2>"],
        ["<T1>", "<F:c7><F:c8> held", "<B:d3><B:d4>"],
        ["<T2>", "<F:c9><F:c1>", "<B> not sent"],
    ]
    assert colours == [["black", "black"], [quiet, "black"], ["black", quiet]]


def test_the_most_that_three_levels_say_fits_and_more_is_cut():
    for levels, cut in ((3, False), (8, True)):
        codes = torch.full((2, 1, levels), 1023)
        figure = new_figure(6, 3)
        tokens = TokenSequence("clip", 30.0, 10, 20, codes, ("RH",), (levels,), 1024, "a")
        panel = TokenPanel(figure, tokens, top=1.0, width=5.8, seconds=1.0)
        for t in (0, 10):
            panel.set(t)
            text = panel.texts[1]
            assert ("…" in text.get_text()) == cut and text.get_text().endswith(" held") == (t == 10)
            assert text.get_window_extent(figure.canvas.get_renderer()).x1 < figure.axes[0].get_window_extent().x0


def test_what_the_original_does_not_show_is_not_compared(clip):
    def half(frame: np.ndarray, right: bool) -> np.ndarray:
        return frame[60:-10, frame.shape[1] // 2 :] if right else frame[60:-10, : frame.shape[1] // 2]

    original = clip[0].copy()
    original[:, LEFT_HAND:, 2] = 0
    no_hands, blue, red = next(pictures(scene((original, clip[1])))), (0, 0x72, 0xB2), (0xD5, 0x5E, 0)
    whole = next(pictures(scene(clip)))
    for colour in (blue, red):
        assert all((half(whole, right) == colour).all(-1).any() for right in (False, True))
        assert not (no_hands == colour).all(-1).any()
    nothing = np.zeros_like(original)
    assert len(list(pictures(scene((nothing, clip[1]), "a", said())))) == FRAMES


def test_any_name_is_drawn_without_a_warning(clip, tmp_path, recwarn):
    animate(scene(clip, ODD_NAME).first(2), tmp_path / "a.gif")
    (first,) = {frame.shape for frame in shown(tmp_path / "a.gif")[0]}
    reconstruction_sheet(Picture(ODD_NAME, *map(torch.from_numpy, clip)), COCO_WHOLEBODY).canvas.draw()
    assert first[2] == 3 and [str(warning.message) for warning in recwarn] == []


def test_what_cannot_be_written_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(animation.shutil, "which", lambda name: None)
    (tmp_path / "folder.gif").mkdir()
    for name, message in (
        ("a.txt", r"a.txt: the name of a .gif or an .mp4"),
        ("a.mp4", "a.mp4: an MP4 needs ffmpeg, which is not on the PATH"),
        ("folder.gif", "folder.gif is a folder"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            main(["--checkpoint", "no such checkpoint", "--out", str(tmp_path / name)])
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="--frames is 0"):
        main(["--checkpoint", "none", "--out", str(tmp_path / "a.gif"), "--frames", "0"])
    with pytest.raises(ValueError, match="a clip: the clip has no frame"):
        animate(scene((np.zeros((0, 133, 3)), np.zeros((0, 133, 3))), "a clip"), tmp_path / "a.gif")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.gif"]


def stand_in(folder: Path, monkeypatch, script: str) -> None:
    """An `ffmpeg` first on the PATH that is this script."""
    program = folder / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!/usr/bin/env bash\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def test_ffmpeg_gets_every_frame_at_even_sides(tmp_path, monkeypatch):
    stand_in(
        tmp_path,
        monkeypatch,
        'printf "%s\\n" "$@" > "$(dirname "$0")/said"; for last; do :; done; cat > "${last#file:}"',
    )
    frames = [np.full((5, 7, 3), t, np.uint8) for t in range(4)]
    save(iter(frames), tmp_path / "a.mp4", 29.97)
    assert (tmp_path / "a.mp4").read_bytes() == b"".join(bytes([t]) * 4 * 6 * 3 for t in range(4))
    options = (tmp_path / "bin" / "said").read_text().splitlines()
    assert options[options.index("-s") + 1] == "6x4" and options[options.index("-r") + 1] == "29.97"
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "a.mp4"}


def test_when_ffmpeg_fails_the_line_has_its_reason_and_nothing_is_left(tmp_path, monkeypatch):
    stand_in(
        tmp_path, monkeypatch, 'for last; do :; done; echo half > "${last#file:}"; echo "no such encoder" >&2; exit 1'
    )
    (tmp_path / "a.mp4").write_text("an older one")
    with pytest.raises(ValueError, match=r"ffmpeg failed on .*a.mp4: no such encoder; name a .gif"):
        save((np.zeros((400, 400, 3), np.uint8) for _ in range(20)), tmp_path / "a.mp4", 30.0)
    assert (tmp_path / "a.mp4").read_text() == "an older one" and {path.name for path in tmp_path.iterdir()} == {
        "bin",
        "a.mp4",
    }


def test_the_clip_is_compared_with_what_its_written_tokens_decode_to(tiny):
    index = tiny.cache.split("val")[2]
    found = scene_of(tiny.tokenizer, tiny.cache, index, fps=30.0)
    prepared = tiny.cache.frames(index)
    assert found.tokens.name == tiny.cache.clips[index].name and len(found.original) == len(
        found.reconstruction
    ) == len(prepared)
    again = tiny.tokenizer.decode(found.tokens)
    back = to_pixels(again[..., :2], torch.from_numpy(prepared[:, 0].copy()))
    assert np.allclose(found.reconstruction[..., :2], back, atol=1e-3)
    seen = prepared[:, 1:, 2] > 0
    assert np.array_equal(found.original[..., 2] > 0, seen)
    near = np.linalg.norm(found.original[..., :2] - found.reconstruction[..., :2], axis=-1)[seen]
    assert np.median(near) < 0.2 * np.ptp(found.original[..., 0][seen]), "one beside the other, in the same tiny"


def test_training_shows_the_first_frames_small_and_tensorboard_gets_the_same_bytes(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    poses = torch.from_numpy(moving_clip(100, seed=2))
    path, folder = tmp_path / "a.gif", RunFolder(tmp_path / "run")
    folder.path.mkdir()
    reconstruction_animation(Picture("clip", poses, poses + 1), COCO_WHOLEBODY, fps=30.0, path=path)
    frames, durations = shown(path)
    assert len(frames) == 90 and sum(durations) == 3000 and path.stat().st_size < 1.5e6
    journal = Journal(folder)
    journal.animation(7, "reconstruction_animation", path.read_bytes())
    journal.close()
    (image,) = EventAccumulator(str(folder.tensorboard)).Reload().Images("reconstruction_animation")
    assert (
        image.step == 7
        and image.encoded_image_string == path.read_bytes()
        and (image.height, image.width) == frames[0].shape[:2]
    )


def test_training_draws_a_clip_at_health_time(tiny, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loop, folder = begin_loop(tiny_options(tiny.root, "train.sample_clips=1")), RunFolder(tmp_path)
    loop.steps = 12
    run = Run(loop, folder, [Journal(folder)])
    run.tell_validation(1, loop.validate(health=True))
    run.close()
    assert {path.name for path in folder.samples.iterdir()} >= {
        "reconstruction_0000012.png",
        "reconstruction_0000012.gif",
    }
    frames, _ = shown(folder.samples / "reconstruction_0000012.gif")
    assert len(frames) == min(90, tiny.cache.clips[tiny.cache.split("val")[0]].length)
    board = EventAccumulator(str(folder.tensorboard)).Reload()
    assert set(board.Tags()["images"]) == {"reconstruction", "reconstruction_animation"}
    (image,) = board.Images("reconstruction_animation")
    assert image.encoded_image_string == (folder.samples / "reconstruction_0000012.gif").read_bytes()


def test_the_program_shows_the_clip_that_is_named(tiny, tmp_path, capsys):
    name = tiny.cache.clips[tiny.cache.split("val")[1]].name
    command = ["--checkpoint", str(tiny.checkpoint), "--out", str(tmp_path / "new" / "a.gif"), "--frames", "7"]
    main([*command, "--sample", name, "export.codes_per_chunk=full"])
    told = capsys.readouterr().out
    assert (
        told.startswith(f"{tmp_path}/new/a.gif: {name}, 7 frames of ")
        and len(shown(tmp_path / "new" / "a.gif")[0]) == 7
    )
    with pytest.raises(ValueError, match=f"--sample: the split 'val' has no clip '{name[:-1]}'; did you mean"):
        main([*command, "--sample", name[:-1]])


def test_the_script_takes_the_newest_best_checkpoint(tiny, tmp_path):
    for name in ("signstream", "scripts", "requirements.txt", "decode_sample.sh"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["bash", "decode_sample.sh", *arguments],
            cwd=tmp_path,
            env={**environment, **more},
            capture_output=True,
            text=True,
            timeout=60,
        )

    done = run()
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(
        "error: there is no checkpoints/*/*/best.pt of a tokenizer: train first"
    )
    for folder in ("b/2024-05-01_00-00-00", "a/2025-01-01_00-00-00"):
        (tmp_path / "checkpoints" / folder).mkdir(parents=True)
        (tmp_path / "checkpoints" / folder / "best.pt").symlink_to(tiny.checkpoint)
    (tmp_path / "checkpoints" / "a" / "2026-01-01_00-00-00").mkdir()  # of a recogniser, which is no tokenizer
    (tmp_path / "checkpoints" / "a" / "2026-01-01_00-00-00" / "best.pt").write_bytes(b"")
    (tmp_path / "checkpoints" / "a" / "2026-01-01_00-00-00" / "config.yaml").write_text("task: recognition\n")
    done = run("--frames", "3")
    assert done.returncode == 0, done.stderr
    assert "decode_sample: checkpoints/a/2025-01-01_00-00-00/best.pt" in done.stderr
    assert len(shown(tmp_path / "exports" / "sample.gif")[0]) == 3
    name = tiny.cache.clips[tiny.cache.split("train")[1]].name
    done = run("--frames", "2", CHECKPOINT_PATH="checkpoints/b", SAMPLE_ID=name, SPLIT="train")
    assert done.returncode == 0 and f"exports/{name}.gif: {name}, 2 frames" in done.stdout, done.stderr
    assert len(shown(tmp_path / "exports" / f"{name}.gif")[0]) == 2
