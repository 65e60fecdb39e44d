"""What clips hear in place of their own chunks, for as long: text that is as good then was not read off the signs.

shuffled(data, texts)(number)    [N, P, Q]: another clip's chunks, cut or repeated; texts: what clips say, by name
silent(data)(number)             nothing is sent
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from signstream.data.tokens import TokenData
from signstream.errors import UserError
from signstream.tasks.prefix_lm.validation import strangers

Hears = Callable[[int], Tensor]  # number of a clip -> codes [N, P, Q]


def shuffled(data: TokenData, texts: Mapping[str, str]) -> Hears:
    """The other clip says something else, as far as is known, and is about half the file away."""
    others = strangers(range(len(data)), [texts.get(name) or name for name in data.names])
    if not others:
        raise UserError(f"{data.path}: no clip has another, with another sentence, to hear: leave out --controls")

    nothing = silent(data)

    def hears(number: int) -> Tensor:
        codes = data.codes(others[number])
        return codes[torch.arange(data.chunks(number)) % len(codes)] if len(codes) else nothing(number)

    return hears


def silent(data: TokenData) -> Hears:
    return lambda number: torch.full_like(data.codes(number), -1)


def beside(out: Path, control: str) -> Path:
    """live.jsonl -> live.shuffled.jsonl"""
    return out.with_name(f"{out.stem}.{control}{out.suffix}")
