"""The pictures hold what they should and the table is right to the digit; `write_odd` makes the data set by hand."""

import io
import subprocess
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from clips import moving_clip
from data_sets import note, with_size, write_csl, write_npz
from signstream.data.overview import ANIMATION, SHEET, STATISTICS, one_of_each
from signstream.data.statistics import gap_lengths, part_speeds
from signstream.data.visualize_dataset import main
from signstream.pictures import figure as draw
from signstream.skeleton import COCO_WHOLEBODY, LEFT_HAND, RIGHT_HAND, build

FILES = {SHEET, ANIMATION, STATISTICS}
LEFT, RIGHT, FRAMES = slice(LEFT_HAND, RIGHT_HAND), slice(RIGHT_HAND, 133), 12
OWN_PARTS = {"body": (1, 33), "left_hand": (34, 54), "right_hand": (55, 75)}


def write_odd(root: Path) -> Path:
    """Three clips to train on, of 12 frames: `gap` lacks the left hand in frames 3 to 5, `one_hand` the right one
    throughout. `other` is val's."""
    gap, one_hand, whole, other = (moving_clip(FRAMES, seed) for seed in range(4))
    gap[3:6, LEFT, 2], one_hand[:, RIGHT] = 0, np.nan
    notes = {
        "gap": note(gap, text="他去$北京$ 了\n\x07 👩‍👩‍👧 x$_y \\frac{1}", gloss="他 $x^2$ 去", fps=30),
        "one_hand": note(one_hand, fps=30),
        "手语 $1": note(whole, text="a" * 500, fps=30),
        "broken": note(whole),
    }
    splits = {"train": ["gap", "one_hand", "手语 $1", "broken"], "val": ["other"]}
    write_csl(
        root,
        {"gap": with_size(gap), "one_hand": one_hand, "手语 $1": whole, "other": other, "broken": whole[:, :50]},
        splits,
        notes,
    )
    return root


def run(out: Path, root: Path, *more: str) -> str:
    with redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a glyph that is missing
        main(["--out", str(out), f"data.root={root}", f"data.cache={root.parent / 'cache'}", *more])
    return printed.getvalue()


def row(printed: str, part: str) -> list[str]:
    return next(line.split()[1:] for line in printed.splitlines() if line.startswith(part + " "))


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("visualize")
    root, out = write_odd(folder / "data"), folder / "out"
    out.mkdir()
    (out / "mine.png").write_text("mine")
    (out / SHEET).write_text("an older one")
    return SimpleNamespace(root=root, out=out, printed=run(out, root))


def test_writes_its_three_files_and_nothing_else(odd):
    assert {path.name for path in odd.out.iterdir()} == FILES | {"mine.png"} and (
        odd.out / "mine.png"
    ).read_text() == "mine"
    assert not list(odd.root.glob("*.png"))
    last = odd.printed.splitlines()[-1]
    assert all(str(odd.out / name) in last for name in FILES)


def test_contact_sheet_shows_every_part(odd):
    sheet = Image.open(odd.out / SHEET).convert("RGB")
    assert sheet.width == 1500 and sheet.height > 600
    colours = {colour: count for count, colour in sheet.getcolors(1 << 24)}
    assert len(colours) > 200
    for part in ("face", "left_hand", "right_hand", "body"):
        assert colours.get(tuple(round(255 * c) for c in to_rgb(draw.COLOURS[part])), 0) > 500, part


def test_animation_moves_in_real_time(odd):
    animation, frames, milliseconds = Image.open(odd.out / ANIMATION), set(), 0
    for k in range(animation.n_frames):
        animation.seek(k)
        frames.add(animation.convert("RGB").tobytes())
        milliseconds += animation.info["duration"]
    assert len(frames) == FRAMES and milliseconds == FRAMES / 30 * 1000


def test_statistics_is_a_picture(odd):
    picture = np.asarray(Image.open(odd.out / STATISTICS).convert("L"))
    assert picture.shape[1] == 1500 and 0.01 < (picture < 200).mean() < 0.5


def test_table_agrees_with_the_hand(odd):
    # Of 36 frames the left hand lacks 3, a gap of 3 frames for each of 21 joints; the right hand lacks 12, with no
    # sighting to make a gap of them
    assert row(odd.printed, "left_hand")[:3] == ["21", "8.3%", "8.3%"] and row(odd.printed, "left_hand")[4:7] == [
        "21",
        "3.0",
        "100.0%",
    ]
    assert row(odd.printed, "right_hand")[:3] == ["21", "33.3%", "33.3%"] and row(odd.printed, "right_hand")[4:7] == [
        "0",
        "-",
        "-",
    ]
    assert row(odd.printed, "full_body")[1:3] == [f"{(3 + 12) * 21 / (36 * 133):.1%}", "0.0%"]
    assert "0.40" in odd.printed.split("clip length")[1].splitlines()[0]
    assert "left out: 1 shape" in odd.printed


def test_a_chosen_clip_and_a_seed(odd, tmp_path):
    printed = run(tmp_path / "a", odd.root, "--names", "one_hand", "--sample", "1", "--seed", "3")
    assert f"{SHEET} (1 clips)" in printed and f"{STATISTICS} (1 clips)" in printed
    repeated = run(tmp_path / "b", odd.root, "--names", "one_hand", "--sample", "1", "--seed", "3")
    assert repeated == printed.replace(str(tmp_path / "a"), str(tmp_path / "b"))
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in FILES)


def test_another_layout_with_its_own_joints_and_no_bones(tmp_path):
    clips = {}
    for seed in range(2):
        poses = moving_clip(10, seed)[:, :75].copy()
        poses[2:7, 33:54] = 0  # [10, 75, 3]: half of the left hand's frames
        clips[f"c{seed}"] = {"poses": poses, "fps": np.float32(25)}
    root = write_npz(tmp_path / "npz", clips)
    parts = "{" + ", ".join(f"{name}: [{a}, {b}]" for name, (a, b) in OWN_PARTS.items()) + "}"
    printed = run(
        tmp_path / "out",
        root,
        "data.layout=npz",
        "data.num_joints=75",
        f"data.body_parts={parts}",
        "data.unit_joints=[[6, 7]]",
        "data.centers={body: 1, left_hand: 34, right_hand: 55}",
        "data.augment.mirror=false",
    )
    assert row(printed, "left_hand")[:3] == ["21", "50.0%", "50.0%"] and row(printed, "body")[:3] == [
        "33",
        "0.0%",
        "0.0%",
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--split", "trian"], "the split 'trian' has no clip: those that have are train (3), val (1)"),
        (["--names", "gap,one_hnd"], "no clip 'one_hnd'; did you mean 'one_hand'?"),
        (["--names", "other"], "no clip 'other'; it is in val"),
        (["--names", "broken"], "no clip 'broken'; it was left out: shape"),
        (["--clips", "0"], "--clips: 0 clips are asked for; from 1 to"),
        (["--sample", "0"], "--sample: 0 clips are asked for"),
        (["data.chunk_lem=3"], "did you mean data.chunk_len?"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(odd, tmp_path, arguments, says):
    with pytest.raises(ValueError) as error:
        run(tmp_path / "out", odd.root, *arguments)
    assert says in str(error.value) and "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_out_may_not_be_a_file(odd, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match="is a file: the name of a folder is expected"):
        run(tmp_path / "out", odd.root)
    assert (tmp_path / "out").read_text() == "mine"


def test_help_waits_for_no_heavy_module():
    script = (
        "import sys, signstream.data.visualize_dataset as v; "
        "assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules); v.main(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0 and "--split" in done.stdout, done.stderr


def test_gaps_lie_between_sightings():
    seen = np.array([[0, 1, 1], [1, 0, 1], [0, 0, 1], [0, 1, 1], [1, 0, 1], [0, 1, 1]], bool)
    assert sorted(gap_lengths(seen)) == [1, 2, 2]


def test_speed_of_what_is_seen():
    units = np.zeros((4, 2, 3))
    units[:, 0] = np.array([(0, 0, 1), (3, 4, 1), (6, 8, 1), (99, 99, 0)])
    units[:, 1] = np.array([(0, 0, 1), (1, 0, 1), (50, 0, 0), (0, 0, 1)])
    assert part_speeds(units, 10.0) == pytest.approx([30, 50])


def test_clips_are_drawn_evenly():
    drawn = one_of_each(range(100), 7, seed=1)
    assert drawn == one_of_each(range(100), 7, seed=1) != one_of_each(range(100), 7, seed=2)
    assert [clip * 7 // 100 for clip in drawn] == list(range(7)) and one_of_each([4, 2], 7, seed=1) == [4, 2]


def test_what_a_missing_joint_holds_is_not_drawn():
    poses = np.where(moving_clip(2)[..., 2:] > 0.7, moving_clip(2), 0)

    def picture(filled: float) -> np.ndarray:
        figure = draw.new_figure(2, 2, dpi=80)
        axes, frames = figure.add_subplot(), poses.copy()
        frames[..., :2][poses[..., 2] == 0] = filled
        draw.show_limits(axes, draw.frame_limits(frames), (512, 512))
        draw.draw_pose(axes, frames[1], COCO_WHOLEBODY, before=draw.last_seen(frames)[1])
        return draw.figure_pixels(figure)

    assert np.array_equal(picture(0), picture(300)) and np.array_equal(picture(0), picture(np.nan))
    assert len(np.unique(picture(0).reshape(-1, 3), axis=0)) > 50


def test_a_hollow_mark_lies_where_a_joint_was_seen_last():
    poses = moving_clip(3)
    poses[1:, LEFT], poses[:, 5] = 0, 0
    last = draw.last_seen(poses)
    assert np.array_equal(last[2, LEFT], poses[0, LEFT, :2]) and np.isnan(last[:, 5]).all()
    axes = draw.new_figure(1, 1).add_subplot()
    artist = draw.draw_pose(axes, poses[2], COCO_WHOLEBODY, before=last[2])
    hollow = np.isfinite(np.ma.filled(artist.hollow.get_offsets(), np.nan)).all(1)
    assert np.array_equal(hollow.nonzero()[0], np.arange(LEFT_HAND, RIGHT_HAND))


def test_the_crop_holds_the_signer_and_not_the_stray():
    poses = moving_clip(50)
    usual = draw.frame_limits(poses, 0.9)
    poses[7, 100, :2] = 90_000
    stray = draw.frame_limits(poses, 0.9)
    assert usual.aspect == pytest.approx(0.9) and np.allclose(usual, stray, atol=5)
    assert draw.frame_limits(np.zeros((3, 133, 3)), size=(640, 480))[:2] == pytest.approx((-38.4, 678.4))


def test_each_joint_belongs_to_its_smallest_part():
    owner = draw.part_of_joint(COCO_WHOLEBODY)
    assert [owner[joint] for joint in (0, 17, 23, 91, 112)] == ["body", "full_body", "face", "left_hand", "right_hand"]
    assert [part.name for part in draw.separate_parts(COCO_WHOLEBODY)] == ["face", "left_hand", "right_hand", "body"]
    bones = draw.part_of_bone(COCO_WHOLEBODY)
    assert set(bones) == set(COCO_WHOLEBODY.bones) and bones[(91, 92)] == "left_hand" and bones[(9, 91)] == "full_body"
    other = build(80, OWN_PARTS, {"body": 1, "left_hand": 34, "right_hand": 55}, unit_joints=[(6, 7)])
    assert draw.part_of_joint(other)[75:] == (None,) * 5 and len(draw.separate_parts(other)) == 3


def test_any_text_becomes_a_line_that_can_be_drawn():
    letters = draw.Lettering()
    assert letters.one_line(" a\n\tb\x07\u202e ", 20) == "a b" and not letters.unknown
    assert letters.one_line("abcdef", 6) == "abcdef" and letters.one_line("abcdefg", 6) == "abcde…"
    wide = letters.one_line("他去北京了很远", 8)
    assert len(wide) == 4 and wide.endswith("…")
    assert letters.one_line("\U0010fffd\ud800", 8) == "□□" and len(letters.unknown) >= 2
