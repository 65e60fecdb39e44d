"""The synthetic signer: the same seed gives the same bytes, bodies stay bodies, splits are what they say, signs
differ across signers."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import synthetic_realism as realism
from signstream import cli
from signstream.data.synthetic.__main__ import main
from signstream.data.synthetic.body import FOREARM, PALM, PHALANGES, UPPER_ARM, hand_axes, hand_points, solve_arm
from signstream.data.synthetic.dataset import SPLITS, make_clip, make_dataset
from signstream.data.synthetic.grammar import Grammar
from signstream.data.synthetic.lexicon import (
    HANDSHAPES,
    MOTIONS,
    ORIENTATIONS,
    PLACES,
    handshape_angles,
    lexicon,
    mouthing,
    too_alike,
)
from signstream.data.synthetic.performance import perform
from signstream.data.synthetic.signer import draw_signer
from signstream.skeleton import (
    COCO_WHOLEBODY,
    LEFT_HAND,
    LEFT_SHOULDER,
    LEFT_WRIST,
    NOSE,
    RIGHT_HAND,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
)

CLIPS, SIGNERS, VISIBLE = 80, 6, 0.3


@pytest.fixture(scope="module")
def signs():
    return lexicon()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("made") / "set", CLIPS, seed=3, signers=SIGNERS)


@pytest.fixture(scope="module")
def notes(root) -> dict:
    return json.loads((root / "annotations.json").read_text())


@pytest.fixture(scope="module")
def splits(root) -> dict:
    return json.loads((root / "split_files.json").read_text())


@pytest.fixture(scope="module")
def clips(root, notes) -> dict:
    return {name: np.load(root / "frames_512x512" / f"{name}.npy", allow_pickle=False) for name in notes}


def people(count: int) -> list:
    return [draw_signer(np.random.default_rng([9, person]), person) for person in range(count)]


def digest(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_same_seed_same_bytes_whatever_the_workers(tmp_path):
    runs = ((7, 1), (7, 2), (8, 1))
    made = [
        digest(make_dataset(tmp_path / f"{seed}_{workers}", 12, seed, signers=4, workers=workers))
        for seed, workers in runs
    ]
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_a_clip_does_not_depend_on_how_many_others_there_are(tmp_path, clips, splits):
    larger = make_dataset(tmp_path / "larger", CLIPS + 4, seed=3, signers=SIGNERS)
    name = splits["train"][0]
    assert np.array_equal(np.load(larger / "frames_512x512" / f"{name}.npy"), clips[name])


def test_arrays_are_as_the_readme_says(clips, notes):
    assert len(clips) == CLIPS
    for name, poses in clips.items():
        assert poses.dtype == np.float32 and poses.shape == (notes[name]["num_frames"], 134, 3)
        assert np.isfinite(poses).all()
        assert (poses[:, 0] == (512, 512, 1)).all()
        assert poses[:, 1:, 2].min() >= 0 and poses[:, 1:, 2].max() <= 1


def test_readme_facts(root):
    text = (root / "CSL-Daily_README.md").read_text()
    for fact in (
        "- Array shape: `frames_512x512/<name>.npy`, float32, [T, 134, 3]; row 0 = (video width, video height, -), "
        "rows 1..133 = COCO-WholeBody (x px, y px, score)\n",
        "- Frame rate: 30 fps\n",
        "- Joints, counted from 1: body 1-17, feet 18-23, face 24-91, left hand 92-112, right hand 113-133. "
        '"Left" is the signer\'s own left.\n',
        "- Centre joints: body 1, face 32, left hand 92, right hand 113\n",
        "- Unit length: right eye corners 60-63, left eye corners 66-69\n",
        f"--clips {CLIPS} --seed 3",
        "made up",
    ):
        assert fact in text


def test_segments_lie_in_order_and_spell_the_gloss(notes):
    for note in notes.values():
        edges = [edge for start, end, _ in note["segments"] for edge in (start, end)]
        assert edges == sorted(edges) and edges[0] >= 0 and edges[-1] <= note["num_frames"]
        assert all(start < end for start, end, _ in note["segments"])
        assert " ".join(gloss for _, _, gloss in note["segments"]) == note["gloss"]


def test_splits_hold_what_they_promise(notes, splits):
    assert tuple(splits) == SPLITS and sum(map(len, splits.values())) == CLIPS and all(splits.values())
    glosses = {split: {notes[name]["gloss"] for name in names} for split, names in splits.items()}
    signers = {split: {notes[name]["signer"] for name in names} for split, names in splits.items()}
    texts = {split: {notes[name]["text"] for name in names} for split, names in splits.items()}
    assert not glosses["train"] & (glosses["val"] | glosses["test"]) and not glosses["val"] & glosses["test"]
    assert not texts["train"] & (texts["val"] | texts["test"])
    assert signers["val"] | signers["test"] <= signers["train"]
    assert not signers["test_unseen_signer"] & (signers["train"] | signers["val"] | signers["test"])
    signers_of = {}
    for name in splits["train"]:
        signers_of.setdefault(notes[name]["gloss"], []).append(notes[name]["signer"])
    assert max(map(len, signers_of.values())) > 1, "some sentences are signed by several people"
    assert all(len(set(signers)) == len(signers) for signers in signers_of.values())


def test_signs_differ_in_what_can_be_seen(signs):
    entries = list(signs.values())
    assert not any(too_alike(a, b) for i, a in enumerate(entries) for b in entries[:i])
    for field, table in (("shape", HANDSHAPES), ("place", PLACES), ("orientation", ORIENTATIONS), ("motion", MOTIONS)):
        assert {getattr(sign, field) for sign in entries} <= set(table)


def test_handshapes_and_mouthings_differ(signs):
    angles = np.stack([handshape_angles(name) for name in HANDSHAPES])
    apart = np.abs(angles[:, None] - angles[None]).max(-1) + 9 * np.eye(len(angles))
    assert apart.min() > np.radians(10)
    assert all(len(mouthing(gloss)) == len(gloss) for gloss in signs)


def test_a_smaller_language_is_the_beginning_of_the_larger_one(signs):
    assert list(signs.items())[:30] == list(lexicon(30).items())


def test_gloss_order_is_not_the_order_of_the_text(signs):
    grammar, rng = Grammar(signs), np.random.default_rng(0)
    sentences = [s for s in (grammar.sentence(rng) for _ in range(300)) if len(s.glosses) > 2]
    turned = 0
    for sentence in sentences:
        stems = [gloss.lower().replace("-", " ")[:3] for gloss in sentence.glosses]
        places = [m.start() for m in (re.search(rf"\b{stem}", sentence.text) for stem in stems) if m]
        turned += places != sorted(places)
    assert turned > 0.8 * len(sentences)


def test_finger_bones_keep_their_length():
    rng = np.random.default_rng(0)
    tips, palm = hand_axes(rng.uniform(-3, 3, (50, 3)))
    points = hand_points(rng.normal(size=(50, 3)), tips, palm, fingers=rng.uniform(-0.2, 1.6, (50, 15)), size=1.1)
    for finger in range(5):
        chain = points[:, 1 + 4 * finger : 5 + 4 * finger]
        lengths = np.linalg.norm(np.diff(chain, axis=1), axis=-1)
        assert np.allclose(lengths, PALM * 1.1 * PHALANGES[finger], atol=1e-9)
    assert np.allclose(np.linalg.norm(points[:, 9] - points[:, 0], axis=-1), PALM * 1.1, rtol=0.01)


def test_hand_axes_are_a_right_hand_that_shows_its_palm():
    tips, palm = hand_axes(np.zeros(3))
    assert np.allclose(tips, (0, -1, 0)) and np.allclose(palm, (0, 0, -1)), "fingers up, palm to the camera"
    assert np.allclose(np.cross(tips, palm), (1, 0, 0)), "the thumb of a right hand then points to the picture's right"


def test_arms_reach_without_nan_and_keep_their_bones():
    rng = np.random.default_rng(0)
    wanted = np.concatenate([rng.normal(0, 2, (500, 3)), np.zeros((1, 3)), [[0, 1e-9, 0]], [[0, 90.0, 0]]])
    elbow, wrist = solve_arm(np.zeros_like(wanted), wanted, 1.0)
    assert np.isfinite(elbow).all() and np.isfinite(wrist).all()
    assert np.allclose(np.linalg.norm(elbow[:-3], axis=-1), UPPER_ARM) and np.allclose(
        np.linalg.norm(wrist - elbow, axis=-1)[:-3], FOREARM
    )
    near = np.linalg.norm(wanted, axis=-1)
    near = (near > 0.4) & (near < 1.6)
    assert near.sum() > 50 and np.allclose(wrist[near], wanted[near], atol=1e-9)


def test_a_left_handed_signer_is_the_mirror_image(signs):
    sentence, signer = Grammar(signs).sentence(np.random.default_rng(5)), replace(people(1)[0], left_handed=False)
    right, left = (
        perform(sentence, signs, replace(signer, left_handed=side), rng=np.random.default_rng(1), fps=30.0).joints
        for side in (False, True)
    )
    assert np.allclose(left, right[:, list(COCO_WHOLEBODY.flip)] * (-1, 1, 1))
    reach = [np.ptp(joints[:, wrist], axis=0).sum() for joints, wrist in ((right, RIGHT_WRIST), (left, LEFT_WRIST))]
    assert reach[0] == pytest.approx(reach[1])


def test_the_signer_faces_the_camera(clips):
    for poses in clips.values():
        x = np.median(poses[:, 1:, 0], axis=0)
        assert x[LEFT_SHOULDER] > x[NOSE] > x[RIGHT_SHOULDER]
        assert np.median(poses[:, 1 + NOSE, 1]) < np.median(poses[:, 1 + LEFT_SHOULDER, 1]), "y points down"


def test_motion_is_smooth_and_as_fast_as_people_are(signs):
    grammar, rng = Grammar(signs), np.random.default_rng(2)
    for signer in people(4):
        joints = perform(grammar.sentence(rng), signs, signer, rng=rng, fps=30.0).joints
        assert np.linalg.norm(np.diff(joints, axis=0), axis=-1).max() * 30 < 25, "shoulder widths a second"


def test_the_frame_rate_samples_the_same_movement(signs):
    sentence, signer = Grammar(signs).sentence(np.random.default_rng(4)), people(1)[0]
    slow, fast = (perform(sentence, signs, signer, rng=np.random.default_rng(1), fps=fps) for fps in (30.0, 60.0))
    assert abs(2 * len(slow.joints) - len(fast.joints)) <= 2
    assert all(abs(2 * a[0] - b[0]) <= 1 for a, b in zip(slow.segments, fast.segments))


def test_hands_go_missing_whole_and_in_runs(clips):
    lost, runs = [], 0
    for poses in clips.values():
        for start in (LEFT_HAND, RIGHT_HAND):
            scores = poses[:, 1 + start : 1 + start + 21, 2]
            gone = np.median(scores, axis=1) < VISIBLE
            assert (scores[gone] < VISIBLE).all(), "a lost hand is lost with all its joints"
            lost.append(gone.mean())
            runs += int((gone[1:] & ~gone[:-1]).sum())
    assert 0.05 < np.mean(lost) < 0.45 and runs > CLIPS / 2


def test_lost_hands_are_zero_or_garbage_and_scores_are_graded(clips):
    hands = np.concatenate([poses[:, 1 + LEFT_HAND :] for poses in clips.values()])
    lost = hands[hands[..., 2] < VISIBLE]
    assert (lost == 0).all(-1).any() and (lost[:, 2] > 0).any()
    seen = hands[..., 2][hands[..., 2] >= VISIBLE]
    assert np.ptp(np.percentile(seen, (5, 95))) > 0.2


def test_legs_out_of_the_picture_score_low(clips):
    for poses in clips.values():
        below = poses[:, 1 + 15 : 1 + 17]
        assert (below[..., 2][below[..., 1] > 512 * 1.1] < VISIBLE).all()


def test_faster_joints_score_lower(clips):
    speed, score = [], []
    for poses in clips.values():
        wrist = poses[:, 1 + RIGHT_WRIST]
        speed.append(np.linalg.norm(np.diff(wrist[:, :2], axis=0), axis=-1))
        score.append(wrist[1:, 2])
    assert np.corrcoef(np.concatenate(speed), np.concatenate(score))[0, 1] < -0.2


def segment_features(poses: np.ndarray, start: int, end: int) -> np.ndarray:
    """poses [T, 133, 3] -> both hands' shapes and places, and the mouth, at eight moments of a
    segment; in shoulder widths."""
    at = np.linspace(start, end - 1, 8).round().astype(int)
    width = np.median(np.linalg.norm(poses[:, LEFT_SHOULDER, :2] - poses[:, RIGHT_SHOULDER, :2], axis=-1))
    points, seen = poses[at, :, :2] / width, poses[at, :, 2:] > VISIBLE
    mouth = points[:, 71:91] - points[:, 71:91].mean(1, keepdims=True)
    features = [8 * mouth]
    for root, wrist in ((LEFT_HAND, LEFT_WRIST), (RIGHT_HAND, RIGHT_WRIST)):
        features += [
            2 * (points[:, root : root + 21] - points[:, root : root + 1]) * seen[:, root : root + 21],
            2 * (points[:, wrist] - points[:, NOSE]),
        ]
    return np.concatenate([f.ravel() for f in features])


def nearest_centroid(x: np.ndarray, y: np.ndarray, queries: np.ndarray) -> np.ndarray:
    labels = np.unique(y)
    centroids = np.stack([x[y == label].mean(0) for label in labels])
    return labels[((queries[:, None] - centroids) ** 2).sum(-1).argmin(1)]


def test_signs_are_recognised_across_signers_and_shuffled_labels_are_not(signs):
    some = lexicon(40)
    grammar, rng, crowd = Grammar(some), np.random.default_rng(0), people(6)
    rows = []
    for turn in range(180):
        clip = make_clip(grammar.sentence(rng), some, crowd[turn % 6], rng=rng)
        rows += [(segment_features(clip.poses[:, 1:], a, b), gloss, turn % 6) for a, b, gloss in clip.segments]
    x, y, person = (np.array(column) for column in zip(*rows))
    known, strange = person < 4, person >= 4
    right = (nearest_centroid(x[known], y[known], x[strange]) == y[strange]).mean()
    shuffled = (nearest_centroid(x[known], rng.permutation(y[known]), x[strange]) == y[strange]).mean()
    assert right > 0.5, "far above one in forty"
    assert shuffled < 0.12


def test_nothing_constant_gives_a_gloss_away(signs):
    """The scores and the picture's frame, averaged over a segment, do not tell which sign it is."""
    some = lexicon(40)
    grammar, rng, crowd = Grammar(some), np.random.default_rng(1), people(6)
    rows = []
    for turn in range(120):
        clip = make_clip(grammar.sentence(rng), some, crowd[turn % 6], rng=rng)
        rows += [
            (np.append(clip.poses[a:b, 0].mean(0), clip.poses[a:b, 1:6, 2].mean(0)), gloss)
            for a, b, gloss in clip.segments
        ]
    x, y = (np.array(column) for column in zip(*rows))
    half = len(y) // 2
    assert (nearest_centroid(x[:half], y[:half], x[half:]) == y[half:]).mean() < 0.2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--clips", "3"], "--clips is 3"),
        (["--signers", "1"], "--signers is 1"),
        (["--glosses", "5"], "--glosses is 5"),
        (["--fps", "nan"], "--fps is nan"),
        (["--seed", "-1"], "--seed is -1"),
        (["--workers", "0"], "--workers is 0"),
        (["--stream", "nan"], "--stream is nan"),
        (["--stream", "0"], "--stream is 0"),
        (["--stream", "90"], "0.25 to 60 minutes are possible"),
        (["--stream", "10", "--clips", "100"], "ask for at least 544 --clips"),
        (["--stream", "1", "--layout", "phoenix14t"], "--stream is for --layout csl_daily alone"),
        (["--text", "near", "--layout", "phoenix2014"], "phoenix2014 has glosses and no texts"),
    ],
)
def test_nonsense_gets_one_line(tmp_path, capsys, wrong, message):
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda: main(["--out", str(tmp_path / "set"), *wrong]))
    lines = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0]
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_or_half_written(tmp_path, capsys, monkeypatch):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit):
        cli.run(lambda: main(["--out", str(full), "--clips", "10"]))
    assert "not an empty folder" in capsys.readouterr().err and [p.name for p in full.iterdir()] == ["mine.txt"]
    monkeypatch.setattr(np, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(SystemExit):
        cli.run(lambda: main(["--out", str(tmp_path / "new"), "--clips", "10", "--workers", "1"]))
    assert "No space left" in capsys.readouterr().err and [p.name for p in tmp_path.iterdir()] == ["full"]


def test_nothing_here_needs_torch():
    code = "import sys, signstream.data.synthetic.{}; sys.exit(bool({{'torch', 'matplotlib'}} & set(sys.modules)))"
    for module in ("__main__", "dataset"):  # the second imports all that there is
        done = subprocess.run([sys.executable, "-c", code.format(module)], cwd=Path(__file__).parents[1])
        assert done.returncode == 0, module


def test_the_realism_benchmark_finds_a_set_like_itself(root, capsys):
    realism.main(["--real", str(root), "--synthetic", str(root), "--kind", "none"])
    rows = [line.split() for line in capsys.readouterr().out.strip().splitlines()[1:]]
    assert len(rows) > 30 and all(row[-1] == "ok" and row[-2] in ("1.00", "-") for row in rows)
