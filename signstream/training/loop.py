"""The training loop, by hand: steps, validation, saving, and going on after a stop.

A step: chunks of all its batches, their counts summed over ranks, forward and backward batch by batch, one sum of the gradients over ranks,
clip, AdamW, one update of the codebooks. Sums are divided by global counts, so neither ranks nor accumulation change what a step does.
Everything that lasts is in `state()`; whatever is drawn at random comes from (seed, epoch, step), so a resumed run is the run.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from signstream.config import Config, Data, to_dict
from signstream.data.collate import ClipBatch, make_chunks, pack
from signstream.errors import UserError
from signstream.io.dataloader_utils import ClipLoader, step_seed
from signstream.io.pose_cache import PoseCache
from signstream.models.rvq.budget import Budget
from signstream.models.rvq.quantizer import Statistics
from signstream.models.rvq.rvq_model import RVQModel
from signstream.space import SigningSpace, fit_signing_space
from signstream.tasks.rvq.losses import Losses, terms_of, valid_chunks, watched
from signstream.tasks.rvq.views import Views, build_model
from signstream.training import optim
from signstream.training.distributed import Ranks

SPIKE, SPIKES_TO_END, MEMORY = (
    10.0,
    20,
    200,
)  # a loss ten times the median of 200 steps, twenty times in a row, is divergence
FIT_CHUNKS = 8192  # chunks that the means, the PCA and the codebooks are fitted on, at least
MOST_ROUNDS = 8  # times that a small data set is gone over for that
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Diverged(UserError):
    """Training cannot go on; the message says what to change."""


class Loop:
    def __init__(self, config: Config, cache: PoseCache, ranks: Ranks, batch_size: int) -> None:
        self.config, self.cache, self.ranks = config, cache, ranks
        train, data = config.train, config.data
        self.parts = [part.name for part in cache.skeleton.parts]
        self.losses = Losses(config, self.parts, terms_of(config, cache.skeleton))
        self.model: RVQModel = build_model(config, cache.skeleton).to(ranks.device)
        if config.model.compile:
            for half in (self.model.encoder, self.model.decoder):
                half.forward = torch.compile(half.forward, dynamic=True)
        self.optimizer = optim.build_optimizer(self.model, train, ranks.world)
        self.scaler = grad_scaler(train.amp == "fp16" and ranks.device.type == "cuda")
        self.micro, self.accumulate = optim.accumulation(train, batch_size, ranks.world)
        pin = ranks.device.type == "cuda"
        place = {"seed": train.seed, "rank": ranks.rank, "world": ranks.world, "pin": pin}
        self.loader = ClipLoader(cache, "train", data, self.micro * self.accumulate, train=True, **place)
        self.val_loader = ClipLoader(cache, "val", data, self.micro, **place) if cache.splits.get("val") else None
        self.views: Views | None = None
        self.step, self.best, self.recent, self.spikes = 0, float("inf"), deque[float](maxlen=MEMORY), 0
        self.budget: Budget | None = None  # of the last validation
        self.lr = self.norm = 0.0  # of the last step, as are the chunks done and the codes revived
        self.chunks_done = self.revived = 0
        self.window_totals, self.window_counts = self.no_sums(), self.no_sums()

    def no_sums(self) -> Tensor:
        return torch.zeros(len(self.losses.names), len(self.parts), dtype=torch.float64, device=self.ranks.device)

    @property
    def epoch(self) -> int:
        return self.loader.sampler.epoch

    @property
    def epoch_done(self) -> bool:
        """Whether the epoch's last step is behind us."""
        return self.loader.sampler.step >= len(self.loader)

    @property
    def total_steps(self) -> int:
        clips = len(self.loader.clips)
        return self.config.train.epochs * -(-clips // (self.micro * self.accumulate * self.ranks.world))

    @property
    def quantise(self) -> bool:
        """Whether the next step trains the codebooks too: after the warm-up, which takes half of a run that is shorter than twice that."""
        warmup = min(self.config.train.warmup_steps, self.total_steps // 2)
        return bool(self.model.quantizer.initialised) or self.step >= warmup

    # -- before the first step

    def fit_constants(self) -> None:
        """Signing space, mean poses and the linear path, from a sample of the training split; rank 0's are everyone's."""
        sample = self._sample_clips()
        frames = torch.from_numpy(np.concatenate([self.cache.frames(i)[:, 1:] for i in sample]))
        space = fit_signing_space(frames, self.cache.skeleton, self.config.data)
        self.views = Views(self.cache.skeleton, SigningSpace.from_state(self.ranks.broadcast(space.state_dict())))
        if self.ranks.is_main:
            batch = make_chunks(self._packed(sample), self.cache.skeleton, self.config.data)
            self.model.cpu().fit(self.views.of(batch)[0])
            self.model.to(self.ranks.device)
        self._share_model()

    def _share_model(self) -> None:
        for value in self.model.state_dict().values():
            if not self.ranks.is_main:
                value.zero_()
            self.ranks.sum_(value)

    def _packed(self, clips: list[int], seed: int = 0) -> ClipBatch:
        return pack([self.cache.frames(i) for i in clips], clips, seed, self.cache.skeleton.num_joints)

    @property
    def _wanted_frames(self) -> int:
        """To fit on: FIT_CHUNKS chunks, and eight vectors a code."""
        return max(FIT_CHUNKS, 8 * self.config.model.rvq.codebook_size) * self.config.data.chunk_len

    def _sample_clips(self) -> list[int]:
        """Enough training clips to fit on, if there are, the same on every rank."""
        generator = torch.Generator().manual_seed(self.config.train.seed)
        clips, frames = [], 0
        for position in torch.randperm(len(self.loader.clips), generator=generator).tolist():
            clips.append(self.loader.clips[position])
            frames += self.cache.clips[clips[-1]].length
            if frames >= self._wanted_frames:
                break
        return sorted(clips)

    @torch.no_grad()
    def initialise_codebooks(self) -> None:
        """k-means on the network's latents of the sample as training sees it, time and again where clips are few; each rank encodes its share."""
        self.model.eval()
        latents, valid = [], []
        sample, (rank, world) = self._sample_clips(), (self.ranks.rank, self.ranks.world)
        frames = sum(self.cache.clips[clip].length for clip in sample)
        rounds = min(-(-self._wanted_frames // frames), MOST_ROUNDS)
        sample = sample * (
            rounds if self.config.data.augment.random_phase else 1
        )  # without it every round would be the same
        mine = sample[
            rank * len(sample) // world : (rank + 1) * len(sample) // world
        ]  # one after another: any world gathers the same order
        for start in range(0, max(len(mine), 1), self.micro):
            seed = step_seed(self.config.train.seed, 1 + rank + world * start)
            _, inputs, targets = self.chunks(self._packed(mine[start : start + self.micro], seed), train=True)
            latents.append(self.model.encode(inputs))
            valid.append(valid_chunks(targets))
        latents, valid = (
            self.ranks.gather(torch.cat(latents, 1), 1),
            self.ranks.gather(torch.cat(valid, 1).to(torch.uint8), 1).bool(),
        )
        steps = max(1.0, latents.shape[1] / max(self._chunks_a_step(), 1))
        self.model.quantizer.initialise(latents, valid, batches=steps, iterations=self.config.model.rvq.kmeans)
        self.model.train()

    def _chunks_a_step(self) -> float:
        frames = sum(self.cache.clips[i].length for i in self.loader.clips) / len(self.loader.clips)
        return self.micro * self.accumulate * self.ranks.world * frames / self.config.data.chunk_len

    # -- one step

    def chunks(self, clips: ClipBatch, train: bool):
        batch = make_chunks(clips.to(self.ranks.device), self.cache.skeleton, self._data(), train=train)
        inputs, targets = self.views.of(batch)
        return batch, inputs, targets

    def _data(self) -> Data:
        data, calm = self.config.data, self.epoch >= self.config.train.epochs * (1 - self.config.data.augment.calm)
        return replace(data, augment=replace(data.augment, mirror=False, affine=0.0)) if calm else data

    def _split(self, clips: ClipBatch) -> list[ClipBatch]:
        """A step's clips as batches of at most `micro` clips."""
        starts = list(range(0, max(len(clips.lengths), 1), self.micro))
        ends = torch.tensor((0, *clips.lengths)).cumsum(0).tolist()
        out = []
        for number, start in enumerate(starts):
            stop = min(start + self.micro, len(clips.lengths))
            seed = step_seed(clips.seed, number)
            out.append(
                ClipBatch(
                    clips.frames[ends[start] : ends[stop]], clips.lengths[start:stop], clips.index[start:stop], seed
                )
            )
        return out

    def train_step(self, clips: ClipBatch, stop: bool = False) -> bool:
        """One optimiser step; whether any rank was asked to stop."""
        self.model.train()
        quantise = self.quantise
        if quantise and not bool(self.model.quantizer.initialised):
            self.initialise_codebooks()
            self.recent.clear()
        chunked = [(small.seed, *self.chunks(small, train=True)) for small in self._split(clips)]
        counts = sum(self.losses.counts(batch, targets) for _, batch, _, targets in chunked)
        told = torch.cat((counts.flatten(), counts.new_tensor([float(stop)])))
        self.ranks.sum_(told)
        counts, stop = told[:-1].view_as(counts), bool(told[-1] > 0)
        totals, statistics = self.no_sums(), None
        for seed, batch, inputs, targets in chunked:
            sums, found = self._forward_backward(seed, batch, inputs, targets, counts, quantise)
            totals += sums
            statistics = found if statistics is None else statistics + found  # fsq has none
        self.ranks.sum_(totals)
        self._check(float(self.losses.value(totals, counts)))
        self._optimise()
        if quantise:
            self.revived = self.model.quantizer.update(statistics, self.ranks.sum_, self.ranks.rank, self.ranks.world)
        self.step += 1
        self.chunks_done = sum(len(batch) for _, batch, _, _ in chunked)
        self.window_totals += totals
        self.window_counts += counts
        return stop

    def _forward_backward(
        self, seed: int, batch, inputs, targets, counts: Tensor, quantise: bool
    ) -> tuple[Tensor, Statistics | None]:
        amp = AUTOCAST.get(self.config.train.amp)
        with torch.autocast(
            self.ranks.device.type, dtype=amp, enabled=amp is not None and self.ranks.device.type == "cuda"
        ):
            output = self.model(
                inputs,
                valid_chunks(targets),
                self._levels_sent(seed, len(batch)) if quantise else None,
                quantise,
                watched(batch) if self.config.model.rvq.usage_reg else None,
            )
        sums = self.losses.totals(output, batch, targets)
        self.scaler.scale(self.losses.value(sums, counts)).backward()
        return sums.detach().double(), output.quantised.statistics if quantise else None

    def _levels_sent(self, seed: int, chunks: int) -> Tensor:
        """Level dropout [N, P]: a share of the chunks is decoded from the first few levels alone."""
        depth, parts = self.model.quantizer.depth, len(self.parts)
        generator = torch.Generator().manual_seed(step_seed(seed, 1))  # not the seed that hides joints
        few = torch.rand(chunks, parts, generator=generator) < self.config.model.rvq.level_dropout
        sent = torch.where(few, torch.randint(1, depth + 1, (chunks, parts), generator=generator), depth)
        return sent.to(self.ranks.device)

    def _optimise(self) -> None:
        train, gradients = self.config.train, [p.grad for p in self.model.parameters() if p.grad is not None]
        if self.ranks.world > 1:
            flat = torch.cat([g.flatten() for g in gradients])
            self.ranks.sum_(flat)
            for g, summed in zip(gradients, flat.split([g.numel() for g in gradients])):
                g.copy_(summed.view_as(g))
        self.scaler.unscale_(self.optimizer)  # after the sum, so that an overflow on one rank is every rank's
        self.norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), train.clip_norm or float("inf"))
        if not self.scaler.is_enabled() and not bool(torch.isfinite(self.norm)):
            raise self._not_finite("gradient", float(self.norm))
        self.lr = optim.learning_rate(self.step, self.total_steps, train, self.ranks.world)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _check(self, loss: float) -> None:
        """Ends a run that cannot recover; every rank sees the same loss, so every rank ends."""
        if loss != loss or loss in (float("inf"), float("-inf")):
            raise self._not_finite("loss", loss)
        usual = median(self.recent) if len(self.recent) >= MEMORY // 4 else float("inf")
        self.spikes = self.spikes + 1 if loss > SPIKE * usual else 0
        if self.spikes >= SPIKES_TO_END:
            raise Diverged(
                f"the loss is {loss:.3g} at step {self.step}, for {self.spikes} steps more than {SPIKE:g} times its median {usual:.3g}: "
                "training diverged. Lower train.lr or train.clip_norm; --checkpoint auto goes on from the last checkpoint"
            )
        self.recent.append(loss)

    def _not_finite(self, what: str, value: float) -> Diverged:
        return Diverged(
            f"the {what} is {value} at step {self.step}: lower train.lr or raise train.warmup_steps; with amp fp16, try bf16 or fp32. "
            "The last checkpoint is from before; go on from it with --checkpoint auto"
        )

    def take_window(self) -> dict[str, float]:
        """The means since the last call."""
        numbers = self.losses.named(self.window_totals, self.window_counts, self.parts)
        self.window_totals.zero_()
        self.window_counts.zero_()
        return numbers

    # -- all that lasts

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "epoch": self.epoch,
            "best": self.best,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loader": self.loader.state_dict(),
            "space": self.views.space.state_dict(),
            "config": to_dict(self.config),
            "recent": list(self.recent),
            "spikes": self.spikes,
            "budget": self.budget.state_dict() if self.budget else None,
            "window": [self.window_totals.cpu(), self.window_counts.cpu()],
            "terms": list(self.losses.names),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty in a checkpoint of bf16 or fp32
            self.scaler.load_state_dict(state["scaler"])
        self.loader.load_state_dict(state["loader"])
        self.views = Views(self.cache.skeleton, SigningSpace.from_state(state["space"]))
        self.step, self.best, self.spikes = state["step"], state["best"], state["spikes"]
        self.recent = deque(state["recent"], maxlen=MEMORY)
        self.budget = Budget.from_state(state["budget"]) if state["budget"] else None
        if state.get("terms") == list(self.losses.names):  # else the run goes on with other terms
            self.window_totals, self.window_counts = (part.to(self.ranks.device) for part in state["window"])


def grad_scaler(enabled: bool):
    """torch 2.1 keeps it under torch.cuda.amp, newer ones under torch.amp."""
    return (
        torch.amp.GradScaler("cuda", enabled=enabled)
        if hasattr(torch.amp, "GradScaler")
        else torch.cuda.amp.GradScaler(enabled=enabled)
    )


def auto_batch(config: Config, cache: PoseCache, ranks: Ranks) -> int:
    """Clips that a process reads at once: as told, or as many as fit its GPU, found by trying the longest clips; without a GPU a whole step's."""
    told, step = config.train.batch_size, config.train.clips_per_step
    if told != "auto" or ranks.device.type != "cuda":
        return step if told == "auto" else told
    longest = sorted(cache.split("train"), key=lambda i: -cache.clips[i].length)

    def try_batch(clips: int) -> None:
        loop = Loop(config, cache, ranks, clips)
        loop.views = Views(
            cache.skeleton,
            SigningSpace(
                tuple(loop.parts),
                torch.zeros(len(loop.parts), 2),
                torch.ones(len(loop.parts)),
                torch.zeros(len(loop.parts), 2),
            ),
        )
        some = [longest[i % len(longest)] for i in range(clips)]
        batch, inputs, targets = loop.chunks(loop._packed(some), train=True)
        loop._forward_backward(0, batch, inputs, targets, loop.losses.counts(batch, targets), quantise=True)

    return min(ranks.collect(optim.largest_batch(try_batch, step)))
