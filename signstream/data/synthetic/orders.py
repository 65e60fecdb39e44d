"""What the layouts of the synthetic signer share: who signs what, clips made in processes, options that are checked.

orders, a list of Order, and a Cast        write_all(write, orders, workers=2) -> what write(order) gives for each
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from signstream.data.synthetic.grammar import Grammar, Sentence
from signstream.data.synthetic.lexicon import Sign, lexicon
from signstream.data.synthetic.signer import Signer, draw_signer
from signstream.errors import UserError

HELD_OUT = 0.08  # share of the clips in each split but train
Wanted = TypeVar("Wanted")
Written = TypeVar("Written")


@dataclass(frozen=True)
class Order:
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


def generator(*entropy: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def cast_of(seed: int, fps: float, signers: int, *, glosses: int | None) -> Cast:
    """So many signers, of whom each is drawn by the seed and a number, and so many signs: all of them without a
    number."""
    people = tuple(draw_signer(generator(seed, person, 2), person) for person in range(signers))
    return Cast(seed, fps, lexicon(glosses), people)


def fresh_sentences(grammar: Grammar, rng: np.random.Generator) -> Iterator[Sentence]:
    """Sentences whose glosses no other sentence has."""
    used: set[str] = set()
    misses = 0
    while misses < 2000:
        sentence = grammar.sentence(rng)
        misses = misses + 1 if sentence.key in used else 0
        if not misses:
            used.add(sentence.key)
            yield sentence
    raise UserError(
        f"--clips needs more than the {len(used)} different sentences that so few glosses give: "
        "ask for fewer clips or more --glosses"
    )


def spread(
    count: int, sentences: Iterator[Sentence], people: list[int], *, rng: np.random.Generator
) -> Iterator[tuple[Sentence, int]]:
    """`count` (sentence, signer): each sentence by one to four different people."""
    while count:
        times = min(count, len(people), int(rng.integers(1, 5)))
        sentence = next(sentences)
        for person in rng.choice(people, times, replace=False):
            yield sentence, int(person)
        count -= times


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a worker runs this"
    parent.join()
    os._exit(1)


def _start_worker() -> None:
    """The parent decides when to stop, and a worker does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def write_all(
    write: Callable[[Wanted], Written], orders: Sequence[Wanted], *, workers: int, quiet: bool, together: int = 8
) -> list[Written]:
    """What `write` gives for each clip, in order; a process takes `together` clips at a time."""
    shown = partial(tqdm, total=len(orders), unit="clip", disable=quiet or None, mininterval=0.5)
    if workers == 1:
        return list(shown(map(write, orders)))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _start_worker) as pool:
        return list(shown(pool.map(write, orders, chunksize=together)))


def check_options(seed: int, fps: float, workers: int) -> None:
    """What every layout asks of its options."""
    if seed < 0:
        raise UserError(f"--seed is {seed}: a whole number from 0 is needed")
    if not 5 <= fps <= 240:
        raise UserError(f"--fps is {fps:g}: 5 to 240 frames a second are possible; CSL-Daily has 30")
    if workers < 1:
        raise UserError(f"--workers is {workers}: at least 1 process is needed")
