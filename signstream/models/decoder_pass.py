"""A causal decoder of transformers' over a few new tokens, by its own layers: what transformers does around them takes
longer than the layers of a small model, and for one token at a time that is most of the time.

    B rows   S new tokens   K tokens that are kept, the new ones among them   H heads   E width of a head   D width

    plain(decoder)                                                         whether it is built as here
    passed(decoder, x [B, S, D], mask=.., positions=.., kept=..)           [B, S, D], before the model's head

`kept.update(keys, values, layer)` takes what is new of a layer, [B, H, S, E], and gives all of it, as transformers'
caches do.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = ("qwen2", "qwen3", "llama")


def plain(decoder: Any) -> bool:
    config = decoder.config
    known = getattr(config, "model_type", None) in KINDS and hasattr(decoder, "rotary_emb")
    return known and not getattr(config, "use_sliding_window", False)


def passed(decoder: Any, x: Tensor, *, mask: Tensor, positions: Tensor, kept: Any) -> Tensor:
    """mask [S, K] bool, positions [S]; a single token sees all that is kept."""
    cos, sin = (turn[:, None] for turn in decoder.rotary_emb(x, positions[None]))  # [1, 1, S, E]
    seen = mask if len(mask) > 1 else None
    for number, layer in enumerate(decoder.layers):
        attention, heard = layer.self_attn, layer.input_layernorm(x)
        q, k, v = (_heads(attention, name, heard) for name in "qkv")  # [B, H, S, E]
        keys, values = kept.update(_turned(k, cos, sin), v, number)  # [B, H, K, E]
        shared = q.shape[1] // keys.shape[1]  # heads that read the same keys
        if shared > 1:
            keys, values = (each.repeat_interleave(shared, 1) for each in (keys, values))
        said = F.scaled_dot_product_attention(_turned(q, cos, sin), keys, values, attn_mask=seen)
        x = x + attention.o_proj(said.transpose(1, 2).flatten(2))
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    return decoder.norm(x)


def _heads(attention: Any, name: str, x: Tensor) -> Tensor:
    made = getattr(attention, f"{name}_proj")(x).unflatten(-1, (-1, attention.head_dim))
    norm = getattr(attention, f"{name}_norm", None)
    return (made if norm is None else norm(made)).transpose(1, 2)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin
