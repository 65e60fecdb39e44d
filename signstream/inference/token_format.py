"""How codes are written for people and language models.

    templates(codes [N, P, Q], ["F", "LH", ...]) -> ["<T0><F:c12><F:c7><LH:a37>...", ...], a line a chunk; a code of -1 was not sent
"""
from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

LETTERS = {"F": "c", "LH": "a", "RH": "b", "B": "d", "FB": "e"}  # a part's own letter, so that no id is taken for another part's or a word's


def templates(codes: Tensor, tags: Sequence[str]) -> list[str]:
    lines = []
    for t, chunk in enumerate(codes.tolist()):
        marks = [f"<{tag}:{LETTERS[tag]}{code}>" for tag, part in zip(tags, chunk) for code in part if code >= 0]
        lines.append(f"<T{t}>" + "".join(marks))
    return lines
