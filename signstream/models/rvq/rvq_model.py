"""Encoder, quantiser and decoder as one model.

    views: P tensors [N, L, J, 3], signing-space x and y (anything where missing) and the score that may be seen (0: missing)
    forward(views) -> Output: views [N, L, J, 2] again, latents [P, N, Z], what the quantiser said
    tokenise(views) -> codes [N, P, Q]        detokenise(codes) -> views

N chunks are whole windows of W, which encoder and decoder see together.
`fit` comes before training: the mean pose of each projection, and a PCA as the linear way past the trunk, so that the untrained network
already is as good as that PCA. All weights are initialised in `init_weights`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signstream import registry
from signstream.config import Model
from signstream.models.rvq.decoder import Decoder
from signstream.models.rvq.encoder import Encoder, PartShape
from signstream.models.rvq.fsq import FiniteScalarQuantizer
from signstream.models.rvq.quantizer import Quantized, ResidualQuantizer
from signstream.models.stgcn import GraphDecoder, GraphEncoder

PCA_ROWS = 4096  # chunks that the linear paths are fitted on, about
BLOCK = 640  # tokens that a CPU takes at a time, about: what lies between the layers then stays in its cache
ROWS = 4  # from so many on a matrix product gives a row the same bits whatever stands beside it


@dataclass(frozen=True)
class Output:
    views: list[Tensor]  # P x [N, L, J, 2] signing space
    latents: Tensor  # [P, N, Z] before quantisation
    quantised: Quantized | None  # None where the model ran without its quantiser


def build_halves(
    shapes: Sequence[PartShape], graphs: Sequence[Tensor], frames: int, window: int, config: Model
) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder of the config's architecture; graphs P x [S, J, J] as models/stgcn.py has them."""
    if config.arch not in registry.BUILT_IN["arch"]:
        return registry.find("arch", config.arch)(shapes, graphs, frames, window, config)
    inner = config.encoder_layer, config.encoder_latent_dim, config.latent_dim, config.type_embed_dim
    if config.arch == "stgcn":
        sizes = (shapes, graphs, frames, window, *inner, config.checkpointing)
        return GraphEncoder(*sizes), GraphDecoder(*sizes)
    sizes = (shapes, frames, window, config.arch, *inner, config.pool)
    return Encoder(*sizes), Decoder(*sizes)


def recorded() -> bool:
    """Whether a graph for any number of chunks is being made: traced, exported or compiled."""
    compiling = torch.compiler.is_compiling if hasattr(torch.compiler, "is_compiling") else torch._dynamo.is_compiling
    return torch.jit.is_tracing() or compiling()


class RVQModel(nn.Module):
    def __init__(
        self,
        shapes: Sequence[PartShape],
        levels: Sequence[int],
        frames: int,
        config: Model,
        seed: int = 0,
        window: int = 1,
        graphs: Sequence[Tensor] = (),
    ) -> None:
        super().__init__()
        self.shapes, self.frames, self.window = tuple(shapes), frames, window
        self.encoder, self.decoder = build_halves(shapes, graphs, frames, window, config)
        rvq = config.rvq
        self.quantizer = (
            FiniteScalarQuantizer(levels, rvq.codebook_size, config.latent_dim)
            if rvq.kind == "fsq"
            else ResidualQuantizer(
                levels,
                rvq.codebook_size,
                config.latent_dim,
                rvq.ema_decay,
                rvq.revive_below,
                rotation=rvq.rotation,
                seed=seed,
            )
        )
        joints = {shape.projection: shape.joints for shape in shapes}
        for i in sorted(joints):
            self.register_buffer(f"mean_{i}", torch.zeros(joints[i], 2))
        self.init_weights(seed)

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Every weight of the network, in one place; what leads back onto a residual stream or past it begins small."""
        generator = torch.Generator().manual_seed(seed)
        for name, weight in (
            *self.encoder.named_parameters(prefix="encoder"),
            *self.decoder.named_parameters(prefix="decoder"),
        ):
            last = name.rsplit(".", 2)[-2]
            if weight.ndim < 2:
                nn.init.constant_(weight, 1.0 if last.startswith("norm") and name.endswith("weight") else 0.0)
            elif "narrow" in name or "frame" in name or "query" in name:
                weight.normal_(std=0.02, generator=generator)
            else:
                small = 0.1 if last in ("out", "down", "pool") or ".outputs." in name else 1.0
                weight.normal_(std=small * weight.shape[1] ** -0.5, generator=generator)

    def forward(
        self,
        views: Sequence[Tensor],
        valid: Tensor | None = None,
        sent: Tensor | None = None,
        quantise: bool = True,
        watched: Tensor | None = None,
    ) -> Output:
        """valid [P, N], sent [N, P] and watched [N] as the quantiser takes them; `quantise` False: the network alone."""
        latents = self.encode(views)
        quantised = self.quantizer(latents, valid, sent, watched) if quantise else None
        told = quantised.quantized if quantise else latents
        if self.window > 1 and valid is not None:
            told = (
                told * valid[..., None]
            )  # of a part that is not there nothing is sent, so its neighbours in the window must do without
        return Output(self.decode(told), latents, quantised)

    def encode(self, views: Sequence[Tensor], least: int = 0) -> Tensor:
        """-> [P, N, Z]"""
        blocks = [
            self.encoder([self._centred(view[block], shape) for view, shape in zip(views, self.shapes)], least)
            for block in self._blocks(views[0], 0)
        ]
        return torch.cat(blocks, 1) if len(blocks) > 1 else blocks[0]

    def decode(self, latents: Tensor, least: int = 0) -> list[Tensor]:
        """[P, N, Z] -> P x [N, L, J, 2]"""
        blocks = [self.decoder(latents[:, block], least) for block in self._blocks(latents, 1)]
        views = [torch.cat(parts) for parts in zip(*blocks)] if len(blocks) > 1 else blocks[0]
        return [self._flipped(view + self._mean(shape), shape) for view, shape in zip(views, self.shapes)]

    def _blocks(self, rows: Tensor, axis: int) -> list[slice]:
        """Whole windows, about BLOCK tokens each; all at once on a GPU and where the graph is recorded."""
        if rows.is_cuda or recorded():
            return [slice(None)]
        windows = rows.shape[axis] // self.window
        count = max(windows * self.window * self.encoder.tokens // BLOCK, 1)
        return [
            slice(i * windows // count * self.window, (i + 1) * windows // count * self.window) for i in range(count)
        ]

    @torch.no_grad()
    def read(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """P x [N, L, J, 3] -> latents [P, N, Z] and codes [N, P, Q], bit for bit the same in any company."""
        count = len(views[0])
        latents = self.encode([self._padded(view, 0) for view in views], ROWS)
        return latents[:, :count], self.quantizer.encode(F.pad(latents, (0, 0, 0, max(ROWS - latents.shape[1], 0))))[
            :count
        ]

    def tokenise(self, views: Sequence[Tensor]) -> Tensor:
        return self.read(views)[1]

    @torch.no_grad()
    def detokenise(self, codes: Tensor) -> list[Tensor]:
        """[N, P, Q] -> P x [N, L, J, 2], likewise; the last window may be a part of one."""
        padded = self._padded(codes, -1)
        few = F.pad(padded, (0, 0, 0, 0, 0, max(ROWS - len(padded), 0)), value=-1)
        return [view[: len(codes)] for view in self.decode(self.quantizer.decode_codes(few)[:, : len(padded)], ROWS)]

    def _padded(self, rows: Tensor, value: int) -> Tensor:
        """Whole windows, and of them as many as make ROWS tokens."""
        windows = max(-(-len(rows) // self.window), -(-ROWS // (self.window * self.encoder.tokens)))
        short = windows * self.window - len(rows)
        return torch.cat((rows, rows.new_full((short, *rows.shape[1:]), value))) if short else rows

    @torch.no_grad()
    def decode_prefixes(self, codes: Tensor) -> list[Tensor]:
        """codes [N, P, Q], whole windows -> P x [Q, N, L, J, 2], decoded from the first 1 .. Q codes of each part, all in one pass."""
        depth, count = codes.shape[-1], len(codes)
        level = torch.arange(depth, device=codes.device)
        kept = torch.where(level <= level[:, None, None, None], codes, -1)  # [Q, N, P, Q]
        return [view.unflatten(0, (depth, count)) for view in self.detokenise(kept.flatten(0, 1))]

    def mean_views(self, chunks: int) -> list[Tensor]:
        """The mean pose as N chunks of every part: what knowing nothing would decode to."""
        return [
            self._flipped(self._mean(shape), shape).expand(chunks, self.frames, shape.joints, 2)
            for shape in self.shapes
        ]

    def _mean(self, shape: PartShape) -> Tensor:
        return getattr(self, f"mean_{shape.projection}")

    def _flipped(self, xy: Tensor, shape: PartShape) -> Tensor:
        return xy * xy.new_tensor((-1.0, 1.0)) if shape.flip else xy

    def _centred(self, view: Tensor, shape: PartShape) -> Tensor:
        """[N, L, J, 3] -> the same, x and y from the mean pose and 0 where missing, the score less 1."""
        xy = torch.where(view[..., 2:] > 0, self._flipped(view[..., :2], shape) - self._mean(shape), 0.0)
        return torch.cat((xy, view[..., 2:] - 1), -1)

    @torch.no_grad()
    def fit(self, views: Sequence[Tensor]) -> None:
        """Means and linear paths from training chunks, the same on every rank that is given the same chunks."""
        for projection in sorted({shape.projection for shape in self.shapes}):
            group = [(v, s) for v, s in zip(views, self.shapes) if s.projection == projection]
            xy = torch.cat([self._flipped(v[..., :2], s) for v, s in group])  # [M, L, J, 2]
            seen = torch.cat([v[..., 2:] > 0 for v, _ in group])  # [M, L, J, 1]
            mean = torch.where(seen, xy, 0.0).sum((0, 1)) / seen.sum((0, 1)).clamp(min=1)
            getattr(self, f"mean_{projection}").copy_(mean)
            whole = seen.float().mean((1, 2, 3)) > 0.5
            rows = torch.where(seen, xy - mean, 0.0)[whole].flatten(1)  # [M', L * J * 2]
            self._set_linear(projection, rows[:: max(len(rows) // PCA_ROWS, 1)])

    def _set_linear(self, projection: int, rows: Tensor) -> None:
        into, back = self.encoder.linear[projection], self.decoder.linear[projection]
        for layer in (into, back):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        latent = into.weight.shape[0]
        count = min(latent, *rows.shape)
        if count == 0:
            return
        with torch.random.fork_rng():  # torch draws the first guess from the global generator
            torch.manual_seed(projection)
            axes = torch.svd_lowrank(rows, q=min(2 * count, *rows.shape), niter=4)[2][:, :count]
        axes = (
            axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
        )  # an axis has no sign of its own; a CPU's library picks one
        size = (rows @ axes).square().sum(1).mean().sqrt().clamp(
            min=1e-6
        ) / latent**0.5  # latents of about one, their proportions kept
        into.weight[:count] = axes.T / size
        back.weight[:, :count] = axes * size
