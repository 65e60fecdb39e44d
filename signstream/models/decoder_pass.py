"""A causal decoder of transformers' over a few new tokens, by its own layers: what transformers does around them takes
longer than the layers of a small model, and for one token at a time that is most of the time.

    B rows   S new tokens   K tokens that are kept, the new ones among them   H heads   E width of a head   D width

    plain(decoder)                                                 whether it is built as here
    turns = Turns.of(decoder, 4096)                                what turns keys and queries at each position
    passed(decoder, x [B, S, D], mask=.., turns=.., kept=..)       [B, S, D], before the model's head

`kept.update(keys, values, layer)` takes what is new of a layer, [B, H, S, E], and gives all of it, as transformers'
caches do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = ("qwen2", "qwen3", "llama")
BY_LENGTH = ("dynamic", "longrope")  # rotary positions that depend on how long a text is


class Turns(NamedTuple):
    """Of each position."""

    cos: Tensor  # [S, E]
    sin: Tensor  # [S, E], of the first half of the numbers the other way round

    @classmethod
    def of(cls, decoder: Any, positions: int) -> Turns:
        weight = decoder.norm.weight
        cos, sin = decoder.rotary_emb(weight, torch.arange(positions, device=weight.device)[None])
        half = sin.shape[-1] // 2
        return cls(cos[0], torch.cat((-sin[0, :, :half], sin[0, :, half:]), -1))

    def at(self, positions: Tensor) -> Turns:
        return Turns(self.cos[positions], self.sin[positions])

    def turned(self, x: Tensor) -> Tensor:
        """[B, H, S, E]"""
        return torch.addcmul(x * self.cos, x.roll(x.shape[-1] // 2, -1), self.sin)


def plain(decoder: Any) -> bool:
    config, rotary = decoder.config, getattr(decoder, "rotary_emb", None)
    known = getattr(config, "model_type", None) in KINDS and not getattr(config, "use_sliding_window", False)
    return known and rotary is not None and getattr(rotary, "rope_type", BY_LENGTH[0]) not in BY_LENGTH


def passed(decoder: Any, x: Tensor, *, mask: Tensor, turns: Turns, kept: Any) -> Tensor:
    """mask [S, K] bool; a single token sees all that is kept. turns: of the new tokens."""
    seen = mask if len(mask) > 1 else None
    for number, layer in enumerate(decoder.layers):
        attention, heard = layer.self_attn, layer.input_layernorm(x)
        q, k, v = (_heads(attention, name, heard) for name in "qkv")  # [B, H, S, E]
        keys, values = kept.update(turns.turned(k), v, number)  # [B, H, K, E]
        shared = q.shape[1] // keys.shape[1]  # heads that read the same keys
        if shared > 1:
            keys, values = (each.repeat_interleave(shared, 1) for each in (keys, values))
        said = F.scaled_dot_product_attention(turns.turned(q), keys, values, attn_mask=seen)
        x = x + attention.o_proj(said.transpose(1, 2).flatten(2))
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    return decoder.norm(x)


def _heads(attention: Any, name: str, x: Tensor) -> Tensor:
    made = getattr(attention, f"{name}_proj")(x).unflatten(-1, (-1, attention.head_dim))
    norm = getattr(attention, f"{name}_norm", None)
    return (made if norm is None else norm(made)).transpose(1, 2)
