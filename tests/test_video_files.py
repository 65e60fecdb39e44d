"""Videos, upright and with square pixels, and files that are none, or no whole one."""

import os
import struct
import sys
from fractions import Fraction

import numpy as np
import pytest

from signstream.errors import UserError
from signstream.io.video_files import pictures, promised_frames, read_head
from video_clips import FORMATS, HEIGHT, WIDTH, damage, drawn, noisy, write_sound, write_video


def read(path):
    """[T, H, W, 3] and [T] seconds."""
    found = list(pictures(path))
    return np.stack([picture.pixels for picture in found]), [picture.seconds for picture in found]


def reason_of(path):
    """Why the file is no whole video: what its head says, or else what its pictures do."""
    try:
        read_head(path)
        assert all(picture.pixels.shape == (HEIGHT, WIDTH, 3) for picture in pictures(path))
    except UserError as error:
        return str(error)
    raise AssertionError("a whole video")


def red(picture):
    """x, y of the red square's middle; where it is drawn, 11.5 and 11.5."""
    weight = np.maximum(picture[..., 0].astype(float) - picture[..., 1], 0)
    y, x = np.indices(weight.shape)
    return [float((weight * x).sum() / weight.sum()), float((weight * y).sum() / weight.sum())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("video")


@pytest.fixture(scope="module")
def plain(folder):
    return write_video(folder / "plain.mp4")


def test_a_video_is_its_pictures(plain):
    found, seconds = read(plain)
    assert found.shape == (25, HEIGHT, WIDTH, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - np.stack([drawn(i) for i in range(25)])).mean() < 4
    assert np.allclose(seconds, np.arange(25) / 25) and read_head(plain) == (25, 1.0, 25.0)
    assert promised_frames(plain) == 25


@pytest.mark.parametrize(("ending", "codec"), FORMATS)
def test_every_container_tells_its_time(folder, ending, codec):
    path = write_video(folder / f"any{ending}", codec=codec)
    head = read_head(path)
    assert head.frames == 25 and head.seconds == pytest.approx(1, abs=0.002) and head.rate == pytest.approx(25)
    assert np.allclose(read(path)[1], np.arange(25) / 25, atol=0.001)


def test_time_stamps_are_the_files_own(folder):
    times = [0, 10, 100, 133, 166, 400, 440, 1000]
    path = write_video(folder / "variable.mkv", [drawn(i) for i in range(8)], times=times)
    assert np.allclose(read(path)[1], np.array(times) / 1000, atol=0.001)
    assert read_head(path).rate == pytest.approx(7, rel=0.02), "seven steps in a second"


@pytest.mark.parametrize(
    ("matrix", "size", "place"),
    [
        ((1, 0, 0, 1), (HEIGHT, WIDTH), [11.5, 11.5]),
        ((0, 1, -1, 0), (WIDTH, HEIGHT), [HEIGHT - 12.5, 11.5]),  # a quarter clockwise
        ((-1, 0, 0, -1), (HEIGHT, WIDTH), [WIDTH - 12.5, HEIGHT - 12.5]),
        ((0, -1, 1, 0), (WIDTH, HEIGHT), [11.5, WIDTH - 12.5]),  # and the other way
        ((-1, 0, 0, 1), (HEIGHT, WIDTH), [WIDTH - 12.5, 11.5]),  # mirrored
        ((0, 1, 1, 0), (WIDTH, HEIGHT), [11.5, 11.5]),
    ],
)
def test_a_picture_lies_as_its_container_says(folder, plain, matrix, size, place):
    content = bytearray(plain.read_bytes())
    at = content.index(b"tkhd") + 44
    values = struct.unpack(">9i", content[at : at + 36])
    a, b, c, d = (value << 16 for value in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, values[2], c, d, values[5], 0, 0, values[8])
    path = folder / "turned.mp4"
    path.write_bytes(content)
    found = next(pictures(path)).pixels
    assert found.shape == (*size, 3) and found.flags.c_contiguous and red(found) == pytest.approx(place, abs=0.2)


@pytest.mark.parametrize(("shape", "width"), [(Fraction(2), 2 * WIDTH), (Fraction(1, 2), WIDTH // 2)])
def test_pixels_become_square(folder, shape, width):
    def wide(stream):
        stream.codec_context.sample_aspect_ratio = shape

    found = next(pictures(write_video(folder / "wide.mp4", prepare=wide))).pixels
    assert found.shape == (HEIGHT, width, 3) and red(found) == pytest.approx([12 * shape - 0.5, 11.5], abs=0.2)


def test_pixels_of_no_shape_are_refused(folder):
    def narrow(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(1, 60)

    assert "pixels 0.0167 times as wide as high" in reason_of(write_video(folder / "narrow.mp4", prepare=narrow))


def test_ten_bits_are_read(folder):
    found, _ = read(write_video(folder / "ten.mp4", form="yuv420p10le"))
    assert len(found) == 25 and red(found[0]) == pytest.approx([11.5, 11.5], abs=1)


def test_one_frame_is_a_video(folder):
    path = write_video(folder / "one.mp4", [drawn(0)])
    assert len(read(path)[0]) == 1 and read_head(path).frames == 1 and read_head(path).rate == 25


@pytest.mark.parametrize(("ending", "codec"), [form for form in FORMATS if form[0] != ".ts"])
def test_a_truncated_file_is_named(folder, ending, codec):
    """All but .ts, whose head promises nothing."""
    whole = write_video(folder / f"long{ending}", noisy(60), codec=codec)
    assert len(read(whole)[0]) == 60
    cut = folder / f"cut{ending}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    assert reason_of(cut).startswith("truncated: ")


@pytest.mark.parametrize(("ending", "codec"), [(".mkv", "libx264"), (".webm", "libvpx"), (".mp4", "libx264")])
def test_a_video_that_begins_late_is_whole_and_a_part_of_it_is_not(folder, ending, codec):
    whole = write_video(folder / f"late{ending}", noisy(60), codec=codec, times=[700_000 + 40 * n for n in range(60)])
    assert len(read(whole)[0]) == 60 and read_head(whole).seconds == pytest.approx(2.4) and promised_frames(whole) == 60
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    assert reason_of(whole).startswith("truncated: 1.")


def test_a_file_that_was_never_finished_is_named(folder):
    whole = write_video(folder / "begun.mov", noisy(60))  # which has its table at the end
    whole.write_bytes(whole.read_bytes()[:-2000])
    assert reason_of(whole).startswith("not a whole video: ")


@pytest.mark.parametrize(("ending", "codec"), FORMATS)
def test_garbage_in_the_middle_is_named(folder, ending, codec):
    whole = write_video(folder / f"good{ending}", noisy(60), codec=codec)
    bad = folder / f"bad{ending}"
    bad.write_bytes(damage(whole.read_bytes()))
    assert reason_of(bad).startswith(("broken: ", "truncated: "))


@pytest.mark.parametrize(("cover", "says"), [(False, "audio alone"), (True, "a cover and audio alone")])
def test_sound_is_no_video(folder, cover, says):
    path = write_sound(folder / "sound.mp4", cover)
    assert reason_of(path) == f"no moving picture in it: {says}" and promised_frames(path) == 0


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"not a video\n" * 99, bytes(5000), np.random.default_rng(0).bytes(9000)]
)
def test_what_is_no_video_says_so(folder, content):
    path = folder / "other.mp4"
    path.write_bytes(content)
    assert reason_of(path).startswith(("not a whole video: ", "no frame", "no moving picture"))


def test_a_playlist_reads_no_other_file(folder):
    other = write_video(folder / "other.ts")
    path = folder / "list.m3u8"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n")
    assert reason_of(path).startswith("not a whole video")
    path = folder / "list.ffconcat"
    path.write_text(f"ffconcat version 1.0\nfile {other.name}\n")
    assert reason_of(path).startswith(("not a whole video", "cannot be read"))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    assert reason_of(tmp_path / "pipe.mp4") == "cannot be read: not a file, but a pipe"


def test_pictures_are_made_one_by_one(plain):
    stream = pictures(plain)
    assert iter(stream) is stream and next(stream).seconds == 0 and next(stream).seconds == 0.04
    stream.close()


def test_without_the_package_a_line_names_it(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"videos need the package av \(pip install av\)"):
        next(pictures(plain))
