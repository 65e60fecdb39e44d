"""Long recordings of the synthetic signer, and texts that follow the signs: readers take a recording for a clip, its
sentences and what lies between them are where they are said to be, nothing jumps, clips are what they were."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data_sets import data_config
from signstream.data.datasets import load_checked, open_data
from signstream.data.synthetic import curves, monologue, performance
from signstream.data.synthetic.__main__ import main
from signstream.data.synthetic.body import Curves
from signstream.data.synthetic.curves import Keys
from signstream.data.synthetic.dataset import SPLITS, make_dataset
from signstream.data.synthetic.grammar import Grammar
from signstream.data.synthetic.lexicon import lexicon
from signstream.data.synthetic.performance import Utterance, face_curve, posture_curves
from signstream.data.synthetic.signer import Signer, draw_signer
from signstream.data.synthetic.streams import plan_recordings
from signstream.skeleton import LEFT_WRIST, NOSE, RIGHT_WRIST

SENTENCES, MINUTES, FPS = 40, 0.5, 12
# Of `make_dataset(out, 8, seed=3, signers=4)` before there were recordings: annotations and splits, and poses' means.
CLIPS_WERE = "eb5d9b78352cd781891c7e482de168693698b75e8f5144ef26836ec6805556b2"
MEANS_WERE = (141.582193, 170.634888, 179.684529, 157.271124, 175.445426, 168.031955, 177.60271, 149.452683)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "set"
    return make_dataset(folder, SENTENCES, seed=3, signers=4, fps=FPS, stream=MINUTES)


@pytest.fixture(scope="module")
def notes(root) -> dict:
    return json.loads((root / "annotations.json").read_text())


@pytest.fixture(scope="module")
def signs() -> dict:
    return lexicon()


@pytest.fixture(scope="module")
def monologues(signs) -> list:
    """A minute by each of four people."""
    grammar, rng = Grammar(signs), np.random.default_rng(1)
    people = [draw_signer(np.random.default_rng([9, person]), person) for person in range(4)]
    said = [tuple(grammar.sentence(rng) for _ in range(14)) for _ in people]
    return [monologue.recite(some, signs, person, rng=rng, fps=30.0) for some, person in zip(said, people)]


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_clips_are_what_they_were_before_there_were_recordings(tmp_path):
    """Poses by their means, since other processors may round the last bit otherwise."""
    made = make_dataset(tmp_path / "set", 8, seed=3, signers=4)
    tables = b"".join((made / name).read_bytes() for name in ("annotations.json", "split_files.json"))
    means = [np.load(path).mean(dtype=np.float64) for path in sorted(made.glob("frames_512x512/*.npy"))]
    assert hashlib.sha256(tables).hexdigest() == CLIPS_WERE
    assert np.allclose(means, MEANS_WERE, rtol=0, atol=1e-6)


def test_the_same_recordings_whatever_the_workers(tmp_path, root):
    again = make_dataset(tmp_path / "set", SENTENCES, seed=3, signers=4, fps=FPS, stream=MINUTES, workers=2)
    assert digest(again) == digest(root)


def test_a_recording_is_read_as_a_clip(root, notes):
    source = open_data(data_config(root, fps=FPS))
    for split, names in source.splits().items():
        for name in names:
            clip, note = load_checked(source, split, name), notes[name]
            assert (clip.text, clip.gloss, clip.signer) == (note["text"], note["gloss"], str(note["signer"]))
            assert [list(segment) for segment in clip.segments] == note["segments"]
            assert len(clip.poses) == note["num_frames"] and clip.fps == FPS
    lengths = [note["num_frames"] / FPS / 60 / MINUTES for note in notes.values()]
    assert min(lengths) > 0.6 and max(lengths) < 1.6


def test_sentences_make_up_text_gloss_and_segments(notes):
    assert sum(len(note["sentences"]) for note in notes.values()) == SENTENCES
    for note in notes.values():
        assert note["text"] == " ".join(said["text"] for said in note["sentences"])
        assert note["gloss"] == " ".join(said["gloss"] for said in note["sentences"])
        for said in note["sentences"]:
            inside = [part for part in note["segments"] if said["start"] <= part[0] and part[1] <= said["end"]]
            assert " ".join(gloss for *_, gloss in inside) == said["gloss"]
            assert (inside[0][0], inside[-1][1]) == (said["start"], said["end"])


def test_something_lies_between_two_sentences_and_overlaps_none(notes):
    kinds = set()
    for note in notes.values():
        said = [(sentence["start"], sentence["end"], "sentence") for sentence in note["sentences"]]
        spans = sorted(said + [tuple(span) for span in note["between"]])
        assert all(first[1] <= then[0] for first, then in pairwise(spans)), "none overlaps"
        assert all(start < end for start, end, _ in spans) and spans[-1][1] <= note["num_frames"]
        order = " ".join(what.replace(" ", "-") for *_, what in spans)
        assert re.fullmatch(r"(false-start )?sentence( (pause|rest)( false-start)? sentence)*", order)
        kinds |= {what for *_, what in spans}
    assert kinds == {"sentence", "pause", "rest", "false start"}


def test_splits_of_recordings_hold_what_they_promise(root, signs):
    splits = json.loads((root / "split_files.json").read_text())
    assert tuple(splits) == SPLITS and all(splits.values())
    planned = plan_recordings(500, 3, 10, grammar=Grammar(signs), minutes=0.25)
    told = {split: [order for order in planned if order.split == split] for split in SPLITS}
    texts = {split: {said.text for order in some for said in order.sentences} for split, some in told.items()}
    people = {split: {order.signer for order in some} for split, some in told.items()}
    assert sum(len(order.sentences) for order in planned) == 500 and len({order.name for order in planned}) == len(
        planned
    )
    assert not texts["train"] & (texts["val"] | texts["test"]) and not texts["val"] & texts["test"]
    assert people["val"] | people["test"] <= people["train"]
    assert texts["test_unseen_signer"] <= texts["train"]
    assert not people["test_unseen_signer"] & (people["train"] | people["val"] | people["test"])
    by = [(said.key, order.signer) for order in told["train"] for said in order.sentences]
    assert len(set(by)) == len(by) > 1.5 * len(texts["train"]), "each sentence by several people, by each once"


def test_nothing_jumps(signs, monkeypatch):
    """A jump is a step that its neighbours are far from; of 960 frames a second, a movement's steps are near theirs.
    Of all that moves a body, and not of its joints: an elbow or a palm may flip in a clip of one sentence too."""
    moved: list[Curves] = []
    monkeypatch.setattr(monologue, "FALSE_STARTS", 0.6)
    monkeypatch.setattr(performance, "assemble_body", lambda curves, _: moved.append(curves))
    grammar, rng = Grammar(signs), np.random.default_rng(1)
    for seed in range(4):
        said = tuple(grammar.sentence(rng) for _ in range(6))
        monologue.recite(said, signs, draw_signer(np.random.default_rng(seed), 0), rng=rng, fps=960.0)
    for curves_of in moved:
        for curve in curves_of:
            step = np.abs(np.diff(curve.reshape(len(curve), -1), axis=0))
            assert (step[1:-1] - np.maximum(step[:-2], step[2:])).max() < 0.01, "shoulder widths and radians"


def test_seams_are_no_faster_than_sentences(monologues):
    steps: dict[bool, list[float]] = {True: [], False: []}
    for told in monologues:
        step = np.linalg.norm(np.diff(told.joints, axis=0), axis=-1).max(1)
        inside = np.zeros(len(step), bool)
        for start, end in told.sentences:
            inside[start : end - 1] = True
        for kind, found in steps.items():
            found.append(step[inside == kind].max())
    assert np.median(steps[False]) < np.median(steps[True])


def heights(told, start: int, end: int) -> np.ndarray:
    """[frames, 2] how far below the nose the wrists are, in shoulder widths."""
    return told.joints[start:end, [LEFT_WRIST, RIGHT_WRIST], 1] - told.joints[start:end, NOSE, None, 1]


def test_hands_are_held_in_a_pause_down_in_a_rest_and_move_in_a_false_start(monologues):
    paths: dict[str, list[float]] = {"pause": [], "rest": [], "false start": []}
    for told in monologues:
        for start, end, what in told.between:
            wrists = told.joints[start:end, [LEFT_WRIST, RIGHT_WRIST]]
            paths[what].append(np.linalg.norm(wrists - wrists[:1], axis=-1).max())
            if what == "rest":
                down = heights(told, 0, 2).mean()  # as everybody begins
                assert abs(heights(told, end - 4, end - 1).mean() - down) < 0.25
    assert all(len(lengths) > 3 for lengths in paths.values())
    assert np.median(paths["pause"]) < 0.15 < 0.5 < np.median(paths["false start"])


def test_a_false_start_is_begun_as_its_sentence_is(monologues):
    """The hands come near to where the sentence's first sign then begins, and without one in a pause they do not."""
    near: dict[str, list[float]] = {"pause": [], "rest": [], "false start": []}
    for told in monologues:
        for start, end, what in told.between:
            first = min(begin for begin, _ in told.sentences if begin >= end)
            wrists = told.joints[:, [LEFT_WRIST, RIGHT_WRIST]]
            near[what].append(np.linalg.norm(wrists[start:end] - wrists[first], axis=-1).max(1).min())
    assert np.median(near["false start"]) < 0.15 < 0.3 < min(np.median(near["pause"]), np.median(near["rest"]))


def test_a_mood_is_over_before_the_next_sentence(signs):
    person, rng = draw_signer(np.random.default_rng(2), 0), np.random.default_rng(2)
    script = monologue.write_script(tuple(Grammar(signs).sentence(rng) for _ in range(20)), signs, person, rng=rng)
    assert all(said.over < then.times[0][0] for said, then in pairwise(script.sentences))
    said, seconds = script.sentences[0], np.arange(0, script.sentences[1].times[-1][1], 1 / 30)
    for mood in ("asks", "wonders", "denies"):
        shown = [body_language(replace(said, mood=name), seconds, person) for name in (mood, "statement")]
        apart = np.abs(shown[0] - shown[1]).max(1)
        assert apart[seconds < said.over].max() > 0.1 and not apart[seconds >= said.over].any()


def body_language(said: Utterance, seconds: np.ndarray, person: Signer) -> np.ndarray:
    """[T, 10] face and head, with the same chance each time."""
    face = face_curve([said], seconds, signer=person, rng=np.random.default_rng(0))
    return np.concatenate([face, posture_curves([said], seconds, signer=person, rng=np.random.default_rng(0))[0]], 1)


def test_a_long_curve_is_the_sum_of_its_movements(monkeypatch):
    rng = np.random.default_rng(0)
    keys, seconds = Keys.at(rng.normal(size=3)), np.arange(2000) / 30
    for start in np.sort(rng.uniform(-1, 66, 200)):
        keys.add(start + rng.normal(0, 0.2), rng.uniform(0.01, 9), rng.normal(size=3))
    whole = keys.curve(seconds)
    monkeypatch.setattr(curves, "WHOLE", 1)
    assert np.allclose(keys.curve(seconds), whole, rtol=0, atol=1e-9)


def test_near_texts_follow_the_signs(signs):
    usual, near = Grammar(signs), Grammar(signs, near=True)
    in_order = 0
    for seed in range(300):
        sentence = near.sentence(np.random.default_rng(seed))
        other = usual.sentence(np.random.default_rng(seed))
        assert (sentence.glosses, sentence.mood) == (other.glosses, other.mood)
        assert follows(sentence, signs)
        in_order += follows(other, signs)
    assert in_order < 75, "the usual order is another"


def follows(sentence, signs: dict) -> bool:
    """Whether each sign's word is found in the text after the one before."""
    at = 0
    for gloss in sentence.glosses:
        forms = [form.lower().replace("-", " ") for form in signs[gloss].word.split(":")]
        stems = [*forms, *(form[:-1] + "ies" for form in forms if form.endswith("y"))]
        found = re.search(rf"\b({'|'.join(stems)})(s|es)?\b", sentence.text[at:])
        if found is None:
            return False
        at += found.end()
    return True


def test_a_near_word_depends_on_no_later_sign():
    """Where one sentence's glosses begin another's, so does its text."""
    grammar, rng = Grammar(lexicon(20), near=True), np.random.default_rng(0)
    texts = {s.glosses: s.text.removesuffix(" is it true") for s in (grammar.sentence(rng) for _ in range(4000))}
    begun = [(glosses, glosses[:k]) for glosses in texts for k in range(1, len(glosses)) if glosses[:k] in texts]
    assert len(begun) > 100
    assert all(texts[glosses].startswith(texts[first] + " ") for glosses, first in begun)


@pytest.mark.parametrize("more", [[], ["--layout", "phoenix14t"], ["--stream", "0.25", "--fps", "10"]])
def test_near_changes_the_texts_and_nothing_else(tmp_path, more):
    for text in ("usual", "near"):
        main(
            ["--out", str(tmp_path / text), "--clips", "16", "--signers", "4", "--workers", "1", "--text", text, *more]
        )
    usual, near = (digest(tmp_path / text) for text in ("usual", "near"))
    changed = {name for name in usual if usual[name] != near[name]}
    assert usual.keys() == near.keys()
    assert changed and all("annotations" in name or "README" in name for name in changed)
    assert "--text near" in (tmp_path / "near" / next(name for name in changed if "README" in name)).read_text()
