"""Long recordings: which sentences lie in which, by whom, in which split.

    plan_recordings(clips, seed, signers, grammar=grammar, minutes=minutes) -> [Recording]

`clips` sentences are dealt out evenly to recordings of about so many minutes. What the splits promise of clips holds:
val and test have sentences that train lacks, by people who are in train; test_unseen_signer has train's by others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from signstream.data.synthetic.grammar import Grammar, Sentence
from signstream.data.synthetic.orders import HELD_OUT, fresh_sentences, generator
from signstream.errors import UserError

SPLITS = ("train", "val", "test", "test_unseen_signer")
SENTENCE_SECONDS = 4.4  # with what lies before it; mean of 144 sentences by twelve people
SHORTEST, LONGEST = 0.25, 60  # minutes


@dataclass(frozen=True)
class Recording:
    """One recording to make; `index` seeds it."""

    index: int
    name: str
    split: str
    sentences: tuple[Sentence, ...]
    signer: int


def dealt(
    sizes: list[int], people: list[int], sentences: Iterator[Sentence], *, rng: np.random.Generator
) -> list[tuple[Sentence, ...]]:
    """The sentences of recordings of these sizes by these people: each sentence by one to four different people, none
    twice in a recording."""
    hands: list[list[Sentence]] = [[] for _ in sizes]
    while room := [int(i) for i in rng.permutation(len(sizes)) if len(hands[i]) < sizes[i]]:
        sentence = next(sentences)
        one_each = {people[i]: i for i in room}
        for i in list(one_each.values())[: int(rng.integers(1, 5))]:
            hands[i].append(sentence)
    return [tuple(hand[i] for i in rng.permutation(len(hand))) for hand in hands]


def _turns(count: int, people: list[int], rng: np.random.Generator) -> list[int]:
    """Who makes each of `count` recordings: everybody before anybody's second."""
    order = rng.permutation(people)
    return [int(order[i % len(order)]) for i in range(count)]


def _sizes(clips: int, minutes: float) -> list[int]:
    """How many sentences each recording has, all of the set's sentences dealt out."""
    if not SHORTEST <= minutes <= LONGEST:
        raise UserError(f"--stream is {minutes:g}: {SHORTEST:g} to {LONGEST:g} minutes are possible")
    each = round(60 * minutes / SENTENCE_SECONDS)
    count = round(clips / each)
    if count < len(SPLITS):
        raise UserError(
            f"--clips is {clips}: {minutes:g} minutes are about {each} sentences, and each split needs a recording: "
            f"ask for at least {len(SPLITS) * each} --clips or a shorter --stream"
        )
    return [clips // count + (i < clips % count) for i in range(count)]


def plan_recordings(clips: int, seed: int, signers: int, *, grammar: Grammar, minutes: float) -> list[Recording]:
    """Who signs what, in which split."""
    sizes = _sizes(clips, minutes)
    rng = generator(seed, 0, 7)
    fresh = fresh_sentences(grammar, rng)
    held = max(1, round(HELD_OUT * len(sizes)))
    train, strangers = len(sizes) - 3 * held, max(1, signers // 5)
    people = _turns(train, list(range(signers - strangers)), rng)
    hands = dealt(sizes[:train], people, fresh, rng=rng)
    known = list({sentence.key: sentence for hand in hands for sentence in hand}.values())
    seen = sorted(set(people))
    for first in (train, train + held):
        turns = _turns(held, seen, rng)
        hands += dealt(sizes[first : first + held], turns, fresh, rng=rng)
        people += turns
    people += _turns(held, list(range(signers - strangers, signers)), rng)
    for size in sizes[train + 2 * held :]:
        hands.append(tuple(known[i] for i in rng.permutation(len(known))[:size]))
    splits = np.repeat(SPLITS, (train, held, held, held))
    return [
        Recording(i, f"R{i:06d}_P{person:04d}", str(split), hand, person)
        for i, (split, hand, person) in enumerate(zip(splits, hands, people))
    ]
