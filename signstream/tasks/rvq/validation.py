"""One pass over the validation split, on all ranks: losses, reconstruction, smoothness, codebook health, and what some
clips become.

    measured = validate(setup, loader, health)      # Measured: numbers, and what report.py makes lines and pictures of

Every number is a sum over the split, added up over ranks once; every rank makes the same calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from signstream.io.dataloader_utils import ClipLoader
from signstream.models.metrics.codebook import CodebookUse
from signstream.models.metrics.recon import Reconstruction, shoulder_widths
from signstream.models.metrics.temporal import Smoothness
from signstream.models.rvq.budget import Budget, worth
from signstream.models.rvq.quantizer import Quantized
from signstream.space import assemble, in_pixels
from signstream.tasks.rvq.losses import TERMS
from signstream.tasks.rvq.setup import RvqBatch, Setup
from signstream.tokens.codes import where_visible
from signstream.tokens.templates import templates

COLLAPSED = {"used": 0.1, "entropy": 0.4}  # shares: fewer codes used, or used less evenly, is a warning


class Counted(Protocol):
    """A metric whose sums add up over ranks."""

    def state(self) -> Tensor: ...

    def load_state(self, state: Tensor) -> None: ...


class Picture(NamedTuple):
    """A clip and its reconstruction, [T, J, 3] in pixels."""

    name: str
    original: Tensor
    reconstruction: Tensor


@dataclass(frozen=True)
class Measured:
    numbers: dict[str, float]
    collapsed: list[tuple[str, int]]
    samples: dict[str, list[str]]  # clip's name -> its tokens, a line a chunk
    picture: Picture | None
    budget: Budget | None  # what a code costs at each rate; none while there are no codes
    use: CodebookUse  # over the split


@torch.no_grad()
def validate(setup: Setup, loader: ClipLoader, health: bool) -> Measured:
    """`health`: with the mean pose's error beside ours, the codebooks' use in full, and a clip drawn."""
    sums = Sums(setup, loader, health)
    setup.model.eval()
    for clips in loader:
        sums.add(setup.chunked(clips, train=False))
    setup.model.train()
    return sums.over_ranks()


class Sums:
    """What a pass adds up, batch by batch."""

    def __init__(self, setup: Setup, loader: ClipLoader, health: bool) -> None:
        config, device = setup.config, setup.ranks.device
        self.setup = setup
        self.health = health
        self.shown = set(loader.clips[: config.train.sample_clips])
        widths = shoulder_widths(setup.cache, loader.rank_clips())
        weights, scale, length = config.loss.part_weights, setup.views.space.scale, config.data.chunk_len
        self.recon, self.mean_pose = (
            Reconstruction(setup.skeleton, weights, scale, widths=widths, chunk_len=length, device=device)
            for _ in range(2)
        )
        self.smooth = Smoothness(setup.skeleton, device)
        levels = setup.model.quantizer.levels.tolist()
        self.use = CodebookUse(setup.parts, levels, config.model.rvq.codebook_size, device=device)
        self.totals = setup.losses.terms.zeros(device)
        self.counts = setup.losses.terms.zeros(device)
        self.worths: list[Tensor] = []
        self.visible: list[Tensor] = []
        self.samples: dict[str, list[str]] = {}
        self.picture: Picture | None = None

    def add(self, batch: RvqBatch) -> None:
        setup, chunks = self.setup, batch.chunks
        output = setup.model(batch.inputs, batch.valid, earlier=batch.earlier, quantise=setup.quantising)
        self.totals += setup.totals(output, batch).double()
        self.counts += setup.counts(batch)
        restored = setup.views.restore(output.views)
        restored = setup.views.put_together(restored, setup.model.told, sent=batch.valid.T)
        views = {part.name: chunks.local(part) for part in setup.skeleton.parts}
        xy = {name: view.xy for name, view in views.items()}
        weight = {name: view.weight for name, view in views.items()}
        self.recon.add(xy, restored, weight, place=chunks.place, clip=chunks.clip)
        if self.health:
            mean = setup.views.restore(setup.model.mean_views(len(chunks)))
            self.mean_pose.add(xy, mean, weight, place=chunks.place, clip=chunks.clip)
        self.smooth.add(xy, restored, weight, clip=chunks.clip, t=chunks.t, frames=chunks.frames)
        if output.quantised is not None:
            self._add_codes(batch, output.quantised, output.latents)
        if self.health and self.shown and self.picture is None and setup.ranks.is_main and len(chunks):
            self.picture = self._draw(batch, restored)

    def _add_codes(self, batch: RvqBatch, quantised: Quantized, latents: Tensor) -> None:
        setup, chunks, valid = self.setup, batch.chunks, batch.valid.T  # [N, P]
        self.use.add(quantised.codes, valid)
        inside = chunks.frames > 0
        prefixes = where_visible(setup.model.prefixes(latents), valid[..., None])
        costs = setup.losses.level_costs(setup.model.decode_prefixes(prefixes), batch.targets)
        self.worths.append(worth(costs)[inside])
        self.visible.append(valid[inside])
        tags = [part.tag for part in setup.skeleton.parts]
        for clip in chunks.clip.unique().tolist():
            if clip in self.shown:
                self.samples[setup.cache.clips[clip].name] = templates(quantised.codes[chunks.clip == clip], tags)

    def _draw(self, batch: RvqBatch, restored: dict[str, Tensor]) -> Picture:
        """The batch's first clip, original and put together again from its parts, in the original's place."""
        setup, clip = self.setup, int(batch.chunks.clip[0])
        frames = torch.from_numpy(setup.cache.frames(clip).copy())
        place, original = frames[:, 0], frames[:, 1:]
        views = {name: batch.chunks.split(view)[clip].cpu() for name, view in restored.items()}
        drawn = assemble(views, setup.skeleton, setup.views.space)
        return Picture(setup.cache.clips[clip].name, in_pixels(original, place), in_pixels(drawn, place))

    def over_ranks(self) -> Measured:
        setup, ranks, terms = self.setup, self.setup.ranks, self.setup.losses.terms
        metrics: tuple[Counted, ...] = (self.recon, self.mean_pose, self.smooth, self.use)
        pieces = [self.totals.flatten(), self.counts.flatten(), *(metric.state().double() for metric in metrics)]
        totals, counts, *states = ranks.sum_(torch.cat(pieces)).split([piece.numel() for piece in pieces])
        for metric, state in zip(metrics, states):
            metric.load_state(state)
        totals, counts = totals.view_as(self.totals), counts.view_as(self.counts)
        usage = TERMS.index("usage")
        counts[usage] = counts[TERMS.index("commit")]  # every chunk, not only the watched ones
        if setup.quantising:
            totals[usage] = unevenness(self.use) * counts[usage]
        numbers = terms.named(totals, counts)
        for name, counted in zip(terms.names, counts.any(1).tolist()):
            if not counted:  # a 0 would say that nothing is off
                del numbers[name]
        mean_pose = self.mean_pose.result()
        numbers |= {f"recon/{name}": value for name, value in self.recon.result().items()}
        numbers |= {f"mean_pose/{name}": value for name, value in mean_pose.items() if name.endswith("/local")}
        numbers |= {f"smooth/{name}": value for name, value in self.smooth.result().items()}
        budget = self._budget() if setup.quantising else None
        collapsed = []
        if setup.quantising and self.health:
            numbers |= self.use.result()
            collapsed = self.use.collapsed(**COLLAPSED)
        return Measured(numbers, collapsed, self._all_samples(), self.picture, budget, self.use)

    def _budget(self) -> Budget:
        ranks = self.setup.ranks
        worths = ranks.gather(torch.cat(self.worths))
        visible = ranks.gather(torch.cat(self.visible).to(torch.uint8)).bool()
        return Budget.fit(worths, self.setup.model.quantizer.levels, visible)

    def _all_samples(self) -> dict[str, list[str]]:
        by_name = {name: lines for part in self.setup.ranks.collect(self.samples) for name, lines in part.items()}
        return dict(sorted(by_name.items()))


def unevenness(use: CodebookUse) -> Tensor:
    """The usage loss of the whole split, [P]: KL of the codes as they were chosen from uniform use, mean over a part's
    levels."""
    counts = use.counts.double()  # [P, Q, K]
    share = counts / counts.sum(-1, keepdim=True).clamp(min=1)
    kl = torch.xlogy(share, share * counts.shape[-1]).sum(-1)  # [P, Q]; 0 where nothing was counted
    return kl.sum(-1) / torch.tensor(use.levels, device=kl.device)
