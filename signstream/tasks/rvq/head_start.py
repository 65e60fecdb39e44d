"""What a new run has before its first step, and its codebooks before they are trained: all fitted on a sample of the
training split.

fit_constants(setup)                 the signing space, the mean poses, the linear path past the trunk
initialise_codebooks(setup, ...)     k-means on the network's latents; again, late, for a part whose codes are taught
"""

from __future__ import annotations

import numpy as np
import torch

from signstream.config import Data
from signstream.data.collate import make_chunks
from signstream.io.dataloader_utils import step_seed
from signstream.space import SigningSpace, fit_signing_space
from signstream.tasks.rvq.setup import Setup

FIT_CHUNKS = 8192  # chunks that the means, the PCA and the codebooks are fitted on, at least
MOST_ROUNDS = 8  # times that a small data set is gone over for that


def fit_constants(setup: Setup) -> None:
    """Rank 0's are everyone's."""
    sample, ranks = sample_clips(setup), setup.ranks
    space = _space_of(setup, sample)
    setup.use_space(SigningSpace.from_state(ranks.broadcast(space.state_dict())))
    if ranks.is_main:
        chunks = make_chunks(setup.clips(sample), setup.skeleton, setup.config.data)
        setup.model.cpu().fit(setup.views.of(chunks)[0])
        setup.model.to(ranks.device)
    ranks.share_(setup.model.state_dict().values())


def _space_of(setup: Setup, sample: list[int]) -> SigningSpace:
    frames = torch.from_numpy(np.concatenate([setup.cache.frames(i)[:, 1:] for i in sample]))
    return fit_signing_space(frames, setup.skeleton, setup.config.data)


@torch.no_grad()
def initialise_codebooks(setup: Setup, data: Data, *, micro: int, clips_a_step: int, only: int | None = None) -> None:
    """The sample as training sees it, time and again where clips are few; each rank encodes its share, `micro` clips
    at a time. `only`: the codes of one part."""
    setup.model.eval()
    latents, valid = [], []
    rank, world, seed = setup.ranks.rank, setup.ranks.world, setup.config.train.seed
    sample = _repeated(setup, sample_clips(setup))
    share = sample[rank * len(sample) // world : (rank + 1) * len(sample) // world]  # in this order, whatever the world
    for start in range(0, max(len(share), 1), micro):
        clips = setup.clips(share[start : start + micro], step_seed(seed, 1 + rank + world * start))
        batch = setup.chunked(clips, data, train=True)
        latents.append(setup.model.encode(batch.inputs, batch.earlier))
        valid.append(batch.valid)
    all_latents = setup.ranks.gather(torch.cat(latents, 1), 1)  # [P, N, Z]
    all_valid = setup.ranks.gather(torch.cat(valid, 1).to(torch.uint8), 1).bool()  # [P, N]
    chunks_a_step = clips_a_step * _mean_frames(setup) / setup.config.data.chunk_len
    steps = max(1.0, all_latents.shape[1] / max(chunks_a_step, 1))
    iterations = setup.config.model.rvq.kmeans
    setup.model.quantizer.initialise(all_latents, all_valid, batches=steps, iterations=iterations, only=only)
    setup.model.train()


def sample_clips(setup: Setup) -> list[int]:
    """Enough training clips to fit on, if there are, the same on every rank."""
    train = setup.cache.split("train")
    generator = torch.Generator().manual_seed(setup.config.train.seed)
    clips: list[int] = []
    frames = 0
    for position in torch.randperm(len(train), generator=generator).tolist():
        clips.append(train[position])
        frames += setup.cache.clips[clips[-1]].length
        if frames >= _wanted_frames(setup):
            break
    return sorted(clips)


def _repeated(setup: Setup, sample: list[int]) -> list[int]:
    """As often as it takes to have enough; once, where every round would be the same."""
    frames = sum(setup.cache.clips[clip].length for clip in sample)
    rounds = min(-(-_wanted_frames(setup) // frames), MOST_ROUNDS)
    return sample * (rounds if setup.config.data.augment.random_phase else 1)


def _wanted_frames(setup: Setup) -> int:
    """FIT_CHUNKS chunks, and eight vectors a code."""
    return max(FIT_CHUNKS, 8 * setup.config.model.rvq.codebook_size) * setup.config.data.chunk_len


def _mean_frames(setup: Setup) -> float:
    train = setup.cache.split("train")
    return sum(setup.cache.clips[i].length for i in train) / len(train)
