"""Frames at irregular times onto a regular grid."""

import numpy as np
import pytest

from signstream.data.even_pace import EvenPace
from signstream.errors import UserError


def frame(x, score=1.0):
    """[2, 3]: one joint at x, the other always there at 2 x."""
    return np.array([[x, 0, score], [2 * x, 1, 1]], np.float32) * np.float32([[score > 0], [1]])


def paced(fps, seconds, frames):
    pace = EvenPace(fps)
    made = [one for second, frame in zip(seconds, frames) for one in pace.add(second, frame)]
    return np.stack([*made, *pace.end()])


@pytest.mark.parametrize("digits", [9, 3])
@pytest.mark.parametrize("fps", [25, 30, 30000 / 1001, 60])
def test_at_their_own_rate_frames_stay_as_they_are(fps, digits):
    """Also if a container rounds its time stamps to thousandths."""
    frames = np.random.default_rng(0).random((200, 2, 3), np.float32)
    assert np.array_equal(paced(fps, [round(7.3 + i / fps, digits) for i in range(200)], frames), frames)


def test_a_joint_moves_on_a_straight_line_whatever_the_time_stamps():
    seconds = np.cumsum([0, 0.01, 0.07, 0.033, 0.033, 0.1, 0.2, 0.04])
    made = paced(50, seconds, [frame(100 * second) for second in seconds])
    assert len(made) == 1 + 24 and np.allclose(made[:, 0, 0], 100 * np.arange(25) / 50, atol=0.11)  # 0.05 steps near


def test_where_one_frame_lacks_a_joint_the_nearer_one_counts():
    made = paced(40, [0.0, 0.1], [frame(4), frame(8, score=0)])
    assert made[:, 0].tolist() == [[4, 0, 1], [4, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert made[:, 1, 0].tolist() == [8, 10, 12, 14, 16], "what both have is not touched by it"


def test_over_a_long_gap_nothing_is_made_up():
    made = paced(10, [0.0, 1.0], [frame(1), frame(2)])
    assert len(made) == 11 and not made[1:10].any() and made[10, 0, 0] == 2


def test_frames_come_as_soon_as_they_are_known():
    pace = EvenPace(10)
    assert [len(pace.add(second, frame(second))) for second in (5.0, 5.05, 5.1, 5.35, 5.4)] == [1, 0, 1, 2, 1]
    assert not pace.end()


@pytest.mark.parametrize(("fps", "count"), [(30, 120), (25, 100), (50, 199), (5, 20), (1, 4)])
def test_a_clip_keeps_its_length(fps, count):
    assert len(paced(fps, [i / 25 for i in range(100)], [frame(i) for i in range(100)])) == count


def test_one_frame_is_one():
    assert len(paced(25, [0.0], [frame(1)])) == 1
    assert EvenPace(25).end() == []


@pytest.mark.parametrize("second", [1.0, 0.5, 1e9, float("nan")])
def test_time_that_does_not_go_on_is_refused(second):
    pace = EvenPace(25)
    pace.add(1.0, frame(1))
    with pytest.raises(UserError, match=r"broken time stamps: a frame at 1.000 s, the next at"):
        pace.add(second, frame(2))
