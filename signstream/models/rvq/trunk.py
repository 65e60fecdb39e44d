"""What encoder and decoder share: blocks that map tokens [B, T, D] to [B, T, D], B being parts times chunks.

`transformer` has a token a frame and attends over them; `mlp` has one token for the whole chunk.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

HEAD_WIDTH = 32


def product(layer: nn.Linear, x: Tensor, least: int = 0) -> Tensor:
    """layer(x), x [.., R, F]; with empty rows added for the product, if need be, that make `least`."""
    short = least - x.shape[-2] if least else 0
    return layer(F.pad(x, (0, 0, 0, short)))[..., : x.shape[-2], :] if short > 0 else layer(x)


class TransformerBlock(nn.Module):
    """Attention over a chunk's tokens, then a perceptron a token; normalised before, added after."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(width // HEAD_WIDTH, 1)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = (
            self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        )  # 3 x [B, H, T, D/H]
        seen = F.scaled_dot_product_attention(q, k, v)  # [B, H, T, D/H]
        x = x + self.out(seen.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class MlpBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

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
