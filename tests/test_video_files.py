"""Videos, upright and with square pixels, and files that are none, or no whole one."""

import numpy as np
import pytest

from signstream.io.video_files import pictures, read_head
from video_clips import HEIGHT, WIDTH, drawn, write_video


def read(path):
    """[T, H, W, 3] and [T] seconds."""
    found = list(pictures(path))
    return np.stack([picture.pixels for picture in found]), [picture.seconds for picture in found]


def red(picture):
    """x, y of the red square's middle, and its size."""
    rows, columns = np.nonzero((picture[..., 0] > 180) & (picture[..., 1] < 90))
    return [float(columns.mean()), float(rows.mean()), len(rows)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "plain.mp4")


def test_a_video_is_its_pictures(plain):
    found, seconds = read(plain)
    assert found.shape == (25, HEIGHT, WIDTH, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - np.stack([drawn(i) for i in range(25)])).mean() < 4
    assert np.allclose(seconds, np.arange(25) / 25) and read_head(plain) == (25, 1.0, 25.0)
