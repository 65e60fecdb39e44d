"""What a checkpoint of the contrast says, or a line that says why it says nothing.

    restore(config, state) -> Kept

A checkpoint may be anybody's. Its config is believed as far as its weights bear it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

from signstream.config.translation import ContrastConfig
from signstream.errors import UserError
from signstream.models.contrast import Heads
from signstream.models.sign_encoder import KeptEncoder, Reads, sign_encoder
from signstream.training.bounds import bounded, take_weights, weights_of

TEXT_HEAD = "heads.text.weight"  # [E, W]: it alone says how wide the text model was


class Kept(NamedTuple):
    """What the task keeps beside its weights."""

    reads: Reads
    text: Mapping[str, Any]  # TextModel.plain()
    digest: str  # of its weights


def restore(config: ContrastConfig, state: Mapping[str, Any]) -> Kept:
    """The text model's weights are not among what is kept, and are none of its business."""
    weights, kept = weights_of(state), kept_of(state)
    model, head = config.model, weights.get(TEXT_HEAD)
    if head is None or head.ndim != 2:
        raise UserError(f"the checkpoint is not of its config: it has no matrix {TEXT_HEAD}")
    with bounded(weights, config.data.num_joints):
        encoder = sign_encoder(model.encoder, kept.reads, config.train.seed)
        heads = Heads(model.encoder.width, head.shape[1], embedding=model.embedding, temperature=model.temperature)
        take_weights(nn.ModuleDict({"encoder": encoder, "heads": heads}), weights)
    return kept


def kept_of(state: Mapping[str, Any]) -> Kept:
    reads, task = KeptEncoder.from_state(state).reads, state["task"]
    text, digest = task.get("text"), task.get("text_digest")
    if not isinstance(text, dict) or not isinstance(digest, str):
        raise UserError("the checkpoint is odd: it does not say which text model it was trained with")
    return Kept(reads, text, digest)
