"""The encoder of a phase 1 run, as what phase 2 begins with."""

from __future__ import annotations

from pathlib import Path

from signstream.errors import UserError
from signstream.models.sign_encoder import KeptEncoder, Reads, SignEncoder
from signstream.training import checkpoint
from signstream.training.bounds import take_weights
from signstream.training.run_folder import best_of


def take_encoder(encoder: SignEncoder, reads: Reads, start: Path) -> None:
    """From a run's folder, its best.pt or its vlp_best_encoder.pt."""
    path = best_of(start)
    state = checkpoint.load(path)
    try:
        kept = KeptEncoder.from_state(state)
        if kept.reads.state() != reads.state():
            raise UserError("its encoder reads something else (data.source, data.points, data.visual, data.tokens)")
        take_weights(encoder, kept.weights, "encoder")
    except UserError as error:
        raise UserError(f"model.init_from {path}: {error}") from None
