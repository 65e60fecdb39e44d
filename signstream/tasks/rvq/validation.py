"""One pass over the validation split, on all ranks: losses, reconstruction, smoothness, codebook health, and what some clips become.

Every number is a sum over the split, added up over ranks once; every rank makes the same calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from signstream.data.collate import ChunkBatch
from signstream.models.metrics.codebook import CodebookUse
from signstream.models.metrics.recon import Reconstruction, shoulder_widths
from signstream.models.metrics.temporal import Smoothness
from signstream.models.rvq.budget import Budget, worth
from signstream.space import assemble, to_pixels
from signstream.tasks.rvq.losses import TERMS, valid_chunks
from signstream.tokens.format import templates
from signstream.training.loop import Loop

COLLAPSED = {"used": 0.1, "entropy": 0.4}  # shares: fewer codes used, or used less evenly, is a warning


@dataclass(frozen=True)
class Validation:
    numbers: dict[str, float]
    collapsed: list[tuple[str, int]]
    samples: dict[str, list[str]]  # clip's name -> its tokens, a line a chunk
    picture: tuple[str, Tensor, Tensor] | None  # a clip's name, its poses and their reconstruction, [T, J, 3] in pixels
    budget: Budget | None  # what a code costs at each rate; none while there are no codes
    use: CodebookUse  # over the split


@torch.no_grad()
def validate(loop: Loop, health: bool) -> Validation:
    """`health`: count the codebooks' use over the split as well, and draw a clip."""
    cache, config, ranks, model = loop.cache, loop.config, loop.ranks, loop.model
    parts, device = loop.parts, ranks.device
    mine = [clip for batch in loop.val_loader.sampler.batches() for clip in batch]
    widths = shoulder_widths(cache, [loop.val_loader.clips[i] for i in mine])
    measures = (
        cache.skeleton,
        config.train.part_weights,
        loop.views.space.scale,
        widths,
        config.data.chunk_len,
        device,
    )
    recon, still = Reconstruction(*measures), Reconstruction(*measures)
    smooth = Smoothness(cache.skeleton, device)
    use = CodebookUse(parts, model.quantizer.levels.tolist(), config.model.rvq.codebook_size, device)
    totals, counts, samples, picture = loop.no_sums(), loop.no_sums(), {}, None
    worths, visible = [], []
    quantise = bool(model.quantizer.initialised)
    shown = set(loop.val_loader.clips[: config.train.sample_clips])
    model.eval()
    for clips in loop.val_loader:
        batch, inputs, targets = loop.chunks(clips, train=False)
        valid = valid_chunks(targets)
        output = model(inputs, valid, quantise=quantise)
        totals += loop.losses.totals(output, batch, targets).double()
        counts += loop.losses.counts(batch, targets)
        restored = loop.views.restore(output.views)
        local = {part.name: batch.local(part) for part in cache.skeleton.parts}
        xy, weight = {n: v.xy for n, v in local.items()}, {n: v.weight for n, v in local.items()}
        recon.add(xy, restored, weight, batch.place, batch.clip)
        if health:
            still.add(xy, loop.views.restore(model.mean_views(len(batch))), weight, batch.place, batch.clip)
        smooth.add(xy, restored, weight, batch.clip, batch.t, batch.frames)
        if quantise:
            use.add(output.quantised.codes, valid.T)
            codes, inside = torch.where(valid.T[..., None], output.quantised.codes, -1), batch.frames > 0
            worths.append(worth(loop.losses.level_costs(model.decode_prefixes(codes), targets))[inside])
            visible.append(valid.T[inside])
            samples |= _samples(loop, batch, output.quantised.codes, shown)
        if health and picture is None and ranks.is_main and len(batch):
            picture = _picture(loop, batch, restored)
    pieces = [totals.flatten(), counts.flatten(), *(metric.state().double() for metric in (recon, still, smooth, use))]
    flat = ranks.sum_(torch.cat(pieces))
    totals, counts, *states = (
        piece.view_as(t) for piece, t in zip(flat.split([p.numel() for p in pieces]), (totals, counts, *pieces[2:]))
    )
    for metric, state in zip((recon, still, smooth, use), states):
        metric.load_state(state)
    if quantise:
        usage = TERMS.index("usage")
        counts[usage] = counts[TERMS.index("commit")]  # every chunk, not only the watched ones
        totals[usage] = _unevenness(use) * counts[usage]
    numbers = loop.losses.named(totals, counts, parts)
    numbers |= {f"recon/{name}": value for name, value in recon.result().items()}
    numbers |= {f"mean_pose/{name}": value for name, value in still.result().items() if name.endswith("/local")}
    numbers |= {f"smooth/{name}": value for name, value in smooth.result().items()}
    budget = None
    if quantise:
        worths, visible = ranks.gather(torch.cat(worths)), ranks.gather(torch.cat(visible).to(torch.uint8)).bool()
        budget = Budget.fit(worths, model.quantizer.levels, visible)
    collapsed = []
    if quantise and health:
        numbers |= use.result()
        collapsed = use.collapsed(**COLLAPSED)
    together: dict[str, list[str]] = {}
    for part in ranks.collect(samples):
        together |= part
    model.train()
    return Validation(numbers, collapsed, dict(sorted(together.items())), picture, budget, use)


def _unevenness(use: CodebookUse) -> Tensor:
    """The usage loss of the whole split, [P]: KL of the codes as they were chosen from uniform use, mean over a part's levels."""
    counts = use.counts.double()  # [P, Q, K]
    share = counts / counts.sum(-1, keepdim=True).clamp(min=1)
    kl = torch.xlogy(share, share * counts.shape[-1]).sum(-1)  # [P, Q]; 0 where nothing was counted
    return kl.sum(-1) / torch.tensor(use.levels, device=kl.device)


def _samples(loop: Loop, batch: ChunkBatch, codes: Tensor, shown: set[int]) -> dict[str, list[str]]:
    tags = [part.tag for part in loop.cache.skeleton.parts]
    clips = [clip for clip in batch.clip.unique().tolist() if clip in shown]
    return {loop.cache.clips[clip].name: templates(codes[batch.clip == clip], tags) for clip in clips}


def _picture(loop: Loop, batch: ChunkBatch, restored: dict[str, Tensor]) -> tuple[str, Tensor, Tensor]:
    """The batch's first clip, original and put together again from its parts, in the original's place."""
    clip = int(batch.clip[0])
    frames = torch.from_numpy(loop.cache.frames(clip).copy())
    place, original = frames[:, 0], frames[:, 1:]
    views = {name: batch.split(view)[clip].cpu() for name, view in restored.items()}
    again = assemble(views, loop.cache.skeleton, loop.views.space)
    pixels = [torch.cat((to_pixels(poses[..., :2], place), poses[..., 2:]), -1) for poses in (original, again)]
    return loop.cache.clips[clip].name, *pixels
