"""A data set of synthetic signers, in CSL-Daily's layout, README included.

    make_dataset(out, clips, seed)        make_clip(sentence, signs, signer, rng=rng) -> MadeClip

grammar.py says what is signed, performance.py moves a body [T, 133, 3], detector.py looks at it; here it is planned who
signs what in which split, and clips are written as frames_512x512/<name>.npy [T, 134, 3]. The same arguments give the
same bytes, whatever the number of workers. numpy only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from signstream.data.synthetic.detector import SIZE, detect
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
from signstream.data.synthetic.performance import Segment, perform
from signstream.data.synthetic.phoenix import make_phoenix
from signstream.data.synthetic.phoenix14t import make_phoenix14t
from signstream.data.synthetic.signer import Signer
from signstream.errors import UserError
from signstream.io.readme_parser import README_NAME
from signstream.io.whole import whole_folder
from signstream.skeleton import NUM_JOINTS

SPLITS = ("train", "val", "test", "test_unseen_signer")
MIN_CLIPS, MIN_SIGNERS = 8, 3
README = """# A synthetic signer, in CSL-Daily's layout

These data are made up: no person signed them. Made with
`python -m signstream.data.synthetic --out DIR --clips {clips} --seed {seed} --signers {signers} \
--glosses {glosses} --fps {fps:g}` (seed {seed}).

- Array shape: `frames_512x512/<name>.npy`, float32, [T, 134, 3]; row 0 = (video width, video height, -), \
rows 1..133 = COCO-WholeBody (x px, y px, score)
- Frame rate: {fps:g} fps
- Joints, counted from 1: body 1-17, feet 18-23, face 24-91, left hand 92-112, right hand 113-133. \
"Left" is the signer's own left.
- Centre joints: body 1, face 32, left hand 92, right hand 113
- Unit length: right eye corners 60-63, left eye corners 66-69

`annotations.json`: {{name: {{text, gloss, num_frames, signer, fps, segments}}}}; \
a segment is [first frame, frame after the last, gloss]: stroke
and hold, without the way there. `split_files.json`: val and test hold sentences that are not in train, \
by signers who are; test_unseen_signer holds
sentences of train by signers who are in no other split.
A joint that the detector lost has a score below 0.3; a lost hand is (0, 0, 0) in most clips \
and scattered points of low score in the others.
"""


@dataclass(frozen=True)
class MadeClip:
    """poses [T, 134, 3] float32 as written; segments [(start, end, gloss)]."""

    poses: np.ndarray
    segments: tuple[Segment, ...]


def make_clip(
    sentence: Sentence, signs: dict[str, Sign], signer: Signer, *, rng: np.random.Generator, fps: float = 30.0
) -> MadeClip:
    """One clip as the detector saw it, with the true segments."""
    played = perform(sentence, signs, signer, rng=rng, fps=fps)
    poses = np.empty((len(played.joints), NUM_JOINTS + 1, 3), np.float32)
    poses[:, 0] = (SIZE, SIZE, 1)
    poses[:, 1:] = detect(played.joints, signer, rng, fps=fps)
    return MadeClip(poses, played.segments)


def plan_clips(clips: int, seed: int, signers: int, *, signs: dict[str, Sign]) -> list[Order]:
    """Who signs what, in which split."""
    rng = generator(seed, 0, 1)
    fresh = fresh_sentences(Grammar(signs), rng)
    held = max(1, round(HELD_OUT * clips))
    strangers = max(1, signers // 5)
    pairs = {"train": list(spread(clips - 3 * held, fresh, list(range(signers - strangers)), rng=rng))}
    seen = sorted({person for _, person in pairs["train"]})
    for split in ("val", "test"):
        pairs[split] = list(spread(held, fresh, seen, rng=rng))
    known = list({s.key: s for s, _ in pairs["train"]}.values())
    picks = [known[i] for i in rng.permutation(len(known))]
    strangers_say = (picks[i % len(picks)] for i in range(held))
    people = list(range(signers - strangers, signers))
    pairs["test_unseen_signer"] = [(sentence, people[i % len(people)]) for i, sentence in enumerate(strangers_say)]
    return _named((split, sentence, person) for split in SPLITS for sentence, person in pairs[split])


def _named(pairs: Iterable[tuple[str, Sentence, int]]) -> list[Order]:
    """Orders from (split, sentence, signer), named after the sentence's number, the signer's, and which time it is."""
    orders: list[Order] = []
    numbers: dict[str, int] = {}
    takes: Counter[tuple[int, int]] = Counter()
    for split, sentence, person in pairs:
        number = numbers.setdefault(sentence.key, len(numbers))
        name = f"S{number:06d}_P{person:04d}_T{takes[number, person]:02d}"
        takes[number, person] += 1
        orders.append(Order(len(orders), name, split, sentence, person))
    return orders


def _write_clip(folder: Path, cast: Cast, order: Order) -> dict[str, Any]:
    """Makes and writes one clip; returns its annotation."""
    rng = generator(cast.seed, order.index)
    clip = make_clip(order.sentence, cast.signs, cast.signers[order.signer], rng=rng, fps=cast.fps)
    np.save(folder / f"{order.name}.npy", clip.poses)
    fps = int(cast.fps) if float(cast.fps).is_integer() else cast.fps
    return {
        "text": order.sentence.text,
        "gloss": order.sentence.key,
        "num_frames": len(clip.poses),
        "signer": order.signer,
        "fps": fps,
        "segments": [list(segment) for segment in clip.segments],
    }


def _check_counts(clips: int, signers: int) -> None:
    if clips < MIN_CLIPS:
        raise UserError(f"--clips is {clips}: at least {MIN_CLIPS} are needed, so that each split has one")
    if signers < MIN_SIGNERS:
        raise UserError(
            f"--signers is {signers}: at least {MIN_SIGNERS} are needed, one of whom is kept for test_unseen_signer"
        )


def make_dataset(
    out: str | Path,
    clips: int,
    seed: int = 0,
    *,
    signers: int = 10,
    glosses: int | None = None,
    fps: float = 30.0,
    workers: int = 1,
    quiet: bool = True,
) -> Path:
    """Writes the data set to `out`, which must not exist or be empty, and returns its path."""
    out = Path(out)
    _check_counts(clips, signers)
    check_options(seed, fps, workers)
    cast = cast_of(seed, fps, signers, glosses=glosses)
    orders = plan_clips(clips, seed, signers, signs=cast.signs)
    with whole_folder(out) as root:
        folder = root / "frames_512x512"
        folder.mkdir()
        notes = write_all(partial(_write_clip, folder, cast), orders, workers=workers, quiet=quiet)
        by_name = {order.name: note for order, note in zip(orders, notes)}
        splits = {split: [order.name for order in orders if order.split == split] for split in SPLITS}
        (root / "annotations.json").write_text(json.dumps(by_name, indent=0) + "\n", encoding="utf-8")
        (root / "split_files.json").write_text(json.dumps(splits, indent=0) + "\n", encoding="utf-8")
        readme = README.format(clips=clips, seed=seed, signers=signers, glosses=len(cast.signs), fps=fps)
        (root / README_NAME).write_text(readme, encoding="utf-8")
    return out


LAYOUTS: dict[str, Callable[..., Path]] = {
    "csl_daily": make_dataset,
    "phoenix2014": make_phoenix,
    "phoenix14t": make_phoenix14t,
}


def generate(out: Path, *, layout: str = "csl_daily", visual: bool = False, **options: Any) -> None:
    """A data set with a bar that moves; options that are None are left to the layout. What the machine refuses is said
    in a line."""
    if visual and layout != "phoenix14t":
        raise UserError(
            f"--visual is for --layout phoenix14t alone: {layout} has no place for features; "
            "`python -m signstream.data.features` makes them of phoenix2014's frames"
        )
    if visual:
        options["visual"] = True
    try:
        LAYOUTS[layout](out, quiet=False, **{name: value for name, value in options.items() if value is not None})
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise UserError(
            f"cannot write --out {out}: {error.strerror}{where}; choose a folder that can be written, with room for it"
        ) from error
    except BrokenExecutor as error:
        raise UserError(
            "a worker process was killed, most likely for want of memory: ask for fewer --workers; nothing was written"
        ) from error
    print(f"wrote {options['clips']} clips to {out}")
