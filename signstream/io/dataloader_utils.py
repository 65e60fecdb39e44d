"""Which clips form a step's batch on which rank, and the reading of them.

    loader = ClipLoader(cache, "train", data, batch_size=16, seed=42, train=True, rank=0, world=1)
    for batch in loader: ...           # one epoch of ClipBatch, from where the last one stopped
    loader.state_dict() / load_state_dict()

    BatchLoader(source, "train", batch_size=16, ...)      # of whatever else is read clip by clip

Every rank makes the same number of steps, every clip comes once an epoch, and a step's clips are dealt so that the
ranks have about the same number of frames. The position counts batches that were handed out, not those that workers
have read ahead.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from signstream.config import Poses
from signstream.errors import UserError
from signstream.io.batch import ClipBatch, Clips, StreamBatch, pack
from signstream.io.pose_cache import PoseCache

Raw = TypeVar("Raw", bound=ClipBatch | StreamBatch)
Raw_co = TypeVar("Raw_co", bound=ClipBatch | StreamBatch, covariant=True)


def step_seed(*numbers: int) -> int:
    """One seed from several numbers (run's seed, epoch, step, rank): different in any of them, different seed."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1


def split_clips(batch: Clips, most: int) -> list[Clips]:
    """The same clips as batches of at most so many, each with a seed of its own; no clip is one batch of none."""
    return [
        batch.part(start, min(start + most, len(batch.lengths)), step_seed(batch.seed, number))
        for number, start in enumerate(range(0, max(len(batch.lengths), 1), most))
    ]


def read_clips(cache: PoseCache, clips: Sequence[int], seed: int = 0) -> ClipBatch:
    """Those clips of the cache, packed."""
    return pack([cache.frames(i) for i in clips], clips, seed, num_joints=cache.skeleton.num_joints)


def longest_clips(cache: PoseCache, split: str, count: int) -> ClipBatch:
    """The longest clips of a split, from the first again where it has fewer."""
    longest_first = sorted(cache.split(split), key=lambda i: -cache.clips[i].length)
    return read_clips(cache, [longest_first[i % len(longest_first)] for i in range(count)])


class ClipSampler:
    """The order of an epoch. `consumed` clips of it are behind us, whichever world size handed them out."""

    def __init__(
        self,
        costs: Sequence[int],
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not 0 <= rank < world:
            raise UserError(f"rank {rank} of {world}: ranks count from 0")
        self.costs = list(costs)
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.rank, self.world = rank, world
        self.epoch = 0
        self.start = 0  # the plan begins at this clip of the epoch's order
        self.step = 0  # so many steps of the plan are done

    def bounds(self) -> np.ndarray:
        """Where each step's clips begin in the order: steps of equal size to within one clip."""
        left = len(self.costs) - self.start
        steps = -(-left // (self.batch_size * self.world))
        return self.start + np.arange(steps + 1) * left // max(steps, 1)

    def __len__(self) -> int:
        """Steps of this epoch's plan, those done included."""
        return len(self.bounds()) - 1

    def order(self) -> np.ndarray:
        if not self.shuffle:
            return np.arange(len(self.costs))
        return np.random.default_rng((self.seed, self.epoch)).permutation(len(self.costs))

    def batches(self) -> list[list[int]]:
        """This rank's share of each step that is left of the epoch; it may be empty where there are fewer clips than
        ranks."""
        order = self.order()
        bounds = self.bounds()
        return [self._share(order[a:b].tolist()) for a, b in zip(bounds[self.step : -1], bounds[self.step + 1 :])]

    def _share(self, clips: list[int]) -> list[int]:
        if self.world == 1:
            return clips
        ranked = sorted(clips, key=lambda clip: (-self.costs[clip], clip))
        # Dealt there and back, so that no rank always gets the longer one.
        turns = [[*range(self.world)], [*reversed(range(self.world))]]
        return [clip for i, clip in enumerate(ranked) if turns[i // self.world % 2][i % self.world] == self.rank]

    def next_epoch(self) -> None:
        self.epoch += 1
        self.start = self.step = 0

    def state_dict(self) -> dict[str, int]:
        return {
            "epoch": self.epoch,
            "start": self.start,
            "step": self.step,
            "consumed": int(self.bounds()[self.step]),
            "clips": len(self.costs),
            "global_batch": self.batch_size * self.world,
            "seed": self.seed,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on after the clips that were consumed; with other ranks or another batch size the rest of the epoch is
        dealt anew."""
        if state["clips"] != len(self.costs):
            raise UserError(
                f"the run was saved with {state['clips']} clips in this split, the data now has {len(self.costs)}: "
                "a run goes on only on the same data"
            )
        same_plan = state["global_batch"] == self.batch_size * self.world
        self.seed = state["seed"]
        self.epoch = state["epoch"]
        self.start = state["start"] if same_plan else state["consumed"]
        self.step = state["step"] if same_plan else 0


class Source(Protocol[Raw_co]):
    """What batches are read from; worker processes get it pickled."""

    what: str  # that its digest is of

    def clips_of(self, split: str) -> Sequence[int]: ...

    def length(self, clip: int) -> int: ...

    def read(self, clips: Sequence[int], seed: int, train: bool) -> Raw_co:
        """Those clips, packed; a UserError where they cannot be read. `train`: no more of them than training sees."""

    def were_read(self, clips: Sequence[int]) -> None:
        """By a worker, of whose memory nothing remains."""

    def digest(self, split: str) -> str:
        """Of all that a run must find unchanged to go on."""


class CacheSource:
    """The clips of a pose cache."""

    what = "poses or frame rates"

    def __init__(self, cache: PoseCache) -> None:
        self.cache = cache

    def clips_of(self, split: str) -> Sequence[int]:
        return self.cache.split(split)

    def length(self, clip: int) -> int:
        return self.cache.clips[clip].length

    def read(self, clips: Sequence[int], seed: int, train: bool) -> ClipBatch:
        return read_clips(self.cache, clips, seed)

    def were_read(self, clips: Sequence[int]) -> None:
        self.cache.checked.update(clips)

    def digest(self, split: str) -> str:
        return self.cache.digest(split)


class _Batches(Dataset, Generic[Raw]):
    """A batch for each (clips, seed) that it is asked for; all a worker does is read."""

    def __init__(self, source: Source[Raw], train: bool) -> None:
        self.source, self.train = source, train

    def __getitem__(self, request: tuple[list[int], int]) -> Raw | UserError:
        clips, seed = request
        try:
            return self.source.read(clips, seed, self.train)
        except UserError as error:  # raised in a worker it would become a traceback's text
            return error


class BatchLoader(Generic[Raw]):
    """Batches of one split on one rank. Iterating goes through the rest of the epoch, then moves to the next."""

    def __init__(
        self,
        source: Source[Raw],
        split: str,
        *,
        batch_size: int,
        workers: int = 0,
        seed: int = 0,
        train: bool = False,
        rank: int = 0,
        world: int = 1,
        pin: bool = False,
    ) -> None:
        self.source = source
        self.split = split
        self.clips = source.clips_of(split)
        self.workers = workers
        self.train = train
        self.rank = rank
        self.pin = pin
        costs = [source.length(clip) for clip in self.clips]
        self.sampler = ClipSampler(costs, batch_size, seed=seed, shuffle=train, rank=rank, world=world)

    def __len__(self) -> int:
        """Steps of the current epoch, on every rank."""
        return len(self.sampler)

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return self.sampler.epoch

    @property
    def epoch_done(self) -> bool:
        """Whether the last step of the epoch that is going on was handed out."""
        return self.sampler.step >= len(self)

    def rank_clips(self) -> list[int]:
        """Those of the cache that this rank reads in what is left of the epoch."""
        return [self.clips[i] for batch in self.sampler.batches() for i in batch]

    def __iter__(self) -> Iterator[Raw]:
        sampler = self.sampler
        requests = [
            ([self.clips[i] for i in batch], step_seed(sampler.seed, sampler.epoch, step, self.rank))
            for step, batch in enumerate(sampler.batches(), start=sampler.step)
        ]
        workers = min(self.workers, len(requests))
        # Seeds the workers, epoch by epoch.
        generator = torch.Generator().manual_seed(step_seed(sampler.seed, sampler.epoch, self.rank))
        reader = DataLoader(
            _Batches(self.source, self.train),
            batch_size=None,
            sampler=requests,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=self.pin,
            generator=generator,
            worker_init_fn=_start_worker,
            prefetch_factor=4 if workers else None,
        )
        for batch in reader:
            if isinstance(batch, UserError):
                raise batch
            self.source.were_read(batch.index)
            sampler.step += 1  # before the batch is used: a state saved after its step has it behind
            yield batch
        if self.train:
            sampler.next_epoch()
        else:
            sampler.step = 0

    def state_dict(self) -> dict[str, Any]:
        return {**self.sampler.state_dict(), "data": self.source.digest(self.split)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """An older checkpoint does not say of which data it is."""
        self.sampler.load_state_dict(state)
        digest = self.source.digest(self.split)
        if state.get("data", digest) != digest:
            raise UserError(
                f"the run was saved with other {self.source.what} in the split {self.split!r} than the data has now: "
                "a run goes on only on the same data"
            )


class ClipLoader(BatchLoader[ClipBatch]):
    """Of a pose cache."""

    def __init__(self, cache: PoseCache, split: str, data: Poses, **options: Any) -> None:
        super().__init__(CacheSource(cache), split, workers=data.workers, **options)


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(worker: int) -> None:
    """torch seeds itself from the loader's generator; numpy and random, which a user's transform may call, follow it.

    Ctrl-C and a scheduler's SIGTERM reach the whole process group: the program decides when its workers end, so that
    it can save first."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    seed_worker()


def seed_worker() -> None:
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)
    random.seed(seed)
