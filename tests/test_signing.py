"""What signs are made of: by hand, as a slow program in NumPy counts, and what changes which number."""

import math

import numpy as np
import pytest
import torch

from benchmarks import signs
from clips import figure, moving_clip
from signstream.models.metrics.signing import NUMBERS, SHORTEST, Signs
from signstream.skeleton import (
    FACE,
    LEFT_EYE_CORNERS,
    LEFT_HAND,
    LEFT_SHOULDER,
    NOSE,
    RIGHT_EYE_CORNERS,
    RIGHT_HAND,
    RIGHT_SHOULDER,
)

WIDTH = 165.0
HANDS = {"left_hand": LEFT_HAND, "right_hand": RIGHT_HAND}
EYES = (LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS)
GAPS = {  # each the mean of its pairs of groups, by the face's points
    "mouth_opening": [([61, 62, 63], [65, 66, 67])],
    "mouth_width": [([48], [54])],
    "brows": [([17, 18, 19, 20, 21], [36, 39]), ([22, 23, 24, 25, 26], [42, 45])],
}


def pair(seed, frames=40, noise=4.0, hidden=0.05):
    """(original [T, 133, 3], reconstructed [T, 133, 2]); some joints are missing, each for itself."""
    rng = np.random.default_rng(seed)
    original = moving_clip(frames, seed).astype(np.float64)
    made = original[..., :2] + rng.normal(0, noise, (frames, 133, 2))
    original[rng.random((frames, 133)) < hidden] = 0
    return original, made


PAIRS = [pair(0), pair(1, 1), pair(2, 25), pair(3, 60, 8.0)]


def signs_of(pairs, width=WIDTH):
    metric = Signs()
    for original, made in pairs:
        metric.add(torch.from_numpy(original), torch.from_numpy(made), width=width)
    return metric


# -- frame by frame, joint by joint


def distance(a, b):
    return math.hypot(a[0] - b[0], a[1] - b[1])


def angle(a, b):
    """Degrees between two directions."""
    turn = abs(math.degrees(math.atan2(a[1], a[0]) - math.atan2(b[1], b[0])))
    return min(turn, 360 - turn)


def turned(point, by):
    """A point turned so that the direction `by` lies on the axis."""
    length = math.hypot(*by)
    return (point[0] * by[0] + point[1] * by[1]) / length, (point[1] * by[0] - point[0] * by[1]) / length


def slow_places(name, wrist, original, made):
    """What is measured from the nose and the shoulders, number by number."""
    found = {f"{name}/{number}": [] for number in ("location", "location_shoulders", "in_place")}
    steps, before = [], None
    for truth, drawn in zip(original, made):
        seen = truth[:, 2] > 0
        here = None
        if seen[NOSE]:
            off = {
                joint: (truth[joint, :2] - truth[NOSE, :2], drawn[joint] - drawn[NOSE])
                for joint in range(wrist, wrist + 21)
                if seen[joint]
            }
            found[f"{name}/in_place"] += [distance(*sides) / WIDTH for sides in off.values()]
            here = off.get(wrist)
            found[f"{name}/location"] += [distance(*here) / WIDTH] if here else []
        if seen[[LEFT_SHOULDER, RIGHT_SHOULDER, wrist]].all():
            middles = [(side[LEFT_SHOULDER, :2] + side[RIGHT_SHOULDER, :2]) / 2 for side in (truth, drawn)]
            placed = truth[wrist, :2] - middles[0], drawn[wrist] - middles[1]
            found[f"{name}/location_shoulders"].append(distance(*placed) / WIDTH)
        if here and before:
            steps.append([(now - then) / WIDTH for now, then in zip(here, before)])
        before = here
    return found, steps


def slow_palm(name, wrist, original, made):
    found = {f"{name}/{number}": [] for number in ("handshape", "palm_along", "palm_across", "palm_side")}
    index, middle, little = wrist + 5, wrist + 9, wrist + 17
    both = [t for t in original if t[wrist, 2] > 0 and t[middle, 2] > 0]
    palm = np.median([distance(t[wrist], t[middle]) for t in both])
    for truth, drawn in zip(original, made):
        seen = truth[:, 2] > 0
        along, across = (
            [side[b, :2] - side[a, :2] for side in (truth, drawn)] for a, b in ((wrist, middle), (index, little))
        )
        upright = seen[wrist] and seen[middle] and math.hypot(*along[0]) >= SHORTEST * palm
        flat = seen[index] and seen[little]
        if upright:
            found[f"{name}/palm_along"].append(angle(*along))
            for joint in range(wrist + 1, wrist + 21):
                if seen[joint]:
                    placed = [turned(side[joint, :2] - side[wrist, :2], by) for side, by in zip((truth, drawn), along)]
                    found[f"{name}/handshape"].append(distance(*placed) / palm)
        if flat and math.hypot(*across[0]) >= SHORTEST * palm:
            found[f"{name}/palm_across"].append(angle(*across))
        if upright and flat:
            wide = [turned(side, by)[1] for side, by in zip(across, along)]
            if abs(wide[0]) >= SHORTEST * palm:
                found[f"{name}/palm_side"].append(float((wide[0] > 0) == (wide[1] > 0)))
    return found


def slow_face(name, original, made):
    def length(side, pairs):
        return np.mean([distance(*(side[np.add(group, FACE), :2].mean(0) for group in groups)) for groups in pairs])

    eye_pairs = [([a - FACE], [b - FACE]) for a, b in EYES]
    corners = [corner for pair_of in EYES for corner in pair_of]
    eye = np.median([length(t, eye_pairs) for t in original if (t[corners, 2] > 0).all()])
    joints = [FACE + joint for groups in GAPS[name] for group in groups for joint in group]
    rows = [(t, d) for t, d in zip(original, made) if (t[joints, 2] > 0).all()]
    return [[length(t, GAPS[name]) / eye, length(d, GAPS[name]) / eye] for t, d in rows]


def change(pairs):
    """Correlation, and the size of the second's change over the first's, of rows (first, second) about 0."""
    first, second = (np.array([row[side] for row in pairs], float).ravel() for side in (0, 1))
    return float(first @ second / np.sqrt(first @ first * (second @ second))), float(
        np.sqrt(second @ second / (first @ first))
    )


def slowly(pairs):
    lists, steps, errors, changes = {}, {}, {}, {}
    for original, made in pairs:
        for name, wrist in HANDS.items():
            places, moved = slow_places(name, wrist, original, made)
            steps.setdefault(name, []).extend(moved)
            for key, values in (places | slow_palm(name, wrist, original, made)).items():
                lists.setdefault(key, []).extend(values)
        for name in GAPS:
            lengths = slow_face(name, original, made)
            errors.setdefault(name, []).extend(abs(a - b) for a, b in lengths)
            changes.setdefault(name, []).extend(np.array(lengths) - np.mean(lengths, 0) if lengths else [])
    steps["hands"] = steps["left_hand"] + steps["right_hand"]
    for number in {key.split("/")[1] for key in lists}:
        lists[f"hands/{number}"] = lists[f"left_hand/{number}"] + lists[f"right_hand/{number}"]
    out = {key: float(np.mean(values)) for key, values in lists.items()}
    for name, rows in steps.items():
        out[f"{name}/movement"], out[f"{name}/movement_size"] = change(rows)
    for name, rows in changes.items():
        out[f"{name}/error"] = float(np.mean(errors[name]))
        out[f"{name}/correlation"], out[f"{name}/size"] = change(rows)
    return out


def test_it_counts_as_a_slow_program_does():
    found = signs_of(PAIRS).result()
    assert set(found) == {f"{group}/{number}" for group, numbers in NUMBERS.items() for number in numbers}
    assert found == pytest.approx(slowly(PAIRS), rel=1e-9)
    assert all(0 < found[f"{hand}/palm_side"] < 1 for hand in HANDS)


# -- what changes which number


def whole(frames=30, seed=5):
    original = moving_clip(frames, seed).astype(np.float64)
    return original, original[..., :2].copy()


def hands_of(result, name="left_hand"):
    return {key.split("/")[1]: value for key, value in result.items() if key.startswith(f"{name}/")}


PERFECT = {"palm_side": 1.0, "movement": 1.0, "movement_size": 1.0, "correlation": 1.0, "size": 1.0}


def test_a_perfect_reconstruction_wherever_it_stands():
    original, made = whole()
    for result in (
        signs_of([(original, made)]).result(),
        signs_of([(original, made + np.array((300.0, -20.0)))]).result(),
    ):
        expected = {key: PERFECT.get(key.split("/")[1], 0.0) for key in result}
        assert len(result) == 36 and result == pytest.approx(expected, abs=1e-5)


def test_a_hand_in_the_wrong_place_keeps_its_shape_and_its_palm():
    original, made = whole()
    made[:, LEFT_HAND:RIGHT_HAND] += (30.0, 40.0)
    result = signs_of([(original, made)]).result()
    left, right = hands_of(result), hands_of(result, "right_hand")
    off = dict.fromkeys(("location", "location_shoulders", "in_place"), 50 / WIDTH)
    assert left == pytest.approx({key: off.get(key, PERFECT.get(key, 0.0)) for key in left}, abs=1e-5)
    assert right == pytest.approx({key: PERFECT.get(key, 0.0) for key in right}, abs=1e-5)
    assert result["hands/location"] == pytest.approx(25 / WIDTH)


def rotated(points, degrees):
    turn = np.exp(1j * np.radians(degrees)) * (points[..., 0] + 1j * points[..., 1])
    return np.stack((turn.real, turn.imag), -1)


def test_a_turned_hand_keeps_its_shape_and_its_place():
    original, made = whole()
    wrist = made[:, RIGHT_HAND, None]
    made[:, RIGHT_HAND:] = wrist + rotated(made[:, RIGHT_HAND:] - wrist, 50)
    right = hands_of(signs_of([(original, made)]).result(), "right_hand")
    assert right["palm_along"] == pytest.approx(50) and right["palm_across"] == pytest.approx(50)
    assert right["handshape"] == pytest.approx(0, abs=1e-9) and right["location"] == 0 < right["in_place"]
    assert right["palm_side"] == right["movement"] == pytest.approx(1)


def test_the_other_side_of_the_palm():
    original, made = whole()
    original[:, LEFT_HAND:RIGHT_HAND, :2] = original[:1, LEFT_HAND:RIGHT_HAND, :2]
    made = original[..., :2].copy()
    made[:, LEFT_HAND:RIGHT_HAND, 0] = 2 * made[:, LEFT_HAND, None, 0] - made[:, LEFT_HAND:RIGHT_HAND, 0]
    left = hands_of(signs_of([(original, made)]).result())
    assert left["palm_side"] == 0 and left["location"] == pytest.approx(0) and left["handshape"] > 0.1


def test_a_bent_finger_changes_the_handshape_alone():
    original, made = whole()
    made[:, LEFT_HAND + 8] += (6.0, 8.0)
    left = hands_of(signs_of([(original, made)]).result())
    palm = np.median(np.linalg.norm(original[:, LEFT_HAND + 9, :2] - original[:, LEFT_HAND, :2], axis=-1))
    assert left["handshape"] == pytest.approx(10 / palm / 20) and left["in_place"] == pytest.approx(10 / WIDTH / 21)
    assert left["palm_along"] == left["palm_across"] == left["location"] == 0


def test_a_palm_seen_from_its_end_has_no_direction():
    original, made = whole(3)
    for joints in (LEFT_HAND + 9, LEFT_HAND + 17):
        original[1, joints, :2] = original[1, joints - 9 if joints == LEFT_HAND + 9 else LEFT_HAND + 5, :2] + 0.1
    made[1, LEFT_HAND:RIGHT_HAND] = rotated(made[1, LEFT_HAND:RIGHT_HAND], 90)
    left = hands_of(signs_of([(original, made)]).result())
    assert left["palm_along"] == left["palm_across"] == left["handshape"] == 0 < left["in_place"]


def test_a_flat_mouth_is_seen():
    original, made = whole()
    lips = slice(FACE + 60, FACE + 68)
    still = made.copy()
    still[:, lips] = still[:1, lips]
    noisy = made.copy()
    noisy[:, lips] += np.random.default_rng(0).normal(0, 8, noisy[:, lips].shape)
    half = made.copy()
    upper, lower = half[:, FACE + 61 : FACE + 64], half[:, FACE + 65 : FACE + 68]
    upper[:], lower[:] = (3 * upper + lower[:, ::-1]) / 4, (3 * lower + upper[:, ::-1]) / 4
    results = [signs_of([(original, drawn)]).result() for drawn in (still, noisy, half)]
    flat, wild, less = (
        {key[14:]: value for key, value in one.items() if key.startswith("mouth_opening/")} for one in results
    )
    assert "correlation" not in flat and flat["size"] == 0 < flat["error"]
    assert wild["correlation"] < 0.9 and wild["size"] > 1
    assert less["size"] < 0.7 and less["error"] > 0
    assert all(one["brows/error"] == 0 and one["brows/correlation"] == pytest.approx(1) for one in results)


# -- sums


def test_clips_their_order_and_ranks_change_nothing_but_rounding():
    together = signs_of(PAIRS)
    summed = Signs()
    summed.load_state(signs_of(PAIRS[2:]).state() + signs_of(PAIRS[:2]).state())
    assert signs_of(PAIRS[::-1]).result() == pytest.approx(together.result(), rel=1e-12)
    assert summed.result() == pytest.approx(together.result(), rel=1e-12)
    assert Signs().result() == {} and summed.state().dtype == torch.float64 and summed.state().dim() == 1


@pytest.mark.parametrize("junk", [math.nan, math.inf, -1e30])
def test_what_stands_in_missing_joints_has_no_effect(junk):
    filled = []
    for original, made in PAIRS:
        missing = original[..., 2] == 0
        assert missing.any()
        original, made = original.copy(), made.copy()
        original[missing, :2], made[missing] = junk, junk
        filled.append((original, made))
    assert torch.equal(signs_of(filled).state(), signs_of(PAIRS).state())


def test_lengths_have_no_unit():
    larger = [(original * (3, 3, 1), made * 3) for original, made in PAIRS]
    assert signs_of(larger, 3 * WIDTH).result() == pytest.approx(signs_of(PAIRS).result(), rel=1e-9)


def test_what_is_nowhere_seen_has_no_number():
    original, made = pair(7)
    without = signs_of([(original, made)], None).result()
    kept = {key for key in without if key.split("/")[0] in HANDS}
    assert kept == {f"{hand}/{n}" for hand in HANDS for n in ("handshape", "palm_along", "palm_across", "palm_side")}
    assert {key for key in without if key.startswith("brows")} == {"brows/error", "brows/correlation", "brows/size"}
    original[:, LEFT_HAND:RIGHT_HAND] = 0
    result = signs_of([(original, made)]).result()
    assert not hands_of(result) and hands_of(result, "hands") == hands_of(result, "right_hand") != {}
    assert signs_of([(original * 0, made)]).result() == {}


def test_the_benchmark_reads_folders_of_poses(tmp_path):
    for folder, side in (("originals", 0), ("made", 1)):
        (tmp_path / folder).mkdir()
        for number, poses in enumerate(PAIRS):
            np.save(tmp_path / folder / f"{number}.npy", poses[side])
    lost = figure()[None] * 0
    np.save(tmp_path / "originals" / "not_made.npy", lost)
    report = signs.measured(tmp_path / "originals", tmp_path / "made")
    metric = Signs()
    for original, made in PAIRS:
        width = np.linalg.norm(original[:, LEFT_SHOULDER, :2] - original[:, RIGHT_SHOULDER, :2], axis=-1)
        seen = (original[:, [LEFT_SHOULDER, RIGHT_SHOULDER], 2] > 0).all(1)
        metric.add(torch.from_numpy(original), torch.from_numpy(made), width=float(np.median(width[seen])))
    expected = metric.result()
    assert {f"{group}/{number}": x for group, row in report.items() for number, x in row.items()} == pytest.approx(
        expected
    )
