"""One pass over a split with a finished tokenizer: sums of errors, and what every chunk became. All ranks make the same calls.

    found = measure(tokenizer, config, cache, clips, ranks)         # the same on every rank, however clips fall on ranks and into batches

    N chunks   P parts   Q levels   Z width of a latent   n items: annotated clips and gloss segments

`errors` names what was decoded: "full" (all levels), "first 2" (of every part), "budget 6" (codes a chunk, by the budget's prices), "sent" (what the
config sends), "held" (the same after holding), "mean pose", and "raw": all levels, put together in pixels and compared with the poses as the file
has them, before any low-pass or closing of gaps, as bench/score_reconstruction.py does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from signstream.config import Config, Data
from signstream.data.collate import ChunkBatch, make_chunks
from signstream.data.datasets import PoseData, load_checked, open_data
from signstream.data.frontend import SAME_RATE, clean, prepare, sample_at
from signstream.data.transforms import num_chunks
from signstream.inference.export_tokens import counts, groups
from signstream.inference.tokenizer import Tokenizer
from signstream.io.batch import pack
from signstream.io.pose_cache import CachedClip, PoseCache
from signstream.models.metrics.recon import Reconstruction, Sums, shoulder_widths
from signstream.models.metrics.steadiness import Steadiness, changes, seeded_order
from signstream.models.metrics.temporal import Smoothness
from signstream.models.rvq.budget import levels_sent, worth
from signstream.space import assemble, to_pixels
from signstream.tasks.rvq.losses import valid_chunks
from signstream.tasks.rvq.views import Target
from signstream.training.distributed import Ranks

STEADY_CLIPS = 200  # of the split, in a seeded order
MOST_ITEMS = 1000  # clips, and segments, that the probe may be asked about
RATES = (4, 5, 6, 8, 10)  # codes a chunk at which the budget is measured
COSTS = ("chunks", "seconds", "codes", "symbols", "held", "part-chunks")  # what export_tokens.counts counts


class Item(NamedTuple):
    """A clip, or a gloss segment of one, that the probe may be asked about."""

    clip: int
    first: int  # chunk
    last: int  # one past the last chunk
    glosses: tuple[str, ...]


class Found(NamedTuple):
    errors: dict[str, Reconstruction]
    signers: dict[str, Reconstruction]  # "full", signer by signer
    smooth: Smoothness
    sent: dict[str, float]  # codes in all, by the names of `errors`
    cost: dict[str, float]  # of the tokens as they are written, by COSTS
    codes: Tensor  # [N, P, Q] all levels; -1 where a chunk shows nothing of the part
    clip: Tensor  # [N] rising
    t: Tensor  # [N]
    whole: list[Item]  # clips with glosses
    segments: list[Item]
    latents: Tensor  # [n, P * Z] mean over the chunks of each item, clips first
    steady: dict[str, Tensor]  # Steadiness.result()
    seconds: float  # that the slowest rank took to make the tokens


class Reading(NamedTuple):
    batch: ChunkBatch
    targets: list[Target]
    latents: Tensor  # [N, P, Z]
    codes: Tensor  # [N, P, Q] all levels; -1 where a chunk shows nothing of the part


@torch.no_grad()
def read(tokenizer: Tokenizer, clips: Sequence[np.ndarray], index: Sequence[int]) -> Reading:
    """Clips [T, 1 + J, 3] as the cache holds them."""
    packed = pack(clips, index, num_joints=tokenizer.skeleton.num_joints).to(tokenizer.device)
    batch = make_chunks(packed, tokenizer.skeleton, tokenizer.config.data)
    inputs, targets = tokenizer.views.of(batch)
    latents, codes = tokenizer.model.read(inputs)
    return Reading(batch, targets, latents.transpose(0, 1), torch.where(valid_chunks(targets).T[..., None], codes, -1))


class Meter:
    def __init__(
        self, tokenizer: Tokenizer, config: Config, cache: PoseCache, clips: Sequence[int], items: Sequence[Item]
    ) -> None:
        self.tokenizer, self.config, self.cache, self.source = tokenizer, config, cache, open_data(config.data)
        self.items: dict[int, list[tuple[int, Item]]] = {}
        for number, item in enumerate(items):
            self.items.setdefault(item.clip, []).append((number, item))
        self.widths: dict[int, float] = {}
        self.errors = {name: self._error() for name in ("mean pose", *self._rates(), "held")} | {"raw": self._error({})}
        self.signers = {signer: self._error() for signer in sorted({cache.clips[i].signer for i in clips})}
        self.smooth = Smoothness(tokenizer.skeleton, tokenizer.device)
        self.tally = dict.fromkeys((*self._rates(), *COSTS), 0.0)
        none = torch.zeros(0, len(tokenizer.parts), max(tokenizer.levels), dtype=torch.int64)
        self.codes, self.places = [none], [none.new_zeros(0, 2)]
        self.latents, self.numbers = (
            [torch.zeros(0, len(tokenizer.parts) * config.model.latent_dim)],
            [none.new_zeros(0)],
        )
        self.seconds = 0.0

    def _error(self, widths: dict[int, float] | None = None) -> Reconstruction:
        return Reconstruction(
            self.tokenizer.skeleton,
            self.config.train.part_weights,
            self.tokenizer.views.space.scale,
            self.widths if widths is None else widths,
            self.config.data.chunk_len,
            self.tokenizer.device,
        )

    def _rates(self) -> list[str]:
        budget = [f"budget {rate:g}" for rate in RATES] if self.tokenizer.budget else []
        return ["full", *(f"first {count}" for count in range(1, max(self.tokenizer.levels))), *budget, "sent"]

    @torch.no_grad()
    def add(self, clips: list[int]) -> None:
        own, cache, frames = self.tokenizer, self.cache, [self.cache.frames(i) for i in clips]
        self.widths |= shoulder_widths(cache, clips)
        began = time.perf_counter()
        spoken = own.encode_prepared(frames, ["clip"] * len(clips))
        self.seconds += time.perf_counter() - began
        reading = read(own, frames, clips)
        batch, chunk = reading.batch, torch.arange(len(reading.codes), device=own.device)
        prefixes = own.model.decode_prefixes(reading.codes)  # P x [Q, N, L, J, 2]
        views = {part.name: batch.local(part) for part in own.skeleton.parts}
        target, weight = {n: v.xy for n, v in views.items()}, {n: v.weight for n, v in views.items()}

        def decoded(sent: Tensor) -> dict[str, Tensor]:
            return own.joined(
                [view[(sent[:, p] - 1).clamp(min=0), chunk] for p, view in enumerate(prefixes)], sent > 0, batch.clip
            )

        def compare(error: Reconstruction, ours: Mapping[str, Tensor], rows: Tensor | slice = slice(None)) -> None:
            error.add(
                *({n: v[rows] for n, v in values.items()} for values in (target, ours, weight)),
                batch.place[rows],
                batch.clip[rows],
            )

        ways = self._spend(reading, worth(own.losses.level_costs(prefixes, reading.targets)))
        whole = decoded(ways["full"])
        for name, sent in ways.items():
            compare(self.errors[name], decoded(sent))
            self.tally[name] += int(sent.sum())
        held = torch.full_like(reading.codes, -1)
        inside = batch.frames > 0  # the last window's other chunks are past the clip's end
        held[inside] = torch.cat([tokens.codes for tokens in spoken]).to(own.device)
        compare(self.errors["held"], own.joined(own.model.detokenise(held), held[..., 0] >= 0, batch.clip))
        compare(self.errors["mean pose"], own.views.restore(own.model.mean_views(len(chunk))))
        for signer in {cache.clips[i].signer for i in clips}:
            compare(
                self.signers[signer],
                whole,
                torch.tensor([cache.clips[i].signer == signer for i in batch.clip.tolist()], device=own.device),
            )
        self.smooth.add(target, whole, weight, batch.clip, batch.t, batch.frames)
        apart = {name: batch.split(view) for name, view in whole.items()}
        for clip, tokens in zip(clips, spoken):
            self._add_raw(clip, {name: view[clip].cpu() for name, view in apart.items()})
            for name, value in zip(COSTS, counts(tokens, self.config.export.enable_rle)):
                self.tally[name] += value
            self._add_latents(clip, reading)
        self.codes.append(reading.codes[inside].cpu())
        self.places.append(torch.stack((batch.clip, batch.t), 1)[inside].cpu())

    def _spend(self, reading: Reading, value: Tensor) -> dict[str, Tensor]:
        """How many codes [N, P] each way sends; value [N, P, Q] is what each code is worth."""
        own, levels, visible = self.tokenizer, self.tokenizer.model.quantizer.levels, reading.codes[..., 0] >= 0

        def sent(name: str) -> Tensor:
            kind, _, number = name.partition(" ")
            if kind == "first":
                return torch.where(visible, levels.clamp(max=int(number)), 0)
            rate = {"full": "full", "sent": own.codes_per_chunk}.get(name) or float(number)
            return levels_sent(value, levels, visible, own.budget.price(rate) if rate != "full" else -torch.inf)

        return {name: sent(name) for name in self._rates()}

    def _add_raw(self, clip: int, views: Mapping[str, Tensor]) -> None:
        """The clip put together from views {part: [T', J_p, 2]}, in its own place and at its file's frame rate, against the file."""
        cached, place = self.cache.clips[clip], torch.from_numpy(self.cache.frames(clip)[:, 0].copy())
        poses = assemble(views, self.tokenizer.skeleton, self.tokenizer.views.space)
        ours = in_file(torch.cat((to_pixels(poses[..., :2], place), poses[..., 2:]), -1), cached, self.config.data)
        raw = raw_poses(self.source, cached)[0][: len(ours)]
        pixel = torch.tensor([0.0, 0.0, 1.0]).expand(len(raw), 3)
        rows = torch.cat((pixel[:, None], raw), 1).numpy()
        self.errors["raw"].widths.update(shoulder_widths(SimpleNamespace(frames=lambda _: rows), [clip]))
        self.errors["raw"].add_clip(raw.double(), ours[..., :2].double(), pixel, clip)

    def _add_latents(self, clip: int, reading: Reading) -> None:
        visible = reading.codes[..., :1] >= 0
        rows = torch.where(visible, reading.latents, 0.0)[reading.batch.clip == clip].flatten(1).cpu()
        for number, item in self.items.get(clip, []):
            self.latents.append(rows[item.first : item.last].mean(0, keepdim=True))
            self.numbers.append(torch.tensor([number]))

    def gather(self, ranks: Ranks) -> dict[str, Any]:
        """What Found has of them, over all ranks."""
        add_up([*self.errors.values(), *self.signers.values(), self.smooth], ranks)
        tally = dict(zip(self.tally, ranks.sum_(torch.tensor(list(self.tally.values()), dtype=torch.float64)).tolist()))
        codes, places, latents, numbers = (
            ranks.gather(torch.cat(rows)) for rows in (self.codes, self.places, self.latents, self.numbers)
        )
        order = (places[:, 0] * (1 << 32) + places[:, 1]).argsort()
        clip, t = places[order].T.contiguous()
        return {
            "errors": self.errors,
            "signers": self.signers,
            "smooth": self.smooth,
            "sent": {name: tally[name] for name in self._rates()},
            "cost": {name: tally[name] for name in COSTS},
            "codes": codes[order],
            "clip": clip,
            "t": t,
            "latents": latents[numbers.argsort()],
            "seconds": max(ranks.collect(self.seconds)),
        }


def add_up(sums: Sequence[Sums], ranks: Ranks) -> None:
    """Every rank's sums become those of all ranks, by one all-reduce."""
    states = [metric.state() for metric in sums]
    for metric, state in zip(sums, ranks.sum_(torch.cat(states)).split([len(state) for state in states])):
        metric.load_state(state)


def measure(tokenizer: Tokenizer, config: Config, cache: PoseCache, clips: Sequence[int], ranks: Ranks) -> Found:
    some = [clips[i] for i in seeded_order(len(clips))]
    whole, segments = (items[:MOST_ITEMS] for items in items_of(cache, some, config.data))
    meter = Meter(tokenizer, config, cache, clips, [*whole, *segments])
    for group in groups(cache, clips[ranks.rank :: ranks.world]):
        meter.add(group)
    steady = measure_steadiness(tokenizer, config, cache, some[:STEADY_CLIPS], ranks)
    return Found(whole=whole, segments=segments, steady=steady, **meter.gather(ranks))


def raw_poses(source: PoseData, clip: CachedClip) -> tuple[Tensor, float | None]:
    """[T, J, 3] as the file has them, what is missing 0; and the file's frame rate."""
    loaded = load_checked(source, clip.split, clip.name)
    return clean(torch.from_numpy(np.require(loaded.poses, np.float32, "CW")), source.data.min_score), loaded.fps


def in_file(poses: Tensor, clip: CachedClip, data: Data) -> Tensor:
    """[T', J, 3] at the config's frame rate -> [T, J, 3] at the file's, as far as they go."""
    step = clip.fps / data.fps
    position = torch.arange(clip.num_frames, dtype=torch.float64) / (1.0 if abs(step - 1) < SAME_RATE else step)
    position = position[position < len(poses) + (data.max_frames is None)].clamp(max=len(poses) - 1)
    return sample_at(poses, position.long(), position - position.floor())


def measure_steadiness(
    tokenizer: Tokenizer, config: Config, cache: PoseCache, clips: Sequence[int], ranks: Ranks
) -> dict[str, Tensor]:
    """Each clip as it is and changed, from the file on."""
    found, source = Steadiness(len(tokenizer.parts), max(tokenizer.levels), tokenizer.device), open_data(config.data)
    for clip in clips[ranks.rank :: ranks.world]:
        poses, fps = raw_poses(source, cache.clips[clip])
        variants = {"": poses, **changes(poses, cache.clips[clip].size, seed=clip)}
        ready = [prepare(changed, tokenizer.skeleton, tokenizer.config.data, fps) for changed in variants.values()]
        reading = read(
            tokenizer, [torch.cat((r.place[:, None], r.frames), 1).numpy() for r in ready], range(len(ready))
        )
        codes = [reading.codes[reading.batch.clip == i] for i in range(len(ready))]
        for change, after in zip(list(variants)[1:], codes[1:]):
            found.add(change, codes[0], after)
    add_up([found], ranks)
    return found.result()


def latency(tokenizer: Tokenizer, config: Config, clip: CachedClip) -> float:
    """Milliseconds a chunk when the clip comes live, frame by frame."""
    poses, fps = raw_poses(open_data(config.data), clip)
    stream, began = tokenizer.stream(fps), time.perf_counter()
    chunks = [chunk for frame in poses for chunk in stream.push(frame)] + stream.finish()
    return 1000 * (time.perf_counter() - began) / max(len(chunks), 1)


def items_of(cache: PoseCache, clips: Sequence[int], data: Data) -> tuple[list[Item], list[Item]]:
    """Clips with glosses, and their gloss segments; a clip of one gloss whose segments are not known is one segment."""
    whole, segments = [], []
    for i in clips:
        clip, words = cache.clips[i], tuple(dict.fromkeys(cache.clips[i].gloss.split()))
        count = num_chunks(clip.length, data.chunk_len)
        if words:
            whole.append(Item(i, 0, count, words))
        known = [Item(i, *chunks_of(first, last, clip, data), (gloss,)) for first, last, gloss in clip.segments]
        segments += known or [Item(i, 0, count, words)] * (len(words) == 1)
    return whole, [item for item in segments if item.first < item.last]


def chunks_of(first: int, last: int, clip: CachedClip, data: Data) -> tuple[int, int]:
    """The chunks whose middle lies in the file's frames [first, last); where there is none, the chunk that holds the frames' middle."""
    size, count = data.chunk_len * clip.fps / data.fps, num_chunks(clip.length, data.chunk_len)
    inside = [t for t in range(count) if first <= (t + 0.5) * size < last]
    middle = int((first + last) / 2 / size)
    return (inside[0], inside[-1] + 1) if inside else (min(middle, count), min(middle + 1, count))
