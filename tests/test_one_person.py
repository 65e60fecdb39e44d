"""Of several people the one who signs: whatever crosses, passes, stands beside or is listed twice, in any order."""

from itertools import combinations

import numpy as np
import pytest

from clips import moving_clip
from signstream.data.one_person import MOST_PEOPLE, Person, Track, best_way, choose, followed, tracks_of
from signstream.skeleton import LEFT_HAND, NUM_JOINTS

T = 40
SCORE = 0.3


def person(seed: int, x: float, *, unit: float = 10.0, speed: float = 0.0, hands: bool = True) -> np.ndarray:
    """[T, 133, 3]: one whose nose begins at x and goes on by so many pixels a frame."""
    poses = moving_clip(T, seed, unit=unit, nose=(x, 150.0))
    poses[..., 0] += speed * np.arange(T, dtype=np.float32)[:, None]
    if not hands:
        poses[:, LEFT_HAND:, 2] = 0.1
    return poses


def listed(*people: tuple[np.ndarray, range], seed: int = 0) -> list[np.ndarray]:
    """T frames of those who are there, in an order of each frame's own."""
    rng = np.random.default_rng(seed)
    frames = []
    for frame in range(T):
        there = [poses[frame] for poses, when in people if frame in when]
        frames.append(np.array([there[i] for i in rng.permutation(len(there))]).reshape(-1, NUM_JOINTS, 3))
    return [people.astype(np.float32) for people in frames]


def chosen(*people: tuple[np.ndarray, range]) -> np.ndarray:
    return choose(listed(*people), min_score=SCORE)


def only(poses: np.ndarray, *when: range) -> np.ndarray:
    return np.where(np.isin(np.arange(T), np.concatenate(when))[:, None, None], poses, 0)


ALL = range(T)
SIGNER = person(1, 250)


def test_who_signs_is_taken_and_not_who_is_larger_or_first():
    for seed in range(3):
        frames = listed((SIGNER, ALL), (person(2, 450, unit=16, hands=False), ALL), seed=seed)
        assert np.array_equal(choose(frames, min_score=SCORE), SIGNER)
    assert np.array_equal(chosen((SIGNER, ALL), (person(2, 450, unit=4), ALL)), SIGNER)  # of two with hands the larger


@pytest.mark.parametrize("hands", [True, False])
def test_people_who_cross_each_other_stay_themselves(hands):
    right = person(1, 100, speed=8)
    left = person(2, 420, speed=-8, unit=9, hands=hands)
    assert np.array_equal(chosen((left, ALL), (right, ALL)), right)


def test_twins_who_cross_go_on_their_way():
    right, left = person(1, 100, speed=8), person(1, 420, speed=-8)
    left[..., 0] += 3
    left[:, LEFT_HAND:, 2] = 0.4
    assert np.array_equal(chosen((left, ALL), (right, ALL)), right)


def test_a_passer_by_in_front_changes_nothing():
    passer_by = person(3, -200, unit=25, speed=20)
    assert np.array_equal(chosen((SIGNER, ALL), (passer_by, range(9, 33))), SIGNER)


def test_where_the_signer_is_hidden_nobody_else_stands_in():
    passer_by = person(3, -200, unit=14, speed=22), range(8, 33)
    hidden = range(17, 24)
    there = [range(17), range(24, T)]
    seen = [(SIGNER, when) for when in there]
    assert np.array_equal(chosen(*seen, passer_by), only(SIGNER, *there))
    assert not chosen(*seen, passer_by)[list(hidden)].any()
    neighbour = person(4, 370, hands=False)
    assert np.array_equal(chosen(*seen, (neighbour, ALL)), only(SIGNER, *there))
    assert np.array_equal(chosen(*seen, (neighbour, range(16, 24))), only(SIGNER, *there))  # soon alone


def test_who_comes_after_the_signer_has_gone_is_somebody_else():
    far, small = (person(5, 600), range(30, T)), (person(6, 30, unit=3, hands=False), ALL)
    assert np.array_equal(chosen((SIGNER, range(25)), far, small), only(SIGNER, range(25)))
    crossing = SIGNER + np.arange(-23.5, T - 23.5, dtype=np.float32)[:, None, None] * np.float32([15, 0, 0])
    assert np.array_equal(chosen((SIGNER, range(25)), (crossing, range(14, 36)), small), only(SIGNER, range(25)))


def test_a_frame_without_anybody_is_missing():
    there = [range(3, 9), range(20, 30)]
    assert np.array_equal(
        chosen(*((SIGNER, when) for when in there), (person(2, 500, hands=False), range(25, 35))), only(SIGNER, *there)
    )
    assert choose([], min_score=SCORE).shape == (0, NUM_JOINTS, 3)
    assert not choose([np.zeros((2, NUM_JOINTS, 3), np.float32)] * 3, min_score=SCORE).any()


def test_one_who_is_listed_twice_does_not_end_there():
    """Half of the signer as a person of its own, in every fifth frame, and nearer to what comes than the whole."""
    half = np.roll(SIGNER, -1, axis=0)
    half[:, :LEFT_HAND, 2] = 0
    frames = listed((SIGNER, ALL), (half, range(0, T - 1, 5)))
    read = choose(frames, min_score=SCORE)
    whole = (read == SIGNER).all((1, 2))
    assert whole.mean() > 0.75 and (whole | (read == half).all((1, 2))).all()


def test_one_a_frame_is_left_as_it_is():
    odd = SIGNER.copy()
    odd[3, 5], odd[4], odd[7:, :, 2] = np.nan, 0, -1
    odd[20:] += 4000  # whoever made the file has chosen already
    frames = [pose[None] for pose in odd]
    frames[11] = frames[11][:0]
    odd[11] = 0
    assert choose(frames, min_score=SCORE).tobytes() == odd.tobytes()


def scene(seed: int) -> list[list[np.ndarray]]:
    """Frames of whatever there may be: people who come, go and stand close, doubles, numbers that are none."""
    rng = np.random.default_rng(seed)
    frames: list[list[np.ndarray]] = [[] for _ in range(T)]
    for number in range(rng.integers(2, 5)):
        poses = person(number, rng.uniform(0, 400), unit=rng.uniform(3, 20), speed=rng.uniform(-5, 5))
        poses[rng.random(poses.shape[:2]) < 0.2, 2] = 0
        poses[rng.random(poses.shape[:2]) < 0.01] = rng.choice([np.nan, np.inf, -np.inf, 1e30])
        for frame in np.flatnonzero(rng.random(T) < 0.8):
            frames[frame] += [poses[frame]] * rng.integers(1, 3)
    return frames


@pytest.mark.parametrize("seed", range(6))
def test_the_order_in_which_people_are_listed_changes_nothing(seed):
    frames, rng = scene(seed), np.random.default_rng(seed)
    results = set()
    for _ in range(3):
        mixed = [[people[i] for i in rng.permutation(len(people))] for people in frames]
        stacked = [np.array(people, np.float32).reshape(-1, NUM_JOINTS, 3) for people in mixed]
        results.add(choose(stacked, min_score=SCORE).tobytes())
    assert len(results) == 1
    poses = np.frombuffer(results.pop(), np.float32).reshape(T, NUM_JOINTS, 3)
    assert all(
        not pose.any() or any(np.array_equal(pose, other, equal_nan=True) for other in people)
        for pose, people in zip(poses, frames)
    )


def test_nor_where_two_weigh_the_same():
    one = np.where(np.arange(3) < 2, SIGNER.round(), 1).astype(np.float32)
    pair = np.stack((one, one + np.float32([256, 0, 0])), 1)
    first, second = (choose([*people], min_score=SCORE) for people in (pair, pair[:, ::-1]))
    assert np.array_equal(first, second) and (first == pair[:, 0]).all() != (first == pair[:, 1]).all()


def dots(seed: int) -> list[Track]:
    """Tracks of people who are one joint each, of whom many are near each other."""
    rng = np.random.default_rng(seed)
    seen = np.arange(NUM_JOINTS) == 0
    tracks = []
    for _ in range(7):
        places = np.zeros((NUM_JOINTS, 2))
        places[0] = rng.choice([0.0, 3.0, 6.0]), 0
        people = [
            Person(np.zeros((NUM_JOINTS, 3)), places, seen, 10.0, float(weight))
            for weight in rng.random(rng.integers(1, 6))
        ]
        tracks.append(Track(int(rng.integers(0, 12)), people))
    return tracks


def worth(way: list[Track]) -> float:
    total, done = 0.0, -1
    for track in way:
        total += sum(person.weight for person in track.after(done))
        done = track.last
    return total


@pytest.mark.parametrize("seed", range(8))
def test_no_other_way_through_the_tracks_weighs_more(seed):
    tracks = sorted(dots(seed), key=lambda track: track.last)
    ways = [
        way
        for count in range(1, len(tracks) + 1)
        for way in map(list, combinations(tracks, count))
        if all(followed([a], b) for a, b in zip(way, way[1:]))
    ]
    best = best_way(tracks)
    assert worth(best) == pytest.approx(max(map(worth, ways)))
    assert all(a.last < b.first for a, b in zip(best, best[1:]))


def test_a_crowd_takes_no_more_than_a_few_dozen():
    rng = np.random.default_rng(0)
    crowd = [rng.uniform(0, 500, (200, NUM_JOINTS, 3)).astype(np.float32) for _ in range(3)]
    assert choose(crowd, min_score=SCORE).any() and len(tracks_of([[]])) == 0 and MOST_PEOPLE < 200
