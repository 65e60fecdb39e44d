"""A data set of synthetic signers, in CSL-Daily's layout, README included.

    make_dataset(out, clips, seed)        make_clip(sentence, signs, signer, rng=rng) -> MadeClip

grammar.py says what is signed, performance.py moves a body [T, 133, 3], detector.py looks at it; here it is planned who
signs what in which split, and clips are written as frames_512x512/<name>.npy [T, 134, 3]. With `stream` a clip is a
recording of many sentences (streams.py, monologue.py). The same arguments give the same bytes, whatever the number of
workers. numpy only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from signstream.data.synthetic.detector import SIZE, detect
from signstream.data.synthetic.grammar import Grammar, Sentence
from signstream.data.synthetic.lexicon import Sign
from signstream.data.synthetic.monologue import recite
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
from signstream.data.synthetic.streams import SPLITS, Recording, plan_recordings
from signstream.errors import UserError
from signstream.io.readme_parser import README_NAME
from signstream.io.whole import whole_folder
from signstream.skeleton import NUM_JOINTS

MIN_CLIPS, MIN_SIGNERS = 8, 3
README = """# A synthetic signer, in CSL-Daily's layout

These data are made up: no person signed them. Made with
`python -m signstream.data.synthetic --out DIR --clips {clips} --seed {seed} --signers {signers} \
--glosses {glosses} --fps {fps:g}{more}` (seed {seed}).

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
ABOUT_STREAMS = """
Each clip is a recording of many sentences, and its annotation also has

- `sentences`: [{start, end, text, gloss}], from the first frame of a sentence's first segment to the one after its last
- `between`: [[first frame, frame after the last, what]], where what is "pause" (hands held), "rest" (hands down) or
"false start" (begun and broken off: part of no gloss and no text)
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
    return MadeClip(_filmed(played.joints, signer, rng, fps=fps), played.segments)


def _filmed(joints: np.ndarray, signer: Signer, rng: np.random.Generator, *, fps: float) -> np.ndarray:
    """joints [T, 133, 3] -> [T, 134, 3] as they are written."""
    poses = np.empty((len(joints), NUM_JOINTS + 1, 3), np.float32)
    poses[:, 0] = (SIZE, SIZE, 1)
    poses[:, 1:] = detect(joints, signer, rng, fps=fps)
    return poses


def plan_clips(clips: int, seed: int, signers: int, *, grammar: Grammar) -> list[Order]:
    """Who signs what, in which split."""
    rng = generator(seed, 0, 1)
    fresh = fresh_sentences(grammar, rng)
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
    return _note(cast, (order.sentence,), clip, signer=order.signer)


def _note(cast: Cast, sentences: tuple[Sentence, ...], clip: MadeClip, *, signer: int) -> dict[str, Any]:
    fps = int(cast.fps) if float(cast.fps).is_integer() else cast.fps
    return {
        "text": " ".join(sentence.text for sentence in sentences),
        "gloss": " ".join(sentence.key for sentence in sentences),
        "num_frames": len(clip.poses),
        "signer": signer,
        "fps": fps,
        "segments": [list(segment) for segment in clip.segments],
    }


def _write_recording(folder: Path, cast: Cast, order: Recording) -> dict[str, Any]:
    """Makes and writes one recording; returns its annotation."""
    rng, signer = generator(cast.seed, order.index, 8), cast.signers[order.signer]
    played = recite(order.sentences, cast.signs, signer, rng=rng, fps=cast.fps)
    clip = MadeClip(_filmed(played.joints, signer, rng, fps=cast.fps), played.segments)
    np.save(folder / f"{order.name}.npy", clip.poses)
    return {
        **_note(cast, order.sentences, clip, signer=order.signer),
        "sentences": [
            {"start": start, "end": end, "text": sentence.text, "gloss": sentence.key}
            for (start, end), sentence in zip(played.sentences, order.sentences)
        ],
        "between": [list(span) for span in played.between],
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
    near: bool = False,
    stream: float | None = None,
    workers: int = 1,
    quiet: bool = True,
) -> Path:
    """Writes the data set to `out`, which must not exist or be empty, and returns its path. `near`: texts whose words
    follow the signs; `stream`: recordings of about so many minutes, `clips` sentences in all."""
    out = Path(out)
    _check_counts(clips, signers)
    check_options(seed, fps, workers)
    cast = cast_of(seed, fps, signers, glosses=glosses)
    grammar = Grammar(cast.signs, near=near)
    orders = _planned(clips, seed, signers, grammar=grammar, stream=stream)
    with whole_folder(out) as root:
        folder = root / "frames_512x512"
        folder.mkdir()
        write, together = partial(_write, folder, cast), 8 if stream is None else 1
        notes = write_all(write, orders, workers=workers, quiet=quiet, together=together)
        by_name = {order.name: note for order, note in zip(orders, notes)}
        splits = {split: [order.name for order in orders if order.split == split] for split in SPLITS}
        (root / "annotations.json").write_text(json.dumps(by_name, indent=0) + "\n", encoding="utf-8")
        (root / "split_files.json").write_text(json.dumps(splits, indent=0) + "\n", encoding="utf-8")
        (root / README_NAME).write_text(_readme(cast, clips, near=near, stream=stream), encoding="utf-8")
    return out


def _planned(
    clips: int, seed: int, signers: int, *, grammar: Grammar, stream: float | None
) -> Sequence[Order | Recording]:
    if stream is None:
        return plan_clips(clips, seed, signers, grammar=grammar)
    return plan_recordings(clips, seed, signers, grammar=grammar, minutes=stream)


def _write(folder: Path, cast: Cast, order: Order | Recording) -> dict[str, Any]:
    """Makes and writes one clip; returns its annotation."""
    return _write_clip(folder, cast, order) if isinstance(order, Order) else _write_recording(folder, cast, order)


def _readme(cast: Cast, clips: int, *, near: bool, stream: float | None) -> str:
    more = (f" --stream {stream:g}" if stream else "") + " --text near" * near
    facts = README.format(
        clips=clips, seed=cast.seed, signers=len(cast.signers), glosses=len(cast.signs), fps=cast.fps, more=more
    )
    return facts + ABOUT_STREAMS if stream else facts


LAYOUTS: dict[str, Callable[..., Path]] = {
    "csl_daily": make_dataset,
    "phoenix2014": make_phoenix,
    "phoenix14t": make_phoenix14t,
}


def generate(
    out: Path, *, layout: str = "csl_daily", visual: bool = False, text: str = "usual", **options: Any
) -> None:
    """A data set with a bar that moves; options that are None are left to the layout. What the machine refuses is said
    in a line."""
    if visual and layout != "phoenix14t":
        raise UserError(
            f"--visual is for --layout phoenix14t alone: {layout} has no place for features; "
            "`python -m signstream.data.features` makes them of phoenix2014's frames"
        )
    if text == "near" and layout == "phoenix2014":
        raise UserError("--text near is for --layout csl_daily and phoenix14t: phoenix2014 has glosses and no texts")
    if options.get("stream") is not None and layout != "csl_daily":
        raise UserError(f"--stream is for --layout csl_daily alone: {layout} has clips of one sentence")
    chosen = {name: value for name, value in options.items() if value is not None}
    chosen |= {"visual": True} if visual else {}
    chosen |= {"near": True} if text == "near" else {}
    try:
        LAYOUTS[layout](out, quiet=False, **chosen)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise UserError(
            f"cannot write --out {out}: {error.strerror}{where}; choose a folder that can be written, with room for it"
        ) from error
    except BrokenExecutor as error:
        raise UserError(
            "a worker process was killed, most likely for want of memory: ask for fewer --workers; nothing was written"
        ) from error
    what = "clips" if options.get("stream") is None else "sentences in long recordings"
    print(f"wrote {options['clips']} {what} to {out}")
