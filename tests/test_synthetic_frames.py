"""The drawn signer in PHOENIX-2014's layout: the same seed gives the same bytes, files are what and where the real ones
are, marks stand in training alone, keypoints lie on drawn hands, what moves is seen, signers differ."""

from __future__ import annotations

import hashlib
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from signstream import cli
from signstream.data.phoenix_joints import (
    COCO_JOINTS,
    NUM_PHOENIX,
    PHOENIX_LEFT_HAND,
    PHOENIX_MOUTH,
    PHOENIX_RIGHT_HAND,
    coco_joints,
    keypoints_key,
    phoenix_joints,
)
from signstream.data.synthetic.__main__ import main
from signstream.data.synthetic.body import FINGERS, Curves, assemble_body
from signstream.data.synthetic.detector import SIZE, project
from signstream.data.synthetic.drawing import draw_clip
from signstream.data.synthetic.drawing_look import draw_look
from signstream.data.synthetic.grammar import Grammar
from signstream.data.synthetic.lexicon import Sign, handshape_angles, lexicon
from signstream.data.synthetic.performance import sign_targets
from signstream.data.synthetic.phoenix import SPLITS, make_phoenix, plan_phoenix
from signstream.data.synthetic.phoenix_labels import clean_label, raw_words
from signstream.data.synthetic.signer import draw_signer
from signstream.glosses import clean
from signstream.skeleton import FACE, LEFT_HAND, RIGHT_HAND

CLIPS, SIGNERS, FPS = 5, 2, 6
MARK = re.compile("loc-|cl-|poss-|qu-|lh-|-PLUSPLUS|__")
BLUE = np.array([40.0, 60.0, 150.0])  # nobody's skin


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A small set of people in blue before blue walls, so that skin is what is more red than blue."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("signstream.data.synthetic.phoenix.draw_look", in_blue)
        return make_phoenix(tmp_path_factory.mktemp("made") / "set", CLIPS, 3, signers=SIGNERS, fps=FPS)


def in_blue(rng: np.random.Generator):
    return replace(draw_look(rng), clothes=BLUE, trim=BLUE, wall=BLUE, hair=BLUE, sleeves="long", tint=np.ones(3))


def is_skin(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 0].astype(int) > pixels[..., 2].astype(int) + 8


def table(path: Path) -> dict:
    return np.load(path, allow_pickle=True).item()


def infos(root: Path) -> list[dict]:
    return [entry for split in SPLITS for key, entry in table(root / f"{split}_info.npy").items() if key != "prefix"]


def frames(root: Path, entry: dict) -> np.ndarray:
    """[T, 256, 256, 3]"""
    paths = sorted((root / "features/fullFrame-256x256px").glob(entry["folder"]))
    return np.stack([np.asarray(Image.open(path)) for path in paths])


def keypoints(root: Path, entry: dict) -> np.ndarray:
    with (root / "keypoints_256x256.pkl").open("rb") as file:
        clips = pickle.load(file)
    assert len(clips) == CLIPS
    return clips[keypoints_key(entry["folder"].split("/")[0], entry["fileid"])]["keypoints"]


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def person(number: int = 0):
    return replace(draw_signer(np.random.default_rng([9, number]), number), left_handed=False)


def still(hand_shape: str = "five", face: tuple[float, ...] = (0,) * 7) -> Curves:
    """One frame: both hands in front with their palms to the camera."""
    sign = Sign("X", "verb", "x", "both", hand_shape, hand_shape, "front", "up-out", "hold", "flat", 0.3)
    hands = sign_targets(sign, person())[:1]
    assert np.allclose(hands[0, 0, FINGERS], handshape_angles(hand_shape))
    return Curves(hands, np.array([face], float), np.zeros((1, 3)), np.zeros((1, 3)))


def drawn(joints: np.ndarray, look, number: int = 0) -> np.ndarray:
    """joints [1, 133, 3] -> [256, 256, 3] int"""
    return np.asarray(next(draw_clip(joints, person(number), look, rng=np.random.default_rng(0)))).astype(int)


# -- the joints


def test_the_121_joints_are_there_and_back():
    poses = np.random.default_rng(0).normal(size=(2, 133, 3))
    points = phoenix_joints(poses)
    assert points.shape == (2, NUM_PHOENIX, 3)
    assert np.array_equal(points[:, PHOENIX_LEFT_HAND], poses[:, LEFT_HAND:RIGHT_HAND])
    assert np.array_equal(points[:, PHOENIX_RIGHT_HAND], poses[:, RIGHT_HAND:])
    assert np.array_equal(points[:, PHOENIX_MOUTH], poses[:, FACE + 48 : FACE + 68])
    back = coco_joints(points)
    assert np.array_equal(back[:, COCO_JOINTS], points) and not back[:, 11:FACE].any()


# -- the files


def test_same_seed_same_bytes_whatever_the_workers(tmp_path):
    runs = ((7, 1), (7, 2), (8, 1))
    made = [
        digest(make_phoenix(tmp_path / f"{seed}_{workers}", 3, seed, signers=SIGNERS, fps=5, workers=workers))
        for seed, workers in runs
    ]
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_files_are_where_the_real_set_has_them(root):
    names = {path.name for path in root.iterdir()}
    tables = {f"{split}_info.npy" for split in SPLITS} | {f"phoenix2014-groundtruth-{split}.stm" for split in SPLITS}
    assert names == tables | {"gloss_dict.npy", "keypoints_256x256.pkl", "features", "README.md"}
    shown = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    form = "features/fullFrame-256x256px/(train|dev|test)/(([^/]+)_default-[0-9]+)/1/\\3[.]avi_pid0_fn[0-9]{6}-0[.]png"
    assert all(re.fullmatch(form, name) for name in shown)
    assert len(shown) == sum(entry["num_frames"] for entry in infos(root))


@pytest.mark.parametrize("split", SPLITS)
def test_info_and_stm_say_the_same(root, split):
    content = table(root / f"{split}_info.npy")
    assert list(content) == ["prefix", *range(len(content) - 1)] and not Path(content["prefix"]).exists()
    lines = (root / f"phoenix2014-groundtruth-{split}.stm").read_text().splitlines()
    assert len(lines) == len(content) - 1 > 0
    for number, line in enumerate(lines):
        entry = content[number]
        fileid, channel, signer, start, end, *words = line.split(" ")
        assert (fileid, channel, signer, start, end) == (entry["fileid"], "1", entry["signer"], "0.0", "1.79769e+308")
        assert words == entry["label"].split() and re.fullmatch("Signer0[12]", signer)
        assert entry["folder"] == f"{split}/{fileid}/1/*.png"
        assert entry["original_info"] == f"{fileid}|{fileid}/1/*.png|{signer}|{entry['label']}"


def test_each_clip_has_its_frames_and_keypoints(root):
    for entry in infos(root):
        assert frames(root, entry).shape == (entry["num_frames"], 256, 256, 3)
        points = keypoints(root, entry)
        assert points.dtype == np.float32 and points.shape == (entry["num_frames"], NUM_PHOENIX, 3)
        assert points[..., 2].min() >= 0 and points[..., 2].max() <= 1
        assert np.median(points[:, :7, :2]) < 256, "pixels of the frames"


def test_the_dictionary_counts_every_gloss(root):
    content = table(root / "gloss_dict.npy")
    words = [word for entry in infos(root) for word in entry["label"].split()]
    assert list(content) == sorted(set(words))
    assert list(content.values()) == [[index, words.count(word)] for index, word in enumerate(content, 1)]


# -- the labels


def test_dev_and_test_are_clean(root):
    for entry in infos(root):
        if not entry["folder"].startswith("train"):
            assert not MARK.search(entry["label"])


def test_training_labels_have_every_mark_and_come_clean():
    signs, rng = lexicon(), np.random.default_rng(0)
    grammar, seen, repeats = Grammar(signs), set(), 0
    for _ in range(600):
        glosses = grammar.sentence(rng).glosses
        words = raw_words(glosses, signs, rng)
        seen |= {mark for word in words for mark in re.findall("^(?:loc|cl|poss|qu|lh)-|-PLUSPLUS$|^__.*__$", word)}
        repeats += sum(a == b for a, b in zip(words, words[1:]))
        words = [word for word in words if word not in ("__ON__", "__OFF__")]  # which that cleaning leaves
        assert clean(words, "phoenix2014") == clean(glosses, "phoenix2014") == list(glosses)
    assert len(seen) == 6 + 5 and repeats > 20


def test_clean_labels_have_spaces_too_many_now_and_then():
    rng, glosses = np.random.default_rng(0), ("TEA", "HOT", "DRINK")
    labels = [clean_label(glosses, rng) for _ in range(200)]
    assert all(tuple(label.split()) == glosses for label in labels)
    assert any("  " in label for label in labels) and any(label.endswith(" ") for label in labels)


def test_dev_and_test_sign_other_sentences_than_train_by_the_same_people():
    orders = plan_phoenix(120, 0, 9, signs=lexicon())
    by_split = {split: [order for order in orders if order.split == split] for split in SPLITS}
    assert [len(clips) for clips in by_split.values()] == [100, 10, 10]
    said = [{order.sentence.key for order in clips} for clips in by_split.values()]
    assert not (said[0] & said[1] or said[0] & said[2] or said[1] & said[2])
    people = [{order.signer for order in clips} for clips in by_split.values()]
    assert len(people[0]) == 9 and people[1] | people[2] <= people[0]
    assert len({order.name for order in orders}) == 120


# -- the pictures


def test_keypoints_lie_on_the_drawn_hands(root):
    on, beside = [], []
    for entry in infos(root):
        pictures, points = frames(root, entry), keypoints(root, entry)[:, 79:]
        where = np.rint(points[..., :2]).astype(int)
        frame, joint = np.nonzero((points[..., 2] > 0.6) & (where >= 0).all(-1) & (where < 216).all(-1))
        x, y = where[frame, joint].T
        on.append(is_skin(pictures[frame, y, x]))
        beside.append(is_skin(pictures[frame, y, x + 40]))
    assert np.concatenate(on).size > 500
    assert np.concatenate(on).mean() > 0.9
    assert np.concatenate(beside).mean() < 0.5, "what lies beside is not skin, so the first could have failed"


@pytest.mark.parametrize("side", [LEFT_HAND, RIGHT_HAND])
@pytest.mark.parametrize("shape", ["flat", "bent"])
def test_fingers_can_be_told_apart(side, shape):
    """Between neighbours that touch each other there is a line that is darker than both."""
    joints = assemble_body(still(shape), person())
    picture = drawn(joints, in_blue(np.random.default_rng(0))).sum(-1)
    middle = project(joints, person())[0, [side + 6 + 4 * finger for finger in range(4)]] * 256 / SIZE
    for a, b in zip(middle, middle[1:]):
        x, y = np.rint(a + np.linspace(0, 1, 9)[:, None] * (b - a)).astype(int).T
        line = picture[y, x]
        assert line[2:7].min() < 0.85 * min(line[:2].max(), line[7:].max())


@pytest.mark.parametrize(("channel", "points"), [(0, slice(48, 68)), (1, slice(48, 68)), (4, slice(17, 27))])
def test_mouth_and_brows_move_as_the_keypoints_say(channel, points):
    moved = [0.0] * 7
    moved[channel] = 1.0
    pair = [assemble_body(still(face=face), person()) for face in ((0,) * 7, tuple(moved))]
    look = draw_look(np.random.default_rng(1))
    change = np.abs(drawn(pair[0], look) - drawn(pair[1], look)).max(-1)
    part = np.concatenate([project(joints, person())[0, FACE:LEFT_HAND][points] for joints in pair]) * 256 / SIZE
    (left, top), (right, low) = part.min(0).astype(int) - 2, part.max(0).astype(int) + 3
    assert change[top:low, left:right].max() > 40
    face = project(pair[0], person())[0, FACE:LEFT_HAND] * 256 / SIZE
    assert not change[int(face[:, 1].max()) + 30 :].any(), "and nothing else"


def test_the_nearer_hand_lies_over_the_other():
    joints = assemble_body(still(), person())
    right, left = joints[:, RIGHT_HAND:], joints[:, LEFT_HAND:RIGHT_HAND]
    joints[:, LEFT_HAND:RIGHT_HAND] = right + np.array([0.02, 0.01, 0.3])
    far = drawn(joints, draw_look(np.random.default_rng(2)))
    left += (0, 0, -0.6)
    near = drawn(joints, draw_look(np.random.default_rng(2)))
    assert (np.abs(far - near).max(-1) > 30).sum() > 20


def test_signers_differ():
    joints = assemble_body(still(), person())
    pictures = [drawn(joints, draw_look(np.random.default_rng([0, number, 3]))) for number in range(9)]
    apart = [np.abs(a - b).mean() for i, a in enumerate(pictures) for b in pictures[:i]]
    assert min(apart) > 8


def test_frames_have_a_little_grain():
    joints = np.repeat(assemble_body(still(), person()), 2, 0)
    look = draw_look(np.random.default_rng(3))
    a, b = (np.asarray(p).astype(int) for p in draw_clip(joints, person(), look, rng=np.random.default_rng(0)))
    assert 0.2 < np.abs(a - b).mean() < 2


# -- what goes wrong


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--clips", "2"], "--clips is 2"),
        (["--signers", "0"], "--signers is 0"),
        (["--glosses", "5"], "--glosses is 5"),
        (["--fps", "1000"], "--fps is 1000"),
        (["--seed", "-1"], "--seed is -1"),
        (["--workers", "0"], "--workers is 0"),
    ],
)
def test_nonsense_gets_one_line(tmp_path, capsys, wrong, message):
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda: main(["--layout", "phoenix2014", "--out", str(tmp_path / "set"), *wrong]))
    lines = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("broken", ["PIL.Image.Image.save", "numpy.save"])
def test_nothing_is_overwritten_or_half_written(tmp_path, capsys, monkeypatch, broken):
    options = ["--layout", "phoenix2014", "--clips", "3", "--fps", "5", "--workers", "1", "--out"]
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit):
        cli.run(lambda: main([*options, str(full)]))
    assert "not an empty folder" in capsys.readouterr().err and [p.name for p in full.iterdir()] == ["mine.txt"]
    monkeypatch.setattr(broken, lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(SystemExit):
        cli.run(lambda: main([*options, str(tmp_path / "new")]))
    assert "No space left" in capsys.readouterr().err and [p.name for p in tmp_path.iterdir()] == ["full"]
