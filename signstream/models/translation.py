"""Signing to sentences: the sign encoder, an adapter, and an mBART that reads what comes of them in place of words.

    B clips   S steps of the source   S' of the encoder   U units of a sentence   D, E widths   V tokens   G glosses

    model = SignTranslator(encoder, text, glosses=0, seed=0)
    model(streams, lengths, decoder_inputs(labels), draw=seed) -> Said(logits [B, U, V], glosses [B, S', G] or None)
    model.generate(streams, lengths, beams=5, ...) -> Generated
    model.attention(streams, lengths, decoder_ids) -> [B, U, S']

The text model's frozen weights are in no state dict: whoever keeps one keeps with it whose they were (text.plain(),
text.frozen_digest()), and puts them back by building the same text model first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signstream.errors import UserError, shown
from signstream.models.recognition_fronts import Streams
from signstream.models.sign_encoder import SignEncoder, Signing
from signstream.models.text_model import Generated, Listens, TextModel

MBART = "text.mbart."  # where its weights stand


class WithText(nn.Module):
    """A network that has a text model of which parts may be frozen."""

    def __init__(self, encoder: SignEncoder, text: TextModel) -> None:
        super().__init__()
        self.encoder, self.text = encoder, text

    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """All but what is frozen; tied weights once."""
        state = super().state_dict(destination=destination, prefix=prefix, keep_vars=keep_vars)
        ours = {f"{prefix}{MBART}{name}" for name in self.text.state_dict_to_keep()}
        for name in [name for name in state if name.startswith(prefix + MBART) and name not in ours]:
            del state[name]
        return state

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """From what state_dict gives; on an error nothing has changed. What is frozen stays."""
        assert strict and not assign, "a part of the weights is no model"
        own = self.state_dict()
        if odd := sorted(set(own) ^ set(state), key=str):
            raise UserError(f"not the weights of this model: {shown(odd[0])} is in one and not in the other")
        for name, tensor in own.items():
            given = state[name]
            if not isinstance(given, Tensor) or given.shape != tensor.shape or given.dtype != tensor.dtype:
                raise UserError(f"the weight {name} is not a {tensor.dtype} of shape {list(tensor.shape)}")
        self.text.load_kept({name.removeprefix(MBART): t for name, t in state.items() if name.startswith(MBART)})
        texts = {name: tensor for name, tensor in super().state_dict().items() if name.startswith(MBART)}
        return super().load_state_dict({**state, **texts})


class Said(NamedTuple):
    logits: Tensor  # [B, U, V]
    glosses: Tensor | None  # [B, S', G] float32 log-probabilities


class SignTranslator(WithText):
    def __init__(self, encoder: SignEncoder, text: TextModel, *, glosses: int = 0, seed: int = 0) -> None:
        """`glosses`: how many an auxiliary CTC tells apart, its blank among them; 0: there is none."""
        super().__init__(encoder, text)
        self.adapter = drawn(nn.Linear(encoder.width, text.width), seed + 1)
        self.glosses = drawn(nn.Linear(encoder.width, glosses), seed + 2) if glosses else None

    def forward(self, streams: Streams, lengths: Tensor, decoder_ids: Tensor, *, draw: int | None = None) -> Said:
        """`draw`: seed of what training drops. The text model's dropout draws from torch's own generator."""
        signing = self.encoder(streams, lengths, draw=draw)
        logits = self.text(self.adapter(signing.x), signing.mask, decoder_ids)
        return Said(logits, self._emissions(signing))

    def read(self, streams: Streams, lengths: Tensor) -> Signing:
        """What the text model reads instead of words: [B, S', E]"""
        signing = self.encoder(streams, lengths)
        return Signing(self.adapter(signing.x), signing.lengths)

    @torch.no_grad()
    def generate(
        self, streams: Streams, lengths: Tensor, *, others: Sequence[SignTranslator] = (), **how: Any
    ) -> Generated:
        """`how`: as TextModel.generate takes it. `others`: each reads the clips by itself, and the mean of all logits
        decides; in evaluation mode."""
        signing = self.read(streams, lengths)
        return self.text.generate(
            signing.x, signing.mask, beside=[other.listens(streams, lengths) for other in others], **how
        )

    def listens(self, streams: Streams, lengths: Tensor) -> Listens:
        signing = self.read(streams, lengths)
        return self.text.listens(signing.x, signing.mask)

    def attention(self, streams: Streams, lengths: Tensor, decoder_ids: Tensor) -> Tensor:
        """[B, U, S'], as TextModel.attention has it."""
        signing = self.read(streams, lengths)
        return self.text.attention(signing.x, signing.mask, decoder_ids)

    def _emissions(self, signing: Signing) -> Tensor | None:
        if self.glosses is None:
            return None
        return F.log_softmax(self.glosses(signing.x).float(), -1)


def drawn(layer: nn.Linear, seed: int) -> nn.Linear:
    """Its weights by a seed, rows of a length of about one."""
    bound = layer.in_features**-0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=torch.Generator().manual_seed(seed))
        layer.bias.zero_()
    return layer
