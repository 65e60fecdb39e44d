"""A prefix language model out of a checkpoint: its network and what it was trained with, or a line that says why there
is none.

    restore(config, state) -> Restored: model (weights loaded, on the CPU), kept (vocabulary, tokenizer, origin)

A checkpoint may be anybody's. Its config is believed as far as its weights bear it out; what of the language model was
not learnt is drawn or opened as the checkpoint says, and must then have the digest that it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from signstream.config.prefix_lm import PrefixConfig
from signstream.errors import UserError, shown
from signstream.models.live_lm import LiveLM
from signstream.models.live_prompts import window_of
from signstream.models.prefix_lm import PrefixLM
from signstream.models.prefix_sources import LanguageModel, Units, opened_lm
from signstream.tokens.vocabulary import Vocabulary
from signstream.training.bounds import bounded, take_weights, weights_of


class Kept(NamedTuple):
    """What the task keeps beside its weights."""

    vocabulary: Vocabulary  # its offset is the language model's to say
    tokenizer: str  # the digest of whose codes these are
    lm: dict[str, Any]  # plain values that the language model is made of
    form: str = "offline"
    frozen: str = ""  # the digest of what is not learnt; "": all is

    def state(self) -> dict[str, Any]:
        signs = self.vocabulary
        made = {"parts": list(signs.parts), "levels": list(signs.levels), "codebook_size": signs.codebook_size}
        of = {"tokenizer": self.tokenizer, "lm": self.lm, "form": self.form, "frozen": self.frozen}
        return {**made, **of}

    @classmethod
    def of(cls, state: Any) -> Kept:
        if not isinstance(state, dict):
            raise UserError("the checkpoint is of another program: it has nothing of a task")
        parts, levels, size = (state.get(key) for key in ("parts", "levels", "codebook_size"))
        if not isinstance(parts, list) or not all(type(tag) is str for tag in parts) or not isinstance(levels, list):
            raise UserError("the checkpoint is odd: it does not say of which parts and levels its codes are")
        tokenizer, lm, frozen = state.get("tokenizer"), state.get("lm"), state.get("frozen", "")
        if not isinstance(tokenizer, str) or not isinstance(lm, dict) or type(size) is not int:
            raise UserError("the checkpoint is odd: it does not say whose codes it reads, or with which language model")
        form = state.get("form", "offline")  # runs of before there was another do not say
        if form not in ("offline", "live"):
            raise UserError(f"the checkpoint is of the form {shown(form)}: this version knows offline and live")
        if not isinstance(frozen, str):
            raise UserError("the checkpoint is odd: it does not say what of its language model was not learnt")
        return cls(Vocabulary(tuple(parts), tuple(levels), size), tokenizer, lm, form, frozen)

    def check_frozen(self, ours: str) -> None:
        if self.frozen != ours:
            name = shown(self.lm.get("name", "the tiny language model"))
            raise UserError(
                f"the weights of {name} that stay are not those of the training: {ours[:12] or 'none'} here, "
                f"{shown(self.frozen, 12)} there; take the language model that the run was trained with"
            )


class Restored(NamedTuple):
    model: PrefixLM
    vocabulary: Vocabulary
    units: Units
    kept: Kept


def restore(config: PrefixConfig, state: Mapping[str, Any]) -> Restored:
    weights, kept = weights_of(state), Kept.of(state.get("task"))
    lm, signs = opened_lm(kept.lm), kept.vocabulary
    vocabulary = Vocabulary(signs.parts, signs.levels, signs.codebook_size, lm.network.config.vocab_size)
    if kept.form != config.model.form:
        raise UserError(f"the checkpoint is of the form {kept.form}, and its config's model.form {config.model.form}")
    with bounded(weights, config.data.num_joints, len(vocabulary)):
        model = network_of(config, lm, vocabulary, dim=_dim(config, weights))
    kept.check_frozen(model.frozen)
    take_weights(model, weights)
    return Restored(model, vocabulary, lm.units, kept)


def network_of(config: PrefixConfig, lm: LanguageModel, vocabulary: Vocabulary, *, dim: int) -> PrefixLM:
    if config.model.form == "offline":
        return PrefixLM(lm, vocabulary, seed=config.train.seed, how=config.model, dim=dim)
    window = window_of(config.live, vocabulary)
    return LiveLM(lm, vocabulary, window=window, seed=config.train.seed, how=config.model, dim=dim)


def _dim(config: PrefixConfig, weights: Mapping[str, Tensor]) -> int:
    """Of the vectors that a map reads."""
    if config.model.signs != "mapped":
        return 0
    axes = weights.get("signs.axes")
    if axes is None or axes.ndim != 2:
        raise UserError("the checkpoint is not of its config: it has no vectors of codes that model.signs would map")
    return axes.shape[1]
