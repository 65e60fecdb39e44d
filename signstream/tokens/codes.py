"""What codes [N, P, Q] are (int64; N chunks, P parts, Q levels): a part's codes, then -1 for each level not sent.

check_codes(codes, parts, levels=.., codebook_size=..)   raises where they are none
held_chunks(codes)              [N, P] where a part repeats the codes of the chunk before
where_visible(codes, visible)   -1 wherever visible [N, P] is false
prefixes_of(codes)              [N, P, Q, Q] the first 1 .. Q codes, -1 beyond
chosen_prefix(prefixes, sent)   the codes [N, P, Q] of the sent [N, P] levels; -1 where none is
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from signstream.errors import UserError


def check_codes(
    codes: Tensor,
    parts: Sequence[str],
    *,
    levels: Sequence[int] | None = None,
    codebook_size: int | None = None,
) -> None:
    """Raises where codes [N, P, Q] are no codes: in each chunk and part some codes, then only -1."""
    depth = max(levels or codes.shape[2:], default=None)
    if codes.dtype != torch.int64 or codes.dim() != 3 or codes.shape[1:] != (len(parts), depth):
        expected = f"int64 [N, {len(parts)}, {max(levels) if levels else 'Q'}]"
        raise UserError(f"codes are {codes.dtype} {list(codes.shape)}: {expected} is expected")
    sent = codes >= 0
    faults = {
        "a level that was not sent (-1) stands before a code": sent[..., 1:] & ~sent[..., :-1],
        "a code is below -1": codes < -1,
    }
    if codebook_size is not None:
        faults[f"a code is outside 0..{codebook_size - 1}"] = codes >= codebook_size
    if levels is not None:
        beyond = torch.arange(codes.shape[2]) >= torch.tensor(levels)[:, None]
        faults["more codes than the part has levels"] = sent & beyond.to(codes.device)
    for fault, where in faults.items():
        if where.any():
            t, part = where.any(-1).nonzero()[0].tolist()
            raise UserError(f"chunk {t}, {parts[part]}: {fault}")


def held_chunks(codes: Tensor) -> Tensor:
    """[N, P] bool: whether a part has, in this chunk, the codes that it had in the chunk before; never where nothing
    was sent."""
    held = codes[..., 0] >= 0
    held[:1] = False
    held[1:] &= (codes[1:] == codes[:-1]).all(-1)
    return held


def where_visible(codes: Tensor, visible: Tensor) -> Tensor:
    """The codes of chunks that show anything of the part, visible [N, P] bool; -1 elsewhere."""
    return torch.where(visible[..., None], codes, -1)


def prefixes_of(codes: Tensor) -> Tensor:
    """In row n - 1 the first n codes, -1 beyond."""
    level = torch.arange(codes.shape[-1], device=codes.device)
    return torch.where(level <= level[:, None], codes[:, :, None], -1)


def chosen_prefix(prefixes: Tensor, sent: Tensor) -> Tensor:
    """Of [N, P, Q, Q] the rows of as many codes as sent [N, P] says; -1 where none is."""
    row = (sent - 1).clamp(min=0)[..., None, None].expand(-1, -1, 1, prefixes.shape[-1])
    return torch.where(sent[..., None] > 0, prefixes.gather(2, row)[:, :, 0], -1)
