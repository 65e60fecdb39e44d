"""Of the people whom an estimator saw in a clip, the one who signs.

    choose(frames, min_score=0.3) -> [T, 133, 3]      frames: T of [n, 133, 3], n people in any order

Who are nearest to each other in one frame and the next make tracks. Of all ways from track to track, each beginning
near where the one before ended, the best is taken: the one on which most of hands is seen, and which is largest, summed
over the clip. In a frame in which this person is not, all is 0: nobody else stands in. The order in which people are
listed changes nothing. Where no frame lists two, there is nothing to choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from signstream.data.frontend import FARTHEST
from signstream.skeleton import LEFT_HAND, NUM_JOINTS

MOST_PEOPLE = 32  # of a frame, the weightiest
MOST_TRACKS = 500  # of a clip, the weightiest
TORSO = (*range(7), 11, 12)  # head, shoulders, hips: what hardly moves while somebody signs
WORTH = np.where(np.isin(np.arange(NUM_JOINTS), TORSO), 10, 1)  # of a joint, where two poses are compared
NEAR = 0.4  # of a torso's length; whoever is farther is somebody else: two side by side are half of it apart
SAME = 0.1  # of it; two who are no farther apart all the time are one, seen twice
HANDLESS = 0.05  # what is seen of one without hands, where both hands are 1
LARGEST = 4.0  # times the middle size; larger ones weigh no more


class Person(NamedTuple):
    """One person in one frame."""

    pose: np.ndarray  # [133, 3], as it came
    places: np.ndarray  # [133, 2], 0 where nothing is seen
    seen: np.ndarray  # [133] bool
    size: float  # of the torso, in pixels
    weight: float = 0.0


@dataclass
class Track:
    """One person in frame after frame, the first of them `first`."""

    first: int
    people: list[Person]

    @property
    def last(self) -> int:
        return self.first + len(self.people) - 1

    def after(self, frame: int) -> list[Person]:
        return self.people[max(frame + 1 - self.first, 0) :]

    def expected(self) -> Person:
        """The last pose, one more step on: people who cross each other go on."""
        last, before = self.people[-1], self.people[max(len(self.people) - 2, 0)]
        both = [joint for joint in TORSO if last.seen[joint] and before.seen[joint]]
        step = (last.places[both] - before.places[both]).mean(0) if both else np.zeros(2)
        return last._replace(places=last.places + step)


def choose(frames: Sequence[np.ndarray], *, min_score: float) -> np.ndarray:
    """[T, 133, 3] float32"""
    poses = np.zeros((len(frames), NUM_JOINTS, 3), np.float32)
    if all(len(people) <= 1 for people in frames):
        for pose, people in zip(poses, frames):
            pose[...] = people[0] if len(people) else 0
        return poses
    weighty = weighed([people_of(each, min_score) for each in frames])
    for track in best_way(tracks_of(weighty)):
        for frame, person in enumerate(track.people, track.first):
            poses[frame] = person.pose
    return poses


def people_of(poses: np.ndarray, min_score: float) -> list[Person]:
    """Those of [n, 133, 3] of whom anything is seen."""
    seen = (poses[..., 2] > min_score) & (np.abs(poses[..., :2]) < FARTHEST).all(-1)
    places = np.where(seen[..., None], poses[..., :2], 0)
    return [Person(*each, size=_extent(*each[1:])) for each in zip(poses, places, seen) if each[2].any()]


def _extent(places: np.ndarray, seen: np.ndarray) -> float:
    torso = [joint for joint in TORSO if seen[joint]]
    shown = places[torso] if len(torso) > 1 else places[seen]
    return max(float(np.ptp(shown, axis=0).max()), 1.0)


def weighed(frames: list[list[Person]]) -> list[list[Person]]:
    """Each frame's people by weight, in an order that is theirs, not the file's."""
    middle = float(np.median([person.size for people in frames for person in people] or [1.0]))
    return [
        sorted(
            (person._replace(weight=_weight(person, middle)) for person in people),
            key=lambda person: (-person.weight, person.pose.tobytes()),
        )[:MOST_PEOPLE]
        for people in frames
    ]


def _weight(person: Person, middle: float) -> float:
    hands = np.where(person.seen, person.pose[:, 2].clip(0, 1), 0)[LEFT_HAND:].mean()
    return min(person.size / middle, LARGEST) ** 0.5 * (float(hands) + HANDLESS)


def tracks_of(frames: list[list[Person]]) -> list[Track]:
    """Who are nearest to each other, frame by frame."""
    tracks: list[Track] = []
    going: list[Track] = []
    for frame, people in enumerate(frames):
        apart = distances([track.expected() for track in going], people)
        nearest = apart.argmin(0) if going else np.zeros(len(people), int)
        went_on = []
        for i, person in enumerate(people):
            j = nearest[i]
            if going and apart[j, i] < NEAR and apart[j].argmin() == i:
                going[j].people.append(person)
                went_on.append(going[j])
            else:
                tracks.append(Track(frame, [person]))
                went_on.append(tracks[-1])
        going = went_on
    return tracks


def distances(ones: Sequence[Person], others: Sequence[Person]) -> np.ndarray:
    """[n, m], the mean way between the joints that both show, in torsos; at most 1."""
    if not ones or not others:
        return np.ones((len(ones), len(others)))
    a, b = (np.stack([person.places for person in people]) for people in (ones, others))
    worth = np.stack([p.seen for p in ones])[:, None] * np.stack([p.seen for p in others]) * WORTH  # [n, m, 133]
    sizes = np.maximum.outer([person.size for person in ones], [person.size for person in others])
    apart = np.minimum(np.hypot(*np.moveaxis(a[:, None] - b, -1, 0)) / sizes[..., None], 1)
    total = worth.sum(-1)
    return np.where(total > 0, (apart * worth).sum(-1) / np.maximum(total, 1), 1)


def best_way(tracks: list[Track]) -> list[Track]:
    """The weightiest way through tracks, each but the first without what the one before has already."""
    weights = [sum(person.weight for person in track.people) for track in tracks]
    heaviest = sorted(range(len(tracks)), key=lambda i: (-weights[i], i))[:MOST_TRACKS]
    tracks = sorted((tracks[i] for i in heaviest), key=lambda track: track.last)  # ties: in the order above
    best: list[float] = []
    before: list[int | None] = []
    for track in tracks:
        ways: list[tuple[float, int | None]] = [(sum(person.weight for person in track.people), None)]
        ways += [
            (best[i] + sum(person.weight for person in track.after(tracks[i].last)), i)
            for i in followed(tracks[: len(best)], track)
        ]
        total, earlier = max(ways, key=lambda way: way[0])
        best.append(total)
        before.append(earlier)
    way: list[Track] = []
    at = max(range(len(tracks)), key=best.__getitem__, default=None)
    while at is not None:
        earlier = before[at]
        done = -1 if earlier is None else tracks[earlier].last
        way.append(Track(max(tracks[at].first, done + 1), tracks[at].after(done)))
        at = earlier
    return way[::-1]


def followed(earlier: list[Track], track: Track) -> list[int]:
    """Which of the tracks that end no later this one can be the same person's next."""
    apart = distances([each.people[-1] for each in earlier], track.people[:1])
    return [
        i
        for i, each in enumerate(earlier)
        if (each.last < track.first and apart[i, 0] < NEAR)
        or (track.first <= each.last < track.last and one(each, track))
    ]


def one(track: Track, other: Track) -> bool:
    """Whether two tracks of one time show the same person: near each other as long as both last."""
    first, last = max(track.first, other.first), min(track.last, other.last)
    pairs = zip(track.people[first - track.first : last + 1 - track.first], other.after(first - 1))
    return all(distances([person], [double])[0, 0] < SAME for person, double in pairs)
