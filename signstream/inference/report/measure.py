"""One pass over a split with a finished tokenizer: sums of errors, and what every chunk became.

    measured = measure(Subject(tokenizer, config, cache), clips, ranks)

All ranks make the same calls and get the same, however clips fall on ranks and into batches.

    N chunks   P parts   Q levels   Z width of a latent   n items: annotated clips and gloss segments

`errors` names what was decoded: "full" (all levels), "first 2" (of every part), "budget 6" (codes a chunk, by the
budget's prices), "sent" (what the config sends), "held" (the same after holding), "mean pose", and "raw": all levels,
put together in pixels and compared with the poses as the file has them, before any low-pass or closing of gaps, as
benchmarks/score.py does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from signstream.config.rvq import Config
from signstream.data.collate import ChunkBatch
from signstream.data.datasets import open_data
from signstream.data.frontend import prepare
from signstream.inference.batches import groups
from signstream.inference.report.as_filed import at_filed_rate, filed_clip
from signstream.inference.report.items import Item, Items, items_of
from signstream.inference.report.signs import add_signs, sums_of_signs
from signstream.inference.tokenizer import Reading, Tokenizer, chosen_prefixes
from signstream.io.pose_cache import CachedClip, PoseCache
from signstream.models.metrics.recon import Reconstruction, shoulder_widths
from signstream.models.metrics.signing import Signs
from signstream.models.metrics.steadiness import Steadiness, changes, seeded_order
from signstream.models.metrics.sums import Sums
from signstream.models.metrics.temporal import Smoothness
from signstream.space import assemble, in_pixels
from signstream.tokens.codes import prefixes_of
from signstream.tokens.format import Counts, TokenSequence
from signstream.training.distributed import Ranks

STEADY_CLIPS = 200  # of the split, in a seeded order
MOST_ITEMS = 1000  # clips, and segments, that the probe may be asked about
RATES = (4, 5, 6, 8, 10)  # codes a chunk at which the budget is measured


class Subject(NamedTuple):
    """What is measured. The config says where the files are and how tokens are written."""

    tokenizer: Tokenizer
    config: Config
    cache: PoseCache

    def ways(self) -> list[str]:
        """To send a chunk's codes, by their names in `errors`."""
        first = [f"first {count}" for count in range(1, max(self.tokenizer.levels))]
        budget = [f"budget {rate:g}" for rate in RATES] if self.tokenizer.budget else []
        return ["full", *first, *budget, "sent"]


class Measured(NamedTuple):
    errors: dict[str, Reconstruction]
    signers: dict[str, Reconstruction]  # "full", signer by signer
    smooth: Smoothness
    signs: dict[str, Signs]  # by the names of `errors`, of some
    sent: dict[str, float]  # codes in all, by the names of `errors`
    cost: Counts  # of the tokens as they are written
    codes: Tensor  # [N, P, Q] all levels; -1 where a chunk shows nothing of the part
    clip: Tensor  # [N] rising
    t: Tensor  # [N]
    items: Items
    described: dict[str, Tensor]  # {what the probe may read: [n, F]}, mean over each item's chunks, clips first
    steady: dict[str, Tensor]  # Steadiness.result()
    seconds: float  # that the slowest rank took to make the tokens


class Originals(NamedTuple):
    """A batch's chunks as the front end prepared them, part by part."""

    batch: ChunkBatch
    target: dict[str, Tensor]  # {part: [N, L, J_p, 2]}
    weight: dict[str, Tensor]  # {part: [N, L, J_p]}

    @classmethod
    def of(cls, batch: ChunkBatch) -> Originals:
        views = {part.name: batch.local(part) for part in batch.skeleton.parts}
        return cls(
            batch, {name: view.xy for name, view in views.items()}, {name: view.weight for name, view in views.items()}
        )

    def compare(
        self, error: Reconstruction, reconstructed: Mapping[str, Tensor], rows: Tensor | slice = slice(None)
    ) -> None:
        """Adds the chunks of these rows."""
        target, decoded, weight = (
            {name: values[rows] for name, values in views.items()}
            for views in (self.target, reconstructed, self.weight)
        )
        error.add(target, decoded, weight, place=self.batch.place[rows], clip=self.batch.clip[rows])


class Meter:
    """Sums over this rank's clips."""

    def __init__(self, subject: Subject, clips: Sequence[int], items: Items) -> None:
        tokenizer = subject.tokenizer
        self.subject = subject
        self.source = open_data(subject.config.data)
        self.items_in: dict[int, list[tuple[int, Item]]] = {}  # {clip: its items and their numbers}
        for number, item in enumerate((*items.whole, *items.segments)):
            self.items_in.setdefault(item.clip, []).append((number, item))
        self.widths: dict[int, float] = {}  # {clip: shoulder width}
        self.raw_widths: dict[int, float] = {}
        self.errors = {name: self._error(self.widths) for name in ("mean pose", *subject.ways(), "held")}
        self.errors["raw"] = self._error(self.raw_widths)
        signers = sorted({subject.cache.clips[i].signer for i in clips})
        self.signers = {signer: self._error(self.widths) for signer in signers}
        self.smooth = Smoothness(tokenizer.skeleton, tokenizer.device)
        self.signs = sums_of_signs(tokenizer.skeleton, tokenizer.device)
        self.sent = dict.fromkeys(subject.ways(), 0.0)
        self.cost = Counts.of([0] * len(Counts._fields))
        codes = torch.zeros(0, len(tokenizer.parts), max(tokenizer.levels), dtype=torch.int64)
        self.codes = [codes]
        self.positions = [codes.new_zeros(0, 2)]  # clip and t
        width, joints = len(tokenizer.parts) * subject.config.model.latent_dim, sum(map(len, tokenizer.skeleton.parts))
        widths = {"tokens": width, "latents": width, "keypoints": 2 * subject.config.data.chunk_len * joints}
        self.described = {name: [torch.zeros(0, width)] for name, width in widths.items()}
        self.numbers = [codes.new_zeros(0)]  # of the items that are described
        self.seconds = 0.0

    def _error(self, widths: dict[int, float]) -> Reconstruction:
        tokenizer, config, _ = self.subject
        return Reconstruction(
            tokenizer.skeleton,
            part_weights=config.loss.part_weights,
            scale=tokenizer.views.space.scale,
            widths=widths,
            chunk_len=config.data.chunk_len,
            device=tokenizer.device,
        )

    @torch.no_grad()
    def add(self, clips: list[int]) -> None:
        tokenizer, _, cache = self.subject
        frames = [cache.frames(i) for i in clips]
        self.widths |= shoulder_widths(cache, clips)
        began = time.perf_counter()
        sequences = tokenizer.encode_prepared(frames, ["clip"] * len(clips))
        self.seconds += time.perf_counter() - began
        reading = tokenizer.read(frames, clips)
        originals = Originals.of(reading.batch)
        whole = self._add_ways(reading, originals)
        self._add_held(reading, originals, sequences)
        for signer in {cache.clips[i].signer for i in clips}:
            rows = [cache.clips[i].signer == signer for i in reading.batch.clip.tolist()]
            originals.compare(self.signers[signer], whole, torch.tensor(rows, device=tokenizer.device))
        self._add_whole(originals, whole)
        for clip, tokens in zip(clips, sequences):
            self._add_cost(tokens)
            self._describe(clip, reading, tokens)
        inside = reading.batch.frames > 0
        self.codes.append(reading.codes[inside].cpu())
        self.positions.append(torch.stack((reading.batch.clip, reading.batch.t), 1)[inside].cpu())

    def _add_ways(self, reading: Reading, originals: Originals) -> dict[str, Tensor]:
        """Each way to send codes; what all levels decode to, {part: [N, L, J_p, 2]}."""
        tokenizer = self.subject.tokenizer
        visible = reading.codes[..., 0] >= 0
        firsts = tokenizer.model.decode_prefixes(prefixes_of(reading.codes))  # P x [Q, N, L, J, 2]
        bought = tokenizer.model.decode_prefixes(tokenizer.prefixes_of(reading.latents, visible))
        value = tokenizer.worth_of(bought, reading.targets)
        whole: dict[str, Tensor] = {}
        for name in self.subject.ways():
            sent = self._levels_sent(name, reading, value)
            prefixes = firsts if name == "full" or name.startswith("first ") else bought
            views = tokenizer.joined(chosen_prefixes(prefixes, sent), sent > 0, reading.batch.clip)
            self._compare(name, originals, views)
            self.sent[name] += int(sent.sum())
            if name == "full":
                whole = views
        mean_pose = tokenizer.views.restore(tokenizer.model.mean_views(len(reading.codes)))
        self._compare("mean pose", originals, mean_pose)
        return whole

    def _compare(self, name: str, originals: Originals, views: Mapping[str, Tensor]) -> None:
        originals.compare(self.errors[name], views)
        if name in self.signs:
            space = self.subject.tokenizer.views.space
            add_signs(self.signs[name], originals.batch, views, space=space, widths=self.widths)

    def _levels_sent(self, way: str, reading: Reading, value: Tensor) -> Tensor:
        """[N, P]; value [N, P, Q] is what each code is worth."""
        tokenizer = self.subject.tokenizer
        visible = reading.codes[..., 0] >= 0
        kind, _, number = way.partition(" ")
        if kind == "first":
            return torch.where(visible, tokenizer.model.quantizer.levels.clamp(max=int(number)), 0)
        rates: dict[str, float | str] = {"full": "full", "sent": tokenizer.codes_per_chunk}
        rate = rates[way] if way in rates else float(number)
        return tokenizer.levels_for(value, visible, rate)

    def _add_held(self, reading: Reading, originals: Originals, sequences: Sequence[TokenSequence]) -> None:
        tokenizer = self.subject.tokenizer
        codes = torch.full_like(reading.codes, -1)
        inside = reading.batch.frames > 0  # the last window's other chunks are past the clip's end
        codes[inside] = torch.cat([tokens.codes for tokens in sequences]).to(tokenizer.device)
        views = tokenizer.joined(tokenizer.model.detokenise(codes), codes[..., 0] >= 0, reading.batch.clip)
        originals.compare(self.errors["held"], views)

    def _add_whole(self, originals: Originals, whole: Mapping[str, Tensor]) -> None:
        """What all levels decode to: its smoothness, and its clips against their files."""
        batch = originals.batch
        weight = originals.weight
        self.smooth.add(originals.target, whole, weight, clip=batch.clip, t=batch.t, frames=batch.frames)
        by_clip = {name: batch.split(view) for name, view in whole.items()}
        for clip in dict.fromkeys(batch.clip.tolist()):
            self._add_raw(clip, {name: views[clip].cpu() for name, views in by_clip.items()})

    def _add_raw(self, clip: int, views: Mapping[str, Tensor]) -> None:
        """The clip put together from views {part: [T', J_p, 2]}, in its own place and at its file's frame rate."""
        tokenizer, config, cache = self.subject
        cached = cache.clips[clip]
        place = torch.from_numpy(cache.frames(clip)[:, 0].copy())
        drawn = in_pixels(assemble(views, tokenizer.skeleton, tokenizer.views.space), place)
        drawn = at_filed_rate(drawn, cached, config.data)
        raw = filed_clip(self.source, cached).poses[: len(drawn)]
        pixel = torch.tensor([0.0, 0.0, 1.0]).expand(len(raw), 3)
        rows = torch.cat((pixel[:, None], raw), 1).numpy()
        self.raw_widths |= shoulder_widths(OneClip(rows), [clip])
        self.errors["raw"].add_clip(raw.double(), drawn[..., :2].double(), pixel, clip=clip)

    def _add_cost(self, tokens: TokenSequence) -> None:
        counts = tokens.counts(self.subject.config.export.enable_rle)
        self.cost = Counts.of(total + count for total, count in zip(self.cost, counts))

    def _describe(self, clip: int, reading: Reading, tokens: TokenSequence) -> None:
        """The clip's items."""
        items = self.items_in.get(clip, [])
        if not items:
            return
        mine = (reading.batch.clip == clip) & (reading.batch.frames > 0)
        for name, rows in described(self.subject.tokenizer, reading, mine, codes=tokens.codes).items():
            self.described[name] += [rows[item.first : item.last].mean(0, keepdim=True).cpu() for _, item in items]
        self.numbers.append(torch.tensor([number for number, _ in items]))

    def over_ranks(self, items: Items, steady: dict[str, Tensor], ranks: Ranks) -> Measured:
        add_up([*self.errors.values(), *self.signers.values(), self.smooth, *self.signs.values()], ranks)
        tally = ranks.sum_(torch.tensor([*self.sent.values(), *self.cost], dtype=torch.float64)).tolist()
        codes, positions, numbers = (
            ranks.gather(torch.cat(rows)) for rows in (self.codes, self.positions, self.numbers)
        )
        order = (positions[:, 0] * (1 << 32) + positions[:, 1]).argsort()
        clip, t = positions[order].T.contiguous()
        return Measured(
            errors=self.errors,
            signers=self.signers,
            smooth=self.smooth,
            signs=self.signs,
            sent=dict(zip(self.sent, tally)),
            cost=Counts.of(tally[len(self.sent) :]),
            codes=codes[order],
            clip=clip,
            t=t,
            items=items,
            described={name: ranks.gather(torch.cat(rows))[numbers.argsort()] for name, rows in self.described.items()},
            steady=steady,
            seconds=max(ranks.collect(self.seconds)),
        )


def described(tokenizer: Tokenizer, reading: Reading, rows: Tensor, *, codes: Tensor) -> dict[str, Tensor]:
    """What the probe may read of the chunks `rows` [N] (bool), sent as codes [M, P, Q]: {name: [M, F]}. `tokens`: the
    vectors that the codes stand for; `keypoints`: x and y that the encoder sees, scaled so that parts count alike, as
    in latents. 0 for what is missing."""
    visible = reading.codes[rows][..., :1] >= 0
    vectors = tokenizer.model.quantizer.decode_codes(codes.to(tokenizer.device))  # [P, M, Z]
    views = [target.xy[rows].flatten(1) / target.xy.shape[2] ** 0.5 for target in reading.targets]  # P x [M, L * J * 2]
    return {
        "tokens": vectors.transpose(0, 1).flatten(1),
        "latents": torch.where(visible, reading.latents[rows], 0.0).flatten(1),
        "keypoints": torch.cat(views, 1),
    }


class OneClip(NamedTuple):
    """Frames [T, 1 + J, 3] as a cache would give them."""

    rows: np.ndarray

    def frames(self, index: int) -> np.ndarray:
        return self.rows


def add_up(sums: Sequence[Sums], ranks: Ranks) -> None:
    """Every rank's sums become those of all ranks, by one all-reduce."""
    states = [metric.state() for metric in sums]
    for metric, state in zip(sums, ranks.sum_(torch.cat(states)).split([len(state) for state in states])):
        metric.load_state(state)


def measure(subject: Subject, clips: Sequence[int], ranks: Ranks) -> Measured:
    shuffled = [clips[i] for i in seeded_order(len(clips))]
    items = items_of(subject.cache, shuffled, subject.config.data).at_most(MOST_ITEMS)
    meter = Meter(subject, clips, items)
    for group in groups(subject.cache, clips[ranks.rank :: ranks.world]):
        meter.add(group)
    steady = measure_steadiness(subject, shuffled[:STEADY_CLIPS], ranks)
    return meter.over_ranks(items, steady, ranks)


def measure_steadiness(subject: Subject, clips: Sequence[int], ranks: Ranks) -> dict[str, Tensor]:
    """Each clip as it is and changed, from the file on."""
    tokenizer, config, cache = subject
    steadiness = Steadiness(len(tokenizer.parts), max(tokenizer.levels), tokenizer.device)
    source = open_data(config.data)
    for clip in clips[ranks.rank :: ranks.world]:
        poses, fps = filed_clip(source, cache.clips[clip])
        variants = {"": poses, **changes(poses, cache.clips[clip].size, seed=clip)}
        ready = [prepare(changed, tokenizer.skeleton, tokenizer.config.data, fps=fps) for changed in variants.values()]
        reading = tokenizer.read([one.rows().numpy() for one in ready], range(len(ready)))
        codes = [reading.codes[reading.batch.clip == i] for i in range(len(ready))]
        for change, after in zip(list(variants)[1:], codes[1:]):
            steadiness.add(change, codes[0], after)
    add_up([steadiness], ranks)
    return steadiness.result()


def latency(tokenizer: Tokenizer, config: Config, clip: CachedClip) -> float:
    """Milliseconds a chunk when the clip comes live, frame by frame."""
    poses, fps = filed_clip(open_data(config.data), clip)
    stream = tokenizer.stream(fps)
    began = time.perf_counter()
    chunks = [chunk for frame in poses for chunk in stream.push(frame)] + stream.finish()
    return 1000 * (time.perf_counter() - began) / max(len(chunks), 1)
