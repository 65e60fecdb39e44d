"""A recogniser out of a checkpoint: its model and its glosses, or a line that says why there is none.

    restore(config, state) -> Restored: model (weights loaded, on the CPU), kept (glosses, chosen, tokenizer, ...)

A checkpoint may be anybody's. Its config is believed as far as its weights bear it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from signstream.config.recognition import RecognitionConfig
from signstream.data.text import Glosses
from signstream.errors import UserError
from signstream.models.recognition import Recognizer
from signstream.tasks.recognition.build import SHAPES, front_of, model_of
from signstream.tasks.recognition.validation import AVERAGE, LIVE
from signstream.training.bounds import bounded, take_weights, weights_of

LARGEST = 1 << 24  # of a number in a shape
MOST_STEPS = 1 << 63


class Kept(NamedTuple):
    """What the task keeps beside its weights."""

    glosses: Glosses
    shape: tuple[int, ...]
    parts: tuple[str, ...]  # of latents or codes
    tokenizer: str  # the digest of whose these are
    chosen: str  # LIVE or AVERAGE: the weights that were better at the last validation
    average: Mapping[str, Any] | None


class Restored(NamedTuple):
    model: Recognizer  # with the weights that were chosen
    kept: Kept


def restore(config: RecognitionConfig, state: Mapping[str, Any]) -> Restored:
    weights, kept = weights_of(state), kept_of(state.get("task"), config.data.source)
    config = replace(config, train=replace(config.train, kernel="torch"))  # whatever it was trained with
    with bounded(weights, config.data.num_joints, len(kept.glosses)):
        model = model_of(config, front_of(config, kept.shape), len(kept.glosses))
    take_weights(model, weights)
    if kept.average is not None:
        averaged = weights_of({"model": kept.average.get("values")})
        own = {name: value.clone() for name, value in model.state_dict().items()}
        take_weights(model, averaged, "average")
        if kept.chosen != AVERAGE:
            model.load_state_dict(own)
    return Restored(model, kept)


def kept_of(state: Any, source: str) -> Kept:
    if not isinstance(state, dict):
        raise UserError("the checkpoint is of another program: it has nothing of a task")
    glosses = Glosses.from_state(state.get("glosses"))
    shape = _shape_of(state.get("shape"), source)
    average, chosen, tokenizer = state.get("average"), state.get("chosen"), state.get("tokenizer")
    if average is not None and not _is_average(average):
        raise UserError("the checkpoint is odd: its average is no table of steps and values")
    if chosen not in (LIVE, AVERAGE) or (chosen == AVERAGE and average is None) or not isinstance(tokenizer, str):
        raise UserError("the checkpoint is odd: it does not say which of its weights were chosen")
    parts = state.get("parts")
    if not isinstance(parts, list) or not all(type(tag) is str for tag in parts):
        raise UserError(f"the checkpoint is odd: it does not say of which parts its {source} are")
    return Kept(glosses, shape, tuple(parts), tokenizer, chosen, average)


def _is_average(value: Any) -> bool:
    return isinstance(value, dict) and type(value.get("steps")) is int and 0 <= value["steps"] < MOST_STEPS


def _shape_of(value: Any, source: str) -> tuple[int, ...]:
    letters, sizes = SHAPES[source], value if isinstance(value, list) else [None]
    if len(sizes) != len(letters) or not all(type(size) is int and 0 < size <= LARGEST for size in sizes):
        raise UserError(f"the checkpoint is odd: it has no shape [{', '.join(letters)}] of its {source}")
    return tuple(sizes)
