"""Writes a data set of a synthetic signer, in CSL-Daily's layout, README included: something to train and test on without a licence.

    python -m signstream.data.synthetic --out data/synthetic --clips 2000 --seed 0
    python -m signstream.data.synthetic --out data/tiny --clips 24 --seed 1 --signers 4 --glosses 40 --workers 1

data.lexicon says what is signed, data.signer moves a body [T, 133, 3]; here a made-up detector looks at it (jitter, scores, lost hands), and
clips are written as frames_512x512/<name>.npy [T, 134, 3]. The same arguments give the same bytes, whatever the number of workers. numpy only.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from signstream.data.synthetic.lexicon import Grammar, Sentence, Sign, lexicon
from signstream.data.synthetic.signer import Signer, draw_signer, perform, wander
from signstream.errors import UserError
from signstream.skeleton import FACE, LEFT_HAND, LEFT_WRIST, NUM_JOINTS, RIGHT_HAND, RIGHT_WRIST

SIZE = 512
SPLITS = ("train", "val", "test", "test_unseen_signer")
HELD_OUT = 0.08  # share of the clips in each split but train
MIN_CLIPS, MIN_SIGNERS = 8, 3
HANDS = (slice(LEFT_HAND, RIGHT_HAND), slice(RIGHT_HAND, NUM_JOINTS))
README = """# A synthetic signer, in CSL-Daily's layout

These data are made up: no person signed them. Made with
`python -m signstream.data.synthetic --out DIR --clips {clips} --seed {seed} --signers {signers} --glosses {glosses} --fps {fps:g}` (seed {seed}).

- Array shape: `frames_512x512/<name>.npy`, float32, [T, 134, 3]; row 0 = (video width, video height, -), \
rows 1..133 = COCO-WholeBody (x px, y px, score)
- Frame rate: {fps:g} fps
- Joints, counted from 1: body 1-17, feet 18-23, face 24-91, left hand 92-112, right hand 113-133. "Left" is the signer's own left.
- Centre joints: body 1, face 32, left hand 92, right hand 113
- Unit length: right eye corners 60-63, left eye corners 66-69

`annotations.json`: {{name: {{text, gloss, num_frames, signer, fps, segments}}}}; a segment is [first frame, frame after the last, gloss]: stroke
and hold, without the way there. `split_files.json`: val and test hold sentences that are not in train, by signers who are; test_unseen_signer holds
sentences of train by signers who are in no other split.
A joint that the detector lost has a score below 0.3; a lost hand is (0, 0, 0) in most clips and scattered points of low score in the others.
"""


@dataclass(frozen=True)
class Clip:
    """poses [T, 134, 3] float32 as written; segments [(start, end, gloss)]."""

    poses: np.ndarray
    segments: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True)
class Task:
    """One clip to make; `index` seeds it."""

    index: int
    name: str
    split: str
    sentence: Sentence
    signer: int


@dataclass(frozen=True)
class Cast:
    """What all clips of a data set share."""

    seed: int
    fps: float
    signs: dict[str, Sign]
    signers: tuple[Signer, ...]


def _generator(*entropy: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def _jitter_of_joints() -> np.ndarray:
    """[133] how unsure the detector is of each joint, in shoulder widths."""
    sigma = np.full(NUM_JOINTS, 0.0036, np.float32)
    sigma[:5], sigma[5:7], sigma[7:11], sigma[11:FACE] = 0.005, 0.010, 0.024, 0.03
    for hand in HANDS:
        sigma[hand] = 0.0135
    return sigma


def _length(xy: np.ndarray) -> np.ndarray:
    """[..., 2] -> [...]; several times faster than np.linalg.norm."""
    return np.hypot(xy[..., 0], xy[..., 1])


def _beyond(share: np.ndarray, border: float) -> np.ndarray:
    """Places [..., 2] as shares of the picture's size -> [...]: how far outside of all but a `border` of the picture they are, 0 inside."""
    off = np.abs(share - 0.5)
    return np.maximum(np.maximum(off[..., 0], off[..., 1]) + border - 0.5, 0)


def _speeds(place: np.ndarray, fps: float) -> np.ndarray:
    """place [T, J, 2] -> [T]: mean speed of all points, the first frame like the second."""
    step = _length(np.diff(place, axis=0)).mean(1) * fps
    return np.concatenate([step[:1], step])


def hand_trouble(
    place: np.ndarray, depth: np.ndarray, signer: Signer, seconds: np.ndarray, fps: float, rng: np.random.Generator
) -> np.ndarray:
    """place [T, 133, 2] in shoulder widths from the nose, depth [T, 133] -> [T, 2]: the detector loses a hand where it is above 0.

    Motion blur, the other hand in front, the picture's edge, and luck that lasts from one frame to a second."""
    blur = np.stack([_speeds(place[:, hand], fps) for hand in HANDS], 1)
    centre = np.stack([place[:, hand][:, (0, 5, 9, 17)].mean(1) for hand in HANDS], 1)
    behind = np.stack([depth[:, a.start + 9] - depth[:, b.start + 9] for a, b in (HANDS, HANDS[::-1])], 1)
    together = _length(centre[:, :1] - centre[:, 1:]) < 0.32
    edge = _beyond(centre * signer.shoulder_px + np.array(signer.nose), 0.02)
    luck = (
        0.8 * wander(rng, seconds, 2, 0.6)
        + 0.4 * wander(rng, seconds, 2, 2.2)
        + 0.08 * rng.standard_normal((len(seconds), 2))
    )
    hidden = 0.9 * (together & (behind > 0)) + 0.9 * (centre[..., 1] > 1.5) + 30 * edge
    return luck + 0.20 * np.minimum(blur, 6) + hidden - 1.55 + rng.normal(0, 0.5, 2)


def _lose_hands(poses: np.ndarray, trouble: np.ndarray, unit: float, rng: np.random.Generator) -> None:
    """Sets the hands' scores in poses [T, 133, 3] from trouble [T, 2] and spoils the lost ones, in place."""
    leaves_zeros = rng.random() < 0.7
    for side, hand in enumerate(HANDS):
        bad = trouble[:, side, None]
        sure = 0.3 + 0.62 * (1 - np.exp(np.minimum(bad, 0) / 1.1))
        spread = 0.05 * rng.standard_normal((len(poses), 21), dtype=np.float32)
        poses[:, hand, 2] = np.where(
            bad > 0, np.clip(0.16 * np.exp(-np.maximum(bad, 0)) + spread, 0.01, 0.27), np.clip(sure + spread, 0.31, 1.0)
        )
        lost = trouble[:, side] > 0
        if leaves_zeros:
            poses[lost, hand] = 0
            continue
        wrist = poses[lost, hand.start, None, :2]
        poses[lost, hand, :2] = (
            wrist + 0.4 * (poses[lost, hand, :2] - wrist) + 0.08 * unit * rng.standard_normal((int(lost.sum()), 21, 2))
        )


def project(joints: np.ndarray, signer: Signer) -> np.ndarray:
    """joints [T, 133, 3] -> pixels [T, 133, 2], in perspective."""
    near = signer.camera / (signer.camera + joints[..., 2:])
    centre = np.array([signer.nose[0], signer.nose[1] + 0.59 * signer.shoulder_px]) * SIZE
    return centre + joints[..., :2] * near * (signer.shoulder_px * SIZE)


def _jitter(speed: np.ndarray, trouble: np.ndarray, seconds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """speed [T, 133], trouble [T, 2] -> errors [T, 133, 2] in shoulder widths: mostly slow drift, more in motion and in a hand nearly lost."""
    noise = 0.07 * rng.standard_normal((*speed.shape, 2), dtype=np.float32)
    noise += wander(rng, seconds, 2 * NUM_JOINTS, 1.0).reshape(noise.shape)
    noise *= 1 + 0.25 * np.minimum(speed, 6)[..., None]
    for side, hand in enumerate(HANDS):
        fingers = noise[:, hand.start + 1 : hand.stop].reshape(len(noise), 5, 4, 2)
        fingers[:] = 0.45 * fingers.cumsum(2) + 0.45 * fingers.sum(
            1, keepdims=True
        )  # a finger is misread as a whole, and so is a hand
        noise[:, hand] *= np.exp(1.1 * np.clip(trouble[:, side, None, None] + 1.2, -0.7, 2))
    return noise * _jitter_of_joints()[:, None]


def _scores(
    place: np.ndarray,
    speed: np.ndarray,
    trouble: np.ndarray,
    outside: np.ndarray,
    seconds: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """-> [T, 133] for body and face: lower in motion, near a lost hand, behind a hand, and close to nothing out of the picture."""
    lapse = 0.03 * wander(rng, seconds, NUM_JOINTS, 1.5) + 0.02 * rng.standard_normal(speed.shape, dtype=np.float32)
    scores = 0.92 - np.abs(lapse) - 0.05 * np.minimum(speed, 5)
    scores[:, [LEFT_WRIST, RIGHT_WRIST]] -= 0.15 * np.clip(trouble + 1, 0, 3)
    for hand in HANDS:
        away = _length(place[:, FACE:LEFT_HAND] - place[:, hand.start + 9, None])
        scores[:, FACE:LEFT_HAND] -= 0.7 * np.exp(-((away / 0.14) ** 2))
    return np.clip(scores * np.exp(-14 * outside), 0, 1)


def _add_jumps(poses: np.ndarray, unit: float, rng: np.random.Generator) -> None:
    """Throws single joints of single frames of poses [T, 133, 3] somewhere else, in place; lost ones stay."""
    count = rng.poisson(0.0007 * len(poses) * NUM_JOINTS)
    at = rng.integers(len(poses), size=count), rng.integers(NUM_JOINTS, size=count)
    poses[(*at, slice(0, 2))] += 0.12 * unit * rng.standard_normal((count, 2)) * (poses[(*at, 2)] > 0)[:, None]
    poses[(*at, 2)] *= 0.75


def detect(joints: np.ndarray, signer: Signer, rng: np.random.Generator, fps: float) -> np.ndarray:
    """joints [T, 133, 3] in shoulder widths -> what a pose estimator would report, [T, 133, 3] float32: x px, y px, score in [0, 1]."""
    seconds, unit = np.arange(len(joints)) / fps, signer.shoulder_px * SIZE
    poses = np.empty((len(joints), NUM_JOINTS, 3), np.float32)
    poses[..., :2] = project(joints, signer)
    place = (poses[..., :2] - np.array(signer.nose, np.float32) * SIZE) / unit
    speed = np.zeros((len(joints), NUM_JOINTS), np.float32)
    speed[1:] = _length(np.diff(place, axis=0)) * fps
    trouble = hand_trouble(place, joints[..., 2], signer, seconds, fps, rng)
    poses[..., :2] += unit * _jitter(speed, trouble, seconds, rng)
    poses[..., 2] = _scores(place, speed, trouble, _beyond(poses[..., :2] / SIZE, 0), seconds, rng)
    _lose_hands(poses, trouble, unit, rng)
    _add_jumps(poses, unit, rng)
    return poses


def make_clip(
    sentence: Sentence, signs: dict[str, Sign], signer: Signer, rng: np.random.Generator, fps: float = 30.0
) -> Clip:
    """One clip as the detector saw it, with the true segments."""
    played = perform(sentence, signs, signer, rng, fps)
    poses = np.empty((len(played.joints), NUM_JOINTS + 1, 3), np.float32)
    poses[:, 0] = (SIZE, SIZE, 1)
    poses[:, 1:] = detect(played.joints, signer, rng, fps)
    return Clip(poses, played.segments)


def _fresh_sentences(grammar: Grammar, rng: np.random.Generator, used: set[str]) -> Iterator[Sentence]:
    """Sentences whose glosses no other sentence has."""
    misses = 0
    while misses < 2000:
        sentence = grammar.sentence(rng)
        misses = misses + 1 if sentence.key in used else 0
        if not misses:
            used.add(sentence.key)
            yield sentence
    raise UserError(
        f"--clips needs more than the {len(used)} different sentences that so few glosses give: ask for fewer clips or more --glosses"
    )


def _spread(
    count: int, sentences: Iterator[Sentence], people: list[int], rng: np.random.Generator
) -> Iterator[tuple[Sentence, int]]:
    """`count` (sentence, signer): each sentence by one to four different people."""
    while count:
        times = min(count, len(people), int(rng.integers(1, 5)))
        sentence = next(sentences)
        for person in rng.choice(people, times, replace=False):
            yield sentence, int(person)
        count -= times


def plan_clips(clips: int, seed: int, signers: int, signs: dict[str, Sign]) -> list[Task]:
    """Who signs what, in which split."""
    rng, used = _generator(seed, 0, 1), set()
    fresh = _fresh_sentences(Grammar(signs), rng, used)
    held = max(1, round(HELD_OUT * clips))
    strangers = max(1, signers // 5)
    pairs = {"train": list(_spread(clips - 3 * held, fresh, list(range(signers - strangers)), rng))}
    seen = sorted({person for _, person in pairs["train"]})
    for split in ("val", "test"):
        pairs[split] = list(_spread(held, fresh, seen, rng))
    known = list({s.key: s for s, _ in pairs["train"]}.values())
    picks = [known[i] for i in rng.permutation(len(known))]
    strangers_say = (picks[i % len(picks)] for i in range(held))
    people = list(range(signers - strangers, signers))
    pairs["test_unseen_signer"] = [(sentence, people[i % len(people)]) for i, sentence in enumerate(strangers_say)]
    tasks, numbers, takes = [], {}, {}
    for split in SPLITS:
        for sentence, person in pairs[split]:
            number = numbers.setdefault(sentence.key, len(numbers))
            take = takes[number, person] = takes.get((number, person), -1) + 1
            tasks.append(Task(len(tasks), f"S{number:06d}_P{person:04d}_T{take:02d}", split, sentence, person))
    return tasks


def _write_clip(folder: Path, cast: Cast, task: Task) -> dict:
    """Makes and writes one clip; returns its annotation."""
    clip = make_clip(task.sentence, cast.signs, cast.signers[task.signer], _generator(cast.seed, task.index), cast.fps)
    np.save(folder / f"{task.name}.npy", clip.poses)
    fps = int(cast.fps) if float(cast.fps).is_integer() else cast.fps
    return {
        "text": task.sentence.text,
        "gloss": task.sentence.key,
        "num_frames": len(clip.poses),
        "signer": task.signer,
        "fps": fps,
        "segments": [list(segment) for segment in clip.segments],
    }


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _start_worker() -> None:
    """The parent decides when to stop, and a worker does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _write_clips(folder: Path, cast: Cast, tasks: list[Task], workers: int, quiet: bool) -> list[dict]:
    from tqdm import tqdm  # here, so that --help answers at once

    write, shown = (
        partial(_write_clip, folder, cast),
        partial(tqdm, total=len(tasks), unit="clip", disable=quiet or None, mininterval=0.5),
    )
    if workers == 1:
        return list(shown(map(write, tasks)))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _start_worker) as pool:
        return list(shown(pool.map(write, tasks, chunksize=8)))


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A temporary sibling of `out` that takes its name at the end, or is gone."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} exists and is not an empty folder: name another one; nothing is overwritten")
    out.parent.mkdir(parents=True, exist_ok=True)
    partly = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        yield partly
        partly.chmod(0o755)
        partly.rename(out)
    except BaseException:
        shutil.rmtree(partly, ignore_errors=True)
        raise


def _check(clips: int, seed: int, signers: int, fps: float, workers: int) -> None:
    if clips < MIN_CLIPS:
        raise UserError(f"--clips is {clips}: at least {MIN_CLIPS} are needed, so that each split has one")
    if signers < MIN_SIGNERS:
        raise UserError(
            f"--signers is {signers}: at least {MIN_SIGNERS} are needed, one of whom is kept for test_unseen_signer"
        )
    if seed < 0:
        raise UserError(f"--seed is {seed}: a whole number from 0 is needed")
    if not 5 <= fps <= 240:
        raise UserError(f"--fps is {fps:g}: 5 to 240 frames a second are possible; CSL-Daily has 30")
    if workers < 1:
        raise UserError(f"--workers is {workers}: at least 1 process is needed")


def make_dataset(
    out: str | Path,
    clips: int,
    seed: int = 0,
    signers: int = 10,
    glosses: int | None = None,
    fps: float = 30.0,
    workers: int = 1,
    quiet: bool = True,
) -> Path:
    """Writes the data set to `out`, which must not exist or be empty, and returns its path. ValueError says what is wrong with an argument."""
    out = Path(out)
    _check(clips, seed, signers, fps, workers)
    signs = lexicon(glosses)
    cast = Cast(seed, fps, signs, tuple(draw_signer(_generator(seed, person, 2), person) for person in range(signers)))
    tasks = plan_clips(clips, seed, signers, signs)
    with written_whole(out) as root:
        folder = root / "frames_512x512"
        folder.mkdir()
        notes = _write_clips(folder, cast, tasks, workers, quiet)
        by_name = {task.name: note for task, note in zip(tasks, notes)}
        splits = {split: [task.name for task in tasks if task.split == split] for split in SPLITS}
        (root / "annotations.json").write_text(json.dumps(by_name, indent=0) + "\n", encoding="utf-8")
        (root / "split_files.json").write_text(json.dumps(splits, indent=0) + "\n", encoding="utf-8")
        readme = README.format(clips=clips, seed=seed, signers=signers, glosses=len(signs), fps=fps)
        (root / "CSL-Daily_README.md").write_text(readme, encoding="utf-8")
    return out
