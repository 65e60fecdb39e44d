"""A data set of synthetic signers in PHOENIX-2014's layout: drawn frames, raw and clean labels, keypoints in a pickle.

    make_phoenix(out, clips, seed)

Out come features/fullFrame-256x256px/<split>/<fileid>/1/*.png, {train,dev,test}_info.npy, gloss_dict.npy,
phoenix2014-groundtruth-<split>.stm and keypoints_256x256.pkl. The same arguments give the same bytes, whatever the
number of workers. numpy and Pillow.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from signstream.data.phoenix_joints import keypoints_key, phoenix_joints, recording_of
from signstream.data.synthetic.detector import SIZE, detect
from signstream.data.synthetic.drawing import draw_clip
from signstream.data.synthetic.drawing_look import Look, draw_look
from signstream.data.synthetic.drawing_shapes import PICTURE
from signstream.data.synthetic.grammar import Grammar, Sentence
from signstream.data.synthetic.lexicon import Sign
from signstream.data.synthetic.orders import (
    HELD_OUT,
    Cast,
    Order,
    cast_of,
    check_options,
    fresh_sentences,
    generator,
    spread,
    write_all,
)
from signstream.data.synthetic.performance import perform
from signstream.data.synthetic.phoenix_labels import clean_label, raw_words
from signstream.errors import UserError
from signstream.io.whole import whole_folder

SPLITS = ("train", "dev", "test")
MIN_CLIPS, MIN_SIGNERS = 3, 1
FRAMES = Path("features", "fullFrame-256x256px")
PREFIX = "/where/the/real/set/was/made/phoenix2014"  # the real files name a folder that nobody else has, too
FIRST_DAY, TOGETHER = date(2010, 1, 1), 8  # the first recording, and how many clips are cut from one
# In English whatever the machine speaks.
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
README = """# A synthetic signer, in PHOENIX-2014's layout

These data are made up: no person signed them, and every frame is drawn. Made with
`python -m signstream.data.synthetic --layout phoenix2014 --out DIR --clips {clips} --seed {seed} --signers {signers} \
--glosses {glosses} --fps {fps:g}`.

- `features/fullFrame-256x256px/<split>/<fileid>/1/*.png`: 256 x 256, RGB, {fps:g} frames a second, in the names' order
- `<split>_info.npy`: a dict, key `prefix` and 0, 1, ...: fileid, folder, signer, label, num_frames, original_info
- `gloss_dict.npy`: {{gloss: [index from 1, count]}} over all splits
- `phoenix2014-groundtruth-<split>.stm`: the same labels in the same order
- `keypoints_256x256.pkl`: {{key: {{"keypoints": [T, 121, 3]}}}}, x px, y px, score, as a detector would see them

train has raw labels (loc-, cl-, poss-, qu-, lh-, -PLUSPLUS, __ON__, __OFF__, __EMOTION__, __PU__, __LEFTHAND__, words
written twice); dev and test have clean ones, sentences that are not in train, and signers who are.
"""


@dataclass(frozen=True)
class Scene:
    """What all clips of a data set share."""

    cast: Cast
    looks: tuple[Look, ...]
    frames: Path


def _fileid(number: int, signer: int, signers: int) -> str:
    """The name of a signer's clip of this number: a day on which nobody else signs, and which part of it."""
    day = FIRST_DAY + timedelta(signer + signers * (number // TOGETHER))
    name = f"{day.day:02d}{MONTHS[day.month - 1]}_{day.year}_{WEEKDAYS[day.weekday()]}_synthetic"
    return f"{name}_default-{number % TOGETHER}"


def _named(pairs: Iterable[tuple[str, tuple[Sentence, int]]], signers: int) -> list[Order]:
    orders: list[Order] = []
    numbers: Counter[int] = Counter()
    for split, (sentence, person) in pairs:
        orders.append(Order(len(orders), _fileid(numbers[person], person, signers), split, sentence, person))
        numbers[person] += 1
    return orders


def plan_phoenix(clips: int, seed: int, signers: int, *, signs: dict[str, Sign], near: bool = False) -> list[Order]:
    """Who signs what, in which split: dev and test hold sentences that are not in train, by signers who are."""
    rng = generator(seed, 0, 4)
    fresh = fresh_sentences(Grammar(signs, near=near), rng)
    held = max(1, round(HELD_OUT * clips))
    train = list(spread(clips - 2 * held, fresh, list(range(signers)), rng=rng))
    seen = sorted({person for _, person in train})
    pairs = [("train", pair) for pair in train]
    pairs += [(split, pair) for split in ("dev", "test") for pair in spread(held, fresh, seen, rng=rng)]
    return _named(pairs, signers)


def _write_frames(scene: Scene, order: Order) -> np.ndarray:
    """Makes a clip and writes its frames; returns its keypoints [T, 121, 3]."""
    cast, signer = scene.cast, scene.cast.signers[order.signer]
    rng = generator(cast.seed, order.index, 5)
    played = perform(order.sentence, cast.signs, signer, rng=rng, fps=cast.fps)
    poses = detect(played.joints, signer, rng, fps=cast.fps, zeros=0)
    poses[..., :2] *= PICTURE / SIZE
    folder = scene.frames / order.split / order.name / "1"
    folder.mkdir(parents=True)
    pictures = draw_clip(played.joints, signer, scene.looks[order.signer], rng=rng)
    for number, picture in enumerate(pictures):
        name = f"{recording_of(order.name)}.avi_pid0_fn{number:06d}-0.png"
        picture.save(folder / name, compress_level=2)
    return phoenix_joints(poses)


def _info(order: Order, label: str, frames: int) -> dict[str, Any]:
    inside = f"{order.name}/1/*.png"
    signer = f"Signer{order.signer + 1:02d}"
    return {
        "fileid": order.name,
        "folder": f"{order.split}/{inside}",
        "signer": signer,
        "label": label,
        "num_frames": frames,
        "original_info": f"{order.name}|{inside}|{signer}|{label}",
    }


def _label(cast: Cast, order: Order) -> str:
    rng = generator(cast.seed, order.index, 6)
    if order.split == "train":
        return " ".join(raw_words(order.sentence.glosses, cast.signs, rng))
    return clean_label(order.sentence.glosses, rng)


def _save_dict(path: Path, content: dict[Any, Any]) -> None:
    """A dict as numpy saves it: an array without axes that holds it."""
    np.save(path, np.array(content, dtype=object))


def _write_tables(root: Path, infos: dict[str, list[dict[str, Any]]]) -> None:
    """Info files, .stm files and the glosses' dictionary."""
    counts: Counter[str] = Counter()
    for split, entries in infos.items():
        _save_dict(root / f"{split}_info.npy", {"prefix": PREFIX, **dict(enumerate(entries))})
        words = [entry["label"].split() for entry in entries]
        counts.update(word for label in words for word in label)
        lines = [
            f"{entry['fileid']} 1 {entry['signer']} 0.0 1.79769e+308 {' '.join(label)}\n"
            for entry, label in zip(entries, words)
        ]
        (root / f"phoenix2014-groundtruth-{split}.stm").write_text("".join(lines), encoding="utf-8")
    glosses = {gloss: [index, counts[gloss]] for index, gloss in enumerate(sorted(counts), 1)}
    _save_dict(root / "gloss_dict.npy", glosses)


def _write_keypoints(path: Path, orders: list[Order], keypoints: list[np.ndarray]) -> None:
    """The clips' keypoints under their keys. An array from another process has a dtype of its own, which would be
    pickled anew each time: astype gives all of them the same one."""
    clips = {
        keypoints_key(order.split, order.name): {"keypoints": points.astype(np.float32, order="C")}
        for order, points in zip(orders, keypoints)
    }
    path.write_bytes(pickle.dumps(clips, protocol=4))


def _check_counts(clips: int, signers: int) -> None:
    if clips < MIN_CLIPS:
        raise UserError(f"--clips is {clips}: at least {MIN_CLIPS} are needed, so that each split has one")
    if signers < MIN_SIGNERS:
        raise UserError(f"--signers is {signers}: at least {MIN_SIGNERS} is needed")


class Planned(NamedTuple):
    cast: Cast
    orders: list[Order]


def planned(
    clips: int, seed: int, signers: int, *, glosses: int | None, fps: float, workers: int, near: bool = False
) -> Planned:
    """Of either PHOENIX layout, its options checked: the same people and sentences."""
    _check_counts(clips, signers)
    check_options(seed, fps, workers)
    cast = cast_of(seed, fps, signers, glosses=glosses)
    return Planned(cast, plan_phoenix(clips, seed, signers, signs=cast.signs, near=near))


def looks_of(cast: Cast) -> tuple[Look, ...]:
    """Each signer's, the same in either layout."""
    return tuple(draw_look(generator(cast.seed, person, 3)) for person in range(len(cast.signers)))


def make_phoenix(
    out: str | Path,
    clips: int,
    seed: int = 0,
    *,
    signers: int = 9,
    glosses: int | None = None,
    fps: float = 25.0,
    workers: int = 1,
    quiet: bool = True,
) -> Path:
    """Writes the data set to `out`, which must not exist or be empty, and returns its path."""
    out = Path(out)
    cast, orders = planned(clips, seed, signers, glosses=glosses, fps=fps, workers=workers)
    with whole_folder(out) as root:
        write = partial(_write_frames, Scene(cast, looks_of(cast), root / FRAMES))
        keypoints = write_all(write, orders, workers=workers, quiet=quiet, together=1)
        infos: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
        for order, points in zip(orders, keypoints):
            infos[order.split].append(_info(order, _label(cast, order), len(points)))
        _write_tables(root, infos)
        _write_keypoints(root / "keypoints_256x256.pkl", orders, keypoints)
        readme = README.format(clips=clips, seed=seed, signers=signers, glosses=len(cast.signs), fps=fps)
        (root / "README.md").write_text(readme, encoding="utf-8")
    return out
