"""The program's own architectures, by the names of `model.arch`. The registry finds them, as it finds a user's.

    sequence(shapes, graphs, frames, window, model) -> Halves(encoder, decoder)

So every architecture is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from signstream.config import Model
from signstream.models.rvq.decoder import Decoder
from signstream.models.rvq.encoder import Encoder
from signstream.models.rvq.sizes import PartShape, Sizes
from signstream.models.stgcn import GraphDecoder, GraphEncoder


class Request(NamedTuple):
    """What an architecture is called with, in this order."""

    shapes: Sequence[PartShape]  # P
    graphs: Sequence[Tensor]  # P x [S, J, J] as models/stgcn.py has them
    frames: int  # L of a chunk
    window: int  # W chunks that are seen together
    model: Model

    @property
    def sizes(self) -> Sizes:
        return Sizes(
            self.shapes,
            self.frames,
            self.window,
            layers=self.model.encoder_layer,
            width=self.model.encoder_latent_dim,
            latent=self.model.latent_dim,
            type_width=self.model.type_embed_dim,
        )


class Halves(NamedTuple):
    encoder: nn.Module
    decoder: nn.Module


def sequence(*request: Any) -> Halves:
    """`transformer` and `mlp`: a chunk is a sequence of tokens, or one of them."""
    asked = Request(*request)
    model = asked.model
    return Halves(Encoder(asked.sizes, model.arch, model.pool), Decoder(asked.sizes, model.arch, model.pool))


def graph(*request: Any) -> Halves:
    """`stgcn`: joints along their bones."""
    asked = Request(*request)
    given = asked.sizes, asked.graphs, asked.model.checkpointing
    return Halves(GraphEncoder(*given), GraphDecoder(*given))
