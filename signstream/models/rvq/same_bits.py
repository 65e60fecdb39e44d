"""The same bits in any company: what a chunk becomes does not depend on the chunks beside it, so a stream is bit for
bit what a file is.

A matrix library takes other ways for products of other sizes, and they round differently. On one thread a row of a
product gets the same bits from ROWS rows on, whatever the others hold. So where a model is evaluated no product has
fewer rows, and it is enough to know, of a layer, how many rows a chunk gives it:

    RowLinear       a layer with one row a chunk adds empty rows to a product that has too few, and takes them off again
    whole_windows   other layers have at least `tokens` rows a chunk: as many windows as make ROWS rows, all full
    at_least_rows   for a product that is no layer, as the quantiser's

In training, where nothing needs it, nothing is added. `blocks` cuts a large batch into pieces that stay in a CPU's
cache, none of them small.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signstream.space import recorded

ROWS = 16  # from so many on a matrix product gives a row the same bits on every CPU tried (4 to 16, by the CPU)
BLOCK = 640  # tokens that a CPU takes at a time, about: what lies between the layers then stays in its cache
GPU_WINDOWS = 4096  # that a GPU takes at a time: attention over many more sequences is refused by its libraries


class RowLinear(nn.Linear):
    """A linear layer over rows of which each chunk has one."""

    def forward(self, x: Tensor) -> Tensor:
        """[.., N, F] -> [.., N, F']"""
        if self.training or recorded() or x.shape[-2] >= ROWS:
            return super().forward(x)
        padded = F.pad(x, (0, 0, 0, ROWS - x.shape[-2]))  # [.., ROWS, F]
        return super().forward(padded)[..., : x.shape[-2], :]


def at_least_rows(x: Tensor, axis: int, *, rows: int = ROWS, fill: int = 0) -> Tensor:
    """x with rows of `fill` after its own, until there are `rows` along the axis."""
    size = list(x.shape)
    size[axis] = rows - size[axis]
    return torch.cat((x, x.new_full(size, fill)), axis) if size[axis] > 0 else x


def whole_windows(chunks: Tensor, window: int, tokens: int, *, fill: int = 0) -> Tensor:
    """chunks [N, ...] -> [N', ...]: whole windows of `window` chunks, and of them as many as make ROWS tokens."""
    filled = -(-len(chunks) // window)
    needed = -(-ROWS // (window * tokens))
    return at_least_rows(chunks, 0, rows=max(filled, needed) * window, fill=fill)


def blocks(x: Tensor, axis: int, *, window: int, tokens: int) -> list[slice]:
    """Pieces of the chunks along an axis: whole windows, on a CPU about BLOCK tokens each; all at once where the graph
    is recorded."""
    if recorded():
        return [slice(None)]
    windows = x.shape[axis] // window
    count = -(-windows // GPU_WINDOWS) if x.is_cuda else windows * window * tokens // BLOCK
    count = max(count, 1)
    ends = [i * windows // count * window for i in range(count + 1)]
    return [slice(first, end) for first, end in zip(ends, ends[1:])]


@contextmanager
def one_thread() -> Iterator[None]:
    """With more, how a product is shared out depends on its size, and with that its last bits. The process's number of
    threads is set back after."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
