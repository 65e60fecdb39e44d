"""Encoder, quantiser and decoder as one model.

    views: P tensors [N, L, J, 3], x and y in signing space (anything where missing), the score to be seen (0: missing)
    forward(views) -> Output: views [N, L, J, 2] again, latents [P, N, Z], what the quantiser said
    tokenise(views) -> codes [N, P, Q]        detokenise(codes) -> views

N chunks are whole windows of W, which encoder and decoder see together. `fit` comes before training: the mean pose of
each projection, and a PCA as the linear way past the trunk, so that the untrained network already is as good as that
PCA. All weights are initialised in `init_weights`.

With `model.rvq.semantic` the carrier, which is the part that holds all others, is told and not drawn: its latent is
what a chunk means in the light of those before it (look_back.py), from the latents of all parts, which learn nothing of
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signstream import registry
from signstream.config import Model
from signstream.models.rvq.archs import Halves, Request
from signstream.models.rvq.fsq import FiniteScalarQuantizer
from signstream.models.rvq.look_back import LookBack
from signstream.models.rvq.quantizer import Quantized, ResidualQuantizer
from signstream.models.rvq.same_bits import at_least_rows, blocks, whole_windows
from signstream.models.rvq.sizes import PartShape, joints_of
from signstream.space import recorded

PCA_ROWS = 4096  # chunks that the linear paths are fitted on, about


@dataclass(frozen=True)
class Output:
    views: list[Tensor]  # P x [N, L, J, 2] signing space
    latents: Tensor  # [P, N, Z] before quantisation
    quantised: Quantized | None  # None where the model ran without its quantiser
    alone: Tensor | None = None  # [P, N, Z] the latents without a look back


class Reading(NamedTuple):
    """What chunks are to the model."""

    latents: Tensor  # [P, N, Z]
    codes: Tensor  # [N, P, Q]


class Earlier(NamedTuple):
    """What lies before chunks."""

    chunks: Tensor  # [N] of the same clip directly before each one
    alone: Tensor | None = None  # [P, n, Z] of the n chunks before the first one, which are among these
    draw: int | None = None  # in training: the seed of what a look back does not see


def build_halves(
    shapes: Sequence[PartShape], graphs: Sequence[Tensor], config: Model, *, frames: int, window: int
) -> Halves:
    """Encoder and decoder of the config's architecture, the program's own or a user's."""
    encoder, decoder = registry.find("arch", config.arch)(*Request(shapes, graphs, frames, window, config))
    return Halves(encoder, decoder)


def build_quantizer(levels: Sequence[int], config: Model, seed: int) -> ResidualQuantizer | FiniteScalarQuantizer:
    rvq = config.rvq
    if rvq.kind == "fsq":
        return FiniteScalarQuantizer(levels, rvq.codebook_size, config.latent_dim)
    return ResidualQuantizer(
        levels, rvq.codebook_size, config.latent_dim, decay=rvq.ema_decay, revive_below=rvq.revive_below, seed=seed
    )


class RVQModel(nn.Module):
    def __init__(
        self,
        shapes: Sequence[PartShape],
        levels: Sequence[int],
        config: Model,
        *,
        frames: int,
        window: int = 1,
        graphs: Sequence[Tensor] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.shapes = tuple(shapes)
        self.frames = frames
        self.window = window
        self.encoder, self.decoder = build_halves(shapes, graphs, config, frames=frames, window=window)
        self.tokens = getattr(self.encoder, "tokens", 1)  # rows at least that a chunk gives each product in there
        self.quantizer = build_quantizer(levels, config, seed)
        self.carrier = carrier_of(shapes)
        self.latent = config.latent_dim
        self.look_back: LookBack | None = None
        if config.rvq.semantic != "off":
            self.look_back = LookBack(len(self.shapes), config.latent_dim, past=config.rvq.look_back)
        for projection, joints in enumerate(joints_of(shapes)):
            self.register_buffer(f"mean_{projection}", torch.zeros(joints, 2))
        self.init_weights(seed)

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Every weight of the network, in one place. A module says what of it is special: `embeddings` names parameters
        that are vectors to add, `small` layers that lead back onto a residual stream, or past it, and begin at a
        tenth."""
        generator = torch.Generator().manual_seed(seed)
        for half in (self.encoder, self.decoder, *([self.look_back] if self.look_back is not None else ())):
            small = {id(weight) for layer in _named(half, "small") for weight in layer.parameters()}
            embeddings = {id(weight) for weight in _named(half, "embeddings")}
            for name, weight in half.named_parameters():
                if weight.ndim < 2:  # a bias, or what a norm scales by
                    nn.init.constant_(weight, 1.0 if name.rpartition(".")[2] == "weight" else 0.0)
                elif id(weight) in embeddings:
                    weight.normal_(std=0.02, generator=generator)
                else:
                    share = 0.1 if id(weight) in small else 1.0
                    weight.normal_(std=share * weight.shape[1] ** -0.5, generator=generator)

    def forward(
        self,
        views: Sequence[Tensor],
        valid: Tensor | None = None,
        sent: Tensor | None = None,
        *,
        earlier: Earlier | None = None,
        watched: Tensor | None = None,
        draw: int | None = None,
        quantise: bool = True,
    ) -> Output:
        """valid [P, N], sent [N, P], watched [n] and draw as the quantiser takes them; `quantise` False: the network
        alone."""
        alone = self.encode_alone(views)  # [P, N, Z]
        latents = self.in_their_light(alone, earlier)
        quantised = self.quantizer(latents, valid, sent, watched=watched, draw=draw) if quantise else None
        decoder_input = latents if quantised is None else quantised.quantized
        if self.window > 1 and valid is not None:
            # of a part that is not visible nothing is sent, so its neighbours in the window must do without
            decoder_input = decoder_input * valid[..., None]
        if self.look_back is not None:  # what is meant is decoded as well as it can be, and learns nothing of it
            decoder_input = self._told(decoder_input, decoder_input[self.carrier].detach())
        return Output(self.decode(decoder_input), latents, quantised, alone)

    def encode(self, views: Sequence[Tensor], earlier: Earlier | None = None) -> Tensor:
        """P x [N, L, J, 3] -> [P, N, Z]; in evaluation bit for bit the same in any company. Without `earlier` each
        chunk stands alone."""
        return self.in_their_light(self.encode_alone(views), earlier)

    def in_their_light(self, alone: Tensor, earlier: Earlier | None) -> Tensor:
        """Latents [P, N, Z], that of the carrier by what lies before a chunk."""
        if self.look_back is None:
            return alone
        seen, before = alone.detach(), alone.new_zeros(alone.shape[1], dtype=torch.int64)
        draw = None if earlier is None or not self.training else earlier.draw
        if earlier is not None:
            seen = seen if earlier.alone is None else torch.cat((earlier.alone, seen), 1)
            before = F.pad(earlier.chunks, (seen.shape[1] - alone.shape[1], 0))
        meant = self.look_back(seen, before, draw=draw)[seen.shape[1] - alone.shape[1] :]
        return self._told(alone, meant)

    @property
    def told(self) -> int | None:
        """The part whose codes tell what is meant, and draw nothing."""
        return None if self.look_back is None else self.carrier

    def looked_back_on(self, kept: Tensor | None, alone: Tensor | None) -> Tensor | None:
        """[P, n, Z] of what was kept and of the newest latents: as many as later chunks look back on."""
        if self.look_back is None or alone is None or not self.look_back.past:
            return None
        both = alone if kept is None else torch.cat((kept, alone), 1)
        return both[:, -self.look_back.past :]

    def _told(self, latents: Tensor, meant: Tensor) -> Tensor:
        """latents [P, N, Z], with [N, Z] in the carrier's place."""
        return torch.cat((latents[: self.carrier], meant[None], latents[self.carrier + 1 :]))

    def encode_alone(self, views: Sequence[Tensor]) -> Tensor:
        if not (self.training or recorded()):
            padded = [whole_windows(view, self.window, self.tokens) for view in views]
            return self._encoded(padded)[:, : len(views[0])]
        return self._encoded(views)

    def _encoded(self, views: Sequence[Tensor]) -> Tensor:
        latents = []
        for block in blocks(views[0], 0, window=self.window, tokens=self.tokens):
            latents.append(self.encoder([self._centred(v[block], s) for v, s in zip(views, self.shapes)]))
        return torch.cat(latents, 1) if len(latents) > 1 else latents[0]

    def decode(self, latents: Tensor) -> list[Tensor]:
        """[P, N, Z] -> P x [N, L, J, 2], likewise"""
        if not (self.training or recorded()):
            padded = whole_windows(latents.transpose(0, 1), self.window, self.tokens).transpose(0, 1)
            return [view[: latents.shape[1]] for view in self._decoded(padded)]
        return self._decoded(latents)

    def _decoded(self, latents: Tensor) -> list[Tensor]:
        pieces = blocks(latents, 1, window=self.window, tokens=self.tokens)
        decoded = [self.decoder(latents[:, block]) for block in pieces]
        views = [torch.cat(part) for part in zip(*decoded)] if len(decoded) > 1 else decoded[0]
        return [self._flipped(view + self._mean(shape), shape) for view, shape in zip(views, self.shapes)]

    @torch.no_grad()
    def read(self, views: Sequence[Tensor], earlier: Earlier | None = None) -> Reading:
        """P x [N, L, J, 3] -> latents [P, N, Z] and codes [N, P, Q], of a model in evaluation bit for bit the same in
        any company."""
        latents = self.encode(views, earlier)
        return Reading(latents, self.nearest(latents))

    @torch.no_grad()
    def nearest(self, latents: Tensor) -> Tensor:
        """[P, N, Z] -> codes [N, P, Q], likewise."""
        return self.quantizer.encode(at_least_rows(latents, 1))[: latents.shape[1]]

    def tokenise(self, views: Sequence[Tensor]) -> Tensor:
        return self.read(views).codes

    @torch.no_grad()
    def detokenise(self, codes: Tensor) -> list[Tensor]:
        """[N, P, Q] -> P x [N, L, J, 2], likewise; the last window may be a part of one."""
        padded = whole_windows(codes, self.window, self.tokens, fill=-1)
        latents = self.quantizer.decode_codes(at_least_rows(padded, 0, fill=-1))[:, : len(padded)]
        return [view[: len(codes)] for view in self.decode(latents)]

    @torch.no_grad()
    def prefixes(self, latents: Tensor) -> Tensor:
        """[P, N, Z] -> [N, P, Q, Q]: in row n - 1 the best n codes, for who need not take the nearest code of each
        level; likewise."""
        return self.quantizer.prefixes(latents)

    @torch.no_grad()
    def decode_prefixes(self, prefixes: Tensor) -> list[Tensor]:
        """[N, P, Q, Q], of whole windows -> P x [Q, N, L, J, 2], decoded from 1 .. Q codes of each part, all in one
        pass."""
        count, depth = len(prefixes), prefixes.shape[2]
        views = self.detokenise(prefixes.permute(2, 0, 1, 3).flatten(0, 1))
        return [view.unflatten(0, (depth, count)) for view in views]

    def mean_views(self, chunks: int) -> list[Tensor]:
        """The mean pose as N chunks of every part: what knowing nothing would decode to."""
        return [
            self._flipped(self._mean(shape), shape).expand(chunks, self.frames, shape.joints, 2)
            for shape in self.shapes
        ]

    def _mean(self, shape: PartShape) -> Tensor:
        return getattr(self, f"mean_{shape.projection}")

    def _flipped(self, xy: Tensor, shape: PartShape) -> Tensor:
        return torch.stack((-xy[..., 0], xy[..., 1]), -1) if shape.flip else xy

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
        into, back = (_past(half, projection) for half in (self.encoder, self.decoder))
        for layer in (into, back):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        latent = into.weight.shape[0]
        count = min(latent, *rows.shape)
        if count == 0:
            return
        axes = _principal_axes(rows, count, seed=projection)
        scale = (rows @ axes).square().sum(1).mean().sqrt().clamp(min=1e-6)
        size = scale / latent**0.5  # latents of about one, their proportions kept
        into.weight[:count] = axes.T / size
        back.weight[:, :count] = axes * size


def carrier_of(shapes: Sequence[PartShape]) -> int:
    """The part that holds all others: the one of the most joints."""
    return max(range(len(shapes)), key=lambda part: shapes[part].joints)


def _past(half: nn.Module, projection: int) -> nn.Linear:
    """A projection's linear way past the trunk, which every architecture has."""
    layer = half.get_submodule(f"linear.{projection}")
    assert isinstance(layer, nn.Linear), f"linear.{projection} of {type(half).__name__} is a {type(layer).__name__}"
    return layer


def _named(half: nn.Module, kind: str) -> list[Any]:
    """What the modules of an encoder or decoder name in an attribute `kind: tuple[str, ...]`."""
    return [getattr(module, name) for module in half.modules() for name in getattr(module, kind, ())]


def _principal_axes(rows: Tensor, count: int, seed: int) -> Tensor:
    """rows [n, F] -> [F, count]. An axis has no sign of its own and a CPU's library picks one: the largest number is
    positive."""
    with torch.random.fork_rng():  # torch draws the first guess from the global generator
        torch.manual_seed(seed)
        axes = torch.svd_lowrank(rows, q=min(2 * count, *rows.shape), niter=4)[2][:, :count]
    return axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
