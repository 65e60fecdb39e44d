"""What encoder and decoder share: blocks that map tokens [B, T, D] to [B, T, D], B being parts times windows.

`transformer` has a token a frame and attends over them; `mlp` has one token for the whole chunk. What a module names in
`small` begins small, and what it names in `no_decay` does not decay.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signstream.config.rvq import HEAD_WIDTH


class TransformerBlock(nn.Module):
    """Attention over a window's tokens, then a perceptron a token; normalised before, added after."""

    small = ("out", "down")

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(width // HEAD_WIDTH, 1)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x))  # [B, T, 3 * D]
        heads = qkv.view(batch, tokens, 3, self.heads, width // self.heads)  # [B, T, 3, H, D / H]
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # 3 x [B, H, T, D / H]
        seen = F.scaled_dot_product_attention(q, k, v)  # [B, H, T, D / H]
        x = x + self.out(seen.transpose(1, 2).reshape(batch, tokens, width))  # [B, T, D]
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class MlpBlock(nn.Module):
    small = ("down",)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


BLOCKS = {"transformer": TransformerBlock, "mlp": MlpBlock}


def tokens_of(arch: str, frames: int) -> int:
    """How many tokens a chunk of L frames is to an architecture."""
    return frames if arch == "transformer" else 1


class Trunk(nn.Module):
    def __init__(self, arch: str, layers: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(BLOCKS[arch](width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class TypeEmbedding(nn.Module):
    """A vector for each part, added to its tokens; narrow, then widened, so that parts resemble each other where they
    can."""

    no_decay = ("narrow",)
    embeddings = ("narrow",)

    def __init__(self, parts: int, narrow: int, width: int) -> None:
        super().__init__()
        self.narrow = nn.Parameter(torch.zeros(parts, narrow))
        self.widen = nn.Linear(narrow, width, bias=False)

    def forward(self) -> Tensor:
        return self.widen(self.narrow)[:, None, None]  # [P, 1, 1, D]
