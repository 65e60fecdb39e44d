"""What of a language model is learnt: all of it, nothing, or low-rank adapters beside weights that stay.

    digest = tuned(network, config.model, seed=0)      whose weights stay (published.digest_of); "": none do

Adapters are peft's, beside the projections of attention and of the perceptrons, and begin as nothing: at first the
network says what it said without them.
"""

from __future__ import annotations

from typing import Any

import torch

from signstream.config.prefix_lm import Lora, PrefixModel
from signstream.errors import UserError
from signstream.published import digest_of

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # of every kind we open


def tuned(network: Any, config: PrefixModel, *, seed: int) -> str:
    if config.tune == "all":
        return ""
    digest = digest_of(dict(network.named_parameters()))
    network.requires_grad_(False)
    if config.tune == "lora":
        add_adapters(network, config.lora, seed)
    return digest


def add_adapters(network: Any, lora: Lora, seed: int) -> None:
    try:
        import peft
    except ImportError:
        raise UserError("model.tune lora needs the package peft (pip install peft)") from None
    settings = peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(PROJECTIONS), bias="none"
    )
    with torch.random.fork_rng(devices=[]):  # peft draws from torch's own generator
        torch.default_generator.manual_seed(seed)
        peft.inject_adapter_in_model(settings, network.model)
