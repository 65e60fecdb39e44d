"""A translator out of a checkpoint: its network and what it was trained with, or a line that says why there is none.

    restore(config, state) -> Restored: model (weights loaded, on the CPU), kept (reads, glosses)

A checkpoint may be anybody's. Its config is believed as far as its weights bear it out; the text model's frozen parts
are drawn or opened as the checkpoint says, and must then have the digest that it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from signstream.config.translation import TranslationConfig
from signstream.data.text import Glosses
from signstream.errors import UserError
from signstream.models.sign_encoder import Reads, sign_encoder
from signstream.models.text_sources import opened_model
from signstream.models.translation import SignTranslator
from signstream.training.bounds import bounded, take_weights, weights_of


class Kept(NamedTuple):
    """What the task keeps beside its weights."""

    reads: Reads
    text: dict[str, Any]  # plain values that the text model is made of
    frozen: str  # the digest of what is frozen
    glosses: Glosses | None


class Restored(NamedTuple):
    model: SignTranslator
    kept: Kept


def restore(config: TranslationConfig, state: Mapping[str, Any]) -> Restored:
    weights, kept = weights_of(state), kept_of(state.get("task"), config)
    text = opened_model(kept.text)
    text.freeze(config.model.frozen)
    text.check_digest(kept.frozen)
    with bounded(weights, config.data.num_joints, config.data.points):
        encoder = sign_encoder(config.model.encoder, kept.reads, config.train.seed)
        model = SignTranslator(encoder, text, glosses=len(kept.glosses) if kept.glosses is not None else 0)
    take_weights(model, weights)
    return Restored(model, kept)


def kept_of(state: Any, config: TranslationConfig) -> Kept:
    if not isinstance(state, dict):
        raise UserError("the checkpoint is of another program: it has nothing of a task")
    reads, text, frozen = Reads.from_state(state.get("reads")), state.get("text"), state.get("frozen")
    if reads.source != config.data.source or (reads.visual is None) != (config.data.visual is None):
        raise UserError("the checkpoint is not of its config: it reads something else")
    if not isinstance(text, dict) or not isinstance(frozen, str):
        raise UserError("the checkpoint is odd: it does not say which text model it was trained with")
    glosses = Glosses.from_state(state.get("glosses")) if config.loss.ctc else None
    return Kept(reads, text, frozen, glosses)
