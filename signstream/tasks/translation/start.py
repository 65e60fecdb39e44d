"""The encoder of a phase 1 run, as what phase 2 begins with."""

from __future__ import annotations

from pathlib import Path

from signstream.errors import UserError
from signstream.models.sign_encoder import Reads, SignEncoder
from signstream.training import checkpoint
from signstream.training.bounds import take_weights, weights_of
from signstream.training.run_folder import best_of

ENCODER = "encoder."


def take_encoder(encoder: SignEncoder, reads: Reads, start: Path) -> None:
    """From a run's folder, its best.pt or its vlp_best_encoder.pt."""
    path = best_of(start)
    state = checkpoint.load(path)
    try:
        weights = weights_of(state)
        found = {name.removeprefix(ENCODER): value for name, value in weights.items() if name.startswith(ENCODER)}
        if not found:
            raise UserError("it has no encoder of signing")
        task = state.get("task")
        theirs = Reads.from_state(task.get("reads") if isinstance(task, dict) else None)
        if theirs.state() != reads.state():
            raise UserError("its encoder reads something else (data.source, data.points, data.visual, data.tokens)")
        take_weights(encoder, found, "encoder")
    except UserError as error:
        raise UserError(f"model.init_from {path}: {error}") from None
