"""Videos to a data set: what is written, what is left out, and that a stopped command goes on."""

import json
import multiprocessing
import os
import signal
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

from data_sets import data_config
from signstream.cli import run
from signstream.data import video, video_workers
from signstream.data.csl_daily import CSLDaily
from signstream.data.datasets import load_checked
from signstream.data.video_clip import Box, How, make_clip
from signstream.data.video_journal import Journal
from signstream.data.video_list import Video, find_videos
from signstream.data.video_set import Options, draw_splits, make_set
from signstream.errors import UserError
from signstream.skeleton import RIGHT_HAND
from video_clips import HEIGHT, SQUARE, WIDTH, drawn, noisy, write_sound, write_video
from video_eyes import RedSquare, eyes, watched

REAL = Path(__file__).parents[1].parent / "shared" / "data" / "video" / "test_video.mp4"


def moving(count=10, start=4, colour=(255, 0, 0)):
    """A square that goes two pixels a frame to the right."""
    pictures = [drawn(number, (start + 2 * number, 4)) for number in range(count)]
    for number, picture in enumerate(pictures):
        picture[4 : 4 + SQUARE, start + 2 * number : start + 2 * number + SQUARE] = colour
    return pictures


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three good ones, in two folders, and five that give no clip."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "good" / "b").mkdir(parents=True)
    (folder / "bad").mkdir()
    write_video(folder / "good" / "x.mp4", moving())
    write_video(folder / "good" / "y.mkv", moving(12, 8))
    write_video(folder / "good" / "b" / "x.mp4", moving(11, 6))
    whole = write_video(folder / "bad" / "cut.mp4", noisy(40))
    whole.write_bytes(whole.read_bytes()[:-3000])
    write_sound(folder / "bad" / "sound.mp4")
    write_video(folder / "bad" / "nobody.mp4", [np.full((HEIGHT, WIDTH, 3), 96, np.uint8)] * 5)
    write_video(folder / "bad" / "still.mp4", moving(colour=(255, 0, 160)))
    (folder / "bad" / "text.mp4").write_text("not a video")
    return folder


def options(videos, out, **others):
    return Options(**{"videos": find_videos([videos]), "out": out, "eyes": eyes(), **others})


def contents(out):
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.suffix in (".npy", ".json")}


def test_a_data_set_is_written(videos, tmp_path, capsys):
    assert make_set(options(videos / "good", tmp_path / "out")) == 0
    source = CSLDaily(data_config(tmp_path / "out"))
    splits = {name: split for split, names in source.splits().items() for name in names}
    assert sorted(splits) == ["b_x", "x", "y"] and set(splits.values()) == {"train", "val", "test"}
    clip = load_checked(source, splits["x"], "x")
    assert clip.poses.shape == (10, 133, 3) and clip.size == (WIDTH, HEIGHT) and clip.fps == 25
    nose = clip.poses[:, 0]
    assert np.allclose(nose[:, 0], 11.5 + 2 * np.arange(10), atol=0.3) and (nose[:, 2] == 0.75).all()
    assert (clip.poses[:, RIGHT_HAND, 2] == 1).all() and not clip.poses[:, 1:RIGHT_HAND].any()
    assert source.annotations["x"] == {
        **{"text": "", "gloss": "", "num_frames": 10, "signer": "", "fps": 25, "size": [WIDTH, HEIGHT]}
    }
    printed = capsys.readouterr()
    assert "3  converted: train 1, val 1, test 1; 33 frames" in printed.out and printed.err == ""


def test_what_gives_no_clip_is_named(videos, tmp_path, capsys):
    assert make_set(options(videos, tmp_path / "out")) == 1
    printed = capsys.readouterr()
    err = dict(line.split(": ", 2)[1:] for line in printed.err.splitlines())
    assert "3  converted: train 1, val 1, test 1; 33 frames\n" in printed.out
    assert err["bad_cut"].startswith("truncated: ") and err["bad_sound"].startswith("no moving picture in it")
    assert err["bad_nobody"] == "nobody there: no body in any of 5 frames"
    assert err["bad_still"] == "hands not seen: in 0 % of 10 frames (--min-hands 5)"
    assert err["bad_text"].startswith("not a whole video: ") and len(err) == 5
    assert sorted(path.stem for path in (tmp_path / "out").rglob("*.npy")) == ["good_b_x", "good_x", "good_y"]


def test_a_video_that_is_missing_was_not_finished_before(videos, tmp_path, capsys):
    gone = Video("gone", videos / "gone.mp4")
    given = options(videos / "good", tmp_path / "out")
    assert make_set(given._replace(videos=[*given.videos, gone])) == 1
    printed = capsys.readouterr()
    assert printed.err == "left out: gone: missing file\n" and "finished before" not in printed.out


def test_where_nothing_is_left_it_is_an_error(videos, tmp_path):
    with pytest.raises(UserError, match="no video gives a clip"):
        make_set(options(videos / "bad", tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "annotations.json").read_text()) == {}


def made(path, how=None, see=None):
    return make_clip(path, see or RedSquare(), how or How(), tick=lambda: None)


def test_irregular_time_stamps_become_a_regular_grid(tmp_path):
    times = [0, 40, 60, 120, 160, 200, 210, 280, 320, 400]
    pictures = [drawn(0, (4 + time // 20, 4)) for time in times]
    clip = made(write_video(tmp_path / "v.mkv", pictures, times=times), How(fps=25))
    assert len(clip.poses) == 11 and np.allclose(clip.poses[:, 0, 0], 11.5 + 2 * np.arange(11), atol=0.5)
    assert made(tmp_path / "v.mkv").fps == pytest.approx(9 / 0.4, rel=0.01)


def test_a_clip_is_resampled(videos):
    clip = made(videos / "good" / "x.mp4", How(fps=50))
    assert clip.fps == 50 and np.allclose(clip.poses[:, 0, 0], 11.5 + np.arange(19), atol=0.3)
    counts = {fps: len(made(videos / "good" / "x.mp4", How(fps=fps)).poses) for fps in (5, 25, 30)}
    assert counts == {5: 2, 25: 10, 30: 12}, "0.4 s"


def test_a_crop_is_all_that_is_seen(videos):
    clip = made(videos / "good" / "x.mp4", How(crop=Box(4, 2, 50, 40)))
    assert clip.size == (50, 40) and np.allclose(
        clip.poses[:, 0, :2].T, [7.5 + 2 * np.arange(10), [9.5] * 10], atol=0.3
    )
    assert made(videos / "good" / "x.mp4", How(crop=Box(4, 2, 61, 40))).reason == (
        f"--crop 4,2,61,40 leads out of its picture, which is {WIDTH} x {HEIGHT}"
    )


def test_no_picture_is_kept(videos):
    alive = []

    class Watching(RedSquare):
        def __call__(self, picture):
            alive.append(weakref.ref(picture))
            assert sum(each() is not None for each in alive) <= 2
            return super().__call__(picture)

    assert len(made(videos / "good" / "y.mkv", see=Watching()).poses) == len(alive) == 12


def test_every_clip_begins_afresh(videos, tmp_path):
    watching, see = watched()
    make_set(options(videos / "good", tmp_path / "out", eyes=watching))
    assert see.resets == 3 and see.looked == 33


# -- going on


def again(videos, out, **others):
    """How many pictures a further command looks at."""
    watching, see = watched()
    make_set(options(videos, out, eyes=watching, **others))
    return see.looked


def test_what_is_finished_is_left(videos, tmp_path, capsys):
    out = tmp_path / "out"
    make_set(options(videos, out))
    before = contents(out)
    assert again(videos, out) == 0 and contents(out) == before
    assert "8  of all these were finished before" in capsys.readouterr().out
    assert again(videos / "good", out) == 33, "which are other clips, by their names"
    assert "3  made by earlier commands and not named" in capsys.readouterr().out


def test_other_settings_are_done_anew(videos, tmp_path):
    good, out = videos / "good", tmp_path / "out"
    make_set(options(good, out))
    assert again(good, out, how=How(fps=50)) == again(good, out, how=How(crop=Box(0, 0, 60, 40))) == 33
    assert json.loads((out / "annotations.json").read_text())["x"]["size"] == [60, 40]
    watching, see = watched()
    make_set(options(good, out, how=How(crop=Box(0, 0, 60, 40)), eyes=watching._replace(name="another version")))
    assert see.looked == 33


def test_a_video_that_changed_is_done_anew(videos, tmp_path):
    (tmp_path / "in").mkdir()
    path = write_video(tmp_path / "in" / "x.mp4", moving())
    write_video(tmp_path / "in" / "y.mp4", moving(12))
    make_set(options(path.parent, tmp_path / "out"))
    write_video(path, moving(14))
    assert again(path.parent, tmp_path / "out") == 14
    assert json.loads((tmp_path / "out" / "annotations.json").read_text())["x"]["num_frames"] == 14
    path.write_text("broken now")
    assert make_set(options(path.parent, tmp_path / "out")) == 1
    assert [file.stem for file in (tmp_path / "out").rglob("*.npy")] == ["y"]


def test_a_clip_that_was_lost_is_made_again(videos, tmp_path):
    make_set(options(videos / "good", tmp_path / "out"))
    (tmp_path / "out" / "frames_512x512" / "x.npy").unlink()
    (tmp_path / "out" / "frames_512x512" / "y.npy").write_bytes(b"half")
    assert again(videos / "good", tmp_path / "out") == 22


def test_another_share_of_hands_looks_only_at_what_it_has_not(videos, tmp_path, capsys):
    make_set(options(videos, tmp_path / "out"))
    assert again(videos, tmp_path / "out", min_hands=0) == 10, "the clip without hands"
    capsys.readouterr()
    assert again(videos, tmp_path / "out", min_hands=50) == 0 and "bad_still: hands not" in capsys.readouterr().err


@pytest.mark.parametrize("at", [5, 15, 33])
def test_a_killed_command_goes_on(videos, tmp_path, at):
    straight, out = tmp_path / "straight", tmp_path / "out"
    make_set(options(videos / "good", straight))
    killed = multiprocessing.get_context("fork").Process(
        target=make_set, args=(options(videos / "good", out, eyes=eyes(kill_at=at)),)
    )
    killed.start()
    killed.join(30)
    assert killed.exitcode == -signal.SIGKILL and not (out / "annotations.json").exists()
    with (out / "video_journal.jsonl").open("ab") as journal:
        journal.write(b'{"name": "x", "ori')  # as a power cut leaves it
    finished = len(list((out / "frames_512x512").glob("*.npy")))
    assert finished == {5: 0, 15: 1, 33: 2}[at]  # b_x has 11 frames, x 10, y 12
    assert again(videos / "good", out) == {5: 33, 15: 22, 33: 12}[at]
    assert contents(out) == contents(straight) and again(videos / "good", out) == 0


def test_a_clip_whose_settings_were_not_written_down_is_made_again(videos, tmp_path, monkeypatch):
    """Killed between the clip and the journal's line, and then given its first settings again."""
    good, out, add = videos / "good", tmp_path / "out", Journal.add
    make_set(options(good, out))

    def stops(journal, entry):
        if not entry.reason:
            raise KeyboardInterrupt
        add(journal, entry)

    monkeypatch.setattr(Journal, "add", stops)
    with pytest.raises(KeyboardInterrupt):
        make_set(options(good, out, how=How(crop=Box(0, 0, 60, 40))))
    monkeypatch.undo()
    assert again(good, out) == 11


def test_more_processes_give_the_same_bits(videos, tmp_path, capsys):
    make_set(options(videos, tmp_path / "one"))
    one = capsys.readouterr()
    make_set(options(videos, tmp_path / "two", workers=2))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert capsys.readouterr().err == one.err


def test_a_video_that_ends_its_process_is_named(videos, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("a", "c", "d"):
        write_video(tmp_path / "in" / f"{name}.mp4", moving())
    write_video(tmp_path / "in" / "b.mp4", [picture[:, :50] for picture in moving()])
    assert make_set(options(tmp_path / "in", tmp_path / "out", eyes=eyes(die_on=50), workers=2)) == 1
    assert capsys.readouterr().err == "left out: b: the process that looked at it died\n"
    assert again(tmp_path / "in", tmp_path / "out") == 10, "it may have been killed, so it is tried again"


def test_ctrl_c_is_not_for_the_processes_not_even_while_they_begin(videos):
    connection, process = video_workers.start(eyes(), How())
    os.kill(process.pid, signal.SIGINT)
    connection.send(video_workers.Job("x", videos / "good" / "x.mp4"))
    while isinstance(message := connection.recv(), int):
        pass
    assert message.poses.shape == (10, 133, 3)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    connection.close()
    process.join()
    assert process.exitcode == 0


def test_a_folder_of_something_else_is_refused(videos, tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match=r"holds something else, as it has no video_journal.jsonl"):
        make_set(options(videos, tmp_path))


def test_two_commands_do_not_fill_one_folder(videos, tmp_path):
    class Second(RedSquare):
        def __call__(self, picture):
            with pytest.raises(UserError, match="is being filled by another process"):
                make_set(options(videos / "good", tmp_path / "out"))
            return super().__call__(picture)

    make_set(options(videos / "good", tmp_path / "out", eyes=eyes()._replace(open=Second)))


# -- splits


def test_splits_depend_on_nothing_but_the_names():
    clips = [Video(f"clip{number}", Path()) for number in range(2000)]
    splits = draw_splits(clips, (8, 1, 1), 0)
    assert 1550 < sum(split == "train" for split in splits.values()) < 1650 and set(splits.values()) == {
        *("train", "val", "test")
    }
    assert draw_splits(clips[::-2], (8, 1, 1), 0).items() <= splits.items()
    assert draw_splits(clips, (8, 1, 1), 1) != splits
    assert set(draw_splits(clips, (1, 1, 0), 0).values()) == {"train", "val"}


@pytest.mark.parametrize(("count", "held"), [(1, {"train"}), (2, {"train", "val"}), (3, {"train", "val", "test"})])
def test_few_clips_leave_no_split_empty(count, held):
    for seed in range(50):
        clips = [Video(f"clip{number}", Path()) for number in range(count)]
        splits = draw_splits(clips, (8, 1, 1), seed)
        assert len(set(splits.values())) == len(held)


def test_a_list_says_the_split():
    clips = [Video("a", Path(), split="test"), *(Video(f"clip{number}", Path()) for number in range(9))]
    assert draw_splits(clips, (1, 0, 0), 0) == {"a": "test", **{f"clip{number}": "train" for number in range(9)}}


# -- the door


def ends(argv, monkeypatch, capsys):
    """The exit status, and the last line of standard error."""
    monkeypatch.setattr("sys.argv", ["video", *map(str, argv)])
    with pytest.raises(SystemExit) as end:
        run(video.main)
    return end.value.code, (capsys.readouterr().err.splitlines() or [""])[-1]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--workers", "0"], "--workers 0"),
        (["--crop", "1,2,3"], "--crop '1,2,3': four whole numbers"),
        (["--crop", "0,0,0,9"], "is empty"),
        (["--fps", "0.1"], "--fps 0.1: 1 to 1000"),
        (["--min-hands", "101"], "--min-hands 101"),
        (["--splits", "8:2"], "--splits '8:2': the shares of train, val, test"),
    ],
)
def test_an_option_that_cannot_be_is_a_line(argv, says, tmp_path, monkeypatch, capsys):
    status, line = ends(["x.mp4", "--out", tmp_path / "out", *argv], monkeypatch, capsys)
    assert status == 2 and says in line and not (tmp_path / "out").exists()


@pytest.mark.parametrize("package", ["av", "mediapipe"])
def test_a_missing_package_is_a_line(package, videos, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    status, line = ends([videos, "--out", tmp_path / "out"], monkeypatch, capsys)
    assert status == 2 and f"pip install {package}" in line and not (tmp_path / "out").exists()


def test_a_recorded_person_is_found(tmp_path, monkeypatch, capfd):
    pytest.importorskip("mediapipe", reason="needs mediapipe, of the extra `video`")
    if not REAL.is_file():
        pytest.skip("the recorded video is not on this machine")
    assert video.main([str(REAL), "--out", str(tmp_path / "out")]) == 0
    printed = capfd.readouterr()
    assert "1  converted: train 1, val 0, test 0; 58 frames" in printed.out and printed.err == ""
    rows = np.load(tmp_path / "out" / "frames_512x512" / "test_video.npy")
    seen = (rows[..., 2] > 0).mean(0)
    assert rows[0, 0].tolist() == [540, 720, 1] and rows.shape == (58, 134, 3)
    assert seen[1] == 1 and not seen[92:113].any() and 0.25 < seen[113] < 0.45
    assert (rows[:, 6, 0] > rows[:, 7, 0]).all(), "the signer's left shoulder is on the right of the picture"
    assert os.path.getsize(tmp_path / "out" / "video_journal.jsonl") < 1000
